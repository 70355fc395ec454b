//! Accounting by serial number: every intent against the record.

use std::collections::{HashMap, hash_map::Entry as Slot};

use super::Verdict;
use crate::{
    history::{Answer, Call, History, Serial},
    ledger::{Decision, Entry, Kind, Ledger},
};

/// Where each intent stands in the record.
pub(super) fn by_serial(ledger: &Ledger) -> HashMap<Serial, &Entry> {
    let entries = ledger.entries.iter().rev();
    entries.filter_map(|entry| Some((entry.serial?, entry))).collect()
}

pub(super) fn check(history: &History, ledger: &Ledger) -> Vec<Verdict> {
    vec![lost(history, ledger), doubled(history, ledger), ghosts(history, ledger), gaps(ledger)]
}

fn lost(history: &History, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new("lost", "No acknowledged event is lost");
    let recorded = by_serial(ledger);
    for call in &history.calls {
        let found = recorded.get(&call.serial);
        let holds = match call.answer {
            Answer::Recorded { revision, sequence } => found.is_some_and(|entry| {
                entry.sequence == sequence
                    && entry.channel == call.channel
                    && matches!(entry.decision, Decision::Event { revision: here, .. } if here == revision)
            }),
            Answer::Refused(reason) => found.is_some_and(|entry| entry.decision == Decision::Refusal(reason)),
            Answer::NotRecorded | Answer::Unknown => continue,
        };
        verdict.examined += 1;
        if !holds {
            verdict.broken(|| match found {
                None => format!("{} is in no record", told(call)),
                Some(entry) => format!("{} stands as {:?} at position {}", told(call), entry.decision, entry.sequence),
            });
        }
    }
    verdict
}

fn doubled(history: &History, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new("doubled", "No event is recorded twice, however often a client retries");
    let asked: HashMap<Serial, &Call> = history.calls.iter().map(|call| (call.serial, call)).collect();
    let mut first: HashMap<Serial, u64> = HashMap::new();
    for entry in &ledger.entries {
        verdict.examined += 1;
        let Some(serial) = entry.serial else {
            verdict.broken(|| format!("position {} was asked for by no client of the drill", entry.sequence));
            continue;
        };
        match first.entry(serial) {
            Slot::Vacant(slot) => {
                slot.insert(entry.sequence);
            }
            Slot::Occupied(slot) => {
                verdict.broken(|| format!("intent {serial} stands at positions {} and {}", slot.get(), entry.sequence));
            }
        }
        let made = asked.get(&serial).and_then(|call| Kind::made_by(call.action));
        if let (Decision::Event { kind, .. }, Some(made)) = (entry.decision, made)
            && kind != made
        {
            verdict.broken(|| format!("intent {serial} asked for {made:?} and made {kind:?}"));
        }
    }
    verdict
}

fn ghosts(history: &History, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new("ghosts", "What was answered as not recorded is not there");
    let recorded = by_serial(ledger);
    // Of an intent with several tries, only the ones that are all definite say that it must not be there.
    let mut certain: HashMap<Serial, (bool, &Call)> = HashMap::new();
    for call in &history.calls {
        let not_recorded = call.answer == Answer::NotRecorded;
        certain.entry(call.serial).and_modify(|(all, _)| *all &= not_recorded).or_insert((not_recorded, call));
    }
    for (_, call) in certain.values().filter(|(all, _)| *all) {
        verdict.examined += 1;
        if let Some(entry) = recorded.get(&call.serial) {
            verdict.broken(|| format!("{} stands at position {}", told(call), entry.sequence));
        }
    }
    verdict
}

fn gaps(ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new("gaps", "Revisions of each channel are 1, 2, 3 … without a gap");
    let mut last: HashMap<u32, u64> = HashMap::new();
    let mut sequence = 0;
    for entry in &ledger.entries {
        if entry.sequence <= sequence {
            verdict.broken(|| format!("position {} comes after position {sequence}", entry.sequence));
        }
        sequence = entry.sequence;
        let Decision::Event { revision, .. } = entry.decision else { continue };
        verdict.examined += 1;
        let due = last.get(&entry.channel).map_or(1, |last| last + 1);
        if revision != due {
            verdict.broken(|| format!("channel {} has revision {revision} where {due} is due", entry.channel));
        }
        last.insert(entry.channel, revision);
    }
    verdict
}

fn told(call: &Call) -> String {
    let at = call.ended.as_secs_f64();
    format!(
        "intent {} ({:?}, channel {}), answered {:?} at {at:.3} s,",
        call.serial, call.action, call.channel, call.answer
    )
}
