//! What the answer to an accepted command says of what it made.

use crate::Event;

/// What a command made, beyond revision and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail<'a> {
    /// Nothing of its own: the channel itself changed.
    None,
    /// One friend.
    Friend {
        /// Of the friend.
        number: u32,
    },
    /// A message.
    Send {
        /// The message's id: the revision of its event.
        message_id: u64,
        /// Friends in the frozen audience.
        audience_count: u64,
        /// Left out of an advertisement for want of consent.
        excluded_without_consent: u64,
        /// Left out because they blocked the channel.
        excluded_blocked: u64,
        /// Won per recipient.
        unit_price_won: i64,
        /// `audience_count` × `unit_price_won`.
        cost_won: i64,
    },
    /// A coupon.
    Coupon {
        /// The client's, or made by the leader.
        id: &'a str,
    },
    /// One ticket or many.
    Ticket {
        /// What they are tickets of.
        coupon_id: &'a str,
        /// Of the one ticket; empty where many were issued at once.
        ticket_id: &'a str,
        /// Tickets issued by this command.
        issued_count: u64,
        /// Left out of an issue to an audience: already at the limit.
        excluded_at_limit: u64,
    },
    /// Facts from another channel.
    Import {
        /// How many.
        count: u64,
    },
}

/// What the answer says: a pure function of what is recorded, so that a retry years later says the same. `is_import`
/// tells whether the command was an import (its events do not show it).
pub fn detail(is_import: bool, first_revision: u64, events: &[Event]) -> Detail<'_> {
    if is_import {
        return Detail::Import { count: events.len() as u64 };
    }
    let Some(last) = events.last() else { return Detail::None };
    let message_id = first_revision + (events.len() as u64 - 1);
    let send = |audience_count: u64, excluded: (u64, u64), unit_price_won: i64| Detail::Send {
        message_id,
        audience_count,
        excluded_without_consent: excluded.0,
        excluded_blocked: excluded.1,
        unit_price_won,
        // At most 2^32 friends at 10,000 won: far from full.
        cost_won: i64::try_from(audience_count).unwrap_or(i64::MAX).saturating_mul(unit_price_won),
    };
    match last {
        Event::ChannelOpened { .. }
        | Event::ChannelRenamed { .. }
        | Event::ChannelSuspended { .. }
        | Event::ChannelResumed
        | Event::ChannelClosed { .. } => Detail::None,

        &Event::FriendAdded { friend_number: number, .. }
        | &Event::FriendBlocked { friend_number: number }
        | &Event::FriendUnblocked { friend_number: number }
        | &Event::FriendRemoved { friend_number: number }
        | &Event::AttributesSet { friend_number: number, .. }
        | &Event::ConsentGranted { friend_number: number, .. }
        | &Event::ConsentWithdrawn { friend_number: number, .. } => Detail::Friend { number },

        Event::PushAccepted { unit_price_won, .. } => send(1, (0, 0), *unit_price_won),
        Event::NarrowcastAccepted { audience, unit_price_won, .. }
        | Event::BroadcastAccepted { audience, unit_price_won, .. } => send(
            audience.members.len(),
            (audience.excluded_without_consent, audience.excluded_blocked),
            *unit_price_won,
        ),

        Event::CouponDefined { coupon_id, .. } | Event::CouponClosed { coupon_id, .. } => {
            Detail::Coupon { id: coupon_id }
        }
        Event::TicketIssued { coupon_id, ticket_id, .. } => {
            Detail::Ticket { coupon_id, ticket_id, issued_count: 1, excluded_at_limit: 0 }
        }
        Event::TicketsIssued { coupon_id, audience, excluded_at_limit, .. } => Detail::Ticket {
            coupon_id,
            ticket_id: "",
            issued_count: audience.members.len(),
            excluded_at_limit: *excluded_at_limit,
        },
        Event::TicketRedeemed { coupon_id, ticket_id, .. }
        | Event::RedemptionReversed { coupon_id, ticket_id, .. }
        | Event::TicketVoided { coupon_id, ticket_id, .. }
        | Event::TicketExpired { coupon_id, ticket_id, .. } => {
            Detail::Ticket { coupon_id, ticket_id, issued_count: 0, excluded_at_limit: 0 }
        }
    }
}
