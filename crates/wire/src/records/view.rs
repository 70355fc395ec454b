//! A record as it lies in its bytes: decisions one by one, no text copied.

use smallvec::SmallVec;

use super::{
    RecordError, RecordHeader,
    peek::{DECISIONS, Front, front},
};
use crate::{command::IMPORT_EVENTS, fields::next_field, record};

/// Field numbers of `sillok.record.v1.Decision`.
pub(super) const CHANNEL_ID: u32 = 1;
pub(super) const RETRY_KEY: u32 = 2;
pub(super) const FINGERPRINT: u32 = 3;
pub(super) const ACTOR: u32 = 4;
pub(super) const OCCURRED_AT: u32 = 5;
pub(super) const BACKFILL: u32 = 6;
pub(super) const COMMAND_KIND: u32 = 7;
pub(super) const FIRST_REVISION: u32 = 8;
pub(super) const EVENTS: u32 = 9;
pub(super) const REFUSED: u32 = 10;
pub(super) const IMPORTED: u32 = 11;

/// A record's front and a way through its decisions.
#[derive(Debug, Clone)]
pub struct RecordView<'a> {
    /// What stands before the decisions.
    pub header: RecordHeader,
    key_count: usize,
    decisions: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the front only.
    ///
    /// # Errors
    /// Where the bytes do not begin like a record.
    pub fn new(record: &'a [u8]) -> Result<RecordView<'a>, RecordError> {
        let Front { header, key_count, rest } = front(record, None)?;
        Ok(RecordView { header, key_count, decisions: rest })
    }

    /// How many decisions there are, as its front says: one for each retry key. For making room; what counts is what
    /// [`RecordView::decisions`] gives.
    pub fn decision_count(&self) -> usize {
        self.key_count
    }

    /// The decisions in order, each decoded as it is reached.
    pub fn decisions(&self) -> Decisions<'a> {
        Decisions { rest: self.decisions, offset: 0 }
    }
}

/// Iterates over the decisions of a record; after an error it ends.
#[derive(Debug, Clone)]
pub struct Decisions<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Decisions<'a> {
    fn step(&mut self) -> Result<Option<DecisionView<'a>>, RecordError> {
        while let Some((number, value)) = next_field(&mut self.rest)? {
            if number == DECISIONS {
                let mut decision = DecisionView::read(value.bytes()?)?;
                decision.offset = self.offset;
                self.offset += decision.positions();
                return Ok(Some(decision));
            }
            if number < DECISIONS {
                return Err(RecordError::OutOfOrder(number));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Decisions<'a> {
    type Item = Result<DecisionView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if matches!(item, Some(Err(_))) {
            self.rest = &[];
        }
        item
    }
}

/// What became of one command, borrowed from a record.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionView<'a> {
    /// Its channel.
    pub channel_id: &'a str,
    /// The key that binds it.
    pub retry_key: &'a str,
    /// Of the command's body.
    pub fingerprint: [u8; 16],
    /// Who asked.
    pub actor: &'a str,
    /// The client's own time, where it sent one.
    pub occurred_at: Option<i64>,
    /// Windows were judged at `occurred_at`.
    pub backfill: bool,
    /// Field number in `sillok.v1.Command`.
    pub command_kind: u32,
    /// Revision of the first event; 0 for a refusal.
    pub first_revision: u64,
    /// Payload bytes as stored, in order. Empty for a refusal.
    pub events: SmallVec<[&'a [u8]; 1]>,
    /// Where the domain said no. Boxed: it is rare, and views are moved about by the thousand.
    pub refused: Option<Box<record::Refused>>,
    /// For an import: what each event carried of its own.
    pub imported: Vec<record::ImportedTime>,
    /// Positions of the record before this decision. Known only where it was read through [`RecordView`]; else 0.
    pub offset: u64,
}

