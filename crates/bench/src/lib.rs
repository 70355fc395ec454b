//! Measurements: a cluster, a load on it, meters at its processes, and a report.
//!
//! ```text
//! target (own processes, or endpoints) ◄── write, … (what is measured)
//!    ▲                     │
//! load ─► latency ─────────┼──► report (runs: JSON, one HTML page)
//! meter (/proc, /metrics) ─┘
//! ```
//! Clusters are those of `sillok-drill`: real processes on loopback, gone when they are dropped. Figures are taken between two
//! moments, with the load already under way at the first and still under way at the second.

pub mod audience;
pub mod distance;
mod error;
pub mod failover;
pub mod growth;
mod latency;
pub mod lifecycle;
mod load;
mod meter;
mod nodes;
pub mod overload;
pub mod read;
mod report;
mod stock;
pub mod subscribe;
mod target;
mod work;
pub mod write;

pub use error::BenchError;
pub use load::{How, Via, Window};
pub use meter::scrape;
pub use report::{Cost, Figure, Machine, Pace, Process, Report, Run, number, span};
pub use target::{Own, Target};
pub use work::{Event, Work};

/// Sees how far a measurement is.
pub trait Screen: Send + Sync {
    /// Something that stays: what comes next.
    fn note(&self, text: &str);
    /// What is under way; each replaces the one before.
    fn progress(&self, text: &str);
}
