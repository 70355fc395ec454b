//! Records that are refused, skipped or lost: everything is discarded, nothing is doubled, nothing false is said.

use sillok_domain::Event;
use sillok_wire::{
    command_from_proto,
    records::{NewDecision, NewOutcome, RecordBuilder},
    v1::{self, Reason},
};
use tokio::time::{Duration, Instant, timeout};

use super::kit::{AT_MOST, Trio, add, add_as, history, one, open, receipt, refused, surely};
use crate::types::Applied;

/// Writes u0, u1 … until told to stop, each until its outcome is definite; says how many.
async fn write_until(trio: &Trio, at: usize, stop: &std::sync::atomic::AtomicBool) -> usize {
    let mut n = 0;
    while !stop.load(std::sync::atomic::Ordering::Acquire) {
        let answer = surely(trio, at, add("shop", &format!("u{n}"))).await;
        assert_eq!(receipt(&answer).revision, n as u64 + 2, "each exactly once, gapless");
        n += 1;
    }
    n
}

fn expected(count: usize) -> Vec<(u64, String)> {
    (0..count).map(|n| (n as u64 + 2, format!("u{n}"))).collect()
}

/// A record decided on the head as it is, that the sequencer of this node knows nothing of.
fn foreign_record(trio: &Trio, leader: usize) -> bytes::Bytes {
    let commit = trio.node(leader).core().commits.borrow().unwrap();
    let submission = command_from_proto(open("foreign")).unwrap();
    let mut builder = RecordBuilder::new();
    let events = [Event::ChannelOpened { name: "foreign".to_owned() }];
    builder.push(&NewDecision::of(&submission, NewOutcome::Events { first_revision: 1, events: &events }));
    builder.finish(&commit.head, commit.next_sequence, commit.accepted_at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skipped_record_discards_and_nothing_is_doubled() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let node = trio.node(leader);
    let term = node.core().leading_term().unwrap();
    // Twice the same: one of them is on the chain, the other is a stray duplicate.
    let record = foreign_record(&trio, leader);
    let first = node.core().propose(term, record.clone()).await.unwrap();
    let second = node.core().propose(term, record).await.unwrap();
    assert_eq!(timeout(AT_MOST, first).await.unwrap().unwrap().1, Applied::Recorded);
    assert_eq!(timeout(AT_MOST, second).await.unwrap().unwrap().1, Applied::Skipped);

    // The sequencer still believes in the head before: its next record is skipped, which can be shown.
    let answer = one(node, add("shop", "u0")).await;
    let (reason, outcome) = refused(&answer);
    assert_eq!((reason, outcome), (Reason::NoLeader, Some(sillok_wire::errors::Outcome::NotRecorded)));
    let again = surely(&trio, leader, add("shop", "u0")).await;
    assert_eq!(receipt(&again).revision, 2);
    assert!(!receipt(&again).is_retry(), "the skipped record binds no key");
    assert_eq!(history(node, "shop").await, expected(1));
    assert_eq!(node.core().leading_term(), Some(term), "in the same term");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_followers_cost_time_and_nothing_else() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let writing = write_until(&trio, leader, &stop);
    let stalling = async {
        let followers: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        let mut commits = trio.node(leader).core().commits.clone();
        for _ in 0..2 {
            followers.iter().for_each(|at| trio.disks[*at].hold_syncs());
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            let stalled = commits.borrow_and_update().map(|commit| commit.log_id.index);
            followers.iter().for_each(|at| trio.disks[*at].release_syncs());
            let goes_on =
                commits.wait_for(|commit| commit.map(|commit| commit.log_id.index) > stalled.map(|at| at + 3));
            goes_on.await.expect("the leader runs");
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
    };
    let (count, ()) = timeout(AT_MOST, async { tokio::join!(writing, stalling) }).await.unwrap();
    assert!(count > 0);
    trio.node(leader).read(None).await.unwrap();
    assert_eq!(history(trio.node(leader), "shop").await, expected(count));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_with_its_answers_says_nothing_false() {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, super::kit::wait_all_sites(open("shop"), AT_MOST)).await;
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for at in &others {
        trio.kill(*at).await;
    }
    // The second is refused only because of the first, and the first cannot be committed any more.
    let node = trio.node(leader).clone();
    let frame = vec![add_as("shop", "u0", "first"), add_as("shop", "u0", "second")];
    let asked = tokio::spawn(async move { node.execute(frame).await });
    let begun = Instant::now();
    while !asked.is_finished() && begun.elapsed() < Duration::from_millis(300) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    trio.kill(leader).await;
    for answer in timeout(AT_MOST, asked).await.unwrap().unwrap() {
        let (reason, _) = refused(&answer);
        assert!(
            matches!(reason, Reason::OutcomeUnknown | Reason::NoLeader | Reason::ShuttingDown),
            "nothing was committed, and yet: {answer:?}"
        );
    }

    // Without the old leader nothing of it ever happened.
    for at in &others {
        trio.boot(*at).await;
    }
    let next = trio.leader().await;
    let second = surely(&trio, next, add_as("shop", "u0", "second")).await;
    assert_eq!(receipt(&second).revision, 2);
    trio.boot(leader).await;
    let first = surely(&trio, leader, add_as("shop", "u0", "first")).await;
    assert_eq!(refused(&first).0, Reason::AlreadyFriend);
    let all: Vec<v1::GetStatusResponse> = futures::future::join_all(trio.up().map(|(_, node)| node.status())).await;
    assert!(all.iter().all(|status| status.trouble.is_empty()), "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_when_leaders_are_killed_again_and_again() {
    let mut trio = Trio::start().await;
    let mut leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let mut n = 0;
    for _ in 0..3 {
        trio.kill(leader).await;
        let at = trio.up().map(|(at, _)| at).next().unwrap();
        for _ in 0..20 {
            let answer = surely(&trio, at, add("shop", &format!("u{n}"))).await;
            assert_eq!(receipt(&answer).revision, n as u64 + 2);
            n += 1;
        }
        trio.boot(leader).await;
        leader = trio.leader().await;
    }
    for (_, node) in trio.up() {
        node.read(None).await.unwrap();
        assert_eq!(history(node, "shop").await, expected(n));
    }
    let heads: Vec<_> = trio.up().map(|(_, node)| node.views().applied().map(|applied| applied.head)).collect();
    assert!(heads.windows(2).all(|pair| pair[0] == pair[1]), "one chain everywhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_from_the_future_stops_the_views_and_nothing_else() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    surely(&trio, leader, super::kit::wait_all_sites(add("shop", "u0"), AT_MOST)).await;
    let node = trio.node(leader);
    let mut record = sillok_wire::records::decode(foreign_record(&trio, leader)).unwrap();
    record.feature_level = 99;
    let term = node.core().leading_term().unwrap();
    let proposal = node.core().propose(term, sillok_wire::records::encode(&record)).await.unwrap();
    let (entry, applied) = timeout(AT_MOST, proposal).await.unwrap().unwrap();
    assert_eq!(applied, Applied::Recorded, "it is replicated and committed all the same");

    for (_, node) in trio.up() {
        let begun = Instant::now();
        while node.front().answers_stale_reads() {
            assert!(begun.elapsed() < AT_MOST);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(node.status().await.trouble.contains("99"), "status says why");
        let stale = v1::ReadOptions { consistency: v1::ReadConsistency::Stale.into(), at_least: None };
        let info = node.read(Some(&stale)).await.unwrap();
        assert_eq!(info.position.unwrap().sequence, 2, "what was folded before is still answered");
        let applied = node.views().applied().unwrap();
        assert_eq!(applied.index, entry.index - 1, "and nothing is skipped");
        let error = node.read(None).await.unwrap_err();
        let reason = sillok_wire::errors::reason_of(&error);
        assert!(matches!(reason, Some(Reason::ViewsStopped | Reason::NoLeader)), "{error}");
        let write = one(node, add("shop", "u1")).await;
        assert_eq!(refused(&write).1, Some(sillok_wire::errors::Outcome::NotRecorded), "{write:?}");
    }
}
