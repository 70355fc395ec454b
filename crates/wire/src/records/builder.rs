//! A record under construction: each decision is encoded as it is pushed, and never again.

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sillok_domain::{Event, Refusal, UnixNanos, command::ImportedEvent};

use super::{
    peek::{ACCEPTED_AT, DECISIONS, FEATURE_LEVEL, FIRST_SEQUENCE, KEY_HASHES, PREDECESSOR},
    push::Push,
    view,
};
use crate::{
    Submission,
    fields::{bytes_field, message_field, number_field, text_field},
    payload::event_level,
    payload_to_proto,
    receipt::refused_to_proto,
    record,
};

/// What became of one command, borrowed from those who decided it.
#[derive(Debug, Clone, Copy)]
pub struct NewDecision<'a> {
    /// Its channel.
    pub channel_id: &'a str,
    /// The key that binds it.
    pub retry_key: &'a str,
    /// [`super::key_hash`] of both.
    pub key_hash: u64,
    /// Of the command's body.
    pub fingerprint: &'a [u8; 16],
    /// Who asked.
    pub actor: &'a str,
    /// The client's own time, where it sent one.
    pub occurred_at: Option<UnixNanos>,
    /// Windows were judged at `occurred_at`.
    pub backfill: bool,
    /// Field number in `sillok.v1.Command`.
    pub command_kind: u32,
    /// Events or a refusal.
    pub outcome: NewOutcome<'a>,
    /// For an import: the events as they were given, for their own times. Otherwise empty.
    pub imported: &'a [ImportedEvent],
}

/// What the domain decided.
#[derive(Debug, Clone, Copy)]
pub enum NewOutcome<'a> {
    /// What happened; at least one event.
    Events {
        /// Revision of the first.
        first_revision: u64,
        /// In order.
        events: &'a [Event],
    },
    /// A definite no.
    Refused(&'a Refusal),
}

impl<'a> NewDecision<'a> {
    /// Of a checked command and what the domain said to it.
    pub fn of(submission: &'a Submission, outcome: NewOutcome<'a>) -> NewDecision<'a> {
        let command = &submission.command;
        let imported = match (&command.intent, outcome) {
            (sillok_domain::Intent::ImportEvents { events, .. }, NewOutcome::Events { .. }) => &events[..],
            _ => &[],
        };
        NewDecision {
            channel_id: &command.channel_id,
            retry_key: &command.context.retry_key,
            key_hash: submission.key_hash,
            fingerprint: &submission.fingerprint,
            actor: &command.context.actor,
            occurred_at: command.context.occurred_at,
            backfill: command.context.backfill,
            command_kind: submission.kind,
            outcome,
            imported,
        }
    }
}

/// Collects decisions until the record is closed. Reusable: [`RecordBuilder::finish`] leaves it empty with its buffers.
#[derive(Debug, Default)]
pub struct RecordBuilder {
    key_hashes: Vec<u64>,
    /// Field 6 of every decision so far, encoded.
    decisions: Vec<u8>,
    positions: u64,
    /// The least feature level that knows every kind so far; 0 before the first.
    level: u32,
}

impl RecordBuilder {
    /// Empty.
    pub fn new() -> RecordBuilder {
        RecordBuilder::default()
    }

    /// Adds a decision and says how many positions of the record come before it.
    pub fn push(&mut self, decision: &NewDecision<'_>) -> u64 {
        let offset = self.positions;
        self.positions += match decision.outcome {
            NewOutcome::Events { events, .. } => events.len() as u64,
            NewOutcome::Refused(_) => 1,
        };
        if let NewOutcome::Events { events, .. } = decision.outcome {
            self.level = events.iter().map(event_level).fold(self.level, u32::max);
        }
        self.key_hashes.push(decision.key_hash);
        encode_decision(decision, &mut self.decisions);
        offset
    }

    /// Decisions so far.
    pub fn len(&self) -> usize {
        self.key_hashes.len()
    }

