//! What the parts of one node share.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc, task, time::Duration};

use bytes::Bytes;
use openraft::async_runtime::{Instant as _, WatchReceiver as _};
use sillok_chronicle::Chronicle;
use sillok_domain::UnixNanos;
use sillok_views::Views;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    acks::Acks,
    chain::Chain,
    clocks::Clocks,
    commit::Commit,
    failure::FailureSink,
    network::{Contact, Departures, Guard, PeerClient, PeerUnavailable, Peers},
    options::{Clock, NodeOptions},
    planted::{self, Planted},
    roster::Roster,
    scrub::Scrubbing,
    types::{Applied, LogId, Raft},
};

/// Who leads, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Leadership {
    /// The newest term seen.
    pub(crate) term: u64,
    /// Its leader; `None`: none is known.
    pub(crate) leader: Option<u64>,
    /// It is this node.
    pub(crate) is_local: bool,
}

/// Shared by everything that runs in one node.
pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) site: String,
    pub(crate) options: Arc<NodeOptions>,
    pub(crate) raft: Raft,
    pub(crate) chronicle: Chronicle,
    pub(crate) chain: Arc<Chain>,
    pub(crate) views: Views,
    /// After the newest committed entry that this node has; `None` before the first.
    pub(crate) commits: watch::Receiver<Option<Commit>>,
    pub(crate) acks: Arc<Acks>,
    /// Calls the append streams to followers.
    pub(crate) departures: Arc<Departures>,
    pub(crate) roster: Roster,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) failures: FailureSink,
    /// For display; what is recorded is stamped by `clocks`.
    pub(crate) clock: Arc<dyn Clock>,
    /// Knows whether this node's clock may stamp events.
    pub(crate) clocks: Clocks,
    /// Peers that lately said that their disk is full.
    pub(crate) full: parking_lot::Mutex<BTreeSet<u64>>,
    /// What is known of this node's copy, and of the others'.
    pub(crate) scrub: Scrubbing,
    /// Cancelled when the node stops: loops end, streams end.
    pub(crate) stopping: CancellationToken,
    /// Those who send for consensus.
    pub(crate) senders: TaskTracker,
    /// When a leader was last heard.
    pub(crate) contact: Arc<Contact>,
    /// Knows who may call.
    pub(crate) guard: Arc<Guard>,
    /// Held while the membership is changed from this node.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

/// A read index cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadIndexError {
    #[error("no leader is known")]
    NoLeader,
    #[error("the leader could not confirm itself with a quorum: {0}")]
    NotConfirmed(String),
    #[error("the leader, node {leader}, could not be asked: {reason}")]
    Unreachable { leader: u64, reason: String },
}

/// A proposal that did not come to be an entry, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposalError {
    /// It never entered the log: nothing will come of it.
    #[error("not proposed: {0}")]
    NotProposed(String),
    /// It entered the log, and leadership was lost before it was committed here. It may be committed yet.
    #[error("leadership was lost while the record was in flight")]
    Unknown,
}

/// A record on its way. Resolves when its entry is committed and applied.
pub(crate) struct Proposal(
    pub(crate) tokio::sync::oneshot::Receiver<openraft::raft::ClientWriteResult<crate::types::TypeConfig>>,
);

impl Future for Proposal {
    type Output = Result<(LogId, Applied), ProposalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| match answer {
            Ok(Ok(written)) => Ok((crate::types::from_raft_id(&written.log_id), written.data)),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(ProposalError::Unknown),
        })
    }
}

fn refused(error: openraft::errors::ClientWriteError<crate::types::TypeConfig>) -> ProposalError {
    use openraft::errors::ClientWriteError as E;
    match error {
        E::LogEntryDiscarded(_) => ProposalError::Unknown,
        // openraft: "rejected before its entry was appended".
        E::ForwardToLeader(forward) => ProposalError::NotProposed(format!("{:?}", forward.reason)),
        E::ChangeMembershipError(error) => ProposalError::NotProposed(error.to_string()),
        E::PreconditionFailed(error) => ProposalError::NotProposed(error.to_string()),
    }
}

impl Core {
    /// Who leads, as this node sees it: itself, or whoever it has lately heard.
    pub(crate) fn leader(&self) -> Option<(u64, u64)> {
        let now = *self.leadership.borrow();
        now.leader.map(|leader| (leader, now.term))
    }

    /// The term this node leads in; `None` where it does not lead.
    pub(crate) fn leading_term(&self) -> Option<u64> {
        let now = *self.leadership.borrow();
        now.is_local.then_some(now.term)
    }

