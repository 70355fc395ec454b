//! The peer port: what other nodes ask of this one.

use std::{collections::VecDeque, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use prost::Message as _;
use sillok_chronicle::Epoch;
use sillok_wire::{
    errors::Problem,
    peer::{self, peer_server, raft_server},
    v1::Reason,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use crate::{
    bootstrap,
    chain::ChainError,
    clocks,
    core::{Core, ReadIndexError},
    execute::Front,
    log_store::chain_failure,
    membership,
    network::{CONNECTION_WINDOW_BYTES, Heard, Incoming, MAX_MESSAGE_BYTES, STREAM_WINDOW_BYTES, convert},
    options::NodeOptions,
    repair, scrub, status,
    types::{TypeConfig, from_raft_id},
};

/// Streams of one connection at once: a peer needs a handful.
const STREAMS_PER_CONNECTION: u32 = 256;
/// A peer that answers no ping for this long is gone.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves peers until the node stops. Calls under way end with their streams.
pub(crate) async fn serve(
    core: Arc<Core>,
    front: Arc<Front>,
    listener: PeerListener,
) -> Result<(), tonic::transport::Error> {
    let stopping = core.stopping.clone();
    let raft = raft_server::RaftServer::new(RaftService { core: core.clone() })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let peers = peer_server::PeerServer::new(PeerService { core, front })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let router = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        // Calls given up all at once must not cost the connection that the log travels on.
        .http2_max_pending_accept_reset_streams(Some(STREAMS_PER_CONNECTION as usize))
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(raft)
        .add_service(peers);
    let stopped = stopping.cancelled_owned();
    match listener {
        PeerListener::Tcp(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, stopped).await
        }
        PeerListener::Given(incoming) => router.serve_with_incoming_shutdown(incoming, stopped).await,
    }
}

/// Where peers connect.
pub(crate) enum PeerListener {
    Tcp(TcpListener),
    Given(Incoming),
}

impl PeerListener {
    /// Listens; the address with the real port.
    pub(crate) async fn bind(options: &NodeOptions) -> io::Result<(PeerListener, SocketAddr)> {
        let address = options.peer_listen;
        if let Some(transport) = &options.transport {
            return Ok((PeerListener::Given(transport.listen(address).await?), address));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((PeerListener::Tcp(listener), address))
    }
}

struct RaftService {
    core: Arc<Core>,
}

/// One append stream as its reading and its answering half share it.
struct Inbound {
    core: Arc<Core>,
    requests: Streaming<peer::AppendRequest>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The leader's words that consensus has not yet answered, in order.
    unanswered: Mutex<VecDeque<Heard>>,
    /// Why reading ended, where it must not.
    broken: Mutex<Option<Status>>,
}

impl Inbound {
    /// The next request, once it has been compared with what stands here.
    async fn next(mut self) -> Option<(AppendEntriesRequest<TypeConfig>, Inbound)> {
        let taken = match self.requests.message().await {
            Ok(Some(request)) => {
                let heard = Heard::of(&request, self.core.clock.now());
                accept(&self.core, request, true).await.map(|request| (request, heard))
            }
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        match taken {
            Ok((request, heard)) => {
                self.shared.unanswered.lock().push_back(heard);
                Some((request, self))
            }
            Err(status) => {
                *self.shared.broken.lock() = Some(status);
                None
            }
        }
    }
}

/// openraft's form of a request whose chain does not contradict ours. A contradiction stops this node.
async fn accept(
    core: &Arc<Core>,
    request: peer::AppendRequest,
    may_read: bool,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let head = <[u8; 32]>::try_from(&request.prev_chain_head[..]).ok();
    let request = convert::append_from(request)?;
    if let (Some(head), Some(prev)) = (head, request.prev_log_id.as_ref().map(from_raft_id)) {
        let compared = if core.chain.is_near(prev.index) {
            core.chain.expect(prev, head)
        } else if may_read {
            let chain = core.chain.clone();
            let compared = core.options.execution.blocking(move || chain.expect(prev, head)).await;
            compared.map_err(|error| Status::internal(error.to_string()))?
        } else {
            Ok(())
        };
        compared.map_err(|error| contradicted(core, &error))?;
    }
    Ok(request)
}

fn contradicted(core: &Core, error: &ChainError) -> Status {
    core.failures.report(chain_failure(error));
    Status::data_loss(error.to_string())
}

#[tonic::async_trait]
impl raft_server::Raft for RaftService {
    type AppendStream = BoxStream<'static, Result<peer::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.core.guard.verify(request.metadata())?;
        let shared = Arc::new(Shared::default());
        let inbound = Inbound { core: self.core.clone(), requests: request.into_inner(), shared: shared.clone() };
        let requests = stream::unfold(inbound, Inbound::next).take_until(self.core.stopping.clone().cancelled_owned());
        let core = self.core.clone();
        let answers = self.core.raft.stream_append(requests).map({
            let shared = shared.clone();
            move |answer| {
                let answer = answer.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
                // One answer a request, in order.
                let heard = shared.unanswered.lock().pop_front();
                if let Some(heard) = heard
                    && answer.is_ok()
                {
                    core.contact.accepted(heard);
                }
                Ok(convert::appended_to(answer))
            }
        });
        let ending =
            stream::once(async move { shared.broken.lock().take() }).filter_map(async |broken| broken.map(Err));
        Ok(Response::new(answers.chain(ending).boxed()))
    }

    async fn heartbeat(&self, request: Request<peer::AppendRequest>) -> Result<Response<peer::AppendResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        let request = request.into_inner();
        let heard = Heard::of(&request, self.core.clock.now());
        let request = accept(&self.core, request, false).await?;
        let answers = self.core.raft.stream_append(stream::iter([request]));
        let mut answers: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(answers);
        let answer = answers
            .next()
            .await
            .ok_or_else(|| Status::unavailable("this node is stopping"))?
            .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        if answer.is_ok() {
            self.core.contact.accepted(heard);
        }
        Ok(Response::new(convert::appended_to(answer)))
    }

    async fn vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        let request = convert::vote_request_from(request.into_inner())?;
        let answer = self.core.raft.vote(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(convert::vote_response_to(&answer)))
    }

    async fn pre_vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        let request = convert::vote_request_from(request.into_inner())?;
        let answer = self.core.raft.pre_vote(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(convert::vote_response_to(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        if let Some(by) = self.core.clocks.off() {
            tracing::info!("did not take leadership over: this node's clock is {}", clocks::off(by));
            return Ok(Response::new(peer::TransferLeaderResponse { accepted: false }));
        }
        let request = convert::transfer_from(request.into_inner())?;
        let answer = self
            .core
            .raft
            .handle_transfer_leader(request)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        if let Err(refused) = &answer {
            tracing::info!("did not take leadership over: {refused}");
        }
        Ok(Response::new(peer::TransferLeaderResponse { accepted: answer.is_ok() }))
    }
}

struct PeerService {
    core: Arc<Core>,
    front: Arc<Front>,
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    async fn hello(&self, _request: Request<peer::HelloRequest>) -> Result<Response<peer::HelloResponse>, Status> {
        Ok(Response::new(bootstrap::hello(&self.core)))
    }

    async fn adopt(&self, request: Request<peer::AdoptRequest>) -> Result<Response<peer::AdoptResponse>, Status> {
        self.core.guard.verify_addressee(request.metadata())?;
        let request = request.into_inner();
        let cluster_id = <[u8; 16]>::try_from(&request.cluster_id[..])
            .map_err(|_| Status::invalid_argument("a cluster's id has 16 bytes"))?;
        let epoch = Epoch { number: request.epoch, token: request.epoch_token };
        bootstrap::adopt_here(&self.core, cluster_id, epoch)
            .await
            .map_err(|error| Status::from(Problem::new(Reason::ClusterMismatch, error.to_string())))?;
        Ok(Response::new(peer::AdoptResponse {}))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        let id = self.front.serve_read_index().await.map_err(|error: ReadIndexError| {
            Status::from(Problem::new(Reason::NoLeader, error.to_string()).outcome(None))
        })?;
        let read_log_id = Some(peer::LogId { term: id.term, index: id.index });
        Ok(Response::new(peer::ReadIndexResponse { read_log_id }))
    }

    type ExecuteStream = BoxStream<'static, Result<peer::ExecuteResponse, Status>>;

    async fn execute(
        &self,
        request: Request<Streaming<peer::ExecuteRequest>>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        self.core.guard.verify(request.metadata())?;
        Ok(Response::new(self.front.serve_execute(request.into_inner()).boxed()))
    }

    async fn forward_membership(
        &self,
        request: Request<peer::ForwardMembershipRequest>,
    ) -> Result<Response<peer::ForwardMembershipResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        let change = request.into_inner().request.ok_or_else(|| Status::invalid_argument("no change was named"))?;
        // Never passed on: two nodes that take each other for the leader must not play ball.
        if self.core.leading_term().is_none() {
            return Err(Problem::new(Reason::NoLeader, "this node no longer leads; nothing was changed").into());
        }
        let response = membership::change_here(&self.core, change).await?;
        Ok(Response::new(peer::ForwardMembershipResponse { response: response.encode_to_vec().into() }))
    }

    type ReadFramesStream = BoxStream<'static, Result<peer::ReadFramesResponse, Status>>;

    async fn read_frames(
        &self,
        request: Request<peer::ReadFramesRequest>,
    ) -> Result<Response<Self::ReadFramesStream>, Status> {
        let caller = self.core.guard.verify(request.metadata())?;
        let frames = repair::frames_here(&self.core, caller, request.into_inner()).await?;
        Ok(Response::new(frames.take_until(self.core.stopping.clone().cancelled_owned()).boxed()))
    }

    async fn progress(
        &self,
        request: Request<peer::ProgressRequest>,
    ) -> Result<Response<peer::ProgressResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        Ok(Response::new(status::progress_here(&self.core)))
    }

    async fn vitals(&self, request: Request<peer::VitalsRequest>) -> Result<Response<peer::VitalsResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        let (clock_unix_nanos, disk_full) = (self.core.clock.now(), self.core.chronicle.is_disk_full());
        let scrub = Some(self.core.scrub.status());
        Ok(Response::new(peer::VitalsResponse { clock_unix_nanos, disk_full, scrub }))
    }

    async fn digests(&self, request: Request<peer::DigestsRequest>) -> Result<Response<peer::DigestsResponse>, Status> {
        self.core.guard.verify(request.metadata())?;
        Ok(Response::new(scrub::digests_here(&self.core, request.into_inner())?))
    }
}
