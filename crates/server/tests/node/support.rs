//! A node, or three, with a client.

use std::{
    net::TcpListener,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use sillok_server::{Flags, NodeConfig, Server};
use sillok_wire::{
    errors::{Outcome, outcome_of, reason_of},
    v1::{self, cluster_client::ClusterClient, commands_client::CommandsClient, queries_client::QueriesClient},
};
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub const SITES: [&str; 3] = ["chungju", "seongju", "jeonju"];

/// One running node and a connection to it.
pub struct TestNode {
    pub server: Option<Server>,
    pub config: NodeConfig,
    pub channel: Channel,
}

pub struct Single {
    pub node: TestNode,
    _dir: TempDir,
}

/// A cluster of one node that leads.
pub async fn single() -> Single {
    single_with(&[]).await
}

pub async fn single_with(flags: &[&str]) -> Single {
    let dir = tempfile::tempdir().unwrap();
    let mut configs = configs(dir.path(), 1, flags);
    let node = start(configs.remove(0)).await;
    node.leader_confirmed().await;
    Single { node, _dir: dir }
}

/// A cluster of three nodes at three sites, with a leader.
pub async fn three() -> (Vec<TestNode>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3, &[]);
    // Together: each waits for the others only in the background.
    let nodes = futures::future::join_all(configs.into_iter().map(start)).await;
    for node in &nodes {
        node.leader_confirmed().await;
    }
    (nodes, dir)
}

/// Free, and stays so while its node is down: below the ports that the system gives to connections. Each is given once.
fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 10_000 + n % 20_000);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

pub fn configs(dir: &Path, nodes: usize, flags: &[&str]) -> Vec<NodeConfig> {
    let addresses: Vec<String> = (0..nodes * 3).map(|_| free_address()).collect();
    let address = |at: usize| addresses[at].clone();
    let initial: Vec<String> = (0..nodes)
        .map(|at| {
            let (site, peer, client) = (SITES[at], address(at * 3), address(at * 3 + 1));
            format!(r#"{{id={}, site="{site}", peer="{peer}", client="{client}"}}"#, at + 1)
        })
        .collect();
    let config = |at: usize| {
        let own = Flags::new()
            .with("node.id", at as u64 + 1)
            .with("node.site", SITES[at])
            .with("data_dir", dir.join(SITES[at]).display().to_string())
            .with("listen.peer", address(at * 3))
            .with("listen.client", address(at * 3 + 1))
            .with("listen.http", address(at * 3 + 2))
            .with("cluster.allow_single_site_quorum", nodes == 1)
            .set(&format!("cluster.initial=[{}]", initial.join(",")))
            .unwrap();
        let all = flags.iter().fold(own, |all, flag| all.set(flag).unwrap());
        NodeConfig::load(None, &all).unwrap()
    };
    (0..nodes).map(config).collect()
}

pub async fn start(config: NodeConfig) -> TestNode {
    let server = Server::start(&config).await.unwrap_or_else(|error| panic!("{error}"));
    let endpoint = Endpoint::from_shared(format!("http://{}", server.client_address())).unwrap();
    TestNode { server: Some(server), config, channel: endpoint.connect_lazy() }
}

impl TestNode {
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the node runs")
    }

    pub fn commands(&self) -> CommandsClient<Channel> {
        CommandsClient::new(self.channel.clone())
    }

    pub fn queries(&self) -> QueriesClient<Channel> {
        QueriesClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// Waits until the node says that a leader is confirmed.
    pub async fn leader_confirmed(&self) {
        let request = HealthCheckRequest { service: "sillok.v1.Commands".to_owned() };
        let mut watch = self.health().watch(request).await.unwrap().into_inner();
        while let Some(now) = watch.message().await.unwrap() {
            if now.status() == ServingStatus::Serving {
                return;
            }
        }
        panic!("health ended before a leader was confirmed");
    }

    pub async fn stop(&mut self) {
        self.server.take().expect("the node runs").stop().await;
    }

    /// One page over HTTP: status and body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.server().http_address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// A context with this key.
pub fn key(retry_key: &str) -> Option<v1::CommandContext> {
    Some(v1::CommandContext { retry_key: retry_key.to_owned(), actor: "test".to_owned(), ..Default::default() })
}

pub fn stale() -> Option<v1::ReadOptions> {
    Some(v1::ReadOptions { consistency: v1::ReadConsistency::Stale.into(), at_least: None })
}

#[track_caller]
pub fn assert_status(status: &Status, code: Code, reason: v1::Reason, outcome: Option<Outcome>) {
    assert_eq!((status.code(), reason_of(status), outcome_of(status)), (code, Some(reason), outcome), "{status:?}");
}
