//! Friend lists, send index, coupons and digests: tables in memory with sled beneath.
//!
//! Everything here is a *view*: it reads the chronicle like a subscriber and can be deleted and rebuilt from it. One
//! thread folds committed entries into tables in memory ([`Views::fold`]); readers take the read lock of one channel
//! ([`Views::read_channel`]); a thread of its own writes changed rows, packed, to sled ([`Options::spill_every`]).
//! Folding is a pure function of the entries: no clock, no randomness, no configuration, no map order. Losing or
//! doubting the rows on disk costs time and never data: they are moved aside and everything is folded again.
//!
//! Read in this order: `views` (what others call), `fold` (one record into tables), `table` (what one channel holds),
//! `rows` (what its pages look like on disk), `spill` and `store` (how they get there), `load` (how they come back),
//! `memory` (which of them stay in memory).

mod applied;
mod codec;
mod digests;
mod error;
mod fold;
mod load;
mod locators;
mod memory;
mod options;
mod paged;
mod place;
mod rows;
mod sends;
mod spill;
mod store;
mod table;
mod views;

pub use applied::{Applied, Folded};
pub use digests::{DIGEST_REVISIONS, Digests};
pub use error::{FoldError, LostPage};
pub use locators::Locator;
pub use options::{Blocking, FreeBytes, OnLost, Options, Spawn, Spillable, os_threads};
pub use sends::{SendKind, SendRow};
pub use table::ChannelTable;
pub use views::Views;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
