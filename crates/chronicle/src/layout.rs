//! What the files are called, and the header of a segment file.
//!
//! ```text
//!  0            8          12        16          24            32
//!  +------------+----------+---------+-----------+-------------+----------------------- ... ---+------------ ... --+
//!  | "SILLOKsg" | version  | CRC32C  | ordinal   | first index | frames, without gaps          | zeros, or, once   |
//!  |            | u32 = 1  | of the  | u64       | u64         |                               | sealed, the footer|
//!  |            |          | rest    |           |             |                               |                   |
//!  +------------+----------+---------+-----------+-------------+----------------------- ... ---+------------ ... --+
//! ```
//! The header is written together with the first frame. The length of an unsealed file is a multiple of
//! [`BLOCK_BYTES`], that of a sealed one never is: no byte that could be damaged tells the two apart.

use crate::frame::{u32_at, u64_at};

/// Bytes of a segment file's header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Unsealed files have lengths that are multiples of this.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// A batch is written once it has this many bytes, even if more is queued; then no entry is added to it any more. So a
/// frame that begins this far behind another is of a later batch, which was begun when the other was durable. Only a
/// new format version may raise this.
pub(crate) const BATCH_BYTES: u64 = 8 << 20;
/// The version of all files that this build writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
/// The meta file's name.
pub(crate) const META: &str = "meta";
/// The meta file while a directory is being formatted.
pub(crate) const META_TEMPORARY: &str = "meta.tmp";
/// The next segment file while it is being filled with zeros.
pub(crate) const SPARE: &str = "spare.tmp";

/// The mended copy of a damaged segment, until it takes that one's name.
pub(crate) const REPAIR: &str = "repair.tmp";

const MAGIC: &[u8; 8] = b"SILLOKsg";
const SUFFIX: &str = ".seg";

/// The name of the segment file with this number.
pub(crate) fn segment_name(ordinal: u64) -> String {
    format!("{ordinal:010}{SUFFIX}")
}

/// The number in a segment file's name.
pub(crate) fn segment_ordinal(name: &str) -> Option<u64> {
    let ordinal = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_name(ordinal) == name).then_some(ordinal)
}

/// How long a file is made for `bytes` bytes of entries.
pub(crate) fn file_bytes(bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + bytes).next_multiple_of(BLOCK_BYTES)
}

/// A segment file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ordinal: u64,
    pub(crate) first: u64,
}

/// What stands where a header belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFound {
    Good(Header),
    Version(u32),
    Bad,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.ordinal.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> HeaderFound {
        if &bytes[..8] != MAGIC || u32_at(bytes, 12) != checksum(bytes) {
            return HeaderFound::Bad;
        }
        match u32_at(bytes, 8) {
            VERSION => HeaderFound::Good(Self { ordinal: u64_at(bytes, 16), first: u64_at(bytes, 24) }),
            other => HeaderFound::Version(other),
        }
    }
}

/// The CRC32C of everything but the checksum itself, which stands at byte 12 in every file of this crate.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not() {
        assert_eq!(segment_name(12), "0000000012.seg");
        assert_eq!(segment_ordinal("0000000012.seg"), Some(12));
        for other in ["12.seg", "meta", "spare.tmp", "+000000012.seg", "0000000012.seg.old"] {
            assert_eq!(segment_ordinal(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_is_read_back_and_any_flip_is_noticed() {
        let header = Header { ordinal: 3, first: 1 << 40 };
        let bytes = header.encode();
        assert_eq!(Header::parse(&bytes), HeaderFound::Good(header));
        for at in 0..HEADER_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Header::parse(&damaged), HeaderFound::Bad, "byte {at}");
        }
    }
}
