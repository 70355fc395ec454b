//! What a chronicle promises while nothing goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{sync::Arc, sync::mpsc};

use bytes::Bytes;
use common::*;
use sillok_chronicle::{
    Chronicle, Disk, Entry, Epoch, FormatError, Identity, LogId, OpenError, Options, RealDisk, TailState, Vote,
    WriteError, format, read_identity, sim::SimDisk, verify, verify_visiting,
};

#[test]
fn entries_are_read_back_before_and_after_a_restart() {
    let sim = formatted(1);
    let chronicle = open(&sim);
    assert_eq!((chronicle.last(), chronicle.flushed(), chronicle.first_index()), (None, None, 0));
    append(&chronicle, entries(1, 0..30)).unwrap();
    append(&chronicle, entries(2, 30..200)).unwrap();
    let all = [entries(1, 0..30), entries(2, 30..200)].concat();
    assert_eq!(chronicle.flushed(), Some(LogId::new(2, 199)));
    assert_eq!(read_all(&chronicle), all);
    chronicle.close();
    let chronicle = open(&sim);
    assert_eq!(chronicle.last(), Some(LogId::new(2, 199)));
    assert_eq!(chronicle.flushed(), chronicle.last());
    assert_eq!(read_all(&chronicle), all);
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    let sim = formatted(1);
    let chronicle = open(&sim);
    sim.hold_syncs();
    let answer = begin_append(&chronicle, entries(1, 0..5));
    assert_eq!(read_all(&chronicle), entries(1, 0..5));
    assert_eq!(chronicle.last(), Some(LogId::new(1, 4)));
    assert_eq!(chronicle.flushed(), None);
    assert!(chronicle.unflushed_bytes() > 0);
    until("the flush lags", || !chronicle.flush_lag().is_zero());
    assert!(answer.try_recv().is_err());
    sim.release_syncs();
    answer.recv().unwrap().unwrap();
    assert_eq!(chronicle.flushed(), Some(LogId::new(1, 4)));
    until("nothing waits", || chronicle.unflushed_bytes() == 0 && chronicle.flush_lag().is_zero());
}

#[test]
fn any_range_can_be_read_from_memory_from_open_and_from_sealed_segments() {
    let sim = formatted(2);
    let chronicle = Chronicle::open(Options { tail_cache_bytes: 2000, ..options(sim.boot()) }).unwrap();
    append(&chronicle, entries(1, 0..300)).unwrap();
    chronicle.set_committed(LogId::new(1, 150));
    until("some segments are sealed", || chronicle.sealed().last().is_some_and(|it| it.last.index > 100));
    let all = entries(1, 0..300);
    for from in (0..300).step_by(7) {
        for len in [1, 2, 50, 400] {
            let to = (from + len).min(300);
            let read = chronicle.read(from, from + len, usize::MAX).unwrap();
            assert_eq!(read, all[from as usize..to as usize], "{from}..{to}");
        }
        let read = chronicle.read(from, 300, 3000).unwrap();
        assert_eq!(read, all[from as usize..from as usize + read.len()]);
        let bytes: usize = read.iter().map(|entry| entry.payload.len()).sum();
        assert!(read.len() == 1 || !read.is_empty() && bytes <= 3000, "{from}");
        if let Some(next) = all.get(from as usize + read.len()) {
            assert!(bytes + next.payload.len() > 3000, "{from}: room for one more");
        }
    }
    assert!(chronicle.read(300, 310, 1).unwrap().is_empty());
    assert!(chronicle.read(5, 5, 1).unwrap().is_empty());
}

