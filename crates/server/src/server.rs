//! One node with its services around it: starting in an order in which nothing is promised before it holds, and stopping in
//! the reverse.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use sillok_chronicle::Damage;
use sillok_cluster::{Node, NodeOptions, StartError};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::{
    client_port::{self, ClientPort},
    config::NodeConfig,
    exit::ExitCode,
    http, metrics,
    options::{self, Machine},
    services::health::Serving,
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
        background.push(tokio::spawn(client_port::follow_health(node.clone(), serving.clone(), stopping.clone())));

        let port = ClientPort { node: node.clone(), serving: serving.subscribe(), stopping: stopping.clone() };
        let serve = port.serve(limits, TcpIncoming::from(client).with_nodelay(Some(true)));
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
