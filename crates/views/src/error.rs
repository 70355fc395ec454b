//! What can go wrong, and what the caller can do.

/// Folding stopped before this entry: the tables stand at the entry before it and go on answering. The same entry gives the same error
/// until the cause is gone; an event is never skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The record needs a newer build.
    #[error("entry {index} needs feature level {needed} and this build has {supported}; upgrade this node")]
    FeatureLevel {
        /// Raft index.
        index: u64,
        /// What the record asks for.
        needed: u32,
        /// `sillok_wire::records::FEATURE_LEVEL`.
        supported: u32,
    },
    /// The record holds an event that this build does not understand.
    #[error(
        "entry {index}, channel {channel_id}, revision {revision}: {reason}; this node folds no further, upgrade it"
    )]
    UnknownEvent {
        /// Raft index.
        index: u64,
        /// Whose event.
        channel_id: String,
        /// Its revision.
        revision: u64,
        /// What the decoder said.
        reason: String,
    },
    /// The entry is of a kind that this build does not know.
    #[error("entry {index} is of kind {kind}, which this build does not know; upgrade this node")]
    UnknownEntryKind {
        /// Raft index.
        index: u64,
        /// The kind.
        kind: u8,
    },
    /// The bytes are no record, or contradict the tables: a defect of the leader that wrote it or of this node.
    #[error("entry {index} is not a record that can follow: {reason}; this node folds no further")]
    Malformed {
        /// Raft index.
        index: u64,
        /// What does not fit.
        reason: String,
    },
    /// The views were closed.
    #[error("the views are closed; nothing was folded")]
    Closed,
    /// The caller left out an entry or gave one twice.
    #[error("entry {got} was given where {expected} must follow; nothing was folded")]
    OutOfOrder {
        /// The index that must be next.
        expected: u64,
        /// The index given.
        got: u64,
    },
}

/// A page that was written to disk and dropped from memory does not come back as it was written: nothing may be answered from
/// it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, page {page} of channel {channel_id} cannot be had from disk: {reason}")]
pub struct LostPage {
    /// Whose page.
    pub channel_id: String,
    /// As on disk.
    pub table: u8,
    /// As on disk.
    pub page: u64,
    /// What was found.
    pub reason: String,
}
