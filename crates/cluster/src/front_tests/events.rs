//! One reader for history and tail: no gap, no duplicate.

use futures::StreamExt as _;
use sillok_wire::{
    errors::reason_of,
    v1::{self, Reason, read_events_request::Start},
};
use tokio::time::timeout;

use super::kit::{AT_MOST, Trio, add, add_as, friend_added, history, open, surely};

/// Everything a request gives until it ends, or until enough was given.
async fn collect(node: &crate::Node, request: v1::ReadEventsRequest, enough: usize) -> Vec<v1::ReadItem> {
    let mut events = std::pin::pin!(node.read_events(request));
    let mut items = Vec::new();
    while items.len() < enough {
        match timeout(AT_MOST, events.next()).await.expect("goes on") {
            Some(response) => items.extend(response.unwrap().items),
            None => break,
        }
    }
    items
}

fn revisions(items: &[v1::ReadItem]) -> Vec<u64> {
    let revision = |item: &v1::ReadItem| match &item.item {
        Some(v1::read_item::Item::Event(event)) => event.revision,
        _ => 0,
    };
    items.iter().map(revision).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_see_every_event_once_across_a_leader_change() {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let reader = trio.follower().await;
    let request = v1::ReadEventsRequest {
        follow: true,
        channel_ids: vec!["shop".to_owned()],
        start: Some(Start::FromRevision(1)),
        ..Default::default()
    };
    let node = trio.node(reader).clone();
    let total = 121;
    let following = tokio::spawn(async move { collect(&node, request, total).await });
    for n in 0..60 {
        surely(&trio, reader, add("shop", &format!("u{n}"))).await;
    }
    trio.kill(leader).await;
    for n in 60..120 {
        surely(&trio, reader, add("shop", &format!("u{n}"))).await;
    }
    let items = timeout(AT_MOST, following).await.unwrap().unwrap();
    assert_eq!(revisions(&items), (1..=total as u64).collect::<Vec<_>>());
    let keys: Vec<String> = items.iter().filter_map(friend_added).map(|(_, key)| key).collect();
    assert_eq!(keys, (0..120).map(|n| format!("u{n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_from_any_cursor_at_any_node() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let frame: Vec<v1::Command> = (0..50).map(|n| add("shop", &format!("u{n}"))).collect();
    trio.node(leader).execute(frame).await;
    let all = collect(trio.node(leader), v1::ReadEventsRequest::default(), usize::MAX).await;
    assert_eq!(all.len(), 51);
    for (n, item) in all.iter().enumerate() {
        let request =
            v1::ReadEventsRequest { start: Some(Start::AfterCursor(item.cursor.clone())), ..Default::default() };
        let rest = collect(trio.node(n % 3), request, usize::MAX).await;
        assert_eq!(revisions(&rest), revisions(&all[n + 1..]), "after item {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_starts_at_any_position_revision_or_the_end() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("a")).await;
    surely(&trio, leader, open("b")).await;
    for n in 0..20 {
        surely(&trio, leader, add("a", &format!("u{n}"))).await;
        surely(&trio, leader, add("b", &format!("u{n}"))).await;
    }
    surely(&trio, leader, add_as("b", "u1", "again")).await;
    let node = trio.node(leader);
    let all = v1::ReadEventsRequest { include_refusals: true, ..Default::default() };
    let all = collect(node, all, usize::MAX).await;
    assert_eq!(all.len(), 43);
    for sequence in 1..=44 {
        let position = v1::Position { log: 1, sequence, term: 0 };
        let request = v1::ReadEventsRequest {
            start: Some(Start::FromPosition(position)),
            include_refusals: true,
            ..Default::default()
        };
        let rest = collect(node, request, usize::MAX).await;
        assert_eq!(rest.len() as u64, 44 - sequence, "from position {sequence}");
    }
    for revision in 1..=22 {
        let request = v1::ReadEventsRequest {
            start: Some(Start::FromRevision(revision)),
            channel_ids: vec!["b".to_owned()],
            ..Default::default()
        };
        let rest = collect(node, request, usize::MAX).await;
        assert_eq!(revisions(&rest), (revision..=21).collect::<Vec<_>>());
    }
    let openings = v1::ReadEventsRequest { kinds: vec![1], ..Default::default() };
    assert_eq!(collect(node, openings, usize::MAX).await.len(), 2);
    let few = v1::ReadEventsRequest { limit: 7, ..Default::default() };
    assert_eq!(collect(node, few, usize::MAX).await.len(), 7);

    let end = v1::ReadEventsRequest { start: Some(Start::FromEnd(true)), follow: true, ..Default::default() };
    let mut tail = std::pin::pin!(node.read_events(end));
    let first = timeout(AT_MOST, tail.next()).await.unwrap().unwrap().unwrap();
    assert!(first.caught_up);
    assert!(first.items.is_empty());
    surely(&trio, leader, add("a", "new")).await;
    let next = timeout(AT_MOST, tail.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next.items.iter().filter_map(friend_added).collect::<Vec<_>>(), [(22, "new".to_owned())]);
    assert!(!next.caught_up, "said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_filter_still_says_how_far_it_is() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let request = v1::ReadEventsRequest { channel_ids: vec!["another".to_owned()], follow: true, ..Default::default() };
    let mut events = std::pin::pin!(trio.node(leader).read_events(request));
    let first = timeout(AT_MOST, events.next()).await.unwrap().unwrap().unwrap();
    assert!(first.caught_up && first.items.is_empty());
    let second = timeout(AT_MOST, events.next()).await.unwrap().unwrap().unwrap();
    assert!(second.items.is_empty());
    let progress = second.progress.unwrap();
    assert_eq!(progress.info.unwrap().position.unwrap().sequence, 1);
    // Its cursor is as good as one of an event.
    surely(&trio, leader, open("another")).await;
    let request = v1::ReadEventsRequest { start: Some(Start::AfterCursor(progress.cursor)), ..Default::default() };
    let rest = collect(trio.node(trio.follower().await), request, usize::MAX).await;
    assert_eq!(revisions(&rest), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_another_cluster_or_history_is_refused() {
    let trio = Trio::start().await;
    let other = Trio::start().await;
    let (here, there) = (trio.leader().await, other.leader().await);
    surely(&trio, here, open("shop")).await;
    surely(&other, there, open("shop")).await;
    let theirs = collect(other.node(there), v1::ReadEventsRequest::default(), usize::MAX).await.remove(0).cursor;
    let mut forged =
        collect(trio.node(here), v1::ReadEventsRequest::default(), usize::MAX).await.remove(0).cursor.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for cursor in [theirs, forged.into(), vec![7; 3].into()] {
        let request = v1::ReadEventsRequest { start: Some(Start::AfterCursor(cursor)), ..Default::default() };
        let mut events = std::pin::pin!(trio.node(here).read_events(request));
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(reason_of(&error), Some(Reason::CursorInvalid), "{error}");
    }
    assert!(history(trio.node(here), "shop").await.is_empty());
}

/// One byte of a sealed segment had rotted on one site. Its readers were told "not ready" for ever, while it went on voting,
/// leading, and counting as a place where everything is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_meets_damage_while_it_serves_a_reader_stops() {
    let trio = Trio::start_with(|options| {
        options.segment_bytes = 8 << 10;
        options.tail_cache_bytes = 0;
    })
    .await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    for frame in 0..20 {
        let commands: Vec<_> = (0..20).map(|n| add("shop", &format!("u{}", frame * 20 + n))).collect();
        trio.node(leader).execute(commands).await;
    }
    let reader = trio.follower().await;
    let node = trio.node(reader);
    timeout(AT_MOST, async {
        while node.core().chronicle.sealed().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the test is about sealed segments");
    let segment = node.core().options.data_dir.join("chronicle/0000000000.seg");
    assert!(trio.disks[reader].flip(&segment, 4000, 0x10));
    let request = v1::ReadEventsRequest { channel_ids: vec!["shop".to_owned()], ..Default::default() };
    let mut events = std::pin::pin!(node.read_events(request));
    while let Some(Ok(_)) = timeout(AT_MOST, events.next()).await.expect("goes on") {}
    let failure = timeout(AT_MOST, node.failure()).await.expect("the node stops");
    assert_eq!(failure.exit_code(), 65, "{failure}");
    assert!(failure.message.contains("0000000000.seg is damaged at byte"), "{failure}");
}
