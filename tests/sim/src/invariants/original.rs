//! Whoever repeats a command under its key is told what was told before, receipt or refusal.

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, intent) in history.intents.borrow().iter() {
        let mut definite = intent.answers.iter().map(|(_, _, told)| told).filter(|told| told.is_definite());
        let Some(original) = definite.next() else { continue };
        for other in definite.filter(|other| *other != original) {
            wrong.push(format!("{key} was told {:?}, and then {:?}", original.short(), other.short()));
        }
    }
    wrong
}
