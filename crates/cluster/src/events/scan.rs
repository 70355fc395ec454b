//! One stretch of the log through a filter. Reads the chronicle: not for a task that must not block.

use std::sync::Arc;

use sillok_chronicle::{Chronicle, Entry, ReadError};
use sillok_domain::UnixNanos;
use sillok_wire::{
    event_to_proto, peek_event_kind,
    records::{self, DecisionView, RecordError, RecordHeader, RecordView},
    recovery_to_proto, refusal_to_proto, v1,
};

use super::cursor::{ALL, Cursor};
use crate::{chain::Chain, types::kind};

/// One read of the chronicle, in bytes.
const READ_BYTES: usize = 1 << 20;
/// One response ends at about so many items, or bytes of payload.
const ITEMS: usize = 512;
const ITEM_BYTES: usize = 512 << 10;

/// What a reader wants to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// Ascending; empty: every channel.
    pub(super) channels: Vec<String>,
    /// Ascending; empty: every kind.
    pub(super) kinds: Vec<u32>,
    pub(super) refusals: bool,
    pub(super) recoveries: bool,
    /// Of the one channel.
    pub(super) from_revision: u64,
    pub(super) from_sequence: u64,
}

impl Filter {
    fn wants_channel(&self, channel_id: &str) -> bool {
        self.channels.is_empty() || self.channels.binary_search_by(|channel| channel.as_str().cmp(channel_id)).is_ok()
    }

    fn wants_kind(&self, payload: &[u8]) -> bool {
        self.kinds.is_empty() || peek_event_kind(payload).is_some_and(|kind| self.kinds.binary_search(&kind).is_ok())
    }

    /// The one channel of which nothing but events is wanted: then the views say where its next event is.
    pub(super) fn only_channel(&self) -> Option<&str> {
        match &self.channels[..] {
            [only] if !self.refusals && !self.recoveries => Some(only),
            _ => None,
        }
    }
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The entry to read next.
    pub(super) next: u64,
    /// Positions of that entry's record that were read already.
    pub(super) done: u32,
    /// The newest record read, if any.
    pub(super) newest: Option<Newest>,
    /// The newest revision seen of the one channel that is wanted.
    pub(super) seen: Option<u64>,
}

/// The newest record that was read, skipped ones apart, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    pub(super) index: u64,
    pub(super) items: u32,
    pub(super) head: [u8; 32],
    pub(super) term: u64,
    pub(super) sequence: u64,
    pub(super) accepted_at: UnixNanos,
}

impl Place {
    /// Where to go on from here, another time.
    pub(super) fn cursor(&self, cluster_id: [u8; 16]) -> Cursor {
        match self.newest {
            Some(newest) => Cursor { cluster_id, index: newest.index, items: newest.items, head: newest.head },
            None => Cursor::beginning(cluster_id),
        }
    }
}

/// What one stretch gave.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) items: Vec<v1::ReadItem>,
    pub(super) entries: u64,
}

/// The log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error("the chronicle cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the record in entry {index} cannot be read: {source}")]
    Record { index: u64, source: RecordError },
    #[error("an event in entry {index} is not understood by this version, which shows nothing after it: {source}")]
    Event { index: u64, source: sillok_wire::PayloadError },
}

/// Reads from the chronicle for one reader.
#[derive(Clone)]
pub(super) struct Scanner {
    pub(super) chronicle: Chronicle,
    pub(super) chain: Arc<Chain>,
    pub(super) cluster_id: [u8; 16],
    pub(super) filter: Arc<Filter>,
}

impl Scanner {
    /// Reads on up to entry `end`, exclusive, until a response is full or a good part of the log was looked at.
    /// At most `limit` items; `one`: no further than the next entry.
    pub(super) fn stretch(&self, place: &mut Place, end: u64, limit: usize, one: bool) -> Result<Stretch, ScanError> {
        let mut stretch = Stretch::default();
        let mut room = Room { items: limit.min(ITEMS), bytes: ITEM_BYTES };
        let max_bytes = if one { 0 } else { READ_BYTES };
        for entry in self.chronicle.read(place.next, end, max_bytes)? {
            if entry.kind == kind::RECORD && !self.chain.is_skipped(entry.id.index) {
                let is_whole = self.record(&entry, place, &mut room, &mut stretch.items)?;
                if !is_whole {
                    break;
                }
            }
            stretch.entries += 1;
            place.next = entry.id.index + 1;
            place.done = 0;
        }
        Ok(stretch)
    }

