//! All that the chronicle asks of a disk, so that a simulated one can take its place.
//!
//! What is promised, and no more: bytes are durable once `sync_data` (or `sync_all`) of their file has returned;
//! a file's length is durable with `sync_all`; a name is durable once `sync_dir` of its directory has returned;
//! a sector of [`SECTOR_BYTES`] is written wholly or not at all.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The unit that a disk writes wholly or not at all, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// A place where files live.
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and its parents; no error if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes an empty file, open for reading and writing; an error if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and, if `write`, for writing. `NotFound` if there is none.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name in the same directory, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in any order. `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// How many bytes may still be written to the disk of a directory, about; `None`: not known.
    fn free_bytes(&self, _dir: &Path) -> Option<u64> {
        None
    }
    /// Holds `path` (an existing file, which is not changed) for this process alone until the guard is dropped.
    /// `WouldBlock` if another one holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
}

/// An open file. Reads and writes name their offsets, so that threads can share it.
pub trait File: Send + Sync + 'static {
    /// Fills `buffer` from `offset` on; returns fewer bytes than asked only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, lengthening the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the bytes and the length durable (`fsync`).
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts or lengthens (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Lengthens an empty file to `len` bytes, which read as zeros, and takes the space for them: writing there does not fail for
    /// want of it. Nothing is written, so the first sync after such a write has more to do. `Unsupported` where the file system
    /// cannot; the file may be longer then.
    fn take_space(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Lets the system forget what it keeps of these bytes in memory, where that is durable: the next read asks the disk
    /// itself. No more than a hint.
    fn forget(&self, _offset: u64, _len: u64) {}
    /// Lets the system fetch these bytes into memory, without waiting for them: they are read soon. No more than a hint.
    fn fetch(&self, _offset: u64, _len: u64) {}
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// What [`Disk::lock`] returns; dropping it releases the lock.
pub trait LockGuard: Send + Sync {}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // Its own name is synced even if it is there: whoever made it may not have come so far.
        let mut unsynced = vec![dir];
        let mut at = dir.parent();
        while let Some(path) = at.filter(|path| !path.as_os_str().is_empty() && !path.exists()) {
            unsynced.push(path);
            at = path.parent();
        }
        fs::create_dir_all(dir)?;
        // A directory is durable once its parent is synced.
        for path in unsynced.into_iter().rev() {
            self.sync_dir(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::OpenOptions::new().read(true).write(write).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|item| Ok(item?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> Option<u64> {
        let disk = rustix::fs::statvfs(dir).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let file = fs::File::open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(error) => Err(error.into()),
        }
    }
}

struct RealLock {
    /// The lock lasts as long as this descriptor.
    _file: fs::File,
}

impl LockGuard for RealLock {}

struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn take_space(&self, len: u64) -> io::Result<()> {
        use rustix::io::Errno;
        loop {
            match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(io::ErrorKind::Unsupported.into()),
                done => return done.map_err(io::Error::from),
            }
        }
    }

    fn forget(&self, offset: u64, len: u64) {
        // A system that keeps the pages only makes the reader trust its memory.
        self.advise(offset, len, rustix::fs::Advice::DontNeed);
    }

    fn fetch(&self, offset: u64, len: u64) {
        self.advise(offset, len, rustix::fs::Advice::WillNeed);
    }
}

impl RealFile {
    /// No system has to take advice.
    fn advise(&self, offset: u64, len: u64, advice: rustix::fs::Advice) {
        // A length of zero would mean all the rest.
        if let Some(len) = std::num::NonZero::new(len) {
            let _ = rustix::fs::fadvise(&self.0, offset, Some(len), advice);
        }
    }
}

/// A directory on a disk: the paths that the chronicle uses are names within it.
#[derive(Clone)]
pub(crate) struct Dir {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
}

impl Dir {
    pub(crate) fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(&self.path.join(name))
    }

    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes(&self.path)
    }

    pub(crate) fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.path.join(name), write)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.path.join(from), &self.path.join(to))
    }

    /// Removes a file; no error if it is not there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match self.disk.remove(&self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list(&self.path)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.path)
    }
}
