//! The record as witness: an order in which every answer must fit, by its position and by its time.

use std::{collections::HashMap, time::Duration};

use stateright::semantics::SequentialSpec as _;

use super::{
    Verdict,
    rules::{Ask, Thing, Told},
};
use crate::{
    history::{Answer, Call, History, Read, Seen, Serial, Subject},
    ledger::{Decision, Ledger},
};

/// The record, replayed: how everything was at every position.
struct Replayed {
    /// By subject: from this position on, it is so.
    things: HashMap<(u32, Subject), Vec<(u64, Seen)>>,
    /// By channel: positions of its revisions, from 1.
    revisions: HashMap<u32, Vec<u64>>,
}

pub(super) fn check(history: &History, ledger: &Ledger) -> Verdict {
    let mut verdict =
        Verdict::new("contradictions", "No answer contradicts an earlier one: nobody sees time run backwards");
    let replayed = replay(history, ledger, &mut verdict);
    for read in &history.reads {
        verdict.examined += 1;
        if let Some(was) = replayed.at(read).filter(|was| *was != read.seen) {
            let (at, node) = (read.sequence, read.node);
            verdict.broken(|| {
                let (subject, seen) = (read.subject, read.seen);
                format!("node {node} said that {subject:?} of channel {} is {seen:?} at position {at}, where it was {was:?}", read.channel)
            });
        }
    }
    same_answers(history, &mut verdict);
    real_time(history, &mut verdict);
    verdict
}

fn replay(history: &History, ledger: &Ledger, verdict: &mut Verdict) -> Replayed {
    let asked: HashMap<Serial, &Call> = history.calls.iter().map(|call| (call.serial, call)).collect();
    let mut now: HashMap<(u32, Subject), Thing> = HashMap::new();
    let mut replayed = Replayed { things: HashMap::new(), revisions: HashMap::new() };
    for entry in &ledger.entries {
        if let Decision::Event { .. } = entry.decision {
            replayed.revisions.entry(entry.channel).or_default().push(entry.sequence);
        }
        let Some(call) = entry.serial.and_then(|serial| asked.get(&serial)) else { continue };
        let Some(subject) = call.action.subject() else { continue };
        let key = (entry.channel, subject);
        let thing = now.entry(key).or_insert_with(|| Thing::new(subject));
        let before = thing.0;
        let due = thing.invoke(&Ask::Do(call.action));
        let told = match entry.decision {
            Decision::Event { .. } => Told::Done,
            Decision::Refusal(reason) => Told::No(reason),
        };
        verdict.examined += 1;
        if told != due {
            let at = entry.sequence;
            verdict.broken(|| {
                format!("at position {at}, {:?} of {before:?} was {told:?} and had to be {due:?}", call.action)
            });
        }
        replayed.things.entry(key).or_default().push((entry.sequence, thing.0));
    }
    replayed
}

impl Replayed {
    /// How it was at the position that a reader was told; `None` where the answer named none.
    fn at(&self, read: &Read) -> Option<Seen> {
        if read.sequence == 0 {
            return None;
        }
        if read.subject == Subject::Channel {
            let positions = self.revisions.get(&read.channel)?;
            let revision = positions.partition_point(|position| *position <= read.sequence);
            return Some(Seen::Revision(revision as u64));
        }
        let turns = self.things.get(&(read.channel, read.subject)).map_or(&[][..], Vec::as_slice);
        let until = turns.partition_point(|(position, _)| *position <= read.sequence);
        Some(until.checked_sub(1).map_or(Seen::Nothing, |last| turns[last].1))
    }
}

/// A repetition gets the original answer.
fn same_answers(history: &History, verdict: &mut Verdict) {
    let mut first: HashMap<Serial, Answer> = HashMap::new();
    for call in &history.calls {
        if !matches!(call.answer, Answer::Recorded { .. } | Answer::Refused(_)) {
            continue;
        }
        let original = *first.entry(call.serial).or_insert(call.answer);
        verdict.examined += 1;
        if original != call.answer {
            verdict.broken(|| format!("intent {} was answered {original:?} and then {:?}", call.serial, call.answer));
        }
    }
}

/// What begins after an answer was given stands at or after what that answer named.
fn real_time(history: &History, verdict: &mut Verdict) {
    // When each intent was first asked for: it may stand anywhere after that.
    let mut begun: HashMap<Serial, Duration> = HashMap::new();
    for call in &history.calls {
        begun.entry(call.serial).and_modify(|at| *at = call.started.min(*at)).or_insert(call.started);
    }
    let mut questions: Vec<(Duration, u64, bool)> = Vec::new();
    let mut answers: Vec<(Duration, u64)> = Vec::new();
    for call in &history.calls {
        if let Answer::Recorded { sequence, .. } = call.answer {
            answers.push((call.ended, sequence));
            questions.push((begun.get(&call.serial).copied().unwrap_or(call.started), sequence, true));
        }
    }
    for read in history.reads.iter().filter(|read| read.sequence > 0) {
        answers.push((read.ended, read.sequence));
        questions.push((read.started, read.sequence, false));
    }
    answers.sort_unstable();
    questions.sort_unstable();
    let mut known = 0;
    let mut answers = answers.into_iter().peekable();
    for (started, sequence, is_write) in questions {
        while let Some((_, answered)) = answers.next_if(|(ended, _)| *ended < started) {
            known = known.max(answered);
        }
        verdict.examined += 1;
        let backwards = if is_write { sequence <= known } else { sequence < known };
        if backwards {
            let what = if is_write { "a write was placed at" } else { "a linearizable read spoke for" };
            verdict.broken(|| {
                format!(
                    "asked at {:.3} s, {what} position {sequence}, after position {known} had been told",
                    started.as_secs_f64()
                )
            });
        }
    }
}
