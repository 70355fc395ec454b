//! A chronicle cut at every byte of its last records, and with one byte flipped at a few hundred places: the first
//! recovers all that was synced, the second is always noticed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::PathBuf;

use bytes::Bytes;
use common::*;
use proptest::test_runner::{Config, TestRunner};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sillok_chronicle::{
    Chronicle, Damage, DamageReason, Entry, LogId, OpenError, Options, TailState, VerifyError, read_identity,
    sim::SimDisk, verify,
};

const SYNCED: u64 = 60;
const WRITTEN: u64 = 75;
/// So that the whole tail is within one segment.
const WIDE: u64 = 4 * SEGMENT_BYTES;

fn try_open_as(sim: &SimDisk, segment_bytes: u64) -> Result<Chronicle, OpenError> {
    Chronicle::open(Options { segment_bytes, ..options(sim.boot()) })
}

/// Sixty entries that are synced and remembered as such, then fifteen that were written and not synced when the process
/// was killed. Returns the offset where the latter begin in the last segment used.
fn with_an_unsynced_tail() -> (SimDisk, PathBuf, usize) {
    let sim = formatted(1);
    let open = || try_open_as(&sim, WIDE).unwrap();
    let chronicle = open();
    append(&chronicle, entries(1, 0..SYNCED)).unwrap();
    chronicle.set_committed(LogId::new(1, SYNCED - 5));
    chronicle.close();
    let chronicle = open();
    let (path, begin) = last_used(&sim);
    sim.hold_syncs();
    let _unanswered = begin_append(&chronicle, entries(1, SYNCED..WRITTEN));
    until("the batch is written", || last_used(&sim).1 > begin + 2000);
    assert_eq!(last_used(&sim).0, path, "the tail is within one segment");
    sim.kill();
    (sim, path, begin)
}

fn assert_recovers(sim: &SimDisk, context: &str) -> Vec<Entry> {
    assert_recovers_as(sim, WIDE, SYNCED, context)
}

fn assert_recovers_as(sim: &SimDisk, segment_bytes: u64, synced: u64, context: &str) -> Vec<Entry> {
    let open = |sim| try_open_as(sim, segment_bytes).unwrap_or_else(|error| panic!("{context}: {error}"));
    let chronicle = open(sim);
    let read = read_all(&chronicle);
    assert!(read.len() as u64 >= synced, "{context}: only {} entries", read.len());
    assert_eq!(read, entries(1, 0..read.len() as u64), "{context}");
    // It goes on from there as if nothing had happened.
    let next = read.len() as u64;
    append(&chronicle, entries(2, next..next + 5)).unwrap();
    chronicle.close();
    let chronicle = open(sim);
    assert_eq!(read_all(&chronicle), [read.clone(), entries(2, next..next + 5)].concat(), "{context}");
    chronicle.close();
    read
}

#[test]
fn cut_at_every_byte_of_its_last_records_it_recovers_all_that_was_synced() {
    let (sim, path, begin) = with_an_unsynced_tail();
    let (_, end) = last_used(&sim);
    let mut lengths = std::collections::BTreeSet::new();
    for at in begin..=end {
        let copy = sim.fork(0);
        copy.edit(&path, |bytes| bytes.truncate(at));
        let report = verify(&copy.boot(), &dir(), |_| {}).unwrap();
        assert_eq!(report.damage, None, "cut at byte {at}");
        let read = assert_recovers(&copy, &format!("cut at byte {at}"));
        assert_eq!(report.entries, read.len() as u64, "cut at byte {at}");
        lengths.insert(read.len() as u64);
    }
    // Each whole record before the cut is recovered too, not only what was synced.
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), (SYNCED..=WRITTEN).collect::<Vec<_>>());
}

