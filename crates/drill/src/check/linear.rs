//! Some order of the answers must be legal, whatever the record says: searched by stateright, one friend or ticket at a time.
//!
//! The search takes exponential time in what is asked at once, so the load asks each friend and each ticket only so often.
//! What a client never learned is completed from the record: it happened at some time after it was asked for, or never.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};

use super::{
    Verdict,
    rules::{Ask, Thing, Told},
    serials::by_serial,
};
use crate::{
    history::{Answer, History, Serial, Subject},
    ledger::{Decision, Ledger},
};

/// Operations on one thing that are searched at most; the load stays far below.
const LONGEST: usize = 64;

struct Operation {
    started: Duration,
    /// `None`: nobody was told.
    ended: Option<Duration>,
    ask: Ask,
    told: Told,
}

pub(super) fn check(history: &History, ledger: &Ledger) -> Verdict {
    let mut verdict =
        Verdict::new("unlinearizable", "Each friend's and each ticket's answers have a legal order (linearizability)");
    for ((channel, subject), operations) in partition(history, ledger) {
        verdict.examined += operations.len() as u64;
        if operations.len() > LONGEST {
            verdict.broken(|| {
                format!("{subject:?} of channel {channel} was asked {} times: too often to search", operations.len())
            });
        } else if !is_linearizable(subject, &operations) {
            verdict.broken(|| {
                let each = operations.iter().map(|operation| {
                    let ended =
                        operation.ended.map_or_else(|| "…".to_owned(), |ended| format!("{:.4}", ended.as_secs_f64()));
                    format!("[{:.4}–{ended} {:?} {:?}]", operation.started.as_secs_f64(), operation.ask, operation.told)
                });
                format!("{subject:?} of channel {channel}: {}", each.collect::<Vec<_>>().join(" "))
            });
        }
    }
    verdict
}

fn partition(history: &History, ledger: &Ledger) -> BTreeMap<(u32, Subject), Vec<Operation>> {
    let recorded = by_serial(ledger);
    let mut begun: HashMap<Serial, Duration> = HashMap::new();
    for call in &history.calls {
        begun.entry(call.serial).and_modify(|at| *at = call.started.min(*at)).or_insert(call.started);
    }
    let mut parts: BTreeMap<(u32, Subject), Vec<Operation>> = BTreeMap::new();
    let mut told: HashSet<Serial> = HashSet::new();
    let mut add = |channel, subject, operation| parts.entry((channel, subject)).or_default().push(operation);
    for call in &history.calls {
        let answer = match call.answer {
            Answer::Recorded { .. } => Told::Done,
            Answer::Refused(reason) => Told::No(reason),
            Answer::NotRecorded | Answer::Unknown => continue,
        };
        let Some(subject) = call.action.subject() else { continue };
        // A repetition of an answer is no second operation.
        if told.insert(call.serial) {
            let (started, ended) = (begun[&call.serial], Some(call.ended));
            add(call.channel, subject, Operation { started, ended, ask: Ask::Do(call.action), told: answer });
        }
    }
    for call in &history.calls {
        let Some(subject) = call.action.subject() else { continue };
        let Some(entry) = recorded.get(&call.serial) else { continue };
        if told.insert(call.serial) {
            let answer = match entry.decision {
                Decision::Event { .. } => Told::Done,
                Decision::Refusal(reason) => Told::No(reason),
            };
            let started = begun[&call.serial];
            add(call.channel, subject, Operation { started, ended: None, ask: Ask::Do(call.action), told: answer });
        }
    }
    for read in history.reads.iter().filter(|read| read.subject != Subject::Channel) {
        let (started, ended) = (read.started, Some(read.ended));
        add(read.channel, read.subject, Operation { started, ended, ask: Ask::Look, told: Told::Saw(read.seen) });
    }
    for operations in parts.values_mut() {
        operations.sort_by_key(|operation| operation.started);
    }
    parts
}

fn is_linearizable(subject: Subject, operations: &[Operation]) -> bool {
    // Each operation is a thread of its own: what may be concurrent is said by the times alone. Answers before questions
    // at the same instant would claim an order that nobody saw.
    let mut moments: Vec<(Duration, bool, usize)> = Vec::with_capacity(operations.len() * 2);
    for (number, operation) in operations.iter().enumerate() {
        moments.push((operation.started, false, number));
        moments.push((operation.ended.unwrap_or(Duration::MAX), true, number));
    }
    moments.sort_unstable();
    let mut tester = LinearizabilityTester::new(Thing::new(subject));
    for (_, is_answer, number) in moments {
        let operation = &operations[number];
        let taken = match is_answer {
            false => tester.on_invoke(number, operation.ask).is_ok(),
            true => tester.on_return(number, operation.told).is_ok(),
        };
        if !taken {
            return false;
        }
    }
    tester.is_consistent()
}
