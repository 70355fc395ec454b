//! What a request says of itself, checked before anything is read, and what is answered where there is nothing.

use sillok_wire::{
    errors::Problem,
    v1::{self, Reason},
};
use tonic::Status;

/// Fails a read; a read has no outcome to speak of.
pub(super) fn failed(reason: Reason, message: impl Into<String>) -> Problem {
    Problem::new(reason, message).outcome(None)
}

/// A field that is not what the contract says.
pub(super) fn malformed(field: &str, rule: &str) -> Status {
    failed(Reason::InvalidCommand, format!("the request is malformed: {field} {rule}")).violation(field, rule).into()
}

pub(super) fn channel_id(id: &str) -> Result<(), Status> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=64).contains(&id.len()) && id.bytes().all(plain) {
        Ok(())
    } else {
        Err(malformed("channel_id", "must be 1 to 64 of a-z, 0-9 and -"))
    }
}

pub(super) fn user_key(key: &str) -> Result<(), Status> {
    // Printable ASCII: from the space to the tilde.
    if (1..=128).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(())
    } else {
        Err(malformed("user_key", "must be 1 to 128 printable ASCII"))
    }
}

pub(super) fn retry_key(key: &str) -> Result<(), Status> {
    if (1..=64).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(())
    } else {
        Err(malformed("retry_key", "must be 1 to 64 printable ASCII"))
    }
}

pub(super) fn coupon_id(id: &str) -> Result<(), Status> {
    token("coupon_id", id, 64)
}

/// Those made by the leader may be longer than those of a client.
pub(super) fn ticket_id(id: &str) -> Result<(), Status> {
    token("ticket_id", id, 128)
}

fn token(field: &str, id: &str, longest: usize) -> Result<(), Status> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if (1..=longest).contains(&id.len()) && id.bytes().all(plain) {
        Ok(())
    } else {
        Err(malformed(field, &format!("must be 1 to {longest} of A-Z, a-z, 0-9, dot, underscore, colon and -")))
    }
}

pub(super) fn options(options: Option<&v1::ReadOptions>) -> Result<(), Status> {
    let Some(options) = options else { return Ok(()) };
    v1::ReadConsistency::try_from(options.consistency)
        .map_err(|_| malformed("options.consistency", "is no ReadConsistency this version knows"))?;
    match &options.at_least {
        Some(position) if position.log != sillok_wire::LOG => {
            Err(malformed("options.at_least.log", "names no log of this cluster; today the only one is 1"))
        }
        _ => Ok(()),
    }
}

pub(super) fn channel_not_found(id: &str) -> Problem {
    failed(Reason::ChannelNotFound, format!("channel {id:?} was never opened, as far as this answer speaks for"))
        .with("channel_id", id)
}

pub(super) fn friend_not_found(what: impl std::fmt::Display) -> Problem {
    failed(Reason::FriendNotFound, format!("the channel never had a friend {what}"))
}
