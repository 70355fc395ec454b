//! Damage is mended with a peer's entries, to the byte; what cannot be told is left alone; and a crash in the midst of it
//! leaves the damaged segment or the mended one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::PathBuf;

use bytes::Bytes;
use common::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sillok_chronicle::{
    Chronicle, Damage, DamageReason, Entry, LogId, MendError, Mended, Mending, OpenError, Options, ReadError,
    sim::{Operation, SimDisk},
    verify,
};

const COUNT: u64 = 150;

/// What happens to a file.
type Harm = Box<dyn Fn(&mut Vec<u8>)>;

/// Sealed segments, an open one behind them, all committed; and a peer that has the same.
fn whole() -> (SimDisk, Chronicle) {
    whole_with(|chronicle| append(chronicle, entries(1, 0..COUNT)).unwrap())
}

fn whole_with(write: impl Fn(&Chronicle)) -> (SimDisk, Chronicle) {
    let sim = formatted(2);
    let chronicle = open(&sim);
    write(&chronicle);
    commit_and_seal(&sim, &chronicle);
    chronicle.close();
    let peer = open(&sim.fork(3));
    (sim, peer)
}

fn begin(sim: &SimDisk, suspect: Option<&Damage>) -> Result<Option<Mending>, MendError> {
    Mending::begin(&sim.boot(), &dir(), suspect)
}

fn frames(mending: &Mending, peer: &Chronicle) -> Vec<Bytes> {
    let wanted = mending.wanted().into_iter();
    wanted.map(|it| peer.read_frames(it.from, it.to + 1, usize::MAX).unwrap().0).collect()
}

/// Mends until nothing is damaged any more where opening looks, and in the suspect's segment.
fn mend(sim: &SimDisk, peer: &Chronicle, suspect: Option<&Damage>) -> Result<Vec<Mended>, MendError> {
    let mut done = Vec::new();
    while let Some(mending) = begin(sim, suspect)? {
        assert!(done.len() < 10, "mended over and over: {done:?}");
        done.push(mending.mend(&frames(&mending, peer), &mut Counting::default(), |_| Ok(()))?);
    }
    Ok(done)
}

/// The segments that hold entries.
fn in_use(sim: &SimDisk) -> Vec<PathBuf> {
    segments(sim).into_iter().filter(|path| sim.bytes(path).unwrap().iter().any(|&byte| byte != 0)).collect()
}

/// Every segment file holds what it held, once all that can be sealed is sealed again.
fn assert_as_before(sim: &SimDisk, original: &SimDisk, context: &str) {
    let chronicle = try_open(sim).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(read_all(&chronicle), entries(1, 0..COUNT), "{context}");
    let used = in_use(original);
    until("all is sealed again", || chronicle.sealed().len() == used.len() - 1);
    chronicle.close();
    for path in used {
        assert!(sim.bytes(&path) == original.bytes(&path), "{context}: {} differs", path.display());
    }
    let report = verify(&sim.boot(), &dir(), |_| {}).unwrap();
    assert_eq!((report.damage, report.entries), (None, COUNT), "{context}");
}

