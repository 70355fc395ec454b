//! A linearizable read speaks for everything that was acknowledged, or read, before it was asked for.

use std::time::Duration;

use crate::history::{History, Told};

pub(super) fn check(history: &History) -> Vec<String> {
    let mut known: Vec<(Duration, u64, String)> = Vec::new();
    for (key, intent) in history.intents.borrow().iter() {
        for (_, told_at, told) in &intent.answers {
            if let Told::Receipt { sequence, .. } = told {
                known.push((*told_at, *sequence, format!("{key} was acknowledged")));
            }
        }
    }
    let reads = history.reads.borrow();
    known.extend(reads.iter().map(|read| (read.to, read.sequence, format!("node {} was read", read.node))));
    let mut wrong = Vec::new();
    for read in reads.iter() {
        let newest = known.iter().filter(|(at, ..)| *at < read.from).max_by_key(|(_, sequence, _)| *sequence);
        if let Some((at, sequence, what)) = newest.filter(|(_, sequence, _)| *sequence > read.sequence) {
            wrong.push(format!(
                "a read of node {} asked at {:.3} speaks for position {}, though {what} with {sequence} at {:.3}",
                read.node,
                read.from.as_secs_f64(),
                read.sequence,
                at.as_secs_f64()
            ));
        }
    }
    wrong
}
