//! Three nodes in one process, on simulated disks and loopback: what callers are told, and what is then there.

mod clocks;
mod disturbed;
mod events;
mod full;
pub(crate) mod kit;
mod order;
mod quorum;
mod reads;
mod receipts;
mod retries;
mod seeded;
