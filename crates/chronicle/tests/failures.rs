//! Disks that fail, fill up, and lie about what they wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::mpsc;

use common::*;
use sillok_chronicle::{
    Chronicle, Entry, Failure, Fold, LogId, OpenError, Options, Vote, WriteError,
    sim::{Operation, SimDisk},
};

fn stopped(result: Result<(), WriteError>) -> String {
    match result {
        Err(WriteError::Stopped(failure)) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_sync_is_fatal_and_never_retried() {
    let sim = formatted(1);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..10)).unwrap();
    let (sender, failures) = mpsc::channel();
    let other = sender.clone();
    chronicle.on_failure(move |failure| drop(sender.send(failure.to_string())));
    sim.fail(Operation::Sync, "0000000000.seg", 0);
    let first = begin_append(&chronicle, entries(1, 10..12));
    let said = stopped(first.recv().unwrap());
    assert!(said.contains("cannot sync 0000000000.seg"), "{said}");
    assert_eq!(failures.recv().unwrap(), said);
    // The disk would work again by now; nothing more is tried. (Of the next segment's file nothing is said: its zeros may
    // still be under way.)
    let tried = || (sim.operations_on(&dir().join("0000000000.seg")), sim.bytes(&dir().join("meta")));
    let before = tried();
    assert!(before.0 > 0 && before.1.is_some(), "{before:?}");
    assert_eq!(stopped(append(&chronicle, entries(1, 12..13))), said);
    assert_eq!(stopped(truncate(&chronicle, 11)), said);
    assert_eq!(stopped(chronicle.adopt_cluster([1; 16])), said);
    assert_eq!(tried(), before);
    assert_eq!(chronicle.failed().unwrap().to_string(), said);
    chronicle.on_failure(move |failure| drop(other.send(failure.to_string())));
    assert_eq!(failures.recv().unwrap(), said);
    assert_eq!(chronicle.flushed(), Some(LogId::new(1, 9)));
    chronicle.close();
}

/// After a failed sync the bytes are still readable, though the system will never write them: a restarted process that
/// merely synced again would report as durable what a power cut then takes away.
#[test]
fn what_a_failed_sync_left_readable_is_written_again_before_it_is_reported() {
    let sim = formatted(2);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..10)).unwrap();
    sim.fail(Operation::Sync, "0000000000.seg", 0);
    stopped(append(&chronicle, entries(1, 10..20)));
    sim.kill();
    let chronicle = open(&sim);
    let reported = chronicle.flushed();
    assert!(reported > Some(LogId::new(1, 9)), "{reported:?}");
    sim.power_cut();
    let chronicle = open(&sim);
    assert_eq!(chronicle.flushed(), reported);
    assert_eq!(read_all(&chronicle), entries(1, 0..reported.unwrap().index + 1));
}

#[test]
fn everything_queued_behind_a_failure_is_answered_with_it() {
    let sim = formatted(3);
    let chronicle = open(&sim);
    sim.hold_syncs();
    let first = begin_append(&chronicle, entries(1, 0..1));
    sim.fail(Operation::Sync, ".seg", 0);
    let answers: Vec<_> = (1..50).map(|index| begin_append(&chronicle, entries(1, index..index + 1))).collect();
    let (sender, vote) = mpsc::channel();
    chronicle.save_vote(Vote { term: 1, node_id: 1, committed: true }, move |result| drop(sender.send(result)));
    sim.release_syncs();
    stopped(first.recv().unwrap());
    answers.into_iter().for_each(|answer| drop(stopped(answer.recv().unwrap())));
    stopped(vote.recv().unwrap());
    assert_eq!(chronicle.vote(), None);
}

#[test]
fn a_full_disk_is_a_clear_error_and_loses_nothing() {
    let sim = formatted(4);
    let chronicle = open(&sim);
    // Room for what is there, the segment ahead, and half of another.
    sim.set_capacity(Some(8192 + 12288 * 2 + 6000));
    let (mut next, said) = (0, loop_until_stopped(&chronicle));
    assert!(said.contains("the disk is full") && said.contains("free space"), "{said}");
    assert!(matches!(*chronicle.failed().unwrap(), Failure::DiskFull { .. }));
    let flushed = chronicle.flushed().unwrap();
    chronicle.close();
    sim.set_capacity(None);
    let chronicle = open(&sim);
    assert!(chronicle.last() >= Some(flushed));
    while next <= flushed.index {
        assert_eq!(chronicle.read(next, next + 1, 0).unwrap(), entries(1, next..next + 1));
        next += 1;
    }
    append(&chronicle, entries(2, next..next + 100)).unwrap();
}

