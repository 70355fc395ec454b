//! The one place that knows bincode: `[schema version u8][bincode 2, standard configuration]`.
//!
//! bincode is unmaintained and carries no schema, so: a version byte that any change of a row's shape must raise (rows
//! of another version are never read, the views are rebuilt), a size limit, and nothing may be left over.

use bincode::{Decode, Encode, config};
use roaring::RoaringBitmap;

/// Raised with every change of a row's shape.
pub(crate) const SCHEMA_VERSION: u8 = 4;

/// No row is larger, in bytes: the bitmap of an audience of 2³² friends in the worst case is 512 MiB, of 10 million 1.3 MiB.
pub(crate) const MAX_ROW_BYTES: usize = 64 << 20;

fn configuration() -> impl config::Config {
    config::standard().with_limit::<MAX_ROW_BYTES>()
}

/// A row that cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an empty row")]
    Empty,
    #[error("schema version {found}, this build reads {SCHEMA_VERSION}")]
    Version { found: u8 },
    #[error("{size_bytes} bytes are more than a row may have")]
    TooLarge { size_bytes: usize },
    #[error("{left} bytes left over")]
    Trailing { left: usize },
    #[error("undecodable: {reason}")]
    Undecodable { reason: String },
}

/// The bytes of a row.
pub(crate) fn encode<T: Encode>(row: &T) -> Result<Vec<u8>, RowError> {
    let mut bytes = vec![SCHEMA_VERSION];
    bincode::encode_into_std_write(row, &mut bytes, configuration())
        .map_err(|error| RowError::Undecodable { reason: error.to_string() })?;
    if bytes.len() > MAX_ROW_BYTES {
        return Err(RowError::TooLarge { size_bytes: bytes.len() });
    }
    Ok(bytes)
}

/// The row of these bytes, all of them.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, RowError> {
    let (&version, body) = bytes.split_first().ok_or(RowError::Empty)?;
    if version != SCHEMA_VERSION {
        return Err(RowError::Version { found: version });
    }
    if bytes.len() > MAX_ROW_BYTES {
        return Err(RowError::TooLarge { size_bytes: bytes.len() });
    }
    let (row, read) = bincode::decode_from_slice(body, configuration())
        .map_err(|error| RowError::Undecodable { reason: error.to_string() })?;
    if read != body.len() {
        return Err(RowError::Trailing { left: body.len() - read });
    }
    Ok(row)
}

/// The portable form of a bitmap.
pub(crate) fn bitmap_bytes(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to a Vec cannot fail; were it to, the short bytes would not read back and the views be rebuilt.
    let _ = bitmap.serialize_into(&mut bytes);
    bytes
}

/// The bitmap of these bytes, all of them.
pub(crate) fn bitmap_of(mut bytes: &[u8]) -> Option<RoaringBitmap> {
    let bitmap = RoaringBitmap::deserialize_from(&mut bytes).ok()?;
    bytes.is_empty().then_some(bitmap)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Row {
        number: u64,
        text: String,
        many: Vec<(u32, Option<i64>)>,
    }

    fn row() -> Row {
        Row { number: 7, text: "친구".into(), many: vec![(1, None), (2, Some(-3))] }
    }

    #[test]
    fn a_row_with_trailing_bytes_is_refused() {
        let mut bytes = encode(&row()).unwrap();
        assert_eq!(decode::<Row>(&bytes).unwrap(), row());
        bytes.push(0);
        assert_eq!(decode::<Row>(&bytes), Err(RowError::Trailing { left: 1 }));
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        let mut bytes = encode(&row()).unwrap();
        bytes[0] = SCHEMA_VERSION + 1;
        assert_eq!(decode::<Row>(&bytes), Err(RowError::Version { found: SCHEMA_VERSION + 1 }));
        assert_eq!(decode::<Row>(&[]), Err(RowError::Empty));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        // A Vec<u8> that claims 2⁴⁰ bytes: the varint marker 253, then the length.
        let mut bytes = vec![SCHEMA_VERSION, 253];
        bytes.extend((1u64 << 40).to_le_bytes());
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(RowError::Undecodable { .. })));
        let large = vec![0u8; MAX_ROW_BYTES];
        assert!(matches!(encode(&large), Err(RowError::TooLarge { .. } | RowError::Undecodable { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_truncation_is_refused(cut in 0usize..16) {
            let bytes = encode(&row()).unwrap();
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(decode::<Row>(&bytes[..cut]).is_err());
        }
    }
}
