//! A leader whose clock is set wrong while customers write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sillok_domain::UnixNanos;
use sillok_wire::{errors, v1, v1::transfer_leadership_request::Target};
use tokio::time::Instant;

use super::kit::{AT_MOST, Trio, add, open, receipt, surely};
use crate::{Clock, SystemClock};

/// The machine's clock, and so many nanoseconds more.
struct Shifted(Arc<AtomicI64>);

impl Clock for Shifted {
    fn now(&self) -> UnixNanos {
        SystemClock.now() + self.0.load(Ordering::Relaxed)
    }
}

const HOUR: i64 = 3_600_000_000_000;

fn accepted_at(answer: &v1::Answer) -> i64 {
    let at = receipt(answer).accepted_at.unwrap();
    at.seconds * 1_000_000_000 + i64::from(at.nanos)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < AT_MOST, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The leader's clock was set an hour ahead. It stamped what came next an hour into the future, and because event time never
/// runs backwards every leader after it stood still there for an hour: coupons expired early, windows closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_clock_moves_leadership_and_not_the_history() {
    let shifts: [Arc<AtomicI64>; 3] = std::array::from_fn(|_| Arc::default());
    let trio = Trio::start_with(|options| {
        options.clock = Arc::new(Shifted(shifts[options.id as usize - 1].clone()));
    })
    .await;
    let mut last = accepted_at(&surely(&trio, trio.leader().await, open("shop")).await);
    for (round, jump) in [HOUR, -HOUR].into_iter().enumerate() {
        let leader = trio.leader().await;
        let core = trio.node(leader).core();
        shifts[leader].store(jump, Ordering::Relaxed);
        for n in 0..20 {
            let answer = surely(&trio, (leader + n) % 3, add("shop", &format!("r{round}-u{n}"))).await;
            let at = accepted_at(&answer);
            assert!(at >= last, "event time ran backwards");
            assert!(at <= SystemClock.now(), "an event of the future");
            last = at;
        }
        until("the leader with the wrong clock has given leadership up", || core.leading_term().is_none()).await;
        until("it knows why", || core.clocks.off().is_some()).await;

        // An operator who does not know cannot give it back, and status says why.
        let next = trio.leader().await;
        let target = Some(Target::NodeId(leader as u64 + 1));
        let request = v1::TransferLeadershipRequest { target };
        until("the new leader has seen it", || trio.node(next).core().clocks.is_off(leader as u64 + 1)).await;
        let refused = trio.node(next).transfer_leadership(request).await.unwrap_err();
        assert_eq!(errors::reason_of(&refused), Some(v1::Reason::NotReady), "{refused:?}");
        assert!(refused.message().contains("clock"), "{refused:?}");
        let status = trio.node(next).status().await;
        let offset = status.nodes[leader].clock_offset_ms.unwrap();
        assert!((offset - jump / 1_000_000).abs() < 60_000, "{offset} ms");

        shifts[leader].store(0, Ordering::Relaxed);
        until("the clock is right again", || core.clocks.stamp().is_ok()).await;
    }
}

/// The clock was wrong before the process began, and the node that forms the cluster is elected at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_leader_with_a_wrong_clock_decides_nothing() {
    let trio = Trio::start_with(|options| {
        let shift = if options.id == 1 { HOUR } else { 0 };
        options.clock = Arc::new(Shifted(Arc::new(AtomicI64::new(shift))));
    })
    .await;
    let answer = surely(&trio, 0, open("shop")).await;
    assert!(accepted_at(&answer) <= SystemClock.now(), "an event of the future");
    assert_ne!(trio.leader().await, 0);
}

/// Every clock is put right by the same hour: nobody is wrong, and nobody is deposed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_set_together_move_nothing() {
    let shift = Arc::new(AtomicI64::new(0));
    let trio = Trio::start_with(|options| options.clock = Arc::new(Shifted(shift.clone()))).await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let term = trio.node(leader).core().leading_term();
    shift.store(HOUR, Ordering::Relaxed);
    let answer = surely(&trio, leader, add("shop", "u1")).await;
    assert!(accepted_at(&answer) > SystemClock.now());
    assert_eq!(trio.node(leader).core().leading_term(), term);
}
