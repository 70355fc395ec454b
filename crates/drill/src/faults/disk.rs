//! The machine's disk, as slow and as full as the file says.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sillok_chronicle::{Disk, File, LockGuard, RealDisk};

use super::Followed;

/// The machine's own file system, with what the file says in the way.
#[derive(Debug)]
pub struct FaultyDisk(pub Arc<Followed>);

struct FaultyFile {
    real: Arc<dyn File>,
    faults: Arc<Followed>,
}

impl Followed {
    fn room(&self) -> io::Result<()> {
        if self.disk_full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn slow(&self) {
        let delay = self.sync_delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
    }
}

impl FaultyDisk {
    fn file(&self, real: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultyFile { real, faults: Arc::clone(&self.0) })
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.room()?;
        Ok(self.file(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        Ok(self.file(RealDisk.open(path, write)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.slow();
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> Option<u64> {
        if self.0.room().is_ok() { RealDisk.free_bytes(dir) } else { Some(0) }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        RealDisk.lock(path)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.real.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.real.len()? {
            self.faults.room()?;
        }
        self.real.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.slow();
        self.real.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.slow();
        self.real.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.real.len()? {
            self.faults.room()?;
        }
        self.real.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }

    fn take_space(&self, len: u64) -> io::Result<()> {
        self.faults.room()?;
        self.real.take_space(len)
    }

    fn forget(&self, offset: u64, len: u64) {
        self.real.forget(offset, len);
    }

    fn fetch(&self, offset: u64, len: u64) {
        self.real.fetch(offset, len);
    }
}
