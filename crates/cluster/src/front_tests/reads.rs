//! Linearizable at any node; stale where there is nobody else.

use std::time::Duration;

use sillok_wire::{
    errors::{Outcome, outcome_of, reason_of},
    v1::{self, Reason},
};

use super::kit::{AT_MOST, Trio, add, one, open, receipt, refused, surely};

fn options(consistency: v1::ReadConsistency) -> v1::ReadOptions {
    v1::ReadOptions { consistency: consistency.into(), at_least: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reads_what_was_acknowledged_anywhere() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    for n in 0..30 {
        let answer = surely(&trio, n % 3, add("shop", &format!("u{n}"))).await;
        let written = receipt(&answer).position.unwrap().sequence;
        for (_, node) in trio.up() {
            let info = node.read(None).await.unwrap();
            assert!(info.position.unwrap().sequence >= written, "node {} misses {written}", node.id());
            assert_eq!(info.consistency(), v1::ReadConsistency::Linearizable);
            assert!(info.current_as_of.is_some());
            let friends = node
                .views()
                .with_channel("shop", |table| sillok_domain::Load::summary(&**table.unwrap()).unwrap().revision);
            assert!(friends >= receipt(&answer).revision);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_the_position_it_names() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    let answer = surely(&trio, leader, open("shop")).await;
    let at_least = receipt(&answer).position;
    let stale = v1::ReadOptions { at_least, ..options(v1::ReadConsistency::Stale) };
    for (_, node) in trio.up() {
        let info = node.read(Some(&stale)).await.unwrap();
        assert!(info.position.unwrap().sequence >= at_least.unwrap().sequence);
        assert_eq!(info.consistency(), v1::ReadConsistency::Stale);
    }
    let beyond = v1::ReadOptions {
        at_least: Some(v1::Position { log: 1, sequence: 1_000_000, term: 0 }),
        ..options(v1::ReadConsistency::Stale)
    };
    let error = trio.node(leader).read(Some(&beyond)).await.unwrap_err();
    assert_eq!(reason_of(&error), Some(Reason::PositionNotReached));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_answers_stale_and_refuses_writes_at_once() {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let answer = surely(&trio, leader, super::kit::wait_all_sites(add("shop", "u1"), AT_MOST)).await;
    let written = receipt(&answer).position.unwrap().sequence;
    let alone = trio.follower().await;
    trio.node(alone).read(None).await.unwrap();
    // The committed index reaches the meta file at a graceful stop at the latest.
    for at in 0..3 {
        trio.stop(at).await;
    }
    trio.boot(alone).await;

    let node = trio.node(alone);
    let info = tokio::time::timeout(AT_MOST, async {
        loop {
            let info = node.read(Some(&options(v1::ReadConsistency::Stale))).await.unwrap();
            if info.position.unwrap().sequence >= written {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let info = info.await.expect("views are folded up to the remembered commit without any other node");
    assert_eq!(info.node_id, node.id());
    assert!(info.last_event_at.is_some());
    assert_eq!(info.current_as_of, None, "no leader was heard since the start");

    let begun = tokio::time::Instant::now();
    let write = one(node, add("shop", "u2")).await;
    assert_eq!(refused(&write), (Reason::NoLeader, Some(Outcome::NotRecorded)));
    assert!(begun.elapsed() < AT_MOST / 4, "at once");

    let read = node.read(None).await.unwrap_err();
    assert_eq!(reason_of(&read), Some(Reason::NoLeader));
    assert_eq!(outcome_of(&read), None);
}
