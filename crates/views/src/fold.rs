//! One committed entry into the tables: the only writer there is.
//!
//! A record is first read whole (an event that this build does not understand stops here, before anything changed),
//! then applied channel by channel, so that each channel is locked once a record and is seen either before or after it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::RwLock;
use sillok_domain::Event;
use sillok_wire::{
    decode_to_fold, peek_event_kind,
    records::{self, DecisionView, FEATURE_LEVEL, RecordView},
};

use crate::{
    applied::{Applied, Folded},
    digests::Stored,
    error::FoldError,
    locators::Locator,
    views::{Cell, Shared},
};

const BLANK: u8 = 0;
const RECORD: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// What only the fold knows.
#[derive(Default)]
pub(crate) struct FoldState {
    applied: Option<Applied>,
    /// The same cells as the directory, hashed.
    channels: HashMap<Arc<str>, Cell>,
    /// Channels with rows that the disk lacks.
    pub(crate) dirty: Vec<(Arc<str>, Cell)>,
    dirty_rows: usize,
    scratch: Vec<u8>,
    is_closed: bool,
}

/// A decision with its events decoded.
struct Decoded<'a> {
    decision: DecisionView<'a>,
    events: std::ops::Range<usize>,
}

impl FoldState {
    pub(crate) fn new(applied: Option<Applied>, channels: &BTreeMap<Arc<str>, Cell>) -> FoldState {
        let channels = channels.iter().map(|(id, cell)| (Arc::clone(id), Arc::clone(cell))).collect();
        FoldState { applied, channels, ..FoldState::default() }
    }

