//! What can go wrong, one type per operation.
//!
//! Damage and failures of the disk stop the chronicle: nothing is tried twice after a failed sync, because the kernel
//! may have dropped the very pages whose write failed.

use std::{fmt, io, path::PathBuf, sync::Arc};

use crate::types::{Epoch, LogId};

/// Committed bytes that are no longer what was written: a peer's copy must take their place ([`Mending`](crate::Mending)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the chronicle's directory.
    pub segment: String,
    /// Where in that file the first thing that does not verify begins, in bytes.
    pub offset: u64,
    /// The last entry before it that verifies.
    pub last_good: Option<LogId>,
    /// What does not verify.
    pub reason: DamageReason,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}; ", self.segment, self.offset, self.reason)?;
        match self.last_good {
            Some(id) => write!(f, "the last good entry before it is index {} of term {}", id.index, id.term)?,
            None => write!(f, "no entry before it can be vouched for")?,
        }
        write!(f, "; nothing was changed")
    }
}

impl std::error::Error for Damage {}

/// What does not verify in a damaged chronicle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamageReason {
    /// The head of an entry fails its checksum, and no lost write explains it.
    #[error("the head of an entry fails its checksum")]
    EntryHead,
    /// The body of an entry fails its checksum, and no lost write explains it.
    #[error("the body of the entry at index {index} fails its checksum")]
    EntryBody {
        /// The entry's index, from its intact head.
        index: u64,
    },
    /// An intact entry stands where another one belongs.
    #[error("the entry at index {found} stands where index {expected} belongs")]
    OutOfSequence {
        /// The index that belongs there.
        expected: u64,
        /// The entry found.
        found: LogId,
    },
    /// Entries end before an entry that is remembered as durable.
    #[error("entries up to index {remembered} were durable and are no longer there")]
    Missing {
        /// The last entry that the meta file remembers as durable.
        remembered: u64,
    },
    /// A whole segment file is not there though later ones are.
    #[error("the segment file is missing")]
    SegmentMissing,
    /// A segment ends before the next one begins.
    #[error("the segment ends before index {next_first}, where the next segment begins")]
    SegmentShort {
        /// The first index of the next segment.
        next_first: u64,
    },
    /// The segment file's own header does not verify.
    #[error("the header of the segment file fails its checksum or does not match the file's name")]
    SegmentHeader,
    /// The footer of a sealed segment does not verify.
    #[error("the footer of the sealed segment does not verify ({part})")]
    Footer {
        /// Which part of it.
        part: &'static str,
    },
    /// The digest of a sealed segment is not that of its entries.
    #[error("the entries of the sealed segment do not have the digest that its footer names")]
    Digest,
    /// The file of a sealed segment ends before its entries or its footer do.
    #[error("the file ends within what it is known to hold")]
    FileShort,
    /// The disk cannot read these bytes back; only verification calls that damage.
    #[error("the disk cannot read it back: {error}")]
    Unreadable {
        /// What the system said.
        error: String,
    },
    /// The meta file is not there, though segment files are.
    #[error("the meta file is missing beside segment files, so nobody knows whose they are and what was voted")]
    MetaMissing,
    /// A slot of the meta file does not verify.
    #[error("slot {slot} of the meta file fails its checksum")]
    Meta {
        /// 0 or 1.
        slot: u8,
    },
}

/// Why the chronicle stopped for good. Everything acknowledged before is kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The disk is full. Free space and start the node again.
    #[error(
        "the disk is full: cannot {action} {file}; what was acknowledged is kept; free space and start the node again"
    )]
    DiskFull {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: String,
    },
    /// A write or a sync failed. It is never retried: start the node again, and replace the disk if it recurs.
    #[error(
        "cannot {action} {file}: {source}; what was acknowledged is kept; a failed write or sync is never retried, start the node again and replace the disk if it recurs"
    )]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Committed bytes were found damaged, by whatever read them.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// One of the chronicle's threads panicked, which is a bug (or one of a callback or fold that it called).
    #[error("the chronicle's {thread} thread panicked: {message}; what was acknowledged is kept")]
    Panicked {
        /// Which thread.
        thread: &'static str,
        /// What it said.
        message: String,
    },
}

impl Failure {
    pub(crate) fn panicked(thread: &'static str, panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&'static str>().copied());
        Self::Panicked { thread, message: said.unwrap_or("it did not say why").to_owned() }
    }

    pub(crate) fn io(action: &'static str, file: impl Into<String>, source: io::Error) -> Self {
        let file = file.into();
        if crate::ahead::is_full(&source) {
            return Self::DiskFull { action, file };
        }
        Self::Io { action, file, source: Arc::new(source) }
    }
}

