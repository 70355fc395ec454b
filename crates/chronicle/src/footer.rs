//! The footer of a sealed segment: digest, fold state, keys, and an index of offsets.
//!
//! ```text
//!  entries end (a multiple of 8)                                                                    file ends
//!  v                                                                                                        v
//!  +-------------+-----+-------------+-----------+-----------+--------+-------+---------+-------------------+
//!  | key block 0 | ... | key block n | fences    | points    | filter | state | 0 or 8  | trailer,          |
//!  |             |     |             |           |           |        |       | zeros   | 128 bytes         |
//!  +-------------+-----+-------------+-----------+-----------+--------+-------+---------+-------------------+
//!
//!  key block   up to 512 times key u64, ascending; as many times (index - first index) u32; CRC32C of both
//!  fences      the first key of each block, u64
//!  points      (index - first index) u32, file offset u64: the first frame, and each that begins 64 KiB or more
//!              behind the last point
//!  filter      see `filter.rs`; empty if there are no keys
//!  state       what the fold says after the last entry
//!
//!  trailer     0 "SILLOKft"           8 version u32 = 1       12 CRC32C of the rest of the trailer
//!             16 ordinal u64         24 first term, 32 first index, 40 last term, 48 last index, u64
//!             56 entries end u64     64 BLAKE3 of the entries' bytes (from the file header's end), 32 bytes
//!             96 keys u64           104 bytes of the state, points, bytes of the filter u32
//!            116 CRC32C of fences and points, of the filter, of the state u32
//! ```
//! The zeros before the trailer keep the file's length from being a multiple of 4,096, which marks it as sealed.

use bytes::Bytes;

use crate::{
    filter,
    frame::{u32_at, u64_at},
    layout::{BLOCK_BYTES, HEADER_BYTES, VERSION, checksum},
    types::{LogId, SegmentInfo},
};

/// Bytes of a trailer.
pub(crate) const TRAILER_BYTES: usize = 128;
/// Keys in a full key block.
pub(crate) const BLOCK_KEYS: u64 = 512;
/// Two points of the index are at least this far apart, in bytes.
pub(crate) const POINT_SPACING: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"SILLOKft";

/// Gathers what goes into a footer while a segment's entries pass by.
pub(crate) struct FooterBuilder {
    ordinal: u64,
    first: Option<LogId>,
    last: LogId,
    end: u64,
    hasher: blake3::Hasher,
    keys: Vec<(u64, u32)>,
    points: Vec<(u32, u64)>,
}

impl FooterBuilder {
    pub(crate) fn new(ordinal: u64) -> Self {
        Self {
            ordinal,
            first: None,
            last: LogId::default(),
            end: HEADER_BYTES as u64,
            hasher: blake3::Hasher::new(),
            keys: Vec::new(),
            points: Vec::new(),
        }
    }

    /// The frame at `offset` holds the entry `id` with those keys.
    pub(crate) fn frame(&mut self, id: LogId, offset: u64, bytes: &[u8], keys: &[u64]) {
        let first = *self.first.get_or_insert(id);
        // A segment of more than 2^32 frames would have over 160 GB.
        let delta = (id.index - first.index) as u32;
        self.last = id;
        self.end = offset + bytes.len() as u64;
        self.hasher.update(bytes);
        self.keys.extend(keys.iter().map(|&key| (key, delta)));
        if self.points.last().is_none_or(|&(_, point)| offset - point >= POINT_SPACING) {
            self.points.push((delta, offset));
        }
    }

