//! What can be said of a command without any state: malformed ones are answered and never recorded.

mod event;
mod limits;

use std::fmt;

use self::limits::Field;
pub use self::limits::{
    IMPORTED_AUDIENCE_LIMIT, IMPORTED_EVENTS_LIMIT, TEXT_BYTES_LIMIT, TEXT_SCALARS_LIMIT, USER_KEYS_LIMIT,
};
use crate::{Audience, Command, Intent, MessageBody, Rule};

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, as in the request message of the contract.
    pub field: String,
    /// What is wrong about it.
    pub description: String,
}

/// Checks what needs no state.
///
/// # Errors
/// Every violation found.
pub fn validate(command: &Command) -> Result<(), Vec<FieldViolation>> {
    let mut wrong = Wrong::default();
    context(command, &mut wrong);
    intent(&command.intent, &mut wrong);
    if wrong.0.is_empty() { Ok(()) } else { Err(wrong.0) }
}

/// The same for a rule that a reader asks with.
///
/// # Errors
/// Every violation found; `field` is the path of the rule.
pub fn validate_rule(of: &Rule, field: &'static str) -> Result<(), Vec<FieldViolation>> {
    let mut wrong = Wrong::default();
    rule(of, Field::new(field), &mut wrong);
    if wrong.0.is_empty() { Ok(()) } else { Err(wrong.0) }
}

/// What is wrong so far. A command that is well formed allocates nothing here.
#[derive(Default)]
struct Wrong(Vec<FieldViolation>);

impl Wrong {
    fn add(&mut self, field: impl fmt::Display, description: impl Into<String>) {
        self.0.push(FieldViolation { field: field.to_string(), description: description.into() });
    }

    fn unless(&mut self, holds: bool, field: impl fmt::Display, description: &str) {
        if !holds {
            self.add(field, description);
        }
    }
}

fn context(command: &Command, wrong: &mut Wrong) {
    let context = &command.context;
    limits::channel_id(&command.channel_id, Field::new("channel_id"), wrong);
    limits::printable(&context.retry_key, 1, 64, Field::new("context.retry_key"), wrong);
    limits::printable(&context.actor, 0, 128, Field::new("context.actor"), wrong);
    let dated = !context.backfill || context.occurred_at.is_some();
    wrong.unless(dated, "context.occurred_at", "must be set with backfill");
}

