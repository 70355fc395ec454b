//! What the domain refuses, and why.

/// A definite no, decided on the state at one place of the log; recorded like an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// One of the closed list.
    pub reason: Reason,
    /// What happened and what to do, for a person.
    pub message: String,
    /// Facts for a program, ascending by key.
    pub metadata: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: message.into(), metadata: Vec::new() }
    }

    /// With one more fact for a program.
    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Refusal {
        let at = self.metadata.partition_point(|(other, _)| *other < key);
        self.metadata.insert(at, (key, value.to_string()));
        self
    }
}

/// The closed list of the domain. The numbers are those of `sillok.v1.Reason` and reach the disk: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Reason {
    ChannelNotFound = 1,
    ChannelAlreadyOpen = 2,
    ChannelSuspended = 3,
    ChannelNotSuspended = 4,
    ChannelClosed = 5,
    RevisionMismatch = 6,
    FriendNotFound = 7,
    AlreadyFriend = 8,
    FriendBlocked = 9,
    FriendNotBlocked = 10,
    ConsentMissing = 11,
    ConsentUnchanged = 12,
    TooManyAttributes = 13,
    AudienceEmpty = 14,
    AdLabelMissing = 15,
    CouponNotFound = 16,
    CouponAlreadyDefined = 17,
    CouponClosed = 18,
    CouponCapReached = 19,
    CouponFriendLimitReached = 20,
    CouponWindowNotOpen = 21,
    CouponWindowOver = 22,
    CouponWindowNotOver = 23,
    TicketNotFound = 24,
    TicketAlreadyIssued = 25,
    TicketAlreadyRedeemed = 26,
    TicketNotRedeemed = 27,
    TicketVoided = 28,
    TicketExpired = 29,
    OccurredInFuture = 30,
    ImportOutOfOrder = 31,
    ImportContradictsState = 32,
    FriendLimitReached = 33,
}
