//! What a stream sends, between the task that makes it and the connection that takes it.
//!
//! A client that does not read fills the HTTP/2 window, then the few places here, and then its task waits; after `patience` the
//! task is told and ends. What was made before is still delivered, should the client ever read, and then the status that says
//! why the stream ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use sillok_wire::{errors::Problem, v1::Reason};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tonic::Status;

/// Where the task puts what it makes.
pub(crate) struct Outbox<T> {
    items: mpsc::Sender<T>,
    end: oneshot::Sender<Status>,
    patience: Duration,
    open: Open,
}

/// Counts the stream as long as its task lives.
struct Open(&'static str);

impl Open {
    fn new(call: &'static str) -> Open {
        metrics::gauge!("sillok_streams_open", "call" => call).increment(1.0);
        Open(call)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("sillok_streams_open", "call" => self.0).decrement(1.0);
    }
}

/// Where the connection takes it.
pub(crate) struct Outgoing<T> {
    items: mpsc::Receiver<T>,
    end: Option<oneshot::Receiver<Status>>,
}

/// The client takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The connection or the call is gone; nobody is there to be told.
    Gone,
    /// It did not read for as long as the node is willing to wait.
    TooSlow,
}

/// Both ends of one `call`, with room for `places` items between them.
pub(crate) fn outbox<T>(call: &'static str, places: usize, patience: Duration) -> (Outbox<T>, Outgoing<T>) {
    let (items, incoming) = mpsc::channel(places);
    let (end, ended) = oneshot::channel();
    (Outbox { items, end, patience, open: Open::new(call) }, Outgoing { items: incoming, end: Some(ended) })
}

impl<T> Outbox<T> {
    /// Puts one item in, waiting for room as long as patience lasts.
    pub(crate) async fn put(&self, item: T) -> Result<(), Stuck> {
        // Nearly always there is room, and then no timer is made.
        let item = match self.items.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(Stuck::Gone),
            Err(TrySendError::Full(item)) => item,
        };
        match tokio::time::timeout(self.patience, self.items.send(item)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Stuck::Gone),
            Err(_) => Err(Stuck::TooSlow),
        }
    }

    /// Resolves when the client is gone.
    pub(crate) async fn gone(&self) {
        self.items.closed().await;
    }

    /// Ends the stream with a status, after all that was put in.
    pub(crate) fn end(self, status: Status) {
        // Nobody is there to be told where this fails.
        let _ = self.end.send(status);
    }

    /// Ends the stream as `put` failed. What was not sent is unknown to the client, not lost: `advice` says how to go on.
    pub(crate) fn end_stuck(self, stuck: Stuck, advice: &str) {
        if stuck == Stuck::TooSlow {
            metrics::counter!("sillok_slow_readers_total", "call" => self.open.0).increment(1);
            let seconds = self.patience.as_secs_f32();
            let message = format!("the client read nothing for {seconds:.1} s, so the stream was ended; {advice}");
            self.end(Problem::new(Reason::SubscriberTooSlow, message).outcome(None).into());
        }
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = ready!(self.items.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(item)));
        }
        let Some(ended) = self.end.as_mut() else { return Poll::Ready(None) };
        // The task is done with its half, or drops it at this very moment without a status.
        let status = ready!(Pin::new(ended).poll(cx));
        self.end = None;
        Poll::Ready(status.ok().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use sillok_wire::errors::{outcome_of, reason_of};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_gets_what_was_put_and_then_the_status() {
        let (outbox, mut outgoing) = outbox("test", 2, Duration::from_secs(30));
        for number in [1, 2] {
            outbox.put(number).await.unwrap();
        }
        let stuck = outbox.put(3).await.unwrap_err();
        assert_eq!(stuck, Stuck::TooSlow);
        outbox.end_stuck(stuck, "go on after the last");
        assert_eq!(outgoing.next().await.unwrap().unwrap(), 1);
        assert_eq!(outgoing.next().await.unwrap().unwrap(), 2);
        let status = outgoing.next().await.unwrap().unwrap_err();
        assert_eq!(reason_of(&status), Some(Reason::SubscriberTooSlow));
        assert_eq!(outcome_of(&status), None, "what became of the unanswered is unknown");
        assert!(outgoing.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed() {
        let (outbox, outgoing) = outbox("test", 1, Duration::from_secs(30));
        drop(outgoing);
        outbox.gone().await;
        assert_eq!(outbox.put(1).await, Err(Stuck::Gone));
    }

    #[tokio::test]
    async fn a_stream_without_a_status_just_ends() {
        let (outbox, mut outgoing) = outbox("test", 1, Duration::from_secs(30));
        outbox.put(1).await.unwrap();
        drop(outbox);
        assert_eq!(outgoing.next().await.unwrap().unwrap(), 1);
        assert!(outgoing.next().await.is_none());
    }
}
