//! What is asked.

use crate::{Attribute, Consent, FriendSource, TimeWindow, UnixNanos, event::Event};

/// One command: who it concerns, under which conditions, and what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// `[a-z0-9-]{1,64}`.
    pub channel_id: String,
    /// The conditions.
    pub context: Context,
    /// What is wanted.
    pub intent: Intent,
}

/// What travels with every command and takes part in its decision or is recorded with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// 1 to 64 printable ASCII; scope (channel, key).
    pub retry_key: String,
    /// Who asks: at most 128 printable ASCII.
    pub actor: String,
    /// The client's own time, where it sent one. Always there with `backfill`.
    pub occurred_at: Option<UnixNanos>,
    /// The channel's revision the client decided upon.
    pub expected_revision: Option<u64>,
    /// Windows are judged at `occurred_at`.
    pub backfill: bool,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Intent {
    OpenChannel {
        name: String,
    },
    RenameChannel {
        name: String,
    },
    SuspendChannel {
        reason: String,
    },
    ResumeChannel,
    CloseChannel {
        reason: String,
    },

    AddFriend {
        user_key: String,
        source: FriendSource,
        attributes: Vec<Attribute>,
        consents: Vec<Consent>,
    },
    BlockFriend {
        user_key: String,
    },
    UnblockFriend {
        user_key: String,
    },
    RemoveFriend {
        user_key: String,
    },
    SetAttributes {
        user_key: String,
        set: Vec<Attribute>,
        clear: Vec<String>,
    },
    GrantConsent {
        user_key: String,
        consent: Consent,
    },
    WithdrawConsent {
        user_key: String,
        consent: Consent,
    },

    SendPush {
        user_key: String,
        body: MessageBody,
    },
    SendNarrowcast {
        audience: Audience,
        body: MessageBody,
    },
    SendBroadcast {
        body: MessageBody,
    },

    /// An empty `coupon_id` is made by the leader.
    DefineCoupon {
        coupon_id: String,
        name: String,
        cap: u64,
        per_friend_limit: u32,
        window: TimeWindow,
    },
    /// An empty `ticket_id` is made by the leader.
    IssueTicket {
        coupon_id: String,
        user_key: String,
        ticket_id: String,
    },
    IssueTickets {
        coupon_id: String,
        audience: Audience,
    },
    RedeemTicket {
        ticket_id: String,
    },
    ReverseRedemption {
        ticket_id: String,
        reason: String,
    },
    VoidTicket {
        ticket_id: String,
        reason: String,
    },
    ExpireTicket {
        ticket_id: String,
    },
    CloseCoupon {
        coupon_id: String,
        reason: String,
    },

    /// Facts of another channel, in order; rules are never evaluated again.
    ImportEvents {
        first_revision: u64,
        events: Vec<ImportedEvent>,
    },
}

/// A fact with the times it carried where it was first recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedEvent {
    /// The fact.
    pub event: Event,
    /// As it was recorded.
    pub occurred_at: Option<UnixNanos>,
    /// As it was recorded.
    pub backfill: bool,
    /// When it was first accepted, where that is told. It decides nothing.
    pub accepted_at: Option<UnixNanos>,
    /// The digest that came with the event's audience. Whether it is that of the members is seen only once every one of
    /// them was found to be a friend: before that a few bytes may claim billions.
    pub audience_digest: Option<[u8; 32]>,
}

impl ImportedEvent {
    /// A fact without times and without a digest to be checked.
    pub fn of(event: Event) -> ImportedEvent {
        ImportedEvent { event, occurred_at: None, backfill: false, accepted_at: None, audience_digest: None }
    }
}

/// Who a send or an issue is for, before it is frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Every friend for whom the rule holds.
    Rule(Rule),
    /// At most 10,000 user keys.
    UserKeys(Vec<String>),
}

/// Friends for whom every condition holds; empty: every friend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// At most 16.
    pub all_of: Vec<Condition>,
}

/// One condition over one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The attribute's key.
    pub key: String,
    /// 1 to 100 values.
    pub any_of: Vec<String>,
    /// Holds where the attribute is absent or has none of the values.
    pub negate: bool,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBody {
    /// At most 2,000 Unicode scalars and 8 KiB, as sent.
    pub text: String,
    /// An advertisement.
    pub is_ad: bool,
    /// 0 to 10,000 won.
    pub unit_price_won: i64,
}
