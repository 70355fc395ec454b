//! The envelope of the chronicle: one record, many decisions.
//!
//! ```text
//! field  1 predecessor    32 bytes: BLAKE3 of the record this one was decided upon
//!        2 feature_level  what a node must know to fold it
//!        3 first_sequence position of the first event or refusal; the rest follow by one
//!        4 accepted_at    nanoseconds since 1970 UTC
//!        5 key_hashes     8 bytes a decision, packed
//!        6 decision       one by one, to the end
//!        7 recovery       alone, instead of decisions
//! ```
//! Fields are written in this order, so that a peek reads the front and stops. What is hashed is always the stored bytes,
//! never a re-encoding.

mod builder;
mod peek;
mod push;
mod recovery;
mod view;

use bytes::Bytes;
use prost::Message as _;
use sillok_domain::UnixNanos;

use crate::record;

pub use builder::{NewDecision, NewOutcome, RecordBuilder};
pub use peek::{
    header as peek_header, key_hashes as peek_key_hashes, positions as count_positions, predecessor as peek_predecessor,
};
pub(crate) use push::Push;
pub use recovery::{peek as peek_recovery, record as recovery_record};
pub use view::{DecisionView, Decisions, RecordView};

/// The newest feature level that this version knows. A record is stamped with the least that its kinds need.
pub const FEATURE_LEVEL: u32 = 1;
/// Of a record that needs nothing but the envelope.
const FIRST_LEVEL: u32 = 1;
const _: () = assert!(FEATURE_LEVEL >= crate::payload::NEWEST_KIND_LEVEL, "a kind is of a level that is not known");
/// The predecessor of the first record.
pub const GENESIS: [u8; 32] = [0; 32];

/// What stands before a record's decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Hash of the record this one was decided upon.
    pub predecessor: [u8; 32],
    /// What a node must know to fold it.
    pub feature_level: u32,
    /// Position of the first decision's first event or refusal.
    pub first_sequence: u64,
    /// Given by the leader, never running backwards.
    pub accepted_at: UnixNanos,
}

/// Bytes that are no record. In a chronicle whose frames check out this is damage or a foreign file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not protobuf of a record.
    #[error("the bytes are no record: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Its front does not come first.
    #[error("field {0} of the record stands out of order")]
    OutOfOrder(u32),
    /// The hash of the predecessor is not 32 bytes long.
    #[error("the record's predecessor is {0} bytes long instead of 32")]
    Predecessor(usize),
    /// Text that is not UTF-8.
    #[error("{0} of a decision is not UTF-8")]
    NotText(&'static str),
    /// The fingerprint is not 16 bytes long.
    #[error("a decision's fingerprint is {0} bytes long instead of 16")]
    Fingerprint(usize),
    /// Times of an import that do not go with its events.
    #[error("a decision has {events} events and {times} imported times")]
    Imported {
        /// How many events.
        events: usize,
        /// How many times.
        times: usize,
    },
    /// Neither events nor a refusal, or both.
    #[error("a decision of kind {0} holds neither events nor a refusal, or both")]
    Outcome(u32),
}

/// The bytes of a record. [`RecordBuilder`] makes the same ones faster.
pub fn encode(record: &record::Record) -> Bytes {
    record.encode_to_vec().into()
}

/// A record whole; its events are slices of `bytes`. [`RecordView`] reads the same without copying any text.
///
/// # Errors
/// Where the bytes are no record.
pub fn decode(bytes: Bytes) -> Result<record::Record, RecordError> {
    Ok(record::Record::decode(bytes)?)
}

/// What the next record names as its predecessor.
pub fn hash(record: &[u8]) -> [u8; 32] {
    *blake3::hash(record).as_bytes()
}

/// The first 8 bytes, little endian, of BLAKE3(channel id, 0x00, retry key).
pub fn key_hash(channel_id: &str, retry_key: &str) -> u64 {
    // Ids are at most 64 bytes each: one block or two, and no hasher's state.
    let mut bytes = smallvec::SmallVec::<[u8; 160]>::new();
    bytes.extend_from_slice(channel_id.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(retry_key.as_bytes());
    let hash = blake3::hash(&bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}
