//! The chain of records, followed along the log.
//!
//! Every record names the BLAKE3 hash of the record it was decided upon. A record extends the chain if its predecessor is
//! the head, otherwise every node skips it; blank and membership entries carry the head unchanged. What is skipped is so
//! decided by the log's bytes before it, and is known as soon as an entry is appended, committed or not:
//!
//! ```text
//! index      7        8        9        10       11
//! entry      record   blank    record   record   record
//! predecessor  h(5)              h(7)     h(7)     h(9)
//! head after h(7)     h(7)     h(9)     h(9)     h(11)
//!                                       skipped
//! ```
//! Links are kept for the unsealed tail and a good part of what was sealed last; older ones are computed again from the
//! state in the footer of the segment before.

mod following;
mod footer;
mod links;
#[cfg(test)]
mod tests;

pub(crate) use following::Following;
pub(crate) use footer::{ChainFold, RunningFold, record_keys};
pub(crate) use links::{Chain, ChainError, HeadAt};

use sillok_chronicle::Epoch;
use sillok_domain::UnixNanos;
use sillok_wire::{
    record,
    records::{self, RecordError},
};

use crate::{
    planted::{self, Planted},
    types::{Applied, Entry, LogId, kind},
};

/// What the log's records have come to at one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainState {
    /// BLAKE3 of the newest record that was not skipped; zeroes before the first.
    pub(crate) head: [u8; 32],
    /// The position that the next record begins at; 1 before the first.
    pub(crate) next_sequence: u64,
    /// Of that record; 0 before the first.
    pub(crate) accepted_at: UnixNanos,
}

impl Default for ChainState {
    fn default() -> ChainState {
        ChainState { head: records::GENESIS, next_sequence: 1, accepted_at: 0 }
    }
}

impl ChainState {
    /// Goes over one entry and says what it is to the chain.
    pub(crate) fn step(&mut self, entry_kind: u8, payload: &[u8]) -> Result<Applied, RecordError> {
        if entry_kind != kind::RECORD {
            return Ok(Applied::NotARecord);
        }
        let header = records::peek_header(payload)?;
        if header.predecessor != self.head && !planted::is(Planted::SkipPredecessor) {
            return Ok(Applied::Skipped);
        }
        let positions = records::count_positions(payload)?;
        *self = ChainState {
            head: records::hash(payload),
            next_sequence: header.first_sequence.saturating_add(positions),
            accepted_at: header.accepted_at,
        };
        Ok(Applied::Recorded)
    }
}

/// A lost quorum was recovered: what the record says, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovered {
    pub(crate) at: LogId,
    pub(crate) recovery: record::Recovery,
}

impl Recovered {
    /// What an entry that extends the chain says of a recovery. Only that record takes no position.
    pub(crate) fn of(entry: &Entry, before: &ChainState, after: &ChainState) -> Option<Recovered> {
        if before.next_sequence != after.next_sequence {
            return None;
        }
        match records::peek_recovery(&entry.payload) {
            Ok(recovery) => Some(Recovered { at: entry.id, recovery: recovery? }),
            Err(error) => {
                // It is in the chain, and so written by a leader or by hand: every node takes it alike.
                tracing::error!(index = entry.id.index, "a recovery cannot be read and is passed over: {error}");
                None
            }
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch { number: self.recovery.epoch, token: self.recovery.token }
    }
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let record::Recovery { epoch, kept_sequence, site, node_id, actor, reason, .. } = &self.recovery;
        write!(
            f,
            "this cluster was recovered at epoch {epoch} from position {kept_sequence} of node {node_id} at {site} by {actor}: {reason}"
        )
    }
}
