//! openraft's messages over gRPC.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    alias::{SnapshotOf, VoteOf},
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
        TransferLeaderRequest, VoteRequest, VoteResponse,
    },
};

use sillok_wire::peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::Status;

use super::{
    channels::{Lane, Peers, RaftClient},
    convert,
    departures::Departures,
    fence::Fence,
    identity::NodeIdentity,
    unanswered::Unanswered,
};
use crate::{
    acks::Acks,
    chain::{Chain, ChainState, HeadAt},
    execution::Execution,
    options::{Clock, Timings},
    types::{LogId, Member, RaftEntry, RaftLogId, TypeConfig, from_raft_id, to_stored},
};

/// Append requests between openraft and the connection; the connection's window bounds what is on the way.
const QUEUED_REQUESTS: usize = 16;

/// Makes a [`PeerNetwork`] for each peer.
#[derive(Clone)]
pub(crate) struct NetworkFactory {
    pub(crate) peers: Arc<Peers>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) acks: Arc<Acks>,
    pub(crate) timings: Timings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) execution: Execution,
    pub(crate) fence: Arc<Fence>,
    pub(crate) unanswered: Arc<Unanswered>,
    pub(crate) departures: Arc<Departures>,
    pub(crate) stopping: CancellationToken,
    /// Empty once nothing can send any more: openraft does not wait for those who replicate when it ends.
    pub(crate) senders: TaskTracker,
}

