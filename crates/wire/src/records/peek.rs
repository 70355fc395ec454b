//! Reading the front of a record without its decisions.

use sillok_domain::UnixNanos;

use super::{GENESIS, RecordError, RecordHeader};
use crate::fields::next_field;

/// Field numbers of `sillok.record.v1.Record`.
pub(super) const PREDECESSOR: u32 = 1;
pub(super) const FEATURE_LEVEL: u32 = 2;
pub(super) const FIRST_SEQUENCE: u32 = 3;
pub(super) const ACCEPTED_AT: u32 = 4;
pub(super) const KEY_HASHES: u32 = 5;
pub(super) const DECISIONS: u32 = 6;
pub(super) const RECOVERY: u32 = 7;

/// Hash of the record this one was decided upon.
///
/// # Errors
/// Where the bytes do not begin like a record.
pub fn predecessor(record: &[u8]) -> Result<[u8; 32], RecordError> {
    header(record).map(|header| header.predecessor)
}

/// Everything before the key hashes.
///
/// # Errors
/// Where the bytes do not begin like a record.
pub fn header(record: &[u8]) -> Result<RecordHeader, RecordError> {
    front(record, None).map(|front| front.header)
}

/// Adds one hash for each decision, in order.
///
/// # Errors
/// Where the bytes do not begin like a record; `into` may then have some of the hashes.
pub fn key_hashes(record: &[u8], into: &mut Vec<u64>) -> Result<(), RecordError> {
    front(record, Some(into)).map(drop)
}

/// How many positions the record takes: its events and refusals. Looks at every decision, decodes none.
///
/// # Errors
/// Where the bytes are no record.
pub fn positions(record: &[u8]) -> Result<u64, RecordError> {
    let mut rest = front(record, None)?.rest;
    let mut positions = 0;
    while let Some((number, value)) = next_field(&mut rest)? {
        if number != DECISIONS {
            continue;
        }
        let mut decision = value.bytes()?;
        while let Some((number, _)) = next_field(&mut decision)? {
            if number == super::view::EVENTS || number == super::view::REFUSED {
                positions += 1;
            }
        }
    }
    Ok(positions)
}

/// What stands before the decisions.
pub(super) struct Front<'a> {
    pub(super) header: RecordHeader,
    /// Hashes of retry keys.
    pub(super) key_count: usize,
    /// What begins with the first decision.
    pub(super) rest: &'a [u8],
}

/// Reads the front, and takes the hashes of the retry keys along where they are wanted.
pub(super) fn front<'a>(record: &'a [u8], mut hashes: Option<&mut Vec<u64>>) -> Result<Front<'a>, RecordError> {
    let mut header = RecordHeader { predecessor: GENESIS, feature_level: 0, first_sequence: 0, accepted_at: 0 };
    let mut has_predecessor = false;
    let mut key_count = 0;
    let mut rest = record;
    loop {
        let here = rest;
        let Some((number, value)) = next_field(&mut rest)? else {
            rest = here;
            break;
        };
        match number {
            PREDECESSOR => {
                let bytes = value.bytes()?;
                header.predecessor = bytes.try_into().map_err(|_| RecordError::Predecessor(bytes.len()))?;
                has_predecessor = true;
            }
            // Deliberately the low half: prost reads a u32 so.
            FEATURE_LEVEL => header.feature_level = value.number()? as u32,
            FIRST_SEQUENCE => header.first_sequence = value.number()?,
            ACCEPTED_AT => header.accepted_at = value.fixed()? as UnixNanos,
            KEY_HASHES => {
                key_count += value.fixed_count();
                if let Some(hashes) = hashes.as_deref_mut() {
                    value.fixed_list(hashes)?;
                }
            }
            _ => {
                rest = here;
                break;
            }
        }
    }
    if !has_predecessor {
        return Err(RecordError::Predecessor(0));
    }
    Ok(Front { header, key_count, rest })
}
