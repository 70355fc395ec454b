//! What may happen and what happened: commands, events, decide, evolve.
//!
//! No I/O, no clock, no async, no serde. Time enters as a value that the leader decided; folding an event cannot fail.
//!
//! ```text
//! command ─► validate ─► decide(Load) ─► events ─► Channel::apply   every node, in the order of the log
//!                          ▲    │           └────► Overlay::apply   the leader, ahead of its own Channel
//!                          │    └─► refusal
//!              Channel, or an Overlay over it
//! ```

mod channel;
pub mod command;
mod decide;
mod detail;
pub mod event;
mod load;
mod overlay;
mod paging;
pub mod refusal;
mod state;
mod ticket_id;
mod touched;
mod validate;

pub use channel::{
    Channel, CountBy, CouponView, FRIENDS_A_PAGE, FriendView, TicketFilter, TicketView,
    held::Held,
    rows::{BatchRow, ChannelRow, CouponRow, FriendRow, RestoreError, TicketRow},
};
pub use command::{Audience, Command, Condition, Context, ImportedEvent, Intent, MessageBody, Rule};
pub use decide::decide;
pub use detail::{Detail, detail};
pub use event::{Event, FrozenAudience, audience_digest};
pub use load::{Load, Selector};
pub use overlay::{Over, Overlay};
pub use paging::{FriendPages, Slot};
pub use refusal::{Reason, Refusal};
pub use state::{
    ChannelStatus, Consents, Counts, CouponState, FriendState, FriendStatus, Redemption, Statuses, Summary,
    TicketPlace, TicketState, TicketStatus,
};
pub use touched::{Touched, touched};
pub use validate::{
    FieldViolation, IMPORTED_AUDIENCE_LIMIT, IMPORTED_EVENTS_LIMIT, TEXT_BYTES_LIMIT, TEXT_SCALARS_LIMIT,
    USER_KEYS_LIMIT, validate, validate_rule,
};

/// Nanoseconds since 1970-01-01T00:00:00Z.
pub type UnixNanos = i64;

/// Attribute keys that every shop knows. They do not count towards [`OWN_ATTRIBUTES_LIMIT`].
pub const WELL_KNOWN_ATTRIBUTES: [&str; 4] = ["age_band", "gender", "grade", "region"];

/// Attributes of its own that a shop may give one friend.
pub const OWN_ATTRIBUTES_LIMIT: usize = 16;

/// Friend numbers of a channel are 1 to this.
pub const FRIEND_LIMIT: u32 = u32::MAX - 1;

/// What the text of an advertisement carries.
pub const AD_LABEL: &str = "(광고)";

/// Key and value of one attribute of a friend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribute {
    /// `[a-z0-9_]{1,32}`; `gender`, `age_band`, `region`, `grade` are well known.
    pub key: String,
    /// 1 to 64 Unicode scalars.
    pub value: String,
}

/// How a friend came to the channel. Append only: numbers reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum FriendSource {
    #[default]
    Unspecified = 0,
    OfflineEvent = 1,
    FriendEvent = 2,
    Ad = 3,
    Search = 4,
    Import = 5,
    Other = 6,
}

/// What a friend agreed to. Append only: numbers reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Consent {
    /// To advertisements.
    Advertising = 1,
    /// To advertisements between 21:00 and 08:00 KST.
    Night = 2,
}

/// Half-open `[from, until)`; an absent end is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeWindow {
    /// First moment inside.
    pub from: Option<UnixNanos>,
    /// First moment outside.
    pub until: Option<UnixNanos>,
}

impl TimeWindow {
    /// At or past its start.
    pub fn has_begun(&self, now: UnixNanos) -> bool {
        self.from.is_none_or(|from| from <= now)
    }

    /// At or past its end.
    pub fn is_over(&self, now: UnixNanos) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests;
