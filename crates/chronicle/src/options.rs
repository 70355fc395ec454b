//! What a chronicle is opened with.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    disk::{Disk, RealDisk},
    types::Entry,
};

/// Starts a thread with the given name. Threads come from outside so that a simulation can own them.
pub type Spawn = Arc<dyn Fn(String, Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + Sync>;

/// The monotonic clock.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Who does the chronicle's work: writing and syncing, making segments ahead, sealing.
#[derive(Clone)]
pub enum Workers {
    /// Threads of its own.
    Threads(Spawn),
    /// Whoever opened it, by [`Chronicle::work`](crate::Chronicle::work), soon after this was called. It is called under
    /// locks and must only leave word. So a simulation does everything in one order that it decides.
    Opener(Arc<dyn Fn() + Send + Sync>),
}

/// Appends the keys by which an entry shall be found. Stateless: it is asked of entries that may never be committed.
pub type KeysOf = fn(&Entry, &mut Vec<u64>);

/// Folded over the committed entries, in order and without gaps, as segments are sealed.
///
/// Must be a pure function of the entries: its state and its keys go into the footers, which are equal on every node.
pub trait Fold: Send {
    /// Starts over from a state that [`Fold::state`] returned. Not called for an empty chronicle.
    fn restore(&mut self, state: &[u8]);
    /// Folds one entry and appends the keys by which it shall be found. The payload shares the memory of all that was read with
    /// it: what is kept of it must be copied.
    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>);
    /// The state after the last entry folded; small (it is held in memory for every segment).
    fn state(&self) -> Vec<u8>;
}

/// A fold that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFold;

impl Fold for NoFold {
    fn restore(&mut self, _state: &[u8]) {}
    fn entry(&mut self, _entry: &Entry, _keys: &mut Vec<u64>) {}
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// What a chronicle is opened with. [`Options::new`] gives the defaults.
pub struct Options {
    /// The formatted directory.
    pub dir: PathBuf,
    /// The disk it is on.
    pub disk: Arc<dyn Disk>,
    /// How many bytes of entries a segment takes before the next one begins (a larger entry has one to itself).
    /// Must be the same on every node of a cluster, or segment digests cannot be compared; the directory remembers what
    /// it was first opened with and refuses anything else. Default 64 MiB.
    pub segment_bytes: u64,
    /// How many bytes of the newest entries stay in memory once they are flushed. Default 64 MiB.
    pub tail_cache_bytes: u64,
    /// Above this many unflushed bytes [`Chronicle::has_room`](crate::Chronicle::has_room) says no. Default 64 MiB.
    pub max_unflushed_bytes: u64,
    /// How late the committed index may reach the meta file. Default 100 ms.
    pub persist_every: Duration,
    /// Who does the work. Default: threads of `std::thread`.
    pub workers: Workers,
    /// The clock by which the meta file falls due and waiting is measured. Default: that of `std`.
    pub now: Now,
    /// Folded over committed entries as segments are sealed. Default: nothing.
    pub fold: Box<dyn Fold>,
    /// The keys of entries that are not yet in a sealed segment. Default: none.
    pub keys: KeysOf,
    /// Refuse to open the chronicle of another node.
    pub expect_node_id: Option<u64>,
    /// Refuse to open a chronicle that was formatted for another site.
    pub expect_site: Option<String>,
}

impl Options {
    /// The defaults, on the real disk.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            disk: Arc::new(RealDisk),
            segment_bytes: 64 << 20,
            tail_cache_bytes: 64 << 20,
            max_unflushed_bytes: 64 << 20,
            persist_every: Duration::from_millis(100),
            workers: Workers::Threads(Arc::new(|name, body| {
                std::thread::Builder::new().name(name).spawn(body).map(drop)
            })),
            now: Arc::new(Instant::now),
            fold: Box::new(NoFold),
            keys: |_, _| {},
            expect_node_id: None,
            expect_site: None,
        }
    }
}
