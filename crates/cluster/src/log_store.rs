//! openraft's log over the chronicle.
//!
//! openraft calls the writing half from one task and in order; the chronicle's writer keeps that order. What is read back
//! at once after an append may not be durable yet; `IOFlushed` is told from the writer's thread when it is.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use futures::{Stream, stream};
use openraft::{
    RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use sillok_chronicle::{Chronicle, ReadError, WriteError};

#[cfg(test)]
use crate::types::kind;
use crate::{
    acks::Acks,
    chain::{Chain, ChainError},
    execution::Execution,
    failure::{Failure, FailureKind, FailureSink},
    network::Departures,
    planted::{self, Planted},
    types::{
        Entry, LeaderId, LogId, RaftEntry, RaftLogId, RaftVote, TypeConfig, from_raft_id, from_stored, to_raft_id,
        to_stored,
    },
};

/// One step of a long read, in bytes.
const STEP_BYTES: usize = 4 << 20;

/// Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    chronicle: Chronicle,
    chain: Arc<Chain>,
    acks: Arc<Acks>,
    failures: FailureSink,
    /// One append request is closed at about this size.
    append_bytes: usize,
    execution: Execution,
    departures: Arc<Departures>,
    #[cfg(test)]
    floor: Option<Arc<parking_lot::Mutex<Floor>>>,
}

/// openraft's storage suite purges and begins logs in the middle; nothing else may. Entries before it are hidden from
/// readers, and none is removed.
#[cfg(test)]
#[derive(Debug, Default)]
struct Floor {
    purged: Option<LogId>,
    /// Filled up with blanks, because a chronicle has no holes.
    filled_to: u64,
}

impl LogStore {
    pub(crate) fn new(
        chronicle: Chronicle,
        chain: Arc<Chain>,
        acks: Arc<Acks>,
        failures: FailureSink,
        append_bytes: usize,
        execution: Execution,
        departures: Arc<Departures>,
    ) -> LogStore {
        LogStore {
            chronicle,
            chain,
            acks,
            failures,
            append_bytes,
            execution,
            departures,
            #[cfg(test)]
            floor: None,
        }
    }

    /// For openraft's storage suite: `purge` sets a logical floor.
    #[cfg(test)]
    pub(crate) fn with_floor(mut self) -> LogStore {
        self.floor = Some(Arc::default());
        self
    }

    #[cfg(test)]
    fn purged(&self) -> Option<LogId> {
        self.floor.as_ref().and_then(|floor| floor.lock().purged)
    }

    #[cfg(not(test))]
    fn purged(&self) -> Option<LogId> {
        None
    }

    #[cfg(test)]
    fn first(&self) -> u64 {
        let purged = self.purged().map_or(0, |id| id.index + 1);
        self.floor.as_ref().map_or(0, |floor| purged.max(floor.lock().filled_to))
    }

    #[cfg(not(test))]
    fn first(&self) -> u64 {
        0
    }

    #[cfg(test)]
    fn fill_up(&self, entries: &mut Vec<Entry>) {
        let (Some(floor), Some(first)) = (&self.floor, entries.first().map(|entry| entry.id.index)) else { return };
        let end = self.end();
        if first > end {
            floor.lock().filled_to = first;
            let term = self.chronicle.last().map_or(0, |last| last.term);
            let blank = |index| Entry { id: LogId { term, index }, kind: kind::BLANK, payload: bytes::Bytes::new() };
            entries.splice(0..0, (end..first).map(blank));
        }
    }

    fn end(&self) -> u64 {
        self.chronicle.last().map_or(0, |id| id.index + 1)
    }

    /// The part of the range that exists.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&to) => to,
            Bound::Unbounded => u64::MAX,
        };
        (from.max(self.first()), to.min(self.end()))
    }

    /// At least one entry where `from < to`; none only if they were truncated after the caller looked. (Consensus takes an
    /// empty answer for a heartbeat without entries; an error would end this node.)
    async fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<RaftEntry>, io::Error> {
        let read = if from >= self.chronicle.first_cached() {
            self.chronicle.read_through(from, to, max_bytes)
        } else {
            // From the disk, on a thread that may block.
            let chronicle = self.chronicle.clone();
            let read = self.execution.blocking(move || chronicle.read_through(from, to, max_bytes)).await;
            read.map_err(io::Error::other)?
        };
        let entries = read.map_err(|error| self.read_failed(error))?;
        entries.into_iter().map(|entry| from_stored(entry).map_err(io::Error::other)).collect()
    }

    fn read_failed(&self, error: ReadError) -> io::Error {
        self.failures.report(read_failure(&error));
        io::Error::other(error)
    }

    fn chain_failed(&self, error: ChainError) -> io::Error {
        self.failures.report(chain_failure(&error));
        io::Error::other(error.to_string())
    }
}