fn loop_until_stopped(chronicle: &Chronicle) -> String {
    for index in 0.. {
        match append(chronicle, entries(1, index..index + 1)) {
            Ok(()) => {}
            error => return stopped(error),
        }
    }
    unreachable!()
}

/// Space that is freed before the current segment is full is enough: making the next one is tried again when needed.
#[test]
fn a_disk_that_was_full_for_a_while_stops_nothing() {
    let sim = formatted(5);
    let chronicle = open(&sim);
    sim.set_capacity(Some(8192 + 12288 * 2 + 100));
    append(&chronicle, entries(1, 0..25)).unwrap();
    sim.set_capacity(None);
    append(&chronicle, entries(1, 25..200)).unwrap();
    assert_eq!(read_all(&chronicle), entries(1, 0..200));
}

#[test]
fn a_failed_write_of_the_meta_file_is_fatal() {
    let sim = formatted(6);
    let chronicle = open(&sim);
    sim.fail(Operation::Sync, "meta", 0);
    let (sender, receiver) = mpsc::channel();
    chronicle.save_vote(Vote { term: 2, node_id: 1, committed: false }, move |result| drop(sender.send(result)));
    let said = stopped(receiver.recv().unwrap());
    assert!(said.contains("meta"), "{said}");
    stopped(append(&chronicle, entries(1, 0..1)));
}

#[test]
fn an_unreadable_disk_is_an_error_not_damage() {
    let sim = formatted(7);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..100)).unwrap();
    chronicle.close();
    // What was read ahead, and then what was needed of it.
    sim.fail(Operation::Read, "0000000000.seg", 1);
    sim.fail(Operation::Read, "0000000000.seg", 1);
    let error = try_open(&sim).unwrap_err().to_string();
    assert!(error.contains("cannot read 0000000000.seg at byte 32"), "{error}");
    let chronicle = open(&sim);
    sim.fail(Operation::Read, "0000000000.seg", 0);
    assert!(matches!(chronicle.read(0, 1, 1), Err(sillok_chronicle::ReadError::Io { .. })));
    assert_eq!(read_all(&chronicle), entries(1, 0..100));
}

#[test]
fn damage_met_while_sealing_stops_the_chronicle() {
    let sim = formatted(8);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..100)).unwrap();
    sim.flip(&segments(&sim)[0], 200, 0x10);
    let (sender, failures) = mpsc::channel();
    chronicle.on_failure(move |failure| drop(sender.send(failure)));
    chronicle.set_committed(LogId::new(1, 99));
    let failure = failures.recv().unwrap();
    assert!(matches!(&*failure, Failure::Damaged(damage) if damage.segment == "0000000000.seg"), "{failure}");
}

/// The power fails in the midst of every single change that a truncation, a seal, or a roll makes.
fn with_the_power_cut_at_each_step(
    prepare: impl Fn(&SimDisk) -> Chronicle,
    act: impl Fn(&Chronicle),
    check: impl Fn(&Chronicle, u64),
) {
    for step in 0.. {
        let sim = formatted(step);
        let chronicle = prepare(&sim);
        sim.cut_power_after(step);
        act(&chronicle);
        let finished = chronicle.failed().is_none();
        sim.power_cut();
        drop(chronicle);
        let chronicle = try_open(&sim).unwrap_or_else(|error| panic!("power cut at step {step}: {error}"));
        check(&chronicle, step);
        chronicle.close();
        // And once more, for what opening itself did.
        sim.power_cut();
        check(&open(&sim), step);
        if finished {
            assert!(step > 3, "the power was never cut");
            return;
        }
    }
}

#[test]
fn a_truncation_is_done_wholly_or_not_at_all_wherever_the_power_fails() {
    // Within a segment, at the beginning of one (26 is), in the first, and all of it.
    for from in [95, 60, 26, 4, 0] {
        with_the_power_cut_at_each_step(
            |sim| {
                let chronicle = open(sim);
                append(&chronicle, entries(1, 0..100)).unwrap();
                chronicle
            },
            |chronicle| {
                let _ = truncate(chronicle, from);
                let _ = append(chronicle, entries(2, from..from + 40));
                chronicle.close();
            },
            |chronicle, step| {
                let read = read_all(chronicle);
                let old = entries(1, 0..100);
                let new = [entries(1, 0..from), entries(2, from..from + 40)].concat();
                let whole = read == old || new.starts_with(&read) && read.len() as u64 >= from;
                assert!(whole, "step {step}: {} entries, last {:?}", read.len(), chronicle.last());
            },
        );
    }
}

