//! The chronicle as readers see it: one reader for history and tail, bounded by the commit.
//!
//! It goes through the log in order of its entries, so there is nothing between history and tail where a gap or a
//! duplicate could be. It is pulled: nothing is read or held for a caller that does not take the next response, who is
//! dropped by the service after a while. Records that every node skips are not shown.

mod cursor;
mod scan;
mod start;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{Stream, stream};
use sillok_views::Applied;
use sillok_wire::{
    errors::Problem,
    v1::{self, ReadConsistency, Reason},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};
use tonic::Status;

use self::{
    cursor::ALL,
    scan::{Filter, Newest, Place, ScanError, Scanner, Stretch},
};
use crate::{commit::Commit, execute::Front, node::Node, reads};

/// While a filter lets nothing through, the reader says this often how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// And after so many entries.
const PROGRESS_ENTRIES: u64 = 20_000;
/// How long a start waits for this node to have what it names.
const REACH_AT_MOST: Duration = Duration::from_secs(5);

impl Node {
    /// History, then live tail with `follow`; no gap and no duplicate between them. Every response says how far was read.
    ///
    /// The stream ends with an error where the request cannot be served: INVALID_ARGUMENT, CURSOR_INVALID, NO_LEADER for
    /// a linearizable beginning, OVERLOADED where there are too many subscribers, SHUTTING_DOWN.
    pub fn read_events(
        &self,
        request: v1::ReadEventsRequest,
    ) -> impl Stream<Item = Result<v1::ReadEventsResponse, Status>> + Send + 'static + use<> {
        let beginning = State::Beginning(self.front().clone(), Box::new(request));
        stream::unfold(beginning, |state| async {
            let mut reader = match state {
                State::Beginning(front, request) => match Reader::begin(front, *request).await {
                    Ok(reader) => Box::new(reader),
                    Err(status) => return Some((Err(status), State::Ended)),
                },
                State::Reading(reader) => reader,
                State::Ended => return None,
            };
            match reader.next().await {
                Ok(Some(response)) => Some((Ok(response), State::Reading(reader))),
                Ok(None) => None,
                Err(status) => Some((Err(status), State::Ended)),
            }
        })
    }
}

enum State {
    Beginning(Arc<Front>, Box<v1::ReadEventsRequest>),
    Reading(Box<Reader>),
    Ended,
}

/// One subscriber.
struct Reader {
    front: Arc<Front>,
    scanner: Scanner,
    consistency: ReadConsistency,
    place: Place,
    follow: bool,
    /// Items that may still be sent.
    left: u64,
    /// What was committed when the call began; `None`: nothing.
    present: Option<u64>,
    said_caught_up: bool,
    said_at: Instant,
    quiet_entries: u64,
    is_done: bool,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn begin(front: Arc<Front>, mut request: v1::ReadEventsRequest) -> Result<Reader, Status> {
        start::check(&request)?;
        let seat = front.subscribers.clone().try_acquire_owned().map_err(|_| too_many())?;
        let consistency = reads::consistency_of(request.options.as_ref())?;
        let commit = reached(&front, &request, consistency).await?;

        let channels: BTreeSet<String> = std::mem::take(&mut request.channel_ids).into_iter().collect();
        let kinds: BTreeSet<u32> = request.kinds.iter().copied().collect();
        let filter = Filter {
            channels: channels.into_iter().collect(),
            kinds: kinds.into_iter().collect(),
            refusals: request.include_refusals,
            recoveries: request.include_recoveries,
            from_revision: match &request.start {
                Some(v1::read_events_request::Start::FromRevision(revision)) => *revision,
                _ => 0,
            },
            from_sequence: match &request.start {
                Some(v1::read_events_request::Start::FromPosition(position)) => position.sequence,
                _ => 0,
            },
        };
        let core = &front.core;
        let scanner = Scanner {
            chronicle: core.chronicle.clone(),
            chain: core.chain.clone(),
            cluster_id: core.chronicle.identity().cluster_id.unwrap_or_default(),
            filter: Arc::new(filter),
        };
        let (reading, views) = (scanner.clone(), core.views.clone());
        let place = blocking(&front, move || start::place(&reading, &views, request.start.as_ref(), commit.as_ref()));
        let place = place.await??;
        Ok(Reader {
            front,
            scanner,
            consistency,
            place,
            follow: request.follow,
            left: if request.limit == 0 { u64::MAX } else { request.limit },
            present: commit.map(|commit| commit.log_id.index),
            said_caught_up: false,
            said_at: Instant::now(),
            quiet_entries: 0,
            is_done: false,
            _place: seat,
        })
    }

