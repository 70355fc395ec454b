//! A disk in memory that does to bytes what real disks do: it loses what was not synced, tears writes between sectors,
//! fails, fills up and rots. Everything random comes from a seed.
//!
//! ```
//! use sillok_chronicle::sim::SimDisk;
//! let sim = SimDisk::new(7);
//! let disk = sim.boot(); // an `Arc<dyn Disk>` for one life of a process
//! sim.power_cut(); // every use of `disk` fails from here on
//! let disk = sim.boot(); // what survived
//! ```

mod handle;
mod world;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::Disk,
    sim::{
        handle::Booted,
        world::{Fault, FileState, Machine},
    },
};

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads of a file.
    Read,
    /// Writes to a file, and changes of its length.
    Write,
    /// Syncs of a file. As on Linux, what was to be synced stays readable and is never written by a later sync; the file's
    /// new length is durable all the same.
    Sync,
}

/// The simulated disk, from outside. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Machine>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self { machine: Arc::new(Machine::new(seed)) }
    }

    /// The disk as one process sees it, until the next [`SimDisk::kill`] or [`SimDisk::power_cut`].
    pub fn boot(&self) -> Arc<dyn Disk> {
        let life = self.machine.world.lock().life;
        Arc::new(Booted { machine: Arc::clone(&self.machine), life })
    }

    /// Ends the process: its handles fail, its locks are free, its writes stay as readable as they were.
    pub fn kill(&self) {
        self.machine.world.lock().end_life();
        self.machine.changed.notify_all();
    }

    /// Ends the process and loses what was not synced: of each sector written since its file's last sync some earlier
    /// or later content survives, and of the unsynced names the first few.
    pub fn power_cut(&self) {
        let mut world = self.machine.world.lock();
        world.lose_unsynced();
        world.end_life();
        self.machine.changed.notify_all();
    }

    /// Makes every operation fail once `operations` more changes (writes, syncs, names) have been made, in the midst
    /// of the next one; [`SimDisk::power_cut`] then says what survived.
    pub fn cut_power_after(&self, operations: u64) {
        let mut world = self.machine.world.lock();
        world.cut_after = Some(world.operations + operations);
    }

    /// How many changes have been made.
    pub fn operations(&self) -> u64 {
        self.machine.world.lock().operations
    }

    /// How many changes and syncs have been made of one file; none of a file that does not exist.
    pub fn operations_on(&self, path: &Path) -> u64 {
        let world = self.machine.world.lock();
        world.names.get(path).and_then(|id| world.files.get(id)).map_or(0, |file| file.operations)
    }

    /// How many bytes have been read.
    pub fn bytes_read(&self) -> u64 {
        self.machine.world.lock().bytes_read
    }

    /// Bytes that the system was told to forget, and bytes that it was told to fetch, so far.
    pub fn hints(&self) -> (u64, u64) {
        let world = self.machine.world.lock();
        (world.bytes_forgotten, world.bytes_fetched)
    }

    /// Makes the next such operation fail on a file whose name contains `name_contains`, after `after` that succeed.
    pub fn fail(&self, operation: Operation, name_contains: &str, after: u64) {
        let name_contains = name_contains.to_owned();
        self.machine.world.lock().faults.push(Fault { operation, name_contains, after });
    }

    /// Makes the disk full at so many bytes, or boundless.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.world.lock().capacity = bytes;
    }

    /// Lets syncs wait until [`SimDisk::release_syncs`], [`SimDisk::kill`] or [`SimDisk::power_cut`].
    pub fn hold_syncs(&self) {
        self.machine.world.lock().syncs_held = true;
    }

    /// Lets syncs go on.
    pub fn release_syncs(&self) {
        self.machine.world.lock().syncs_held = false;
        self.machine.changed.notify_all();
    }

    /// Changes a byte where it lies, durably; whether there is one.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        self.edit(path, |bytes| {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= mask;
            }
        }) > offset
    }

    /// Changes a file's bytes as no process would, durably; returns its new length, 0 if there is no such file.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let mut world = self.machine.world.lock();
        let Some(file) = world.names.get(path).copied().and_then(|id| world.files.get_mut(&id)) else { return 0 };
        edit(&mut file.bytes);
        file.durable.clone_from(&file.bytes);
        file.pending.clear();
        file.bytes.len() as u64
    }

    /// A file's readable bytes.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.machine.world.lock();
        Some(world.files.get(world.names.get(path)?)?.bytes.clone())
    }

    /// Every file's path.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.machine.world.lock().names.keys().cloned().collect()
    }

    /// A disk with the same readable bytes, all durable, and nothing planned for it.
    pub fn fork(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        let world = self.machine.world.lock();
        let mut other = copy.machine.world.lock();
        other.dirs.clone_from(&world.dirs);
        for (path, id) in &world.names {
            let bytes = world.files.get(id).map(|file| file.bytes.clone()).unwrap_or_default();
            other.files.insert(*id, FileState { durable: bytes.clone(), bytes, pending: Vec::new(), operations: 0 });
            other.names.insert(path.clone(), *id);
        }
        other.durable_names = other.names.clone();
        other.next_file = world.next_file;
        drop((world, other));
        copy
    }
}
