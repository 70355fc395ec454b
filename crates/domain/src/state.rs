//! Small values that decisions and readers look at.

use std::sync::Arc;

use crate::{Consent, FriendSource, TimeWindow, UnixNanos};

/// Numbers are those of `sillok.v1.ChannelStatus`. Append only: numbers reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChannelStatus {
    /// Takes every command.
    Open = 1,
    /// Refuses sends and new coupons and tickets.
    Suspended = 2,
    /// Takes nothing, for ever.
    Closed = 3,
}

/// Numbers are those of `sillok.v1.FriendStatus`. Append only: numbers reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FriendStatus {
    /// May be sent to.
    Friend = 1,
    /// Keeps the friendship and is sent nothing.
    Blocked = 2,
    /// Was a friend; the number is kept for a return.
    Removed = 3,
}

/// Numbers are those of `sillok.v1.TicketStatus`. Append only: numbers reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TicketStatus {
    /// May be redeemed.
    Issued = 1,
    /// Has its one live redemption.
    Redeemed = 2,
    /// Taken back; final.
    Voided = 3,
    /// Its window is over; final.
    Expired = 4,
}

macro_rules! from_number {
    ($type:ident { $($variant:ident),* }) => {
        impl $type {
            /// The variant of this number; `None` where this version knows none.
            pub fn from_number(number: u8) -> Option<$type> {
                $(if number == $type::$variant as u8 { return Some($type::$variant); })*
                None
            }
        }
    };
}

from_number!(ChannelStatus { Open, Suspended, Closed });
from_number!(FriendStatus { Friend, Blocked, Removed });
from_number!(TicketStatus { Issued, Redeemed, Voided, Expired });
from_number!(Consent { Advertising, Night });
from_number!(FriendSource { Unspecified, OfflineEvent, FriendEvent, Ad, Search, Import, Other });

/// A set of consents; bit `n` is the consent of number `n + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Consents(u8);

impl Consents {
    const ALL: [Consent; 2] = [Consent::Advertising, Consent::Night];

    fn bit(consent: Consent) -> u8 {
        1 << (consent as u8 - 1)
    }

    /// The set of these bits; bits of no known consent are dropped.
    pub fn from_bits(bits: u8) -> Consents {
        Consents(bits & 0b11)
    }

    /// For rows and digests.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether it is held.
    pub fn contains(self, consent: Consent) -> bool {
        self.0 & Consents::bit(consent) != 0
    }

    /// With it, or without it.
    pub fn with(self, consent: Consent, held: bool) -> Consents {
        Consents(if held { self.0 | Consents::bit(consent) } else { self.0 & !Consents::bit(consent) })
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = Consent> {
        Consents::ALL.into_iter().filter(move |consent| self.contains(*consent))
    }
}

impl FromIterator<Consent> for Consents {
    fn from_iter<I: IntoIterator<Item = Consent>>(consents: I) -> Consents {
        consents.into_iter().fold(Consents::default(), |set, consent| set.with(consent, true))
    }
}

/// A set of friend statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Statuses(u8);

impl Statuses {
    /// Friends that may be sent to.
    pub const FRIENDS: Statuses = Statuses(1 << FriendStatus::Friend as u8);
    /// Friends that blocked the channel.
    pub const BLOCKED: Statuses = Statuses(1 << FriendStatus::Blocked as u8);
    /// Those that are not removed.
    pub const PRESENT: Statuses = Statuses(Statuses::FRIENDS.0 | Statuses::BLOCKED.0);
    /// Everybody who ever was a friend.
    pub const ALL: Statuses = Statuses(Statuses::PRESENT.0 | 1 << FriendStatus::Removed as u8);

    /// Whether it is one of them.
    pub fn contains(self, status: FriendStatus) -> bool {
        self.0 & 1 << status as u8 != 0
    }
}

impl FromIterator<FriendStatus> for Statuses {
    fn from_iter<I: IntoIterator<Item = FriendStatus>>(statuses: I) -> Statuses {
        Statuses(statuses.into_iter().fold(0, |set, status| set | 1 << status as u8))
    }
}

/// What every decision asks of a channel that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Where the channel stands.
    pub status: ChannelStatus,
    /// For people.
    pub name: Arc<str>,
    /// Of the newest event; 1 is the opening.
    pub revision: u64,
    /// What the next new friend gets; numbers begin at 1.
    pub next_friend_number: u32,
    /// When the channel was opened.
    pub opened_at: UnixNanos,
}

/// How much a channel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Not blocked, not removed.
    pub friends: u64,
    /// Blocked.
    pub blocked: u64,
    /// Removed and not come back.
    pub removed: u64,
    /// Ever defined.
    pub coupons: u64,
    /// Ever issued.
    pub tickets: u64,
}

/// One friend without key and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FriendState {
    /// Where the friendship stands.
    pub status: FriendStatus,
    /// What the friend agreed to.
    pub consents: Consents,
    /// Of the newest add.
    pub source: FriendSource,
    /// The revision of the newest add.
    pub added_revision: u64,
    /// When the newest add happened: the client's own time where it sent one, else when it was accepted.
    pub added_at: UnixNanos,
}

/// One coupon without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CouponState {
    /// Tickets that may ever be issued.
    pub cap: u64,
    /// Tickets one friend may ever be issued; 0: no limit but the cap.
    pub per_friend_limit: u32,
    /// When a ticket may be redeemed.
    pub window: TimeWindow,
    /// Issues nothing any more.
    pub closed: bool,
    /// Tickets ever issued; voids and expiry do not give back.
    pub issued: u64,
    /// Live redemptions.
    pub redeemed: u64,
    /// Tickets voided.
    pub voided: u64,
    /// Tickets expired.
    pub expired: u64,
    /// The revision that defined it; it orders the coupons of a channel.
    pub defined_revision: u64,
}

impl CouponState {
    /// Tickets that may still be issued.
    pub fn remaining(&self) -> u64 {
        self.cap.saturating_sub(self.issued)
    }
}

/// Where a ticket stands among the tickets of its channel; unique, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketPlace {
    /// The revision that issued it.
    pub issued_revision: u64,
    /// Who holds it.
    pub friend_number: u32,
}

/// The live redemption of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redemption {
    /// The event's.
    pub revision: u64,
    /// The client's own time where it sent one, else when it was accepted.
    pub at: UnixNanos,
}

/// One ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketState {
    /// What it is a ticket of.
    pub coupon_id: Arc<str>,
    /// When it was issued and who holds it.
    pub place: TicketPlace,
    /// What became of it.
    pub status: TicketStatus,
    /// There exactly while `status` is redeemed.
    pub redemption: Option<Redemption>,
}
