//! Three sites, and commands to write there.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sillok_chronicle::sim::SimDisk;
use sillok_wire::{errors, v1};
use tokio::time::{Instant, timeout};

use crate::{InitialNode, Node, NodeOptions, Timings, ViewsOptions};

/// Nothing here takes that long; a test that hangs says so.
pub(super) const AT_MOST: Duration = Duration::from_secs(60);
pub(super) const SITES: [&str; 3] = ["chungju", "seongju", "jeonju"];

/// Three nodes, some of which may be down.
pub(super) struct Trio {
    pub(super) nodes: [Option<Node>; 3],
    pub(super) disks: [SimDisk; 3],
    options: [NodeOptions; 3],
    _dir: tempfile::TempDir,
}

/// An address that is free and stays so: below the ports that the system gives to connections, each asked for once, and
/// other test processes begin elsewhere.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + (n % 20_000) as u16));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Trio {
    /// Started and formed; somebody leads.
    pub(super) async fn start() -> Trio {
        Trio::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl Fn(&mut NodeOptions)) -> Trio {
        let dir = tempfile::tempdir().unwrap();
        let addresses: [SocketAddr; 3] = std::array::from_fn(|_| free_address());
        let disks: [SimDisk; 3] = std::array::from_fn(|at| SimDisk::new(at as u64 + 7));
        let initial: Vec<InitialNode> = (0..3)
            .map(|at| InitialNode {
                id: at as u64 + 1,
                site: SITES[at].to_owned(),
                peer_address: addresses[at].to_string(),
                client_address: format!("client-{}:1", at + 1),
            })
            .collect();
        let options: [NodeOptions; 3] = std::array::from_fn(|at| {
            let mut options =
                NodeOptions::new(at as u64 + 1, SITES[at], dir.path().join(format!("n{at}")), addresses[at]);
            options.client_address = format!("client-{}:1", at + 1);
            options.initial = initial.clone();
            // Space is zero-filled ahead, which three simulated disks would spend their time on.
            options.segment_bytes = 256 << 10;
            options.views = ViewsOptions { in_memory: true, ..ViewsOptions::default() };
            // Generous: eight test threads may share two cores.
            options.timings =
                Timings { heartbeat_ms: 60, election_min_ms: 400, election_max_ms: 700, ..Timings::default() };
            change(&mut options);
            options
        });
        let mut trio = Trio { nodes: [None, None, None], disks, options, _dir: dir };
        for at in 0..3 {
            trio.boot(at).await;
        }
        trio.leader().await;
        trio
    }

    /// Starts a node that is down.
    pub(super) async fn boot(&mut self, at: usize) {
        let mut options = self.options[at].clone();
        options.disk = self.disks[at].boot();
        self.nodes[at] = Some(Node::start(options).await.unwrap());
    }

    /// Stops a node in good order.
    pub(super) async fn stop(&mut self, at: usize) {
        if let Some(node) = self.nodes[at].take() {
            timeout(AT_MOST, node.shutdown()).await.unwrap();
            assert!(node.core().senders.is_empty(), "nothing of it is sent any more");
        }
    }

    /// The process ends at once: nothing more is written, nothing is handed over.
    pub(super) async fn kill(&mut self, at: usize) {
        self.disks[at].kill();
        if let Some(node) = self.nodes[at].take() {
            node.core().stopping.cancel();
            let _ = node.core().raft.shutdown().await;
            // Its port must be free before it starts again.
            timeout(AT_MOST, node.shutdown()).await.unwrap();
            assert!(node.core().senders.is_empty(), "nothing of it is sent any more");
        }
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().unwrap()
    }

    pub(super) fn up(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| node.as_ref().map(|node| (at, node)))
    }

    /// The node that leads and decides, once there is one and every node that is up knows it.
    pub(super) async fn leader(&self) -> usize {
        use crate::sequencer::State;
        let begun = Instant::now();
        loop {
            for (at, node) in self.up() {
                let decides = matches!(*node.front().sequencer_state().borrow(), State::Leading(_));
                let known = self.up().all(|(_, other)| other.core().leader() == node.core().leader());
                if decides && known && node.core().leading_term().is_some() {
                    return at;
                }
            }
            assert!(begun.elapsed() < AT_MOST, "nobody leads");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A node that is up and does not lead.
    pub(super) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.up().map(|(at, _)| at).find(|at| *at != leader).unwrap()
    }
}

