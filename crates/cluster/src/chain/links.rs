//! Links of the log's tail in memory; older ones computed again.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use sillok_chronicle::{Chronicle, Fold as _, ReadError};
use sillok_wire::records::RecordError;

use super::{ChainFold, ChainState, Recovered};
use crate::types::{
    Applied, Entry, EntryError, LogId, Membership, StoredMembership, decode_membership, kind, to_raft_id,
};

/// Links kept although their segments are sealed, so that a follower that is a little behind costs no reading. Tests keep
/// few, so that what is not kept is met everywhere.
const KEPT_LINKS: usize = if cfg!(test) { 32 } else { 1 << 16 };
/// Heads that peers named of entries which are still on their way.
const EXPECTED_HEADS: usize = 1 << 10;
/// One read of the chronicle, in bytes.
const READ_BYTES: usize = 4 << 20;

/// Every id that ever stood in a membership, with its incarnation.
type Seen = BTreeMap<u64, u64>;

/// The chain cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("cannot read the chronicle for the chain of records: {0}")]
    Read(#[from] ReadError),
    #[error("the record at index {index} cannot be read: {source}")]
    Record { index: u64, source: RecordError },
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("the footer before index {0} holds no state of the chain of records")]
    Footer(u64),
    #[error("the chronicle ends before index {0}")]
    Absent(u64),
    /// Two nodes hold different records under one log id.
    #[error(
        "entry {} of term {} is not the same here and at the peer: the chain of records ends in {ours} here and in {theirs} there; \
         nothing was changed, this node stops; compare both nodes with `sillok verify` and rebuild the one that differs from the others",
        .at.index, .at.term
    )]
    Mismatch { at: LogId, ours: String, theirs: String },
}

/// What is known of the head at a log id that a peer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadAt {
    /// The same entry stands here, and this is the head after it.
    Known([u8; 32]),
    /// Nothing stands there yet.
    Absent,
    /// Another entry stands there.
    OtherEntry,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    term: u64,
    applied: Applied,
    state: ChainState,
}

/// Follows the chain along this node's log. The log store is its only writer.
pub(crate) struct Chain {
    chronicle: Chronicle,
    tail: Mutex<Tail>,
}

struct Tail {
    /// Index of the first link.
    start: u64,
    /// Before it.
    base: ChainState,
    links: VecDeque<Link>,
    /// Ascending; the first may lie before `start`.
    memberships: Vec<(LogId, Membership)>,
    /// Ascending; the first may lie before `start`.
    recoveries: Vec<Recovered>,
    /// Indexes of skipped records, ascending, since the beginning.
    skipped: Vec<u64>,
    seen_before: Seen,
    expected: VecDeque<(LogId, [u8; 32])>,
}

impl Chain {
    /// Follows the chain from the newest footer to the end of the log.
    pub(crate) fn load(chronicle: Chronicle) -> Result<Chain, ChainError> {
        let (start, footer) = chronicle.state_before(u64::MAX);
        let fold = match footer {
            Some(state) => ChainFold::decode(&state).ok_or(ChainError::Footer(start))?,
            None => ChainFold::default(),
        };
        let mut memberships = Vec::new();
        if let Some((id, payload)) = &fold.membership {
            memberships.push((*id, decode_membership(*id, payload)?));
        }
        let mut tail = Tail {
            start,
            base: fold.state,
            links: VecDeque::new(),
            memberships,
            recoveries: fold.recovery.into_iter().collect(),
            skipped: fold.skipped,
            seen_before: fold.seen,
            expected: VecDeque::new(),
        };
        let end = chronicle.last().map_or(0, |last| last.index + 1);
        each_entry(&chronicle, start, end, |entry| tail.push(entry))?;
        Ok(Chain { chronicle, tail: Mutex::new(tail) })
    }

