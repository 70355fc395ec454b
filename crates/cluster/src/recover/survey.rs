//! What one surviving data directory holds. Reads only.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use sillok_chronicle::{Damage, Disk, Entry, Epoch, Identity, Progress, Report, VerifyError};
use sillok_domain::UnixNanos;

use crate::{
    chain::{self, ChainState},
    roster::RosterView,
    types::{Applied, EntryError, LogId, decode_membership, kind},
};

/// Heads that are kept for comparing survivors; what lies further back is compared by the digests of sealed segments.
const KEPT_HEADS: usize = 1 << 16;

/// A data directory cannot be looked at. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// It holds no chronicle, is in use, or cannot be read.
    #[error("{}: {source}", dir.display())]
    Verify {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        source: VerifyError,
    },
    /// An entry verifies and is none of ours.
    #[error("{}: {reason}", dir.display())]
    Entry {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A place in a chronicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Position of the last event or refusal up to here.
    pub sequence: u64,
    /// When that was accepted, by the clock of its leader; 0: there is none.
    pub accepted_at: UnixNanos,
    /// Term of its entry; 0: there is none.
    pub sequence_term: u64,
    pub(super) head: [u8; 32],
}

impl Mark {
    pub(super) fn id(&self) -> LogId {
        LogId { term: self.term, index: self.index }
    }
}

/// One survivor.
#[derive(Debug, Clone)]
pub struct Survivor {
    /// The data directory, as it was named.
    pub dir: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// Where it is damaged, if it is; then it cannot be gone on from, and what follows speaks for what stands before.
    pub damage: Option<Damage>,
    /// The last entry.
    pub last: Option<Mark>,
    /// The last entry that is known here to be committed.
    pub certain: Option<Mark>,
    /// The epoch it is of.
    pub epoch: Epoch,
    /// The number of an epoch in which its cluster went on without it; 0: none.
    pub superseded_by: u64,
    pub(super) report: Report,
    pub(super) state: ChainState,
    /// All that stand in it, ascending.
    pub(super) memberships: Vec<RosterView>,
    pub(super) recovered: Option<chain::Recovered>,
    /// Where each term begins.
    terms: Vec<LogId>,
    heads: VecDeque<(u64, [u8; 32])>,
}

impl Survivor {
    pub(super) fn new(dir: PathBuf, report: Report, walk: Walk) -> Survivor {
        Survivor {
            dir,
            identity: report.identity.clone(),
            damage: report.damage.clone(),
            last: walk.last,
            certain: walk.certain,
            epoch: walk.recovered.as_ref().map_or(Epoch::default(), chain::Recovered::epoch).later(report.epoch),
            superseded_by: report.superseded_by,
            report,
            state: walk.state,
            memberships: walk.memberships,
            recovered: walk.recovered,
            terms: walk.terms,
            heads: walk.heads,
        }
    }

    /// It can be gone on from.
    pub(super) fn is_sound(&self) -> bool {
        self.damage.is_none() && self.last.is_some()
    }

    /// This very entry stands here.
    pub(super) fn holds(&self, id: LogId) -> bool {
        let term = self.terms.iter().rev().find(|first| first.index <= id.index).map(|first| first.term);
        self.last.is_some_and(|last| id.index <= last.index) && term == Some(id.term)
    }

    /// The head of the chain after this index, where it is still known.
    pub(super) fn head_at(&self, index: u64) -> Option<[u8; 32]> {
        let (first, _) = self.heads.front()?;
        self.heads.get(usize::try_from(index.checked_sub(*first)?).ok()?).map(|(_, head)| *head)
    }
}

trait Later {
    fn later(self, other: Self) -> Self;
}

impl Later for Epoch {
    fn later(self, other: Epoch) -> Epoch {
        if other.number > self.number { other } else { self }
    }
}

/// What a walk over all entries comes to.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) state: ChainState,
    pub(super) last: Option<Mark>,
    pub(super) certain: Option<Mark>,
    pub(super) memberships: Vec<RosterView>,
    pub(super) recovered: Option<chain::Recovered>,
    sequence_term: u64,
    terms: Vec<LogId>,
    heads: VecDeque<(u64, [u8; 32])>,
}

impl Walk {
    pub(super) fn entry(&mut self, entry: &Entry, is_committed: bool) -> Result<(), String> {
        let before = self.state;
        let applied = self
            .state
            .step(entry.kind, &entry.payload)
            .map_err(|error| format!("the record at index {} cannot be read: {error}", entry.id.index))?;
        match applied {
            Applied::Recorded => {
                if self.state.next_sequence > before.next_sequence {
                    self.sequence_term = entry.id.term;
                }
                if let Some(recovered) = chain::Recovered::of(entry, &before, &self.state) {
                    self.recovered = Some(recovered);
                }
            }
            Applied::NotARecord if entry.kind == kind::MEMBERSHIP => {
                let membership =
                    decode_membership(entry.id, &entry.payload).map_err(|error: EntryError| error.to_string())?;
                self.memberships.push(RosterView::from_membership(Some(entry.id), &membership));
            }
            Applied::NotARecord | Applied::Skipped => {}
        }
        if self.terms.last().is_none_or(|first| first.term != entry.id.term) {
            self.terms.push(entry.id);
        }
        if self.heads.len() == KEPT_HEADS {
            self.heads.pop_front();
        }
        self.heads.push_back((entry.id.index, self.state.head));
        let mark = Mark {
            term: entry.id.term,
            index: entry.id.index,
            sequence: self.state.next_sequence - 1,
            accepted_at: self.state.accepted_at,
            sequence_term: self.sequence_term,
            head: self.state.head,
        };
        self.last = Some(mark);
        if is_committed {
            self.certain = Some(mark);
        }
        Ok(())
    }
}

/// Reads a data directory whole and checks every byte, as `sillok verify` does. Refuses one that a running node has open.
///
/// # Errors
/// Where not even what is damaged can be told.
pub fn survey(disk: &Arc<dyn Disk>, dir: &Path, progress: impl FnMut(Progress)) -> Result<Survivor, SurveyError> {
    let mut walk = Walk::default();
    let mut broken: Option<String> = None;
    let report = sillok_chronicle::verify_visiting(disk, &chronicle_dir(dir), progress, &mut |entry, is_committed| {
        if broken.is_none() {
            broken = walk.entry(entry, is_committed).err();
        }
    });
    let report = report.map_err(|source| SurveyError::Verify { dir: dir.to_owned(), source })?;
    match broken {
        Some(reason) => Err(SurveyError::Entry { dir: dir.to_owned(), reason }),
        None => Ok(Survivor::new(dir.to_owned(), report, walk)),
    }
}

/// A node keeps its chronicle in a folder of that name; the folder itself may be named, too.
pub(super) fn chronicle_dir(dir: &Path) -> PathBuf {
    let inner = dir.join("chronicle");
    if inner.is_dir() { inner } else { dir.to_owned() }
}