#[test]
fn committed_segments_are_sealed_and_their_keys_found() {
    let sim = formatted(3);
    let chronicle = open(&sim);
    append(&chronicle, entries(4, 0..400)).unwrap();
    commit_and_seal(&sim, &chronicle);
    let check = |chronicle: &Chronicle| {
        for index in 0..400 {
            let mut found = Vec::new();
            chronicle.find(own_key(LogId::new(4, index)), &mut found).unwrap();
            assert_eq!(found, [index]);
            found.clear();
            chronicle.find(shared_key(index), &mut found).unwrap();
            assert_eq!(found, (index / 16 * 16..(index / 16 + 1) * 16).collect::<Vec<_>>());
        }
        for absent in 0..1000 {
            let mut found = Vec::new();
            chronicle.find(own_key(LogId::new(9, absent)), &mut found).unwrap();
            assert!(found.is_empty());
        }
        // Screened together, every key is found as ever, and next to no other is looked for in what is sealed.
        let keys: Vec<u64> = (0..1000).map(|n| own_key(LogId::new(if n < 400 { 4 } else { 9 }, n))).collect();
        let passed = chronicle.screen(&keys);
        for (n, (key, passed)) in keys.iter().zip(&passed).enumerate() {
            let mut found = Vec::new();
            chronicle.find_from(*passed, *key, &mut found).unwrap();
            assert_eq!(found, if n < 400 { vec![n as u64] } else { Vec::new() });
        }
        let sealed = chronicle.sealed();
        let first_unsealed = sealed.last().map_or(0, |last| last.last.index + 1) as usize;
        assert!(passed[..first_unsealed].iter().all(|&passed| passed == 0));
        assert!(passed[400..].iter().filter(|&&passed| passed == sealed.len()).count() > 590);
    };
    check(&chronicle);
    let sealed = chronicle.sealed();
    assert!(sealed.len() > 5);
    assert_eq!(sealed[0].first, LogId::new(4, 0));
    for (i, segment) in sealed.iter().enumerate() {
        let (next, state) = chronicle.state_before(segment.last.index + 1);
        assert_eq!(next, segment.last.index + 1);
        assert_eq!(state.unwrap()[..8], next.to_le_bytes());
        assert_eq!(chronicle.state_before(segment.last.index).0, segment.first.index);
        assert!(i == 0 || sealed[i - 1].last.index + 1 == segment.first.index);
    }
    assert_eq!(chronicle.state_before(0), (0, None));
    chronicle.close();

    let report = verify(&sim.boot(), &dir(), |_| {}).unwrap();
    assert_eq!((report.entries, report.last, report.tail), (400, Some(LogId::new(4, 399)), Some(TailState::Clean)));
    assert_eq!(report.damage, None);
    assert_eq!(report.committed, Some(LogId::new(4, 399)));
    let digests = |sealed: bool| report.segments.iter().filter(move |it| it.sealed == sealed).map(|it| it.digest);
    assert_eq!(digests(true).collect::<Vec<_>>(), sealed.iter().map(|it| it.digest).collect::<Vec<_>>());
    assert_eq!(digests(false).count(), 1);

    let chronicle = open(&sim);
    assert_eq!(chronicle.sealed(), sealed);
    check(&chronicle);
    assert_eq!(chronicle.committed(), Some(LogId::new(4, 399)));
    // The fold goes on where the last footer left it (it asserts that it misses nothing).
    append(&chronicle, entries(4, 400..600)).unwrap();
    commit_and_seal(&sim, &chronicle);
    assert_eq!(read_all(&chronicle), entries(4, 0..600));
    chronicle.close();
}

/// A segment ends where the first entry that did not fit says; while that entry may still be replaced by a smaller one,
/// neither is final.
#[test]
fn a_segment_is_not_sealed_before_the_entry_behind_it_is_committed() {
    let sim = formatted(3);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..100)).unwrap();
    chronicle.set_committed(LogId::new(1, 99));
    until("segments are sealed", || !chronicle.sealed().is_empty());
    let last = chronicle.sealed()[0].last;

    let sim = formatted(4);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..100)).unwrap();
    chronicle.set_committed(last);
    truncate(&chronicle, last.index + 1).unwrap();
    assert!(chronicle.sealed().is_empty());
    append(&chronicle, entries(2, last.index + 1..last.index + 2)).unwrap();
    chronicle.set_committed(LogId::new(2, last.index + 1));
    until("the segment is sealed", || chronicle.sealed().len() == 1);
}

