//! What happened.

use roaring::RoaringBitmap;

use crate::{Attribute, Consent, FriendSource, TimeWindow, command::Rule};

/// One fact of one channel. Mirrors `sillok.v1.Payload`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Event {
    ChannelOpened {
        name: String,
    },
    ChannelRenamed {
        name: String,
    },
    ChannelSuspended {
        reason: String,
    },
    ChannelResumed,
    ChannelClosed {
        reason: String,
    },

    FriendAdded {
        friend_number: u32,
        user_key: String,
        source: FriendSource,
        /// Ascending by key; they replace what an earlier friendship left.
        attributes: Vec<Attribute>,
        /// Ascending; likewise.
        consents: Vec<Consent>,
    },
    FriendBlocked {
        friend_number: u32,
    },
    FriendUnblocked {
        friend_number: u32,
    },
    FriendRemoved {
        friend_number: u32,
    },
    AttributesSet {
        friend_number: u32,
        set: Vec<Attribute>,
        cleared: Vec<String>,
    },
    ConsentGranted {
        friend_number: u32,
        consent: Consent,
    },
    ConsentWithdrawn {
        friend_number: u32,
        consent: Consent,
    },

    PushAccepted {
        friend_number: u32,
        text: String,
        is_ad: bool,
        unit_price_won: i64,
    },
    NarrowcastAccepted {
        /// `None` for a given list.
        rule: Option<Rule>,
        audience: FrozenAudience,
        text: String,
        is_ad: bool,
        unit_price_won: i64,
    },
    BroadcastAccepted {
        audience: FrozenAudience,
        text: String,
        is_ad: bool,
        unit_price_won: i64,
    },

    CouponDefined {
        coupon_id: String,
        name: String,
        cap: u64,
        per_friend_limit: u32,
        window: TimeWindow,
    },
    TicketIssued {
        coupon_id: String,
        ticket_id: String,
        friend_number: u32,
    },
    /// One ticket `{coupon_id}.{revision}.{friend_number}` for each friend of the audience.
    TicketsIssued {
        coupon_id: String,
        rule: Option<Rule>,
        audience: FrozenAudience,
        excluded_at_limit: u64,
    },
    TicketRedeemed {
        coupon_id: String,
        ticket_id: String,
        friend_number: u32,
    },
    RedemptionReversed {
        coupon_id: String,
        ticket_id: String,
        friend_number: u32,
        reason: String,
    },
    TicketVoided {
        coupon_id: String,
        ticket_id: String,
        friend_number: u32,
        reason: String,
    },
    TicketExpired {
        coupon_id: String,
        ticket_id: String,
        friend_number: u32,
    },
    CouponClosed {
        coupon_id: String,
        reason: String,
    },
}

/// Friends fixed at one position of the log; it never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct FrozenAudience {
    /// Friend numbers.
    pub members: RoaringBitmap,
    /// The channel's revision whose friend list this was drawn from.
    pub as_of_revision: u64,
    /// Left out of an advertisement for want of consent.
    pub excluded_without_consent: u64,
    /// Left out because they blocked the channel.
    pub excluded_blocked: u64,
}

impl Event {
    /// The audience of those that have one.
    pub fn audience(&self) -> Option<&FrozenAudience> {
        match self {
            Event::NarrowcastAccepted { audience, .. }
            | Event::BroadcastAccepted { audience, .. }
            | Event::TicketsIssued { audience, .. } => Some(audience),
            _ => None,
        }
    }
}

/// BLAKE3 of the friend numbers as ascending little-endian `u32`. Walks every member: never call it on what nobody
/// has bounded.
pub fn audience_digest(members: &RoaringBitmap) -> [u8; 32] {
    // 16 KiB at a time: BLAKE3 hashes several chunks of 1 KiB at once, and this stays in the first cache.
    const AT_ONCE: usize = 16 << 10;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(AT_ONCE);
    // One by one: `Iter::next_many` of roaring 0.12.0 overflows at a run that ends a container.
    for number in members {
        bytes.extend_from_slice(&number.to_le_bytes());
        if bytes.len() == AT_ONCE {
            hasher.update(&bytes);
            bytes.clear();
        }
    }
    hasher.update(&bytes);
    *hasher.finalize().as_bytes()
}