/// As above, where the last records are the first of a segment: its header is cut too.
#[test]
fn cut_at_every_byte_of_a_segment_just_begun_it_recovers_all_that_was_synced() {
    // The second segment holds 19 to 25.
    let (synced, written) = (19, 26);
    let sim = formatted(4);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..synced)).unwrap();
    chronicle.set_committed(LogId::new(1, synced - 3));
    // The next segment is there before syncs are held: the writer would wait for its zeros for ever.
    until("the next segment is made", || segments(&sim).len() == 2);
    chronicle.close();
    let chronicle = open(&sim);
    let first = segments(&sim)[0].clone();
    assert_eq!(last_used(&sim).0, first);
    sim.hold_syncs();
    let _unanswered = begin_append(&chronicle, entries(1, synced..written));
    until("the batch is written", || last_used(&sim).0 != first);
    sim.kill();
    let (path, end) = last_used(&sim);
    assert_eq!(path, segments(&sim)[1]);
    let mut lengths = std::collections::BTreeSet::new();
    for at in 0..=end {
        let copy = sim.fork(0);
        copy.edit(&path, |bytes| bytes.truncate(at));
        let context = format!("cut at byte {at}");
        let report = verify(&copy.boot(), &dir(), |_| {}).unwrap();
        assert_eq!(report.damage, None, "{context}");
        let read = assert_recovers_as(&copy, SEGMENT_BYTES, synced, &context);
        assert_eq!(report.entries, read.len() as u64, "{context}");
        lengths.insert(read.len() as u64);
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), (synced..=written).collect::<Vec<_>>());
}

/// A sector of a batch that had been acknowledged long ago was lost, the meta file had fallen behind, and everything from
/// there on, megabytes of acknowledged entries, was cut as if it had been one torn batch.
#[test]
fn a_hole_far_before_the_end_is_damage_though_the_meta_file_fell_behind() {
    let megabyte = |index| Entry { id: LogId::new(1, index), kind: 1, payload: Bytes::from(vec![7; 1 << 20]) };
    let open = |sim: &SimDisk| {
        let persist_every = std::time::Duration::from_secs(3600);
        Chronicle::open(Options { segment_bytes: 64 << 20, persist_every, ..options(sim.boot()) })
    };
    for (count, hole_at, is_damage) in [(20, 3, true), (20, 14, false), (7, 3, false)] {
        let sim = formatted(5);
        let chronicle = open(&sim).unwrap();
        for index in 0..count {
            append(&chronicle, vec![megabyte(index)]).unwrap();
        }
        sim.kill();
        let at = (hole_at << 20) + (512 << 10);
        sim.edit(&segments(&sim)[0], |bytes| bytes[at..at + 512].fill(0));
        match open(&sim) {
            Err(OpenError::Damaged(damage)) => {
                assert!(is_damage, "{damage}");
                assert_eq!(damage.reason, DamageReason::EntryBody { index: hole_at as u64 });
                assert_eq!(damage.last_good, Some(LogId::new(1, hole_at as u64 - 1)));
            }
            other => {
                assert!(!is_damage, "a hole in entry {hole_at} of {count} was cut");
                assert_eq!(other.unwrap().last(), Some(LogId::new(1, hole_at as u64 - 1)));
            }
        }
    }
}

/// Frames may stand any distance behind a hole if one entry is that long: the last of a batch may be.
#[test]
fn a_torn_batch_with_a_huge_last_entry_is_cut() {
    let of = |index, bytes| Entry { id: LogId::new(1, index), kind: 1, payload: Bytes::from(vec![7; bytes]) };
    let sim = formatted(5);
    let open = || Chronicle::open(Options { segment_bytes: 64 << 20, ..options(sim.boot()) }).unwrap();
    let chronicle = open();
    append(&chronicle, vec![of(0, 100)]).unwrap();
    chronicle.close();
    let chronicle = open();
    sim.hold_syncs();
    let _unanswered = begin_append(&chronicle, vec![of(1, 7 << 20), of(2, 20 << 20)]);
    until("the batch is written", || last_used(&sim).1 > 27 << 20);
    sim.kill();
    sim.edit(&segments(&sim)[0], |bytes| bytes[1 << 20..2 << 20].fill(0));
    assert_eq!(open().last(), Some(LogId::new(1, 0)));
}