pub(super) fn context(retry_key: &str) -> Option<v1::CommandContext> {
    Some(v1::CommandContext { retry_key: retry_key.to_owned(), actor: "test".to_owned(), ..Default::default() })
}

pub(super) fn open(channel_id: &str) -> v1::Command {
    let channel_id = channel_id.to_owned();
    v1::OpenChannelRequest { context: context("open"), channel_id, name: "가게".to_owned() }.into()
}

/// Its retry key is its user key.
pub(super) fn add(channel_id: &str, user_key: &str) -> v1::Command {
    add_as(channel_id, user_key, user_key)
}

pub(super) fn add_as(channel_id: &str, user_key: &str, retry_key: &str) -> v1::Command {
    v1::AddFriendRequest {
        context: context(retry_key),
        channel_id: channel_id.to_owned(),
        user_key: user_key.to_owned(),
        source: v1::FriendSource::Search.into(),
        attributes: Vec::new(),
        consents: Vec::new(),
    }
    .into()
}

pub(super) fn wait_all_sites(mut command: v1::Command, at_most: Duration) -> v1::Command {
    let context = command.context_mut().unwrap().as_mut().unwrap();
    context.wait = v1::Wait::AllSites.into();
    let nanos = i32::try_from(at_most.subsec_nanos()).unwrap();
    context.wait_at_most = Some(prost_types::Duration { seconds: at_most.as_secs() as i64, nanos });
    command
}

/// One command, answered.
pub(super) async fn one(node: &Node, command: v1::Command) -> v1::Answer {
    let mut answers = timeout(AT_MOST, node.execute(vec![command])).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// One command, repeated with the same key until its outcome is definite.
pub(super) async fn surely(trio: &Trio, at: usize, command: v1::Command) -> v1::Answer {
    let begun = Instant::now();
    loop {
        let answer = one(trio.node(at), command.clone()).await;
        if crate::sequencer::is_definite(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < AT_MOST, "no definite answer: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) fn receipt(answer: &v1::Answer) -> &v1::Receipt {
    match &answer.outcome {
        Some(v1::answer::Outcome::Receipt(receipt)) => receipt,
        other => panic!("no receipt: {other:?}"),
    }
}

/// Why not, and what became of it.
pub(super) fn refused(answer: &v1::Answer) -> (v1::Reason, Option<errors::Outcome>) {
    match &answer.outcome {
        Some(v1::answer::Outcome::Error(status)) => {
            let status = errors::from_rpc(status.clone());
            (errors::reason_of(&status).unwrap(), errors::outcome_of(&status))
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The answer without what speaks for now.
pub(super) fn timeless(answer: &v1::Answer) -> v1::Answer {
    let mut answer = answer.clone();
    if let Some(v1::answer::Outcome::Receipt(receipt)) = &mut answer.outcome {
        receipt.durability = None;
    }
    answer
}

/// Every user key of a channel in the order of its revisions, as the chronicle of this node has them.
pub(super) async fn history(node: &Node, channel_id: &str) -> Vec<(u64, String)> {
    use futures::StreamExt as _;
    let request = v1::ReadEventsRequest { channel_ids: vec![channel_id.to_owned()], ..Default::default() };
    let mut events = std::pin::pin!(node.read_events(request));
    let mut found = Vec::new();
    while let Some(response) = timeout(AT_MOST, events.next()).await.unwrap() {
        found.extend(response.unwrap().items.iter().filter_map(friend_added));
    }
    found
}

/// Revision and user key, if it is a friend that was added.
pub(super) fn friend_added(item: &v1::ReadItem) -> Option<(u64, String)> {
    let Some(v1::read_item::Item::Event(event)) = &item.item else { return None };
    match event.payload.as_ref()?.event.as_ref()? {
        v1::payload::Event::FriendAdded(added) => match added.personal.as_ref()?.form.as_ref()? {
            v1::personal::Form::Plain(plain) => Some((event.revision, plain.user_key.clone())),
            v1::personal::Form::Sealed(_) => None,
        },
        _ => None,
    }
}