impl NetworkFactory {
    fn network(&self, target: u64, member: &Member, lane: Lane) -> PeerNetwork {
        let member = self.peers.book().correct(target, member);
        PeerNetwork {
            to: NodeIdentity { id: target, incarnation: member.incarnation },
            address: member.peer_address,
            lane,
            parts: self.clone(),
            _sender: self.senders.token(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, member: &Member) -> PeerNetwork {
        self.network(target, member, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> PeerNetwork {
        self.network(target, member, Lane::Quick)
    }
}

/// One peer, as openraft sees it.
pub(crate) struct PeerNetwork {
    to: NodeIdentity,
    address: String,
    lane: Lane,
    parts: NetworkFactory,
    _sender: TaskTrackerToken,
}

type RpcError = RPCError<TypeConfig>;
type Responses<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>;

fn unreachable(reason: impl ToString) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

impl PeerNetwork {
    fn failed(&self, status: &Status) -> RpcError {
        self.parts.fence.heard(status);
        unreachable(format!("{:?}: {}", status.code(), status.message()))
    }

    /// Gives the call up when this node stops: an entry that arrives when its leader is gone may be committed by others, long
    /// after clients were told that they do not know.
    async fn unless_stopping<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, RpcError> {
        match self.parts.stopping.run_until_cancelled(call).await {
            Some(answer) => answer.map_err(|status| self.failed(&status)),
            None => Err(unreachable("this node is stopping")),
        }
    }

    fn client(&self, lane: Lane, deadline: Duration) -> Result<RaftClient, RpcError> {
        self.parts.peers.raft_client(self.to, &self.address, lane, deadline).map_err(unreachable)
    }

    /// The head at the request's predecessor where it is in memory; a heartbeat never reads the disk.
    fn head_in_memory(&self, prev: Option<&RaftLogId>) -> Option<[u8; 32]> {
        let prev = from_raft_id(prev?);
        let (here, _, state) = self.parts.chain.link(prev.index)?;
        (here == prev).then_some(state.head)
    }

    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        deadline: Duration,
    ) -> Result<StreamAppendResult<TypeConfig>, RpcError> {
        let sent_at = self.parts.clock.now();
        self.parts.unanswered.asked(self.to.id, request.vote.leader_id.term);
        let head = self.head_in_memory(request.prev_log_id.as_ref());
        let mut client = self.client(Lane::Quick, deadline)?;
        let request = convert::append_to(&request, head, sent_at);
        let response = self.unless_stopping(client.heartbeat(request)).await?.into_inner();
        self.parts.unanswered.answered(self.to.id);
        convert::appended_from(response).map_err(unreachable)
    }

    /// Heartbeats one by one, each with its deadline.
    fn heartbeats<'s, S>(&'s self, input: S, deadline: Duration) -> Responses<'s>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        input.then(move |request| self.heartbeat(request, deadline)).boxed()
    }

    /// Append requests over one stream, as many on the way as the windows hold; answers in order.
    async fn pipeline<'s, S>(&'s self, input: S) -> Result<Responses<'s>, RpcError>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let progress = Arc::new(Progress::default());
        let (to_peer, mut requests) = mpsc::channel(QUEUED_REQUESTS);
        // openraft holds a lock inside `input` while it waits for entries, so `input` must end with this stream whatever
        // the connection does: it lives in a task of its own that is aborted when the answers are dropped.
        let pump = pump(input, self.parts.clone(), progress.clone(), to_peer);
        let pump = AbortOnDrop(tokio::spawn(self.parts.stopping.clone().run_until_cancelled_owned(pump)));
        // After a failure openraft pauses within `input` and nowhere else: whoever opens the stream before there is a first
        // request calls a peer that refuses connections again and again without a pause.
        let Some(first) = requests.recv().await else { return Ok(futures::stream::empty().boxed()) };
        self.parts.unanswered.may_append(self.to.id, progress.term.load(Ordering::Acquire)).map_err(|silent| {
            unreachable(format!(
                "it has answered nothing for {} ms; a leader that hears nobody falls silent",
                silent.as_millis()
            ))
        })?;
        let requests = futures::stream::iter([first]).chain(ReceiverStream::new(requests));
        let mut client = self.client(Lane::Bulk, self.parts.timings.rpc_deadline())?;
        let answers = self.unless_stopping(client.append(requests)).await?.into_inner();
        let session = Session { answers, progress, answered: 0, _pump: pump };
        Ok(futures::stream::unfold(Some(session), move |session| self.next_answer(session)).boxed())
    }

    async fn next_answer(
        &self,
        session: Option<Session>,
    ) -> Option<(Result<StreamAppendResult<TypeConfig>, RpcError>, Option<Session>)> {
        let mut session = session?;
        let deadline = self.parts.timings.append_deadline();
        let answer = loop {
            match tokio::time::timeout(deadline, session.answers.message()).await {
                Ok(answer) => break answer,
                Err(_) if session.answered == session.progress.sent.load(Ordering::Acquire) => {}
                Err(_) => return Some((Err(unreachable(format!("no answer to an append within {deadline:?}"))), None)),
            }
        };
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return None,
            Err(status) => return Some((Err(self.failed(&status)), None)),
        };
        session.answered += 1;
        self.parts.unanswered.answered(self.to.id);
        let result = match convert::appended_from(answer) {
            Ok(result) => result,
            Err(bad) => return Some((Err(unreachable(bad)), None)),
        };
        // Before openraft sees it, and so before it can commit by it.
        if let Ok(Some(matched)) = &result {
            let term = session.progress.term.load(Ordering::Acquire);
            self.parts.acks.note_follower(term, self.to.id, matched.index());
        }
        Some((Ok(result), Some(session)))
    }
}

/// One append stream.
struct Session {
    answers: tonic::Streaming<peer::AppendResponse>,
    progress: Arc<Progress>,
    answered: u64,
    _pump: AbortOnDrop,
}

#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    /// Of the leader that sends.
    term: AtomicU64,
}

struct AbortOnDrop(tokio::task::JoinHandle<Option<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Puts the chain's head and the time on each request and hands it to the connection.
async fn pump<S>(
    mut input: S,
    parts: NetworkFactory,
    progress: Arc<Progress>,
    to_peer: mpsc::Sender<peer::AppendRequest>,
) where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    let mut cursor = Cursor { chain: parts.chain, execution: parts.execution, at: None };
    let mut departure = parts.departures.listen();
    loop {
        departure.looks();
        // Before the request is made and reads what is committed, which may be a backoff before it comes out here. While
        // nothing is sent for long, heartbeats speak for later moments.
        let sent_at = parts.clock.now();
        let Some(request) = input.next().await else { return };
        let head = cursor.head_before(&request).await;
        progress.term.store(request.vote.leader_id.term, Ordering::Release);
        progress.sent.fetch_add(1, Ordering::AcqRel);
        let end = request.entries.last().map(|entry| &entry.log_id).or(request.prev_log_id.as_ref()).map(from_raft_id);
        if to_peer.send(convert::append_to(&request, head, sent_at)).await.is_err() {
            return;
        }
        if cursor.chain.ends_at(end) {
            departure.wait().await;
        }
    }
}

