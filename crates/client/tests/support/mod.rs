//! Nodes that do what a test tells them: a real gRPC server each, over one ledger for all.

// Each test binary uses its own part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::TcpListener,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use prost::Message as _;
use sillok_client::v1;
use sillok_wire::{
    errors::{self, Problem},
    v1::Reason,
};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::Grpc,
};
use tonic_prost::ProstCodec;

/// What all nodes together have recorded, and the events they show.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: Mutex<Vec<String>>,
    revisions: Mutex<HashMap<String, u64>>,
}

impl Ledger {
    fn record(&self, key: &str) -> v1::Receipt {
        let mut keys = self.keys.lock();
        let mut revisions = self.revisions.lock();
        let is_retry = revisions.contains_key(key);
        let revision = *revisions.entry(key.to_owned()).or_insert_with(|| {
            keys.push(key.to_owned());
            keys.len() as u64
        });
        let durability = v1::Durability { is_retry, ..Default::default() };
        v1::Receipt { revision, durability: Some(durability), ..Default::default() }
    }

    /// The keys in the order in which they were recorded.
    pub fn keys(&self) -> Vec<String> {
        self.keys.lock().clone()
    }
}

/// What becomes of one command, or of one event that is read.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It is recorded and answered.
    Answer,
    /// It is answered with this; nothing is recorded. In a stream it is one answer of many.
    Say(Status),
    /// Nothing is recorded, and the call or the stream ends so.
    Break(Status),
    /// It is recorded, and the call or the stream ends so.
    RecordAndBreak(Status),
    /// It is never answered.
    Hang,
}

/// A definite no of the domain.
pub fn refusal() -> Status {
    Problem::new(Reason::AlreadyFriend, "u-1 is a friend already").with("friend_number", 1).into()
}

/// There is no leader now.
pub fn no_leader() -> Problem {
    Problem::new(Reason::NoLeader, "no leader is known")
}

/// What gRPC libraries say of a connection that broke.
pub fn broken() -> Status {
    Status::unavailable("connection reset by peer")
}

type Script = Box<dyn FnMut(u64) -> Reply + Send>;

struct Inner {
    ledger: Arc<Ledger>,
    script: Mutex<(u64, Script)>,
    leader: Mutex<Option<String>>,
    /// The retry key of every command that arrived, or the name of a read.
    calls: tokio::sync::watch::Sender<Vec<String>>,
    /// How many commands each frame had.
    frames: Mutex<Vec<usize>>,
    /// A frame of more bytes ends its stream.
    frame_bytes: Mutex<usize>,
    /// Events that there are to read.
    events: u64,
    /// Unary calls that wait.
    hanging: tokio::sync::Notify,
}

impl Inner {
    fn reply(&self, what: &str) -> Reply {
        self.calls.send_modify(|calls| calls.push(what.to_owned()));
        let (count, script) = &mut *self.script.lock();
        *count += 1;
        script(*count - 1)
    }

    fn led<T>(&self, mut response: Response<T>) -> Response<T> {
        if let Some(leader) = &*self.leader.lock() {
            response.metadata_mut().insert(errors::LEADER, leader.parse().unwrap());
        }
        response
    }
}

/// One node; dropping it kills it, connections and all.
pub struct Node {
    pub address: String,
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    /// `script` is asked for each command (or event) in turn, counted from 0.
    pub fn start(ledger: &Arc<Ledger>, script: impl FnMut(u64) -> Reply + Send + 'static) -> Node {
        Node::with_events(ledger, 0, script)
    }