#[test]
fn any_flipped_byte_is_mended_or_cannot_be_told_from_the_log_s_end() {
    let (sim, peer) = whole();
    let (last, end) = last_used(&sim);
    let mut rng = StdRng::seed_from_u64(5);
    let (mut mended, mut beyond) = (0, 0);
    for path in segments(&sim) {
        let bytes = sim.bytes(&path).unwrap();
        let Some(used) = bytes.iter().rposition(|&byte| byte != 0).map(|at| at + 1) else { continue };
        for n in 0..90 {
            let at = if n % 4 == 0 { used - 1 - n } else { rng.random_range(0..used) };
            let copy = sim.fork(0);
            copy.flip(&path, at as u64, rng.random_range(1..=255));
            let context = format!("byte {at} of {}", path.display());
            let damage = verify(&copy.boot(), &dir(), |_| {}).unwrap().damage.unwrap_or_else(|| panic!("{context}"));
            match mend(&copy, &peer, Some(&damage)) {
                Ok(done) => {
                    assert_eq!(done.len(), 1, "{context}: {done:?}");
                    assert_as_before(&copy, &sim, &context);
                    let kept = copy.bytes(&dir().join(done[0].kept_as.as_ref().unwrap())).unwrap();
                    assert!(kept[at] != bytes[at] && kept.len() == bytes.len(), "{context}: the damage is not kept");
                    mended += 1;
                }
                // The head of the very last frame: its id is lost with it, and nothing stands behind.
                Err(MendError::Beyond { damage, .. }) => {
                    assert!(path == last && at + 400 > end, "{context}: {damage}");
                    assert_eq!(damage.last_good, Some(LogId::new(1, COUNT - 2)), "{context}");
                    beyond += 1;
                }
                Err(other) => panic!("{context}: {other}"),
            }
        }
    }
    assert!(mended > 500 && beyond > 0 && beyond < 20, "{mended} mended, {beyond} beyond");
}

/// Longer stretches: lost sectors, a file that is short, gone, or zeros throughout.
#[test]
fn whatever_is_lost_of_a_segment_comes_back() {
    let (sim, peer) = whole();
    let paths = in_use(&sim);
    let sealed = paths.len() - 1;
    let mut harms: Vec<(String, Harm)> = vec![
        ("zeros throughout".to_owned(), Box::new(|bytes| bytes.fill(0))),
        ("cut in the middle".to_owned(), Box::new(|bytes| bytes.truncate(bytes.len() / 2))),
        ("cut to a whole block".to_owned(), Box::new(|bytes| bytes.truncate(4096))),
        ("cut to nothing".to_owned(), Box::new(|bytes| bytes.clear())),
        ("no header".to_owned(), Box::new(|bytes| bytes[..32].fill(0))),
        (
            "holes".to_owned(),
            Box::new(|bytes| (512..bytes.len().saturating_sub(600)).step_by(1700).for_each(|at| bytes[at] ^= 1)),
        ),
    ];
    for sector in 0..8 {
        let harm: Harm = Box::new(move |bytes| {
            let end = bytes.len().min((sector + 1) * 512);
            bytes[end.min(sector * 512)..end].fill(0);
        });
        harms.push((format!("sector {sector} is lost"), harm));
    }
    for (what, harm) in harms {
        // The last segment has nothing behind it that says what it held.
        for (n, path) in paths[..sealed].iter().enumerate() {
            let copy = sim.fork(0);
            copy.edit(path, |bytes| harm(bytes));
            let context = format!("{what}, segment {n}");
            if copy.bytes(path) == sim.bytes(path) {
                continue;
            }
            // A short segment cut behind its entries only has to be sealed again.
            let damage = verify(&copy.boot(), &dir(), |_| {}).unwrap().damage;
            assert!(damage.is_some() || what == "cut to a whole block", "{context}");
            mend(&copy, &peer, damage.as_ref()).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_as_before(&copy, &sim, &context);
        }
    }
    for (n, path) in paths[..sealed].iter().enumerate() {
        let copy = sim.fork(0);
        copy.boot().remove(path).unwrap();
        mend(&copy, &peer, None).unwrap_or_else(|error| panic!("without segment {n}: {error}"));
        assert_as_before(&copy, &sim, &format!("without segment {n}"));
    }
}

