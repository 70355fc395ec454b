//! The committed entries on the disks are the same, byte for byte, as far as two of them go.

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let entries = history.entries.borrow();
    let Some((longest, all)) = entries.iter().max_by_key(|(_, entries)| entries.len()) else { return Vec::new() };
    let mut wrong = Vec::new();
    for (node, entries) in entries.iter() {
        if let Some(at) = entries.iter().zip(all).position(|(one, other)| one != other) {
            wrong.push(format!("nodes {node} and {longest} hold different entries at index {at}"));
        }
    }
    wrong
}
