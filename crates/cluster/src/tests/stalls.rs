//! Clocks that differ and disks that stand still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sillok_domain::UnixNanos;
use tokio::time::{Instant, timeout};

use super::harness::{AT_MOST, Cluster, eventually, write};
use crate::{Clock, SystemClock};

/// The machine's clock, and so many nanoseconds more.
struct Shifted(Arc<AtomicI64>);

impl Clock for Shifted {
    fn now(&self) -> UnixNanos {
        SystemClock.now() + self.0.load(Ordering::Relaxed)
    }
}

const HOUR: i64 = 3_600_000_000_000;

/// A follower that had been paused worked through what its leader had sent a minute before and said that it was current as
/// of now: it took its own clock at the moment of the answer. Here the leader's clock is what tells the two apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_is_current_as_of_the_leaders_word_and_not_as_of_its_own_answer() {
    let shifts: [Arc<AtomicI64>; 3] = std::array::from_fn(|_| Arc::default());
    let cluster = Cluster::formed_with(|options| {
        options.clock = Arc::new(Shifted(shifts[options.id as usize - 1].clone()));
        // What is tried here is not whether such a leader goes on.
        options.timings.max_clock_offset_ms = u64::MAX;
    })
    .await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let core = cluster.core(follower);
    // Whatever it has.
    let claim = || core.confirmed_at(u64::MAX);
    eventually("it is current", || claim().filter(|at| SystemClock.now() - at < HOUR / 2)).await;

    shifts[leader as usize - 1].store(-HOUR, Ordering::Relaxed);
    eventually("the leader's word counts", || claim().filter(|at| SystemClock.now() - at > HOUR / 2)).await;
    // A leader's clock that is ahead is not believed.
    shifts[leader as usize - 1].store(HOUR, Ordering::Relaxed);
    let at = eventually("and its own clock bounds it", || claim().filter(|at| SystemClock.now() - at < HOUR / 2)).await;
    assert!(at <= SystemClock.now(), "current as of the future");
}

/// A node was asked to stop while its disk did not answer: it waited for consensus to end, which waited for the disk, until
/// the supervisor killed it and called the stop a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_disk_stands_still_stops_all_the_same() {
    let cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    write(cluster.core(leader), 1).await;
    cluster.disk(follower).hold_syncs();
    let last = write(cluster.core(leader), 2).await;
    let core = cluster.core(follower);
    // The entry, or a vote where a busy machine has held an election meanwhile.
    eventually("something waits for its disk", || (!core.chronicle.flush_lag().is_zero()).then_some(())).await;
    assert!(core.chronicle.flushed() < Some(last));

    let began = Instant::now();
    let stopped = timeout(AT_MOST, cluster.node(follower).shutdown()).await;
    let took = began.elapsed();
    cluster.disk(follower).release_syncs();
    stopped.unwrap();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}
