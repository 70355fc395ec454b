//! Whole nodes under simulated time, network and disk, from one seed.
//!
//! Three sites run as in production (sequencer, consensus, chronicle, views in memory, gRPC between them) on one thread under
//! `turmoil`; clients write and read while the seed draws faults; then all faults end, and the cluster must converge and still
//! hold everything it acknowledged. The same seed gives the same trace, to the last line.
//!
//! - [`plan`]: what a seed means; [`world`]: the run; [`site`], [`network`], [`clock`]: what a node stands on
//! - [`faults`]: what goes wrong; [`operator`]: who replaces nodes; [`clients`]: what is asked; [`history`]: what was answered
//! - [`invariants`]: what must hold, one to a file
//! - [`planted`]: bugs that it must catch
//! - [`process`]: seeds, each in a process of its own

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a simulation that cannot go on has failed")]

pub mod clients;
pub mod clock;
pub mod faults;
pub mod history;
pub mod invariants;
pub mod network;
pub mod operator;
pub mod plan;
pub mod planted;
pub mod process;
pub mod site;
pub mod trace;
pub mod world;
