//! Sends rows through one `Submit` stream and counts what became of each.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use indicatif::ProgressBar;
use sillok_client::{Answered, WriteError};
use sillok_wire::{errors, v1::Reason};
use tokio::sync::mpsc;

use super::{
    keys,
    rejected::{Left, Rejected, Why},
    rows::Row,
};
use crate::{
    api::Api,
    failure::{Exit, Failure},
    format::thousands,
};

/// What became of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) new: u64,
    pub(super) already: u64,
    pub(super) rejected: u64,
    /// The highest revision in an answer.
    pub(super) revision: u64,
}

impl Tally {
    fn rows(&self) -> u64 {
        self.new + self.already + self.rejected
    }
}

/// One import.
pub(super) struct Engine<'a> {
    pub(super) api: &'a Api,
    /// The chronicle's last position before the import: what stands behind it was not recorded by this import.
    pub(super) start: u64,
    pub(super) tally: Tally,
    pub(super) rejected: Rejected,
    pub(super) bar: ProgressBar,
    /// Rows refused in an earlier import, to be tried anew under their next keys.
    again: Vec<Row>,
}

/// Rows that the answers have not reached, in the order of the file. Those that are no commands stand among them and are
/// never sent.
type Underway = Mutex<VecDeque<Row>>;

impl<'a> Engine<'a> {
    pub(super) fn new(api: &'a Api, start: u64, rejected: Rejected, bar: ProgressBar) -> Engine<'a> {
        Engine { api, start, tally: Tally::default(), rejected, bar, again: Vec::new() }
    }

    /// Every row, and those that were refused in an earlier import once more.
    pub(super) async fn run(&mut self, rows: mpsc::Receiver<Vec<Row>>) -> Result<(), Failure> {
        self.pass(rows).await?;
        while !self.again.is_empty() {
            let mut batch = std::mem::take(&mut self.again);
            batch.iter_mut().filter_map(|row| row.command.as_mut().ok()).for_each(keys::next_try);
            let (sender, rows) = mpsc::channel(1);
            // There is room for one.
            let _ = sender.try_send(batch);
            drop(sender);
            self.pass(rows).await?;
        }
        Ok(())
    }

    /// What became of the rows, and where the rejected ones are.
    pub(super) fn finish(self) -> Result<(Tally, Left), Failure> {
        self.bar.finish_and_clear();
        Ok((self.tally, self.rejected.finish()?))
    }

    async fn pass(&mut self, mut rows: mpsc::Receiver<Vec<Row>>) -> Result<(), Failure> {
        let underway = Underway::default();
        let (mut sender, mut answers) = self.api.client().submit().split();
        let send = async {
            'rows: while let Some(batch) = rows.recv().await {
                for row in batch {
                    let command = row.command.as_ref().ok().cloned();
                    lock(&underway).push_back(row);
                    let Some(command) = command else { continue };
                    if sender.send(command).await.is_err() {
                        // The answers say why.
                        break 'rows;
                    }
                }
            }
            sender.close();
            // The reader of the file stops.
            drop(rows);
            Ok(())
        };
        let receive = async {
            let mut batch = Vec::new();
            while answers.next_batch(&mut batch).await {
                for answered in batch.drain(..) {
                    match self.next_sent(&underway)? {
                        Some(row) => self.judge(row, answered)?,
                        None => return Err(Failure::no("an answer came to a row that was not sent")),
                    }
                }
            }
            Ok(())
        };
        tokio::try_join!(send, receive)?;
        // What stands behind the last row that was sent.
        self.next_sent(&underway).map(|_| ())
    }

    /// The next row that was sent; those before it that were not are rejected.
    fn next_sent(&mut self, underway: &Underway) -> Result<Option<Row>, Failure> {
        loop {
            let Some(row) = lock(underway).pop_front() else { return Ok(None) };
            match &row.command {
                Ok(_) => return Ok(Some(row)),
                Err(why) => self.reject_for(&row, why)?,
            }
        }
    }

    fn judge(&mut self, row: Row, answered: Answered) -> Result<(), Failure> {
        match answered.outcome {
            Ok(receipt) => {
                self.tally.revision = self.tally.revision.max(receipt.revision);
                // Not `is_retry`: across a failover this very import sends rows twice.
                match receipt.position.is_some_and(|position| position.sequence > self.start) {
                    true => self.tally.new += 1,
                    false => self.tally.already += 1,
                }
                self.count();
                Ok(())
            }
            Err(WriteError::Refused { reason, .. }) if is_there(reason) => {
                self.tally.already += 1;
                self.count();
                Ok(())
            }
            Err(error @ WriteError::Refused { .. }) => {
                let sequence: u64 = error.fact("sequence").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
                match (sequence <= self.start, row.own_key) {
                    (true, false) => {
                        self.again.push(row);
                        Ok(())
                    }
                    (earlier, _) => self.reject(row, &error, earlier),
                }
            }
            Err(error @ WriteError::Invalid { .. }) => self.reject(row, &error, false),
            Err(error) if error.reason() == Some(Reason::RetryKeyReused) => self.reject(row, &error, false),
            Err(error) => Err(self.stopped(&error)),
        }
    }

    fn reject(&mut self, row: Row, error: &WriteError, earlier: bool) -> Result<(), Failure> {
        let reason = error.reason().map_or("INVALID_COMMAND", errors::reason_name).to_owned();
        let mut message = crate::failure::sentence(error.status());
        if earlier {
            message.push_str(" (so it was refused at an earlier time; a new try needs a new retry key)");
        }
        self.reject_for(&row, &Why { reason, message })
    }

    fn reject_for(&mut self, row: &Row, why: &Why) -> Result<(), Failure> {
        self.tally.rejected += 1;
        self.count();
        self.rejected.add(row.line, &row.raw, why)
    }

    fn count(&self) {
        self.bar.set_position(self.tally.rows());
        if self.tally.already + self.tally.rejected > 0 {
            let Tally { already, rejected, .. } = self.tally;
            self.bar.set_message(format!("({} already there, {} rejected)", thousands(already), thousands(rejected)));
        }
    }

    fn stopped(&self, error: &WriteError) -> Failure {
        self.bar.abandon();
        let done = thousands(self.tally.rows());
        let why = error.status().message();
        let exit = match error {
            WriteError::NotRecorded { .. } if self.tally.new == 0 => Exit::Unavailable,
            _ => Exit::Unknown,
        };
        Failure::new(exit, format!("stopped after {done} rows: {why}"))
            .advise("this is safe to repeat, and goes on where it stopped:")
            .advise(format!("  {}", crate::failure::typed()))
    }
}

fn lock(underway: &Underway) -> MutexGuard<'_, VecDeque<Row>> {
    underway.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refusals that say: what you ask for is there.
fn is_there(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::AlreadyFriend | Reason::ChannelAlreadyOpen | Reason::CouponAlreadyDefined | Reason::TicketAlreadyIssued
    )
}