/// The chain's head after what was sent last, so that a stream through old entries costs no second reading.
struct Cursor {
    chain: Arc<Chain>,
    execution: Execution,
    at: Option<(LogId, ChainState)>,
}

impl Cursor {
    /// The head at the request's predecessor, and the cursor moved past its entries. `None`: the receiver cannot compare.
    async fn head_before(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Option<[u8; 32]> {
        let before = match request.prev_log_id.as_ref().map(from_raft_id) {
            Some(prev) => self.state_at(prev).await,
            None => Some(ChainState::default()),
        };
        self.advance(before, &request.entries);
        before.filter(|_| request.prev_log_id.is_some()).map(|state| state.head)
    }

    async fn state_at(&self, id: LogId) -> Option<ChainState> {
        if let Some((at, state)) = self.at
            && at == id
        {
            return Some(state);
        }
        if let Some((here, _, state)) = self.chain.link(id.index) {
            return (here == id).then_some(state);
        }
        let chain = self.chain.clone();
        let head = self.execution.blocking(move || chain.head_at(id)).await;
        match head {
            Ok(Ok(HeadAt::Known(head))) => Some(ChainState { head, ..ChainState::default() }),
            Ok(Ok(HeadAt::Absent | HeadAt::OtherEntry)) => None,
            Ok(Err(error)) => {
                tracing::warn!("the head of the chain at entry {id} is not known and not sent: {error}");
                None
            }
            Err(_) => None,
        }
    }

    fn advance(&mut self, before: Option<ChainState>, entries: &[RaftEntry]) {
        let Some(last) = entries.last() else { return };
        let id = from_raft_id(&last.log_id);
        if let Some((here, _, state)) = self.chain.link(id.index) {
            self.at = (here == id).then_some((id, state));
            return;
        }
        self.at = before.and_then(|mut state| {
            for entry in entries {
                let stored = to_stored(entry);
                state.step(stored.kind, &stored.payload).ok()?;
            }
            Some((id, state))
        });
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        Ok(self.heartbeat(request, option.soft_ttl()).await?.into())
    }

    fn stream_append<'s, S>(&'s mut self, input: S, option: RPCOption) -> BoxFuture<'s, Result<Responses<'s>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            match self.lane {
                Lane::Quick => Ok(self.heartbeats(input, option.hard_ttl())),
                Lane::Bulk => self.pipeline(input).await,
            }
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client(Lane::Quick, self.parts.timings.rpc_deadline())?;
        let response = self.unless_stopping(client.vote(convert::vote_request_to(&request))).await?.into_inner();
        convert::vote_response_from(response).map_err(unreachable)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client(Lane::Quick, self.parts.timings.rpc_deadline())?;
        let response = self.unless_stopping(client.pre_vote(convert::vote_request_to(&request))).await?.into_inner();
        convert::vote_response_from(response).map_err(unreachable)
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<TypeConfig>,
        _snapshot: SnapshotOf<TypeConfig, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(StreamingError::Unreachable(Unreachable::from_string(
            "there are no snapshots: a node that is far behind is served from the log",
        )))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<Result<(), TransferLeaderError<TypeConfig>>, RpcError> {
        let mut client = self.client(Lane::Quick, self.parts.timings.rpc_deadline())?;
        let accepted = client
            .transfer_leader(convert::transfer_to(&request))
            .await
            .map_err(|status| self.failed(&status))?
            .into_inner()
            .accepted;
        if accepted {
            return Ok(Ok(()));
        }
        let expected = request.last_log_id().cloned();
        Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: None }))
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}
