//! A wall clock that can be wrong.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use sillok_cluster::Clock;

/// 2026-01-01, when every simulation begins.
const EPOCH_NANOS: i64 = 1_767_225_600_000_000_000;

/// Simulated time and an error, which lives longer than the process that reads it.
#[derive(Clone, Default)]
pub struct SimClock {
    error_nanos: Arc<AtomicI64>,
}

impl SimClock {
    /// Is wrong by so much from now on.
    pub fn set_error_millis(&self, millis: i64) {
        self.error_nanos.store(millis * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> i64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_nanos() as i64;
        EPOCH_NANOS + elapsed + self.error_nanos.load(Ordering::Relaxed)
    }
}