#[test]
fn a_truncated_tail_is_replaced() {
    let sim = formatted(5);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..200)).unwrap();
    truncate(&chronicle, 90).unwrap();
    assert_eq!(chronicle.last(), Some(LogId::new(1, 89)));
    assert_eq!(chronicle.flushed(), Some(LogId::new(1, 89)));
    let mut found = Vec::new();
    chronicle.find(own_key(LogId::new(1, 90)), &mut found).unwrap();
    assert!(found.is_empty());
    append(&chronicle, entries(2, 90..120)).unwrap();
    // Asked for in one go: what comes between is never seen.
    chronicle.truncate_from(100, |_| {});
    chronicle.append(entries(3, 100..130), |_| {});
    chronicle.truncate_from(110, |_| {});
    append(&chronicle, entries(4, 110..150)).unwrap();
    let all = [entries(1, 0..90), entries(2, 90..100), entries(3, 100..110), entries(4, 110..150)].concat();
    assert_eq!(read_all(&chronicle), all);
    chronicle.close();
    let chronicle = open(&sim);
    assert_eq!(read_all(&chronicle), all);
    truncate(&chronicle, 0).unwrap();
    assert_eq!(chronicle.last(), None);
    append(&chronicle, entries(5, 0..10)).unwrap();
    chronicle.close();
    let chronicle = open(&sim);
    assert_eq!(read_all(&chronicle), entries(5, 0..10));
}

/// Readers and the one who truncates are different threads; no answer may mix two versions of the log.
#[test]
fn a_read_during_truncations_is_of_one_log() {
    let sim = formatted(5);
    let chronicle = Chronicle::open(Options { tail_cache_bytes: 0, ..options(sim.boot()) }).unwrap();
    append(&chronicle, entries(1, 0..60)).unwrap();
    let reader = chronicle.clone();
    let (stop, stopped) = mpsc::channel::<()>();
    let reads = std::thread::spawn(move || {
        let mut reads = 0;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let read = read_all(&reader);
            for (index, entry) in (0..).zip(&read) {
                assert_eq!(*entry, common::entry(entry.id.term, index));
            }
            // From index 20 on there is only ever one term at a time.
            assert!(read.iter().skip(20).all(|entry| entry.id.term == read[20].id.term), "two logs in one answer");
            reads += 1;
        }
        reads
    });
    for term in 2..200 {
        chronicle.truncate_from(20, |_| {});
        append(&chronicle, entries(term, 20..60)).unwrap();
    }
    stop.send(()).unwrap();
    assert!(reads.join().unwrap() > 10);
}

#[test]
fn what_would_break_the_log_is_refused_and_changes_nothing() {
    let sim = formatted(6);
    let chronicle = open(&sim);
    assert!(matches!(append(&chronicle, entries(1, 1..2)), Err(WriteError::OutOfOrder { last: None, .. })));
    append(&chronicle, entries(2, 0..10)).unwrap();
    assert!(matches!(append(&chronicle, entries(2, 11..12)), Err(WriteError::OutOfOrder { .. })));
    assert!(matches!(append(&chronicle, entries(1, 10..11)), Err(WriteError::OutOfOrder { .. })));
    let gap = [entries(2, 10..11), entries(2, 12..13)].concat();
    assert!(matches!(append(&chronicle, gap), Err(WriteError::OutOfOrder { .. })));
    chronicle.set_committed(LogId::new(2, 5));
    assert!(matches!(truncate(&chronicle, 5), Err(WriteError::Committed { index: 5, committed: 5 })));
    truncate(&chronicle, 6).unwrap();
    truncate(&chronicle, 60).unwrap();
    chronicle.set_committed(LogId::new(2, 3));
    assert_eq!(chronicle.committed(), Some(LogId::new(2, 5)));
    assert_eq!(read_all(&chronicle), entries(2, 0..6));
    chronicle.close();
    assert!(matches!(append(&chronicle, entries(2, 6..7)), Err(WriteError::Closed)));
    assert!(matches!(truncate(&chronicle, 6), Err(WriteError::Closed)));
    assert_eq!(read_all(&chronicle), entries(2, 0..6));
    assert_eq!(read_all(&open(&sim)), entries(2, 0..6));
}

