//! What was decided and is not yet answered: one batch a record, answered in order once the record is committed.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use sillok_wire::{
    errors::{Outcome, Problem},
    v1,
};

use super::{
    frame::{AwaitSites, Frame, Sites, refusing},
    queue::no_leader,
};

/// The answers that wait for one record, or, where nothing was decided, for the record before.
#[derive(Default)]
pub(super) struct Batch {
    /// Rises by one with each batch.
    pub(super) ordinal: u64,
    pub(super) slots: Vec<Slot>,
    /// Whose answers the slots are, in order: so many for that frame.
    runs: Vec<(Arc<Frame>, usize)>,
    /// Hashes of the retry keys bound by this record.
    pub(super) keys: Vec<u64>,
    /// Decisions in the record; 0: there is no record.
    pub(super) decisions: usize,
    /// Bytes of the record.
    pub(super) bytes: usize,
    /// What became of it; repeats of its keys look here.
    pub(super) fate: Arc<OnceLock<Fate>>,
    /// Where there is no record: what became of the newest record before it, upon which all of it was found.
    pub(super) rests_on: Option<Arc<OnceLock<Fate>>>,
}

/// How a batch was resolved.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// As decided, in this entry, or upon this one.
    Recorded(u64),
    Lost(Lost, Arc<str>),
}

/// One answer as it will be given if the record is committed.
pub(super) struct Slot {
    pub(super) answer: v1::Answer,
    pub(super) basis: Basis,
    /// Wait for all sites for so long.
    pub(super) wait: Option<Duration>,
}

/// What an answer rests on.
#[derive(Debug, Clone)]
pub(super) enum Basis {
    /// A decision of this batch's record.
    ThisRecord,
    /// The answer given again to a decision of the batch with this fate: this one, or one before that was in flight. It
    /// stands and falls with that batch, whatever becomes of this one.
    Repeat(Arc<OnceLock<Fate>>),
    /// Something that is never recorded, but was found on the state that this record leaves: a dry run, a reused key.
    Unrecorded,
    /// True whatever becomes of the records in flight. Where it is a decision, the entry that holds it.
    Settled(Option<u64>),
}

/// How a record ended without being recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is not in the log, or was skipped by every node alike: it can be shown that nothing was recorded.
    Certainly,
    /// It may still be committed by another leader.
    Perhaps,
}

impl Batch {
    /// The next one, with room for as many answers.
    pub(super) fn next(&self) -> Batch {
        Batch {
            ordinal: self.ordinal + 1,
            slots: Vec::with_capacity(self.slots.len()),
            keys: Vec::with_capacity(self.keys.len()),
            ..Batch::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn push(&mut self, frame: &Arc<Frame>, slot: Slot) {
        self.slots.push(slot);
        match self.runs.last_mut() {
            Some((last, count)) if Arc::ptr_eq(last, frame) => *count += 1,
            _ => self.runs.push((frame.clone(), 1)),
        }
    }

    /// Everything is as it was decided: answers go out. `index` is the record's entry, or one that is committed. Batches
    /// are resolved in order.
    pub(super) fn release(self, index: u64, sites: &Arc<dyn Sites>) {
        self.resolve(Fate::Recorded(index), sites);
    }

    /// The record is lost: each answer says what is known of its command.
    pub(super) fn fail(self, lost: Lost, why: &str, sites: &Arc<dyn Sites>) {
        self.resolve(Fate::Lost(lost, why.into()), sites);
    }

    fn resolve(self, fate: Fate, sites: &Arc<dyn Sites>) {
        // It is set only here, where the batch is consumed.
        let _ = self.fate.set(fate.clone());
        let upon = match self.rests_on.as_ref().and_then(|before| before.get()) {
            Some(before @ Fate::Lost(..)) => before.clone(),
            _ => fate.clone(),
        };
        let here = match &fate {
            Fate::Recorded(index) => Some((*index, sites.durability(*index))),
            Fate::Lost(..) => None,
        };
        self.deliver(sites, |slot| {
            let at = match slot.stands(&fate, &upon) {
                Ok(at) => at,
                Err(problem) => {
                    slot.answer = refusing(problem);
                    return None;
                }
            };
            let Some(v1::answer::Outcome::Receipt(receipt)) = &mut slot.answer.outcome else { return None };
            // Dry runs have no position and are nowhere.
            receipt.position.as_ref()?;
            // An entry before is flushed wherever this one is: the later entry's sites are a lower bound for it.
            let (at, durability) = match (at, &here) {
                (Some(at), Some((index, here))) if at >= *index => (at, here.clone()),
                (None, Some((index, here))) => (*index, here.clone()),
                (Some(at), _) => (at, sites.durability(at)),
                (None, None) => return None,
            };
            // Nothing is waited for where leadership may be gone, and acknowledgements with it.
            let wait = slot.wait.filter(|_| here.is_some() && !durability.all_sites);
            receipt.name_sites(durability);
            wait.map(|at_most| AwaitSites { index: at, at_most })
        });
    }

    fn deliver(mut self, sites: &Arc<dyn Sites>, mut each: impl FnMut(&mut Slot) -> Option<AwaitSites>) {
        let mut slots = std::mem::take(&mut self.slots).into_iter();
        for (frame, count) in self.runs {
            let answers = slots.by_ref().take(count).map(|mut slot| {
                let wait = each(&mut slot);
                (slot.answer, wait)
            });
            frame.deliver(answers, sites);
        }
    }
}

impl Slot {
    /// The entry that holds what the answer says, where one does, or why it cannot be given. `own` is the fate of its
    /// batch, `upon` that of the state which the batch leaves.
    fn stands(&self, own: &Fate, upon: &Fate) -> Result<Option<u64>, Problem> {
        let fate = match &self.basis {
            Basis::Settled(at) => return Ok(*at),
            Basis::ThisRecord => own,
            Basis::Repeat(original) => match original.get() {
                Some(fate) => fate,
                None => return Err(unknown("the first try with this key is still in flight")),
            },
            Basis::Unrecorded => match upon {
                Fate::Recorded(at) => return Ok(Some(*at)),
                Fate::Lost(_, why) => return Err(not_recorded(why)),
            },
        };
        match fate {
            Fate::Recorded(at) => Ok(Some(*at)),
            Fate::Lost(Lost::Perhaps, why) => Err(unknown(why)),
            Fate::Lost(Lost::Certainly, why) => Err(not_recorded(why)),
        }
    }
}

fn not_recorded(why: &str) -> Problem {
    no_leader(format!("{why}; nothing was recorded"))
}

/// UNAVAILABLE, and nobody can say yet whether it was recorded.
pub(crate) fn unknown(why: &str) -> Problem {
    let message = format!("{why}; whether the command was recorded is not known: repeat it with the same retry key");
    Problem::new(v1::Reason::OutcomeUnknown, message).outcome(None::<Outcome>)
}
