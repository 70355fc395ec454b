//! The words of the chronicle: where an entry stands, what it holds, and whose chronicle this is.

use bytes::Bytes;

/// Where an entry stands in the log. Ordered by term, then by index. The first index of a chronicle is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The entry's place in the log, without gaps from 0.
    pub index: u64,
}

impl LogId {
    /// The log id of this term and index.
    pub const fn new(term: u64, index: u64) -> Self {
        Self { term, index }
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// One entry of the log. What `kind` and `payload` mean is the caller's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub id: LogId,
    /// Opaque here (the cluster uses 0 for blank, 1 for a record, 2 for a membership).
    pub kind: u8,
    /// The caller's bytes, at most [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES).
    pub payload: Bytes,
}

/// A vote of this node: the term it voted in, for whom, and whether a quorum is known to have granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: u64,
    /// The node voted for.
    pub node_id: u64,
    /// Whether that node is known to lead the term.
    pub committed: bool,
}

/// Whose chronicle a directory holds. Fixed when it is formatted; only `cluster_id` is filled in later, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's id within its cluster.
    pub node_id: u64,
    /// Random, made when the directory was formatted: tells a node from one that lost its disk and was formatted anew.
    pub incarnation: u64,
    /// The node's site label, at most [`MAX_SITE_BYTES`](crate::MAX_SITE_BYTES) bytes.
    pub site: String,
    /// The cluster this chronicle belongs to, once it belongs to one.
    pub cluster_id: Option<[u8; 16]>,
}

/// How often the cluster went on from one survivor after a quorum was lost. Ordered by number; two epochs of one number and
/// different tokens exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// 0: never.
    pub number: u64,
    /// Random, drawn when the epoch began.
    pub token: u64,
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:016x}", self.number, self.token)
    }
}

/// What is known of a sealed segment: all of it is committed and its file never changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The number in the segment's file name, from 0.
    pub ordinal: u64,
    /// Its first entry.
    pub first: LogId,
    /// Its last entry.
    pub last: LogId,
    /// BLAKE3 of the entries' bytes as they stand in the file: equal on every node that sealed the same entries.
    pub digest: [u8; 32],
    /// How many bytes its entries take.
    pub bytes: u64,
    /// The state of the fold after its last entry.
    pub state: Bytes,
}