#[test]
fn with_any_of_its_last_sectors_lost_it_recovers_all_that_was_synced() {
    let (sim, path, begin) = with_an_unsynced_tail();
    let (_, end) = last_used(&sim);
    for first in begin / 512..end.div_ceil(512) {
        for last in first..end.div_ceil(512) {
            let copy = sim.fork(0);
            copy.edit(&path, |bytes| bytes[(first * 512).max(begin)..((last + 1) * 512)].fill(0));
            assert_recovers(&copy, &format!("sectors {first}..={last} lost"));
        }
    }
}

#[test]
fn cut_below_what_was_synced_it_is_damaged() {
    let (sim, path, begin) = with_an_unsynced_tail();
    for at in (1..begin).rev().step_by(37) {
        let copy = sim.fork(0);
        copy.edit(&path, |bytes| bytes.truncate(at));
        match try_open_as(&copy, WIDE) {
            Err(OpenError::Damaged(damage)) => {
                // With its header gone, the segment has not begun: entries are missing at the end of the one before.
                let cut_here = path.ends_with(&damage.segment);
                assert!(if cut_here { damage.offset <= at as u64 } else { at < 32 }, "cut at byte {at}: {damage}");
                assert!(damage.last_good.is_some_and(|id| id.index < SYNCED - 1), "{damage}");
            }
            other => panic!("cut at byte {at}: {other:?}"),
        }
        let before: Vec<_> = copy.paths().into_iter().map(|path| copy.bytes(&path)).collect();
        verify(&copy.boot(), &dir(), |_| {}).unwrap().damage.expect("it is damaged");
        let after: Vec<_> = copy.paths().into_iter().map(|path| copy.bytes(&path)).collect();
        assert!(before == after, "neither refusing to open nor verifying changes anything");
    }
}

/// Sealed segments, an open segment behind them, and everything committed.
fn whole() -> (SimDisk, Vec<Entry>) {
    let sim = formatted(2);
    let chronicle = open(&sim);
    let all = entries(1, 0..150);
    append(&chronicle, all.clone()).unwrap();
    commit_and_seal(&sim, &chronicle);
    chronicle.close();
    (sim, all)
}

/// Whether the damage is noticed by all that looks: opening, reading everything, finding everything, verifying.
fn is_noticed(sim: &SimDisk, segment_bytes: u64, all: &[Entry]) -> Option<Damage> {
    let opened = match try_open_as(sim, segment_bytes) {
        Err(OpenError::Damaged(damage)) => Some(damage),
        Err(other) => panic!("{other}"),
        Ok(chronicle) => {
            let damage = use_everything(&chronicle, all);
            chronicle.close();
            damage
        }
    };
    let verified = match verify(&sim.boot(), &dir(), |_| {}) {
        Ok(report) => report.damage,
        Err(error) => panic!("{error}"),
    };
    assert!(verified.is_some() || opened.is_none(), "opening noticed what verification did not: {opened:?}");
    verified
}

fn use_everything(chronicle: &Chronicle, all: &[Entry]) -> Option<Damage> {
    use sillok_chronicle::ReadError;
    let damaged = |error| match error {
        ReadError::Damaged(damage) => damage,
        other => panic!("{other}"),
    };
    // In small reads, so that each starts somewhere else.
    let mut next = 0;
    while next < all.len() {
        match chronicle.read(next as u64, u64::MAX, 2000) {
            Ok(read) => {
                assert_eq!(read, all[next..next + read.len()], "wrong bytes were returned");
                next += read.len();
            }
            Err(error) => return Some(damaged(error)),
        }
    }
    for entry in all {
        let mut found = Vec::new();
        match chronicle.find(own_key(entry.id), &mut found) {
            Ok(()) => assert_eq!(found, [entry.id.index], "a key was not found"),
            Err(error) => return Some(damaged(error)),
        }
    }
    None
}

