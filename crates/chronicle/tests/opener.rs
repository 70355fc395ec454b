//! A chronicle without threads: whoever opened it works, and nothing happens in between.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::*;
use parking_lot::Mutex;
use sillok_chronicle::{Chronicle, Due, LogId, Options, Vote, Workers, sim::SimDisk};

/// A chronicle, its bell and its clock.
struct Own {
    chronicle: Chronicle,
    rung: Arc<AtomicBool>,
    clock: Arc<Mutex<Instant>>,
}

fn own(sim: &SimDisk) -> Own {
    let (rung, clock) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Instant::now())));
    let bell = Workers::Opener(Arc::new({
        let rung = rung.clone();
        move || rung.store(true, Ordering::SeqCst)
    }));
    let now = Arc::new({
        let clock = clock.clone();
        move || *clock.lock()
    });
    let chronicle = Chronicle::open(Options { workers: bell, now, ..options(sim.boot()) }).unwrap();
    Own { chronicle, rung, clock }
}

#[test]
fn nothing_is_durable_before_the_opener_works_and_everything_after() {
    let sim = formatted(1);
    let own = own(&sim);
    own.chronicle.work();
    own.rung.store(false, Ordering::SeqCst);
    let operations = sim.operations();
    let answer = begin_append(&own.chronicle, entries(1, 0..300));
    assert!(own.rung.load(Ordering::SeqCst), "there is work and nobody was told");
    assert_eq!((own.chronicle.flushed(), sim.operations()), (None, operations));
    assert!(answer.try_recv().is_err());
    own.chronicle.work();
    answer.try_recv().unwrap().unwrap();
    assert_eq!(own.chronicle.flushed(), Some(LogId::new(1, 299)));
    own.chronicle.set_committed(LogId::new(1, 299));
    assert!(own.chronicle.sealed().is_empty());
    own.chronicle.work();
    assert!(own.chronicle.sealed().len() > 1, "what is wholly committed is sealed");
    own.chronicle.close();
    assert_eq!(own.chronicle.work(), Due::Never);
    assert_eq!(read_all(&open(&sim)), entries(1, 0..300));
}

#[test]
fn the_same_calls_make_the_same_bytes_with_and_without_threads() {
    let (with, without) = (formatted(1), formatted(1));
    let threads = open(&with);
    append(&threads, entries(1, 0..200)).unwrap();
    threads.close();
    let own = own(&without);
    own.chronicle.append(entries(1, 0..200), |result| result.unwrap());
    own.chronicle.close();
    for path in segments(&with) {
        let bytes = with.bytes(&path).unwrap();
        // The one made ahead may not have been finished.
        if bytes.iter().any(|byte| *byte != 0) {
            assert!(without.bytes(&path).is_some_and(|other| other == bytes), "{}", path.display());
        }
    }
}

/// A node whose disk was full filled what was left of it twice a second, only to give it back: whoever else wrote there, the views
/// among them, found no space meanwhile.
#[test]
fn what_is_left_of_a_disk_is_not_filled_for_a_segment_that_would_leave_too_little() {
    let sim = formatted(1);
    let own = own(&sim);
    own.chronicle.work();
    let used = || sim.paths().iter().map(|path| sim.bytes(path).unwrap().len() as u64).sum::<u64>();
    // A file of 12 KiB for segments of 8, and less than half of a segment beside it.
    let before = used();
    sim.set_capacity(Some(before + (12 << 10) + (3 << 10)));
    let first = segments(&sim).len();
    let mut indexes = 0..;
    while segments(&sim).len() == first && !own.chronicle.is_disk_full() {
        let index = indexes.next().unwrap();
        own.chronicle.append(entries(1, index..index + 1), |result| result.unwrap());
        own.chronicle.work();
    }
    assert!(own.chronicle.is_disk_full());
    assert_eq!(used(), before);

    sim.set_capacity(Some(before + (12 << 10) + (4 << 10)));
    *own.clock.lock() += Duration::from_secs(1);
    own.chronicle.work();
    assert!(!own.chronicle.is_disk_full());
    assert_eq!(segments(&sim).len(), first + 1);
}

#[test]
fn what_is_committed_reaches_the_meta_file_when_it_is_due_by_the_clock_that_was_given() {
    let sim = formatted(1);
    let own = own(&sim);
    own.chronicle.save_vote(Vote { term: 1, node_id: 1, committed: false }, |result| result.unwrap());
    own.chronicle.append(entries(1, 0..3), |result| result.unwrap());
    let Due::At(due) = own.chronicle.work() else { panic!("the meta file is behind and never due") };
    own.chronicle.set_committed(LogId::new(1, 2));
    assert_eq!(own.chronicle.work(), Due::At(due));
    *own.clock.lock() = due + Duration::from_millis(1);
    assert_eq!(own.chronicle.work(), Due::OnBell);
    sim.kill();
    assert_eq!(open(&sim).committed(), Some(LogId::new(1, 2)));
}

#[test]
fn a_disk_that_fails_answers_everybody_and_ends_the_work() {
    let sim = formatted(1);
    let own = own(&sim);
    own.chronicle.work();
    sim.cut_power_after(0);
    let (first, second) =
        (begin_append(&own.chronicle, entries(1, 0..3)), begin_append(&own.chronicle, entries(1, 3..6)));
    assert_eq!(own.chronicle.work(), Due::Never);
    assert!(first.try_recv().unwrap().is_err() && second.try_recv().unwrap().is_err());
    assert!(own.chronicle.failed().is_some());
    assert!(append(&own.chronicle, entries(1, 3..6)).is_err(), "nothing more is taken");
    own.chronicle.close();
}