impl<'a> DecisionView<'a> {
    /// Of a decision that was decoded by prost; `offset` is the positions of the record before it.
    ///
    /// # Errors
    /// Where the fingerprint has another length, or imported times do not go with the events.
    pub fn of(decision: &'a record::Decision, offset: u64) -> Result<DecisionView<'a>, RecordError> {
        let view = DecisionView {
            channel_id: &decision.channel_id,
            retry_key: &decision.retry_key,
            fingerprint: fingerprint(&decision.fingerprint)?,
            actor: &decision.actor,
            occurred_at: decision.occurred_at_unix_nanos,
            backfill: decision.backfill,
            command_kind: decision.command_kind,
            first_revision: decision.first_revision,
            events: decision.events.iter().map(|event| &event[..]).collect(),
            refused: decision.refused.clone().map(Box::new),
            imported: decision.imported.clone(),
            offset,
        };
        view.checked()
    }

    /// How many positions it takes.
    pub fn positions(&self) -> u64 {
        self.events.len() as u64 + u64::from(self.refused.is_some())
    }

    /// When and how the n-th event happened: its own for an import, else the command's.
    pub fn times(&self, event: usize) -> (Option<i64>, bool) {
        match self.imported.get(event) {
            Some(imported) => (imported.occurred_at_unix_nanos, imported.backfill),
            None => (self.occurred_at, self.backfill),
        }
    }

    /// Its events are facts of another channel.
    pub fn is_import(&self) -> bool {
        self.command_kind == IMPORT_EVENTS
    }

    /// When the n-th event of an import was first accepted, where that was told.
    pub fn original_accepted_at(&self, event: usize) -> Option<i64> {
        self.imported.get(event)?.accepted_at_unix_nanos
    }

    fn read(mut rest: &'a [u8]) -> Result<DecisionView<'a>, RecordError> {
        let mut view = DecisionView {
            channel_id: "",
            retry_key: "",
            fingerprint: [0; 16],
            actor: "",
            occurred_at: None,
            backfill: false,
            command_kind: 0,
            first_revision: 0,
            events: SmallVec::new(),
            refused: None,
            imported: Vec::new(),
            offset: 0,
        };
        let mut has_fingerprint = false;
        while let Some((number, value)) = next_field(&mut rest)? {
            match number {
                CHANNEL_ID => view.channel_id = text(value.bytes()?, "the channel's id")?,
                RETRY_KEY => view.retry_key = text(value.bytes()?, "the retry key")?,
                FINGERPRINT => {
                    view.fingerprint = fingerprint(value.bytes()?)?;
                    has_fingerprint = true;
                }
                ACTOR => view.actor = text(value.bytes()?, "the actor")?,
                OCCURRED_AT => view.occurred_at = Some(value.fixed()? as i64),
                BACKFILL => view.backfill = value.number()? != 0,
                COMMAND_KIND => view.command_kind = value.number()? as u32,
                FIRST_REVISION => view.first_revision = value.number()?,
                EVENTS => view.events.push(value.bytes()?),
                REFUSED => view.refused = Some(Box::new(prost::Message::decode(value.bytes()?)?)),
                IMPORTED => view.imported.push(prost::Message::decode(value.bytes()?)?),
                _ => {}
            }
        }
        if !has_fingerprint {
            return Err(RecordError::Fingerprint(0));
        }
        view.checked()
    }

    fn checked(self) -> Result<DecisionView<'a>, RecordError> {
        if !self.imported.is_empty() && self.imported.len() != self.events.len() {
            return Err(RecordError::Imported { events: self.events.len(), times: self.imported.len() });
        }
        if self.events.is_empty() != self.refused.is_some() {
            return Err(RecordError::Outcome(self.command_kind));
        }
        Ok(self)
    }
}

fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, RecordError> {
    std::str::from_utf8(bytes).map_err(|_| RecordError::NotText(what))
}

fn fingerprint(bytes: &[u8]) -> Result<[u8; 16], RecordError> {
    bytes.try_into().map_err(|_| RecordError::Fingerprint(bytes.len()))
}
