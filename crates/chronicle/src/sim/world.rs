//! What the simulated machine holds, and what a power cut does to it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::PathBuf,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{disk::SECTOR_BYTES, sim::Operation};

const SECTOR: usize = SECTOR_BYTES as usize;

pub(super) struct Fault {
    pub(super) operation: Operation,
    pub(super) name_contains: String,
    /// How many more such operations succeed first.
    pub(super) after: u64,
}

/// A change of a file that is not yet durable.
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Default)]
pub(super) struct FileState {
    /// What a read returns.
    pub(super) bytes: Vec<u8>,
    /// What is certain to survive a power cut.
    pub(super) durable: Vec<u8>,
    /// What a power cut may or may not let survive, sector by sector.
    pub(super) pending: Vec<Change>,
    /// How often it was written, resized or synced.
    pub(super) operations: u64,
}

/// A change of a directory that is not yet durable. Such changes survive in order or not at all, as in a journal.
pub(super) enum NameChange {
    Put(PathBuf, u64),
    Remove(PathBuf),
}

pub(super) struct World {
    pub(super) rng: StdRng,
    /// Counts the lives of the process; handles of earlier ones fail.
    pub(super) life: u64,
    pub(super) off: bool,
    pub(super) operations: u64,
    pub(super) bytes_read: u64,
    /// As hinted, likewise.
    pub(super) bytes_forgotten: u64,
    pub(super) bytes_fetched: u64,
    pub(super) cut_after: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) syncs_held: bool,
    pub(super) faults: Vec<Fault>,
    pub(super) dirs: HashSet<PathBuf>,
    pub(super) files: HashMap<u64, FileState>,
    pub(super) next_file: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) name_changes: Vec<NameChange>,
    pub(super) locks: HashSet<PathBuf>,
}

pub(super) struct Machine {
    pub(super) world: Mutex<World>,
    pub(super) changed: Condvar,
}

pub(super) fn power_is_off() -> io::Error {
    io::Error::other("the simulated machine has no power")
}

impl World {
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.off = false;
        self.cut_after = None;
        self.syncs_held = false;
        self.faults.clear();
        self.locks.clear();
    }

    /// Counts a change; whether the power fails in its midst.
    pub(super) fn count(&mut self) -> bool {
        self.operations += 1;
        self.off |= self.cut_after.is_some_and(|after| self.operations > after);
        self.off
    }

    pub(super) fn fault(&mut self, operation: Operation, id: u64) -> io::Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        // By the name it has now, not by the one it was opened with.
        let Some((path, _)) = self.names.iter().find(|(_, named)| **named == id) else { return Ok(()) };
        let name = path.to_string_lossy().into_owned();
        for i in 0..self.faults.len() {
            let fault = &mut self.faults[i];
            if fault.operation == operation && name.contains(&fault.name_contains) {
                if fault.after == 0 {
                    self.faults.remove(i);
                    return Err(io::Error::other(format!("simulated failure of a {operation:?} of {name}")));
                }
                fault.after -= 1;
            }
        }
        Ok(())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.bytes.len() as u64).sum()
    }

    pub(super) fn lose_unsynced(&mut self) {
        let kept_names = self.rng.random_range(0..=self.name_changes.len());
        for change in self.name_changes.drain(..).take(kept_names) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        // In the order of their making, so that a seed means the same in every run.
        let mut ids: Vec<u64> = self.files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(file) = self.files.get_mut(&id) {
                file.lose_unsynced(&mut self.rng);
            }
        }
    }
}

impl NameChange {
    pub(super) fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Put(path, id) => drop(names.insert(path, id)),
            Self::Remove(path) => drop(names.remove(&path)),
        }
    }
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Write { offset, bytes: written } => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
        }
    }

    pub(super) fn sectors(&self) -> std::ops::Range<usize> {
        match self {
            Self::SetLen(_) => 0..0,
            Self::Write { offset, bytes } => offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR),
        }
    }
}

impl FileState {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync fails: the pages are marked clean, readable and never written; the journal has the new length all the same.
    pub(super) fn lose_pages(&mut self) {
        self.pending.clear();
        self.durable.resize(self.bytes.len(), 0);
    }

    pub(super) fn lose_unsynced(&mut self, rng: &mut StdRng) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            // The length after the first few changes, and each sector after some number of them.
            let mut image = self.durable.clone();
            let kept = rng.random_range(0..=pending.len());
            pending[..kept].iter().for_each(|change| change.apply(&mut image));
            let len = image.len();
            let mut sectors: Vec<usize> = pending.iter().flat_map(Change::sectors).collect();
            sectors.sort_unstable();
            sectors.dedup();
            let versions: HashMap<usize, usize> =
                sectors.into_iter().map(|sector| (sector, rng.random_range(0..=pending.len()))).collect();
            image.clone_from(&self.durable);
            let longest = pending.iter().map(|change| change.sectors().end * SECTOR).max().unwrap_or(0);
            image.resize(image.len().max(longest).max(len), 0);
            for (i, change) in pending.iter().enumerate() {
                if let Change::Write { offset, bytes } = change {
                    for (at, byte) in (*offset..).zip(bytes) {
                        if versions.get(&(at / SECTOR)).is_some_and(|&version| i < version) {
                            image[at] = *byte;
                        }
                    }
                }
            }
            image.resize(len, 0);
            self.durable = image;
        }
        self.bytes.clone_from(&self.durable);
    }
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        let world = World {
            rng: StdRng::seed_from_u64(seed),
            life: 0,
            off: false,
            operations: 0,
            bytes_read: 0,
            bytes_forgotten: 0,
            bytes_fetched: 0,
            cut_after: None,
            capacity: None,
            syncs_held: false,
            faults: Vec::new(),
            dirs: HashSet::new(),
            files: HashMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            locks: HashSet::new(),
        };
        Self { world: Mutex::new(world), changed: Condvar::new() }
    }

    pub(super) fn alive(&self, life: u64) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world.lock();
        if world.life != life || world.off { Err(power_is_off()) } else { Ok(world) }
    }
}
