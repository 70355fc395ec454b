//! One node with its services around it: starting in an order in which nothing is promised before it holds, and stopping in
//! the reverse.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use sillok_chronicle::Damage;
use sillok_cluster::{Node, NodeOptions, StartError};
use sillok_wire::v1::{cluster_server::ClusterServer, commands_server::CommandsServer, queries_server::QueriesServer};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{self, server::TcpIncoming},
};
use tonic_health::pb::health_server::HealthServer;

use crate::{
    config::{LimitsSection, NodeConfig},
    exit::ExitCode,
    grpc::front::Front,
    http, metrics,
    options::{self, Machine},
    services::{
        cluster::Cluster,
        commands::Commands,
        health::{Health, Serving},
        queries::Queries,
        submit,
    },
};

/// The node could not be started; nothing was promised to anybody.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address of the configuration cannot be listened on.
    #[error("`{key}`: cannot listen on {address}: {error}; is another node running, or the port taken?")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The node itself refuses to start.
    #[error(transparent)]
    Node(#[from] StartError),
}

impl ServeError {
    /// How a process ends that could not start.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ServeError::Listen { .. } => ExitCode::BadConfig,
            ServeError::Node(error) => options::start_exit_code(error),
        }
    }
}

/// A running node.
pub struct Server {
    node: Node,
    client_address: SocketAddr,
    http_address: SocketAddr,
    drain: Duration,
    /// Says what is served; the sender is shared with the task that follows the node.
    serving: Arc<watch::Sender<Serving>>,
    /// Streams end, nothing new is taken.
    stopping: CancellationToken,
    /// The ports close, and the helpers end.
    closed: CancellationToken,
    client: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens the data directory, joins the cluster and serves. Returns once the ports listen; a leader may still be missing.
    ///
    /// # Errors
    /// [`ServeError`]; its exit code is that of the process.
    pub async fn start(config: &NodeConfig) -> Result<Server, ServeError> {
        Server::start_on(config, &Machine::default()).await
    }

    /// As [`Server::start`], on a machine of the caller's.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_on(config: &NodeConfig, machine: &Machine) -> Result<Server, ServeError> {
        Server::start_after(config, machine, None).await
    }

    /// As [`Server::start_on`], after `suspect` ended an earlier run in this process: its segment is looked through, and
    /// repaired from peers, first.
    pub(crate) async fn start_after(
        config: &NodeConfig,
        machine: &Machine,
        suspect: Option<Damage>,
    ) -> Result<Server, ServeError> {
        let limits = &config.limits;
        // The ports first: a port that is taken must not leave a half-opened data directory behind.
        let client = listen("listen.client", config.listen.client).await?;
        let http = listen("listen.http", config.listen.http).await?;
        let (client_address, client) = client;
        let (http_address, http) = http;

        let (stopping, closed) = (CancellationToken::new(), CancellationToken::new());
        let serving = Arc::new(watch::Sender::new(Serving::default()));
        let trouble = watch::Sender::new(None);
        let recorder = metrics::install();
        let pages = http::Pages {
            node_id: config.node.id,
            site: config.node.site.as_str().into(),
            metrics: recorder.clone(),
            serving: serving.subscribe(),
            trouble: trouble.subscribe(),
        };
        // Live from here on, ready when the node is: opening a long chronicle may take a while.
        let mut background = vec![
            tokio::spawn({
                let serve = http::serve(http, pages, closed.clone());
                async move {
                    if let Err(error) = serve.await {
                        tracing::error!(%error, "metrics and health are no longer served");
                    }
                }
            }),
            tokio::spawn(http::keep_metrics(recorder, closed.clone())),
        ];

        let node_options =
            NodeOptions { suspect, trouble: Some(trouble), ..options::node_options(config, client_address, machine) };
        let node = match Node::start(node_options).await {
            Ok(node) => node,
            Err(error) => {
                closed.cancel();
                for task in background {
                    // Each ends with `closed`; the ports are free again when the caller hears of it.
                    let _ = task.await;
                }
                return Err(error.into());
            }
        };
        background.push(tokio::spawn(follow_health(node.clone(), serving.clone(), stopping.clone())));

        let routes = routes(&node, limits, &serving, &stopping);
        let incoming = TcpIncoming::from(client).with_nodelay(Some(true));
        let serve =
            transport(limits).serve_with_incoming_shutdown(routes, incoming, stopping.clone().cancelled_owned());
        let client = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the client port is no longer served");
            }
        });

        let drain = Duration::from_millis(limits.drain_ms);
        Ok(Server { node, client_address, http_address, drain, serving, stopping, closed, client, background })
    }

    /// Where clients connect.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where metrics and health are.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Stops gracefully: health says so, commands in flight are answered and leadership is handed over, streams end,
    /// connections close, everything is on disk. Connections have `limits.drain_ms` from the beginning, the rest 4 s more:
    /// 14 s by default, which is less than a supervisor waits.
    pub async fn stop(self) {
        let drain = self.drain;
        self.stop_within(drain).await;
    }

    /// As [`Server::stop`], for a node that has failed: nobody's connection is waited for.
    pub(crate) async fn stop_at_once(self) {
        self.stop_within(Duration::ZERO).await;
    }

    async fn stop_within(self, drain: Duration) {
        let drained = Instant::now() + drain;
        // Said before anything ends, so that watchers hear it first.
        self.serving.send_replace(Serving::STOPPING);
        // Writes go on elsewhere while connections still close here.
        self.node.retire().await;
        self.stopping.cancel();
        let mut client = self.client;
        if tokio::time::timeout_at(drained, &mut client).await.is_err() {
            tracing::warn!(
                drain_ms = drain.as_millis() as u64,
                "connections were still open after the time to drain; they are cut"
            );
            client.abort();
        }
        self.node.shutdown().await;
        self.closed.cancel();
        for task in self.background {
            // Each ends with `closed`; one that panicked has said so.
            let _ = task.await;
        }
    }
}

pub(crate) async fn listen(key: &'static str, address: SocketAddr) -> Result<(SocketAddr, TcpListener), ServeError> {
    let failed = |error| ServeError::Listen { key, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
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

fn routes(
    node: &Node,
    limits: &LimitsSection,
    serving: &watch::Sender<Serving>,
    stopping: &CancellationToken,
) -> Routes {
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
    let health = Health { serving: serving.subscribe(), patience, stopping: stopping.clone() };

    // The limit is the front's, which says what it is; tonic's own stands behind it.
    let commands = CommandsServer::new(commands).max_decoding_message_size(bytes);
    let queries = QueriesServer::new(queries).max_decoding_message_size(bytes);
    let cluster = ClusterServer::new(cluster).max_decoding_message_size(bytes);
    let mut routes = Routes::new(Front::new(commands, bytes, node.clone()))
        .add_service(Front::new(queries, bytes, node.clone()))
        .add_service(Front::new(cluster, bytes, node.clone()))
        .add_service(HealthServer::new(health));
    // Only a broken build could make these fail; the node serves as well without.
    match crate::services::reflection() {
        Ok((v1, v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        Err(error) => tracing::error!(%error, "reflection is not served"),
    }
    routes.prepare()
}

/// Passes on what the node says of itself, until it stops.
async fn follow_health(node: Node, serving: Arc<watch::Sender<Serving>>, stopping: CancellationToken) {
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
