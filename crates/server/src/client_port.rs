//! The client port: every service of a node with what stands around it, over the machine's TCP or over any other connections.

use std::{io, sync::Arc, time::Duration};

use futures::Stream;
use sillok_cluster::{Incoming, Node};
use sillok_wire::v1::{cluster_server::ClusterServer, commands_server::CommandsServer, queries_server::QueriesServer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{self, server::Connected},
};
use tonic_health::pb::health_server::HealthServer;

use crate::{
    config::LimitsSection,
    grpc::{front::Front, turns::Turns},
    services::{
        cluster::Cluster,
        commands::Commands,
        health::{Health, Serving},
        queries::Queries,
        submit,
    },
};

/// Serves clients over connections that come from elsewhere, such as those of a simulated network, just as a [`Server`] does
/// over its port. Ends with `incoming`; the node goes on.
///
/// # Errors
/// Where `incoming` fails in a way that says nothing of one connection alone.
///
/// [`Server`]: crate::Server
pub async fn serve_clients(node: Node, limits: &LimitsSection, incoming: Incoming) -> Result<(), transport::Error> {
    let serving = Arc::new(watch::Sender::new(Serving::default()));
    let stopping = CancellationToken::new();
    let port = ClientPort { node: node.clone(), serving: serving.subscribe(), stopping: stopping.clone() };
    let following = tokio::spawn(follow_health(node, serving, stopping.clone()));
    let served = port.serve(limits, incoming).await;
    stopping.cancel();
    // It ends with `stopping`.
    let _ = following.await;
    served
}

/// A node as its clients meet it.
pub(crate) struct ClientPort {
    pub(crate) node: Node,
    /// What is served now.
    pub(crate) serving: watch::Receiver<Serving>,
    /// Streams end, nothing new is taken.
    pub(crate) stopping: CancellationToken,
}

impl ClientPort {
    /// Serves until `stopping`, or the end of `incoming`.
    pub(crate) fn serve<I, C>(
        self,
        limits: &LimitsSection,
        incoming: I,
    ) -> impl Future<Output = Result<(), transport::Error>> + use<I, C>
    where
        I: Stream<Item = io::Result<C>>,
        C: AsyncRead + AsyncWrite + Connected<ConnectInfo: Clone + Send + Sync> + Send + Unpin + 'static,
    {
        let (routes, stopped) = (self.routes(limits), self.stopping.cancelled_owned());
        transport(limits).serve_with_incoming_shutdown(routes, incoming, stopped)
    }

    fn routes(&self, limits: &LimitsSection) -> Routes {
        let ClientPort { node, serving, stopping } = self;
        let patience = Duration::from_millis(limits.slow_reader_ms);
        let timeout = Duration::from_millis(limits.request_timeout_ms);
        let bytes = limits.message_bytes;
        let commands = Commands {
            node: node.clone(),
            timeout,
            submit: submit::Limits {
                in_flight_bytes: limits.submit_in_flight_bytes,
                patience,
                drain: Duration::from_millis(limits.drain_ms),
            },
            stopping: stopping.clone(),
        };
        let queries = Queries { node: node.clone(), timeout, patience, stopping: stopping.clone() };
        let cluster = Cluster { node: node.clone() };
        let health = Health { serving: serving.clone(), patience, stopping: stopping.clone() };

        let turns = Turns::start();
        // The limit is the front's, which says what it is; tonic's own stands behind it.
        let commands = CommandsServer::new(commands).max_decoding_message_size(bytes);
        let queries = QueriesServer::new(queries).max_decoding_message_size(bytes);
        let cluster = ClusterServer::new(cluster).max_decoding_message_size(bytes);
        let mut routes = Routes::new(Front::new(commands, bytes, turns.clone(), node.clone()))
            .add_service(Front::new(queries, bytes, turns.clone(), node.clone()))
            .add_service(Front::new(cluster, bytes, turns.clone(), node.clone()))
            .add_service(HealthServer::new(health));
        // Only a broken build could make these fail; the node serves as well without.
        match crate::services::reflection() {
            Ok((v1, v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
            Err(error) => tracing::error!(%error, "reflection is not served"),
        }
        routes.prepare()
    }
}

/// tonic's own defaults are small for a line with a long round trip, and without a bound on streams.
fn transport(limits: &LimitsSection) -> transport::Server {
    transport::Server::builder()
        .max_concurrent_streams(limits.concurrent_streams)
        // A client that gives up on everything at once gives up on so many.
        .http2_max_pending_accept_reset_streams(Some(limits.concurrent_streams as usize))
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(Duration::from_millis(limits.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(limits.keepalive_timeout_ms)))
}

/// Large frames spare both sides a wake-up per 16 KiB, and still leave a connection's other streams their turn.
const MAX_FRAME_BYTES: u32 = 256 << 10;
/// Metadata of one call; ours is a few hundred bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Passes on what the node says of itself, until it stops.
pub(crate) async fn follow_health(node: Node, serving: Arc<watch::Sender<Serving>>, stopping: CancellationToken) {
    let mut health = node.health();
    loop {
        let now = *health.borrow_and_update();
        let now = Serving { reads: now.stale_reads, writes: now.leader_confirmed, stopping: false };
        serving.send_if_modified(|said| {
            // The stop may have come between; it has the last word.
            !said.stopping && std::mem::replace(said, now) != now
        });
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            changed = health.changed() => if changed.is_err() { return },
        }
    }
}
