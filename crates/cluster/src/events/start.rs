//! Where a reader begins. Reads the chronicle: not for a task that must not block.

use sillok_views::Views;
use sillok_wire::{
    errors::Problem,
    records,
    v1::{self, Reason, read_events_request::Start},
};

use super::{
    cursor::{ALL, Cursor, CursorError},
    scan::{Newest, Place, ScanError, Scanner},
};
use crate::{
    chain::ChainError,
    commit::Commit,
    types::{Entry, kind},
};

/// A reader cannot begin there.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0}; begin at a position or a revision")]
    Cursor(#[from] CursorError),
    #[error(
        "the cursor does not fit this chronicle: at entry {index} stands another record; begin at a position or a revision"
    )]
    OtherHistory { index: u64 },
    #[error("the cursor is at entry {index} and this node has {committed}; ask again, or another node")]
    NotReached { index: u64, committed: u64 },
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl From<StartError> for tonic::Status {
    fn from(error: StartError) -> tonic::Status {
        let reason = match &error {
            StartError::Cursor(_) | StartError::OtherHistory { .. } => Reason::CursorInvalid,
            StartError::NotReached { .. } => Reason::PositionNotReached,
            StartError::Scan(ScanError::Event { .. }) => Reason::ViewsStopped,
            StartError::Scan(_) | StartError::Chain(_) => Reason::NotReady,
        };
        Problem::new(reason, error.to_string()).outcome(None).into()
    }
}

/// Finds the place; `commit` is what is committed here now.
pub(super) fn place(
    scanner: &Scanner,
    views: &Views,
    start: Option<&Start>,
    commit: Option<&Commit>,
) -> Result<Place, StartError> {
    let beginning = Place { next: 0, done: 0, newest: None, seen: None };
    let Some(start) = start else { return Ok(Place { seen: Some(0), ..beginning }) };
    match start {
        Start::FromRevision(revision) => Ok(at_revision(scanner, views, (*revision).max(1))),
        Start::AfterCursor(bytes) => after(scanner, Cursor::decode(bytes, scanner.cluster_id)?, commit),
        Start::FromPosition(position) => match commit {
            Some(commit) if position.sequence >= commit.next_sequence => Ok(end_of(commit)),
            Some(commit) => Ok(Place { next: at_sequence(scanner, position.sequence, commit)?, ..beginning }),
            None => Ok(beginning),
        },
        Start::FromEnd(true) => Ok(commit.map_or(beginning, end_of)),
        Start::FromEnd(false) => Ok(Place { seen: Some(0), ..beginning }),
    }
}

/// After everything that is committed.
fn end_of(commit: &Commit) -> Place {
    let newest = Newest {
        index: commit.log_id.index,
        items: ALL,
        head: commit.head,
        term: commit.log_id.term,
        sequence: commit.next_sequence - 1,
        accepted_at: commit.accepted_at,
    };
    Place { next: commit.log_id.index + 1, done: 0, newest: Some(newest), seen: None }
}

/// The views say where a revision stands. One that is not there yet comes after what they have folded.
fn at_revision(scanner: &Scanner, views: &Views, revision: u64) -> Place {
    // In this order: what is folded later is read from the log.
    let folded = views.applied();
    let channel = scanner.filter.channels.first().map_or("", String::as_str);
    let locator = views.with_channel(channel, |table| table.and_then(|table| table.locate(revision)));
    let next = match locator {
        Some(locator) => locator.index,
        None => folded.map_or(0, |applied| applied.index + 1),
    };
    Place { next, done: 0, newest: None, seen: locator.is_some().then(|| revision - 1) }
}

/// After what the cursor says was read, if it was read here.
fn after(scanner: &Scanner, cursor: Cursor, commit: Option<&Commit>) -> Result<Place, StartError> {
    if cursor.is_beginning() {
        return Ok(Place { next: 0, done: 0, newest: None, seen: None });
    }
    let index = cursor.index;
    let committed = commit.map_or(0, |commit| commit.log_id.index);
    if commit.is_none() || index > committed {
        return Err(StartError::NotReached { index, committed });
    }
    let entry = read_one(scanner, index)?.ok_or(StartError::OtherHistory { index })?;
    let is_record = entry.kind == kind::RECORD && !scanner.chain.is_skipped(index);
    let head = if is_record { records::hash(&entry.payload) } else { scanner.chain.state_at(Some(index))?.head };
    if head != cursor.head || (cursor.items != ALL && !is_record) {
        return Err(StartError::OtherHistory { index });
    }
    let (sequence, accepted_at) = if is_record {
        let bad = |source| ScanError::Record { index, source };
        let header = records::peek_header(&entry.payload).map_err(bad)?;
        let all = records::count_positions(&entry.payload).map_err(bad)?;
        let read = u64::from(cursor.items).min(all);
        (header.first_sequence + read - 1, header.accepted_at)
    } else {
        let state = scanner.chain.state_at(Some(index))?;
        (state.next_sequence - 1, state.accepted_at)
    };
    let newest = Newest { index, items: cursor.items, head: cursor.head, term: entry.id.term, sequence, accepted_at };
    let (next, done) = if cursor.items == ALL { (index + 1, 0) } else { (index, cursor.items) };
    Ok(Place { next, done, newest: Some(newest), seen: None })
}

/// The entry whose record holds this position: the last one that begins at or before it.
fn at_sequence(scanner: &Scanner, sequence: u64, commit: &Commit) -> Result<u64, StartError> {
    let (mut low, mut high, mut found) = (0, commit.log_id.index + 1, 0);
    while low < high {
        let middle = low + (high - low) / 2;
        match record_from(scanner, middle, high)? {
            Some((index, first)) if first <= sequence => (found, low) = (index, index + 1),
            _ => high = middle,
        }
    }
    Ok(found)
}

/// The first record at or after `from` that is not skipped, and its first position.
fn record_from(scanner: &Scanner, from: u64, end: u64) -> Result<Option<(u64, u64)>, StartError> {
    for index in from..end {
        let Some(entry) = read_one(scanner, index)? else { return Ok(None) };
        if entry.kind == kind::RECORD && !scanner.chain.is_skipped(index) {
            let header = records::peek_header(&entry.payload).map_err(|source| ScanError::Record { index, source })?;
            return Ok(Some((index, header.first_sequence)));
        }
    }
    Ok(None)
}

fn read_one(scanner: &Scanner, index: u64) -> Result<Option<Entry>, StartError> {
    let entries = scanner.chronicle.read(index, index + 1, 0).map_err(ScanError::from)?;
    Ok(entries.into_iter().next())
}

/// What is asked for cannot be.
pub(super) fn check(request: &v1::ReadEventsRequest) -> Result<(), Problem> {
    let wrong = |field: &str, description: &str| {
        Err(Problem::new(Reason::InvalidCommand, format!("{field} {description}"))
            .outcome(None)
            .violation(field, description))
    };
    if request.channel_ids.len() > 1_000 {
        return wrong("channel_ids", "names more than 1,000 channels");
    }
    if request.options.as_ref().and_then(|options| options.at_least).is_some_and(|at| at.log != sillok_wire::LOG) {
        return wrong("options.at_least.log", "must be 1");
    }
    match &request.start {
        Some(Start::FromRevision(_)) if request.channel_ids.len() != 1 => {
            wrong("from_revision", "needs exactly one channel id")
        }
        Some(Start::FromPosition(position)) if position.log != sillok_wire::LOG => {
            wrong("from_position.log", "must be 1")
        }
        _ => Ok(()),
    }
}