    /// A node with so many events to read.
    pub fn with_events(ledger: &Arc<Ledger>, events: u64, script: impl FnMut(u64) -> Reply + Send + 'static) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner {
            ledger: Arc::clone(ledger),
            script: Mutex::new((0, Box::new(script))),
            leader: Mutex::new(None),
            frames: Mutex::default(),
            frame_bytes: Mutex::new(usize::MAX),
            calls: tokio::sync::watch::channel(Vec::new()).0,
            events,
            hanging: tokio::sync::Notify::new(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = Fake(Arc::clone(&inner));
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder().serve_with_incoming(service, incoming).await
        });
        Node { address, inner, runtime: Some(runtime) }
    }

    /// Answers name this leader from now on.
    pub fn names_leader(&self, address: &str) {
        *self.inner.leader.lock() = Some(address.to_owned());
    }

    /// Frames of more bytes are refused from now on, as a node with a small limit of messages does.
    pub fn takes_frames_of(&self, bytes: usize) {
        *self.inner.frame_bytes.lock() = bytes;
    }

    /// What arrived so far.
    pub fn calls(&self) -> Vec<String> {
        self.inner.calls.borrow().clone()
    }

    /// How many commands were in each frame that arrived.
    pub fn frames(&self) -> Vec<usize> {
        self.inner.frames.lock().clone()
    }

    /// Waits until so many calls have arrived.
    pub async fn has_calls(&self, count: usize) {
        self.inner.calls.subscribe().wait_for(|calls| calls.len() >= count).await.unwrap();
    }
}

/// An address at which nobody listens. Not a port that was free a moment ago: another test's node may take that.
pub fn nowhere() -> String {
    "127.0.0.1:1".to_owned()
}

#[derive(Clone)]
struct Fake(Arc<Inner>);

impl Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/sillok.v1.Commands/Submit" => {
                    let method = Method(move |request| submit(Arc::clone(&inner), request));
                    Grpc::new(ProstCodec::<v1::SubmitResponse, v1::SubmitRequest>::default())
                        .streaming(method, request)
                        .await
                }
                "/sillok.v1.Queries/ReadEvents" => {
                    let method = Method(move |request| read_events(Arc::clone(&inner), request));
                    Grpc::new(ProstCodec::<v1::ReadEventsResponse, v1::ReadEventsRequest>::default())
                        .server_streaming(method, request)
                        .await
                }
                "/sillok.v1.Queries/GetChannel" => {
                    let method = Method(move |request| get_channel(Arc::clone(&inner), request));
                    Grpc::new(ProstCodec::<v1::GetChannelResponse, v1::GetChannelRequest>::default())
                        .unary(method, request)
                        .await
                }
                // Context and channel stand first in every command.
                _ => {
                    let method = Method(move |request| command(Arc::clone(&inner), request));
                    Grpc::new(ProstCodec::<v1::Receipt, v1::ResumeChannelRequest>::default())
                        .unary(method, request)
                        .await
                }
            })
        })
    }
}

/// A function as a gRPC method.
struct Method<F>(F);

impl<F, A, R, Fut> Service<Request<A>> for Method<F>
where
    F: FnMut(Request<A>) -> Fut,
    Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
{
    type Response = Response<R>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        Box::pin((self.0)(request))
    }
}

async fn command(
    inner: Arc<Inner>,
    request: Request<v1::ResumeChannelRequest>,
) -> Result<Response<v1::Receipt>, Status> {
    let key = request.into_inner().context.unwrap_or_default().retry_key;
    match inner.reply(&key) {
        Reply::Answer => Ok(inner.led(Response::new(inner.ledger.record(&key)))),
        Reply::Say(status) | Reply::Break(status) => Err(status),
        Reply::RecordAndBreak(status) => {
            inner.ledger.record(&key);
            Err(status)
        }
        Reply::Hang => {
            inner.hanging.notified().await;
            Err(broken())
        }
    }
}

async fn get_channel(
    inner: Arc<Inner>,
    request: Request<v1::GetChannelRequest>,
) -> Result<Response<v1::GetChannelResponse>, Status> {
    match inner.reply("GetChannel") {
        Reply::Answer => {
            let channel = v1::Channel { channel_id: request.into_inner().channel_id, ..Default::default() };
            Ok(inner.led(Response::new(v1::GetChannelResponse { channel: Some(channel), ..Default::default() })))
        }
        Reply::Say(status) | Reply::Break(status) | Reply::RecordAndBreak(status) => Err(status),
        Reply::Hang => {
            inner.hanging.notified().await;
            Err(broken())
        }
    }
}

