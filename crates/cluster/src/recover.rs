//! A quorum is lost for good: going on from one survivor, offline.
//!
//! ```text
//! survey: each surviving data directory, read-only, every byte checked
//!   ─► plan: which is freshest, what is certain, what may be missing, or why nothing may be recovered
//!   ─► (an operator's confirmation) act: vote, then record and membership in one write, then the epoch
//! ```
//! What this must never do is begin a second history while the first goes on. So survivors that hold a quorum are refused,
//! nodes of the membership that still answer are refused, and every node that was left behind is fenced for ever by the
//! epoch. Why it is so: docs/decisions/011-recovering-a-lost-quorum.md.

mod act;
mod alive;
mod plan;
mod survey;

pub use act::{ActError, Order, Recovered, act};
pub use alive::{Alive, alive};
pub use plan::{LostNode, Missing, Plan, PlanError, plan};
pub use survey::{Mark, SurveyError, Survivor, survey};
