//! What a field may hold.

use std::fmt;

use super::Wrong;
use crate::{Attribute, OWN_ATTRIBUTES_LIMIT, TimeWindow, WELL_KNOWN_ATTRIBUTES, ticket_id};

/// Unicode scalars of a message.
pub const TEXT_SCALARS_LIMIT: usize = 2_000;
/// Bytes of a message.
pub const TEXT_BYTES_LIMIT: usize = 8 << 10;
/// User keys an audience may list.
pub const USER_KEYS_LIMIT: usize = 10_000;
/// Events of one import.
pub const IMPORTED_EVENTS_LIMIT: usize = 1_000;
/// Members of all audiences of one import together. More than the friends of the largest channel known (47.6 million),
/// and hashed in well under a second; a bitmap of a few hundred kilobytes can name all 2³² numbers.
pub const IMPORTED_AUDIENCE_LIMIT: u64 = 50_000_000;

pub(super) const ATTRIBUTE_KEY: &str = "must be 1 to 32 of a-z, 0-9 and _";

/// Path of a field; spelled out only when something is wrong with it.
#[derive(Clone, Copy)]
pub(super) struct Field {
    /// Of an imported event.
    event: Option<usize>,
    name: &'static str,
    at: Option<usize>,
}

impl Field {
    pub(super) fn new(name: &'static str) -> Field {
        Field { event: None, name, at: None }
    }

    pub(super) fn of_event(event: usize, name: &'static str) -> Field {
        Field { event: Some(event), name, at: None }
    }

    pub(super) fn at(self, at: usize) -> Field {
        Field { at: Some(at), ..self }
    }

    fn named(self, name: &'static str) -> Field {
        Field { name, ..self }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(event) = self.event {
            write!(f, "events[{event}].payload.")?;
        }
        f.write_str(self.name)?;
        match self.at {
            Some(at) => write!(f, "[{at}]"),
            None => Ok(()),
        }
    }
}

pub(super) fn channel_id(id: &str, field: Field, wrong: &mut Wrong) {
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    wrong.unless(fits, field, "must be 1 to 64 of a-z, 0-9 and -");
}

pub(super) fn printable(text: &str, least: usize, most: usize, field: Field, wrong: &mut Wrong) {
    let fits = (least..=most).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if !fits {
        wrong.add(field, format!("must be {least} to {most} printable ASCII characters"));
    }
}

pub(super) fn user_key(key: &str, field: Field, wrong: &mut Wrong) {
    printable(key, 1, 128, field, wrong);
}

pub(super) fn name(name: &str, field: Field, wrong: &mut Wrong) {
    wrong.unless(scalars(name, 1, 100), field, "must be 1 to 100 characters");
}

pub(super) fn reason(reason: &str, field: Field, wrong: &mut Wrong) {
    wrong.unless(scalars(reason, 0, 500), field, "must be at most 500 characters");
}

pub(super) fn text(text: &str, field: Field, wrong: &mut Wrong) {
    let fits = text.len() <= TEXT_BYTES_LIMIT && scalars(text, 1, TEXT_SCALARS_LIMIT);
    wrong.unless(fits, field, "must be 1 to 2,000 characters and at most 8 KiB");
}

pub(super) fn price(won: i64, field: Field, wrong: &mut Wrong) {
    wrong.unless((0..=10_000).contains(&won), field, "must be 0 to 10,000 won");
}

pub(super) fn coupon_id(id: &str, field: Field, wrong: &mut Wrong) {
    wrong.unless(is_id(id, 64), field, "must be 1 to 64 of A-Z, a-z, 0-9, ., _, : and -");
}

pub(super) fn ticket_id(id: &str, field: Field, wrong: &mut Wrong) {
    wrong.unless(is_id(id, 96), field, "must be 1 to 96 of A-Z, a-z, 0-9, ., _, : and -");
}

/// A client's own.
pub(super) fn own_ticket_id(id: &str, field: Field, wrong: &mut Wrong) {
    ticket_id(id, field, wrong);
    wrong.unless(!ticket_id::is_reserved(id), field, "must not end in .digits.digits: the leader's own ids do");
}

pub(super) fn coupon(cap: u64, per_friend_limit: u32, window: &TimeWindow, field: Field, wrong: &mut Wrong) {
    wrong.unless((1..=1_000_000_000).contains(&cap), field.named("cap"), "must be 1 to 1,000,000,000");
    wrong.unless(per_friend_limit <= 1_000, field.named("per_friend_limit"), "must be 0 to 1,000");
    let ends_later = window.from.zip(window.until).is_none_or(|(from, until)| from < until);
    wrong.unless(ends_later, field.named("window"), "must end after it begins");
}

pub(super) fn attributes(attributes: &[Attribute], field: Field, wrong: &mut Wrong) {
    for (at, attribute) in attributes.iter().enumerate() {
        let field = field.at(at);
        if !is_attribute_key(&attribute.key) {
            wrong.add(format_args!("{field}.key"), ATTRIBUTE_KEY);
        }
        let fits = is_attribute_value(&attribute.value);
        wrong.unless(fits, format_args!("{field}.value"), "must be 1 to 64 characters");
        // At most 20 of them are worth comparing: beyond that the list is refused as it is.
        let repeated = attributes.iter().take(at.min(20)).any(|other| other.key == attribute.key);
        wrong.unless(!repeated, format_args!("{field}.key"), "must not be repeated");
    }
    let own = attributes.iter().filter(|attribute| !WELL_KNOWN_ATTRIBUTES.contains(&&*attribute.key)).count();
    wrong.unless(own <= OWN_ATTRIBUTES_LIMIT, field, "must be at most 16 beside gender, age_band, region and grade");
}

pub(super) fn cleared(keys: &[String], set: &[Attribute], field: Field, wrong: &mut Wrong) {
    let most = OWN_ATTRIBUTES_LIMIT + WELL_KNOWN_ATTRIBUTES.len();
    wrong.unless(keys.len() <= most, field, "must be at most 20 keys");
    for (at, key) in keys.iter().enumerate().take(most) {
        wrong.unless(is_attribute_key(key), field.at(at), ATTRIBUTE_KEY);
        let contradicts = set.iter().any(|attribute| attribute.key == *key);
        wrong.unless(!contradicts, field.at(at), "must not be set by the same command");
    }
}

pub(super) fn is_attribute_key(key: &str) -> bool {
    (1..=32).contains(&key.len()) && key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

pub(super) fn is_attribute_value(value: &str) -> bool {
    scalars(value, 1, 64)
}

fn is_id(id: &str, most: usize) -> bool {
    let of_id = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    (1..=most).contains(&id.len()) && id.bytes().all(of_id)
}

/// Whether a text has so many Unicode scalars. Counts only where the bytes leave it open.
fn scalars(text: &str, least: usize, most: usize) -> bool {
    let bytes = text.len();
    if bytes < least || bytes > most * 4 {
        return false;
    }
    // A scalar is 1 to 4 bytes.
    (bytes <= most && bytes >= least * 4) || (least..=most).contains(&text.chars().count())
}