    /// Nothing is folded from now on.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(crate) fn applied(&self) -> Option<Applied> {
        self.applied
    }

    pub(crate) fn dirty_rows(&self) -> usize {
        self.dirty_rows
    }

    /// The dirty channels, which are clean from now on.
    pub(crate) fn take_dirty(&mut self) -> Vec<(Arc<str>, Cell)> {
        self.dirty_rows = 0;
        metrics::gauge!("sillok_views_dirty_rows").set(0.0);
        std::mem::take(&mut self.dirty)
    }

    /// The disk has nothing any more: every row of every channel is to be written.
    pub(crate) fn forget_disk(&mut self) {
        self.dirty.clear();
        for (id, cell) in &self.channels {
            cell.write().forget_disk();
            self.dirty.push((Arc::clone(id), Arc::clone(cell)));
        }
    }

    pub(crate) fn entry(
        &mut self,
        shared: &Shared,
        index: u64,
        term: u64,
        kind: u8,
        payload: &Bytes,
        hash: Option<[u8; 32]>,
    ) -> Result<Folded, FoldError> {
        if self.is_closed {
            return Err(FoldError::Closed);
        }
        let expected = self.applied.map_or(0, |applied| applied.index + 1);
        if index != expected {
            return Err(FoldError::OutOfOrder { expected, got: index });
        }
        let before = Applied { index, term, ..self.applied.unwrap_or(Applied::GENESIS) };
        let (folded, after) = match kind {
            BLANK | MEMBERSHIP => (Folded::NotARecord, before),
            RECORD => self.record(shared, before, payload, hash)?,
            kind => return Err(FoldError::UnknownEntryKind { index, kind }),
        };
        self.applied = Some(after);
        *shared.applied.write() = Some(after);
        metrics::gauge!("sillok_views_applied_index").set(index as f64);
        metrics::gauge!("sillok_views_dirty_rows").set(self.dirty_rows as f64);
        Ok(folded)
    }

    fn record(
        &mut self,
        shared: &Shared,
        before: Applied,
        payload: &Bytes,
        hash: Option<[u8; 32]>,
    ) -> Result<(Folded, Applied), FoldError> {
        let index = before.index;
        let malformed = |reason: String| FoldError::Malformed { index, reason };
        let record = RecordView::new(payload).map_err(|error| malformed(error.to_string()))?;
        let header = record.header;
        if header.predecessor != before.head {
            return Ok((Folded::Skipped, before));
        }
        if header.feature_level > FEATURE_LEVEL {
            return Err(FoldError::FeatureLevel { index, needed: header.feature_level, supported: FEATURE_LEVEL });
        }
        if header.first_sequence != before.sequence + 1 {
            let reason = format!("position {} where {} is next", header.first_sequence, before.sequence + 1);
            return Err(malformed(reason));
        }

        let mut events = Vec::with_capacity(record.decision_count());
        let decoded = read(index, &record, &mut events)?;
        let positions = decoded.last().map_or(0, |last| last.decision.offset + last.decision.positions());
        let refusals = positions - events.len() as u64;
        // Stable: the decisions of one channel keep their order. Channels do not see each other, so theirs is free.
        let mut by_channel: Vec<&Decoded<'_>> = decoded.iter().collect();
        by_channel.sort_by(|a, b| a.decision.channel_id.cmp(b.decision.channel_id));
        let groups = || by_channel.chunk_by(|a, b| a.decision.channel_id == b.decision.channel_id);
        for group in groups() {
            self.check_revisions(group).map_err(malformed)?;
        }

        let after = Applied {
            record_term: before.term,
            sequence: before.sequence + positions,
            head: hash.unwrap_or_else(|| records::hash(payload)),
            accepted_at: Some(header.accepted_at),
            ..before
        };
        for group in groups() {
            self.apply(shared, group, &events, &after, header.first_sequence);
        }
        metrics::counter!("sillok_views_folded_events_total").increment(events.len() as u64);
        Ok((Folded::Recorded { events: events.len() as u64, refusals }, after))
    }

    /// Revisions of a channel have no gap and no repetition.
    fn check_revisions(&self, group: &[&Decoded<'_>]) -> Result<(), String> {
        let Some(first) = group.first() else { return Ok(()) };
        let id = first.decision.channel_id;
        let mut revision = self.channels.get(id).map_or(0, |cell| cell.read().revision());
        for decoded in group.iter().filter(|decoded| !decoded.events.is_empty()) {
            if decoded.decision.first_revision != revision + 1 {
                let given = decoded.decision.first_revision;
                return Err(format!("channel {id}: revision {given} where {} is next", revision + 1));
            }
            revision += decoded.events.len() as u64;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        shared: &Shared,
        group: &[&Decoded<'_>],
        events: &[Event],
        after: &Applied,
        first_sequence: u64,
    ) {
        let Some(first) = group.first() else { return };
        let id = first.decision.channel_id;
        let (id, cell) = match self.channels.get_key_value(id) {
            Some((id, cell)) => (Arc::clone(id), Arc::clone(cell)),
            // Refusals about a channel that does not exist are counted nowhere: anybody could make up names.
            None if group.iter().all(|decoded| decoded.events.is_empty()) => return,
            None => {
                let id: Arc<str> = id.into();
                let table = shared.new_channel(&id);
                (id, Arc::new(RwLock::new(table)))
            }
        };
        if shared.has_evicted() {
            // Now, while others may read the channel too.
            let events = group.iter().flat_map(|decoded| &events[decoded.events.clone()]);
            cell.read().bring_in(events);
        }
        let mut table = cell.write();
        let was_dirty = table.is_dirty();
        let dirty_rows = table.dirty_rows();
        for Decoded { decision, events: range } in group {
            if let Some(refused) = &decision.refused {
                table.refused(decision.command_kind, refused.reason);
            }
            for (nth, event) in events[range.clone()].iter().enumerate() {
                let item = decision.offset + nth as u64;
                let (occurred_at, backfill) = decision.times(nth);
                let stored = Stored {
                    kind: peek_event_kind(decision.events[nth]).unwrap_or_default(),
                    revision: decision.first_revision + nth as u64,
                    sequence: first_sequence + item,
                    accepted_at: after.accepted_at.unwrap_or_default(),
                    occurred_at,
                    backfill,
                    imported: decision.is_import(),
                    original_accepted_at: decision.original_accepted_at(nth),
                    actor: decision.actor,
                    retry_key: decision.retry_key,
                    payload: decision.events[nth],
                };
                table.apply(Locator { index: after.index, item: item as u32 }, &stored, event, &mut self.scratch);
            }
        }
        table.set_changed(*after);
        self.dirty_rows += table.dirty_rows() - dirty_rows;
        drop(table);
        if !self.channels.contains_key(&id) {
            // Readers find a new channel only once it holds its first event.
            self.channels.insert(Arc::clone(&id), Arc::clone(&cell));
            shared.channels.write().insert(Arc::clone(&id), Arc::clone(&cell));
        }
        if !was_dirty {
            self.dirty.push((id, cell));
        }
    }
}

fn read<'a>(index: u64, record: &RecordView<'a>, events: &mut Vec<Event>) -> Result<Vec<Decoded<'a>>, FoldError> {
    let mut decoded = Vec::with_capacity(record.decision_count());
    for decision in record.decisions() {
        let decision = decision.map_err(|error| FoldError::Malformed { index, reason: error.to_string() })?;
        let start = events.len();
        for (nth, payload) in decision.events.iter().enumerate() {
            let event = decode_to_fold(payload).map_err(|error| FoldError::UnknownEvent {
                index,
                channel_id: decision.channel_id.to_owned(),
                revision: decision.first_revision + nth as u64,
                reason: error.to_string(),
            })?;
            events.push(event);
        }
        decoded.push(Decoded { decision, events: start..events.len() });
    }
    Ok(decoded)
}
