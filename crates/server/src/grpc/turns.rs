//! Clients take turns with everything else that a node does on the same thread.
//!
//! A runtime polls what is ready in the order in which it came to be, and each step of consensus is behind all of it. Where
//! hundreds of clients send at the same moment, decoding what they sent took a third of a second before a heartbeat's answer was
//! looked at, and the leader lost its office. So what clients send is worked on a turn at a time: once that much is used up,
//! the rest waits here, in order, until everything that is ready has been polled once.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Of what clients send, in bytes: about a millisecond's work.
const TURN_BYTES: usize = 256 << 10;
/// What a piece costs beside its bytes, in bytes.
const PIECE_BYTES: usize = 256;

/// Hands out turns. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    /// Bytes left of the present turn.
    left: Arc<Semaphore>,
    used: Arc<Notify>,
}

impl Turns {
    /// Starts the task that ends a turn; it ends with the last of the handles.
    pub(crate) fn start() -> Turns {
        let inside = Arc::new(Inside { left: Arc::new(Semaphore::new(TURN_BYTES)), used: Arc::default() });
        tokio::spawn(end_turns(Arc::downgrade(&inside), inside.used.clone()));
        Turns(inside)
    }

    /// Whether a piece of so many bytes is within this turn, and then it is counted.
    fn has_room(&self, bytes: usize) -> bool {
        let taken = self.0.left.try_acquire_many(cost(bytes));
        let has_room = taken.is_ok();
        if let Ok(taken) = taken {
            taken.forget();
        }
        // Half a turn ahead, so that none waits for the next where nothing else is ready.
        if self.0.left.available_permits() < TURN_BYTES / 2 {
            self.0.used.notify_one();
        }
        has_room
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.used.notify_one();
    }
}

/// At most a whole turn, which is far below what fits.
fn cost(bytes: usize) -> u32 {
    (bytes + PIECE_BYTES).min(TURN_BYTES) as u32
}

async fn end_turns(turns: Weak<Inside>, used: Arc<Notify>) {
    loop {
        used.notified().await;
        // Behind all that is ready, and behind what the network has meanwhile.
        tokio::task::yield_now().await;
        let Some(turns) = turns.upgrade() else { return };
        // A sender that was given some and gave it up may have left more than a turn.
        turns.left.add_permits(TURN_BYTES.saturating_sub(turns.left.available_permits()));
        // Somebody waits on.
        if turns.left.available_permits() == 0 {
            used.notify_one();
        }
    }
}

/// The turn of one sender.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    waiting: Option<PollSemaphore>,
}

impl Turn {
    pub(crate) fn of(turns: Turns) -> Turn {
        Turn { turns, waiting: None }
    }

    /// Ready once a piece of so many bytes may be worked on. To be asked again for the same piece until it is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        if self.waiting.is_none() && self.turns.has_room(bytes) {
            return Poll::Ready(());
        }
        let waiting = self.waiting.get_or_insert_with(|| PollSemaphore::new(self.turns.0.left.clone()));
        let Poll::Ready(taken) = waiting.poll_acquire_many(cx, cost(bytes)) else {
            // After it began to wait, so that this one is seen.
            self.turns.0.used.notify_one();
            return Poll::Pending;
        };
        // It is never closed.
        if let Some(taken) = taken {
            taken.forget();
        }
        self.waiting = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const PIECE: usize = 64 << 10;

    async fn take(turn: &mut Turn) {
        poll_fn(|cx| turn.poll(cx, PIECE)).await;
    }

    /// Behind everything that is ready, once.
    async fn queue_once() {
        let mut queued = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut queued, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Three hundred clients sent 64 KiB each at the same moment, and the answer to a heartbeat was looked at a third of a second
    /// later, when all of it was decoded.
    #[tokio::test]
    async fn whoever_is_ready_waits_for_a_turn_and_not_for_all_that_clients_sent() {
        const CLIENTS: usize = 300;
        let turns = Turns::start();
        let worked = Arc::new(AtomicUsize::new(0));
        for _ in 0..CLIENTS {
            let (mut turn, worked) = (Turn::of(turns.clone()), worked.clone());
            tokio::spawn(async move {
                take(&mut turn).await;
                worked.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (mut before, mut most, mut passes) = (0, 0, 0);
        while before < CLIENTS {
            queue_once().await;
            let now = worked.load(Ordering::Relaxed);
            most = most.max(now - before);
            (before, passes) = (now, passes + 1);
            assert!(passes < 100 * CLIENTS, "{now} of {CLIENTS} had their turn");
        }
        assert!(most <= 2 * TURN_BYTES / PIECE, "{most} pieces in one pass");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everybody_has_a_turn_on_several_threads_too() {
        let turns = Turns::start();
        let senders = (0..64).map(|sender| {
            let mut turn = Turn::of(turns.clone());
            tokio::spawn(async move {
                for piece in 0..100 {
                    let bytes = PIECE * ((sender + piece) % 5);
                    poll_fn(|cx| turn.poll(cx, bytes)).await;
                    if (sender + piece) % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
    }

    /// More than a turn is as good as a whole one, and what a sender gave up is not lost to the others.
    #[tokio::test]
    async fn a_sender_that_goes_away_takes_nobodys_turn() {
        let turns = Turns::start();
        let mut large = Turn::of(turns.clone());
        poll_fn(|cx| large.poll(cx, 10 * TURN_BYTES)).await;
        for _ in 0..100 {
            let mut gone = Turn::of(turns.clone());
            let asked = poll_fn(|cx| Poll::Ready(gone.poll(cx, TURN_BYTES).is_pending())).await;
            drop(gone);
            if asked {
                queue_once().await;
            }
            take(&mut large).await;
        }
    }

    #[tokio::test]
    async fn the_task_ends_with_the_last_handle() {
        let turns = Turns::start();
        let weak = Arc::downgrade(&turns.0.used);
        let turn = Turn::of(turns.clone());
        drop(turns);
        queue_once().await;
        assert!(weak.upgrade().is_some(), "a turn is a handle");
        drop(turn);
        while weak.upgrade().is_some() {
            queue_once().await;
        }
    }
}