    /// The footer's bytes and what they say. `None` if no frame passed by.
    pub(crate) fn finish(mut self, state: Vec<u8>) -> Option<(Vec<u8>, Trailer)> {
        let first = self.first?;
        self.keys.sort_unstable();
        self.keys.dedup();
        let mut out = Vec::new();
        let (mut fences, mut directory) = (Vec::new(), Vec::new());
        for block in self.keys.chunks(BLOCK_KEYS as usize) {
            let begin = out.len();
            fences.extend(block.iter().take(1).map(|&(key, _)| key));
            block.iter().for_each(|(key, _)| out.extend_from_slice(&key.to_le_bytes()));
            block.iter().for_each(|(_, delta)| out.extend_from_slice(&delta.to_le_bytes()));
            let crc = crc32c::crc32c(&out[begin..]);
            out.extend_from_slice(&crc.to_le_bytes());
        }
        fences.iter().for_each(|fence| directory.extend_from_slice(&fence.to_le_bytes()));
        for (delta, offset) in &self.points {
            directory.extend_from_slice(&delta.to_le_bytes());
            directory.extend_from_slice(&offset.to_le_bytes());
        }
        let filter = filter::build(self.keys.iter().map(|&(key, _)| key));
        let trailer = Trailer {
            ordinal: self.ordinal,
            first,
            last: self.last,
            end: self.end,
            digest: *self.hasher.finalize().as_bytes(),
            keys: self.keys.len() as u64,
            state_bytes: state.len() as u32,
            points: self.points.len() as u32,
            filter_bytes: filter.len() as u32,
            directory_crc: crc32c::crc32c(&directory),
            filter_crc: crc32c::crc32c(&filter),
            state_crc: crc32c::crc32c(&state),
        };
        out.extend_from_slice(&directory);
        out.extend_from_slice(&filter);
        out.extend_from_slice(&state);
        out.resize((trailer.file_bytes() - self.end) as usize - TRAILER_BYTES, 0);
        out.extend_from_slice(&trailer.encode());
        Some((out, trailer))
    }
}

/// The fixed end of a footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) ordinal: u64,
    pub(crate) first: LogId,
    pub(crate) last: LogId,
    /// Where the entries end in the file.
    pub(crate) end: u64,
    pub(crate) digest: [u8; 32],
    /// How many pairs of key and index there are.
    pub(crate) keys: u64,
    state_bytes: u32,
    points: u32,
    filter_bytes: u32,
    pub(crate) directory_crc: u32,
    pub(crate) filter_crc: u32,
    pub(crate) state_crc: u32,
}

/// A stretch of the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Range {
    fn after(self, len: u64) -> Self {
        Self { offset: self.offset + self.len, len }
    }
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        let words = [self.ordinal, self.first.term, self.first.index, self.last.term, self.last.index, self.end];
        for (i, word) in words.into_iter().enumerate() {
            put(16 + 8 * i, &word.to_le_bytes());
        }
        put(64, &self.digest);
        put(96, &self.keys.to_le_bytes());
        let halves =
            [self.state_bytes, self.points, self.filter_bytes, self.directory_crc, self.filter_crc, self.state_crc];
        for (i, half) in halves.into_iter().enumerate() {
            put(104 + 4 * i, &half.to_le_bytes());
        }
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The trailer, if it verifies and describes a file of `file_bytes` bytes.
    pub(crate) fn parse(bytes: &[u8], file_bytes: u64) -> Option<Self> {
        let bytes: &[u8; TRAILER_BYTES] = bytes.try_into().ok()?;
        if &bytes[..8] != MAGIC || u32_at(bytes, 12) != checksum(bytes) || u32_at(bytes, 8) != VERSION {
            return None;
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[64..96]);
        let trailer = Self {
            ordinal: u64_at(bytes, 16),
            first: LogId::new(u64_at(bytes, 24), u64_at(bytes, 32)),
            last: LogId::new(u64_at(bytes, 40), u64_at(bytes, 48)),
            end: u64_at(bytes, 56),
            digest,
            keys: u64_at(bytes, 96),
            state_bytes: u32_at(bytes, 104),
            points: u32_at(bytes, 108),
            filter_bytes: u32_at(bytes, 112),
            directory_crc: u32_at(bytes, 116),
            filter_crc: u32_at(bytes, 120),
            state_crc: u32_at(bytes, 124),
        };
        (trailer.file_bytes() == file_bytes).then_some(trailer)
    }

    /// How many key blocks there are.
    pub(crate) fn blocks(&self) -> u64 {
        self.keys.div_ceil(BLOCK_KEYS)
    }

    /// The n-th key block, its checksum included.
    pub(crate) fn key_block(&self, n: u64) -> Range {
        let keys = BLOCK_KEYS.min(self.keys - n * BLOCK_KEYS);
        Range { offset: self.end + n * (BLOCK_KEYS * 12 + 4), len: keys * 12 + 4 }
    }

    /// Fences and points.
    pub(crate) fn directory(&self) -> Range {
        let key_bytes = self.keys * 12 + self.blocks() * 4;
        Range { offset: self.end + key_bytes, len: self.blocks() * 8 + u64::from(self.points) * 12 }
    }

    pub(crate) fn filter(&self) -> Range {
        self.directory().after(self.filter_bytes.into())
    }

    pub(crate) fn state(&self) -> Range {
        self.filter().after(self.state_bytes.into())
    }

    /// The zeros before the trailer, if there are any.
    pub(crate) fn padding(&self) -> Range {
        let begin = self.state().offset + self.state().len;
        Range { offset: begin, len: self.file_bytes() - TRAILER_BYTES as u64 - begin }
    }

    /// The length of the sealed file.
    pub(crate) fn file_bytes(&self) -> u64 {
        let bytes = self.state().offset + self.state().len + TRAILER_BYTES as u64;
        if bytes.is_multiple_of(BLOCK_BYTES) { bytes + 8 } else { bytes }
    }

    /// What others may know of the segment.
    pub(crate) fn info(&self, state: Bytes) -> SegmentInfo {
        let bytes = self.end - HEADER_BYTES as u64;
        SegmentInfo { ordinal: self.ordinal, first: self.first, last: self.last, digest: self.digest, bytes, state }
    }
}

