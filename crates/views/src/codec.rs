//! The one place that knows bincode: `[schema version u8][bincode 2, standard configuration]`.
//!
//! bincode is unmaintained and carries no schema, so: a version byte that any change of a row's shape must raise (rows
//! of another version are never read, the views are rebuilt), a size limit, and nothing may be left over.

use std::marker::PhantomData;

use bincode::{Decode, Encode, config};
use roaring::RoaringBitmap;

/// Raised with every change of a row's shape.
pub(crate) const SCHEMA_VERSION: u8 = 3;

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
    let body = body(bytes)?;
    let (row, read) = decode_front(body)?;
    if read != body.len() {
        return Err(RowError::Trailing { left: body.len() - read });
    }
    Ok(row)
}

/// The first field of the row of these bytes.
pub(crate) fn decode_first<T: Decode<()>>(bytes: &[u8]) -> Result<T, RowError> {
    decode_front(body(bytes)?).map(|(field, _)| field)
}

/// The items of the list that the row of these bytes is, one at a time.
pub(crate) fn decode_each<T: Decode<()>>(bytes: &[u8]) -> Result<Items<'_, T>, RowError> {
    let body = body(bytes)?;
    let (left, read) = decode_front(body)?;
    Ok(Items { left, rest: &body[read..], item: PhantomData })
}

/// See [`decode_each`]. Ends with the first error.
pub(crate) struct Items<'a, T> {
    left: u64,
    rest: &'a [u8],
    item: PhantomData<T>,
}

impl<T> Items<'_, T> {
    /// How many are to come, as the row says.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

impl<T: Decode<()>> Iterator for Items<'_, T> {
    type Item = Result<T, RowError>;

    fn next(&mut self) -> Option<Result<T, RowError>> {
        let Some(left) = self.left.checked_sub(1) else {
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty()).then_some(Err(RowError::Trailing { left: rest.len() }));
        };
        match decode_front(self.rest) {
            Ok((item, read)) => {
                (self.left, self.rest) = (left, &self.rest[read..]);
                Some(Ok(item))
            }
            Err(error) => {
                (self.left, self.rest) = (0, &[]);
                Some(Err(error))
            }
        }
    }
}

fn body(bytes: &[u8]) -> Result<&[u8], RowError> {
    let (&version, body) = bytes.split_first().ok_or(RowError::Empty)?;
    if version != SCHEMA_VERSION {
        return Err(RowError::Version { found: version });
    }
    if bytes.len() > MAX_ROW_BYTES {
        return Err(RowError::TooLarge { size_bytes: bytes.len() });
    }
    Ok(body)
}

/// What stands in front, and how many bytes it takes.
fn decode_front<T: Decode<()>>(body: &[u8]) -> Result<(T, usize), RowError> {
    bincode::decode_from_slice(body, configuration())
        .map_err(|error| RowError::Undecodable { reason: error.to_string() })
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
    fn items_of_a_row_one_at_a_time_are_those_of_the_whole() {
        let rows = vec![row(), Row { number: 8, ..row() }];
        let mut bytes = encode(&rows).unwrap();
        let each = |bytes: &[u8]| decode_each::<Row>(bytes).unwrap().collect::<Vec<_>>();
        assert_eq!(decode_each::<Row>(&bytes).unwrap().left(), 2);
        assert_eq!(each(&bytes).into_iter().collect::<Result<Vec<_>, _>>().unwrap(), rows);
        let cut = each(&bytes[..bytes.len() - 1]);
        assert!(matches!(&cut[..], [Ok(_), Err(RowError::Undecodable { .. })]), "{cut:?}");
        bytes.push(0);
        assert_eq!(each(&bytes).last(), Some(&Err(RowError::Trailing { left: 1 })));
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
