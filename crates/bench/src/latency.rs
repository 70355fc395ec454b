//! How long answers took: a histogram that many tasks write to.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Tasks share these, so that few wait for each other and a thousand lanes do not hold a histogram each.
const SHARDS: usize = 4;
/// 5 minutes, in microseconds.
const LONGEST: u64 = 300_000_000;

/// What is recorded by all tasks of one run. Answers outside of the window are counted and not timed.
pub(crate) struct Recorder {
    shards: Vec<Mutex<Histogram<u64>>>,
    /// The window is open.
    timing: AtomicBool,
    timed: AtomicU64,
    answered: AtomicU64,
}

impl Recorder {
    /// Its window is not open yet.
    pub(crate) fn new() -> Recorder {
        Recorder {
            shards: (0..SHARDS).map(|_| Mutex::new(histogram())).collect(),
            timing: AtomicBool::new(false),
            timed: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// Opens or closes the window.
    pub(crate) fn time(&self, timing: bool) {
        self.timing.store(timing, Ordering::Relaxed);
    }

    /// An answer, now, to what was to begin at `begun`.
    pub(crate) fn answered(&self, shard: usize, begun: Instant) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if self.timing.load(Ordering::Relaxed) {
            self.shards[shard % SHARDS].lock().saturating_record(microseconds(begun.elapsed()));
            self.timed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many answers, now, to what was to begin together at `begun`.
    pub(crate) fn answered_together(&self, shard: usize, begun: Instant, count: u64) {
        self.answered.fetch_add(count, Ordering::Relaxed);
        if self.is_timing() {
            self.shards[shard % SHARDS].lock().saturating_record_n(microseconds(begun.elapsed()), count);
            self.timed.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The window is open.
    pub(crate) fn is_timing(&self) -> bool {
        self.timing.load(Ordering::Relaxed)
    }

    /// Answers so far, in the window or not.
    pub(crate) fn count(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Answers within the window so far.
    pub(crate) fn timed(&self) -> u64 {
        self.timed.load(Ordering::Relaxed)
    }

    /// All shards together.
    pub(crate) fn total(&self) -> Histogram<u64> {
        let mut all = histogram();
        for shard in &self.shards {
            // Bounds are the same.
            let _ = all.add(&*shard.lock());
        }
        all
    }
}

/// 1 µs to 5 minutes, three digits.
#[expect(clippy::expect_used, reason = "fails only for bounds that are none, and these are constant")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds")
}

pub(crate) fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(LONGEST).max(1)
}
