//! The nodes a client knows, and where the next call goes.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sillok_wire::errors;
use tokio::{sync::oneshot, time::Instant};
use tonic::{metadata::MetadataMap, transport::Channel};

use crate::{
    lane::{self, Lane},
    way::{Way, Ways},
};

/// How long a node that just failed is not taken for the leader, whatever others still say: they notice later.
const DISTRUST: Duration = Duration::from_millis(500);
/// How long an address of a leader that could not be reached from here is left alone.
const UNREACHABLE: Duration = Duration::from_secs(10);

/// One node and the way there.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: Arc<str>,
    way: Way,
    /// Made when first used: only then is there surely a runtime.
    channel: OnceLock<Channel>,
    /// What calls to it share now.
    lane: Mutex<Option<Lane>>,
}

impl Node {
    fn new(way: Way) -> Arc<Node> {
        Node::with_channel(way, OnceLock::new())
    }

    fn with_channel(way: Way, channel: OnceLock<Channel>) -> Arc<Node> {
        Arc::new(Node { address: way.address().clone(), way, channel, lane: Mutex::default() })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.get_or_init(|| self.way.connect_lazily()).clone()
    }

    /// Puts a command, as [`lane::encode`](crate::lane::encode) gives it, on the lane to this node.
    pub(crate) fn push(
        &self,
        pool: &Arc<Pool>,
        patience: Duration,
        command: Bytes,
    ) -> oneshot::Receiver<lane::Outcome> {
        let mut lane = self.lane.lock();
        let command = match lane.as_ref().map(|lane| lane.push(command.clone())) {
            Some(Ok(outcome)) => return outcome,
            Some(Err(command)) => command,
            None => command,
        };
        let (opened, outcome) =
            Lane::open(Arc::clone(&self.address), self.channel(), Arc::downgrade(pool), patience, command);
        *lane = Some(opened);
        outcome
    }

    /// What calls to it share is silent: later ones get another.
    pub(crate) fn close_lane(&self) {
        if let Some(lane) = &*self.lane.lock() {
            lane.close();
        }
    }
}

/// The given endpoints in their order, one of them in use, and the leader beside them.
#[derive(Debug)]
pub(crate) struct Pool {
    given: Vec<Arc<Node>>,
    /// Index into `given`, modulo its length.
    current: AtomicUsize,
    follow_leader: bool,
    ways: Ways,
    leader: Mutex<Leader>,
}

#[derive(Debug, Default)]
struct Leader {
    node: Option<Arc<Node>>,
    /// An address that is being connected to before it is relied upon.
    trying: Option<Arc<str>>,
    /// Not to be taken for the leader until then.
    distrusted: HashMap<Arc<str>, Instant>,
}

impl Pool {
    pub(crate) fn new(nodes: Vec<Way>, follow_leader: bool, ways: Ways) -> Pool {
        let given = nodes.into_iter().map(Node::new).collect();
        Pool { current: AtomicUsize::new(0), given, follow_leader, ways, leader: Mutex::new(Leader::default()) }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|node| &*node.address)
    }

    pub(crate) fn named(&self, address: &str) -> Option<Arc<Node>> {
        let bare = address.trim_start_matches("http://");
        self.given.iter().find(|node| *node.address == *bare).cloned()
    }

    pub(crate) fn leader(&self) -> Option<Arc<str>> {
        self.leader.lock().node.as_ref().map(|node| Arc::clone(&node.address))
    }

    /// Where a write goes: to the leader where it is known.
    pub(crate) fn for_write(&self) -> Arc<Node> {
        if let Some(leader) = &self.leader.lock().node {
            return Arc::clone(leader);
        }
        self.for_read()
    }

    /// Where a read goes: to the given endpoint in use, as long as it answers.
    pub(crate) fn for_read(&self) -> Arc<Node> {
        Arc::clone(&self.given[self.current.load(Ordering::Relaxed) % self.given.len()])
    }

    /// The node gave no answer, or said that it cannot: the next call goes elsewhere.
    pub(crate) fn failed(&self, node: &Node) {
        let mut leader = self.leader.lock();
        leader.distrusted.insert(Arc::clone(&node.address), Instant::now() + DISTRUST);
        if leader.node.as_ref().is_some_and(|leader| leader.address == node.address) {
            leader.node = None;
        }
        // Under the lock: two calls that failed at the same node move on by one together.
        let current = self.current.load(Ordering::Relaxed);
        if self.given[current % self.given.len()].address == node.address {
            self.current.store(current.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Takes note of who leads, as an answer's metadata says. A leader at an address that is not among the given ones
    /// (it may be one that only the nodes themselves can reach) is relied upon once a connection stands.
    pub(crate) fn hint(self: &Arc<Self>, metadata: &MetadataMap) {
        if !self.follow_leader {
            return;
        }
        let Some(address) = metadata.get(errors::LEADER).and_then(|value| value.to_str().ok()) else { return };
        let mut leader = self.leader.lock();
        if leader.node.as_ref().is_some_and(|leader| *leader.address == *address)
            || leader.trying.as_ref().is_some_and(|trying| **trying == *address)
        {
            return;
        }
        if let Some(&until) = leader.distrusted.get(address) {
            if Instant::now() < until {
                return;
            }
            leader.distrusted.remove(address);
        }
        if let Some(node) = self.named(address) {
            leader.node = Some(node);
            return;
        }
        let Some(way) = self.ways.to(address) else { return };
        leader.trying = Some(Arc::clone(way.address()));
        tokio::spawn(connect(Arc::downgrade(self), way));
    }

    fn connected(&self, way: Way, channel: Option<Channel>) {
        let address = way.address().clone();
        let mut leader = self.leader.lock();
        if leader.trying.as_ref() != Some(&address) {
            return;
        }
        leader.trying = None;
        match channel {
            Some(channel) => {
                leader.node = Some(Node::with_channel(way, OnceLock::from(channel)));
            }
            None => {
                tracing::debug!(%address, "the leader cannot be reached directly; writes are forwarded");
                leader.distrusted.insert(address, Instant::now() + UNREACHABLE);
            }
        }
    }
}

async fn connect(pool: Weak<Pool>, way: Way) {
    let channel = way.connect().await.ok();
    if let Some(pool) = pool.upgrade() {
        pool.connected(way, channel);
    }
}
