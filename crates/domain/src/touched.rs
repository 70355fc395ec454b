//! Which rows an event changes, for whoever keeps them elsewhere too.

use crate::{Event, TicketPlace};

/// The rows of a channel that one event changed. The channel's own row always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched<'a> {
    /// [`crate::Channel::friend_row`].
    pub friend: Option<u32>,
    /// [`crate::Channel::coupon_row`].
    pub coupon: Option<&'a str>,
    /// [`crate::Channel::ticket_row`].
    pub ticket: Option<&'a str>,
    /// [`crate::Channel::batch_row`]: the revision.
    pub batch: Option<u64>,
    /// Where the ticket was put, if this event issued it.
    pub issued: Option<TicketPlace>,
}

/// The rows that the event of this revision changes.
pub fn touched(event: &Event, revision: u64) -> Touched<'_> {
    match event {
        Event::ChannelOpened { .. }
        | Event::ChannelRenamed { .. }
        | Event::ChannelSuspended { .. }
        | Event::ChannelResumed
        | Event::ChannelClosed { .. }
        | Event::PushAccepted { .. }
        | Event::NarrowcastAccepted { .. }
        | Event::BroadcastAccepted { .. } => Touched::default(),

        &Event::FriendAdded { friend_number, .. }
        | &Event::FriendBlocked { friend_number }
        | &Event::FriendUnblocked { friend_number }
        | &Event::FriendRemoved { friend_number }
        | &Event::AttributesSet { friend_number, .. }
        | &Event::ConsentGranted { friend_number, .. }
        | &Event::ConsentWithdrawn { friend_number, .. } => {
            Touched { friend: Some(friend_number), ..Touched::default() }
        }

        Event::CouponDefined { coupon_id, .. } | Event::CouponClosed { coupon_id, .. } => {
            Touched { coupon: Some(coupon_id), ..Touched::default() }
        }
        Event::TicketsIssued { coupon_id, .. } => {
            Touched { coupon: Some(coupon_id), batch: Some(revision), ..Touched::default() }
        }
        Event::TicketIssued { coupon_id, ticket_id, friend_number } => Touched {
            coupon: Some(coupon_id),
            ticket: Some(ticket_id),
            issued: Some(TicketPlace { issued_revision: revision, friend_number: *friend_number }),
            ..Touched::default()
        },
        Event::TicketRedeemed { coupon_id, ticket_id, .. }
        | Event::RedemptionReversed { coupon_id, ticket_id, .. }
        | Event::TicketVoided { coupon_id, ticket_id, .. }
        | Event::TicketExpired { coupon_id, ticket_id, .. } => {
            Touched { coupon: Some(coupon_id), ticket: Some(ticket_id), ..Touched::default() }
        }
    }
}
