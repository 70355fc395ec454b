//! What views need from outside: a place, bounds, identities and threads.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::error::LostPage;

/// Starts a named thread of the views; a simulation gives its own.
pub type Spawn = Arc<dyn Fn(String, Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + Sync>;

/// Says up to which Raft index everything is flushed here and committed; `None`: nothing yet.
pub type Spillable = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Says how many bytes may still be written to the disk of a directory; `None`: not known.
pub type FreeBytes = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// Runs what waits for the disk for a moment, on the same thread; `sillok_cluster` tells its runtime.
pub type Blocking = fn(&mut dyn FnMut());

/// What is done once a page is lost. Whoever needed it can be given no answer, so it does not return.
pub type OnLost = fn(&LostPage) -> !;

/// Threads of the operating system.
pub fn os_threads() -> Spawn {
    Arc::new(|name, run| std::thread::Builder::new().name(name).spawn(run).map(drop))
}

/// How to open views.
#[derive(Clone)]
pub struct Options {
    /// The directory of the rows, usually `<data dir>/views`; made if absent. Rows that cannot be used are moved to
    /// `<dir>.aside.<n>` beside it. `None`: memory only.
    pub dir: Option<PathBuf>,
    /// Bound of sled's cache, in bytes. What is read again soon is in the tables, so little is enough.
    pub cache_bytes: u64,
    /// What the pages of friends, pushes and locators may occupy in memory, in bytes. Beyond it those that are on disk leave
    /// memory, longest unused first, and are read again when they are needed; see `memory` for how exactly it is kept. Without
    /// `dir`, or while the disk cannot be used, everything stays in memory.
    pub memory_bytes: usize,
    /// Changed rows are written about this often; at least 10 ms. A slow disk stretches it.
    pub spill_every: Duration,
    /// Changed rows are written earlier once there are this many.
    pub spill_rows: usize,
    /// The cluster whose chronicle is folded; rows of another one are moved aside. `None` while the node is blank: then
    /// nothing is spilled until [`crate::Views::adopt_cluster`].
    pub cluster_id: Option<[u8; 16]>,
    /// This boot of the machine, as in `/proc/sys/kernel/random/boot_id`: rows written in another boot count only if
    /// they were fsynced. Empty: not known, which is another boot every time.
    pub boot_id: String,
    /// Asked whenever a spill is due, beside what [`crate::Views::set_spillable`] has told. What is folded is committed,
    /// so the flushed end of the local chronicle will do. Asking keeps the fold from waiting until somebody tells.
    pub spillable: Option<Spillable>,
    /// Asked before each spill: one for which there is too little space waits until there is enough.
    pub free_bytes: FreeBytes,
    /// Starts the spill thread.
    pub spawn: Spawn,
    /// Around each read of a page from disk.
    pub blocking: Blocking,
    /// Ends the process. The rows are condemned by then: the next start builds them anew.
    pub on_lost: OnLost,
}

impl Options {
    /// Memory only: for simulations and for reading a chronicle once.
    pub fn in_memory() -> Options {
        Options {
            dir: None,
            cache_bytes: 32 << 20,
            memory_bytes: 256 << 20,
            spill_every: Duration::from_secs(1),
            spill_rows: 4_096,
            cluster_id: None,
            boot_id: String::new(),
            spillable: None,
            free_bytes: Arc::new(|_| None),
            spawn: os_threads(),
            blocking: |read| read(),
            on_lost: |lost| panic!("{lost}"),
        }
    }

    /// Rows in `dir`, everything else as usual.
    pub fn at(dir: impl Into<PathBuf>, cluster_id: Option<[u8; 16]>, boot_id: impl Into<String>) -> Options {
        Options { dir: Some(dir.into()), cluster_id, boot_id: boot_id.into(), ..Options::in_memory() }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("dir", &self.dir)
            .field("spill_every", &self.spill_every)
            .finish_non_exhaustive()
    }
}
