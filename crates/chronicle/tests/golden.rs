//! A chronicle written by the first release still opens, and the same entries still give the same bytes.
//!
//! The files in `golden/v1` never change. A new format version gets a directory of its own beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::*;
use sillok_chronicle::{
    Chronicle, Disk, Entry, Identity, LogId, Options, RealDisk, TailState, Vote, format, sim::SimDisk, verify,
};

const COUNT: u64 = 58;
const GOLDEN_SEGMENT_BYTES: u64 = 4096;
const VOTE: Vote = Vote { term: 9, node_id: 2, committed: true };
const CLUSTER: [u8; 16] = *b"sillok-golden-v1";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn golden_identity() -> Identity {
    Identity { node_id: 2, incarnation: 0x5111_0C1A_551C, site: "성주".to_owned(), cluster_id: Some(CLUSTER) }
}

/// Frozen: plain text, with a run of zeros in every fifth.
fn golden_entries() -> Vec<Entry> {
    let payload = |index: u64| {
        let text = format!("기록 {index}: 무엇이 있었는지만 적는다. ").repeat(index as usize % 7 + 1);
        match index % 5 {
            0 => [text.as_bytes(), &[0; 300], b"."].concat(),
            _ => text.into_bytes(),
        }
    };
    let entry = |index| Entry {
        id: LogId::new(1 + index / 15, index),
        kind: (index % 3) as u8,
        payload: Bytes::from(payload(index)),
    };
    (0..COUNT).map(entry).collect()
}

fn golden_options(disk: std::sync::Arc<dyn Disk>, dir: PathBuf) -> Options {
    Options { dir, segment_bytes: GOLDEN_SEGMENT_BYTES, ..options(disk) }
}

/// Writes the golden entries as today's code does.
fn write(disk: std::sync::Arc<dyn Disk>, dir: &Path) {
    format(&disk, dir, &Identity { cluster_id: None, ..golden_identity() }).unwrap();
    let chronicle = Chronicle::open(golden_options(disk, dir.to_owned())).unwrap();
    chronicle.adopt_cluster(CLUSTER).unwrap();
    chronicle.save_vote(VOTE, |result| result.unwrap());
    append(&chronicle, golden_entries()).unwrap();
    chronicle.set_committed(LogId::new(4, COUNT - 2));
    until("all but the last segment are sealed", || chronicle.sealed().len() == 4);
    chronicle.close();
}

/// A simulated disk with the golden files.
fn copy() -> SimDisk {
    let sim = SimDisk::new(0);
    let disk = sim.boot();
    disk.create_dir(&dir()).unwrap();
    for item in std::fs::read_dir(golden()).unwrap() {
        let item = item.unwrap();
        let file = disk.create(&dir().join(item.file_name())).unwrap();
        file.write_at(&std::fs::read(item.path()).unwrap(), 0).unwrap();
    }
    sim
}

#[test]
fn the_first_release_s_chronicle_still_opens() {
    let sim = copy();
    let report = verify(&sim.boot(), &dir(), |_| {}).unwrap();
    assert_eq!((report.damage, report.tail, report.entries), (None, Some(TailState::Clean), COUNT));
    assert_eq!(report.committed, Some(LogId::new(4, COUNT - 2)));

    let chronicle = Chronicle::open(golden_options(sim.boot(), dir())).unwrap();
    assert_eq!(chronicle.identity(), golden_identity());
    assert_eq!(chronicle.vote(), Some(VOTE));
    assert_eq!(read_all(&chronicle), golden_entries());
    let sealed = chronicle.sealed();
    let digests: Vec<String> = sealed.iter().map(|segment| blake3::Hash::from(segment.digest).to_string()).collect();
    assert_eq!(digests, DIGESTS);
    for entry in golden_entries() {
        let mut found = Vec::new();
        chronicle.find(own_key(entry.id), &mut found).unwrap();
        assert_eq!(found, [entry.id.index]);
    }
    let (next, state) = chronicle.state_before(COUNT);
    assert_eq!(state.unwrap()[..8], next.to_le_bytes());
    append(&chronicle, vec![Entry { id: LogId::new(5, COUNT), kind: 1, payload: Bytes::from_static(b"more") }])
        .unwrap();
    chronicle.close();
}

#[test]
fn the_same_entries_still_give_the_same_bytes() {
    let sim = SimDisk::new(0);
    write(sim.boot(), &dir());
    for ordinal in 0..5 {
        let name = format!("{ordinal:010}.seg");
        let expected = std::fs::read(golden().join(&name)).unwrap();
        assert!(sim.bytes(&dir().join(&name)).unwrap() == expected, "{name} differs");
    }
}

/// How the golden files were made: `cargo test -p sillok-chronicle --test golden -- --ignored`, in an empty directory.
#[test]
#[ignore = "writes the golden files, which never change once they are released"]
fn make() {
    write(std::sync::Arc::new(RealDisk), &golden());
}

const DIGESTS: [&str; 4] = [
    "4f8d5129d505cdbb5f4a0c711eea2a2a8f506415db340aeb27865c6c3df1c29f",
    "ce3b5970cd086c075531a5e967ff08576948178cbccff7b60bfececa0d607794",
    "705771321cd50f4f693c8c27593c838fde2d7452efa2676f53635d655ce08da0",
    "50ed82d6e7f7bc7d9985563f811df00e96152b7413e0576446d585bbdf6c5e8e",
];