/// Why something was not written. Unless it is [`WriteError::Stopped`], the chronicle goes on and nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The chronicle failed before this was durable. It may or may not be on the disk; restarting tells.
    #[error("the chronicle has stopped: {0}")]
    Stopped(Arc<Failure>),
    /// The chronicle was closed before this was asked.
    #[error("the chronicle is closed")]
    Closed,
    /// The entry does not follow the last one.
    #[error("entry {got} cannot follow {}", last.map_or_else(|| "an empty chronicle".to_owned(), |id| format!("entry {id}")))]
    OutOfOrder {
        /// The last entry when it was asked.
        last: Option<LogId>,
        /// The entry that was refused.
        got: LogId,
    },
    /// The payload is too large to be framed.
    #[error("a payload of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES).
        limit: usize,
    },
    /// Committed entries are never truncated.
    #[error("cannot truncate from index {index}: entries up to index {committed} are committed")]
    Committed {
        /// From where truncation was asked.
        index: u64,
        /// The last committed index.
        committed: u64,
    },
    /// The chronicle already belongs to another cluster.
    #[error("this chronicle already belongs to another cluster")]
    OtherCluster,
    /// An epoch follows a lower one, and there is one of each number.
    #[error("this chronicle is of epoch {held} and cannot become one of epoch {asked}")]
    OtherEpoch {
        /// The epoch it is of.
        held: Epoch,
        /// The epoch that was asked for.
        asked: Epoch,
    },
}

/// Why a chronicle could not be opened. Nothing was changed unless a torn tail had to be cut.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory holds no chronicle.
    #[error("{} holds no chronicle; format it first", dir.display())]
    NotFormatted {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process has it open.
    #[error("the chronicle in {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory is another node's.
    #[error("{} is the chronicle of node {found}, not of node {expected}", dir.display())]
    WrongNode {
        /// The directory.
        dir: PathBuf,
        /// The node that was to be opened.
        expected: u64,
        /// The node whose chronicle it is.
        found: u64,
    },
    /// The chronicle was formatted for another site; site labels never change in place.
    #[error("{} was formatted for site {found:?}, not for site {expected:?}; site labels never change in place", dir.display())]
    WrongSite {
        /// The directory.
        dir: PathBuf,
        /// The configured site.
        expected: String,
        /// The site it was formatted for.
        found: String,
    },
    /// Segments of another size would no longer be byte for byte those of the other nodes.
    #[error(
        "{} has segments of {recorded} bytes, not of {configured}; segment_bytes is fixed when a chronicle is first opened and must be the same at every node",
        dir.display()
    )]
    SegmentBytes {
        /// The directory.
        dir: PathBuf,
        /// What the chronicle was first opened with.
        recorded: u64,
        /// What it was to be opened with.
        configured: u64,
    },
    /// A file was written by a version that this one does not know.
    #[error("{file} has format version {found}, this build reads up to {known}; use a newer build")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Damage: the node must not take part until it is repaired from a peer.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system refused.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { action, file, source }
    }
}

/// Why a directory could not be formatted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The directory holds something, which formatting would put at risk.
    #[error("{} is not empty (it holds {found:?}); nothing was changed, choose an empty directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One thing that it holds.
        found: String,
    },
    /// The site label is empty or too long.
    #[error("a site label has 1 to {limit} bytes, not {bytes}")]
    Site {
        /// Its length in bytes.
        bytes: usize,
        /// [`MAX_SITE_BYTES`](crate::MAX_SITE_BYTES).
        limit: usize,
    },
    /// The system refused.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why entries could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Committed bytes are no longer what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system refused.
    #[error("cannot read {file} at byte {offset}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Where reading began, in bytes.
        offset: u64,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl ReadError {
    pub(crate) fn io(file: impl Into<String>, offset: u64, source: io::Error) -> Self {
        Self::Io { file: file.into(), offset, source: Arc::new(source) }
    }
}

/// Why a chronicle could not be verified at all. What verification finds is in its report.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory holds no chronicle.
    #[error("{} holds no chronicle", dir.display())]
    NotFormatted {
        /// The directory.
        dir: PathBuf,
    },
    /// A running node has it open.
    #[error("the chronicle in {} is in use; stop the node first", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A file was written by a version that this one does not know.
    #[error("{file} has format version {found}, this build reads up to {known}; use a newer build")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Not even whose chronicle it is can be told.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system refused.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a damaged segment could not be mended. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// No peer can help.
    #[error("{damage}; it cannot be repaired from peers: {why}")]
    Beyond {
        /// What was found.
        damage: Damage,
        /// Why not.
        why: String,
    },
    /// What was given is not what stood here.
    #[error("{segment} cannot be repaired with what was given: {why}")]
    Refused {
        /// The segment's file.
        segment: String,
        /// In what it differs.
        why: String,
    },
    /// A file was written by a version that this one does not know.
    #[error("{file} has format version {found}, which this build does not know; use a newer build")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
    },
    /// The system refused.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl MendError {
    pub(crate) fn io(action: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { action, file, source }
    }
}
