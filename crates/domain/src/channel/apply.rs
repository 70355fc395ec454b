//! Folding: pure, total, in the order of the log.

use super::Channel;
use crate::{
    Attribute, ChannelStatus, Consent, CouponState, Event, FriendState, FriendStatus, Redemption, Summary, TicketPlace,
    TicketStatus, UnixNanos,
};

impl Channel {
    /// Folds one event. Total: an event that this state makes impossible changes nothing but the revision.
    ///
    /// `occurred_at` is the client's own time; what happened is dated with it where it is there.
    pub fn apply(&mut self, revision: u64, accepted_at: UnixNanos, occurred_at: Option<UnixNanos>, event: &Event) {
        let at = occurred_at.unwrap_or(accepted_at);
        let Some(summary) = &mut self.summary else {
            self.summary = opened(revision, at, event);
            return;
        };
        apply_to_summary(summary, revision, event);
        match event {
            Event::ChannelOpened { .. }
            | Event::ChannelRenamed { .. }
            | Event::ChannelSuspended { .. }
            | Event::ChannelResumed
            | Event::ChannelClosed { .. }
            | Event::PushAccepted { .. }
            | Event::NarrowcastAccepted { .. }
            | Event::BroadcastAccepted { .. } => {}

            Event::FriendAdded { friend_number, user_key, source, attributes, consents } => {
                let state = FriendState {
                    status: FriendStatus::Friend,
                    consents: consents.iter().copied().collect(),
                    source: *source,
                    added_revision: revision,
                    added_at: at,
                };
                self.friends.add(*friend_number, user_key, state, pairs(attributes));
                summary.next_friend_number = self.friends.count() + 1;
            }
            Event::FriendBlocked { friend_number } => self.friends.set_status(*friend_number, FriendStatus::Blocked),
            Event::FriendUnblocked { friend_number } => self.friends.set_status(*friend_number, FriendStatus::Friend),
            Event::FriendRemoved { friend_number } => self.friends.set_status(*friend_number, FriendStatus::Removed),
            Event::AttributesSet { friend_number, set, cleared } => {
                self.friends.change_attributes(*friend_number, cleared, pairs(set));
            }
            Event::ConsentGranted { friend_number, consent } => self.consent(*friend_number, *consent, true),
            Event::ConsentWithdrawn { friend_number, consent } => self.consent(*friend_number, *consent, false),

            Event::CouponDefined { coupon_id, name, .. } => {
                if let Some(state) = defined(revision, event) {
                    self.coupons.define(coupon_id, name, state);
                }
            }
            Event::CouponClosed { coupon_id, .. } => self.coupons.close(coupon_id),
            Event::TicketIssued { coupon_id, ticket_id, friend_number } => {
                let place = TicketPlace { issued_revision: revision, friend_number: *friend_number };
                self.coupons.issue(coupon_id, ticket_id, place);
            }
            Event::TicketsIssued { coupon_id, audience, .. } => {
                self.coupons.issue_batch(coupon_id, revision, audience.members.clone());
            }
            Event::TicketRedeemed { ticket_id, .. }
            | Event::RedemptionReversed { ticket_id, .. }
            | Event::TicketVoided { ticket_id, .. }
            | Event::TicketExpired { ticket_id, .. } => {
                if let Some((status, redemption)) = turned(revision, at, event) {
                    self.coupons.turn(ticket_id, status, redemption);
                }
            }
        }
    }

    fn consent(&mut self, number: u32, consent: Consent, held: bool) {
        self.friends.set_consent(number, consent, held);
    }
}

pub(crate) fn pairs(attributes: &[Attribute]) -> impl Iterator<Item = (&str, &str)> + Clone {
    attributes.iter().map(|attribute| (&*attribute.key, &*attribute.value))
}

/// What the opening makes; `None` for any other event.
pub(crate) fn opened(revision: u64, at: UnixNanos, event: &Event) -> Option<Summary> {
    let Event::ChannelOpened { name } = event else { return None };
    let (status, name) = (ChannelStatus::Open, name.as_str().into());
    Some(Summary { status, name, revision, next_friend_number: 1, opened_at: at })
}

/// What an event does to the channel itself; the number of the next friend left out.
pub(crate) fn apply_to_summary(summary: &mut Summary, revision: u64, event: &Event) {
    summary.revision = revision;
    match event {
        Event::ChannelRenamed { name } => summary.name = name.as_str().into(),
        Event::ChannelSuspended { .. } => summary.status = ChannelStatus::Suspended,
        Event::ChannelResumed => summary.status = ChannelStatus::Open,
        Event::ChannelClosed { .. } => summary.status = ChannelStatus::Closed,
        _ => {}
    }
}

/// What a definition makes; `None` for any other event.
pub(crate) fn defined(revision: u64, event: &Event) -> Option<CouponState> {
    let Event::CouponDefined { cap, per_friend_limit, window, .. } = event else { return None };
    Some(CouponState {
        cap: *cap,
        per_friend_limit: *per_friend_limit,
        window: *window,
        closed: false,
        issued: 0,
        redeemed: 0,
        voided: 0,
        expired: 0,
        defined_revision: revision,
    })
}

/// What becomes of a ticket; `None` for events that turn none.
pub(crate) fn turned(revision: u64, at: UnixNanos, event: &Event) -> Option<(TicketStatus, Option<Redemption>)> {
    match event {
        Event::TicketRedeemed { .. } => Some((TicketStatus::Redeemed, Some(Redemption { revision, at }))),
        Event::RedemptionReversed { .. } => Some((TicketStatus::Issued, None)),
        Event::TicketVoided { .. } => Some((TicketStatus::Voided, None)),
        Event::TicketExpired { .. } => Some((TicketStatus::Expired, None)),
        _ => None,
    }
}