#[test]
fn the_vote_and_the_cluster_are_kept() {
    let sim = formatted(7);
    let chronicle = open(&sim);
    assert_eq!(chronicle.vote(), None);
    let vote = Vote { term: 7, node_id: 2, committed: false };
    let (sender, receiver) = mpsc::channel();
    chronicle.save_vote(vote, move |result| sender.send(result).unwrap());
    receiver.recv().unwrap().unwrap();
    chronicle.adopt_cluster([9; 16]).unwrap();
    chronicle.adopt_cluster([9; 16]).unwrap();
    assert!(matches!(chronicle.adopt_cluster([8; 16]), Err(WriteError::OtherCluster)));
    // Both were synced: a power cut cannot take them, whatever is written to the meta file without a sync meanwhile.
    append(&chronicle, entries(1, 0..3)).unwrap();
    chronicle.set_committed(LogId::new(1, 2));
    sim.power_cut();
    let chronicle = open(&sim);
    assert_eq!(chronicle.vote(), Some(vote));
    assert_eq!(chronicle.identity(), Identity { cluster_id: Some([9; 16]), ..identity() });
    assert_eq!(read_identity(&sim.boot(), &dir()).unwrap(), chronicle.identity());
}

/// A node that was left behind after a lost quorum started again a year later, when nobody remembered.
#[test]
fn an_epoch_and_what_superseded_it_are_kept() {
    let sim = formatted(7);
    let chronicle = open(&sim);
    assert_eq!((chronicle.epoch(), chronicle.superseded_by()), (Epoch::default(), 0));
    let epoch = Epoch { number: 2, token: 77 };
    chronicle.begin_epoch(epoch).unwrap();
    chronicle.begin_epoch(epoch).unwrap();
    for other in [Epoch { number: 1, token: 77 }, Epoch { number: 2, token: 78 }, Epoch::default()] {
        assert!(matches!(chronicle.begin_epoch(other), Err(WriteError::OtherEpoch { .. })), "{other}");
    }
    chronicle.supersede(4).unwrap();
    chronicle.supersede(3).unwrap();
    append(&chronicle, entries(1, 0..3)).unwrap();
    chronicle.set_committed(LogId::new(1, 2));
    sim.power_cut();
    let chronicle = open(&sim);
    assert_eq!((chronicle.epoch(), chronicle.superseded_by()), (epoch, 4));
    chronicle.close();
    let report = verify(&sim.boot(), &dir(), |_| {}).unwrap();
    assert_eq!((report.epoch, report.superseded_by, report.damage), (epoch, 4, None));
}

#[test]
fn verifying_shows_every_entry_and_whether_it_is_known_to_be_committed() {
    let sim = formatted(8);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..200)).unwrap();
    chronicle.set_committed(LogId::new(1, 150));
    until("a segment is sealed", || !chronicle.sealed().is_empty());
    chronicle.close();
    let mut seen = Vec::new();
    let report = verify_visiting(&sim.boot(), &dir(), |_| {}, &mut |entry, is_committed| {
        seen.push((entry.clone(), is_committed));
    })
    .unwrap();
    assert_eq!(report.committed, Some(LogId::new(1, 150)));
    assert!(report.segments.iter().any(|segment| segment.sealed), "sealed segments and others");
    let expected: Vec<_> = entries(1, 0..200).into_iter().map(|entry| (entry.clone(), entry.id.index <= 150)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_committed_index_is_remembered_within_its_time_and_never_beyond_what_is_durable() {
    let sim = formatted(8);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..10)).unwrap();
    sim.hold_syncs();
    let _unanswered = begin_append(&chronicle, entries(1, 10..20));
    // Committed through the others, as when this node's own disk is slow.
    chronicle.set_committed(LogId::new(1, 19));
    assert_eq!(chronicle.committed(), Some(LogId::new(1, 9)));
    sim.power_cut();
    let chronicle = open(&sim);
    assert!(chronicle.last() >= Some(LogId::new(1, 9)));
    append(&chronicle, entries(1, chronicle.last().unwrap().index + 1..30)).unwrap();
    chronicle.set_committed(LogId::new(1, 25));
    let remembered = || {
        let copy = sim.fork(0);
        verify(&copy.boot(), &dir(), |_| {}).unwrap().committed
    };
    until("it is remembered without a stop", || remembered() == Some(LogId::new(1, 25)));
}

