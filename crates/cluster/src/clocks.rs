//! Whether this node's clock may stamp events.
//!
//! One wrong clock must not push the whole history into the future: a coupon would expire for everybody, and because event
//! time never runs backwards it would stand still until the world has caught up. So every node compares its clock with its
//! peers' all the time, and a clock is *off* when it is certainly more than a bound ahead of most voters' clocks, or behind
//! them. By that rule the clock in the middle is never off, so somebody can always lead.
//!
//! ```text
//! steady clock, since the last comparison ─┐
//! wall clock ──────────────────────────────┴─► stamp: within the bound? ─ no ─► nothing is decided, compare at once
//! peers' clocks (half of the round trip is the error) ─► judge ─► off: leadership goes, and no election is stood for
//! ```
//! Between two comparisons the wall clock is held against the steady one: a jump is seen before a single event is stamped
//! with it.

mod compare;
mod round;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sillok_domain::UnixNanos;
use tokio::{sync::Notify, time::Instant};

pub(crate) use compare::keep_comparing;
use round::{Reading, Round};

use crate::options::Clock;

/// Why nothing is stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Doubt {
    #[error("this node's clock has not yet been compared with its peers'")]
    NotCompared,
    #[error("this node's clock has jumped by {} and must be compared with its peers'", seconds(*.0))]
    Jumped(i64),
    #[error("this node's clock is {}: set it right", off(*.0))]
    Off(i64),
}

/// `3.2 s ahead of most of its peers' clocks`.
pub(crate) fn off(by: i64) -> String {
    let direction = if by < 0 { "behind" } else { "ahead of" };
    format!("{} {direction} most of its peers' clocks", seconds(by.saturating_abs()))
}

fn seconds(nanos: i64) -> String {
    format!("{:.1} s", nanos as f64 / 1e9)
}

/// This node's clock, and what is known of the others'.
pub(crate) struct Clocks {
    id: u64,
    wall: Arc<dyn Clock>,
    bound: i64,
    state: Mutex<State>,
    doubted: Notify,
}

#[derive(Default)]
struct State {
    /// The last time the wall clock was found good, and that moment by the steady clock.
    good: Option<(UnixNanos, Instant)>,
    /// How far this clock is ahead of most, where that is too much.
    off: Option<i64>,
    /// The last comparison.
    round: Option<Round>,
}

impl Clocks {
    /// A clock that is more than `bound` from most others stamps nothing.
    pub(crate) fn new(id: u64, wall: Arc<dyn Clock>, bound: Duration) -> Clocks {
        let bound = i64::try_from(bound.as_nanos()).unwrap_or(i64::MAX);
        Clocks { id, wall, bound, state: Mutex::default(), doubted: Notify::new() }
    }

    /// The time, where it may be written into the history. A doubt asks for a comparison.
    pub(crate) fn stamp(&self) -> Result<UnixNanos, Doubt> {
        let stamp = self.look();
        if stamp.is_err() {
            self.doubted.notify_one();
        }
        stamp
    }

    /// Asks for a comparison.
    pub(crate) fn compare_soon(&self) {
        self.doubted.notify_one();
    }

    /// As [`Clocks::stamp`], and asks for nothing.
    fn look(&self) -> Result<UnixNanos, Doubt> {
        let state = self.state.lock();
        if let Some(by) = state.off {
            return Err(Doubt::Off(by));
        }
        let (then, since) = state.good.ok_or(Doubt::NotCompared)?;
        let now = self.wall.now();
        let jump = now.saturating_sub(on(then, since.elapsed()));
        if jump.saturating_abs() > self.bound { Err(Doubt::Jumped(jump)) } else { Ok(now) }
    }

    /// How far this clock is ahead of most, where that is too much; negative: behind.
    pub(crate) fn off(&self) -> Option<i64> {
        self.state.lock().off
    }

    /// The same of another node's clock, as far as this node knows.
    pub(crate) fn is_off(&self, id: u64) -> bool {
        self.state.lock().round.as_ref().is_some_and(|round| round.off_by(id, self.bound).is_some())
    }

    /// How far each node's clock is ahead of the one in the middle, as of the last comparison, in nanoseconds.
    pub(crate) fn offsets(&self) -> BTreeMap<u64, i64> {
        self.state.lock().round.as_ref().map(Round::offsets).unwrap_or_default()
    }

    /// Begins a comparison.
    fn round(&self) -> Round {
        Round::new(self.wall.now(), Instant::now())
    }

    /// Takes a comparison for the truth until the next one.
    fn judge(&self, mut round: Round) {
        let (wall, began) = round.began;
        let jump = self.wall.now().saturating_sub(on(wall, began.elapsed()));
        if jump.saturating_abs() > self.bound {
            // Some answered before the jump and some, whose clocks may have jumped as well, after it.
            self.doubted.notify_one();
            return;
        }
        round.readings.insert(self.id, Reading { ahead: 0, error: 0 });
        let mut state = self.state.lock();
        let jump = state.good.map(|(then, since)| wall.saturating_sub(on(then, began.duration_since(since))));
        let has_jumped = jump.is_some_and(|jump| jump.saturating_abs() > self.bound);
        let (agree, disagree) = round.opinions(self.id, self.bound);
        let off = match round.off_by(self.id, self.bound) {
            Some(by) => Some(by),
            // The jump alone is reason for doubt: fewer than most are enough to confirm it.
            None if has_jumped && disagree > agree => jump,
            None => None,
        };
        let is_good = match (off, state.good) {
            (Some(_), _) => false,
            (None, Some(_)) if has_jumped => agree > 0 || !round.has_others(self.id),
            (None, Some(_)) => true,
            (None, None) => round.is_answered_by_most(self.id),
        };
        if is_good {
            state.good = Some(round.began);
        }
        state.off = off;
        state.round = Some(round);
    }
}

/// A wall clock's time so much later.
fn on(then: UnixNanos, passed: Duration) -> UnixNanos {
    then.saturating_add(i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX))
}
