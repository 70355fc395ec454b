//! Every drill of the catalogue in a short form, a few at a time.

#![expect(clippy::unwrap_used, reason = "a drill that cannot be run fails where it stands")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use sillok_drill::{DRILLS, Observer, Options, Progress};
use tokio::sync::Semaphore;

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
/// Long enough for each fault to be seen under load.
const LOAD_FOR: Duration = Duration::from_secs(5);

/// Each has a cluster and a load of its own, and waits more than it works.
static SOME_AT_A_TIME: Semaphore = Semaphore::const_new(2);

/// What is done is printed; a failing test shows it.
struct Lines;

impl Observer for Lines {
    fn note(&self, at: Duration, text: &str) {
        println!("{:>6.1} s  {text}", at.as_secs_f64());
    }

    fn progress(&self, _: &Progress) {}
}

async fn promises_are_kept(name: &str) {
    let _turn = SOME_AT_A_TIME.acquire().await.unwrap();
    let drill = sillok_drill::drill(name).unwrap();
    let options = Options {
        binary: PathBuf::from(BINARY),
        from: None,
        compose: None,
        load_for: LOAD_FOR,
        clients: 8,
        nodes: 3,
        seed: rand::random(),
        keep: false,
    };
    let report = sillok_drill::run(drill, options, Arc::new(Lines)).await.unwrap();
    println!("{}", report.table());
    let writes = report.score.acknowledged_writes;
    assert!(writes > 20, "only {writes} writes were acknowledged: a drill without load shows nothing");
    assert!(report.kept, "promises were broken, seed {}", report.seed);
}

macro_rules! drills {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];

        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            promises_are_kept($name).await;
        })*
    };
}

drills! {
    leader_site_fire: "leader-site-fire",
    follower_site_fire: "follower-site-fire",
    two_of_three: "two-of-three",
    last_survivor: "last-survivor",
    partition: "partition",
    one_way_partition: "one-way-partition",
    flapping_link: "flapping-link",
    slow_link: "slow-link",
    pause: "pause",
    slow_disk: "slow-disk",
    full_disk: "full-disk",
    bit_rot: "bit-rot",
    torn_tail: "torn-tail",
    views_lost: "views-lost",
    rolling_restart: "rolling-restart",
    rolling_upgrade: "rolling-upgrade",
    cold_start: "cold-start",
    returning_ghost: "returning-ghost",
    clock_jump: "clock-jump",
    long_absence: "long-absence",
    retry_storm: "retry-storm",
}

#[test]
fn every_drill_of_the_catalogue_is_run_here() {
    let names: Vec<&str> = DRILLS.iter().map(|drill| drill.name).collect();
    assert_eq!(names, TESTED);
}
