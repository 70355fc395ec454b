//! Bugs that are planted on purpose, to show that the simulation sees them. Each stands beneath the product, where a seam
//! lets it in, so that no build of the product contains one.

use std::{io, path::Path, sync::Arc};

use sillok_chronicle::{Disk, File, LockGuard};

/// Names the bug for the process of a seed.
pub const PLANTED: &str = "SILLOK_SIM_PLANTED";
/// A sync of a segment is reported done and was never begun: what is acknowledged is not durable.
pub const ACKNOWLEDGE_BEFORE_SYNC: &str = "acknowledge-before-sync";

/// The disk as a node with the bug uses it; without one, the disk.
pub fn disk(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    match std::env::var(PLANTED) {
        Ok(bug) if bug == ACKNOWLEDGE_BEFORE_SYNC => Arc::new(Unsynced(disk)),
        Ok(bug) => panic!("there is no bug {bug:?}"),
        Err(_) => disk,
    }
}

struct Unsynced(Arc<dyn Disk>);

impl Unsynced {
    fn file(path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        if path.extension().is_some_and(|ending| ending == "seg") { Arc::new(UnsyncedFile(file)) } else { file }
    }
}

impl Disk for Unsynced {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.create(path).map(|file| Self::file(path, file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        self.0.open(path, write).map(|file| Self::file(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.0.lock(path)
    }
}

struct UnsyncedFile(Arc<dyn File>);

impl File for UnsyncedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