#[test]
fn sealing_survives_a_power_cut_at_any_step() {
    with_the_power_cut_at_each_step(
        |sim| {
            let chronicle = open(sim);
            append(&chronicle, entries(1, 0..60)).unwrap();
            chronicle
        },
        |chronicle| {
            chronicle.set_committed(LogId::new(1, 59));
            until("sealed or cut", || chronicle.failed().is_some() || chronicle.sealed().len() >= 2);
            chronicle.close();
        },
        |chronicle, step| {
            assert_eq!(read_all(chronicle), entries(1, 0..60), "step {step}");
            chronicle.set_committed(LogId::new(1, 59));
            until("sealed", || chronicle.sealed().len() >= 2);
            let mut found = Vec::new();
            chronicle.find(own_key(LogId::new(1, 3)), &mut found).unwrap();
            assert_eq!(found, [3], "step {step}");
        },
    );
}

/// Thirty keys an entry, so that a footer is larger than what its segment's file has left.
fn many_keys(entry: &Entry, keys: &mut Vec<u64>) {
    keys.extend((0..30).map(|n| own_key(entry.id) ^ n << 40));
}

struct ManyKeys;

impl Fold for ManyKeys {
    fn restore(&mut self, _state: &[u8]) {}
    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        many_keys(entry, keys);
    }
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn open_with_many_keys(sim: &SimDisk) -> Result<Chronicle, OpenError> {
    Chronicle::open(Options { fold: Box::new(ManyKeys), keys: many_keys, ..options(sim.boot()) })
}

/// A mains failure took down a site while its node was sealing: the file system had made the new length durable and not
/// the footer, the file passed for sealed with a trailer of zeros, and a node that had every entry was called damaged.
#[test]
fn a_footer_larger_than_the_room_left_survives_a_power_cut_at_any_step() {
    for seed in 0..16 {
        for step in 0.. {
            let sim = formatted(1000 * seed + step);
            let chronicle = open_with_many_keys(&sim).unwrap();
            append(&chronicle, entries(1, 0..60)).unwrap();
            sim.cut_power_after(step);
            chronicle.set_committed(LogId::new(1, 59));
            until("sealed or cut", || chronicle.failed().is_some() || chronicle.sealed().len() >= 2);
            let finished = chronicle.failed().is_none();
            chronicle.close();
            sim.power_cut();
            let chronicle = open_with_many_keys(&sim).unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert_eq!(read_all(&chronicle), entries(1, 0..60), "step {step}");
            chronicle.set_committed(LogId::new(1, 59));
            until("sealed", || chronicle.sealed().len() >= 2);
            if finished {
                let sealed = sim.bytes(&segments(&sim)[0]).unwrap().len() as u64;
                assert!(sealed > SEGMENT_BYTES + 4096, "the footer did not fit into the file");
                break;
            }
        }
    }
}

/// A sync failed while a footer was being written, and the process ended before the next power cut: what opening takes
/// for sealed must still be so afterwards.
#[test]
fn a_seal_whose_sync_failed_is_durable_once_the_chronicle_was_opened_again() {
    for failing in 0..2 {
        for seed in 0..16 {
            let sim = formatted(seed);
            let chronicle = open_with_many_keys(&sim).unwrap();
            append(&chronicle, entries(1, 0..60)).unwrap();
            sim.fail(Operation::Sync, "0000000000.seg", failing);
            chronicle.set_committed(LogId::new(1, 59));
            until("the sync fails", || chronicle.failed().is_some());
            sim.kill();
            let chronicle = open_with_many_keys(&sim).unwrap();
            sim.power_cut();
            drop(chronicle);
            let chronicle =
                open_with_many_keys(&sim).unwrap_or_else(|error| panic!("sync {failing}, seed {seed}: {error}"));
            assert_eq!(read_all(&chronicle), entries(1, 0..60));
            chronicle.set_committed(LogId::new(1, 59));
            until("sealed", || chronicle.sealed().len() >= 2);
        }
    }
}

/// Only the lazy part of the meta file says what is committed; after a power cut the seals know better.
#[test]
fn what_is_sealed_is_committed_whatever_the_meta_file_remembers() {
    let sim = formatted(9);
    let lazy = || Options { persist_every: std::time::Duration::from_secs(3600), ..options(sim.boot()) };
    let chronicle = Chronicle::open(lazy()).unwrap();
    append(&chronicle, entries(1, 0..100)).unwrap();
    commit_and_seal(&sim, &chronicle);
    let sealed = chronicle.sealed().last().unwrap().last;
    sim.power_cut();
    let chronicle = Chronicle::open(lazy()).unwrap();
    assert_eq!(chronicle.committed(), Some(sealed));
    assert!(matches!(truncate(&chronicle, sealed.index), Err(WriteError::Committed { .. })));
}