type Answers = BoxStream<'static, Result<v1::SubmitResponse, Status>>;

async fn submit(
    inner: Arc<Inner>,
    request: Request<Streaming<v1::SubmitRequest>>,
) -> Result<Response<Answers>, Status> {
    let frames = request.into_inner();
    let led = Arc::clone(&inner);
    // The state is None once the stream is to end.
    let answers = futures::stream::unfold(Some((frames, inner)), |state| async move {
        let (mut frames, inner) = state?;
        let frame = match frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(status) => return Some((vec![Err(status)], None)),
        };
        if frame.encoded_len() > *inner.frame_bytes.lock() {
            return Some((vec![Err(Problem::new(Reason::BodyTooLarge, "over the limit").into())], None));
        }
        inner.frames.lock().push(frame.commands.len());
        let mut answers = Vec::new();
        for command in frame.commands {
            let command = v1::Command::decode(command).unwrap();
            let key = command.context().unwrap().retry_key.clone();
            let outcome = match inner.reply(&key) {
                Reply::Answer => v1::answer::Outcome::Receipt(inner.ledger.record(&key)),
                Reply::Say(status) => v1::answer::Outcome::Error(errors::to_rpc(&status)),
                Reply::Break(status) => {
                    return Some((vec![Ok(v1::SubmitResponse { answers }), Err(status)], None));
                }
                Reply::RecordAndBreak(status) => {
                    inner.ledger.record(&key);
                    return Some((vec![Ok(v1::SubmitResponse { answers }), Err(status)], None));
                }
                Reply::Hang => {
                    inner.hanging.notified().await;
                    return None;
                }
            };
            answers.push(v1::Answer { outcome: Some(outcome) });
        }
        Some((vec![Ok(v1::SubmitResponse { answers })], Some((frames, inner))))
    });
    Ok(led.led(Response::new(answers.flat_map(futures::stream::iter).boxed())))
}

type Events = BoxStream<'static, Result<v1::ReadEventsResponse, Status>>;

/// Events 1, 2, 3 … in responses of two; a cursor is the number of the last event, 8 bytes big endian.
async fn read_events(inner: Arc<Inner>, request: Request<v1::ReadEventsRequest>) -> Result<Response<Events>, Status> {
    use v1::read_events_request::Start;
    let request = request.into_inner();
    let after = match &request.start {
        Some(Start::AfterCursor(cursor)) => u64::from_be_bytes(cursor[..].try_into().unwrap()),
        Some(_) => return Err(Problem::new(Reason::CursorInvalid, "only cursors").into()),
        None => 0,
    };
    let last = if request.limit == 0 { inner.events } else { inner.events.min(after + request.limit) };
    let follow = request.follow;
    let events = futures::stream::unfold(Some(after), move |state| {
        let inner = Arc::clone(&inner);
        async move {
            let after = state?;
            if after >= last {
                if follow {
                    inner.hanging.notified().await;
                }
                return None;
            }
            let mut items = Vec::new();
            for number in after + 1..=last.min(after + 2) {
                match inner.reply(&format!("event {number}")) {
                    Reply::Answer => items.push(v1::ReadItem {
                        item: Some(v1::read_item::Item::Event(v1::Event { revision: number, ..Default::default() })),
                        cursor: number.to_be_bytes().to_vec().into(),
                    }),
                    Reply::Hang => inner.hanging.notified().await,
                    Reply::Say(status) | Reply::Break(status) | Reply::RecordAndBreak(status) => {
                        return Some((Err(status), None));
                    }
                }
            }
            let reached = after + items.len() as u64;
            let cursor = reached.to_be_bytes().to_vec().into();
            let progress = Some(v1::ReadProgress { cursor, info: None });
            let response = v1::ReadEventsResponse { items, progress, caught_up: reached == last };
            Some((Ok(response), Some(reached)))
        }
    });
    Ok(Response::new(events.boxed()))
}
