//! The decision state of one leadership: the views, and over them what was decided and is not yet folded.
//!
//! ```text
//! views (folded)  ◄── evicted behind the fold ──  overlays (decided, in flight)  ◄── decide, apply
//! ```
//! No I/O but the look-up of a retry key that the chronicle knows, no async, no clock: the time of a record is given.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use hashbrown::HashMap;
use sillok_domain::{Channel, Intent, Load, Overlay, UnixNanos, decide};
use sillok_views::{ChannelTable, Views};
use sillok_wire::{
    Outcome, Place, Submission,
    errors::{self, Problem},
    records::{self, NewDecision, NewOutcome, RecordBuilder},
    v1,
};

use super::{
    flight::{Basis, Batch, Fate, Slot},
    frame::refusing,
    queue::Queued,
};
use crate::{
    commit::Commit,
    planted::{self, Planted},
    records::{LookedUp, Records},
};

/// A record is closed after so many decisions.
const DECISIONS_A_RECORD: usize = 8_192;
/// Fewer keys than these are not worth being held against the sealed segments together.
const SCREENED_TOGETHER: usize = 8;

/// See the module.
pub(super) struct Desk {
    views: Views,
    records: Arc<Records>,
    record_bytes: usize,
    term: u64,
    /// Hash of the record that the next one is decided upon.
    head: [u8; 32],
    /// Position that the next record begins at.
    next_sequence: u64,
    accepted_at: UnixNanos,
    overlays: HashMap<String, Sheet>,
    /// Stamps up to here are evicted.
    evicted: u64,
    /// Retry keys of what is decided and not yet committed, by hash.
    keys: HashMap<u64, Bound>,
    builder: RecordBuilder,
    /// What is being built.
    open: Batch,
    /// Closed and not yet resolved, oldest first.
    closed: VecDeque<Batch>,
    /// What becomes, or became, of the newest record.
    newest_record: Option<Arc<OnceLock<Fate>>>,
    in_flight_bytes: usize,
    /// An entry that may hold a key and cannot be read, and why.
    unreadable: Option<(u64, String)>,
    /// Of the commands that come next, in order: the hash of the key, and how many of the oldest sealed segments do not have it.
    screened: VecDeque<(u64, usize)>,
    nothing: Channel,
}

/// What in-flight records changed in one channel. Stamped with positions.
#[derive(Default)]
struct Sheet {
    overlay: Overlay,
    newest: u64,
}

/// A retry key that a decision in flight binds.
struct Bound {
    channel_id: String,
    retry_key: String,
    fingerprint: [u8; 16],
    batch: u64,
    slot: usize,
}

/// How filling a record went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Nothing waits any more.
    Drained,
    /// There is more, and room for it.
    Paused,
    /// The record must be closed.
    Full,
    /// The next command repeats a key that this entry may hold; it must be read back first.
    NeedsEntry(u64),
    /// The next command's key hash is in flight for another key: it must wait until nothing is.
    NeedsQuiet,
}

/// A closed batch on its way.
pub(super) enum Closed {
    /// A record to propose.
    Record(Bytes),
    /// Answers that rest on what this leader believes: it must confirm itself.
    Confirm,
    /// Answers that are true in any case.
    Answers,
}

impl Desk {
    /// Begins on what is committed in `term`; the views must have folded it.
    pub(super) fn new(views: Views, records: Arc<Records>, record_bytes: usize, term: u64, from: &Commit) -> Desk {
        Desk {
            views,
            records,
            record_bytes,
            term,
            head: from.head,
            next_sequence: from.next_sequence,
            accepted_at: from.accepted_at,
            overlays: HashMap::new(),
            evicted: 0,
            keys: HashMap::new(),
            builder: RecordBuilder::new(),
            open: Batch::default(),
            closed: VecDeque::new(),
            newest_record: None,
            in_flight_bytes: 0,
            unreadable: None,
            screened: VecDeque::new(),
            nothing: Channel::default(),
        }
    }

