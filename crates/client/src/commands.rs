//! What to ask for: one function a command, and the conditions that ride in it.
//!
//! Each function takes what is always needed and gives the request of the contract, whose other fields can be set before it
//! is sent. [`Conditions`] adds to any of them what belongs to its context:
//!
//! ```
//! use sillok_client::{commands, commands::Conditions as _, v1};
//!
//! let command = v1::AddFriendRequest { source: v1::FriendSource::Search as i32, ..commands::add_friend("tea-house", "u-1") }
//!     .with_key("row-1")
//!     .by("importer");
//! ```

use std::time::{Duration, SystemTime};

use sillok_wire::v1;

/// Opens a channel: `[a-z0-9-]{1,64}`, and a name for people.
pub fn open_channel(channel_id: impl Into<String>, name: impl Into<String>) -> v1::OpenChannelRequest {
    v1::OpenChannelRequest { context: None, channel_id: channel_id.into(), name: name.into() }
}

/// Gives a channel another name.
pub fn rename_channel(channel_id: impl Into<String>, name: impl Into<String>) -> v1::RenameChannelRequest {
    v1::RenameChannelRequest { context: None, channel_id: channel_id.into(), name: name.into() }
}

/// Stops sends and new coupons.
pub fn suspend_channel(channel_id: impl Into<String>, reason: impl Into<String>) -> v1::SuspendChannelRequest {
    v1::SuspendChannelRequest { context: None, channel_id: channel_id.into(), reason: reason.into() }
}

/// Ends a suspension.
pub fn resume_channel(channel_id: impl Into<String>) -> v1::ResumeChannelRequest {
    v1::ResumeChannelRequest { context: None, channel_id: channel_id.into() }
}

/// Closes a channel for ever.
pub fn close_channel(channel_id: impl Into<String>, reason: impl Into<String>) -> v1::CloseChannelRequest {
    v1::CloseChannelRequest { context: None, channel_id: channel_id.into(), reason: reason.into() }
}

/// Adds a friend without source, attributes or consents; set those on the request.
pub fn add_friend(channel_id: impl Into<String>, user_key: impl Into<String>) -> v1::AddFriendRequest {
    v1::AddFriendRequest { channel_id: channel_id.into(), user_key: user_key.into(), ..Default::default() }
}

/// A friend blocks the channel.
pub fn block_friend(channel_id: impl Into<String>, user_key: impl Into<String>) -> v1::BlockFriendRequest {
    v1::BlockFriendRequest { context: None, channel_id: channel_id.into(), user_key: user_key.into() }
}

/// A friend takes the block back.
pub fn unblock_friend(channel_id: impl Into<String>, user_key: impl Into<String>) -> v1::UnblockFriendRequest {
    v1::UnblockFriendRequest { context: None, channel_id: channel_id.into(), user_key: user_key.into() }
}

/// Removes a friend, blocked or not.
pub fn remove_friend(channel_id: impl Into<String>, user_key: impl Into<String>) -> v1::RemoveFriendRequest {
    v1::RemoveFriendRequest { context: None, channel_id: channel_id.into(), user_key: user_key.into() }
}

/// Sets and clears attributes of a friend.
pub fn set_attributes<K: Into<String>, V: Into<String>>(
    channel_id: impl Into<String>,
    user_key: impl Into<String>,
    set: impl IntoIterator<Item = (K, V)>,
    clear: impl IntoIterator<Item = K>,
) -> v1::SetAttributesRequest {
    v1::SetAttributesRequest {
        context: None,
        channel_id: channel_id.into(),
        user_key: user_key.into(),
        set: attributes(set),
        clear: clear.into_iter().map(Into::into).collect(),
    }
}

/// A friend agrees to something.
pub fn grant_consent(
    channel_id: impl Into<String>,
    user_key: impl Into<String>,
    consent: v1::Consent,
) -> v1::GrantConsentRequest {
    v1::GrantConsentRequest {
        context: None,
        channel_id: channel_id.into(),
        user_key: user_key.into(),
        consent: consent as i32,
    }
}