    /// The next response; `None`: the end.
    async fn next(&mut self) -> Result<Option<v1::ReadEventsResponse>, Status> {
        let mut commits = self.front.core.commits.clone();
        while !self.is_done {
            let committed = (*commits.borrow_and_update()).map(|commit| commit.log_id.index);
            // Without `follow`, what comes later is not read.
            let end = if self.follow { committed } else { self.present };
            let Some(end) = end.filter(|end| self.place.next <= *end) else {
                if let Some(response) = self.at_the_end() {
                    return Ok(Some(response));
                }
                if self.is_done {
                    break;
                }
                if self.front.core.stopping.is_cancelled() {
                    return Err(Problem::new(Reason::ShuttingDown, "this node is stopping").outcome(None).into());
                }
                let stopping = self.front.core.stopping.clone();
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => {}
                    _ = timeout_at(self.said_at + PROGRESS_EVERY, commits.changed()) => {}
                }
                if Instant::now() >= self.said_at + PROGRESS_EVERY {
                    return Ok(Some(self.say(Vec::new())));
                }
                continue;
            };
            let stretch = self.stretch(end + 1).await?;
            self.quiet_entries += stretch.entries;
            let reached = self.present.is_none_or(|present| self.place.next > present);
            let says_caught_up = reached && !self.said_caught_up;
            let is_due = self.quiet_entries >= PROGRESS_ENTRIES || self.said_at.elapsed() >= PROGRESS_EVERY;
            if !stretch.items.is_empty() || says_caught_up || is_due {
                return Ok(Some(self.say(stretch.items)));
            }
        }
        Ok(None)
    }

    /// Nothing is left to read now: say so once; without `follow` that is the end.
    fn at_the_end(&mut self) -> Option<v1::ReadEventsResponse> {
        self.is_done = !self.follow;
        (!self.said_caught_up).then(|| self.say(Vec::new()))
    }

    /// Reads on, off this task: the disk may have to be asked.
    async fn stretch(&mut self, end: u64) -> Result<Stretch, Status> {
        let one = self.skip_ahead(end);
        if self.place.next >= end {
            return Ok(Stretch::default());
        }
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX);
        let (scanner, mut place) = (self.scanner.clone(), self.place);
        let (stretch, place) = blocking(&self.front, move || {
            let stretch = scanner.stretch(&mut place, end, limit, one);
            (stretch, place)
        })
        .await?;
        // What was read before an error was not given, and is not claimed.
        let stretch = stretch.map_err(failed)?;
        self.place = place;
        self.left -= stretch.items.len() as u64;
        self.is_done |= self.left == 0;
        Ok(stretch)
    }

    /// For the events of one channel the views know where the next one stands; what lies between is not read. True if
    /// they do.
    fn skip_ahead(&mut self, end: u64) -> bool {
        let (Some(channel), Some(seen)) = (self.scanner.filter.only_channel(), self.place.seen) else { return false };
        if self.place.done > 0 {
            return false;
        }
        // In this order: what is folded later is read from the log.
        let folded = self.front.core.views.applied();
        let locator = self.front.core.views.with_channel(channel, |table| table.and_then(|t| t.locate(seen + 1)));
        let next = match locator {
            Some(locator) => locator.index,
            None => folded.map_or(0, |applied| applied.index + 1),
        };
        if let (None, Some(folded)) = (locator, folded)
            && folded.index < end
            && folded.index >= self.place.next
        {
            // Nothing of the channel is in what was folded: that counts as read.
            self.place.newest = Some(Newest {
                index: folded.index,
                items: ALL,
                head: folded.head,
                term: folded.record_term,
                sequence: folded.sequence,
                accepted_at: folded.accepted_at.unwrap_or_default(),
            });
        }
        self.place.next = self.place.next.max(next.min(end));
        locator.is_some()
    }

    fn say(&mut self, items: Vec<v1::ReadItem>) -> v1::ReadEventsResponse {
        self.said_at = Instant::now();
        self.quiet_entries = 0;
        let reached = self.present.is_none_or(|present| self.place.next > present);
        let caught_up = reached && !self.said_caught_up;
        self.said_caught_up |= caught_up;
        let applied = self.place.newest.map(|newest| Applied {
            index: self.place.next.saturating_sub(1),
            term: newest.term,
            record_term: newest.term,
            sequence: newest.sequence,
            head: newest.head,
            accepted_at: Some(newest.accepted_at).filter(|_| newest.sequence > 0),
        });
        let progress = v1::ReadProgress {
            cursor: self.place.cursor(self.scanner.cluster_id).encode().into(),
            info: Some(self.front.reads.info(applied, self.consistency)),
        };
        v1::ReadEventsResponse { items, progress: Some(progress), caught_up }
    }
}

/// What is committed here, once it is at least what the request asks for.
async fn reached(
    front: &Front,
    request: &v1::ReadEventsRequest,
    consistency: ReadConsistency,
) -> Result<Option<Commit>, Status> {
    let mut commits = front.core.commits.clone();
    let index = match consistency {
        ReadConsistency::Linearizable => Some(front.reads.confirm().await?),
        _ => None,
    };
    let sequence = request.options.as_ref().and_then(|options| options.at_least).map(|position| position.sequence);
    let there = |commit: &Option<Commit>| {
        index.is_none_or(|index| commit.is_some_and(|commit| commit.log_id.index >= index))
            && sequence.is_none_or(|at| at == 0 || commit.is_some_and(|commit| commit.next_sequence > at))
    };
    match timeout(REACH_AT_MOST, commits.wait_for(there)).await {
        Ok(Ok(commit)) => Ok(*commit),
        Ok(Err(_)) => Err(Problem::new(Reason::ShuttingDown, "this node is stopping").outcome(None).into()),
        Err(_) => {
            let message = "this node does not have yet what the call asks for; ask again, or another node";
            Err(Problem::new(Reason::PositionNotReached, message).outcome(None).into())
        }
    }
}

async fn blocking<R: Send + 'static>(front: &Front, run: impl FnOnce() -> R + Send + 'static) -> Result<R, Status> {
    let execution = &front.core.options.execution;
    execution
        .blocking(run)
        .await
        .map_err(|_| Problem::new(Reason::ShuttingDown, "this node is stopping").outcome(None).into())
}

fn failed(error: ScanError) -> Status {
    let reason = match &error {
        ScanError::Event { .. } => Reason::ViewsStopped,
        ScanError::Read(_) | ScanError::Record { .. } => Reason::NotReady,
    };
    Problem::new(reason, error.to_string()).outcome(None).into()
}

fn too_many() -> Status {
    let problem = Problem::new(Reason::Overloaded, "this node has as many subscribers as it takes; ask another node");
    problem.outcome(None).retry_after(Duration::from_secs(1)).into()
}
