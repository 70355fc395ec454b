//! Commands that are due at a fixed rate, whatever became of the ones before: an open loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// The clock is looked at no more often.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// And no less often: the end may have come.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Gives turns when they are due. A thread of its own does it: timers of the runtime are a millisecond wide.
pub(crate) struct Pacer {
    due: Arc<Semaphore>,
    taken: AtomicU64,
    begun: Instant,
    rate: f64,
}

impl Pacer {
    /// `rate` turns a second from now on.
    pub(crate) fn start(rate: f64) -> Pacer {
        let begun = Instant::now();
        let due = Arc::new(Semaphore::new(0));
        let giving = Arc::clone(&due);
        thread::spawn(move || {
            let mut given: u64 = 0;
            loop {
                let now = Instant::now();
                // Nobody waits any more.
                if giving.is_closed() || Arc::strong_count(&giving) == 1 {
                    break;
                }
                let total = (now.saturating_duration_since(begun).as_secs_f64() * rate) as u64 + 1;
                giving.add_permits(usize::try_from(total.saturating_sub(given)).unwrap_or(0));
                given = total;
                let next = begun + Duration::from_secs_f64(given as f64 / rate);
                let wait = next.saturating_duration_since(Instant::now());
                thread::sleep(wait.clamp(LOOK_EVERY, LOOK_AGAIN));
            }
        });
        Pacer { due, taken: AtomicU64::new(0), begun, rate }
    }

    /// No turn is given any more.
    pub(crate) fn end(&self) {
        self.due.close();
    }

    /// Waits for the next turn and gives the moment at which it was due, which is past where the load is behind; `None` at the
    /// end.
    pub(crate) async fn turn(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.begun + Duration::from_secs_f64(number as f64 / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers nothing for a while is seen by every command that was due meanwhile, not by one alone.
    #[tokio::test]
    async fn turns_are_due_at_the_rate_however_late_they_are_taken() {
        let pacer = Pacer::start(1000.0);
        for number in 0..50 {
            let due = pacer.turn().await.unwrap();
            assert_eq!(due, pacer.begun + Duration::from_secs_f64(f64::from(number) / 1000.0));
            assert!(due <= Instant::now(), "before it was due");
        }
    }

    /// A rate of one in a hundred seconds held up the end of a bench.
    #[tokio::test]
    async fn there_are_no_turns_after_the_end() {
        let pacer = Pacer::start(0.01);
        assert!(pacer.turn().await.is_some(), "the first is due at once");
        pacer.end();
        assert!(pacer.turn().await.is_none());
    }
}