fn intent(intent: &Intent, wrong: &mut Wrong) {
    let field = Field::new;
    match intent {
        Intent::OpenChannel { name } | Intent::RenameChannel { name } => limits::name(name, field("name"), wrong),
        Intent::SuspendChannel { reason } | Intent::CloseChannel { reason } => {
            limits::reason(reason, field("reason"), wrong);
        }
        Intent::ResumeChannel => {}

        Intent::AddFriend { user_key, attributes, .. } => {
            limits::user_key(user_key, field("user_key"), wrong);
            limits::attributes(attributes, field("attributes"), wrong);
        }
        Intent::BlockFriend { user_key }
        | Intent::UnblockFriend { user_key }
        | Intent::RemoveFriend { user_key }
        | Intent::GrantConsent { user_key, .. }
        | Intent::WithdrawConsent { user_key, .. } => limits::user_key(user_key, field("user_key"), wrong),
        Intent::SetAttributes { user_key, set, clear } => {
            limits::user_key(user_key, field("user_key"), wrong);
            limits::attributes(set, field("set"), wrong);
            limits::cleared(clear, set, field("clear"), wrong);
            wrong.unless(!set.is_empty() || !clear.is_empty(), "set", "must set or clear at least one attribute");
        }

        Intent::SendPush { user_key, body } => {
            limits::user_key(user_key, field("user_key"), wrong);
            message(body, wrong);
        }
        Intent::SendNarrowcast { audience: to, body } => {
            audience(to, wrong);
            message(body, wrong);
        }
        Intent::SendBroadcast { body } => message(body, wrong),

        Intent::DefineCoupon { coupon_id, name, cap, per_friend_limit, window } => {
            if !coupon_id.is_empty() {
                limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            }
            limits::name(name, field("name"), wrong);
            limits::coupon(*cap, *per_friend_limit, window, field(""), wrong);
        }
        Intent::IssueTicket { coupon_id, user_key, ticket_id } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            limits::user_key(user_key, field("user_key"), wrong);
            if !ticket_id.is_empty() {
                limits::own_ticket_id(ticket_id, field("ticket_id"), wrong);
            }
        }
        Intent::IssueTickets { coupon_id, audience: to } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            audience(to, wrong);
        }
        Intent::RedeemTicket { ticket_id } | Intent::ExpireTicket { ticket_id } => {
            limits::ticket_id(ticket_id, field("ticket_id"), wrong);
        }
        Intent::ReverseRedemption { ticket_id, reason } | Intent::VoidTicket { ticket_id, reason } => {
            limits::ticket_id(ticket_id, field("ticket_id"), wrong);
            limits::reason(reason, field("reason"), wrong);
        }
        Intent::CloseCoupon { coupon_id, reason } => {
            limits::coupon_id(coupon_id, field("coupon_id"), wrong);
            limits::reason(reason, field("reason"), wrong);
        }

        Intent::ImportEvents { first_revision, events } => {
            wrong.unless(*first_revision >= 1, "first_revision", "must be at least 1");
            let fits = (1..=IMPORTED_EVENTS_LIMIT).contains(&events.len());
            wrong.unless(fits, "events", "must be 1 to 1,000");
            let mut members = 0_u64;
            for (at, imported) in events.iter().enumerate().take(IMPORTED_EVENTS_LIMIT) {
                // Counted by container, not by member.
                let before = members;
                members =
                    members.saturating_add(imported.event.audience().map_or(0, |audience| audience.members.len()));
                let is_first_over = before <= IMPORTED_AUDIENCE_LIMIT && members > IMPORTED_AUDIENCE_LIMIT;
                wrong.unless(
                    !is_first_over,
                    format_args!("events[{at}].payload.audience.members"),
                    "must be, together with those before it, at most 50,000,000; import in smaller pieces",
                );
                event::event(&imported.event, at, wrong);
                let dated = !imported.backfill || imported.occurred_at.is_some();
                wrong.unless(dated, format_args!("events[{at}].occurred_at"), "must be set with backfill");
            }
        }
    }
}

fn message(body: &MessageBody, wrong: &mut Wrong) {
    limits::text(&body.text, Field::new("body.text"), wrong);
    limits::price(body.unit_price_won, Field::new("body.unit_price_won"), wrong);
}

fn audience(audience: &Audience, wrong: &mut Wrong) {
    match audience {
        Audience::Rule(of) => rule(of, Field::new("audience.rule"), wrong),
        Audience::UserKeys(keys) => {
            let field = Field::new("audience.user_keys.user_keys");
            wrong.unless(keys.len() <= USER_KEYS_LIMIT, field, "must be at most 10,000; for more use a rule");
            for (at, key) in keys.iter().enumerate().take(USER_KEYS_LIMIT) {
                limits::user_key(key, field.at(at), wrong);
            }
        }
    }
}

fn rule(rule: &Rule, field: Field, wrong: &mut Wrong) {
    wrong.unless(rule.all_of.len() <= 16, format_args!("{field}.all_of"), "must be at most 16 conditions");
    for (at, condition) in rule.all_of.iter().enumerate().take(16) {
        if !limits::is_attribute_key(&condition.key) {
            wrong.add(format_args!("{field}.all_of[{at}].key"), limits::ATTRIBUTE_KEY);
        }
        let values = &condition.any_of;
        let fits = (1..=100).contains(&values.len()) && values.iter().all(|value| limits::is_attribute_value(value));
        wrong.unless(
            fits,
            format_args!("{field}.all_of[{at}].any_of"),
            "must be 1 to 100 values of 1 to 64 characters",
        );
    }
}
