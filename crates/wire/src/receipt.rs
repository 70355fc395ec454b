//! What a client is told: the same when it is fresh and when it is asked for again years later.

use sillok_domain::{Detail, Event, Refusal, UnixNanos};

use crate::{
    LOG,
    command::IMPORT_EVENTS,
    errors::{self, Problem},
    payload::{PayloadError, decode_payload},
    record,
    records::{DecisionView, RecordHeader},
    time::timestamp,
    v1,
};

/// Where a decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The term of the entry that holds it.
    pub term: u64,
    /// Position of its first event or of its refusal.
    pub first_sequence: u64,
    /// Of the record.
    pub accepted_at: UnixNanos,
}

/// What a decision was.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// What happened; at least one event.
    Events {
        /// Field number in `sillok.v1.Command`.
        command_kind: u32,
        /// Revision of the first.
        first_revision: u64,
        /// In order.
        events: &'a [Event],
    },
    /// A definite no, as it is recorded.
    Refused(&'a record::Refused),
}

/// The one function that makes answers to what is recorded. A receipt names the last event of its command and has no
/// durability yet: that part speaks for the moment of the answer.
pub fn answer(place: Place, outcome: Outcome<'_>, is_retry: bool) -> v1::Answer {
    let outcome = match outcome {
        Outcome::Refused(refused) => {
            // A refusal has no receipt: its place rides among its facts.
            let problem = problem(refused).with("sequence", place.first_sequence);
            v1::answer::Outcome::Error(problem.into())
        }
        Outcome::Events { command_kind, first_revision, events } => {
            let last = (events.len() as u64).saturating_sub(1);
            v1::answer::Outcome::Receipt(v1::Receipt {
                revision: first_revision + last,
                position: Some(v1::Position { log: LOG, sequence: place.first_sequence + last, term: place.term }),
                accepted_at: Some(timestamp(place.accepted_at)),
                // Sites are named by whoever gives the answer.
                durability: is_retry.then(|| v1::Durability { is_retry, ..v1::Durability::default() }),
                detail: detail(command_kind, first_revision, events),
            })
        }
    };
    v1::Answer { outcome: Some(outcome) }
}

impl v1::Receipt {
    /// The original answer given again.
    pub fn is_retry(&self) -> bool {
        self.durability.as_ref().is_some_and(|durability| durability.is_retry)
    }

    /// Says of this answer that it is the original given again.
    pub fn mark_retry(&mut self) {
        self.durability.get_or_insert_default().is_retry = true;
    }

    /// Names the sites that have the record now; whether this is a retry stays as it was.
    pub fn name_sites(&mut self, now: v1::Durability) {
        let is_retry = self.is_retry();
        self.durability = Some(v1::Durability { is_retry, ..now });
    }
}

/// [`answer`] to what is stored: `term` of the entry that holds the record.
///
/// # Errors
/// Where an event of the decision is unknown to this version.
pub fn receipt(
    term: u64,
    record: &RecordHeader,
    decision: &DecisionView<'_>,
    is_retry: bool,
) -> Result<v1::Answer, PayloadError> {
    let place =
        Place { term, first_sequence: record.first_sequence + decision.offset, accepted_at: record.accepted_at };
    if let Some(refused) = &decision.refused {
        return Ok(answer(place, Outcome::Refused(refused), is_retry));
    }
    let events = decision.events.iter().map(|bytes| decode_payload(bytes)).collect::<Result<Vec<_>, _>>()?;
    let (command_kind, first_revision) = (decision.command_kind, decision.first_revision);
    Ok(answer(place, Outcome::Events { command_kind, first_revision, events: &events }, is_retry))
}

/// The answer to `validate_only`: what would be recorded, without a position. Nothing was.
pub fn validated(accepted_at: UnixNanos, outcome: Outcome<'_>) -> v1::Answer {
    let place = Place { term: 0, first_sequence: 0, accepted_at };
    let mut answer = answer(place, outcome, false);
    match &mut answer.outcome {
        Some(v1::answer::Outcome::Receipt(receipt)) => receipt.position = None,
        Some(v1::answer::Outcome::Error(error)) => {
            if let Outcome::Refused(refused) = outcome {
                *error = problem(refused).outcome(Some(errors::Outcome::NotRecorded)).into();
            }
        }
        None => {}
    }
    answer
}

/// A refusal of the domain as it is recorded.
pub fn refused_to_proto(refusal: &Refusal) -> record::Refused {
    let metadata = refusal.metadata.iter();
    record::Refused {
        reason: i32::from(refusal.reason as u16),
        message: refusal.message.clone(),
        metadata: metadata.map(|(key, value)| v1::Attribute { key: (*key).to_owned(), value: value.clone() }).collect(),
    }
}

fn problem(refused: &record::Refused) -> Problem {
    let reason = v1::Reason::try_from(refused.reason).unwrap_or(v1::Reason::Unspecified);
    let mut problem = Problem::new(reason, refused.message.clone()).outcome(Some(errors::Outcome::Refused));
    for fact in &refused.metadata {
        problem = problem.with(fact.key.clone(), &fact.value);
    }
    problem
}

/// What the command made.
fn detail(command_kind: u32, first_revision: u64, events: &[Event]) -> Option<v1::receipt::Detail> {
    use v1::receipt::Detail as D;
    Some(match sillok_domain::detail(command_kind == IMPORT_EVENTS, first_revision, events) {
        Detail::None => return None,
        Detail::Friend { number } => D::Friend(v1::FriendDetail { friend_number: number }),
        Detail::Send {
            message_id,
            audience_count,
            excluded_without_consent,
            excluded_blocked,
            unit_price_won,
            cost_won,
        } => D::Send(v1::SendDetail {
            message_id,
            audience_count,
            excluded_without_consent,
            excluded_blocked,
            unit_price_won,
            cost_won,
        }),
        Detail::Coupon { id } => D::Coupon(v1::CouponDetail { coupon_id: id.to_owned() }),
        Detail::Ticket { coupon_id, ticket_id, issued_count, excluded_at_limit } => D::Ticket(v1::TicketDetail {
            coupon_id: coupon_id.to_owned(),
            ticket_id: ticket_id.to_owned(),
            issued_count,
            excluded_at_limit,
        }),
        Detail::Import { count } => D::Import(v1::ImportDetail { imported_count: count }),
    })
}
