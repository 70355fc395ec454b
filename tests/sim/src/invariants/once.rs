//! Nothing is there twice, and nothing that nobody asked for.

use std::collections::BTreeSet;

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (node, events) in history.events.borrow().iter() {
        let mut seen = BTreeSet::new();
        for event in events {
            if !seen.insert(&event.retry_key) {
                wrong.push(format!("node {node} has the event of {} twice", event.retry_key));
            }
            if !history.intents.borrow().contains_key(&event.retry_key) {
                wrong.push(format!("node {node} has an event of {:?}, which nobody asked for", event.retry_key));
            }
        }
    }
    wrong
}
