//! A chronicle in use is read once more from the disk: whatever has changed there is found where it stands, and nothing is
//! read that was never written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use common::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sillok_chronicle::{
    Chronicle, Damage, DamageReason, Entry, Failure, LogId, Options, ReadError, Scrubbed, SegmentInfo,
    sim::{Operation, SimDisk},
    verify,
};

const COUNT: u64 = 150;

/// Sealed segments and an open one, all committed.
fn whole() -> (SimDisk, Chronicle) {
    let sim = formatted(2);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..COUNT)).unwrap();
    commit_and_seal(&sim, &chronicle);
    (sim, chronicle)
}

/// What one pass saw.
#[derive(Default)]
struct Pass {
    entries: Vec<Entry>,
    segments: Vec<SegmentInfo>,
    pieces: Vec<u64>,
    done: u64,
    total: u64,
}

fn pass(chronicle: &Chronicle) -> Result<Pass, ReadError> {
    let mut scrub = chronicle.scrub();
    let mut pass = Pass::default();
    loop {
        let seen = &mut pass.entries;
        match scrub.step(|entry| seen.push(entry.clone()))? {
            Scrubbed::Piece { read } => pass.pieces.push(read),
            Scrubbed::Segment { read, info } => {
                pass.pieces.push(read);
                pass.segments.push(info);
            }
            Scrubbed::End => break,
        }
        assert!(scrub.done_bytes() >= pass.done, "progress never goes back");
        pass.done = scrub.done_bytes();
    }
    pass.total = scrub.total_bytes();
    Ok(pass)
}

fn found(chronicle: &Chronicle) -> Damage {
    match pass(chronicle).map(|_| ()) {
        Err(ReadError::Damaged(damage)) => damage,
        other => panic!("no damage: {other:?}"),
    }
}

#[test]
fn a_pass_reads_what_is_written_once_and_not_a_byte_of_what_is_not() {
    let (sim, chronicle) = whole();
    let before = sim.bytes_read();
    let pass = pass(&chronicle).unwrap();
    let read = sim.bytes_read() - before;
    assert_eq!(pass.entries, entries(1, 0..COUNT));
    assert_eq!(pass.segments, chronicle.sealed());
    assert!(pass.segments.len() > 3);
    // The open segment's file is filled with zeros up to its end: those are not among them.
    assert_eq!((read, pass.done), (pass.total, pass.total));
    assert!(pass.total < segments(&sim).iter().map(|path| sim.bytes(path).unwrap().len() as u64).sum());
}

#[test]
fn only_what_is_committed_is_read() {
    let (sim, chronicle) = whole();
    append(&chronicle, entries(2, COUNT..COUNT + 60)).unwrap();
    chronicle.set_committed(LogId::new(2, COUNT + 4));
    let pass = pass(&chronicle).unwrap();
    assert_eq!(pass.entries.last().map(|entry| entry.id), Some(LogId::new(2, COUNT + 4)));
    assert!(pass.done < pass.total);
    drop(sim);
    let blank = open(&formatted(5));
    assert!(self::pass(&blank).unwrap().entries.is_empty());
}

/// The scrub and `sillok verify` must not differ in what they call damaged.
#[test]
fn any_flipped_byte_is_found_exactly_where_verification_finds_it() {
    let (sim, chronicle) = whole();
    chronicle.close();
    let mut rng = StdRng::seed_from_u64(11);
    for (ordinal, path) in segments(&sim).into_iter().enumerate() {
        let bytes = sim.bytes(&path).unwrap();
        let Some(used) = bytes.iter().rposition(|&byte| byte != 0).map(|at| at + 1) else { continue };
        for n in 0..60 {
            let at = match n % 3 {
                0 => n,
                1 => used - n,
                _ => rng.random_range(0..used),
            } as u64;
            let copy = sim.fork(0);
            let chronicle = open(&copy);
            // What opening remembers as committed it holds for committed.
            assert_eq!(chronicle.committed(), Some(LogId::new(1, COUNT - 1)));
            assert!(copy.flip(&path, at, rng.random_range(1..=255)));
            let context = format!("byte {at} of segment {ordinal}");
            let damage = found(&chronicle);
            let Some(Failure::Damaged(stopped)) = chronicle.failed().as_deref().cloned() else {
                panic!("{context}: it has not stopped");
            };
            assert_eq!(stopped, damage, "{context}");
            assert!(damage.offset <= at && damage.segment == format!("{ordinal:010}.seg"), "{context}: {damage}");
            chronicle.close();
            let verified = verify(&copy.boot(), &dir(), |_| {}).unwrap().damage.unwrap();
            let place = |it: &Damage| (it.segment.clone(), it.offset, it.reason.clone());
            assert_eq!(place(&damage), place(&verified), "{context}");
        }
    }
}

