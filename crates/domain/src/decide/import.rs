//! Facts of another channel: no rule is evaluated again, no window, consent or label judged. Each must only be possible
//! in the state that the ones before it made.

use roaring::RoaringBitmap;

use super::friend;
use crate::{
    ChannelStatus, Event, FriendStatus, FrozenAudience, ImportedEvent, Load, OWN_ATTRIBUTES_LIMIT, Overlay, Reason,
    Refusal, Selector, Statuses, TicketPlace, TicketStatus, UnixNanos, audience_digest, ticket_id,
};

pub(super) fn import(
    state: &impl Load,
    revision: u64,
    first_revision: u64,
    events: &[ImportedEvent],
    accepted_at: UnixNanos,
) -> Result<Vec<Event>, Refusal> {
    if first_revision != revision + 1 {
        let message = format!("the import begins at revision {first_revision} where {} is next", revision + 1);
        let refusal = Refusal::new(Reason::ImportOutOfOrder, message);
        return Err(refusal.with("expected", revision + 1).with("first_revision", first_revision));
    }
    let mut overlay = Overlay::new();
    for (at, imported) in (first_revision..).zip(events) {
        let possible = check(&overlay.over(state), at, &imported.event);
        // Now that its members are all friends here, their number is bounded.
        if let Err(why) = possible.and_then(|()| check_digest(imported)) {
            let message = format!("the imported event of revision {at} cannot have happened here: {why}");
            return Err(Refusal::new(Reason::ImportContradictsState, message).with("revision", at));
        }
        overlay.apply(state, at, at, accepted_at, imported.occurred_at, &imported.event);
    }
    Ok(events.iter().map(|imported| imported.event.clone()).collect())
}

/// Whether an event may be the one of this revision; why not.
pub(crate) fn check(state: &impl Load, revision: u64, event: &Event) -> Result<(), String> {
    let Some(summary) = state.summary() else {
        let opens = matches!(event, Event::ChannelOpened { .. });
        return require(opens, || "the first event of a channel opens it".into());
    };
    require(summary.status != ChannelStatus::Closed, || "the channel is closed".into())?;
    let suspended = summary.status == ChannelStatus::Suspended;
    let not_suspended = || require(!suspended, || "the channel is suspended".into());
    match event {
        Event::ChannelOpened { .. } => Err("the channel is open already".into()),
        Event::ChannelRenamed { .. } | Event::ChannelClosed { .. } => Ok(()),
        Event::ChannelSuspended { .. } => not_suspended(),
        Event::ChannelResumed => require(suspended, || "the channel is not suspended".into()),

        Event::FriendAdded { friend_number, user_key, .. } => {
            let number = match state.number_of(user_key) {
                None => friend::next_number(summary).map_err(|refusal| refusal.message)?,
                Some(number) => {
                    is(state, number, &[FriendStatus::Removed])?;
                    number
                }
            };
            require(*friend_number == number, || format!("friend {friend_number} has the number {number} here"))
        }
        Event::FriendBlocked { friend_number } => is(state, *friend_number, &[FriendStatus::Friend]),
        Event::FriendUnblocked { friend_number } => is(state, *friend_number, &[FriendStatus::Blocked]),
        Event::FriendRemoved { friend_number } => is_present(state, *friend_number),
        Event::AttributesSet { friend_number, set, cleared } => {
            is_present(state, *friend_number)?;
            let own = friend::own_after(state, *friend_number, set, cleared);
            require(own <= OWN_ATTRIBUTES_LIMIT, || format!("friend {friend_number} would have {own} attributes"))
        }
        Event::ConsentGranted { friend_number, consent } | Event::ConsentWithdrawn { friend_number, consent } => {
            is_present(state, *friend_number)?;
            let held = state.friend(*friend_number).is_some_and(|friend| friend.consents.contains(*consent));
            let granted = matches!(event, Event::ConsentGranted { .. });
            require(held != granted, || format!("friend {friend_number} has it so already"))
        }

        Event::PushAccepted { friend_number, .. } => {
            not_suspended()?;
            is(state, *friend_number, &[FriendStatus::Friend])
        }
        Event::NarrowcastAccepted { audience, .. } | Event::BroadcastAccepted { audience, .. } => {
            not_suspended()?;
            check_audience(state, summary.revision, audience)
        }

        Event::CouponDefined { coupon_id, .. } => {
            not_suspended()?;
            require(state.coupon(coupon_id).is_none(), || format!("coupon {coupon_id} is defined already"))
        }
        Event::TicketIssued { coupon_id, ticket_id, friend_number } => {
            not_suspended()?;
            check_issue(state, coupon_id, &RoaringBitmap::from_iter([*friend_number]))?;
            let place = TicketPlace { issued_revision: revision, friend_number: *friend_number };
            let fits = !ticket_id::is_reserved(ticket_id) || ticket_id::is_of(ticket_id, coupon_id, place);
            require(fits, || format!("ticket {ticket_id} has the id of another place"))?;
            require(state.ticket(ticket_id).is_none(), || format!("ticket {ticket_id} is issued already"))
        }
        Event::TicketsIssued { coupon_id, audience, .. } => {
            not_suspended()?;
            check_audience(state, summary.revision, audience)?;
            check_issue(state, coupon_id, &audience.members)
        }
        Event::TicketRedeemed { coupon_id, ticket_id, friend_number }
        | Event::TicketVoided { coupon_id, ticket_id, friend_number, .. }
        | Event::TicketExpired { coupon_id, ticket_id, friend_number } => {
            check_ticket(state, coupon_id, ticket_id, *friend_number, TicketStatus::Issued)
        }
        Event::RedemptionReversed { coupon_id, ticket_id, friend_number, .. } => {
            check_ticket(state, coupon_id, ticket_id, *friend_number, TicketStatus::Redeemed)
        }
        Event::CouponClosed { coupon_id, .. } => check_open(state, coupon_id),
    }
}

