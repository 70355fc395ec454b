//! What every service has in common.

pub(crate) mod front;
pub(crate) mod outbox;
pub(crate) mod page;
pub(crate) mod turns;