#[test]
fn a_directory_is_opened_only_by_its_own_node_and_once() {
    let sim = SimDisk::new(9);
    assert!(matches!(try_open(&sim), Err(OpenError::NotFormatted { .. })));
    assert!(matches!(read_identity(&sim.boot(), &dir()), Err(OpenError::NotFormatted { .. })));
    let sim = formatted(9);
    let expect = |node_id, site: &str| {
        let expect_site = Some(site.to_owned());
        Chronicle::open(Options { expect_node_id: Some(node_id), expect_site, ..options(sim.boot()) })
    };
    assert!(matches!(expect(4, "전주"), Err(OpenError::WrongNode { expected: 4, found: 3, .. })));
    assert!(matches!(expect(3, "충주"), Err(OpenError::WrongSite { .. })));
    let chronicle = expect(3, "전주").unwrap();
    assert!(matches!(try_open(&sim), Err(OpenError::InUse { .. })));
    assert!(matches!(verify(&sim.boot(), &dir(), |_| {}), Err(sillok_chronicle::VerifyError::InUse { .. })));
    chronicle.close();
    chronicle.close();
    open(&sim);
}

#[test]
fn only_an_empty_directory_is_formatted() {
    let sim = formatted(10);
    let again = format(&sim.boot(), &dir(), &identity());
    assert!(matches!(again, Err(FormatError::NotEmpty { found, .. }) if found == "meta"));
    let long = Identity { site: "x".repeat(129), ..identity() };
    let elsewhere = std::path::Path::new("/elsewhere");
    assert!(matches!(format(&sim.boot(), elsewhere, &long), Err(FormatError::Site { bytes: 129, .. })));
    let most = Identity { site: "x".repeat(128), ..identity() };
    format(&sim.boot(), elsewhere, &most).unwrap();
    assert_eq!(read_identity(&sim.boot(), elsewhere).unwrap(), most);
}

#[test]
fn it_works_on_a_real_disk() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b/chronicle");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    format(&disk, &path, &identity()).unwrap();
    let open = || Chronicle::open(Options { dir: path.clone(), ..options(Arc::clone(&disk)) });
    let chronicle = open().unwrap();
    append(&chronicle, entries(1, 0..300)).unwrap();
    chronicle.set_committed(LogId::new(1, 299));
    until("segments are sealed", || chronicle.sealed().len() > 5);
    assert!(matches!(open(), Err(OpenError::InUse { .. })));
    truncate(&chronicle, 300).unwrap();
    chronicle.close();
    let chronicle = open().unwrap();
    assert_eq!(read_all(&chronicle), entries(1, 0..300));
    append(&chronicle, entries(2, 300..310)).unwrap();
    truncate(&chronicle, 305).unwrap();
    drop(chronicle);
    let mut reopened = None;
    until("the dropped chronicle has ended", || {
        reopened = open().ok();
        reopened.is_some()
    });
    assert_eq!(reopened.unwrap().last(), Some(LogId::new(2, 304)));
    let mut last = None;
    until("it can be verified", || {
        let report = verify(&disk, &path, |progress| last = Some(progress));
        report.is_ok_and(|report| report.entries == 305 && report.damage.is_none())
    });
    assert_eq!(last.unwrap().entries, 305);
}

