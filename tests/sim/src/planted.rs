//! Bugs that are planted on purpose, to show that the simulation sees them. One stands beneath the product, where a seam lets
//! it in; the others are lines of the product that no build without the feature `planted` has.

use std::{io, path::Path, sync::Arc};

use sillok_chronicle::{Disk, File, LockGuard, planted as chronicle};
use sillok_cluster::planted as cluster;

/// Names the bugs for the process of a seed, divided by commas.
pub const PLANTED: &str = "SILLOK_SIM_PLANTED";

/// How a bug comes in.
enum Site {
    /// The disk beneath lies.
    Disk,
    /// The process of the seed never ends.
    Process,
    Chronicle(chronicle::Planted),
    Cluster(cluster::Planted),
}

/// Each by its name.
const BUGS: [(&str, Site); 13] = [
    ("acknowledge-before-sync", Site::Disk),
    ("endless", Site::Process),
    ("skip-predecessor-check", Site::Cluster(cluster::Planted::SkipPredecessor)),
    ("leader-restore", Site::Cluster(cluster::Planted::LeaderRestore)),
    ("refuse-one-proposal", Site::Cluster(cluster::Planted::RefuseOne)),
    ("forget-vote", Site::Cluster(cluster::Planted::ForgetVote)),
    ("unsynced-tail", Site::Chronicle(chronicle::Planted::UnsyncedTail)),
    ("views-ahead", Site::Cluster(cluster::Planted::ViewsAhead)),
    ("no-retry-table", Site::Cluster(cluster::Planted::NoRetryTable)),
    ("blank-votes", Site::Cluster(cluster::Planted::BlankVotes)),
    ("read-without-index", Site::Cluster(cluster::Planted::ReadWithoutIndex)),
    ("early-refusal", Site::Cluster(cluster::Planted::EarlyRefusal)),
    ("cut-on-damage", Site::Chronicle(chronicle::Planted::CutOnDamage)),
];

/// Plants what the environment names.
pub fn plant() {
    for (name, site) in named() {
        println!("planted: {name}");
        match site {
            Site::Disk => {}
            Site::Process => loop {
                std::thread::park();
            },
            Site::Chronicle(bug) => chronicle::plant(*bug),
            Site::Cluster(bug) => cluster::plant(*bug),
        }
    }
}

fn named() -> Vec<&'static (&'static str, Site)> {
    let names = std::env::var(PLANTED).unwrap_or_default();
    let find = |name: &str| BUGS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no bug {name:?}"));
    names.split(',').filter(|name| !name.is_empty()).map(find).collect()
}

/// The disk as a node with the bugs uses it: a sync of a segment may be reported done and was never begun.
pub fn disk(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let lies = named().iter().any(|(_, site)| matches!(site, Site::Disk));
    if lies { Arc::new(Unsynced(disk)) } else { disk }
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

    fn take_space(&self, len: u64) -> io::Result<()> {
        self.0.take_space(len)
    }
}