#[test]
fn one_flipped_byte_is_always_noticed() {
    let (sim, all) = whole();
    assert_eq!(is_noticed(&sim.fork(0), SEGMENT_BYTES, &all), None);
    let mut rng = StdRng::seed_from_u64(11);
    let used: Vec<(PathBuf, usize)> = segments(&sim)
        .into_iter()
        .filter_map(|path| {
            let bytes = sim.bytes(&path).unwrap();
            bytes.iter().rposition(|&byte| byte != 0).map(|last| (path, last + 1))
        })
        .chain([(dir().join("meta"), 248), (dir().join("meta"), 4096 + 248)])
        .collect();
    let mut flips = 0;
    for (path, end) in &used {
        let begin = if *end > 4096 && path.ends_with("meta") { 4096 } else { 0 };
        let everywhere = if path.ends_with("meta") { 60 } else { 100 };
        for n in 0..everywhere {
            // The last hundred bytes of a sealed segment are its trailer.
            let at = if n % 4 == 0 { end - 1 - n } else { rng.random_range(begin..*end) };
            let copy = sim.fork(0);
            copy.flip(path, at as u64, rng.random_range(1..=255));
            let noticed = is_noticed(&copy, SEGMENT_BYTES, &all);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let damage = noticed.unwrap_or_else(|| panic!("byte {at} of {name} was flipped and nobody noticed"));
            assert_eq!(damage.segment, name, "byte {at}");
            assert!(damage.offset <= at as u64, "byte {at} of {name}: {damage}");
            flips += 1;
        }
    }
    assert!(flips > 700, "{flips}");
}

/// Not even in what was neither committed nor remembered as durable: damage is not a torn write.
#[test]
fn one_flipped_byte_in_the_unremembered_tail_is_noticed() {
    let (sim, path, begin) = with_an_unsynced_tail();
    let (_, end) = last_used(&sim);
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let all = entries(1, 0..WRITTEN);
    runner
        .run(&(begin..end, 1..=255u8), |(at, mask)| {
            let copy = sim.fork(0);
            copy.flip(&path, at as u64, mask);
            let damage = is_noticed(&copy, WIDE, &all).expect("it is noticed");
            assert!(damage.offset <= at as u64 && damage.offset + 4096 > at as u64);
            Ok(())
        })
        .unwrap();
}

#[test]
fn damage_names_the_segment_the_offset_and_the_last_good_entry() {
    let (sim, all) = whole();
    let path = segments(&sim)[1].clone();
    let bytes = sim.bytes(&path).unwrap();
    let chronicle = open(&sim);
    let segment = chronicle.sealed()[1].clone();
    chronicle.close();
    // The body of the segment's third entry, found by the mark of its head.
    let heads: Vec<usize> = (32..bytes.len()).step_by(8).filter(|&at| bytes[at..at + 2] == [0xE5, b'K']).collect();
    let third = segment.first.index + 2;
    let payload_begins = heads[2] + 32;
    sim.flip(&path, payload_begins as u64, 1);
    let chronicle = open(&sim);
    let error = chronicle.read(third + 1, third + 2, 1 << 20);
    // The entry behind it is intact, and so is the head that leads to it: what is not read is not noticed yet.
    assert_eq!(error.unwrap(), all[third as usize + 1..third as usize + 2]);
    let expected = Damage {
        segment: "0000000001.seg".to_owned(),
        offset: heads[2] as u64,
        last_good: Some(LogId::new(1, third - 1)),
        reason: DamageReason::EntryBody { index: third },
    };
    match chronicle.read(0, u64::MAX, usize::MAX) {
        Err(sillok_chronicle::ReadError::Damaged(damage)) => assert_eq!(damage, expected),
        other => panic!("{other:?}"),
    }
    chronicle.close();
    assert_eq!(verify(&sim.boot(), &dir(), |_| {}).unwrap().damage, Some(expected.clone()));
    let said = expected.to_string();
    assert!(said.contains("0000000001.seg") && said.contains(&format!("byte {}", heads[2])), "{said}");
    assert!(said.contains(&format!("index {}", third - 1)), "{said}");
}

#[test]
fn a_missing_segment_is_damage() {
    let (sim, _) = whole();
    let disk = sim.boot();
    disk.remove(&segments(&sim)[1]).unwrap();
    match try_open(&sim) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!((damage.segment.as_str(), damage.reason), ("0000000001.seg", DamageReason::SegmentMissing));
        }
        other => panic!("{other:?}"),
    }
    // And so is a missing last one: the meta file remembers what was durable.
    let (sim, _) = whole();
    let (last, _) = last_used(&sim);
    for path in segments(&sim).into_iter().filter(|path| *path >= last) {
        sim.boot().remove(&path).unwrap();
    }
    assert!(matches!(try_open(&sim), Err(OpenError::Damaged(_))));
}

