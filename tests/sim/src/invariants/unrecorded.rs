//! What was certainly not recorded, as every answer said, is not there.

use std::collections::BTreeSet;

use crate::history::{History, Told};

pub(super) fn check(history: &History) -> Vec<String> {
    let events = history.events.borrow();
    let there: BTreeSet<&String> = events.values().flatten().map(|event| &event.retry_key).collect();
    let mut wrong = Vec::new();
    for (key, intent) in history.intents.borrow().iter() {
        let never = intent.answers.iter().all(|(_, _, told)| *told == Told::NotRecorded);
        if never && there.contains(key) {
            wrong.push(format!("{key} was called not recorded by every answer, and it is there"));
        }
        let refused = intent.answers.iter().any(|(_, _, told)| matches!(told, Told::Refused(_)));
        if refused && there.contains(key) {
            wrong.push(format!("{key} was refused, and it is there"));
        }
    }
    wrong
}