/// How a node stops that cannot read its chronicle.
pub(crate) fn read_failure(error: &ReadError) -> Failure {
    match error {
        ReadError::Damaged(damage) => {
            Failure { damage: Some(damage.clone()), ..Failure::new(FailureKind::Damage, error.to_string()) }
        }
        // The disk may be well again after a restart.
        ReadError::Io { .. } => Failure::new(FailureKind::Disk, error.to_string()),
    }
}

/// How a node stops for this.
pub(crate) fn chain_failure(error: &ChainError) -> Failure {
    let kind = match error {
        ChainError::Mismatch { .. } => FailureKind::ChainMismatch,
        ChainError::Read(error) => return read_failure(error),
        _ => FailureKind::Internal,
    };
    Failure::new(kind, error.to_string())
}

/// A durable write, awaited.
async fn written(start: impl FnOnce(Box<dyn FnOnce(Result<(), WriteError>) + Send>)) -> Result<(), io::Error> {
    let (done, wait) = tokio::sync::oneshot::channel();
    start(Box::new(move |result| {
        // Nobody waits any more only where the node is stopping.
        let _ = done.send(result);
    }));
    match wait.await {
        Ok(result) => result.map_err(io::Error::other),
        Err(_) => Err(io::Error::other(WriteError::Closed)),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let (mut from, to) = self.bounds(&range);
        let mut entries = Vec::new();
        while from < to {
            let step = self.read(from, to, STEP_BYTES).await?;
            if step.is_empty() {
                break;
            }
            from += step.len() as u64;
            entries.extend(step);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        let (from, to) = self.bounds(&(start..end));
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(from, to, self.append_bytes).await
    }

    /// In steps: a node that catches up applies far more at once than should lie in memory.
    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = Result<RaftEntry, io::Error>> + Send
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = self.bounds(&range);
        let steps = stream::try_unfold((self.clone(), from), move |(store, from)| async move {
            if from >= to {
                return Ok(None);
            }
            let step = store.read(from, to, STEP_BYTES).await?;
            if step.is_empty() {
                return Ok(None);
            }
            let next = from + step.len() as u64;
            Ok::<_, io::Error>(Some((stream::iter(step.into_iter().map(Ok)), (store, next))))
        });
        use futures::TryStreamExt as _;
        Box::pin(steps.try_flatten())
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.chronicle.vote().map(vote_to_raft))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id = self.purged().map(to_raft_id);
        let last_log_id = self.chronicle.last().map(to_raft_id).max(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        if planted::is(Planted::ForgetVote) {
            return Ok(());
        }
        let vote = vote_from_raft(vote);
        written(|done| self.chronicle.save_vote(vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.chronicle.set_committed(from_raft_id(&committed));
        }
        Ok(())
    }

    /// Never beyond what is durable here: a commit index ahead of the log would stop the start.
    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        Ok(self.chronicle.committed().min(self.chronicle.last()).map(to_raft_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        #[cfg_attr(not(test), expect(unused_mut, reason = "filled up for the storage suite only"))]
        let mut entries: Vec<Entry> = entries.into_iter().map(|entry| to_stored(&entry)).collect();
        #[cfg(test)]
        self.fill_up(&mut entries);
        let Some(last) = entries.last().map(|entry| entry.id) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        self.chain.append(&entries).map_err(|error| self.chain_failed(error))?;
        let (acks, truncations) = (self.acks.clone(), self.acks.truncations());
        self.chronicle.append(entries, move |result| {
            if result.is_ok() {
                acks.note_local(truncations, last.index);
            }
            callback.io_completed(result.map_err(io::Error::other));
        });
        self.departures.call();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index() + 1);
        if from >= self.end() {
            return Ok(());
        }
        tracing::info!(from, "entries of a deposed leader are removed from the tail");
        self.acks.note_truncated(from);
        self.chain.truncate(from);
        written(|done| self.chronicle.truncate_from(from, done)).await
    }

    /// The chronicle is the history: purging it is never right, and openraft asks for it only where its state machine is
    /// ahead of its log, which the commit pointer cannot be.
    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), io::Error> {
        #[cfg(test)]
        if let Some(floor) = &self.floor {
            floor.lock().purged = Some(from_raft_id(&log_id));
            return Ok(());
        }
        let message = format!(
            "consensus asked to purge the chronicle up to entry {}; nothing was removed, and this node stops",
            from_raft_id(&log_id)
        );
        self.failures.report(Failure::new(FailureKind::Internal, message.clone()));
        Err(io::Error::other(message))
    }
}

pub(crate) fn vote_to_raft(vote: sillok_chronicle::Vote) -> RaftVote {
    let leader_id = LeaderId { term: vote.term, voted_for: vote.node_id };
    RaftVote { leader_id, committed: vote.committed }
}

pub(crate) fn vote_from_raft(vote: &RaftVote) -> sillok_chronicle::Vote {
    sillok_chronicle::Vote { term: vote.leader_id.term, node_id: vote.leader_id.voted_for, committed: vote.committed }
}
