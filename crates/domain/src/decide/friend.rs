//! absent –add→ friend –block→ blocked –unblock→ friend; remove from either; an add after a removal keeps the number.
//!
//! A refusal is recorded for ever and in the clear, so it names friends by number and never by key.

use crate::{
    Attribute, Consent, Consents, Event, FRIEND_LIMIT, FriendSource, FriendState, FriendStatus, Load,
    OWN_ATTRIBUTES_LIMIT, Reason, Refusal, Summary, WELL_KNOWN_ATTRIBUTES,
};

pub(super) fn add(
    state: &impl Load,
    summary: &Summary,
    user_key: &str,
    source: FriendSource,
    attributes: &[Attribute],
    consents: &[Consent],
) -> Result<Event, Refusal> {
    let known = state.number_of(user_key).and_then(|number| Some((number, state.friend(number)?.status)));
    let friend_number = match known {
        None => next_number(summary)?,
        Some((number, FriendStatus::Removed)) => number,
        Some((number, FriendStatus::Friend)) => {
            let message = format!("friend {number} is a friend already");
            return Err(Refusal::new(Reason::AlreadyFriend, message).with("friend_number", number));
        }
        Some((number, FriendStatus::Blocked)) => return Err(blocked(number)),
    };
    let consents: Consents = consents.iter().copied().collect();
    Ok(Event::FriendAdded {
        friend_number,
        user_key: user_key.to_owned(),
        source,
        attributes: sorted(attributes),
        consents: consents.iter().collect(),
    })
}

pub(super) fn next_number(summary: &Summary) -> Result<u32, Refusal> {
    if summary.next_friend_number <= FRIEND_LIMIT {
        return Ok(summary.next_friend_number);
    }
    let message = format!("the channel has given out all of its {FRIEND_LIMIT} friend numbers");
    Err(Refusal::new(Reason::FriendLimitReached, message))
}

pub(super) fn block(state: &impl Load, user_key: &str) -> Result<Event, Refusal> {
    let friend_number = not_blocked(state, user_key)?;
    Ok(Event::FriendBlocked { friend_number })
}

pub(super) fn unblock(state: &impl Load, user_key: &str) -> Result<Event, Refusal> {
    let (friend_number, friend) = present(state, user_key)?;
    if friend.status != FriendStatus::Blocked {
        let message = format!("friend {friend_number} has not blocked the channel");
        return Err(Refusal::new(Reason::FriendNotBlocked, message).with("friend_number", friend_number));
    }
    Ok(Event::FriendUnblocked { friend_number })
}

pub(super) fn remove(state: &impl Load, user_key: &str) -> Result<Event, Refusal> {
    let (friend_number, _) = present(state, user_key)?;
    Ok(Event::FriendRemoved { friend_number })
}

pub(super) fn set_attributes(
    state: &impl Load,
    user_key: &str,
    set: &[Attribute],
    clear: &[String],
) -> Result<Event, Refusal> {
    let (friend_number, _) = present(state, user_key)?;
    let own = own_after(state, friend_number, set, clear);
    if own > OWN_ATTRIBUTES_LIMIT {
        let message = format!(
            "friend {friend_number} would have {own} attributes of the shop's own, of which a friend may have \
             {OWN_ATTRIBUTES_LIMIT}; clear some first"
        );
        return Err(Refusal::new(Reason::TooManyAttributes, message).with("friend_number", friend_number));
    }
    let mut cleared = clear.to_vec();
    cleared.sort_unstable();
    cleared.dedup();
    Ok(Event::AttributesSet { friend_number, set: sorted(set), cleared })
}

/// The shop's own attributes that a friend would have.
pub(super) fn own_after(state: &impl Load, number: u32, set: &[Attribute], clear: &[String]) -> usize {
    let is_own = |key: &str| !WELL_KNOWN_ATTRIBUTES.contains(&key);
    let mut own = set.iter().filter(|attribute| is_own(&attribute.key)).count();
    if own == 0 {
        // Nothing is added to what was within the limit.
        return 0;
    }
    state.each_attribute(number, &mut |key, _| {
        let stays = !set.iter().any(|attribute| attribute.key == key) && !clear.iter().any(|cleared| cleared == key);
        own += usize::from(stays && is_own(key));
    });
    own
}

pub(super) fn consent(state: &impl Load, user_key: &str, consent: Consent, grant: bool) -> Result<Event, Refusal> {
    let (friend_number, friend) = present(state, user_key)?;
    if friend.consents.contains(consent) == grant {
        let message = match grant {
            true => format!("friend {friend_number} gave this consent already"),
            false => format!("friend {friend_number} has not given this consent"),
        };
        return Err(Refusal::new(Reason::ConsentUnchanged, message).with("friend_number", friend_number));
    }
    Ok(match grant {
        true => Event::ConsentGranted { friend_number, consent },
        false => Event::ConsentWithdrawn { friend_number, consent },
    })
}

/// A friend that is not removed.
pub(super) fn present(state: &impl Load, user_key: &str) -> Result<(u32, FriendState), Refusal> {
    let friend = state.number_of(user_key).and_then(|number| Some((number, state.friend(number)?)));
    match friend {
        Some((number, friend)) if friend.status == FriendStatus::Removed => {
            let message = format!("friend {number} was removed from this channel");
            Err(Refusal::new(Reason::FriendNotFound, message).with("friend_number", number))
        }
        Some(present) => Ok(present),
        None => Err(Refusal::new(Reason::FriendNotFound, "the user key is of no friend of this channel")),
    }
}

/// A friend that is neither removed nor blocked.
pub(super) fn not_blocked(state: &impl Load, user_key: &str) -> Result<u32, Refusal> {
    let (number, friend) = present(state, user_key)?;
    if friend.status == FriendStatus::Blocked {
        return Err(blocked(number));
    }
    Ok(number)
}

fn blocked(number: u32) -> Refusal {
    let message = format!("friend {number} has blocked the channel");
    Refusal::new(Reason::FriendBlocked, message).with("friend_number", number)
}

fn sorted(attributes: &[Attribute]) -> Vec<Attribute> {
    let mut attributes = attributes.to_vec();
    attributes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    attributes
}