/// One node of three was configured with other segments than the rest: its digests agreed with nobody's, and nothing said so.
#[test]
fn segments_of_another_size_are_refused() {
    let sim = formatted(6);
    let chronicle = open(&sim);
    append(&chronicle, entries(1, 0..10)).unwrap();
    chronicle.close();
    let other = Options { segment_bytes: 2 * SEGMENT_BYTES, ..options(sim.boot()) };
    let error = Chronicle::open(other).unwrap_err();
    assert!(matches!(error, OpenError::SegmentBytes { recorded: SEGMENT_BYTES, .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("8192") && said.contains("16384") && said.contains("every node"), "{said}");
    assert_eq!(read_all(&open(&sim)), entries(1, 0..10));
}

/// With ten million records on the disk a start must not read them all.
#[test]
fn opening_reads_next_to_nothing_of_sealed_segments() {
    const SEGMENT: u64 = 256 << 10;
    // A frame of 1,040 bytes, 252 of which fill a segment.
    let alike = |index| Entry { id: LogId::new(1, index), kind: 1, payload: Bytes::from(vec![7; 1000]) };
    let read_by_opening = |sealed: u64| {
        let sim = formatted(7);
        let open = |sim: &SimDisk| Chronicle::open(Options { segment_bytes: SEGMENT, ..options(sim.boot()) }).unwrap();
        let chronicle = open(&sim);
        append(&chronicle, (0..252 * sealed + 1).map(alike).collect()).unwrap();
        chronicle.set_committed(chronicle.last().unwrap());
        until("sealed", || chronicle.sealed().len() as u64 == sealed);
        // The current segment and the next: opening looks at the next one too, if it was made in time.
        until("the next segment is made", || segments(&sim).len() as u64 == sealed + 2);
        chronicle.close();
        let before = sim.bytes_read();
        let chronicle = open(&sim);
        let read = sim.bytes_read() - before;
        assert_eq!(chronicle.last().unwrap().index, 252 * sealed);
        chronicle.close();
        read
    };
    let (few, many) = (read_by_opening(4), read_by_opening(24));
    assert!(many > few, "{few}, {many}");
    let more = (many - few) / 20;
    assert!(
        more < SEGMENT / 50,
        "each sealed segment of {SEGMENT} bytes costs {more} bytes when the chronicle is opened"
    );
}

/// A node that recorded much filled the machine's memory with segments that next to nobody reads; those of a new node that
/// caught up did the same at its leader.
#[test]
fn sealed_segments_do_not_stay_in_the_system_s_memory() {
    const SEGMENT: u64 = 1 << 20;
    let alike = |index| Entry { id: LogId::new(1, index), kind: 1, payload: Bytes::from(vec![7; 10_000]) };
    let all: Vec<Entry> = (0..450).map(alike).collect();
    let sim = formatted(8);
    let few = Options { segment_bytes: SEGMENT, tail_cache_bytes: 0, ..options(sim.boot()) };
    let chronicle = Chronicle::open(few).unwrap();
    append(&chronicle, all.clone()).unwrap();
    assert_eq!(sim.hints(), (0, 0), "what is not sealed is read again soon");
    chronicle.set_committed(chronicle.last().unwrap());
    until("sealed", || chronicle.sealed().len() == 4);
    let entries: u64 = chronicle.sealed().iter().map(|info| info.bytes).sum();
    let (forgotten, fetched) = sim.hints();
    assert!(forgotten > 4 * SEGMENT * 9 / 10, "{forgotten} of {entries}");
    assert_eq!(fetched, 0);

    assert_eq!(chronicle.read(0, 450, usize::MAX).unwrap(), all);
    assert_eq!(sim.hints(), (forgotten, fetched), "whoever asks may ask again");

    let mut through = Vec::new();
    while through.len() < all.len() {
        through.extend(chronicle.read_through(through.len() as u64, 450, 300_000).unwrap());
    }
    assert_eq!(through, all);
    let (again, fetched) = (sim.hints().0 - forgotten, sim.hints().1);
    assert!((entries..entries * 5 / 4).contains(&again), "{again} of {entries}");
    assert!(fetched > entries / 2, "{fetched} of {entries}");
}
