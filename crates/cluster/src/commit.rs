//! openraft's state machine: the commit pointer and nothing else.
//!
//! What an entry means was decided when it was appended ([`Chain`]); applying it only says that it is committed. So nothing
//! is replayed at start: the pointer begins at the committed index that the chronicle remembers, clamped to what is durable.

use std::{io, sync::Arc};

use futures::{Stream, TryStreamExt as _};
use openraft::{
    RaftSnapshotBuilder,
    alias::{SnapshotMetaOf, SnapshotOf},
    storage::{EntryResponder, RaftStateMachine},
};
use sillok_domain::UnixNanos;
use tokio::sync::watch;

use crate::{
    chain::{Chain, ChainState},
    types::{Applied, LogId, RaftEntry, RaftLogId, StoredMembership, TypeConfig, from_raft_id, to_raft_id, to_stored},
};

/// Responders are answered in groups of at most this many, after the pointer has moved.
const ANSWERED_TOGETHER: usize = 64;

/// The state after a committed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// That entry.
    pub(crate) log_id: LogId,
    /// BLAKE3 of the newest record of the chain; zeroes before the first.
    pub(crate) head: [u8; 32],
    /// The position that the next record begins at; 1 before the first.
    pub(crate) next_sequence: u64,
    /// Of the newest record of the chain; 0 before the first.
    pub(crate) accepted_at: UnixNanos,
}

impl Commit {
    fn new(log_id: LogId, state: ChainState) -> Commit {
        let ChainState { head, next_sequence, accepted_at } = state;
        Commit { log_id, head, next_sequence, accepted_at }
    }
}

/// Publishes how far the log is committed.
pub(crate) struct CommitPointer {
    chain: Arc<Chain>,
    commits: watch::Sender<Option<Commit>>,
}

impl CommitPointer {
    /// Begins at `committed`, which must stand in the log.
    pub(crate) fn new(chain: Arc<Chain>, committed: Option<LogId>) -> Result<CommitPointer, crate::chain::ChainError> {
        let commit = match committed {
            Some(log_id) => Some(Commit::new(log_id, chain.state_at(Some(log_id.index))?)),
            None => None,
        };
        Ok(CommitPointer { chain, commits: watch::Sender::new(commit) })
    }

    /// The state after a committed entry: as it was found when the entry was appended, or followed on from the entry before
    /// where this node catches up so fast that the link is forgotten already.
    fn follow(&self, entry: &RaftEntry, before: Option<Commit>) -> Result<(Commit, Applied), io::Error> {
        let log_id = from_raft_id(&entry.log_id);
        let (here, applied, state) = match self.chain.link(log_id.index) {
            Some(link) => link,
            None => {
                let mut state = before.map_or_else(ChainState::default, |commit| ChainState {
                    head: commit.head,
                    next_sequence: commit.next_sequence,
                    accepted_at: commit.accepted_at,
                });
                let stored = to_stored(entry);
                let applied = state.step(stored.kind, &stored.payload).map_err(io::Error::other)?;
                (log_id, applied, state)
            }
        };
        if here != log_id {
            return Err(io::Error::other(format!("the committed entry {log_id} stands here as {here}")));
        }
        Ok((Commit::new(log_id, state), applied))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Commit>> {
        self.commits.subscribe()
    }
}

impl RaftStateMachine<TypeConfig> for CommitPointer {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        let applied = self.commits.borrow().map(|commit| commit.log_id);
        let membership = self.chain.membership_at(applied.map(|id| id.index));
        Ok((applied.map(to_raft_id), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut newest = *self.commits.borrow();
        let mut answers = Vec::new();
        loop {
            let next = entries.try_next().await?;
            let at_end = next.is_none();
            if let Some((entry, responder)) = next {
                let (commit, applied) = self.follow(&entry, newest)?;
                newest = Some(commit);
                if let Some(responder) = responder {
                    answers.push((responder, applied));
                }
            }
            // Whoever is answered finds the pointer already there.
            if at_end || answers.len() >= ANSWERED_TOGETHER {
                self.commits.send_replace(newest);
                for (responder, applied) in answers.drain(..) {
                    responder.send(applied);
                }
            }
            if at_end {
                return Ok(());
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMetaOf<TypeConfig>, _snapshot: ()) -> Result<(), io::Error> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        Ok(None)
    }
}

/// The log is never purged, so a node that is far behind is served from the log.
pub(crate) struct NoSnapshots;

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "there are no snapshots: the chronicle is the log and is never purged")
}
