//! What must hold of a cluster, told as what once went wrong or must never.

mod forwarding;
mod harness;
mod identity;
mod membership;
mod recover;
mod refused;
mod repair;
mod replace;
mod scrub;
mod stalls;
mod storage_suite;
mod transfer;
mod traps;
mod what_if;
