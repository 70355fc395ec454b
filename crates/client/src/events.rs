//! History, then live tail, across failures with no gap and no duplicate.

use std::time::Duration;

use sillok_wire::{
    errors,
    v1::{self, read_events_request::Start},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming};

use crate::{Client, Queries, backoff::Backoff, error::worth_repeating, pool::Node, read::LARGEST_ANSWER};

/// A quiet tail still tells its progress every few seconds; one that is silent for so long is taken up elsewhere.
const SILENCE: Duration = Duration::from_secs(20);

/// Reads events; see [`Client::events`].
#[derive(Debug)]
pub struct Events {
    client: Client,
    /// As the caller gave it, with the start moved on and the limit lowered by what has been handed out.
    request: v1::ReadEventsRequest,
    stream: Option<Streaming<v1::ReadEventsResponse>>,
    caught_up: bool,
    ended: bool,
}

impl Client {
    /// Reads events as the request says: with `follow` for ever, else to the end of what is committed. Where a node fails
    /// another one goes on after the last cursor that was handed out. A read `from_end` begins with the first answer: before
    /// that there is nothing to go on from, and another node begins at its own end.
    pub fn events(&self, request: v1::ReadEventsRequest) -> Events {
        Events { client: self.clone(), request, stream: None, caught_up: false, ended: false }
    }
}

impl Events {
    /// The next events, or progress while there are none (`items` is then empty); `None` at the end of a read without
    /// `follow`, or once the limit is reached. `caught_up` is true in exactly one answer, however often nodes change.
    ///
    /// # Errors
    /// The status of the last try: one that another node would say as well, or any once the deadline has passed without an
    /// answer. A later call goes on from the same place.
    pub async fn next(&mut self) -> Result<Option<v1::ReadEventsResponse>, Status> {
        if self.ended {
            return Ok(None);
        }
        // Since when no node has answered: however long a tail was quiet before its node failed, that was no failure.
        let mut since = self.stream.is_none().then(Instant::now);
        let mut backoff = Backoff::default();
        loop {
            let node = self.client.pool.for_read();
            let status = match self.step(&node).await {
                Ok(Some(response)) => return Ok(Some(self.handed_out(response))),
                Ok(None) if self.request.follow => Status::unavailable(format!("{} ended the stream", node.address)),
                Ok(None) => {
                    self.ended = true;
                    return Ok(None);
                }
                Err(status) => status,
            };
            self.stream = None;
            if !worth_repeating(status.code()) {
                return Err(status);
            }
            self.client.pool.failed(&node);
            let wait = backoff.next(errors::retry_after(&status));
            let since = *since.get_or_insert_with(Instant::now);
            if Instant::now() + wait >= since + self.client.settings.deadline {
                return Err(status);
            }
            tracing::debug!(node = %node.address, %status, ?wait, "a reader of events goes on elsewhere");
            sleep(wait).await;
        }
    }

    /// The cursor after everything handed out so far, where there is one: a later reader can start there.
    pub fn cursor(&self) -> Option<&[u8]> {
        match &self.request.start {
            Some(Start::AfterCursor(cursor)) => Some(cursor),
            _ => None,
        }
    }

    async fn step(&mut self, node: &Node) -> Result<Option<v1::ReadEventsResponse>, Status> {
        let patience = self.client.settings.try_timeout;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => {
                let mut queries = Queries::new(node.channel()).max_decoding_message_size(LARGEST_ANSWER);
                let opened = timeout(patience, queries.read_events(self.request.clone())).await;
                let opened = opened.map_err(|_| Status::deadline_exceeded("no node took the reader in time"))??;
                self.client.pool.hint(opened.metadata());
                empty.insert(opened.into_inner())
            }
        };
        timeout(SILENCE.max(patience), stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the stream of events fell silent"))?
    }

    /// Moves the request on, so that whoever is asked next begins after this response.
    fn handed_out(&mut self, mut response: v1::ReadEventsResponse) -> v1::ReadEventsResponse {
        let progress = response.progress.as_ref().map(|progress| &progress.cursor);
        let cursor = progress.filter(|cursor| !cursor.is_empty());
        let cursor =
            cursor.or_else(|| response.items.last().map(|item| &item.cursor).filter(|cursor| !cursor.is_empty()));
        if let Some(cursor) = cursor {
            self.request.start = Some(Start::AfterCursor(cursor.clone()));
        }
        if self.request.limit > 0 {
            let count = response.items.len() as u64;
            if count >= self.request.limit {
                self.ended = true;
            } else {
                self.request.limit -= count;
            }
        }
        response.caught_up &= !self.caught_up;
        self.caught_up |= response.caught_up;
        response
    }
}
