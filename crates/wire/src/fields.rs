//! Fields of protobuf messages, read and written one by one: where generated code would copy, allocate or look at more than is
//! asked for.

use prost::{
    DecodeError,
    encoding::{
        DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
        skip_field,
    },
};

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

    pub(crate) fn number(self) -> Result<u64, DecodeError> {
        if let Value::Varint(number) = self { Ok(number) } else { Err(wrong_type()) }
    }

    pub(crate) fn fixed(self) -> Result<u64, DecodeError> {
        if let Value::Fixed(number) = self { Ok(number) } else { Err(wrong_type()) }
    }

    /// How many numbers of eight bytes it holds.
    pub(crate) fn fixed_count(self) -> usize {
        match self {
            Value::Fixed(_) => 1,
            Value::Bytes(bytes) => bytes.len() / 8,
            Value::Varint(_) | Value::Other => 0,
        }
    }

    /// Packed, or one by one: proto3 allows both.
    pub(crate) fn fixed_list(self, into: &mut Vec<u64>) -> Result<(), DecodeError> {
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
pub(crate) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
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
fn wrong_type() -> DecodeError {
    DecodeError::new("a field has another wire type than the contract gives it")
}

#[expect(deprecated, reason = "prost offers no other constructor")]
fn underflow() -> DecodeError {
    DecodeError::new("a field ends after the bytes do")
}

/// What this field holds, where it is all there is.
pub(crate) fn only(number: u32, mut message: &[u8]) -> Option<&[u8]> {
    match next_field(&mut message).ok()?? {
        (found, Value::Bytes(bytes)) if found == number && message.is_empty() => Some(bytes),
        _ => None,
    }
}

/// How long the length before a body is, and the body, where all of it lies here.
pub(crate) fn whole(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = bytes;
    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    Some((bytes.len() - rest.len(), rest.get(..length)?))
}

/// Key and length of a field of so many bytes, which are to follow.
pub(crate) fn header(number: u32, bytes: usize, to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(bytes as u64, to);
}

pub(crate) fn message_field(number: u32, message: &impl prost::Message, to: &mut Vec<u8>) {
    header(number, message.encoded_len(), to);
    message.encode_raw(to);
}

pub(crate) fn bytes_field(number: u32, bytes: &[u8], to: &mut Vec<u8>) {
    header(number, bytes.len(), to);
    to.extend_from_slice(bytes);
}

/// Left out where it is empty, as proto3 has it.
pub(crate) fn text_field(number: u32, text: &str, to: &mut Vec<u8>) {
    if !text.is_empty() {
        bytes_field(number, text.as_bytes(), to);
    }
}

/// Left out where it is 0, as proto3 has it.
pub(crate) fn number_field(number: u32, value: u64, to: &mut Vec<u8>) {
    if value != 0 {
        encode_key(number, WireType::Varint, to);
        encode_varint(value, to);
    }
}

/// A field of so many bytes, with its key and length.
pub(crate) fn field_len(number: u32, bytes: usize) -> usize {
    key_len(number) + encoded_len_varint(bytes as u64) + bytes
}

/// Of what [`number_field`] writes.
pub(crate) fn number_len(number: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(number) + encoded_len_varint(value) }
}

/// Of what [`text_field`] writes.
pub(crate) fn text_len(number: u32, text: &str) -> usize {
    if text.is_empty() { 0 } else { field_len(number, text.len()) }
}
