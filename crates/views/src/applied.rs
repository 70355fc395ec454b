//! How far the views are.

use sillok_domain::UnixNanos;

/// Everything up to here is in the tables, and nothing after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Raft index of the newest entry folded.
    pub index: u64,
    /// Raft term of that entry.
    pub term: u64,
    /// Raft term of the newest record folded: it belongs to `sequence`. Blank entries of later terms leave it alone.
    pub record_term: u64,
    /// The last position used by a folded record; 0 before the first.
    pub sequence: u64,
    /// BLAKE3 of the stored bytes of the newest record folded; zeroes before the first.
    pub head: [u8; 32],
    /// `accepted_at` of the newest record folded.
    pub accepted_at: Option<UnixNanos>,
}

impl Applied {
    /// What stands before the first entry, as if an entry had been folded: an empty chain, no position used.
    pub(crate) const GENESIS: Applied =
        Applied { index: 0, term: 0, record_term: 0, sequence: 0, head: [0; 32], accepted_at: None };
}

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// A record on the chain: its facts are in the tables.
    Recorded {
        /// Events that it held.
        events: u64,
        /// Refusals that it held.
        refusals: u64,
    },
    /// A record decided upon another head: nothing but the index moved.
    Skipped,
    /// Blank or membership: nothing but the index moved.
    NotARecord,
}
