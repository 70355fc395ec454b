//! The one record that no leader decides: a lost quorum was recovered, offline, from one survivor.

use bytes::Bytes;
use prost::Message as _;
use sillok_domain::UnixNanos;

use super::{
    FIRST_LEVEL, RecordError, encode,
    peek::{RECOVERY, front},
};
use crate::{fields::next_field, record};

/// The record that goes on from `predecessor`. It takes no position: `first_sequence` is that of the next record too.
///
/// It is of the first feature level, for it asks nothing of those who fold; what an older version does not know of it (that
/// peers of an older epoch are refused) is kept from it by the version of the chronicle's meta file.
pub fn record(predecessor: [u8; 32], first_sequence: u64, accepted_at: UnixNanos, recovery: record::Recovery) -> Bytes {
    encode(&record::Record {
        predecessor: Bytes::copy_from_slice(&predecessor),
        feature_level: FIRST_LEVEL,
        first_sequence,
        // The same eight bytes.
        accepted_at_unix_nanos: accepted_at as u64,
        recovery: Some(recovery),
        ..Default::default()
    })
}

/// The recovery, where the record is one. Reads no further than the first decision.
///
/// # Errors
/// Where the bytes do not begin like a record, or a recovery cannot be read.
pub fn peek(record: &[u8]) -> Result<Option<record::Recovery>, RecordError> {
    let mut rest = front(record, None)?.rest;
    match next_field(&mut rest)? {
        Some((RECOVERY, value)) => Ok(Some(record::Recovery::decode(value.bytes()?)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records;

    #[test]
    fn a_recovery_stands_in_the_chain_and_takes_no_position() {
        let recovery = record::Recovery { epoch: 2, token: 7, actor: "김사관".to_owned(), ..Default::default() };
        let bytes = record([9; 32], 41, 1_700_000_000_000_000_000, recovery.clone());
        let header = records::peek_header(&bytes).unwrap();
        assert_eq!((header.predecessor, header.first_sequence), ([9; 32], 41));
        assert_eq!((header.accepted_at, header.feature_level), (1_700_000_000_000_000_000, 1));
        assert_eq!(records::count_positions(&bytes), Ok(0));
        assert_eq!(records::RecordView::new(&bytes).unwrap().decisions().count(), 0);
        assert_eq!(peek(&bytes), Ok(Some(recovery)));
        assert_eq!(records::decode(bytes).unwrap().decisions.len(), 0);
    }
}
