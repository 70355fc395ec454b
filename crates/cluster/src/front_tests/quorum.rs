//! A leader that nobody answers says so; a leader whose own disk is dead takes no more than it may lose.

use sillok_wire::{errors::Outcome, v1::Reason};
use tokio::time::{Duration, Instant, timeout};

use super::kit::{AT_MOST, Trio, add, history, one, open, receipt, refused, surely};

/// Both other sites burned while a shop was writing. Consensus does not step down for that: the leader took the commands,
/// answered none of them for a minute, and could then not say of any whether it was recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_quorum_refuses_at_once_and_goes_on_when_it_is_back() {
    let mut trio = Trio::start_with(|options| options.limits.records_in_flight = 4).await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let node = trio.node(leader).clone();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();

    // From here on nothing more is committed.
    for at in &others {
        trio.disks[*at].hold_syncs();
    }
    // The first four are as many records as may be in flight; the others wait behind, a repeat of the first among them.
    let commands: Vec<_> = (0..6).map(|n| add("shop", &format!("u{n}"))).chain([add("shop", "u0")]).collect();
    let mut asked = Vec::new();
    for (n, command) in commands.into_iter().enumerate() {
        let last = || node.core().chronicle.last().map(|last| last.index);
        let (before, taken) = (last(), node.front().queue_bytes());
        let asking = node.clone();
        asked.push(tokio::spawn(async move { asking.execute(vec![command]).await }));
        let begun = Instant::now();
        while node.front().queue_bytes() == taken || (n < 4 && last() == before) {
            assert!(begun.elapsed() < AT_MOST, "command {n} is not taken");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for at in &others {
        trio.kill(*at).await;
    }
    let begun = Instant::now();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(timeout(Duration::from_secs(10), asked).await.expect("it does not hang").unwrap().remove(0));
    }
    assert_eq!(refused(&answers[0]), (Reason::OutcomeUnknown, None), "it is in the leader's log");
    assert_eq!(refused(&answers[6]), (Reason::OutcomeUnknown, None), "and so would its repeat be");
    for answer in &answers[4..6] {
        assert_eq!(refused(answer), (Reason::NoLeader, Some(Outcome::NotRecorded)), "it was never proposed");
    }
    let fresh = one(&node, add("shop", "u9")).await;
    assert_eq!(refused(&fresh), (Reason::NoLeader, Some(Outcome::NotRecorded)));
    let retry = match &fresh.outcome {
        Some(sillok_wire::v1::answer::Outcome::Error(status)) => {
            sillok_wire::errors::retry_after(&sillok_wire::errors::from_rpc(status.clone()))
        }
        _ => None,
    };
    assert!(retry.is_some(), "and says when to come again");
    let at_most = Duration::from_millis(3 * node.core().options.timings.election_max_ms);
    assert!(begun.elapsed() < at_most, "{:?}", begun.elapsed());

    trio.boot(others[0]).await;
    for n in 0..6 {
        receipt(&surely(&trio, leader, add("shop", &format!("u{n}"))).await);
    }
    node.read(None).await.unwrap();
    let mut users: Vec<_> = history(&node, "shop").await.into_iter().map(|(_, user)| user).collect();
    users.sort();
    assert_eq!(users, (0..6).map(|n| format!("u{n}")).collect::<Vec<_>>(), "each exactly once");
}

/// A leader's disk had stopped answering. Its followers made every quorum, so it went on for a day, until the memory that
/// held what it could not write ran out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_dead_disk_stops_taking_what_it_cannot_write() {
    const BOUND: u64 = 64 << 10;
    let trio = Trio::start_with(|options| {
        options.limits.unflushed_bytes = BOUND;
        // It would hand over otherwise, which is another way out.
        options.timings.flush_lag_ms = 600_000;
    })
    .await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let node = trio.node(leader).clone();
    trio.disks[leader].hold_syncs();

    let one_by_one = node.clone();
    let mut writing = tokio::spawn(async move {
        for n in 0..2_000 {
            receipt(&one(&one_by_one, add("shop", &format!("u{n}"))).await);
        }
    });
    let begun = Instant::now();
    while node.core().chronicle.has_room() {
        assert!(begun.elapsed() < AT_MOST && !writing.is_finished(), "it never came to its bound");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(node.core().commits.borrow().unwrap().next_sequence > 100, "its followers acknowledge for it until then");
    // Long enough for hundreds of commands, were they taken.
    assert!(timeout(Duration::from_millis(700), &mut writing).await.is_err(), "nothing is answered beyond the bound");
    let unflushed = node.core().chronicle.unflushed_bytes();
    assert!(unflushed < BOUND + (4 << 10), "{unflushed}");
    trio.disks[leader].release_syncs();
    timeout(AT_MOST, writing).await.expect("with the disk, writes go on").unwrap();
    assert_eq!(history(&node, "shop").await.len(), 2_000);
}
