//! What the footer of a sealed segment says about the chain.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;
use prost::Message as _;
use sillok_chronicle::Fold;
use sillok_wire::{
    record,
    records::{self, RecordError},
};

use super::{Chain, ChainState, Recovered};
use crate::types::{Applied, Entry, LogId, decode_membership, kind};

/// After the last entry of a segment. The bytes are equal on every node and live for ever: fields are only ever added.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    head: Vec<u8>,
    #[prost(uint64, tag = "2")]
    next_sequence: u64,
    #[prost(sfixed64, tag = "3")]
    accepted_at: i64,
    /// Indexes of the records that were skipped, ascending, since the beginning.
    #[prost(uint64, repeated, tag = "4")]
    skipped: Vec<u64>,
    #[prost(message, optional, tag = "5")]
    membership: Option<StoredMembership>,
    /// Every (id, incarnation) that ever stood in a membership, ascending by id.
    #[prost(message, repeated, tag = "6")]
    seen: Vec<StoredNode>,
    /// The newest, if a quorum was ever lost and recovered.
    #[prost(message, optional, tag = "7")]
    recovery: Option<StoredRecovery>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRecovery {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    /// As in its record.
    #[prost(message, required, tag = "3")]
    recovery: record::Recovery,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredMembership {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    /// As in the entry.
    #[prost(bytes = "bytes", tag = "3")]
    membership: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredNode {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(fixed64, tag = "2")]
    incarnation: u64,
}

/// Folds committed entries into the state of a footer, and their unskipped records' retry keys into its index.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ChainFold {
    pub(super) state: ChainState,
    pub(super) skipped: Vec<u64>,
    /// The newest membership, as in its entry.
    pub(super) membership: Option<(LogId, Bytes)>,
    pub(super) seen: BTreeMap<u64, u64>,
    pub(super) recovery: Option<Recovered>,
}

impl ChainFold {
    /// The state of a footer; `None` where the bytes are not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<ChainFold> {
        let stored = Stored::decode(bytes).ok()?;
        let head = stored.head.try_into().ok()?;
        Some(ChainFold {
            state: ChainState { head, next_sequence: stored.next_sequence, accepted_at: stored.accepted_at },
            skipped: stored.skipped,
            membership: stored
                .membership
                .map(|stored| (LogId { term: stored.term, index: stored.index }, stored.membership)),
            seen: stored.seen.into_iter().map(|node| (node.id, node.incarnation)).collect(),
            recovery: stored.recovery.map(|stored| Recovered {
                at: LogId { term: stored.term, index: stored.index },
                recovery: stored.recovery,
            }),
        })
    }

    /// The head of the chain that a footer's state names.
    pub(crate) fn head_in(state: &[u8]) -> Option<[u8; 32]> {
        Some(ChainFold::decode(state)?.state.head)
    }

    /// The state of the chain that a footer's state names.
    pub(crate) fn state_in(state: &[u8]) -> Option<ChainState> {
        Some(ChainFold::decode(state)?.state)
    }

    /// Nothing but this state.
    #[cfg(test)]
    pub(crate) fn at(state: ChainState) -> ChainFold {
        ChainFold { state, ..ChainFold::default() }
    }

    /// After the newest entry.
    pub(crate) fn head(&self) -> [u8; 32] {
        self.state.head
    }

    /// The newest membership that a footer's state names.
    pub(crate) fn membership_in(state: &[u8]) -> Option<(LogId, Bytes)> {
        ChainFold::decode(state)?.membership
    }

    /// Every id that stood in a membership by then.
    pub(crate) fn seen_in(state: &[u8]) -> impl Iterator<Item = u64> {
        ChainFold::decode(state).into_iter().flat_map(|fold| fold.seen.into_keys())
    }

    pub(super) fn note_membership(&mut self, id: LogId, payload: &Bytes) {
        // It may share the memory of much more, and is kept for long.
        self.membership = Some((id, Bytes::copy_from_slice(payload)));
        if let Ok(membership) = decode_membership(id, payload) {
            self.seen.extend(membership.nodes().map(|(&id, member)| (id, member.incarnation)));
        }
    }
}

