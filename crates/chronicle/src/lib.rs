//! The append-only segment files that are the store.
//!
//! A chronicle is a directory of segment files that hold entries and nothing else, and a small meta file. Entries are
//! appended, become readable at once and durable a group commit later, and are never purged. The layout of every byte
//! is drawn in `docs/chronicle-format.md`. This crate knows bytes, indexes and terms; no consensus, no async.
//!
//! The way of an entry: [`Chronicle::append`] → `log` (readable) → `writer` (durable) → `seal` (for ever).
//! The way back: `examine` says what is there, `recover` makes it sound, `read` finds it; `scrub` reads all of it over and over;
//! `mend` puts back what is damaged, with entries that a peer still has.

mod ahead;
mod chronicle;
mod disk;
mod error;
mod examine;
mod filter;
mod footer;
mod frame;
mod layout;
mod left;
mod log;
mod mend;
mod meta;
mod options;
mod overview;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
pub mod planted;
mod read;
mod recover;
mod scan;
mod scrub;
mod seal;
mod sealed;
mod shared;
pub mod sim;
mod types;
mod verify;
mod work;
mod writer;

pub use chronicle::{Chronicle, format, read_identity};
pub use disk::{Disk, File, LockGuard, RealDisk, SECTOR_BYTES};
pub use error::{Damage, DamageReason, Failure, FormatError, MendError, OpenError, ReadError, VerifyError, WriteError};
pub use left::{Left, Within};
pub use mend::{Mended, Mending, Wanted};
pub use options::{Fold, KeysOf, NoFold, Now, Options, Spawn, Workers};
pub use scrub::{Scrub, Scrubbed};
pub use types::{Entry, Epoch, Identity, LogId, SegmentInfo, Vote};
pub use verify::{Progress, Report, SegmentReport, TailState, Visit, verify, verify_visiting};
pub use work::Due;

/// The largest payload of one entry, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;
/// The longest site label, in bytes.
pub const MAX_SITE_BYTES: usize = 128;
