//! A reader of events across nodes that fail: no gap, no duplicate.

#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, time::Duration};

use sillok_client::{Client, Events, v1};
use support::{Ledger, Node, Reply, broken};

fn revisions(response: &v1::ReadEventsResponse) -> Vec<u64> {
    let items = response.items.iter();
    items
        .map(|item| match &item.item {
            Some(v1::read_item::Item::Event(event)) => event.revision,
            _ => panic!("only events are there"),
        })
        .collect()
}

/// Everything until the end, or until caught up, and how often that was said.
async fn read(events: &mut Events) -> (Vec<u64>, u32) {
    let (mut all, mut caught_up) = (Vec::new(), 0);
    while let Some(response) = events.next().await.unwrap() {
        all.extend(revisions(&response));
        caught_up += u32::from(response.caught_up);
        if caught_up > 0 && events.cursor() == Some(&21_u64.to_be_bytes()) {
            break;
        }
    }
    (all, caught_up)
}

#[tokio::test]
async fn history_comes_whole_across_breaks() {
    let ledger = Arc::new(Ledger::default());
    let flaky = |at: u64| if at % 5 == 4 { Reply::Break(broken()) } else { Reply::Answer };
    let one = Node::with_events(&ledger, 21, flaky);
    let two = Node::with_events(&ledger, 21, flaky);
    let client = Client::builder().endpoints([&one.address, &two.address]).build().unwrap();
    let mut events = client.events(v1::ReadEventsRequest::default());
    assert_eq!(read(&mut events).await, ((1..=21).collect(), 1));
    assert!(!one.calls().is_empty() && !two.calls().is_empty());
}

#[tokio::test]
async fn a_tail_goes_on_when_its_node_dies() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::with_events(&ledger, 12, |_| Reply::Answer);
    let two = Node::with_events(&ledger, 21, |_| Reply::Answer);
    let client = Client::builder().endpoints([&one.address, &two.address]).build().unwrap();
    let mut events = client.events(v1::ReadEventsRequest { follow: true, ..Default::default() });
    let mut all = Vec::new();
    loop {
        let response = events.next().await.unwrap().unwrap();
        all.extend(revisions(&response));
        if response.caught_up {
            break;
        }
    }
    assert_eq!(all, (1..=12).collect::<Vec<_>>());
    drop(one);
    while all.len() < 21 {
        let response = events.next().await.unwrap().unwrap();
        assert!(!response.caught_up, "that was said before");
        all.extend(revisions(&response));
    }
    assert_eq!(all, (1..=21).collect::<Vec<_>>());
}

/// A tail that had been quiet for longer than the deadline ended with the node that it was read from.
#[tokio::test]
async fn a_tail_goes_on_however_long_it_was_quiet() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let ledger = Arc::new(Ledger::default());
    let one = Node::with_events(&ledger, 12, |_| Reply::Answer);
    let two = Node::with_events(&ledger, 21, |_| Reply::Answer);
    let client = Client::builder().endpoints([&one.address, &two.address]).deadline(DEADLINE).build().unwrap();
    let mut events = client.events(v1::ReadEventsRequest { follow: true, ..Default::default() });
    let mut last = 0;
    while last < 12 {
        last += revisions(&events.next().await.unwrap().unwrap()).len() as u64;
    }
    let next = tokio::spawn(async move { events.next().await });
    // The quiet itself is what went wrong.
    tokio::time::sleep(2 * DEADLINE).await;
    drop(one);
    let response = next.await.unwrap().unwrap().unwrap();
    assert_eq!(revisions(&response).first(), Some(&13));
}

#[tokio::test]
async fn a_limit_holds_across_breaks() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::with_events(&ledger, 21, |at| if at == 3 { Reply::Break(broken()) } else { Reply::Answer });
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let mut events = client.events(v1::ReadEventsRequest { limit: 7, ..Default::default() });
    assert_eq!(read(&mut events).await.0, (1..=7).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_every_node_would_say_ends_the_reading() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::with_events(&ledger, 21, |_| Reply::Answer);
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let start = Some(v1::read_events_request::Start::FromRevision(1));
    let mut events = client.events(v1::ReadEventsRequest { start, ..Default::default() });
    let status = events.next().await.unwrap_err();
    assert_eq!(sillok_wire::errors::reason_of(&status), Some(v1::Reason::CursorInvalid));
    assert!(node.calls().is_empty());
}