/// Fences and points in memory.
pub(crate) struct Directory {
    fences: Vec<u64>,
    points: Vec<(u32, u64)>,
}

impl Directory {
    /// Takes the stored form; `None` if it does not verify.
    pub(crate) fn parse(trailer: &Trailer, bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 != trailer.directory().len || crc32c::crc32c(bytes) != trailer.directory_crc {
            return None;
        }
        let (fences, points) = bytes.split_at(trailer.blocks() as usize * 8);
        Some(Self {
            fences: fences.chunks_exact(8).map(|fence| u64_at(fence, 0)).collect(),
            points: points.chunks_exact(12).map(|point| (u32_at(point, 0), u64_at(point, 4))).collect(),
        })
    }

    /// The key blocks that may hold `key`.
    pub(crate) fn blocks_of(&self, key: u64) -> std::ops::Range<u64> {
        // A key that begins a block may also end the one before.
        let begin = self.fences.partition_point(|&fence| fence < key).saturating_sub(1);
        let end = self.fences.partition_point(|&fence| fence <= key);
        begin as u64..end as u64
    }

    /// The last point at or before the entry `delta` places behind the first: its delta and offset.
    pub(crate) fn point_before(&self, delta: u64) -> Option<(u64, u64)> {
        let n = self.points.partition_point(|&(point, _)| u64::from(point) <= delta);
        let (point, offset) = *self.points.get(n.checked_sub(1)?)?;
        Some((point.into(), offset))
    }

    /// The offset of the first point at or behind the entry `delta` places behind the first.
    pub(crate) fn offset_after(&self, delta: u64) -> Option<u64> {
        let n = self.points.partition_point(|&(point, _)| u64::from(point) < delta);
        self.points.get(n).map(|&(_, offset)| offset)
    }
}

/// The (key, delta) pairs of a key block in ascending order; `None` if it does not verify.
pub(crate) fn parse_key_block(block: &[u8]) -> Option<impl Iterator<Item = (u64, u32)> + '_> {
    let (pairs, crc) = block.split_last_chunk::<4>()?;
    if crc32c::crc32c(pairs) != u32::from_le_bytes(*crc) || !pairs.len().is_multiple_of(12) {
        return None;
    }
    let (keys, deltas) = pairs.split_at(pairs.len() / 12 * 8);
    Some(keys.chunks_exact(8).zip(deltas.chunks_exact(4)).map(|(key, delta)| (u64_at(key, 0), u32_at(delta, 0))))
}