    /// Client address of the leader, where known and not empty.
    pub(crate) fn leader_client_address(&self) -> Option<String> {
        let (leader, _) = self.leader()?;
        let roster = self.roster.view();
        let address = self.peers.book().client_address(leader, roster.member(leader)?);
        (!address.is_empty()).then(|| address.to_owned())
    }

    /// Puts a record into the log of the term this node leads. Proposals enter in the order of these calls; the returned
    /// future resolves once the entry is committed and applied.
    pub(crate) async fn propose(&self, term: u64, record: Bytes) -> Result<Proposal, ProposalError> {
        use openraft::impls::ProgressResponder;
        if planted::is(Planted::RefuseOne)
            && let Some(refused) = planted::refused_behind()
        {
            return Ok(refused);
        }
        let (responder, complete) = ProgressResponder::complete_only();
        self.raft
            .write(crate::types::RecordBytes(record))
            .with_leader(term)
            .responder(responder)
            .await
            .map_err(|fatal| ProposalError::NotProposed(fatal.to_string()))?;
        Ok(Proposal(complete))
    }

    /// Everything acknowledged before this call began is at or before the answer. The leader confirms itself with a quorum
    /// first; another node asks it. Callers that come together should share one call.
    pub(crate) async fn read_index(&self, at_most: Duration) -> Result<LogId, ReadIndexError> {
        crate::network::read_index(self, at_most).await
    }

    /// As [`Core::read_index`], only where this node leads.
    pub(crate) async fn local_read_index(&self) -> Result<LogId, ReadIndexError> {
        use openraft::ReadPolicy;
        let linearizer = self
            .raft
            .get_read_linearizer(ReadPolicy::ReadIndex)
            .await
            .map_err(|error| ReadIndexError::NotConfirmed(error.to_string()))?;
        Ok(crate::types::from_raft_id(linearizer.read_log_id().log_id()))
    }

    /// The last moment a leader confirmed that nothing after `index` was committed; `None` if it never did since this node
    /// started, or what was last heard is beyond `index`.
    pub(crate) fn confirmed_at(&self, index: u64) -> Option<UnixNanos> {
        let Some(term) = self.leading_term() else { return self.contact.confirmed_at(index) };
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // Before the term's first commit a leader may not know of all that its predecessor acknowledged.
        let committed = metrics.local_committed.as_ref().map(crate::types::from_raft_id);
        let is_newest = committed.is_some_and(|committed| committed.term == term && committed.index <= index);
        let acked = metrics.last_quorum_acked.filter(|_| is_newest)?;
        let ago = UnixNanos::try_from(acked.elapsed().as_nanos()).unwrap_or(UnixNanos::MAX);
        Some(self.clock.now().saturating_sub(ago))
    }

    /// This node's disk is full, or that peer lately said that its own is.
    pub(crate) fn is_disk_full(&self, id: u64) -> bool {
        if id == self.id { self.chronicle.is_disk_full() } else { self.full.lock().contains(&id) }
    }

    /// This node must take no new commands if it leads: its own disk is full, whoever else has space, or so many others' are
    /// that no quorum has.
    pub(crate) fn lacks_space(&self) -> bool {
        if self.chronicle.is_disk_full() || self.full.lock().is_empty() {
            return self.chronicle.is_disk_full();
        }
        let has_space = |voters: &BTreeSet<u64>| {
            let with_space = voters.iter().filter(|id| !self.is_disk_full(**id)).count();
            with_space >= crate::placement::quorum(voters.len())
        };
        !self.roster.view().configs.iter().all(has_space)
    }

    /// A quorum answered this leader within an election timeout, or this node has lately heard its leader.
    pub(crate) fn is_leader_confirmed(&self) -> bool {
        if self.leading_term().is_some() {
            let within = Duration::from_millis(self.options.timings.election_max_ms);
            let metrics = self.raft.metrics();
            let acked = metrics.borrow_watched().last_quorum_acked;
            return acked.is_some_and(|acked| acked.elapsed() <= within) || self.is_only_voter();
        }
        self.leader().is_some()
    }

    /// Nobody else is asked, so nobody answers.
    fn is_only_voter(&self) -> bool {
        self.roster.view().voters().iter().eq([&self.id])
    }

    /// A client for another node, with our identity and theirs on every call. `at_most` is the deadline of each call.
    pub(crate) fn peer(&self, node_id: u64, at_most: Duration) -> Result<PeerClient, PeerUnavailable> {
        self.peers.client(node_id, &self.roster.view(), at_most)
    }
}