    /// Follows entries that are about to be appended.
    pub(crate) fn append(&self, entries: &[Entry]) -> Result<(), ChainError> {
        let mut tail = self.tail.lock();
        for entry in entries {
            tail.push(entry)?;
        }
        if tail.links.len() >= 2 * KEPT_LINKS {
            let (sealed_before, _) = self.chronicle.state_before(u64::MAX);
            tail.trim(sealed_before);
        }
        Ok(())
    }

    /// Forgets entries from `index` on; they are about to be removed from the log.
    pub(crate) fn truncate(&self, index: u64) {
        self.tail.lock().truncate(index);
    }

    /// What the entry is to the chain and the state after it. For entries of the tail: everything that is not sealed.
    pub(crate) fn link(&self, index: u64) -> Option<(LogId, Applied, ChainState)> {
        let tail = self.tail.lock();
        tail.link(index).map(|link| (LogId { term: link.term, index }, link.applied, link.state))
    }

    /// The hash of the record in this entry, where it extends the chain and stands in the tail.
    pub(crate) fn hash_of(&self, id: LogId) -> Option<[u8; 32]> {
        let tail = self.tail.lock();
        let link = tail.link(id.index)?;
        (link.term == id.term && link.applied == Applied::Recorded).then_some(link.state.head)
    }

    /// The state after the entry at `index`; `None`: before the first entry. Reads up to a whole segment where the entry
    /// lies before the links in memory.
    pub(crate) fn state_at(&self, index: Option<u64>) -> Result<ChainState, ChainError> {
        let Some(index) = index else { return Ok(ChainState::default()) };
        {
            let tail = self.tail.lock();
            if let Some(link) = tail.link(index) {
                return Ok(link.state);
            }
            if index + 1 == tail.start {
                return Ok(tail.base);
            }
            if index >= tail.start {
                return Err(ChainError::Absent(index));
            }
        }
        let (start, footer) = self.chronicle.state_before(index + 1);
        let mut fold = match footer {
            Some(state) => ChainFold::decode(&state).ok_or(ChainError::Footer(start))?,
            None => ChainFold::default(),
        };
        let mut keys = Vec::new();
        each_entry(&self.chronicle, start, index + 1, |entry| {
            keys.clear();
            fold.entry(entry, &mut keys);
            Ok(())
        })?;
        Ok(fold.state)
    }

    /// The head after the entry of this log id, if that very entry stands here. May read like [`Chain::state_at`].
    pub(crate) fn head_at(&self, id: LogId) -> Result<HeadAt, ChainError> {
        if let Some((here, _, state)) = self.link(id.index) {
            return Ok(if here == id { HeadAt::Known(state.head) } else { HeadAt::OtherEntry });
        }
        if self.chronicle.last().is_none_or(|last| last.index < id.index) {
            return Ok(HeadAt::Absent);
        }
        let entries = self.chronicle.read(id.index, id.index + 1, 0)?;
        match entries.first() {
            Some(entry) if entry.id == id => Ok(HeadAt::Known(self.state_at(Some(id.index))?.head)),
            Some(_) => Ok(HeadAt::OtherEntry),
            None => Ok(HeadAt::Absent),
        }
    }

    /// A peer says that `head` is the head after entry `id`. Compared at once where the entry stands here, otherwise when it
    /// is appended.
    pub(crate) fn expect(&self, id: LogId, head: [u8; 32]) -> Result<(), ChainError> {
        {
            let mut tail = self.tail.lock();
            if id.index >= tail.end() {
                if tail.expected.len() >= EXPECTED_HEADS {
                    tail.expected.pop_front();
                }
                tail.expected.push_back((id, head));
                return Ok(());
            }
        }
        match self.head_at(id)? {
            HeadAt::Known(ours) if ours != head => Err(mismatch(id, &ours, &head)),
            _ => Ok(()),
        }
    }

    /// Nothing stands after this entry; `None`: nothing at all.
    pub(crate) fn ends_at(&self, id: Option<LogId>) -> bool {
        self.tail.lock().end() == id.map_or(0, |id| id.index + 1)
    }