/// A friend agrees no longer.
pub fn withdraw_consent(
    channel_id: impl Into<String>,
    user_key: impl Into<String>,
    consent: v1::Consent,
) -> v1::WithdrawConsentRequest {
    v1::WithdrawConsentRequest {
        context: None,
        channel_id: channel_id.into(),
        user_key: user_key.into(),
        consent: consent as i32,
    }
}

/// Sends to one friend.
pub fn send_push(
    channel_id: impl Into<String>,
    user_key: impl Into<String>,
    body: v1::MessageBody,
) -> v1::SendPushRequest {
    v1::SendPushRequest { context: None, channel_id: channel_id.into(), user_key: user_key.into(), body: Some(body) }
}

/// Sends to those for whom a rule holds, or to a given list.
pub fn send_narrowcast(
    channel_id: impl Into<String>,
    audience: v1::Audience,
    body: v1::MessageBody,
) -> v1::SendNarrowcastRequest {
    v1::SendNarrowcastRequest {
        context: None,
        channel_id: channel_id.into(),
        audience: Some(audience),
        body: Some(body),
    }
}

/// Sends to every friend.
pub fn send_broadcast(channel_id: impl Into<String>, body: v1::MessageBody) -> v1::SendBroadcastRequest {
    v1::SendBroadcastRequest { context: None, channel_id: channel_id.into(), body: Some(body) }
}

/// Defines a coupon of at most `cap` tickets, without a limit a friend and without a window; set those on the request. An
/// empty id is made by the leader.
pub fn define_coupon(
    channel_id: impl Into<String>,
    coupon_id: impl Into<String>,
    name: impl Into<String>,
    cap: u64,
) -> v1::DefineCouponRequest {
    v1::DefineCouponRequest {
        channel_id: channel_id.into(),
        coupon_id: coupon_id.into(),
        name: name.into(),
        cap,
        ..Default::default()
    }
}

/// Issues one ticket to one friend; the leader makes its id unless the request is given one.
pub fn issue_ticket(
    channel_id: impl Into<String>,
    coupon_id: impl Into<String>,
    user_key: impl Into<String>,
) -> v1::IssueTicketRequest {
    v1::IssueTicketRequest {
        channel_id: channel_id.into(),
        coupon_id: coupon_id.into(),
        user_key: user_key.into(),
        ..Default::default()
    }
}

/// Issues one ticket to each friend of an audience.
pub fn issue_tickets(
    channel_id: impl Into<String>,
    coupon_id: impl Into<String>,
    audience: v1::Audience,
) -> v1::IssueTicketsRequest {
    v1::IssueTicketsRequest {
        context: None,
        channel_id: channel_id.into(),
        coupon_id: coupon_id.into(),
        audience: Some(audience),
    }
}

/// Redeems a ticket.
pub fn redeem_ticket(channel_id: impl Into<String>, ticket_id: impl Into<String>) -> v1::RedeemTicketRequest {
    v1::RedeemTicketRequest { context: None, channel_id: channel_id.into(), ticket_id: ticket_id.into() }
}

/// Takes a redemption back.
pub fn reverse_redemption(
    channel_id: impl Into<String>,
    ticket_id: impl Into<String>,
    reason: impl Into<String>,
) -> v1::ReverseRedemptionRequest {
    v1::ReverseRedemptionRequest {
        context: None,
        channel_id: channel_id.into(),
        ticket_id: ticket_id.into(),
        reason: reason.into(),
    }
}

/// Makes a ticket void.
pub fn void_ticket(
    channel_id: impl Into<String>,
    ticket_id: impl Into<String>,
    reason: impl Into<String>,
) -> v1::VoidTicketRequest {
    v1::VoidTicketRequest {
        context: None,
        channel_id: channel_id.into(),
        ticket_id: ticket_id.into(),
        reason: reason.into(),
    }
}

/// Expires a ticket whose window is over.
pub fn expire_ticket(channel_id: impl Into<String>, ticket_id: impl Into<String>) -> v1::ExpireTicketRequest {
    v1::ExpireTicketRequest { context: None, channel_id: channel_id.into(), ticket_id: ticket_id.into() }
}

