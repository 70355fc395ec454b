//! Streams that were taken and have sent nothing yet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// A stream that sends nothing for this long, and up to twice as long, was opened ahead of its time and no longer counts: an idle
/// one must not hold a place for ever. Longer than anything that was sent waits for its turn.
const SPAN: Duration = Duration::from_secs(2);

/// How many they are, and what they will bring.
#[derive(Debug)]
pub(crate) struct Expecting {
    begun: Instant,
    spans: Mutex<Spans>,
    /// A frame of a stream, on average over the latest.
    frame_bytes: AtomicUsize,
}

/// Streams by when they were taken.
#[derive(Debug, Default)]
struct Spans {
    /// The number of the present span of [`SPAN`].
    now: u64,
    /// In the present span, and in the one before.
    taken: [usize; 2],
}

impl Spans {
    fn turn_to(&mut self, now: u64) {
        match now.saturating_sub(self.now) {
            0 => return,
            1 => self.taken = [0, self.taken[0]],
            _ => self.taken = [0; 2],
        }
        self.now = now;
    }
}

/// One frame in so many moves the average.
const FRAMES: usize = 16;

impl Default for Expecting {
    fn default() -> Expecting {
        Expecting { begun: Instant::now(), spans: Mutex::default(), frame_bytes: AtomicUsize::new(0) }
    }
}

impl Expecting {
    /// One more, until the answer is dropped.
    pub(super) fn expect(self: &Arc<Self>) -> Expected {
        let mut spans = self.turned();
        spans.taken[0] += 1;
        Expected { span: spans.now, expecting: self.clone() }
    }

    /// A frame of a stream is here.
    pub(super) fn came(&self, bytes: usize) {
        let average = self.frame_bytes.load(Ordering::Relaxed);
        let moved = if average == 0 { bytes } else { average - average / FRAMES + bytes / FRAMES };
        // Where two come together one of them is not counted.
        self.frame_bytes.store(moved, Ordering::Relaxed);
    }

    /// What they will bring.
    pub(super) fn bytes(&self) -> usize {
        let taken: usize = self.turned().taken.iter().sum();
        taken.saturating_mul(self.frame_bytes.load(Ordering::Relaxed))
    }

    fn turned(&self) -> parking_lot::MutexGuard<'_, Spans> {
        let now = self.begun.elapsed().as_millis() / SPAN.as_millis();
        let mut spans = self.spans.lock();
        spans.turn_to(u64::try_from(now).unwrap_or(u64::MAX));
        spans
    }
}

/// The place of a stream that was taken, until its first frame has one of its own.
#[derive(Debug)]
pub(crate) struct Expected {
    span: u64,
    expecting: Arc<Expecting>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut spans = self.expecting.turned();
        let since = spans.now - self.span;
        if let Some(taken) = usize::try_from(since).ok().and_then(|since| spans.taken.get_mut(since)) {
            *taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_its_place_until_it_sends_or_sends_nothing_for_long() {
        let expecting = Arc::new(Expecting::default());
        let first = expecting.expect();
        assert_eq!(expecting.bytes(), 0, "of frames nothing is known yet");
        expecting.came(1_000);
        assert_eq!(expecting.bytes(), 1_000);
        advance(SPAN).await;
        let second = expecting.expect();
        assert_eq!(expecting.bytes(), 2_000);
        drop(first);
        assert_eq!(expecting.bytes(), 1_000);
        let idle = expecting.expect();
        drop(second);
        advance(SPAN * 2).await;
        assert_eq!(expecting.bytes(), 0, "it is idle");
        drop(idle);
        assert_eq!(expecting.bytes(), 0);
        let _third = expecting.expect();
        assert_eq!(expecting.bytes(), 1_000);
    }

    #[test]
    fn what_is_expected_follows_what_came() {
        let expecting = Arc::new(Expecting::default());
        let _stream = expecting.expect();
        expecting.came(64 << 10);
        for _ in 0..100 {
            expecting.came(1 << 10);
        }
        assert!((1 << 10..2 << 10).contains(&expecting.bytes()), "{}", expecting.bytes());
    }
}
