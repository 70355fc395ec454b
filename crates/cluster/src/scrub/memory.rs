//! How far the scrub is, kept across restarts: a terabyte takes a day and a half, and a node is restarted more often.
//!
//! ```text
//! <data directory>/scrub:  a protobuf message | the first 8 bytes of its BLAKE3
//! ```
//! Nothing depends on it. What cannot be read, or is not what was written, is as good as absent: the next pass begins anew. So it
//! is never synced, and a failure to write it is no failure.

use std::{io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use prost::Message as _;
use sillok_chronicle::Disk;
use sillok_domain::UnixNanos;

use crate::options::NodeOptions;

const NAME: &str = "scrub";
const TEMPORARY: &str = "scrub.tmp";
const SUM_BYTES: usize = 8;
/// More is not read.
const MOST_BYTES: usize = 4_096;

/// Fields are only ever added.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Remembered {
    /// When the newest pass began, by this node's clock.
    #[prost(sfixed64, optional, tag = "1")]
    pub(super) begun_at: Option<UnixNanos>,
    /// When the newest whole pass ended.
    #[prost(sfixed64, optional, tag = "2")]
    pub(super) completed_at: Option<UnixNanos>,
    /// The pass under way has verified every segment before this one; `None`: none is under way.
    #[prost(uint64, optional, tag = "3")]
    pub(super) next_segment: Option<u64>,
}

/// What is remembered, here and on the disk.
pub(super) struct Memory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    now: Mutex<Remembered>,
}

impl Memory {
    /// Reads what an earlier run left; nothing where it left nothing. Blocks for the disk.
    pub(super) fn load(options: &NodeOptions) -> Memory {
        let memory = Memory { disk: options.disk.clone(), dir: options.data_dir.clone(), now: Mutex::default() };
        match memory.read() {
            Ok(found) => *memory.now.lock() = found.unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "how far the scrub was cannot be read: it begins anew"),
        }
        memory
    }

    pub(super) fn now(&self) -> Remembered {
        *self.now.lock()
    }

    /// Changes what is remembered, and writes it. Blocks for the disk.
    pub(super) fn note(&self, change: impl FnOnce(&mut Remembered)) {
        let mut now = self.now.lock();
        change(&mut now);
        if let Err(error) = self.write(&now) {
            tracing::debug!(%error, "how far the scrub is cannot be written");
        }
    }

    fn read(&self) -> io::Result<Option<Remembered>> {
        let file = self.disk.open(&self.dir.join(NAME), false)?;
        let mut bytes = vec![0; MOST_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(decode(&bytes))
    }

    fn write(&self, remembered: &Remembered) -> io::Result<()> {
        let (path, temporary) = (self.dir.join(NAME), self.dir.join(TEMPORARY));
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.disk.create(&temporary)?.write_at(&encode(remembered), 0)?;
        self.disk.rename(&temporary, &path)
    }
}

fn sum(message: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&blake3::hash(message).as_bytes()[..SUM_BYTES]);
    sum
}

fn encode(remembered: &Remembered) -> Vec<u8> {
    let mut bytes = remembered.encode_to_vec();
    let sum = sum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Remembered> {
    let (message, found) = bytes.split_last_chunk::<SUM_BYTES>()?;
    if *found != sum(message) {
        return None;
    }
    Remembered::decode(message).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sillok_chronicle::sim::SimDisk;

    use super::*;

    fn options(sim: &SimDisk) -> NodeOptions {
        let mut options = NodeOptions::new(1, "chungju", "/node", ([127, 0, 0, 1], 1).into());
        options.disk = sim.boot();
        options
    }

    #[test]
    fn what_was_noted_is_there_after_a_restart_and_what_rotted_is_not() {
        let sim = SimDisk::new(1);
        sim.boot().create_dir(Path::new("/node")).unwrap();
        assert_eq!(Memory::load(&options(&sim)).now(), Remembered::default());
        let expected = Remembered { begun_at: Some(3), completed_at: Some(-7), next_segment: Some(0) };
        for next in 0..3 {
            Memory::load(&options(&sim)).note(|now| *now = Remembered { next_segment: Some(next), ..expected });
            assert_eq!(Memory::load(&options(&sim)).now(), Remembered { next_segment: Some(next), ..expected });
        }
        let path = Path::new("/node/scrub");
        for at in 0..sim.bytes(path).unwrap().len() {
            assert!(sim.flip(path, at as u64, 0x10));
            assert_eq!(Memory::load(&options(&sim)).now(), Remembered::default(), "byte {at}");
            assert!(sim.flip(path, at as u64, 0x10));
        }
    }
}