    /// Nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.key_hashes.is_empty()
    }

    /// Positions so far: events and refusals.
    pub fn positions(&self) -> u64 {
        self.positions
    }

    /// Bytes of the record if it were finished now, at most.
    pub fn size_bytes(&self) -> usize {
        // predecessor 34, feature level 6, sequence 11, time 9, key hashes 11 and their length.
        71 + self.key_hashes.len() * 8 + self.decisions.len()
    }

    /// The bytes of the record, in the order of the fields. Leaves the builder empty.
    pub fn finish(&mut self, predecessor: &[u8; 32], first_sequence: u64, accepted_at: UnixNanos) -> Bytes {
        let mut record = Vec::with_capacity(self.size_bytes());
        bytes_field(PREDECESSOR, predecessor, &mut record);
        number_field(FEATURE_LEVEL, u64::from(self.level.max(super::FIRST_LEVEL)), &mut record);
        number_field(FIRST_SEQUENCE, first_sequence, &mut record);
        if accepted_at != 0 {
            encode_key(ACCEPTED_AT, WireType::SixtyFourBit, &mut record);
            record.put_i64_le(accepted_at);
        }
        if !self.key_hashes.is_empty() {
            encode_key(KEY_HASHES, WireType::LengthDelimited, &mut record);
            encode_varint(self.key_hashes.len() as u64 * 8, &mut record);
            for hash in self.key_hashes.drain(..) {
                record.put_u64_le(hash);
            }
        }
        record.extend_from_slice(&self.decisions);
        self.decisions.clear();
        self.positions = 0;
        self.level = 0;
        record.into()
    }
}

/// What the length of nearly every decision takes: those of 128 bytes to 16 KiB. Others are moved to where they belong.
const LENGTH_BYTES: usize = 2;

/// Field 6 with one decision. Its length is put in afterwards: computing it beforehand would walk every event twice.
fn encode_decision(decision: &NewDecision<'_>, to: &mut Vec<u8>) {
    encode_key(DECISIONS, WireType::LengthDelimited, to);
    let at = to.len();
    let begin = at + LENGTH_BYTES;
    to.resize(begin, 0);

    text_field(view::CHANNEL_ID, decision.channel_id, to);
    text_field(view::RETRY_KEY, decision.retry_key, to);
    bytes_field(view::FINGERPRINT, decision.fingerprint, to);
    text_field(view::ACTOR, decision.actor, to);
    if let Some(occurred_at) = decision.occurred_at {
        encode_key(view::OCCURRED_AT, WireType::SixtyFourBit, to);
        to.put_i64_le(occurred_at);
    }
    number_field(view::BACKFILL, u64::from(decision.backfill), to);
    number_field(view::COMMAND_KIND, u64::from(decision.command_kind), to);
    match decision.outcome {
        NewOutcome::Events { first_revision, events } => {
            number_field(view::FIRST_REVISION, first_revision, to);
            for event in events {
                match Push::of(event) {
                    Some(push) => push.append(view::EVENTS, to),
                    None => message_field(view::EVENTS, &payload_to_proto(event), to),
                }
            }
        }
        NewOutcome::Refused(refusal) => message_field(view::REFUSED, &refused_to_proto(refusal), to),
    }
    for imported in decision.imported {
        let time = record::ImportedTime {
            occurred_at_unix_nanos: imported.occurred_at,
            backfill: imported.backfill,
            accepted_at_unix_nanos: imported.accepted_at,
        };
        message_field(view::IMPORTED, &time, to);
    }

    let length = to.len() - begin;
    let takes = encoded_len_varint(length as u64);
    if takes != LENGTH_BYTES {
        to.resize(at + takes.max(LENGTH_BYTES) + length, 0);
        to.copy_within(begin..begin + length, at + takes);
        to.truncate(at + takes + length);
    }
    encode_varint(length as u64, &mut &mut to[at..at + takes]);
}