impl Fold for ChainFold {
    fn restore(&mut self, state: &[u8]) {
        match ChainFold::decode(state) {
            Some(fold) => *self = fold,
            // The footer's checksum held, so another program wrote it; whatever is folded on would be noticed by the
            // first peer that compares heads.
            None => tracing::error!("a segment's footer holds no state of the chain of records"),
        }
    }

    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        let before = self.state;
        let step = self.state.step(entry.kind, &entry.payload);
        self.note(entry, &before, step, keys);
    }

    fn state(&self) -> Vec<u8> {
        let membership = self.membership.as_ref().map(|(id, membership)| StoredMembership {
            term: id.term,
            index: id.index,
            membership: membership.clone(),
        });
        let stored = Stored {
            head: self.state.head.to_vec(),
            next_sequence: self.state.next_sequence,
            accepted_at: self.state.accepted_at,
            skipped: self.skipped.clone(),
            membership,
            recovery: self.recovery.as_ref().map(|recovered| StoredRecovery {
                term: recovered.at.term,
                index: recovered.at.index,
                recovery: recovered.recovery.clone(),
            }),
            seen: self.seen.iter().map(|(&id, &incarnation)| StoredNode { id, incarnation }).collect(),
        };
        stored.encode_to_vec()
    }
}

impl ChainFold {
    /// Takes note of an entry that `self.state` has gone over already.
    fn note(&mut self, entry: &Entry, before: &ChainState, step: Result<Applied, RecordError>, keys: &mut Vec<u64>) {
        match step {
            Ok(Applied::Recorded) => {
                record_keys(entry, keys);
                if let Some(recovered) = Recovered::of(entry, before, &self.state) {
                    self.recovery = Some(recovered);
                }
            }
            Ok(Applied::Skipped) => self.skipped.push(entry.id.index),
            Ok(Applied::NotARecord) => {
                if entry.kind == kind::MEMBERSHIP {
                    self.note_membership(entry.id, &entry.payload);
                }
            }
            // Refused when it was to be appended; every node takes it alike.
            Err(error) => {
                tracing::error!(index = entry.id.index, "a record cannot be read and is skipped: {error}");
                self.skipped.push(entry.id.index);
            }
        }
    }
}

/// The [`ChainFold`] of a node that runs. What its [`Chain`] went over when it appended an entry is not computed again when that is
/// sealed: the bytes that were read back for it are covered by their checksum and the segment's digest, and scrubbing and mending
/// follow the chain from the bytes.
pub(crate) struct RunningFold {
    fold: ChainFold,
    chain: Arc<OnceLock<Weak<Chain>>>,
}

impl RunningFold {
    /// `chain` is set once the chronicle is open and the chain loaded.
    pub(crate) fn new(chain: Arc<OnceLock<Weak<Chain>>>) -> RunningFold {
        RunningFold { fold: ChainFold::default(), chain }
    }
}

impl Fold for RunningFold {
    fn restore(&mut self, state: &[u8]) {
        self.fold.restore(state);
    }

    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        let link = self.chain.get().and_then(Weak::upgrade).and_then(|chain| chain.link(entry.id.index));
        match link {
            Some((id, applied, state)) if id == entry.id => {
                let before = std::mem::replace(&mut self.fold.state, state);
                self.fold.note(entry, &before, Ok(applied), keys);
            }
            _ => self.fold.entry(entry, keys),
        }
    }

    fn state(&self) -> Vec<u8> {
        self.fold.state()
    }
}

/// The retry keys of a record, skipped or not: for entries that may never be committed.
pub(crate) fn record_keys(entry: &Entry, keys: &mut Vec<u64>) {
    if entry.kind != kind::RECORD {
        return;
    }
    let before = keys.len();
    if let Err(error) = records::peek_key_hashes(&entry.payload, keys) {
        tracing::error!(index = entry.id.index, "the retry keys of a record cannot be read: {error}");
        keys.truncate(before);
    }
}