/// The entries' own checksums hold: only the digest tells.
#[test]
fn a_whole_other_entry_in_a_sealed_segment_is_found() {
    let (sim, chronicle) = whole();
    let other = formatted(3);
    let twin = open(&other);
    let changed = entries(1, 0..COUNT).into_iter().map(|entry| match entry.id.index {
        2 => Entry { kind: entry.kind + 1, ..entry },
        _ => entry,
    });
    append(&twin, changed.collect()).unwrap();
    commit_and_seal(&other, &twin);
    let path = &segments(&sim)[0];
    let theirs = other.bytes(path).unwrap();
    let end = chronicle.sealed()[0].bytes as usize + 32;
    sim.edit(path, |bytes| bytes[..end].copy_from_slice(&theirs[..end]));
    assert_eq!(found(&chronicle).reason, DamageReason::Digest);
}

#[test]
fn what_the_disk_cannot_read_back_is_damage_and_a_missing_file_too() {
    let (sim, chronicle) = whole();
    // Once only what was read ahead may be to blame; then it is the entry.
    (0..2).for_each(|_| sim.fail(Operation::Read, "0000000001.seg", 1));
    let damage = found(&chronicle);
    assert!(matches!(damage.reason, DamageReason::Unreadable { .. }), "{damage}");
    assert_eq!((damage.segment.as_str(), damage.offset), ("0000000001.seg", 32));
    assert!(chronicle.failed().is_some());

    let (sim, chronicle) = whole();
    sim.boot().remove(&segments(&sim)[2]).unwrap();
    assert_eq!(found(&chronicle).reason, DamageReason::SegmentMissing);
}

#[test]
fn a_large_segment_is_read_in_small_pieces() {
    let sim = formatted(4);
    let chronicle = Chronicle::open(Options { segment_bytes: 2 << 20, ..options(sim.boot()) }).unwrap();
    // One entry is larger than a piece; keys enough that the footer takes several as well.
    let large = Entry { id: LogId::new(1, 0), kind: 1, payload: Bytes::from(vec![7; 600 << 10]) };
    let small = |index| Entry { id: LogId::new(1, index), kind: 1, payload: Bytes::from_static(&[5; 40]) };
    append(&chronicle, std::iter::once(large).chain((1..60_000).map(small)).collect()).unwrap();
    commit_and_seal(&sim, &chronicle);
    let pass = pass(&chronicle).unwrap();
    assert_eq!((pass.entries.len(), pass.segments.len()), (60_000, chronicle.sealed().len()));
    assert!(pass.segments.len() >= 2);
    let largest = pass.pieces.iter().filter(|&&read| read > 300 << 10).collect::<Vec<_>>();
    assert_eq!(largest.len(), 1, "only the large entry makes a large piece: {largest:?}");
    let read: u64 = pass.pieces.iter().sum();
    assert!(read >= pass.total && read < pass.total * 5 / 4, "{read} of {}", pass.total);
}

/// A reader that looks at what is being truncated sees two logs at once: the scrub must never take that for damage.
#[test]
fn writing_truncating_and_sealing_meanwhile_is_no_damage() {
    let sim = formatted(6);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..40)).unwrap();
    chronicle.set_committed(LogId::new(1, 39));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scrubbing = scope.spawn(|| {
            let mut passes = 0;
            while !done.load(Relaxed) || passes == 0 {
                let pass = pass(&chronicle).unwrap();
                assert!(pass.entries.len() >= 40);
                passes += 1;
            }
        });
        let mut next = 40;
        for term in 2..42 {
            append(&chronicle, entries(term, next..next + 30)).unwrap();
            truncate(&chronicle, next + 10).unwrap();
            chronicle.set_committed(LogId::new(term, next + 9));
            next += 10;
        }
        done.store(true, Relaxed);
        scrubbing.join().unwrap();
    });
    assert!(chronicle.failed().is_none());
    assert_eq!(pass(&chronicle).unwrap().entries.len() as u64, 440);
}
