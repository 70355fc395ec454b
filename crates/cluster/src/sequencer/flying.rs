//! What a closed batch waits for, and how that turns out.

use std::{
    collections::VecDeque,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::{BoxFuture, MaybeDone, maybe_done};
use tokio::time::Instant;

use super::{desk::Closed, flight::Lost};
use crate::{
    core::{Core, Proposal, ProposalError},
    types::{Applied, LogId},
};

/// A closed batch on its way.
pub(super) struct Flying {
    pending: Pending,
    pub(super) since: Instant,
}

enum Pending {
    /// Kept once it has turned out: it is looked at before its turn has come.
    Record(MaybeDone<Proposal>),
    Confirm(BoxFuture<'static, Result<(), String>>),
    Nothing,
    /// Refused before it became a proposal.
    Refused(String),
}

/// How a batch turned out.
pub(super) enum Turned {
    /// As decided; the entry, if there is one.
    Well(Option<u64>),
    Lost(Lost, String),
}

impl Flying {
    /// Sends what was closed in `term` on its way.
    pub(super) async fn send(core: &Arc<Core>, term: u64, closed: Closed) -> Flying {
        let pending = match closed {
            Closed::Record(record) => propose(core, term, record).await,
            Closed::Confirm => Pending::Confirm(Box::pin(confirm(core.clone(), term))),
            Closed::Answers => Pending::Nothing,
        };
        Flying { pending, since: Instant::now() }
    }

    /// Once it has turned out. To be asked for the oldest one, and not again after it has answered.
    pub(super) async fn turn_out(&mut self) -> Turned {
        match &mut self.pending {
            Pending::Record(proposal) => {
                (&mut *proposal).await;
                Pin::new(proposal).take_output().map_or_else(|| judge(Err(ProposalError::Unknown)), judge)
            }
            Pending::Confirm(confirm) => match confirm.await {
                Ok(()) => Turned::Well(None),
                Err(why) => Turned::Lost(Lost::Certainly, format!("the leader could not confirm itself: {why}")),
            },
            Pending::Nothing => Turned::Well(None),
            Pending::Refused(why) => Turned::Lost(Lost::Certainly, why.clone()),
        }
    }

    /// Why it is lost, where that is known already.
    fn poll_lost(&mut self, context: &mut Context<'_>) -> Option<String> {
        match &mut self.pending {
            Pending::Record(proposal) => {
                let mut proposal = Pin::new(proposal);
                let Poll::Ready(()) = proposal.as_mut().poll(context) else { return None };
                match proposal.output_mut().cloned().map(judge)? {
                    Turned::Well(_) => None,
                    Turned::Lost(_, why) => Some(why),
                }
            }
            Pending::Refused(why) => Some(why.clone()),
            Pending::Confirm(_) | Pending::Nothing => None,
        }
    }

    /// The proposal, if it has not turned out.
    pub(super) fn into_unsettled(self) -> Option<Proposal> {
        match self.pending {
            Pending::Record(MaybeDone::Future(proposal)) => Some(proposal),
            _ => None,
        }
    }
}

/// Resolves when the oldest has turned out; with why as soon as one behind it is known to be lost, however long the
/// oldest may take: nothing that is decided after a lost record can come true.
pub(super) async fn next(flying: &mut VecDeque<Flying>) -> Result<Turned, String> {
    let (front, rest) = flying.as_mut_slices();
    let Some((oldest, behind)) = front.split_first_mut() else { return std::future::pending().await };
    let lost = poll_fn(|context| {
        match behind.iter_mut().chain(rest.iter_mut()).find_map(|flying| flying.poll_lost(context)) {
            Some(why) => Poll::Ready(why),
            None => Poll::Pending,
        }
    });
    tokio::select! {
        biased;
        turned = oldest.turn_out() => Ok(turned),
        why = lost => Err(why),
    }
}

async fn propose(core: &Core, term: u64, record: Bytes) -> Pending {
    metrics::histogram!("sillok_record_bytes").record(record.len() as f64);
    match core.propose(term, record).await {
        Ok(proposal) => Pending::Record(maybe_done(proposal)),
        Err(error) => Pending::Refused(error.to_string()),
    }
}

/// Begun late, it may meet this node as the leader of a later term, which knows more than was known here.
async fn confirm(core: Arc<Core>, term: u64) -> Result<(), String> {
    let read = core.local_read_index().await.map_err(|error| error.to_string())?;
    if read.term == term { Ok(()) } else { Err(format!("term {term} is over")) }
}

fn judge(outcome: Result<(LogId, Applied), ProposalError>) -> Turned {
    match outcome {
        Ok((log_id, Applied::Recorded)) => Turned::Well(Some(log_id.index)),
        Ok((log_id, Applied::Skipped | Applied::NotARecord)) => Turned::Lost(
            Lost::Certainly,
            format!("the record in entry {} was decided upon another one and is skipped", log_id.index),
        ),
        Err(ProposalError::NotProposed(why)) => {
            Turned::Lost(Lost::Certainly, format!("the log refused the record: {why}"))
        }
        Err(error @ ProposalError::Unknown) => Turned::Lost(Lost::Perhaps, error.to_string()),
    }
}
