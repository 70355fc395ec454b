//! The one place where a command becomes facts, or a refusal.
//!
//! The order of checks is part of what a client sees: the channel first, then the conditions of the command, then what
//! it is about from the outside in.

mod audience;
mod coupon;
mod friend;
mod import;
mod message;

use crate::{ChannelStatus, Command, Event, Intent, Load, Reason, Refusal, Summary, UnixNanos};

/// What happens if this command is accepted now, upon this state. The command is valid ([`crate::validate`]).
///
/// # Errors
/// The refusal, which is recorded like an event.
pub fn decide(state: &impl Load, command: &Command, accepted_at: UnixNanos) -> Result<Vec<Event>, Refusal> {
    let Some(summary) = state.summary() else {
        return unopened(state, command, accepted_at);
    };
    if summary.status == ChannelStatus::Closed {
        let message = format!("channel {} is closed for ever and accepts nothing", command.channel_id);
        return Err(Refusal::new(Reason::ChannelClosed, message));
    }
    if let Intent::OpenChannel { .. } = command.intent {
        let message = format!("channel {} is open already", command.channel_id);
        return Err(Refusal::new(Reason::ChannelAlreadyOpen, message).with("revision", summary.revision));
    }
    check_conditions(command, summary.revision, accepted_at)?;
    check_suspended(&command.intent, summary)?;

    let now = judged_at(command, accepted_at);
    let event = match &command.intent {
        // Answered above.
        Intent::OpenChannel { .. } => return Ok(Vec::new()),
        Intent::RenameChannel { name } => Event::ChannelRenamed { name: name.clone() },
        Intent::SuspendChannel { reason } => Event::ChannelSuspended { reason: reason.clone() },
        Intent::ResumeChannel => Event::ChannelResumed,
        Intent::CloseChannel { reason } => Event::ChannelClosed { reason: reason.clone() },

        Intent::AddFriend { user_key, source, attributes, consents } => {
            friend::add(state, summary, user_key, *source, attributes, consents)?
        }
        Intent::BlockFriend { user_key } => friend::block(state, user_key)?,
        Intent::UnblockFriend { user_key } => friend::unblock(state, user_key)?,
        Intent::RemoveFriend { user_key } => friend::remove(state, user_key)?,
        Intent::SetAttributes { user_key, set, clear } => friend::set_attributes(state, user_key, set, clear)?,
        Intent::GrantConsent { user_key, consent } => friend::consent(state, user_key, *consent, true)?,
        Intent::WithdrawConsent { user_key, consent } => friend::consent(state, user_key, *consent, false)?,

        Intent::SendPush { user_key, body } => message::push(state, user_key, body)?,
        Intent::SendNarrowcast { audience, body } => message::narrowcast(state, summary, audience, body)?,
        Intent::SendBroadcast { body } => message::broadcast(state, summary, body)?,

        Intent::DefineCoupon { coupon_id, name, cap, per_friend_limit, window } => {
            coupon::define(state, summary, coupon_id, name, *cap, *per_friend_limit, *window)?
        }
        Intent::IssueTicket { coupon_id, user_key, ticket_id } => {
            coupon::issue(state, summary, now, coupon_id, user_key, ticket_id)?
        }
        Intent::IssueTickets { coupon_id, audience } => {
            coupon::issue_to_audience(state, summary, now, coupon_id, audience)?
        }
        Intent::RedeemTicket { ticket_id } => coupon::redeem(state, now, ticket_id)?,
        Intent::ReverseRedemption { ticket_id, reason } => coupon::reverse(state, ticket_id, reason)?,
        Intent::VoidTicket { ticket_id, reason } => coupon::void(state, ticket_id, reason)?,
        Intent::ExpireTicket { ticket_id } => coupon::expire(state, now, ticket_id)?,
        Intent::CloseCoupon { coupon_id, reason } => coupon::close(state, coupon_id, reason)?,

        Intent::ImportEvents { first_revision, events } => {
            return import::import(state, summary.revision, *first_revision, events, accepted_at);
        }
    };
    Ok(vec![event])
}

/// A channel that does not exist takes its opening, and an import that begins with it.
fn unopened(state: &impl Load, command: &Command, accepted_at: UnixNanos) -> Result<Vec<Event>, Refusal> {
    match &command.intent {
        Intent::OpenChannel { name } => {
            check_conditions(command, 0, accepted_at)?;
            Ok(vec![Event::ChannelOpened { name: name.clone() }])
        }
        Intent::ImportEvents { first_revision: 1, events } => {
            check_conditions(command, 0, accepted_at)?;
            import::import(state, 0, 1, events, accepted_at)
        }
        _ => {
            let message = format!("there is no channel {}; open it first", command.channel_id);
            Err(Refusal::new(Reason::ChannelNotFound, message))
        }
    }
}

fn check_conditions(command: &Command, revision: u64, accepted_at: UnixNanos) -> Result<(), Refusal> {
    let context = &command.context;
    if let Some(expected) = context.expected_revision.filter(|expected| *expected != revision) {
        let message = format!(
            "channel {} is at revision {revision}, not {expected}; read it again and decide anew",
            command.channel_id
        );
        let refusal = Refusal::new(Reason::RevisionMismatch, message);
        return Err(refusal.with("actual", revision).with("expected", expected));
    }
    if context.backfill && context.occurred_at.is_some_and(|occurred_at| occurred_at > accepted_at) {
        let message = "a backfill is of the past, and occurred_at is later than now";
        let refusal = Refusal::new(Reason::OccurredInFuture, message);
        return Err(refusal.with("accepted_at_unix_nanos", accepted_at));
    }
    Ok(())
}

fn check_suspended(intent: &Intent, summary: &Summary) -> Result<(), Refusal> {
    let suspended = summary.status == ChannelStatus::Suspended;
    match intent {
        Intent::SuspendChannel { .. }
        | Intent::SendPush { .. }
        | Intent::SendNarrowcast { .. }
        | Intent::SendBroadcast { .. }
        | Intent::DefineCoupon { .. }
        | Intent::IssueTicket { .. }
        | Intent::IssueTickets { .. }
            if suspended =>
        {
            let message = "the channel is suspended: sends, new coupons and new tickets wait until it is resumed";
            Err(Refusal::new(Reason::ChannelSuspended, message))
        }
        Intent::ResumeChannel if !suspended => {
            Err(Refusal::new(Reason::ChannelNotSuspended, "the channel is not suspended"))
        }
        _ => Ok(()),
    }
}

/// The time at which windows are judged.
fn judged_at(command: &Command, accepted_at: UnixNanos) -> UnixNanos {
    match command.context.occurred_at {
        Some(occurred_at) if command.context.backfill => occurred_at,
        _ => accepted_at,
    }
}
