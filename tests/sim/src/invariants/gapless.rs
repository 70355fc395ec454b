//! Revisions have no gaps, positions ascend, and the time of events never runs backwards.

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (node, events) in history.events.borrow().iter() {
        for (n, event) in events.iter().enumerate() {
            if event.revision != n as u64 + 1 {
                wrong.push(format!("node {node} has revision {} as its event number {}", event.revision, n + 1));
            }
        }
        for pair in events.windows(2) {
            if pair[0].sequence >= pair[1].sequence {
                wrong.push(format!("node {node} has position {} after {}", pair[1].sequence, pair[0].sequence));
            }
            if pair[0].accepted_at > pair[1].accepted_at {
                wrong.push(format!("at node {node} time runs backwards at revision {}", pair[1].revision));
            }
        }
    }
    wrong
}