/// Someone restored the segments of a node from a backup and forgot the meta file. The node said that the directory held no
/// chronicle and asked for an empty one.
#[test]
fn a_missing_meta_file_beside_segments_is_damage() {
    let (sim, _) = whole();
    sim.boot().remove(&dir().join("meta")).unwrap();
    let expected = Damage { segment: "meta".to_owned(), offset: 0, last_good: None, reason: DamageReason::MetaMissing };
    for found in [try_open(&sim).map(drop), read_identity(&sim.boot(), &dir()).map(drop)] {
        assert!(matches!(&found, Err(OpenError::Damaged(damage)) if *damage == expected), "{found:?}");
    }
    let found = verify(&sim.boot(), &dir(), |_| {});
    assert!(matches!(&found, Err(VerifyError::Damaged(damage)) if *damage == expected), "{found:?}");
}

/// A reader went round for ever over a file that had become shorter than its index said.
#[test]
fn a_sealed_file_that_became_shorter_is_damage_to_its_readers() {
    let (sim, _) = whole();
    let chronicle = Chronicle::open(Options { tail_cache_bytes: 0, ..options(sim.boot()) }).unwrap();
    let (sealed, path) = (chronicle.sealed()[1].clone(), segments(&sim)[1].clone());
    chronicle.read(sealed.first.index, sealed.first.index + 1, 1).unwrap();
    sim.edit(&path, |bytes| bytes.truncate(bytes.len() / 4));
    match chronicle.read(sealed.first.index, sealed.last.index + 1, usize::MAX) {
        Err(sillok_chronicle::ReadError::Damaged(damage)) => assert_eq!(damage.segment, "0000000001.seg"),
        other => panic!("{:?}", other.map(|read| read.len())),
    }
}

/// The disk gave back an error for one sector. The node told the file but not the place, and verification gave up.
#[test]
fn a_sector_that_cannot_be_read_is_named_with_its_place() {
    use sillok_chronicle::{ReadError, sim::Operation};
    let (sim, _) = whole();
    let chronicle = Chronicle::open(Options { tail_cache_bytes: 0, ..options(sim.boot()) }).unwrap();
    let second = chronicle.sealed()[1].clone();
    // Once for the directory of the footer, once for the entries.
    sim.fail(Operation::Read, "0000000001.seg", 1);
    match chronicle.read(second.first.index, second.first.index + 1, 1) {
        Err(ReadError::Io { file, offset, .. }) => assert_eq!((file.as_str(), offset), ("0000000001.seg", 32)),
        other => panic!("{other:?}"),
    }
    chronicle.close();
    // Header, trailer, state and filter are read first; then the window of entries, and of it what was needed.
    sim.fail(Operation::Read, "0000000001.seg", 4);
    sim.fail(Operation::Read, "0000000001.seg", 4);
    let report = verify(&sim.boot(), &dir(), |_| {}).unwrap();
    let damage = report.damage.expect("it is reported");
    assert_eq!((damage.segment.as_str(), damage.offset), ("0000000001.seg", 32), "{damage}");
    assert!(matches!(damage.reason, DamageReason::Unreadable { .. }), "{damage}");
    assert_eq!(damage.last_good, Some(LogId::new(1, second.first.index - 1)));
    assert_eq!(report.tail, None);
}

#[test]
fn verification_tells_a_torn_tail() {
    let (sim, path, begin) = with_an_unsynced_tail();
    let (_, end) = last_used(&sim);
    sim.edit(&path, |bytes| bytes[begin.next_multiple_of(512)..begin.next_multiple_of(512) + 512].fill(0));
    let report = verify(&sim.boot(), &dir(), |_| {}).unwrap();
    assert_eq!(report.damage, None);
    match report.tail {
        Some(TailState::Torn { bytes }) => assert!(bytes > 0 && bytes <= (end - begin) as u64),
        other => panic!("{other:?}"),
    }
}
