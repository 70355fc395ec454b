//! Disks that are full.

use std::sync::atomic::{AtomicU32, Ordering};

use sillok_wire::{
    errors::Outcome,
    v1::{self, Reason, answer::Outcome as Answered},
};
use tokio::time::{Duration, Instant};

use super::kit::{AT_MOST, Trio, add, history, open, refused, surely};

/// Some of a segment.
async fn fill(trio: &Trio) -> Vec<v1::Answer> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let user = |_| format!("u{}-{}", NEXT.fetch_add(1, Ordering::Relaxed), "x".repeat(50));
    let commands = (0..64).map(|n| add("shop", &user(n))).collect();
    trio.node(trio.leader().await).execute(commands).await
}

/// Every site's disk filled up in the same night. Each node stopped when its segment was full, the supervisor started it, it
/// stopped again, and callers saw connections that broke instead of a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_space_writes_are_refused_with_the_reason_and_go_on_by_themselves() {
    let trio = Trio::start().await;
    surely(&trio, trio.leader().await, open("shop")).await;
    trio.disks.iter().for_each(|disk| disk.set_capacity(Some(0)));
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < AT_MOST, "nobody notices");
        let refusal =
            fill(&trio).await.into_iter().find(|answer| !matches!(answer.outcome, Some(Answered::Receipt(_))));
        if let Some(refusal) = refusal
            && refused(&refusal).0 == Reason::DiskFull
        {
            assert_eq!(refused(&refusal).1, Some(Outcome::NotRecorded));
            break;
        }
    }
    for (_, node) in trio.up() {
        assert!(node.core().failures.reported().is_none(), "a node has stopped");
        let begun = Instant::now();
        while !node.status().await.trouble.contains("no space") {
            assert!(begun.elapsed() < AT_MOST, "it does not say so");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    trio.disks.iter().for_each(|disk| disk.set_capacity(None));
    surely(&trio, 0, add("shop", "last")).await;
    let written = history(trio.node(0), "shop").await;
    assert_eq!(written.last().map(|(_, user)| user.as_str()), Some("last"));
}

/// One disk is full and the others are not: nobody who writes should notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_space_gives_leadership_to_one_that_has_some() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    trio.disks[leader].set_capacity(Some(0));
    let begun = Instant::now();
    while trio.leader().await == leader {
        assert!(begun.elapsed() < AT_MOST, "it leads on");
        fill(&trio).await;
    }
    trio.disks[leader].set_capacity(None);
    surely(&trio, leader, add("shop", "last")).await;
}
