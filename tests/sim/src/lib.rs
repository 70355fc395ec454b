//! Whole nodes under simulated time, network and disk, from one seed.
//!
//! Three sites run as in production (gRPC services, sequencer, consensus, chronicle, views in memory) on one thread under
//! `turmoil`; clients of the Rust client write and read while the seed draws faults; then all faults end, and the cluster must converge and still
//! hold everything it acknowledged. The same seed gives the same trace, to the last line.
//!
//! - [`plan`]: what a seed means; [`world`]: the run; [`site`], [`network`], [`clock`]: what a node stands on
//! - [`faults`]: what goes wrong; [`outside`]: where [`clients`] ask and an [`operator`] replaces nodes; [`audit`]: the last
//!   look; [`history`]: what was answered
//! - [`invariants`]: what must hold, one to a file
//! - [`planted`]: bugs that it must catch
//! - [`process`]: seeds, each in a process of its own; [`seeds`]: many of them; [`real`]: the time that this takes

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a simulation that cannot go on has failed")]

pub mod audit;
pub mod clients;
pub mod clock;
pub mod faults;
pub mod history;
pub mod invariants;
pub mod network;
pub mod operator;
pub mod outside;
pub mod plan;
pub mod planted;
pub mod process;
pub mod real;
pub mod seeds;
pub mod site;
pub mod trace;
pub mod world;
