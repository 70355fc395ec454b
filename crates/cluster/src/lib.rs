//! Consensus over the chronicle: sequencer, peers, sites, membership, reads.
//!
//! One event walks `execute → sequencer → (openraft: log_store, network) → commit → receipt`, and every node's views follow
//! by `fold`. This crate alone knows openraft. What is fixed: the chronicle is the Raft log and is never purged; the state
//! machine is no more than the commit pointer; a record whose predecessor is not the head of the chain is skipped by every
//! node alike; nothing here reads the views to start, vote or replicate.
//!
//! - [`Node`]: one running node; [`NodeOptions`]: what it needs
//! - [`recover`]: a lost quorum, offline
//! - [`Failure`]: why it must stop, and the exit code that goes with it

mod acks;
mod bootstrap;
mod chain;
mod clocks;
mod commit;
mod core;
mod failure;
mod handover;
mod log_store;
mod membership;
mod network;
mod node;
mod options;
mod peer_service;
mod placement;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
pub mod planted;
pub mod recover;
mod repair;
mod roster;
mod scrub;
mod status;
mod telemetry;
mod types;

mod events;
mod execute;
mod execution;
mod fold;
mod forward;
mod reads;
mod records;
mod sequencer;

#[cfg(test)]
mod front_tests;
#[cfg(test)]
mod tests;

pub use execute::Submitter;
pub use execution::{DiskPause, Execution};
pub use failure::{Failure, FailureKind};
pub use network::{Connection, Incoming, Transport};
pub use node::{Health, Node, StartError};
pub use options::{Clock, InitialNode, Limits, NodeOptions, ScrubOptions, SystemClock, Timings, ViewsOptions};