    /// Decides up to `budget` commands into the open record. `committed` bounds what counts as recorded.
    pub(super) fn fill(
        &mut self,
        backlog: &mut VecDeque<Queued>,
        budget: usize,
        now: UnixNanos,
        committed: u64,
    ) -> Filled {
        self.evict();
        if self.open.is_empty() {
            self.accepted_at = self.accepted_at.max(now);
        }
        if self.screened.is_empty() {
            self.screen(backlog, budget);
        }
        let mut left = budget;
        loop {
            while backlog.front().is_some_and(|queued| queued.commands.is_empty()) {
                backlog.pop_front();
            }
            let Some(queued) = backlog.front_mut() else { return Filled::Drained };
            if self.is_full() {
                return Filled::Full;
            }
            if left == 0 {
                return Filled::Paused;
            }
            let Some(Ok(next)) = queued.commands.peek() else {
                left -= 1;
                if let Some(Err(answer)) = queued.commands.next() {
                    self.open.push(&queued.frame, settled(*answer, None));
                }
                continue;
            };
            let (channel_id, mut sheet) = self
                .overlays
                .remove_entry(&*next.command.channel_id)
                .unwrap_or_else(|| (next.command.channel_id.clone(), Sheet::default()));
            let views = self.views.clone();
            let stop = views.with_channel(&channel_id, |table| {
                self.run(&channel_id, table, &mut sheet, queued, &mut left, committed)
            });
            if sheet.newest > self.evicted {
                self.overlays.insert(channel_id, sheet);
            }
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    /// Reads what comes next, and holds its keys against the sealed segments, all together.
    fn screen(&mut self, backlog: &mut VecDeque<Queued>, at_most: usize) {
        let (mut left, mut keys) = (at_most, Vec::with_capacity(at_most));
        for queued in backlog {
            for item in queued.commands.read_ahead(left) {
                left -= 1;
                keys.extend(item.as_ref().ok().map(|next| next.key_hash));
            }
            if left == 0 {
                break;
            }
        }
        if keys.len() >= SCREENED_TOGETHER {
            self.screened.extend(self.records.screen(&keys));
        }
    }

    /// Consecutive commands of one channel, under one read lock of it.
    fn run(
        &mut self,
        channel_id: &str,
        table: Option<&ChannelTable>,
        sheet: &mut Sheet,
        queued: &mut Queued,
        left: &mut usize,
        committed: u64,
    ) -> Option<Filled> {
        while *left > 0 && !self.is_full() {
            let Some(Ok(next)) = queued.commands.peek() else { return None };
            if next.command.channel_id != channel_id {
                return None;
            }
            let passed = match self.screened.front() {
                Some((key_hash, passed)) if *key_hash == next.key_hash => *passed,
                // What comes is not what was screened.
                _ => {
                    self.screened.clear();
                    0
                }
            };
            let slot = match self.repeated(next, passed, committed) {
                Ok(repeated) => repeated,
                Err(stop) => return Some(stop),
            };
            self.screened.pop_front();
            *left -= 1;
            // It was just looked at.
            let Some(Ok(submission)) = queued.commands.next() else { return None };
            let slot = match slot {
                Some(slot) => slot,
                None if submission.validate_only => self.rehearse(&submission, table, sheet),
                None => self.decide(submission, table, sheet),
            };
            if planted::is(Planted::EarlyRefusal) && matches!(slot.answer.outcome, Some(v1::answer::Outcome::Error(_)))
            {
                queued.frame.answer_early(&slot.answer);
            }
            self.open.push(&queued.frame, slot);
        }
        None
    }

    /// The answer to a key that is already bound; `None` where it is fresh. The oldest `passed` sealed segments do not have it.
    fn repeated(&self, submission: &Submission, passed: usize, committed: u64) -> Result<Option<Slot>, Filled> {
        if planted::is(Planted::NoRetryTable) {
            return Ok(None);
        }
        let wait = wait_of(submission);
        let (channel_id, retry_key) = (&submission.command.channel_id, &submission.command.context.retry_key);
        if let Some(bound) = self.keys.get(&submission.key_hash) {
            if bound.channel_id != *channel_id || bound.retry_key != *retry_key {
                return Err(Filled::NeedsQuiet);
            }
            if bound.fingerprint != submission.fingerprint {
                let answer = refusing(reused(retry_key));
                return Ok(Some(Slot { answer, basis: Basis::Unrecorded, wait: None }));
            }
            let original = self.batch(bound.batch).and_then(|batch| Some((batch.slots.get(bound.slot)?, &batch.fate)));
            let Some((original, fate)) = original else {
                // A bound key's batch is open or in flight: keys go when it is resolved.
                return Err(Filled::NeedsQuiet);
            };
            let basis = Basis::Repeat(fate.clone());
            return Ok(Some(Slot { answer: again(original.answer.clone()), basis, wait }));
        }
        match self.records.look_up(channel_id, retry_key, submission.key_hash, passed, committed) {
            Ok(LookedUp::Fresh) => Ok(None),
            Ok(LookedUp::NeedsEntry(index)) => match &self.unreadable {
                Some((given_up, why)) if *given_up == index => Ok(Some(settled(unreadable(why), None))),
                _ => Err(Filled::NeedsEntry(index)),
            },
            Ok(LookedUp::Recorded(record, n)) => Ok(Some(recorded(&record, n, submission))),
            Err(error) => Ok(Some(settled(unreadable(&error.to_string()), None))),
        }
    }

    fn batch(&self, ordinal: u64) -> Option<&Batch> {
        if ordinal == self.open.ordinal {
            return Some(&self.open);
        }
        let first = self.closed.front()?.ordinal;
        self.closed.get(usize::try_from(ordinal.checked_sub(first)?).ok()?)
    }

    fn decide(&mut self, submission: Submission, table: Option<&ChannelTable>, sheet: &mut Sheet) -> Slot {
        let base: &Channel = table.map_or(&self.nothing, |table| table);
        let over = sheet.overlay.over(base);
        let wait = wait_of(&submission);
        let accepted_at = self.accepted_at;
        let answer = match decide(&over, &submission.command, accepted_at) {
            Ok(events) => {
                let first_revision = over.summary().map_or(0, |summary| summary.revision) + 1;
                let new = NewDecision::of(&submission, NewOutcome::Events { first_revision, events: &events });
                let first_sequence = self.next_sequence + self.builder.push(&new);
                for (n, event) in events.iter().enumerate() {
                    let (stamp, revision) = (first_sequence + n as u64, first_revision + n as u64);
                    let occurred_at = occurred_at(&submission, n);
                    sheet.overlay.apply(base, stamp, revision, accepted_at, occurred_at, event);
                    sheet.newest = stamp;
                }
                let place = Place { term: self.term, first_sequence, accepted_at };
                let outcome = Outcome::Events { command_kind: submission.kind, first_revision, events: &events };
                sillok_wire::answer(place, outcome, false)
            }
            Err(refusal) => {
                let new = NewDecision::of(&submission, NewOutcome::Refused(&refusal));
                let first_sequence = self.next_sequence + self.builder.push(&new);
                let place = Place { term: self.term, first_sequence, accepted_at };
                metrics::counter!("sillok_refusals_total").increment(1);
                sillok_wire::answer(place, Outcome::Refused(&sillok_wire::refused_to_proto(&refusal)), false)
            }
        };
        let bound = Bound {
            channel_id: submission.command.channel_id,
            retry_key: submission.command.context.retry_key,
            fingerprint: submission.fingerprint,
            batch: self.open.ordinal,
            slot: self.open.slots.len(),
        };
        self.keys.insert(submission.key_hash, bound);
        self.open.keys.push(submission.key_hash);
        self.open.decisions += 1;
        Slot { answer, basis: Basis::ThisRecord, wait }
    }

    /// Decides and records nothing.
    fn rehearse(&self, submission: &Submission, table: Option<&ChannelTable>, sheet: &Sheet) -> Slot {
        let over = sheet.overlay.over(table.map_or(&self.nothing, |table| table));
        let answer = match decide(&over, &submission.command, self.accepted_at) {
            Ok(events) => {
                let first_revision = over.summary().map_or(0, |summary| summary.revision) + 1;
                let command_kind = submission.kind;
                sillok_wire::validated(
                    self.accepted_at,
                    Outcome::Events { command_kind, first_revision, events: &events },
                )
            }
            Err(refusal) => {
                let refused = sillok_wire::refused_to_proto(&refusal);
                sillok_wire::validated(self.accepted_at, Outcome::Refused(&refused))
            }
        };
        Slot { answer, basis: Basis::Unrecorded, wait: None }
    }

    fn is_full(&self) -> bool {
        self.builder.len() >= DECISIONS_A_RECORD
            || self.open.slots.len() >= 2 * DECISIONS_A_RECORD
            || (!self.builder.is_empty() && self.builder.size_bytes() >= self.record_bytes)
    }

    /// Something waits to be closed.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Closes the open batch: the next one is decided upon it.
    /// Says also how many decisions it holds.
    pub(super) fn close(&mut self) -> (Closed, usize) {
        let next = self.open.next();
        let mut batch = std::mem::replace(&mut self.open, next);
        let closed = if self.builder.is_empty() {
            batch.rests_on = self.newest_record.clone();
            let confirm = batch.slots.iter().any(|slot| matches!(slot.basis, Basis::Unrecorded));
            if confirm { Closed::Confirm } else { Closed::Answers }
        } else {
            let positions = self.builder.positions();
            let record = self.builder.finish(&self.head, self.next_sequence, self.accepted_at);
            self.head = records::hash(&record);
            self.next_sequence += positions;
            batch.bytes = record.len();
            self.newest_record = Some(batch.fate.clone());
            Closed::Record(record)
        };
        let decisions = batch.decisions;
        self.in_flight_bytes += batch.bytes;
        self.closed.push_back(batch);
        (closed, decisions)
    }

    /// Bytes of records that are closed and not resolved.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// This entry cannot be read back: the command that needs it is told so.
    pub(super) fn give_up_on(&mut self, index: u64, why: String) {
        self.unreadable = Some((index, why));
    }

    /// The oldest closed batch is resolved: its keys are the chronicle's now.
    pub(super) fn resolved(&mut self) -> Option<Batch> {
        let batch = self.closed.pop_front()?;
        self.in_flight_bytes -= batch.bytes;
        for key in &batch.keys {
            if self.keys.get(key).is_some_and(|bound| bound.batch == batch.ordinal) {
                self.keys.remove(key);
            }
        }
        Some(batch)
    }

    /// Everything that is not resolved, oldest first, the open batch last. The desk is of no use after this.
    pub(super) fn into_unresolved(mut self) -> (VecDeque<Batch>, Batch) {
        (std::mem::take(&mut self.closed), self.open)
    }

    /// Where more than `at_most` positions are decided and not yet folded: the position to wait for.
    pub(super) fn ahead_of_fold(&self, at_most: u64) -> Option<u64> {
        let folded = self.views.applied().map_or(0, |applied| applied.sequence);
        let wanted = (self.next_sequence + self.builder.positions()).saturating_sub(at_most + 1);
        (folded < wanted).then_some(wanted)
    }

    /// Drops what the views have by now. Their position is published after their tables have changed, so nothing is
    /// missing in between.
    fn evict(&mut self) {
        let folded = self.views.applied().map_or(0, |applied| applied.sequence);
        if folded <= self.evicted {
            return;
        }
        self.evicted = folded;
        self.overlays.retain(|_, sheet| {
            if sheet.newest > folded {
                sheet.overlay.evict(folded);
            }
            sheet.newest > folded
        });
    }
}

/// When an event happened: its own time for an import, else the command's.
fn occurred_at(submission: &Submission, event: usize) -> Option<UnixNanos> {
    match &submission.command.intent {
        Intent::ImportEvents { events, .. } => events.get(event).and_then(|imported| imported.occurred_at),
        _ => submission.command.context.occurred_at,
    }
}

fn wait_of(submission: &Submission) -> Option<std::time::Duration> {
    (submission.wait == v1::Wait::AllSites).then_some(submission.wait_at_most)
}

/// The answer from the chronicle to a key that it holds.
fn recorded(record: &crate::records::Decoded, n: usize, submission: &Submission) -> Slot {
    let index = record.id.index;
    let original = match record.decision(n) {
        Some(Ok(decision)) if decision.fingerprint != submission.fingerprint => {
            return settled(refusing(reused(&submission.command.context.retry_key)), None);
        }
        Some(Ok(decision)) => {
            sillok_wire::receipt(record.id.term, &record.header, &decision, true).map_err(|error| error.to_string())
        }
        Some(Err(error)) => Err(error.to_string()),
        None => Err("there is no such decision".to_owned()),
    };
    match original {
        Ok(answer) => Slot { answer, basis: Basis::Settled(Some(index)), wait: wait_of(submission) },
        Err(reason) => settled(refusing(undecodable(index, &reason)), None),
    }
}

fn settled(answer: v1::Answer, index: Option<u64>) -> Slot {
    Slot { answer, basis: Basis::Settled(index), wait: None }
}

fn again(mut answer: v1::Answer) -> v1::Answer {
    if let Some(v1::answer::Outcome::Receipt(receipt)) = &mut answer.outcome {
        receipt.mark_retry();
    }
    answer
}

fn reused(retry_key: &str) -> Problem {
    let message = format!("retry key {retry_key:?} is bound to another command of this channel; take a new key");
    Problem::new(v1::Reason::RetryKeyReused, message).outcome(Some(errors::Outcome::NotRecorded))
}

/// The key may be bound, so it is not said that nothing was recorded under it.
fn unreadable(why: &str) -> v1::Answer {
    let message = format!("whether this key was recorded before cannot be seen: {why}; repeat it with the same key");
    refusing(Problem::new(v1::Reason::NotReady, message).outcome(None))
}

fn undecodable(index: u64, reason: &str) -> Problem {
    let message =
        format!("the key is recorded in entry {index}, which this node cannot read: {reason}; ask another node");
    Problem::new(v1::Reason::ViewsStopped, message).outcome(None)
}
