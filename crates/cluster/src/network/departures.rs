//! When append streams look again for something to send.
//!
//! A follower is told what is committed with the next entries, or, where none follow, in a request of its own. While one record
//! comes after the other, that request would leave just before the next entries do: as many messages, answers and wake-ups
//! again. So after each request a stream waits for a moment for what may come.
//!
//! ```text
//! leader    entry 7 ───► committed 7 . . entry 8, committed 7 ───►          one request a record
//!                        └ a moment at most
//! ```

use std::time::Duration;

use tokio::sync::watch;

/// How long what is committed may wait for entries to go with: longer than a client takes to send its next command, and nothing
/// that a reader at a follower would notice.
const COMMIT_WAITS: Duration = Duration::from_millis(2);

/// Calls the append streams of one node.
#[derive(Debug, Default)]
pub(crate) struct Departures(watch::Sender<()>);

impl Departures {
    /// There are entries to send, or somebody waits for what is committed.
    pub(crate) fn call(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn listen(&self) -> Departure {
        Departure(self.0.subscribe())
    }
}

/// One stream's ear.
pub(crate) struct Departure(watch::Receiver<()>);

impl Departure {
    /// To be called before looking for something to send: calls up to here need no other look.
    pub(crate) fn looks(&mut self) {
        self.0.mark_unchanged();
    }

    /// Until it is worth looking again.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            biased;
            // An error says that the node is gone, which ends the stream elsewhere.
            _ = self.0.changed() => {}
            () = tokio::time::sleep(COMMIT_WAITS) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_looks_when_it_is_called_and_after_a_moment() {
        let departures = Departures::default();
        let mut departure = departures.listen();
        let begun = Instant::now();
        departures.call();
        departure.wait().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "a call before the wait counts");
        departure.wait().await;
        assert!(begun.elapsed() >= COMMIT_WAITS, "it counts once");

        departures.call();
        departure.looks();
        let begun = Instant::now();
        departure.wait().await;
        assert!(begun.elapsed() >= COMMIT_WAITS, "what was called for has been looked at");
        let begun = Instant::now();
        let waits = tokio::spawn(async move { departure.wait().await });
        tokio::task::yield_now().await;
        departures.call();
        waits.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
