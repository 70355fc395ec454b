//! Sealed segments: their trailers, states and filters in memory, everything else read when it is asked for.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    disk::{Dir, File},
    error::{Damage, DamageReason, ReadError},
    filter::KeyFilter,
    footer::{Directory, Range, TRAILER_BYTES, Trailer, parse_key_block},
    layout::segment_name,
    scan::read_exact,
    types::SegmentInfo,
};

/// How many sealed files are kept open for reading.
const OPEN_FILES: usize = 64;

/// Sealed files that were read lately.
pub(crate) struct FilePool {
    dir: Dir,
    open: Mutex<VecDeque<(u64, Arc<dyn File>)>>,
}

impl FilePool {
    pub(crate) fn new(dir: Dir) -> Self {
        Self { dir, open: Mutex::new(VecDeque::with_capacity(OPEN_FILES)) }
    }

    fn get(&self, ordinal: u64) -> io::Result<Arc<dyn File>> {
        let mut open = self.open.lock();
        if let Some(i) = open.iter().position(|(held, _)| *held == ordinal) {
            // The one read last stands at the end.
            if let Some(used) = open.remove(i) {
                let file = Arc::clone(&used.1);
                open.push_back(used);
                return Ok(file);
            }
        }
        let file = self.dir.open(&segment_name(ordinal), false)?;
        if open.len() == OPEN_FILES {
            open.pop_front();
        }
        open.push_back((ordinal, Arc::clone(&file)));
        Ok(file)
    }
}

/// A sealed segment.
pub(crate) struct Sealed {
    pub(crate) info: SegmentInfo,
    pub(crate) trailer: Trailer,
    filter: Option<KeyFilter>,
    directory: OnceLock<Directory>,
}

/// Why a footer could not be taken.
pub(crate) enum FooterError {
    Damaged { offset: u64, part: &'static str },
    Io { offset: u64, source: io::Error },
}

impl FooterError {
    fn io(offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { offset, source }
    }
}

fn part(file: &dyn File, range: Range, crc: u32, part: &'static str) -> Result<Bytes, FooterError> {
    let bytes = read_exact(file, range.offset, range.len).map_err(FooterError::io(range.offset))?;
    if bytes.len() as u64 != range.len || crc32c::crc32c(&bytes) != crc {
        return Err(FooterError::Damaged { offset: range.offset, part });
    }
    Ok(bytes)
}

impl Sealed {
    /// Reads the trailer, the state and the filter of a sealed file.
    pub(crate) fn load(file: &dyn File, ordinal: u64) -> Result<Self, FooterError> {
        let len = file.len().map_err(FooterError::io(0))?;
        let at = len.saturating_sub(TRAILER_BYTES as u64);
        let trailer = read_exact(file, at, TRAILER_BYTES as u64).map_err(FooterError::io(at))?;
        let trailer = Trailer::parse(&trailer, len)
            .filter(|trailer| trailer.ordinal == ordinal)
            .ok_or(FooterError::Damaged { offset: at, part: "trailer" })?;
        let state = part(file, trailer.state(), trailer.state_crc, "state")?;
        let filter = part(file, trailer.filter(), trailer.filter_crc, "filter")?;
        if !filter.is_empty() && KeyFilter::parse(&filter).is_none() {
            return Err(FooterError::Damaged { offset: trailer.filter().offset, part: "filter" });
        }
        Ok(Self::new(trailer, state, &filter))
    }

    /// A segment whose footer has just been built.
    pub(crate) fn new(trailer: Trailer, state: Bytes, filter: &[u8]) -> Self {
        let info = trailer.info(state);
        Self { info, trailer, filter: KeyFilter::parse(filter), directory: OnceLock::new() }
    }

    pub(crate) fn name(&self) -> String {
        segment_name(self.info.ordinal)
    }

    fn damaged(&self, offset: u64, part: &'static str) -> ReadError {
        Damage { segment: self.name(), offset, last_good: Some(self.info.last), reason: DamageReason::Footer { part } }
            .into()
    }

    pub(crate) fn file(&self, pool: &FilePool) -> Result<Arc<dyn File>, ReadError> {
        pool.get(self.info.ordinal).map_err(|error| ReadError::io(self.name(), 0, error))
    }

    /// Fences and points, read once and then kept (about 20 KiB for 64 MiB of entries).
    pub(crate) fn directory(&self, pool: &FilePool) -> Result<&Directory, ReadError> {
        if let Some(directory) = self.directory.get() {
            return Ok(directory);
        }
        let range = self.trailer.directory();
        let bytes = read_exact(&*self.file(pool)?, range.offset, range.len)
            .map_err(|error| ReadError::io(self.name(), range.offset, error))?;
        let directory =
            Directory::parse(&self.trailer, &bytes).ok_or_else(|| self.damaged(range.offset, "directory"))?;
        Ok(self.directory.get_or_init(|| directory))
    }

    /// Whether an entry may have `key`. Asks the filter only.
    pub(crate) fn may_hold(&self, key: u64) -> bool {
        self.trailer.keys > 0 && self.filter.as_ref().is_none_or(|filter| filter.may_contain(key))
    }

    /// Of `keys`, notes those that an entry may have. Asks the filter only.
    pub(crate) fn screen(&self, keys: &[u64], may_be_here: &mut [bool]) {
        match &self.filter {
            _ if self.trailer.keys == 0 => {}
            Some(filter) => filter.screen(keys, may_be_here),
            None => may_be_here.fill(true),
        }
    }

    /// Every key, ascending, as often as entries have it.
    pub(crate) fn keys(&self, pool: &FilePool) -> Result<Vec<u64>, ReadError> {
        let mut keys = Vec::with_capacity(self.trailer.keys as usize);
        let file = self.file(pool)?;
        for block in 0..self.trailer.blocks() {
            let range = self.trailer.key_block(block);
            let bytes = read_exact(&*file, range.offset, range.len)
                .map_err(|error| ReadError::io(self.name(), range.offset, error))?;
            let pairs = parse_key_block(&bytes).ok_or_else(|| self.damaged(range.offset, "keys"))?;
            keys.extend(pairs.map(|(key, _)| key));
        }
        Ok(keys)
    }

    /// Appends the indexes of the entries that have `key`.
    pub(crate) fn find(&self, pool: &FilePool, key: u64, out: &mut Vec<u64>) -> Result<(), ReadError> {
        for block in self.directory(pool)?.blocks_of(key) {
            let range = self.trailer.key_block(block);
            let bytes = read_exact(&*self.file(pool)?, range.offset, range.len)
                .map_err(|error| ReadError::io(self.name(), range.offset, error))?;
            let pairs = parse_key_block(&bytes).ok_or_else(|| self.damaged(range.offset, "keys"))?;
            let first = self.info.first.index;
            out.extend(pairs.filter(|&(held, _)| held == key).map(|(_, delta)| first + u64::from(delta)));
        }
        Ok(())
    }
}
