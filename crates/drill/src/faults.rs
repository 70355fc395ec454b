//! Faults that no outsider can cause without privileges: a wrong clock and a bad disk.
//!
//! ```text
//! the drill ── faults.json ──► sillok drill-node ── FaultyClock, FaultyDisk ──► the same node that `sillok serve` runs
//! ```
//! The seams are those the simulation uses. `serve` has no way to them: only the hidden command `drill-node` puts them in, and
//! it says so in the node's log (docs/decisions/014).

mod disk;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sillok_cluster::{Clock, SystemClock};

pub use disk::FaultyDisk;

/// How soon a changed file is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a node gets wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Its wall clock is so far ahead of the machine's; negative: behind.
    pub clock_offset_ms: i64,
    /// Every sync takes so much longer.
    pub sync_delay_ms: u64,
    /// No file can be made or lengthened: what stands on the disk can be written over, and nothing else fits.
    pub disk_full: bool,
}

impl Faults {
    /// For a node that follows `path`. It never sees half a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(fresh, path)
    }

    fn read(path: &Path) -> io::Result<Faults> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

/// What a file says a node gets wrong, now.
#[derive(Debug, Default)]
pub struct Followed {
    clock_offset_ms: AtomicI64,
    sync_delay_ms: AtomicU64,
    disk_full: AtomicBool,
}

impl Followed {
    /// Follows the file for as long as the process lives.
    ///
    /// # Errors
    /// It is not there or not to be understood, or there is no thread for it.
    pub fn follow(path: PathBuf) -> io::Result<Arc<Followed>> {
        let followed = Arc::new(Followed::default());
        let mut known = Faults::read(&path)?;
        followed.take(known);
        let follower = Arc::clone(&followed);
        std::thread::Builder::new().name("drill-faults".into()).spawn(move || {
            loop {
                std::thread::sleep(LOOK_EVERY);
                // A file that has gone leaves things as they are.
                if let Ok(now) = Faults::read(&path)
                    && now != known
                {
                    tracing::warn!(?now, "for a drill, this node gets things wrong");
                    follower.take(now);
                    known = now;
                }
            }
        })?;
        Ok(followed)
    }

    fn take(&self, faults: Faults) {
        self.clock_offset_ms.store(faults.clock_offset_ms, Ordering::Relaxed);
        self.sync_delay_ms.store(faults.sync_delay_ms, Ordering::Relaxed);
        self.disk_full.store(faults.disk_full, Ordering::Relaxed);
    }
}

/// The machine's clock, wrong by what the file says.
#[derive(Debug)]
pub struct FaultyClock(pub Arc<Followed>);

impl Clock for FaultyClock {
    fn now(&self) -> i64 {
        SystemClock.now() + self.0.clock_offset_ms.load(Ordering::Relaxed) * 1_000_000
    }
}
