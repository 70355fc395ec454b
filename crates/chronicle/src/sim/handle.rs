//! The simulated disk as a process uses it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, File, LockGuard},
    sim::{
        Operation,
        world::{Change, FileState, Machine, NameChange, power_is_off},
    },
};

/// The disk as one life of a process sees it.
pub(super) struct Booted {
    pub(super) machine: Arc<Machine>,
    pub(super) life: u64,
}

impl Booted {
    fn file(&self, id: u64) -> Arc<dyn File> {
        Arc::new(SimFile { machine: Arc::clone(&self.machine), life: self.life, id })
    }

    fn change_name(&self, changes: Vec<NameChange>) -> io::Result<()> {
        let mut world = self.machine.alive(self.life)?;
        let off = world.count();
        for change in changes {
            match &change {
                NameChange::Put(path, id) => drop(world.names.insert(path.clone(), *id)),
                NameChange::Remove(path) => drop(world.names.remove(path)),
            }
            world.name_changes.push(change);
        }
        if off { Err(power_is_off()) } else { Ok(()) }
    }

    fn id(&self, path: &Path) -> io::Result<u64> {
        let world = self.machine.alive(self.life)?;
        world.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Booted {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.machine.alive(self.life)?.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let id = {
            let mut world = self.machine.alive(self.life)?;
            if world.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = world.next_file;
            world.next_file += 1;
            world.files.insert(id, FileState::default());
            id
        };
        self.change_name(vec![NameChange::Put(path.to_owned(), id)])?;
        Ok(self.file(id))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.id(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.id(from)?;
        // One change in the journal each way, but the new name never goes before the old one.
        self.change_name(vec![NameChange::Put(to.to_owned(), id), NameChange::Remove(from.to_owned())])
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.id(path)?;
        self.change_name(vec![NameChange::Remove(path.to_owned())])
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.machine.alive(self.life)?;
        if !world.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.machine.alive(self.life)?;
        if world.count() {
            return Err(power_is_off());
        }
        let changes = std::mem::take(&mut world.name_changes);
        changes.into_iter().for_each(|change| change.apply(&mut world.durable_names));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        let world = self.machine.alive(self.life).ok()?;
        Some(world.capacity?.saturating_sub(world.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.id(path)?;
        let mut world = self.machine.alive(self.life)?;
        if !world.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { machine: Arc::clone(&self.machine), life: self.life, path: path.to_owned() }))
    }
}

struct SimLock {
    machine: Arc<Machine>,
    life: u64,
    path: PathBuf,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Ok(mut world) = self.machine.alive(self.life) {
            world.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    machine: Arc<Machine>,
    life: u64,
    id: u64,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut world = self.machine.alive(self.life)?;
        world.fault(Operation::Write, self.id)?;
        let end = match &change {
            Change::Write { offset, bytes } => (offset + bytes.len()) as u64,
            Change::SetLen(len) => *len as u64,
        };
        let used = world.used_bytes();
        let len = world.files.get(&self.id).map_or(0, |file| file.bytes.len() as u64);
        if end > len && world.capacity.is_some_and(|capacity| used + (end - len) > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let off = world.count();
        if let Some(file) = world.files.get_mut(&self.id) {
            file.operations += 1;
            file.change(change);
        }
        if off { Err(power_is_off()) } else { Ok(()) }
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.machine.alive(self.life)?;
        world.fault(Operation::Read, self.id)?;
        let Some(file) = world.files.get(&self.id) else { return Ok(0) };
        let available = file.bytes.get(offset as usize..).unwrap_or_default();
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        world.bytes_read += n as u64;
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { offset: offset as usize, bytes: bytes.to_vec() })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.machine.alive(self.life)?;
        while world.syncs_held {
            self.machine.changed.wait(&mut world);
            if world.life != self.life || world.off {
                return Err(power_is_off());
            }
        }
        if world.count() {
            return Err(power_is_off());
        }
        let fault = world.fault(Operation::Sync, self.id);
        if let Some(file) = world.files.get_mut(&self.id) {
            file.operations += 1;
            match fault {
                Ok(()) => file.sync(),
                Err(_) => file.lose_pages(),
            }
        }
        fault
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize))
    }

    fn take_space(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize))
    }

    fn len(&self) -> io::Result<u64> {
        let world = self.machine.alive(self.life)?;
        Ok(world.files.get(&self.id).map_or(0, |file| file.bytes.len() as u64))
    }

    fn forget(&self, _offset: u64, len: u64) {
        if let Ok(mut world) = self.machine.alive(self.life) {
            world.bytes_forgotten += len;
        }
    }

    fn fetch(&self, _offset: u64, len: u64) {
        if let Ok(mut world) = self.machine.alive(self.life) {
            world.bytes_fetched += len;
        }
    }
}
