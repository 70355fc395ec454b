//! The chain over entries that are read once more, to be compared with what a peer knows of it.

use std::collections::BTreeMap;

use sillok_chronicle::{Entry, Fold};
use sillok_wire::records;

use super::ChainFold;

/// Follows the chain as the fold of a footer does, and notes its head after certain entries.
pub(crate) struct Following {
    fold: ChainFold,
    heads: BTreeMap<u64, [u8; 32]>,
}

impl Following {
    /// Notes the heads after these entries.
    pub(crate) fn new(indexes: impl Iterator<Item = u64>) -> Following {
        Following { fold: ChainFold::default(), heads: indexes.map(|index| (index, records::GENESIS)).collect() }
    }

    /// After one of those entries.
    pub(crate) fn head_after(&self, index: u64) -> Option<[u8; 32]> {
        self.heads.get(&index).copied()
    }
}

impl Fold for Following {
    fn restore(&mut self, state: &[u8]) {
        self.fold.restore(state);
    }

    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        self.fold.entry(entry, keys);
        if let Some(head) = self.heads.get_mut(&entry.id.index) {
            *head = self.fold.state.head;
        }
    }

    fn state(&self) -> Vec<u8> {
        self.fold.state()
    }
}
