//! How fast the house is emptied, and so how much of it is answered in time.
//!
//! By Little's law what waits takes as long as its bytes divided by the bytes answered a second. While the house is nearly empty
//! that number says how much was asked, not how much could be answered, so it is believed downwards only where things wait.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// The longest that anything admitted should wait: below what a caller calls an outage, above a slow sync or an election.
pub(super) const IN_TIME: Duration = Duration::from_millis(500);
/// The same, beside twice what a record is away, where that is known: enough that the house never runs empty, and no more, for what
/// waits is cold in every cache when its turn comes. Where sites are far apart a round trip's worth must be on its way.
const IN_TIME_NEAR: Duration = Duration::from_millis(150);
/// The pace is taken over at least so long.
const WINDOW: Duration = Duration::from_millis(20);
/// How much a window counts, against all before it.
const WEIGHT: f64 = 0.3;

/// See the module. Costs two atomic operations an answer, and a lock that is never waited for once a window.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// Since the window began.
    done: AtomicUsize,
    /// When the window ends, in microseconds since `begun`.
    ends_us: AtomicU64,
    /// What is in time, in microseconds.
    in_time_us: AtomicU64,
    /// Bytes that are answered within that; [`usize::MAX`] before anything has waited.
    in_time: AtomicUsize,
    /// Since the window began there was a moment at which nothing waited.
    was_empty: AtomicBool,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    bytes_per_second: Option<f64>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        let begun = Instant::now();
        Pace {
            begun,
            done: AtomicUsize::new(0),
            ends_us: AtomicU64::new(0),
            in_time_us: AtomicU64::new(microseconds(IN_TIME)),
            in_time: AtomicUsize::new(usize::MAX),
            was_empty: AtomicBool::new(true),
            window: Mutex::new(Window { since: begun, bytes_per_second: None }),
        }
    }

    /// A record was away for so long, from its proposal until it was committed.
    pub(super) fn away(&self, away: Duration) {
        let in_time = IN_TIME_NEAR.saturating_add(away.saturating_mul(2)).min(IN_TIME);
        self.in_time_us.store(microseconds(in_time), Ordering::Relaxed);
    }

    /// So much is answered in time.
    pub(super) fn bytes_in_time(&self) -> usize {
        self.in_time.load(Ordering::Relaxed)
    }

    /// `bytes` are answered, and `left` still wait.
    pub(super) fn done(&self, bytes: usize, left: usize) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if left == 0 {
            self.was_empty.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        let since_begun = microseconds(now.saturating_duration_since(self.begun));
        if since_begun < self.ends_us.load(Ordering::Relaxed) {
            return;
        }
        // Whoever holds it ends the same window.
        let Some(mut window) = self.window.try_lock() else { return };
        let elapsed = now.saturating_duration_since(window.since).as_secs_f64();
        if elapsed < WINDOW.as_secs_f64() {
            return;
        }
        let seen = self.done.swap(0, Ordering::Relaxed) as f64 / elapsed;
        window.since = now;
        self.ends_us.store(since_begun.saturating_add(microseconds(WINDOW)), Ordering::Relaxed);
        // What is left waits longer than half of what is still in time, and did so all along: this is the pace of a busy house.
        let was_empty = self.was_empty.swap(left == 0, Ordering::Relaxed);
        let in_time = Duration::from_micros(self.in_time_us.load(Ordering::Relaxed)).as_secs_f64();
        let is_busy = !was_empty && left as f64 > seen * in_time / 2.0;
        window.bytes_per_second = match window.bytes_per_second {
            None if is_busy => Some(seen),
            None => None,
            Some(before) if is_busy => Some(before + (seen - before) * WEIGHT),
            Some(before) => Some(before.max(seen)),
        };
        if let Some(pace) = window.bytes_per_second {
            self.in_time.store((pace * in_time) as usize, Ordering::Relaxed);
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    /// `bytes` are answered every 10 ms for `span`, with so much left behind.
    async fn answer(pace: &Pace, span: Duration, bytes: usize, left: usize) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            tokio::time::advance(Duration::from_millis(10)).await;
            pace.done(bytes, left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_is_not_taken_for_what_can_be_answered() {
        let pace = Pace::new();
        answer(&pace, Duration::from_secs(10), KIB, KIB).await;
        assert_eq!(pace.bytes_in_time(), usize::MAX, "nothing has waited");
    }

    /// Where a quorum is near, 55,000 commands waited for half a second each when 15,000 would have kept every thread busy.
    #[tokio::test(start_paused = true)]
    async fn a_near_house_holds_less_than_a_far_one() {
        let pace = Pace::new();
        for (away, expected) in [(0, 600), (10, 680), (100, 1400), (200, 2000), (5000, 2000)] {
            pace.away(Duration::from_millis(away));
            // 4 MiB a second.
            answer(&pace, Duration::from_secs(2), 41 * KIB, 64 << 20).await;
            let bound = pace.bytes_in_time() / KIB;
            assert!((expected * 9 / 10..expected * 12 / 10).contains(&bound), "{away} ms away: {bound} KiB");
        }
    }

    /// The house was bounded at 64 MiB: at 4 MiB a second every call was answered after 16 seconds.
    #[tokio::test(start_paused = true)]
    async fn a_busy_house_is_as_large_as_its_pace_allows() {
        let pace = Pace::new();
        // 4 MiB a second, and ever as much as may be in the house waits.
        answer(&pace, Duration::from_secs(2), 41 * KIB, 64 << 20).await;
        let bound = pace.bytes_in_time();
        assert!((1800 * KIB..2200 * KIB).contains(&bound), "half a second's worth: {bound}");
        // It grows with the pace, also where less waits than may.
        answer(&pace, Duration::from_secs(1), 82 * KIB, bound).await;
        assert!((3600 * KIB..4400 * KIB).contains(&pace.bytes_in_time()), "{}", pace.bytes_in_time());
        // And shrinks with it.
        answer(&pace, Duration::from_secs(1), 10 * KIB, 4 << 20).await;
        assert!((400 * KIB..600 * KIB).contains(&pace.bytes_in_time()), "{}", pace.bytes_in_time());
        // An idle hour changes nothing, nor does what comes together after it.
        pace.done(KIB, 0);
        tokio::time::advance(Duration::from_secs(3600)).await;
        pace.done(KIB, 256 * KIB);
        assert!((400 * KIB..600 * KIB).contains(&pace.bytes_in_time()), "{}", pace.bytes_in_time());
    }
}
