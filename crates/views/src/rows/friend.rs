//! 256 friends a page, ascending by number from page·256 + 1:
//! `[[user key][status u8][source u8][consents u8][[key][value]…][added_revision][added_at]…]`

use bincode::{Decode, Encode};
use sillok_domain::{Attribute, Channel, Consents, FRIENDS_A_PAGE, FriendRow, FriendSource, FriendStatus};

use super::RestoreError;
use crate::codec::{self, RowError};

/// What is written, borrowed from the channel: spilling holds the fold, so nothing is copied twice.
#[derive(Encode)]
struct FriendOut<'a> {
    number: u32,
    user_key: &'a str,
    status: u8,
    source: u8,
    consents: u8,
    attributes: Vec<(&'a str, &'a str)>,
    added_revision: u64,
    added_at: i64,
}

/// The same as it is read.
#[derive(Decode)]
struct FriendIn {
    number: u32,
    user_key: String,
    status: u8,
    source: u8,
    consents: u8,
    attributes: Vec<(String, String)>,
    added_revision: u64,
    added_at: i64,
}

/// Of a page that is full.
pub(super) fn numbers(page: u64) -> std::ops::RangeInclusive<u32> {
    let first = (page as u32).saturating_mul(FRIENDS_A_PAGE).saturating_add(1);
    first..=first.saturating_add(FRIENDS_A_PAGE - 1)
}

/// Which page a friend is on.
pub(super) fn page_of(number: u32) -> u64 {
    u64::from(number.saturating_sub(1) / FRIENDS_A_PAGE)
}

pub(super) fn page(channel: &Channel, page: u64) -> Result<Vec<u8>, RowError> {
    let friends = numbers(page).filter_map(|number| channel.friend_view(number));
    let friends = friends.map(|friend| FriendOut {
        number: friend.number,
        user_key: friend.user_key,
        status: friend.state.status as u8,
        source: friend.state.source as u8,
        consents: friend.state.consents.bits(),
        attributes: friend.attributes().collect(),
        added_revision: friend.state.added_revision,
        added_at: friend.state.added_at,
    });
    codec::encode(&friends.collect::<Vec<_>>())
}

/// The friends of a page.
pub(crate) fn rows(bytes: &[u8]) -> Result<Vec<FriendRow>, RestoreError> {
    let friends = codec::decode::<Vec<FriendIn>>(bytes)?.into_iter().map(|friend| {
        Ok(FriendRow {
            number: friend.number,
            user_key: friend.user_key,
            status: FriendStatus::from_number(friend.status).ok_or(RestoreError::Number(friend.status))?,
            source: FriendSource::from_number(friend.source).ok_or(RestoreError::Number(friend.source))?,
            consents: Consents::from_bits(friend.consents),
            attributes: friend.attributes.into_iter().map(|(key, value)| Attribute { key, value }).collect(),
            added_revision: friend.added_revision,
            added_at: friend.added_at,
        })
    });
    friends.collect()
}

pub(super) fn restore(channel: &mut Channel, page: u64, bytes: &[u8]) -> Result<bool, RestoreError> {
    for friend in rows(bytes)? {
        if !numbers(page).contains(&friend.number) {
            return Ok(false);
        }
        channel.restore_friend(&friend)?;
    }
    Ok(true)
}