/// One byte of a sealed segment had rotted. Every read of it was answered with "not ready", for ever, while the node went on
/// voting and leading.
#[test]
fn damage_met_while_reading_stops_the_chronicle() {
    for what in ["entries", "keys"] {
        let sim = formatted(10);
        let chronicle = Chronicle::open(Options { tail_cache_bytes: 0, ..options(sim.boot()) }).unwrap();
        append(&chronicle, entries(1, 0..100)).unwrap();
        commit_and_seal(&sim, &chronicle);
        let (sender, failures) = mpsc::channel();
        chronicle.on_failure(move |failure| drop(sender.send(failure)));
        let entries_end = 32 + chronicle.sealed()[0].bytes;
        let at = if what == "entries" { 200 } else { entries_end + 9 };
        sim.flip(&segments(&sim)[0], at, 0x10);
        if what == "entries" {
            chronicle.read(0, 10, usize::MAX).unwrap_err();
        } else {
            let found: Vec<_> = (0..5).map(|n| chronicle.find(own_key(LogId::new(1, n)), &mut Vec::new())).collect();
            assert!(found.iter().any(Result::is_err));
        }
        let failure = failures.recv_timeout(std::time::Duration::from_secs(20)).expect("it stops");
        assert!(matches!(&*failure, Failure::Damaged(damage) if damage.segment == "0000000000.seg"), "{failure}");
        stopped(append(&chronicle, entries(1, 100..101)));
        chronicle.close();
    }
}

/// What a failed write makes others do must not come before the reason is known.
#[test]
fn those_who_watch_for_failures_hear_of_one_before_any_write_is_answered_with_it() {
    let sim = formatted(11);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..100)).unwrap();
    sim.flip(&segments(&sim)[0], 200, 0x10);
    let (sender, told) = mpsc::channel();
    let (answers, begun) = (sender.clone(), mpsc::channel());
    let (proceed, wait) = mpsc::channel::<()>();
    chronicle.on_failure(move |_| {
        begun.0.send(()).unwrap();
        let _ = wait.recv();
        sender.send("failure").unwrap();
    });
    chronicle.set_committed(LogId::new(1, 99));
    begun.1.recv().unwrap();
    let other = chronicle.clone();
    // The callback is held meanwhile; this write may succeed, but must not be answered with the failure yet.
    other.append(entries(1, 100..101), move |result| {
        if result.is_err() {
            answers.send("write").unwrap();
        }
    });
    proceed.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), "failure");
    until("writes are refused", || append(&chronicle, entries(1, 101..102)).is_err());
    chronicle.close();
}

struct PanicsAt(u64);

impl Fold for PanicsAt {
    fn restore(&mut self, _state: &[u8]) {}
    fn entry(&mut self, entry: &Entry, _keys: &mut Vec<u64>) {
        assert!(entry.id.index < self.0, "a fold that panics");
    }
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn closes(chronicle: Chronicle) {
    let (sender, closed) = mpsc::channel();
    std::thread::spawn(move || {
        chronicle.close();
        sender.send(()).unwrap();
    });
    closed.recv_timeout(std::time::Duration::from_secs(20)).expect("closing does not hang");
}

fn assert_panicked(chronicle: &Chronicle, expected: &str) {
    until("the panic is noticed", || chronicle.failed().is_some());
    let failure = chronicle.failed().unwrap();
    assert!(matches!(&*failure, Failure::Panicked { thread, .. } if *thread == expected), "{failure}");
}

/// A callback panicked on the writer's thread: appends were still taken, nobody was ever answered, and closing hung.
#[test]
fn a_panic_on_the_writer_s_thread_stops_the_chronicle_and_answers_everyone() {
    let sim = formatted(12);
    let chronicle = open(&sim);
    sim.hold_syncs();
    let first = begin_append(&chronicle, entries(1, 0..1));
    chronicle.append(entries(1, 1..2), |_| panic!("a callback that panics"));
    let answers: Vec<_> = (2..10).map(|index| begin_append(&chronicle, entries(1, index..index + 1))).collect();
    sim.release_syncs();
    first.recv().unwrap().unwrap();
    for answer in answers {
        let said = stopped(answer.recv_timeout(std::time::Duration::from_secs(20)).expect("everyone is answered"));
        assert!(said.contains("a callback that panics"), "{said}");
    }
    assert_panicked(&chronicle, "write");
    stopped(append(&chronicle, entries(1, 10..11)));
    closes(chronicle);
}

#[test]
fn a_panic_on_the_sealer_s_thread_stops_the_chronicle() {
    let sim = formatted(13);
    let chronicle = Chronicle::open(Options { fold: Box::new(PanicsAt(30)), ..options(sim.boot()) }).unwrap();
    append(&chronicle, entries(1, 0..100)).unwrap();
    chronicle.set_committed(LogId::new(1, 99));
    assert_panicked(&chronicle, "seal");
    until("writes are refused", || append(&chronicle, entries(1, 100..101)).is_err());
    closes(chronicle);
}
