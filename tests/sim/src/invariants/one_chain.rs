//! At no index have two nodes, or one node before and after a restart, ever folded another chain of records.

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let heads = history.heads.borrow();
    let split = heads.iter().filter(|(_, heads)| heads.len() > 1);
    split.map(|(index, heads)| format!("at index {index} the nodes hold other chains: {:?}", heads.values())).collect()
}
