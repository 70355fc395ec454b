//! How many allocations an event costs on its whole way through a node: encoded command, queue, decision, record, consensus, chronicle,
//! commit, receipt, fold. All threads are counted. A ceiling stands over them; it is what was seen and a little more, since
//! timers and heartbeats allocate as well.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{alloc::System, net::SocketAddr, path::Path, time::Duration};

use sillok_cluster::{InitialNode, Node, NodeOptions, ViewsOptions};
use sillok_wire::v1;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::time::{Instant, sleep};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SHOP: &str = "shop";
/// Of a frame, as a busy client sends it.
const FRAME: u64 = 256;
/// At once on the way.
const WINDOW: u64 = 8;
const FRAMES: u64 = 128;
const AT_MOST: Duration = Duration::from_secs(60);

fn context(number: u64) -> Option<v1::CommandContext> {
    Some(v1::CommandContext { retry_key: format!("{number:032x}"), ..Default::default() })
}

fn add(number: u64) -> v1::Command {
    v1::AddFriendRequest {
        context: context(number),
        channel_id: SHOP.to_owned(),
        user_key: format!("u{number}"),
        source: v1::FriendSource::Search.into(),
        attributes: Vec::new(),
        consents: Vec::new(),
    }
    .into()
}

fn push(number: u64) -> v1::Command {
    v1::SendPushRequest {
        context: context(1 << 32 | number),
        channel_id: SHOP.to_owned(),
        user_key: format!("u{}", number % FRAME + 1),
        body: Some(v1::MessageBody { text: "x".repeat(140), is_ad: false, unit_price_won: 15 }),
    }
    .into()
}

fn address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap()
}

/// So many nodes, formed; the one that leads is the first.
async fn cluster(dir: &Path, count: u64) -> Vec<Node> {
    let initial: Vec<InitialNode> = (1..=count)
        .map(|id| InitialNode {
            id,
            site: format!("site-{id}"),
            peer_address: address().to_string(),
            client_address: format!("client-{id}:1"),
        })
        .collect();
    let mut nodes = Vec::new();
    for node in &initial {
        let mut options = NodeOptions::new(
            node.id,
            &node.site,
            dir.join(format!("{count}-{}", node.id)),
            node.peer_address.parse().unwrap(),
        );
        (options.client_address, options.initial) = (node.client_address.clone(), initial.clone());
        options.allow_single_site_quorum = count == 1;
        options.segment_bytes = 16 << 20;
        options.views = ViewsOptions { in_memory: true, ..ViewsOptions::default() };
        nodes.push(Node::start(options).await.unwrap());
    }
    let begun = Instant::now();
    loop {
        let leading = nodes.iter().position(|node| {
            node.leader_client_address().is_some_and(|leader| leader == format!("client-{}:1", node.id()))
        });
        if let Some(leading) = leading {
            nodes.swap(0, leading);
            return nodes;
        }
        assert!(begun.elapsed() < AT_MOST, "nobody leads");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Frames in order, some of them on the way at once, each of which must be recorded.
async fn submit(node: &Node, frames: Vec<v1::SubmitRequest>) {
    let submitter = node.submitter().unwrap();
    let mut pending = std::collections::VecDeque::new();
    for frame in frames {
        if pending.len() as u64 >= WINDOW {
            recorded(pending.pop_front().unwrap()).await;
        }
        // Called here: it is in the queue before it is awaited.
        pending.push_back(submitter.submit(frame.commands));
    }
    for answers in pending {
        recorded(answers).await;
    }
}

async fn recorded(answers: impl Future<Output = Result<Vec<v1::Answer>, tonic::Status>>) {
    let answers = tokio::time::timeout(AT_MOST, answers).await.unwrap().unwrap();
    let is_receipt = |answer: &v1::Answer| matches!(answer.outcome, Some(v1::answer::Outcome::Receipt(_)));
    assert!(answers.iter().all(is_receipt), "{:?}", answers.iter().find(|answer| !is_receipt(answer)));
}

/// All nodes have folded everything that any of them knows to be committed.
async fn level(nodes: &[Node]) {
    let begun = Instant::now();
    loop {
        let mut committed = 0;
        let mut applied = u64::MAX;
        for node in nodes {
            let status = node.status().await;
            committed = committed.max(status.committed_index);
            applied = applied.min(status.applied_index);
        }
        if applied >= committed {
            return;
        }
        assert!(begun.elapsed() < AT_MOST, "the views stay behind: {applied} of {committed}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// For each event, of all nodes together; making the commands is not counted.
async fn allocations(dir: &Path, count: u64) -> f64 {
    let nodes = cluster(dir, count).await;
    let open = v1::OpenChannelRequest { context: context(0), channel_id: SHOP.to_owned(), name: "가게".to_owned() };
    submit(&nodes[0], vec![[open.into()].into_iter().collect(), (1..=FRAME).map(add).collect()]).await;
    let frames = |from: u64| (from..from + FRAMES).map(|n| (n * FRAME..(n + 1) * FRAME).map(push).collect()).collect();
    // Connections, buffers and tables come to be.
    submit(&nodes[0], frames(0)).await;
    level(&nodes).await;
    let measured: Vec<v1::SubmitRequest> = frames(FRAMES);
    let region = Region::new(COUNTED);
    submit(&nodes[0], measured).await;
    level(&nodes).await;
    let change = region.change();
    for node in &nodes {
        node.shutdown().await;
    }
    (change.allocations + change.reallocations) as f64 / (FRAMES * FRAME) as f64
}

/// The only test of this binary: whatever else ran would be counted too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_costs_no_more_allocations_than_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let one = allocations(dir.path(), 1).await;
    let three = allocations(dir.path(), 3).await;
    println!("{one:.2} allocations an event in a node of its own, {three:.2} in three nodes together");
    assert!(one <= 6.5, "{one:.2} in a node of its own");
    assert!(three <= 6.9, "{three:.2} in three nodes together");
}
