//! The time that events were stamped with, against the drill's own clock.

use std::{collections::HashMap, time::Duration};

use super::Verdict;
use crate::{
    history::{Answer, History, Serial},
    ledger::{Entry, Ledger},
};

/// The most by which one wrong clock may move an event: `raft.max_clock_offset_ms` of the nodes, which run with the default.
const BOUND: Duration = Duration::from_secs(5);

pub(super) fn check(history: &History, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new(
        "clock",
        format!("Event time never runs backwards, nor more than {} s ahead of the world", BOUND.as_secs()),
    );
    for pair in ledger.entries.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        verdict.examined += 1;
        if after.accepted_at < before.accepted_at {
            verdict.broken(|| {
                let by = seconds(before.accepted_at - after.accepted_at);
                format!("position {} is {by} earlier than position {}", after.sequence, before.sequence)
            });
        }
    }
    let stamped: HashMap<Serial, &Entry> =
        ledger.entries.iter().filter_map(|entry| Some((entry.serial?, entry))).collect();
    for call in &history.calls {
        let (Answer::Recorded { .. } | Answer::Refused(_)) = call.answer else { continue };
        let Some(entry) = stamped.get(&call.serial) else { continue };
        verdict.examined += 1;
        // It was decided before it was answered. How long before is not known: a repetition may be answered much later.
        let ahead = entry.accepted_at - history.began_at - nanos(call.ended);
        if ahead > nanos(BOUND) {
            verdict.broken(|| {
                format!(
                    "intent {}, answered at {:.3} s, is stamped {} later",
                    call.serial,
                    call.ended.as_secs_f64(),
                    seconds(ahead)
                )
            });
        }
    }
    verdict
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn seconds(nanos: i64) -> String {
    format!("{:.3} s", nanos as f64 / 1e9)
}
