//! One node of a drill's cluster.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sillok_wire::v1::{self, cluster_client::ClusterClient, queries_client::QueriesClient};
use tonic::transport::{Channel, Endpoint};

use crate::{
    DrillError,
    compose::{Container, docker},
    ports,
};

/// A question to one node that answers at once or not at all.
const ASK_WITHIN: Duration = Duration::from_millis(400);

/// One node: its place, its ports, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    /// From 1.
    pub id: u64,
    /// The site's label.
    pub site: String,
    /// `127.0.0.1:port` of the client API.
    pub client: SocketAddr,
    /// `127.0.0.1:port` of the peer port.
    pub peer: SocketAddr,
    /// `127.0.0.1:port` of metrics and health.
    pub http: SocketAddr,
    /// Holds `node.toml`, `data/` and `log`.
    pub dir: PathBuf,
    pub(super) process: Option<Child>,
    /// Where it runs in one.
    pub(super) container: Option<Container>,
    /// It was never started.
    pub(super) is_new: bool,
    pub(super) channel: Channel,
}

impl Node {
    pub(super) fn new(id: u64, site: &str, dir: &Path) -> Result<Node, DrillError> {
        let [client, peer, http] = free_addresses().map_err(DrillError::Ports)?;
        let mut node = Node::at(id, site, client, dir);
        (node.peer, node.http) = (peer, http);
        Ok(node)
    }

    pub(super) fn in_container(container: Container, dir: &Path) -> Node {
        let mut node = Node::at(container.node_id, &container.site, container.client, dir);
        node.container = Some(container);
        node
    }

    /// Its other ports are not known.
    fn at(id: u64, site: &str, client: SocketAddr, dir: &Path) -> Node {
        let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // The address is of numbers, and always good.
        let endpoint =
            Endpoint::from(format!("http://{client}").parse::<tonic::codegen::http::Uri>().unwrap_or_default());
        let endpoint = endpoint.connect_timeout(ASK_WITHIN).tcp_nodelay(true);
        Node {
            id,
            site: site.to_owned(),
            client,
            peer: none,
            http: none,
            dir: dir.join(format!("node-{id}")),
            process: None,
            container: None,
            is_new: false,
            channel: endpoint.connect_lazy(),
        }
    }

    /// Where this node keeps its chronicle and views.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Whether its process was started and not yet ended from here.
    pub fn is_up(&self) -> bool {
        self.process.is_some() || self.container.as_ref().is_some_and(|container| container.is_up)
    }

    /// Of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A connection to this node alone, made when first used.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Reads at this node alone.
    pub fn queries(&self) -> QueriesClient<Channel> {
        QueriesClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    /// Calls about the cluster at this node alone.
    pub fn operator(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    /// Status as this node sees it; `None` where it does not answer at once.
    pub async fn status(&self) -> Option<v1::GetStatusResponse> {
        let mut operator = self.operator();
        let answer = operator.get_status(v1::GetStatusRequest {});
        tokio::time::timeout(ASK_WITHIN, answer).await.ok()?.ok().map(tonic::Response::into_inner)
    }

    /// As the cluster API names it.
    pub fn described(&self) -> v1::Node {
        v1::Node {
            id: self.id,
            site: self.site.clone(),
            peer_address: self.container.as_ref().map_or_else(|| self.peer.to_string(), |c| c.peer_name.clone()),
            client_address: self.container.as_ref().map_or_else(|| self.client.to_string(), |c| c.client_name.clone()),
            incarnation: String::new(),
        }
    }

    pub(super) fn faults(&self) -> PathBuf {
        self.dir.join("faults.json")
    }

    /// The end of the node's own log.
    pub fn log_tail(&self) -> String {
        let text = match &self.container {
            Some(container) => docker(&["logs", "--tail", "12", &container.name]).unwrap_or_default(),
            None => fs::read_to_string(self.dir.join("log")).unwrap_or_default(),
        };
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// The last line of the node's own log that holds these words.
    pub fn last_said(&self, words: &str) -> Option<String> {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        text.lines().rev().find(|line| line.contains(words)).map(str::to_owned)
    }

    pub(super) fn signal(&self, doing: &'static str, signal: Signal) -> Result<(), DrillError> {
        let Some(child) = &self.process else {
            return Err(DrillError::NodeState { node: self.id, state: "is not running" });
        };
        kill_process(Pid::from_child(child), signal).map_err(|error| DrillError::Process {
            doing,
            node: self.id,
            source: error.into(),
        })
    }
}

fn free_addresses() -> io::Result<[SocketAddr; 3]> {
    let ports = ports::free(3)?;
    Ok([0, 1, 2].map(|at| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[at]))))
}