/// Entries that were durable are gone from the end of the log: how many there were, and which, only this node knew. A node that
/// filled up with what some peer has could forget what it had acknowledged.
#[test]
fn what_is_lost_at_the_end_of_the_log_is_left_alone() {
    let (sim, peer) = whole();
    let (last, end) = last_used(&sim);
    let bytes = sim.bytes(&last).unwrap();
    let heads: Vec<usize> = (32..end).step_by(8).filter(|&at| bytes[at..at + 2] == [0xE5, b'K']).collect();
    for begin_at in [heads[heads.len() - 1], heads[heads.len() - 2], heads[0], 0] {
        let copy = sim.fork(0);
        copy.edit(&last, |bytes| bytes[begin_at..end].fill(0));
        let before = copy.bytes(&last);
        assert!(matches!(mend(&copy, &peer, None), Err(MendError::Beyond { .. })), "zeros from byte {begin_at}");
        assert!(copy.bytes(&last) == before, "zeros from byte {begin_at}");
        assert!(matches!(try_open(&copy), Err(OpenError::Damaged(_))));
    }
    // And so it is with the meta file: nobody else knows this node's vote.
    let copy = sim.fork(0);
    copy.flip(&dir().join("meta"), 70, 1);
    match begin(&copy, None) {
        Err(MendError::Beyond { damage, .. }) => assert_eq!(damage.segment, "meta"),
        other => panic!("{:?}", other.map(|it| it.map(|it| it.wanted()))),
    }
}

/// A peer that had lost its log and got another one answers with sound frames of other entries. Nothing of them is taken.
#[test]
fn frames_that_are_not_what_stood_here_are_refused() {
    let (sim, peer) = whole();
    let other = {
        let sim = formatted(9);
        let chronicle = open(&sim);
        append(&chronicle, entries(7, 0..COUNT)).unwrap();
        chronicle
    };
    let path = segments(&sim)[1].clone();
    let copies = [("the trailer knows better", None), ("the frame behind knows better", Some(in_use(&sim).len() - 1))];
    for (context, segment) in copies {
        let path = segment.map_or(path.clone(), |n| in_use(&sim)[n].clone());
        let copy = sim.fork(0);
        copy.flip(&path, 40, 1);
        let damage = verify(&copy.boot(), &dir(), |_| {}).unwrap().damage.unwrap();
        let before = copy.bytes(&path);
        let mending = begin(&copy, Some(&damage)).unwrap().unwrap();
        let wrong: Vec<Vec<Bytes>> = vec![
            frames(&mending, &other),
            Vec::new(),
            vec![Bytes::new(); mending.wanted().len()],
            frames(&mending, &peer).iter().map(|piece| piece.slice(..piece.len() - 8)).collect(),
            frames(&mending, &peer)
                .iter()
                .map(|piece| {
                    let mut piece = piece.to_vec();
                    *piece.last_mut().unwrap() ^= 1;
                    piece.into()
                })
                .collect(),
        ];
        for (n, wrong) in wrong.iter().enumerate() {
            let refused = mending.mend(wrong, &mut Counting::default(), |_| Ok(()));
            assert!(matches!(refused, Err(MendError::Refused { .. })), "{context}, {n}: {refused:?}");
            assert!(copy.bytes(&path) == before, "{context}, {n}");
        }
        // Whoever checks the chain of records has the last word.
        let refused = mending.mend(&frames(&mending, &peer), &mut Counting::default(), |_| Err("no".to_owned()));
        assert!(matches!(refused, Err(MendError::Refused { .. })), "{context}");
        assert!(copy.bytes(&path) == before, "{context}");
        assert!(!copy.paths().iter().any(|path| path.ends_with("repair.tmp")), "{context}");
        drop(mending);
        mend(&copy, &peer, Some(&damage)).unwrap();
        assert_as_before(&copy, &sim, context);
    }
}

