//! What was acknowledged is there in the end, at every node, where the receipt says.

use crate::history::{History, Told};

pub(super) fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (node, events) in history.events.borrow().iter() {
        for (key, intent) in history.intents.borrow().iter() {
            for (_, told_at, told) in &intent.answers {
                let Told::Receipt { revision, sequence, .. } = told else { continue };
                let is_there = events
                    .iter()
                    .any(|event| event.retry_key == *key && (event.revision, event.sequence) == (*revision, *sequence));
                if !is_there {
                    wrong.push(format!(
                        "{key} was acknowledged at {:.3} as revision {revision} at position {sequence}, and node {node} \
                         does not have it there",
                        told_at.as_secs_f64()
                    ));
                }
            }
        }
    }
    wrong
}