fn check_digest(imported: &ImportedEvent) -> Result<(), String> {
    let Some((digest, audience)) = imported.audience_digest.zip(imported.event.audience()) else { return Ok(()) };
    require(digest == audience_digest(&audience.members), || "its audience has another digest than its members".into())
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn is(state: &impl Load, number: u32, statuses: &[FriendStatus]) -> Result<(), String> {
    match state.friend(number).map(|friend| friend.status) {
        None => Err(format!("there is no friend {number}")),
        Some(status) if statuses.contains(&status) => Ok(()),
        Some(FriendStatus::Friend) => Err(format!("friend {number} is a friend")),
        Some(FriendStatus::Blocked) => Err(format!("friend {number} is blocked")),
        Some(FriendStatus::Removed) => Err(format!("friend {number} is removed")),
    }
}

fn is_present(state: &impl Load, number: u32) -> Result<(), String> {
    is(state, number, &[FriendStatus::Friend, FriendStatus::Blocked])
}

fn check_audience(state: &impl Load, revision: u64, audience: &FrozenAudience) -> Result<(), String> {
    require(!audience.members.is_empty(), || "its audience is empty".into())?;
    let as_of = audience.as_of_revision;
    require(as_of == revision, || format!("its audience was drawn at revision {as_of}, not {revision}"))?;
    check_friends(state, &audience.members)
}

fn check_friends(state: &impl Load, members: &RoaringBitmap) -> Result<(), String> {
    // One by one while that is cheaper than a bitmap of everybody.
    if members.len() <= 64 {
        return members.iter().try_for_each(|number| is(state, number, &[FriendStatus::Friend]));
    }
    let strangers = members - state.select(&Selector::of(Statuses::FRIENDS));
    match strangers.min() {
        None => Ok(()),
        Some(number) => is(state, number, &[FriendStatus::Friend]),
    }
}

fn check_open(state: &impl Load, coupon_id: &str) -> Result<(), String> {
    let coupon = state.coupon(coupon_id).ok_or_else(|| format!("there is no coupon {coupon_id}"))?;
    require(!coupon.closed, || format!("coupon {coupon_id} is closed"))
}

fn check_issue(state: &impl Load, coupon_id: &str, members: &RoaringBitmap) -> Result<(), String> {
    check_open(state, coupon_id)?;
    check_friends(state, members)?;
    let Some(coupon) = state.coupon(coupon_id) else { return Ok(()) };
    let remaining = coupon.remaining();
    require(members.len() <= remaining, || format!("coupon {coupon_id} may issue {remaining} more"))?;
    if coupon.per_friend_limit == 0 {
        return Ok(());
    }
    let full = state.held_by(coupon_id, members).at_least(coupon.per_friend_limit);
    match full.min() {
        None => Ok(()),
        Some(number) => Err(format!("friend {number} has as many tickets of coupon {coupon_id} as one may")),
    }
}

fn check_ticket(
    state: &impl Load,
    coupon_id: &str,
    ticket_id: &str,
    friend_number: u32,
    status: TicketStatus,
) -> Result<(), String> {
    let ticket = state.ticket(ticket_id).ok_or_else(|| format!("there is no ticket {ticket_id}"))?;
    let same = *ticket.coupon_id == *coupon_id && ticket.place.friend_number == friend_number;
    require(same, || format!("ticket {ticket_id} is of another coupon or friend"))?;
    require(ticket.status == status, || format!("ticket {ticket_id} is not as it would have to be"))
}
