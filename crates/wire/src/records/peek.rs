//! Reading the front of a record without its decisions.

use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use sillok_domain::UnixNanos;

use super::{GENESIS, RecordError, RecordHeader};

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

/// The value of one field, not yet looked into.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(wrong_type()) }
    }

    pub(super) fn number(self) -> Result<u64, DecodeError> {
        if let Value::Varint(number) = self { Ok(number) } else { Err(wrong_type()) }
    }

    pub(super) fn fixed(self) -> Result<u64, DecodeError> {
        if let Value::Fixed(number) = self { Ok(number) } else { Err(wrong_type()) }
    }

    /// How many numbers of eight bytes it holds.
    fn fixed_count(self) -> usize {
        match self {
            Value::Fixed(_) => 1,
            Value::Bytes(bytes) => bytes.len() / 8,
            Value::Varint(_) | Value::Other => 0,
        }
    }

    /// Packed, or one by one: proto3 allows both.
    fn fixed_list(self, into: &mut Vec<u64>) -> Result<(), DecodeError> {
        match self {
            Value::Fixed(number) => into.push(number),
            Value::Bytes(bytes) => {
                let (each, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(wrong_type());
                }
                into.extend(each.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            }
            _ => return Err(wrong_type()),
        }
        Ok(())
    }
}

/// The next field of a message and its value; `None` at its end.
#[inline]
pub(super) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
    let Some((&first, after)) = rest.split_first() else { return Ok(None) };
    let (number, wire_type) = if (0x08..0x80).contains(&first) {
        // A key of one byte, which nearly all of them are.
        *rest = after;
        (u32::from(first >> 3), WireType::try_from(u64::from(first & 7))?)
    } else {
        decode_key(rest)?
    };
    let value = match wire_type {
        WireType::Varint => Value::Varint(varint(rest)?),
        WireType::SixtyFourBit => {
            let (bytes, after) = rest.split_first_chunk::<8>().ok_or_else(underflow)?;
            *rest = after;
            Value::Fixed(u64::from_le_bytes(*bytes))
        }
        WireType::LengthDelimited => {
            let length = usize::try_from(varint(rest)?).map_err(|_| underflow())?;
            let (bytes, after) = rest.split_at_checked(length).ok_or_else(underflow)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        other => {
            skip_field(other, number, rest, DecodeContext::default())?;
            Value::Other
        }
    };
    Ok(Some((number, value)))
}

/// prost's, with one byte looked at in place: lengths and numbers are small.
#[inline]
fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    match rest.split_first() {
        Some((&byte, after)) if byte < 0x80 => {
            *rest = after;
            Ok(u64::from(byte))
        }
        _ => decode_varint(rest),
    }
}

/// The fields of a message, up to the first that cannot be read.
pub(crate) fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> {
    std::iter::from_fn(move || next_field(&mut rest).ok().flatten())
}

// prost gives no other way to make its error.
#[expect(deprecated, reason = "prost offers no other constructor")]
pub(super) fn wrong_type() -> DecodeError {
    DecodeError::new("a field has another wire type than the contract gives it")
}

#[expect(deprecated, reason = "prost offers no other constructor")]
fn underflow() -> DecodeError {
    DecodeError::new("a field ends after the bytes do")
}
