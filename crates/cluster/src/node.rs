//! One running node.

mod follow;
mod open;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use prost::Message as _;
use sillok_wire::{peer::forward_membership_request::Request, v1};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tonic::Status;

use crate::{clocks, core::Core, execute::Front, failure::Failure, handover, membership, options::NodeOptions, status};

pub use open::StartError;

/// Answers in flight are waited for this long before leadership is handed over.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);
/// Consensus, the sequencer, the tasks and the files together have this long to end; a disk that stalls may take longer.
const END_WITHIN: Duration = Duration::from_secs(4);

/// A running node. Clones are the same node; it runs until [`Node::shutdown`] or its [`Failure`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    front: Arc<Front>,
    health: watch::Receiver<Health>,
    /// The address peers really connect to.
    peer_listen: SocketAddr,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What this node can answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Stale reads: the views are open and folding has not stopped.
    pub stale_reads: bool,
    /// A leader is confirmed: writes and linearizable reads can be answered.
    pub leader_confirmed: bool,
}

impl Node {
    /// Opens the chronicle and the views, starts consensus and listens for peers. Formats an empty data directory.
    ///
    /// # Errors
    /// Where the node cannot take part; nothing of the chronicle was changed then but what recovery cuts.
    pub async fn start(options: NodeOptions) -> Result<Node, StartError> {
        let opened = open::open(options).await?;
        let core = opened.core;
        let front = Front::start(core.clone()).map_err(|source| StartError::Thread { source })?;
        let front = Arc::new(front);
        let (health_sender, health) = watch::channel(Health::default());
        let mut tasks = JoinSet::new();
        let failures = &core.failures;
        tasks.spawn(follow::guarded("health", failures, follow::health(core.clone(), front.clone(), health_sender)));
        tasks.spawn(follow::guarded("peers", failures, serve_peers(core.clone(), front.clone(), opened.listener)));
        tasks.spawn(follow::guarded("metrics", failures, crate::telemetry::publish(core.clone(), front.clone())));
        tasks.spawn(follow::guarded("disk watch", failures, handover::watch_own_disk(core.clone())));
        tasks.spawn(follow::guarded("clocks", failures, clocks::keep_comparing(core.clone())));
        tasks.spawn(follow::guarded("scrub", failures, crate::scrub::keep_scrubbing(core.clone())));
        tasks.spawn(follow::guarded("membership", failures, membership::keep_in_order(core.clone())));
        tasks.spawn(follow::guarded("bootstrap", failures, crate::bootstrap::form_initial(core.clone())));
        let inner =
            Inner { core, front, health, peer_listen: opened.peer_listen, tasks: tokio::sync::Mutex::new(tasks) };
        Ok(Node { inner: Arc::new(inner) })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn front(&self) -> &Arc<Front> {
        &self.inner.front
    }

    /// This node's id.
    pub fn id(&self) -> u64 {
        self.inner.core.id
    }

    /// This node's site.
    pub fn site(&self) -> &str {
        &self.inner.core.site
    }

    /// Where peers connect; the port in it is the real one where 0 was asked for.
    pub fn peer_listen(&self) -> SocketAddr {
        self.inner.peer_listen
    }

    /// `host:port` of the leader's client port, where it is known: the value of the response metadata `sillok-leader`.
    pub fn leader_client_address(&self) -> Option<String> {
        self.inner.core.leader_client_address()
    }

    /// Who belongs, who leads, how far each node is. Needs no leader.
    pub async fn status(&self) -> v1::GetStatusResponse {
        status::status(&self.inner.core, &self.inner.front).await
    }

    /// What losing each site now would mean, of what is known here. Needs no leader.
    pub async fn what_if(&self) -> v1::WhatIfResponse {
        status::what_if(&self.inner.core).await
    }

    /// Forms a cluster of blank nodes, this one among them.
    ///
    /// # Errors
    /// `PLACEMENT_REFUSED`, `ALREADY_INITIALIZED`, and unreachable or foreign nodes by name.
    pub async fn initialize(&self, request: v1::InitializeRequest) -> Result<v1::InitializeResponse, Status> {
        membership::initialize(&self.inner.core, request).await
    }

    /// Adds a blank node as a learner, waits until it has caught up, and makes it a voter unless `learner_only`. Any node
    /// forwards to the leader. A call that is given up goes on as far as the learner; promote it later.
    ///
    /// # Errors
    /// `PLACEMENT_REFUSED`, `NODE_MISMATCH`, `CLUSTER_MISMATCH`, `MEMBERSHIP_CHANGE_IN_PROGRESS`, `NO_LEADER`.
    pub async fn add_node(&self, request: v1::AddNodeRequest) -> Result<v1::MembershipResponse, Status> {
        membership::change(&self.inner.core, Request::AddNode(request.encode_to_vec().into())).await
    }

    /// Makes a learner a voter, once it has caught up.
    ///
    /// # Errors
    /// As [`Node::add_node`], `NODE_NOT_FOUND`, and `NOT_READY` with `lag_entries` while it is behind.
    pub async fn promote_node(&self, request: v1::PromoteNodeRequest) -> Result<v1::MembershipResponse, Status> {
        membership::change(&self.inner.core, Request::PromoteNode(request.encode_to_vec().into())).await
    }

    /// Removes a voter or a learner; its id is never used again.
    ///
    /// # Errors
    /// As [`Node::promote_node`].
    pub async fn remove_node(&self, request: v1::RemoveNodeRequest) -> Result<v1::MembershipResponse, Status> {
        membership::change(&self.inner.core, Request::RemoveNode(request.encode_to_vec().into())).await
    }

    /// Puts a blank node in a voter's place: it learns, is waited for, and takes the vote in the one change that removes the
    /// other. May be repeated whatever became of an earlier call.
    ///
    /// # Errors
    /// As [`Node::add_node`], and `NODE_NOT_FOUND` where there is no such voter.
    pub async fn replace_node(&self, request: v1::ReplaceNodeRequest) -> Result<v1::MembershipResponse, Status> {
        membership::change(&self.inner.core, Request::ReplaceNode(request.encode_to_vec().into())).await
    }

    /// Moves leadership to a voter, or away from a site, and waits until it has moved.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` where there is no such voter or site, `NOT_READY` where the target does not answer or is behind (with
    /// `lag_entries`), or another node was elected instead, `NO_LEADER`.
    pub async fn transfer_leadership(
        &self,
        request: v1::TransferLeadershipRequest,
    ) -> Result<v1::MembershipResponse, Status> {
        membership::change(&self.inner.core, Request::TransferLeadership(request.encode_to_vec().into())).await
    }

    /// Follows what this node can answer.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.clone()
    }

