//! In the end every node tells the same events and has the same digests.

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let events = history.events.borrow();
    let mut all = events.iter();
    if let Some((first, expected)) = all.next() {
        for (other, events) in all.filter(|(_, events)| *events != expected) {
            wrong.push(format!(
                "nodes {first} and {other} tell {} and {} events, which differ",
                expected.len(),
                events.len()
            ));
        }
    }
    let digests = history.digests.borrow();
    let mut all = digests.iter();
    if let Some((first, expected)) = all.next() {
        for (other, digests) in all.filter(|(_, digests)| *digests != expected) {
            wrong.push(format!("the digests of nodes {first} and {other} differ: {expected} and {digests}"));
        }
    }
    wrong
}
