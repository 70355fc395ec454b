//! Imported facts: as well formed as those that commands make.

use super::{
    Wrong,
    limits::{self, Field},
};
use crate::{Attribute, Event, FrozenAudience, Rule};

pub(super) fn event(event: &Event, at: usize, wrong: &mut Wrong) {
    let field = |name| Field::of_event(at, name);
    match event {
        Event::ChannelOpened { name } | Event::ChannelRenamed { name } => limits::name(name, field("name"), wrong),
        Event::ChannelSuspended { reason } | Event::ChannelClosed { reason } => {
            limits::reason(reason, field("reason"), wrong);
        }
        Event::ChannelResumed => {}

        Event::FriendAdded { user_key, attributes, consents, .. } => {
            limits::user_key(user_key, field("user_key"), wrong);
            ascending_attributes(attributes, field("attributes"), wrong);
            wrong.unless(is_ascending(consents), field("consents"), "must ascend without repetition");
        }
        Event::FriendBlocked { .. }
        | Event::FriendUnblocked { .. }
        | Event::FriendRemoved { .. }
        | Event::ConsentGranted { .. }
        | Event::ConsentWithdrawn { .. } => {}
        Event::AttributesSet { set, cleared, .. } => {
            ascending_attributes(set, field("attributes"), wrong);
            limits::cleared(cleared, set, field("cleared"), wrong);
            wrong.unless(is_ascending(cleared), field("cleared"), "must ascend without repetition");
            wrong.unless(!set.is_empty() || !cleared.is_empty(), field("attributes"), "must not be empty");
        }

        Event::PushAccepted { text, unit_price_won, .. } | Event::BroadcastAccepted { text, unit_price_won, .. } => {
            limits::text(text, field("text"), wrong);
            limits::price(*unit_price_won, field("unit_price_won"), wrong);
        }
        Event::NarrowcastAccepted { rule, text, unit_price_won, .. } => {
            limits::text(text, field("text"), wrong);
            limits::price(*unit_price_won, field("unit_price_won"), wrong);
            recorded_rule(rule.as_ref(), field("rule"), wrong);
        }

        Event::CouponDefined { coupon_id, name, cap, per_friend_limit, window } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            limits::name(name, field("name"), wrong);
            limits::coupon(*cap, *per_friend_limit, window, field(""), wrong);
        }
        Event::TicketsIssued { coupon_id, rule, .. } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            recorded_rule(rule.as_ref(), field("rule"), wrong);
        }
        Event::TicketIssued { coupon_id, ticket_id, .. }
        | Event::TicketRedeemed { coupon_id, ticket_id, .. }
        | Event::TicketExpired { coupon_id, ticket_id, .. } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            limits::ticket_id(ticket_id, field("ticket_id"), wrong);
        }
        Event::RedemptionReversed { coupon_id, ticket_id, reason, .. }
        | Event::TicketVoided { coupon_id, ticket_id, reason, .. } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            limits::ticket_id(ticket_id, field("ticket_id"), wrong);
            limits::reason(reason, field("reason"), wrong);
        }
        Event::CouponClosed { coupon_id, reason } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            limits::reason(reason, field("reason"), wrong);
        }
    }
    if let Some(FrozenAudience { members, .. }) = event.audience() {
        wrong.unless(!members.contains(0), field("audience.members"), "must not hold 0: numbers begin at 1");
    }
}

fn recorded_rule(rule: Option<&Rule>, field: Field, wrong: &mut Wrong) {
    if let Some(rule) = rule {
        super::rule(rule, field, wrong);
    }
}

fn ascending_attributes(attributes: &[Attribute], field: Field, wrong: &mut Wrong) {
    limits::attributes(attributes, field, wrong);
    let ascending = attributes.is_sorted_by(|a, b| a.key < b.key);
    wrong.unless(ascending, field, "must ascend by key");
}

fn is_ascending<T: PartialOrd>(list: &[T]) -> bool {
    list.is_sorted_by(|a, b| a < b)
}