    /// One record, from where the reader left it; `false`: the response is full before its end.
    fn record(
        &self,
        entry: &Entry,
        place: &mut Place,
        room: &mut Room,
        items: &mut Vec<v1::ReadItem>,
    ) -> Result<bool, ScanError> {
        let index = entry.id.index;
        let bad = |source| ScanError::Record { index, source };
        let view = RecordView::new(&entry.payload).map_err(bad)?;
        let head = match self.chain.link(index) {
            Some((_, _, state)) => state.head,
            None => records::hash(&entry.payload),
        };
        let mut newest = Newest {
            index,
            items: place.done,
            head,
            term: entry.id.term,
            sequence: view.header.first_sequence + u64::from(place.done) - 1,
            accepted_at: view.header.accepted_at,
        };
        let mut item = 0;
        for decision in view.decisions() {
            let decision = decision.map_err(bad)?;
            let positions = decision.positions() as u32;
            if item + positions <= place.done {
                item += positions;
                continue;
            }
            let is_wanted = self.filter.wants_channel(decision.channel_id);
            for n in 0..positions {
                item += 1;
                if item <= place.done {
                    continue;
                }
                if is_wanted && let Some(found) = self.position(&view.header, entry, &decision, n)? {
                    if room.is_full() {
                        place.newest = Some(newest);
                        place.done = newest.items;
                        return Ok(false);
                    }
                    room.take(found.1);
                    let cursor = Cursor { cluster_id: self.cluster_id, index, items: item, head };
                    items.push(v1::ReadItem { item: Some(found.0), cursor: cursor.encode().into() });
                }
                newest.items = item;
                newest.sequence = view.header.first_sequence + u64::from(item) - 1;
                if is_wanted && decision.refused.is_none() {
                    place.seen = Some(decision.first_revision + u64::from(n));
                }
            }
        }
        if item == 0
            && self.filter.recoveries
            && let Some(recovery) = records::peek_recovery(&entry.payload).map_err(bad)?
        {
            if room.is_full() {
                return Ok(false);
            }
            room.take(256);
            let recovery = recovery_to_proto(&recovery);
            let cursor = Cursor { cluster_id: self.cluster_id, index, items: ALL, head };
            let item = Some(v1::read_item::Item::Recovery(recovery));
            items.push(v1::ReadItem { item, cursor: cursor.encode().into() });
        }
        newest.items = ALL;
        place.newest = Some(newest);
        Ok(true)
    }

    /// The n-th position of a decision, if the filter lets it through, and its size.
    fn position(
        &self,
        header: &RecordHeader,
        entry: &Entry,
        decision: &DecisionView<'_>,
        n: u32,
    ) -> Result<Option<(v1::read_item::Item, usize)>, ScanError> {
        let filter = &*self.filter;
        if header.first_sequence + decision.offset + u64::from(n) < filter.from_sequence {
            return Ok(None);
        }
        if decision.refused.is_some() {
            if !filter.refusals {
                return Ok(None);
            }
            let refusal = refusal_to_proto(entry.id.term, header, decision);
            return Ok(refusal.map(|refusal| (v1::read_item::Item::Refusal(refusal), 128)));
        }
        let Some(payload) = decision.events.get(n as usize) else { return Ok(None) };
        if decision.first_revision + u64::from(n) < filter.from_revision || !filter.wants_kind(payload) {
            return Ok(None);
        }
        let event = event_to_proto(entry.id.term, header, decision, n as usize)
            .map_err(|source| ScanError::Event { index: entry.id.index, source })?;
        Ok(event.map(|event| (v1::read_item::Item::Event(event), payload.len() + 128)))
    }
}

/// What a response still takes.
struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    fn is_full(&self) -> bool {
        self.items == 0 || self.bytes == 0
    }

    fn take(&mut self, bytes: usize) {
        self.items -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
