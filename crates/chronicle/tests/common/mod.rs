//! What the chronicle's tests share: a simulated disk, entries whose content follows from their ids, and a fold.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sillok_chronicle::{
    Chronicle, Disk, Entry, Fold, Identity, LogId, OpenError, Options, WriteError, format, sim::SimDisk,
};

pub(crate) const SEGMENT_BYTES: u64 = 8 << 10;

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/chronicle")
}

pub(crate) fn identity() -> Identity {
    Identity { node_id: 3, incarnation: 0xABCD, site: "전주".to_owned(), cluster_id: None }
}

/// A simulated disk with a formatted chronicle.
pub(crate) fn formatted(seed: u64) -> SimDisk {
    let sim = SimDisk::new(seed);
    format(&sim.boot(), &dir(), &identity()).unwrap();
    sim
}

pub(crate) fn options(disk: Arc<dyn Disk>) -> Options {
    Options {
        disk,
        segment_bytes: SEGMENT_BYTES,
        persist_every: Duration::from_millis(1),
        fold: Box::new(Counting::default()),
        keys: keys_of,
        ..Options::new(dir())
    }
}

pub(crate) fn try_open(sim: &SimDisk) -> Result<Chronicle, OpenError> {
    Chronicle::open(options(sim.boot()))
}

pub(crate) fn open(sim: &SimDisk) -> Chronicle {
    try_open(sim).unwrap()
}

/// Every kind of payload there is: empty, short, zeros in long runs, incompressible, larger than a sector or a segment.
pub(crate) fn payload(id: LogId) -> Bytes {
    let noise = |n: u64| (0..n).map(|i| (((id.index + 1) * (i + 31 * id.term + 7) * 0x9E37_79B9) >> 13) as u8);
    match id.index % 11 {
        0 => Bytes::new(),
        1 => noise(3).collect(),
        2 => noise(200).collect(),
        3 => Bytes::from(vec![0; 1500]),
        4 => noise(700).collect(),
        5 => noise(100).chain(std::iter::repeat_n(0, 128)).chain(noise(64)).collect(),
        6 => Bytes::from(vec![0; 127]),
        7 if id.index == 40 => noise(SEGMENT_BYTES * 2).collect(),
        _ => noise(300).collect(),
    }
}

pub(crate) fn entry(term: u64, index: u64) -> Entry {
    let id = LogId::new(term, index);
    Entry { id, kind: (index % 3) as u8, payload: payload(id) }
}

pub(crate) fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

/// Two keys an entry: one of its own, one that it shares with 15 neighbours.
pub(crate) fn keys_of(entry: &Entry, keys: &mut Vec<u64>) {
    keys.extend([own_key(entry.id), shared_key(entry.id.index)]);
}

pub(crate) fn own_key(id: LogId) -> u64 {
    id.index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ id.term
}

pub(crate) fn shared_key(index: u64) -> u64 {
    (index / 16).wrapping_mul(0xD134_2543_DE82_EF95) ^ (1 << 63)
}

/// Counts entries and payload bytes.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Fold for Counting {
    fn restore(&mut self, state: &[u8]) {
        self.entries = u64::from_le_bytes(state[..8].try_into().unwrap());
        self.bytes = u64::from_le_bytes(state[8..].try_into().unwrap());
    }

    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        assert_eq!(entry.id.index, self.entries, "folded in order and without gaps");
        self.entries += 1;
        self.bytes += entry.payload.len() as u64;
        keys_of(entry, keys);
    }

    fn state(&self) -> Vec<u8> {
        [self.entries.to_le_bytes(), self.bytes.to_le_bytes()].concat()
    }
}

type Answer = mpsc::Receiver<Result<(), WriteError>>;

pub(crate) fn begin_append(chronicle: &Chronicle, entries: Vec<Entry>) -> Answer {
    let (sender, receiver) = mpsc::channel();
    chronicle.append(entries, move |result| drop(sender.send(result)));
    receiver
}

pub(crate) fn append(chronicle: &Chronicle, entries: Vec<Entry>) -> Result<(), WriteError> {
    begin_append(chronicle, entries).recv().unwrap()
}

pub(crate) fn truncate(chronicle: &Chronicle, from: u64) -> Result<(), WriteError> {
    let (sender, receiver) = mpsc::channel();
    chronicle.truncate_from(from, move |result| drop(sender.send(result)));
    receiver.recv().unwrap()
}

pub(crate) fn read_all(chronicle: &Chronicle) -> Vec<Entry> {
    chronicle.read(0, u64::MAX, usize::MAX).unwrap()
}

/// Waits for a condition that other threads bring about.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Commits everything and waits until all but the last segment are sealed.
pub(crate) fn commit_and_seal(sim: &SimDisk, chronicle: &Chronicle) {
    chronicle.set_committed(chronicle.last().unwrap());
    let begun = segments(sim).iter().filter(|path| sim.bytes(path).unwrap().iter().any(|&byte| byte != 0)).count();
    until("the segments are sealed", || chronicle.sealed().len() == begun - 1);
}

/// The paths of the segment files, in order.
pub(crate) fn segments(sim: &SimDisk) -> Vec<PathBuf> {
    sim.paths().into_iter().filter(|path| path.extension().is_some_and(|it| it == "seg")).collect()
}

/// The last segment file that holds anything, and where its last byte that is not zero ends.
pub(crate) fn last_used(sim: &SimDisk) -> (PathBuf, usize) {
    let used = |path: &Path| sim.bytes(path).unwrap().iter().rposition(|&byte| byte != 0).map(|i| i + 1);
    segments(sim).into_iter().rev().find_map(|path| used(&path).map(|end| (path, end))).unwrap()
}