    /// Resolves when the node must stop. [`Node::shutdown`] is still called then.
    pub fn failure(&self) -> impl Future<Output = Failure> + Send + 'static + use<> {
        let failures = self.inner.core.failures.clone();
        async move { failures.wait().await }
    }

    /// Takes no more commands, answers those in flight and hands leadership over. Reads go on. Takes 2 s and three election
    /// timeouts at most; called again, it finds its work done.
    pub async fn retire(&self) {
        let core = &self.inner.core;
        if core.failures.reported().is_some() || core.stopping.is_cancelled() {
            return;
        }
        if timeout(DRAIN_WITHIN, self.inner.front.drain()).await.is_err() {
            tracing::warn!("stopping with unanswered commands; whether they are recorded is unknown to their clients");
        }
        let at_most = Duration::from_millis(core.options.timings.election_max_ms * 3);
        handover::hand_over(core, at_most, "this node is stopping").await;
    }

    /// [`Node::retire`], then ends every stream, persists, closes, which takes 4 s at most: where a disk stalls for longer,
    /// that is said and the process may end as if it were killed, which loses nothing acknowledged. Idempotent.
    pub async fn shutdown(&self) {
        let core = &self.inner.core;
        let mut tasks = self.inner.tasks.lock().await;
        if core.stopping.is_cancelled() && tasks.is_empty() {
            return;
        }
        self.retire().await;
        core.stopping.cancel();
        let end = Instant::now() + END_WITHIN;
        match timeout_at(end, core.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("consensus did not end cleanly: {error}"),
            Err(_) => tracing::warn!("consensus has not ended within {END_WITHIN:?}; is the disk stalled?"),
        }
        core.senders.close();
        if timeout_at(end, core.senders.wait()).await.is_err() {
            tracing::warn!("what is sent to other nodes has not ended in time");
        }
        if timeout_at(end, self.inner.front.stop()).await.is_err() {
            tracing::warn!("the sequencer has not ended in time");
        }
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if timeout_at(end, all_ended).await.is_err() {
            tasks.shutdown().await;
        }
        let (views, chronicle) = (core.views.clone(), core.chronicle.clone());
        let closed = core.options.execution.blocking(move || {
            views.close();
            chronicle.close();
        });
        match timeout_at(end, closed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("closing the views and the chronicle failed: {error}"),
            Err(_) => tracing::error!(
                "the chronicle is not closed within {END_WITHIN:?}: the disk does not answer; what was acknowledged is at \
                 a quorum, the rest is as after a kill"
            ),
        }
    }
}

async fn serve_peers(core: Arc<Core>, front: Arc<Front>, listener: crate::peer_service::PeerListener) {
    if let Err(error) = crate::peer_service::serve(core.clone(), front, listener).await {
        core.failures.report(Failure::new(
            crate::failure::FailureKind::Internal,
            format!("the peer port has stopped: {error}; start this node again"),
        ));
    }
}
