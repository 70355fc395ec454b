//! Fire drills: a cluster of real processes, a load on it, something that burns, and a judgement.
//!
//! ```text
//! cluster (processes) ◄── drills/* (what burns, when) ──► mesh, link (what stands between them)
//!    ▲                        │ stage
//! workload ─► history ────────┼──► check ◄── ledger (what every node has recorded)
//! watch (who leads, who is up)┴──► report (table, JSON, one HTML page)
//! ```
//! A drill is a short script over the verbs of [`Stage`]; everything else is the same for all of them. [`run()`] is the way in.

mod check;
mod cluster;
mod compose;
mod drills;
mod error;
pub mod faults;
mod history;
mod ledger;
pub mod link;
mod mesh;
pub mod page;
pub mod ports;
mod report;
mod run;
mod screen;
mod stage;
mod wait;
mod watch;
mod workload;

pub use check::Verdict;
pub use cluster::{Cluster, Node, SITES, Setup};
pub use drills::{DRILLS, Drill, drill};
pub use error::DrillError;
pub use mesh::Mesh;
pub use report::{Phase, Report, Score, Span, Timeline};
pub use run::run;
pub use screen::{Observer, Progress};
pub use stage::{Fault, Note, Options, Stage};
pub use wait::within;
pub use workload::Workload;