/// The power fails at every single change of the disk that a repair makes. What is there then is the damaged segment or the
/// mended one, and the next attempt succeeds.
#[test]
fn a_power_cut_in_the_midst_of_a_repair_makes_nothing_worse() {
    let (sim, peer) = whole();
    let harms: [(usize, Harm); 4] = [
        (1, Box::new(|bytes| bytes[3000] ^= 1)),
        (1, Box::new(|bytes| bytes.clear())),
        (2, Box::new(|bytes| *bytes.last_mut().unwrap() ^= 1)),
        (usize::MAX, Box::new(|bytes| bytes[600] ^= 1)),
    ];
    for (n, harm) in harms {
        let path: PathBuf = segments(&sim).get(n).cloned().unwrap_or_else(|| last_used(&sim).0);
        let damaged = sim.fork(0);
        damaged.edit(&path, harm);
        let damage = verify(&damaged.boot(), &dir(), |_| {}).unwrap().damage.unwrap();
        let mut cuts = 0;
        for after in 0.. {
            for seed in 0..3 {
                let copy = damaged.fork(seed);
                copy.cut_power_after(after);
                let result = mend(&copy, &peer, Some(&damage));
                copy.power_cut();
                let survived = copy.bytes(&path);
                let is_old = survived == damaged.bytes(&path);
                assert!(result.is_err() || !is_old, "a repair that succeeded is durable");
                let done = mend(&copy, &peer, Some(&damage)).unwrap();
                assert_eq!(done.len(), usize::from(is_old), "segment {n}, cut after {after}: neither old nor mended");
                assert_as_before(&copy, &sim, &format!("segment {n}, cut after {after}, seed {seed}"));
                cuts += usize::from(result.is_err());
            }
            if mend(&damaged_with_cut(&damaged, after), &peer, Some(&damage)).is_ok() {
                break;
            }
        }
        assert!(cuts > 12, "segment {n}: only {cuts} cuts");
    }
}

fn damaged_with_cut(damaged: &SimDisk, after: u64) -> SimDisk {
    let copy = damaged.fork(0);
    copy.cut_power_after(after);
    copy
}

/// A sector that the disk cannot read back is as lost as one that it reads back wrong.
#[test]
fn a_sector_that_cannot_be_read_is_mended_too() {
    let (sim, peer) = whole();
    let copy = sim.fork(0);
    let chronicle = Chronicle::open(Options { tail_cache_bytes: 0, ..options(copy.boot()) }).unwrap();
    copy.flip(&segments(&copy)[1], 2000, 1);
    let damage = match chronicle.read(0, u64::MAX, usize::MAX) {
        Err(ReadError::Damaged(damage)) => damage,
        other => panic!("{:?}", other.map(|read| read.len())),
    };
    assert!(matches!(damage.reason, DamageReason::EntryBody { .. } | DamageReason::EntryHead), "{damage}");
    chronicle.close();
    // The window that the survey reads first, and then what it needs of it.
    copy.fail(Operation::Read, "0000000001.seg", 8);
    mend(&copy, &peer, Some(&damage)).unwrap();
    assert_as_before(&copy, &sim, "unreadable");
}

/// Several terms, and a tail that is not committed: a log id is one entry, whoever holds it.
#[test]
fn an_uncommitted_tail_is_mended_where_a_peer_holds_the_same_ids() {
    let write = |chronicle: &Chronicle, term: u64| {
        append(chronicle, entries(1, 0..30)).unwrap();
        append(chronicle, entries(term, 30..45)).unwrap();
    };
    let make = |term| {
        let sim = formatted(4);
        let chronicle = open(&sim);
        write(&chronicle, term);
        chronicle.close();
        sim
    };
    let (sim, peer, other) = (make(2), open(&make(2)), open(&make(3)));
    let all: Vec<Entry> = [entries(1, 0..30), entries(2, 30..45)].concat();
    let (path, end) = last_used(&sim);
    for at in (32..end - 500).step_by(97) {
        let copy = sim.fork(0);
        copy.flip(&path, at as u64, 1);
        let Err(OpenError::Damaged(damage)) = try_open(&copy) else { panic!("byte {at}") };
        if damage.last_good.is_some_and(|id| id.index >= 30) {
            assert!(mend(&copy, &other, None).is_err(), "another leader's entries were taken, byte {at}");
        }
        mend(&copy, &peer, None).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        let chronicle = open(&copy);
        assert_eq!(read_all(&chronicle), all, "byte {at}");
        chronicle.close();
    }
}
