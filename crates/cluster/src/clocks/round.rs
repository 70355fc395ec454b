//! One comparison of all clocks, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use sillok_domain::UnixNanos;
use tokio::time::Instant;

/// How far a clock is ahead of this node's, and how wrong that may be: half of the round trip. Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) ahead: i64,
    pub(super) error: i64,
}

/// The clocks of all who answered, against this node's wall clock when it began, carried on by the steady clock.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) began: (UnixNanos, Instant),
    pub(super) voters: BTreeSet<u64>,
    /// Of members that answered, and of this node itself.
    pub(super) readings: BTreeMap<u64, Reading>,
    /// Members of an older version, which say nothing of their clock.
    pub(super) silent: BTreeSet<u64>,
}

impl Round {
    pub(super) fn new(wall: UnixNanos, now: Instant) -> Round {
        Round { began: (wall, now), voters: BTreeSet::new(), readings: BTreeMap::new(), silent: BTreeSet::new() }
    }

    /// A clock was read between these moments.
    pub(super) fn read(&self, clock: UnixNanos, asked: Instant, answered: Instant) -> Reading {
        let (wall, began) = self.began;
        let error = answered.duration_since(asked) / 2;
        let here = super::on(wall, asked.duration_since(began) + error);
        Reading { ahead: clock.saturating_sub(here), error: super::on(0, error) }
    }

    fn most(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    fn voters_but(&self, id: u64) -> impl Iterator<Item = Reading> {
        self.voters.iter().filter(move |voter| **voter != id).filter_map(|voter| self.readings.get(voter)).copied()
    }

    pub(super) fn has_others(&self, id: u64) -> bool {
        self.voters.iter().any(|voter| *voter != id)
    }

    /// Most voters answered, this node among them.
    pub(super) fn is_answered_by_most(&self, id: u64) -> bool {
        let is_there = |voter: &&u64| **voter == id || self.readings.contains_key(voter) || self.silent.contains(voter);
        !self.voters.is_empty() && self.voters.iter().filter(is_there).count() >= self.most()
    }

    /// Other voters whose clocks are within the bound of this one, and those whose clocks certainly are not.
    pub(super) fn opinions(&self, id: u64, bound: i64) -> (usize, usize) {
        let Some(own) = self.readings.get(&id) else { return (0, 0) };
        let differ = |other: &Reading| differs(own, other, bound) != 0;
        let disagree = self.voters_but(id).filter(differ).count();
        (self.voters_but(id).count() - disagree, disagree)
    }

    /// How far this clock is ahead of most voters' clocks, or behind them, where that is certainly more than the bound.
    pub(super) fn off_by(&self, id: u64, bound: i64) -> Option<i64> {
        let own = self.readings.get(&id)?;
        let side = |side: i64| self.voters_but(id).filter(|other| differs(own, other, bound) == side).count();
        let is_off = side(1) >= self.most() || side(-1) >= self.most();
        is_off.then(|| own.ahead.saturating_sub(median(self.voters_but(id))))
    }

    /// How far each clock is ahead of the one in the middle.
    pub(super) fn offsets(&self) -> BTreeMap<u64, i64> {
        let middle = median(self.voters_but(0));
        self.readings.iter().map(|(&id, reading)| (id, reading.ahead.saturating_sub(middle))).collect()
    }
}

/// 1: `own` is certainly more than the bound ahead; -1: behind; 0: neither.
fn differs(own: &Reading, other: &Reading, bound: i64) -> i64 {
    let by = own.ahead.saturating_sub(other.ahead);
    let certain = bound.saturating_add(own.error).saturating_add(other.error);
    if by.saturating_abs() > certain { by.signum() } else { 0 }
}

/// The lower one of two in the middle; 0 of none.
fn median(readings: impl Iterator<Item = Reading>) -> i64 {
    let mut ahead: Vec<i64> = readings.map(|reading| reading.ahead).collect();
    ahead.sort_unstable();
    ahead.get(ahead.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}