    /// Whether [`Chain::expect`] of an entry at this index needs no reading.
    pub(crate) fn is_near(&self, index: u64) -> bool {
        index >= self.tail.lock().start
    }

    /// The record at this index is skipped by every node.
    pub(crate) fn is_skipped(&self, index: u64) -> bool {
        self.tail.lock().skipped.binary_search(&index).is_ok()
    }

    /// The newest membership at or before `index`.
    pub(crate) fn membership_at(&self, index: Option<u64>) -> StoredMembership {
        let tail = self.tail.lock();
        let newest = tail.memberships.iter().rev().find(|(id, _)| index.is_some_and(|index| id.index <= index));
        match newest {
            Some((id, membership)) => StoredMembership::new(Some(to_raft_id(*id)), membership.clone()),
            None => StoredMembership::default(),
        }
    }

    /// The newest recovery of a lost quorum in this node's log.
    pub(crate) fn recovery(&self) -> Option<Recovered> {
        self.tail.lock().recoveries.last().cloned()
    }

    /// Every (id, incarnation) that ever stood in a membership of this log.
    pub(crate) fn seen(&self) -> BTreeMap<u64, u64> {
        let tail = self.tail.lock();
        let mut seen = tail.seen_before.clone();
        for (_, membership) in &tail.memberships {
            seen.extend(membership.nodes().map(|(&id, member)| (id, member.incarnation)));
        }
        seen
    }
}

impl Tail {
    fn end(&self) -> u64 {
        self.start + self.links.len() as u64
    }

    fn link(&self, index: u64) -> Option<&Link> {
        self.links.get(usize::try_from(index.checked_sub(self.start)?).ok()?)
    }

    fn push(&mut self, entry: &Entry) -> Result<(), ChainError> {
        let id = entry.id;
        let before = self.links.back().map_or(self.base, |link| link.state);
        let mut state = before;
        let applied =
            state.step(entry.kind, &entry.payload).map_err(|source| ChainError::Record { index: id.index, source })?;
        while let Some(&(expected, head)) = self.expected.front() {
            if expected.index > id.index {
                break;
            }
            self.expected.pop_front();
            if expected == id && head != state.head {
                return Err(mismatch(id, &state.head, &head));
            }
        }
        match applied {
            Applied::Skipped => self.skipped.push(id.index),
            Applied::Recorded => self.recoveries.extend(Recovered::of(entry, &before, &state)),
            Applied::NotARecord if entry.kind == kind::MEMBERSHIP => {
                self.memberships.push((id, decode_membership(id, &entry.payload)?));
            }
            Applied::NotARecord => {}
        }
        self.links.push_back(Link { term: id.term, applied, state });
        Ok(())
    }

    fn truncate(&mut self, index: u64) {
        let keep = usize::try_from(index.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.links.truncate(keep);
        self.memberships.retain(|(id, _)| id.index < index);
        self.recoveries.retain(|recovered| recovered.at.index < index);
        self.skipped.retain(|skipped| *skipped < index);
        self.expected.clear();
    }

    fn trim(&mut self, sealed_before: u64) {
        while self.links.len() > KEPT_LINKS && self.start < sealed_before {
            if let Some(link) = self.links.pop_front() {
                self.base = link.state;
                self.start += 1;
            }
        }
    }
}

fn each_entry(
    chronicle: &Chronicle,
    mut from: u64,
    end: u64,
    mut visit: impl FnMut(&Entry) -> Result<(), ChainError>,
) -> Result<(), ChainError> {
    while from < end {
        let entries = chronicle.read_through(from, end, READ_BYTES)?;
        if entries.is_empty() {
            return Err(ChainError::Absent(from));
        }
        for entry in &entries {
            visit(entry)?;
        }
        from += entries.len() as u64;
    }
    Ok(())
}

fn mismatch(at: LogId, ours: &[u8; 32], theirs: &[u8; 32]) -> ChainError {
    ChainError::Mismatch { at, ours: hex(ours), theirs: hex(theirs) }
}

fn hex(head: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*head).to_hex().to_string()
}