/// Closes a coupon: it issues no more.
pub fn close_coupon(
    channel_id: impl Into<String>,
    coupon_id: impl Into<String>,
    reason: impl Into<String>,
) -> v1::CloseCouponRequest {
    v1::CloseCouponRequest {
        context: None,
        channel_id: channel_id.into(),
        coupon_id: coupon_id.into(),
        reason: reason.into(),
    }
}

/// Writes exported facts, in order; `first_revision` is the channel's revision + 1.
pub fn import_events(
    channel_id: impl Into<String>,
    first_revision: u64,
    events: Vec<v1::ImportedEvent>,
) -> v1::ImportEventsRequest {
    v1::ImportEventsRequest { context: None, channel_id: channel_id.into(), first_revision, events }
}

/// What is sent, and its price in won per recipient.
pub fn body(text: impl Into<String>, unit_price_won: i64) -> v1::MessageBody {
    v1::MessageBody { text: text.into(), is_ad: false, unit_price_won }
}

/// An advertisement: its text must carry "(광고)", and it reaches only friends who agreed to advertisements.
pub fn ad(text: impl Into<String>, unit_price_won: i64) -> v1::MessageBody {
    v1::MessageBody { text: text.into(), is_ad: true, unit_price_won }
}

/// Every friend for whom the rule holds.
pub fn by_rule(rule: v1::Rule) -> v1::Audience {
    v1::Audience { kind: Some(v1::audience::Kind::Rule(rule)) }
}

/// The friends of these keys, at most 10,000.
pub fn by_keys<K: Into<String>>(user_keys: impl IntoIterator<Item = K>) -> v1::Audience {
    let user_keys = user_keys.into_iter().map(Into::into).collect();
    v1::Audience { kind: Some(v1::audience::Kind::UserKeys(v1::UserKeys { user_keys })) }
}

/// Pairs as the contract has them.
pub fn attributes<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<v1::Attribute> {
    pairs.into_iter().map(|(key, value)| v1::Attribute { key: key.into(), value: value.into() }).collect()
}

/// Adds to a command what belongs to its context.
pub trait Conditions: Into<v1::Command> {
    /// With the context changed. On a command of no kind, which has no context, nothing happens.
    fn with_context(self, change: impl FnOnce(&mut v1::CommandContext)) -> v1::Command {
        let mut command = self.into();
        if let Some(context) = command.context_mut() {
            change(context.get_or_insert_default());
        }
        command
    }

    /// With this retry key instead of a fresh one: 1 to 64 printable ASCII.
    fn with_key(self, retry_key: impl Into<String>) -> v1::Command {
        self.with_context(|context| context.retry_key = retry_key.into())
    }

    /// With who asks, instead of the client's actor.
    fn by(self, actor: impl Into<String>) -> v1::Command {
        self.with_context(|context| context.actor = actor.into())
    }

    /// Only if the channel is still at this revision.
    fn at_revision(self, revision: u64) -> v1::Command {
        self.with_context(|context| context.expected_revision = revision)
    }

    /// With the time it happened where the client stands.
    fn occurred_at(self, time: SystemTime) -> v1::Command {
        self.with_context(|context| context.occurred_at = Some(time.into()))
    }

    /// As an import of the past: windows are judged at this time.
    fn backfilled(self, time: SystemTime) -> v1::Command {
        self.with_context(|context| {
            context.occurred_at = Some(time.into());
            context.backfill = true;
        })
    }

    /// Decided and answered, not recorded.
    fn dry_run(self) -> v1::Command {
        self.with_context(|context| context.validate_only = true)
    }

    /// Answered once every site has it, or after so long beyond the quorum (at most 60 s).
    fn at_all_sites(self, wait_at_most: Duration) -> v1::Command {
        self.with_context(|context| {
            context.wait = v1::Wait::AllSites as i32;
            // Durations that do not fit are far beyond the limit, and refused with it.
            context.wait_at_most = Some(wait_at_most.try_into().unwrap_or_default());
        })
    }
}

impl<C: Into<v1::Command>> Conditions for C {}
