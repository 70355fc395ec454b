//! A channel as rows, for whoever keeps them on a disk, and back.

use roaring::RoaringBitmap;

use crate::{
    Attribute, ChannelStatus, Consents, CouponState, FriendSource, FriendStatus, Redemption, TicketStatus, UnixNanos,
};

/// The channel itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ChannelRow {
    pub status: ChannelStatus,
    pub name: String,
    /// Of the newest event.
    pub revision: u64,
    pub opened_at: UnixNanos,
    /// Friends ever, which is how many friend rows there are.
    pub friend_count: u32,
    /// Coupons ever, which is how many coupon rows there are.
    pub coupon_count: u64,
    /// How many batch rows there are.
    pub batch_count: u64,
    /// How many ticket rows there are.
    pub ticket_row_count: u64,
}

/// One friend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FriendRow {
    pub number: u32,
    pub user_key: String,
    pub status: FriendStatus,
    pub source: FriendSource,
    pub consents: Consents,
    /// Ascending by key.
    pub attributes: Vec<Attribute>,
    pub added_revision: u64,
    pub added_at: UnixNanos,
}

/// One coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CouponRow {
    pub id: String,
    pub name: String,
    pub state: CouponState,
}

/// One ticket that was issued by itself, or one of a batch that is not as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TicketRow {
    pub id: String,
    pub coupon_id: String,
    pub issued_revision: u64,
    pub friend_number: u32,
    pub status: TicketStatus,
    pub redemption: Option<Redemption>,
}

/// One issue to an audience: its tickets, as issued.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct BatchRow {
    /// Of the issue; it orders the batches of a channel.
    pub revision: u64,
    pub coupon_id: String,
    pub members: RoaringBitmap,
}

/// Rows that do not make a channel: they are of different moments, or damaged. The channel under restoration is of no
/// use; fold it from the chronicle again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RestoreError {
    #[error("friend {got} where {expected} is next")]
    FriendOutOfOrder { expected: u32, got: u32 },
    #[error("friend {number} has the key of friend {other}")]
    KeyRepeated { number: u32, other: u32 },
    #[error("coupon {id} comes twice, or another has its revision {revision}")]
    CouponRepeated { id: String, revision: u64 },
    #[error("revision {revision} issued tickets of coupon {coupon_id}, which is missing")]
    CouponMissing { coupon_id: String, revision: u64 },
    #[error("the batch of revision {revision} comes twice")]
    BatchRepeated { revision: u64 },
    #[error("ticket {id} comes twice")]
    TicketRepeated { id: String },
    #[error("{kind}: {got} rows where the channel has {expected}")]
    Incomplete { kind: &'static str, expected: u64, got: u64 },
}
