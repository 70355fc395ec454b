//! The log as it stands in memory: where every unsealed entry is, the newest entries themselves, and their keys.
//!
//! ```text
//!   0 ........................ | ..................... | .................. | ................ last
//!       sealed segments            open segments (offset of every written entry)   not yet written
//!                                            | ............ cache: the entries themselves ........ |
//!                                            ^ cache_first: nothing that is not flushed is ever left out of the cache
//! ```

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use crate::{
    disk::File,
    sealed::Sealed,
    types::{Entry, LogId},
};

/// What an entry in the cache costs beside its payload, in bytes.
const ENTRY_BYTES: u64 = 64;

/// The written part of a segment that is not sealed.
pub(crate) struct OpenSegment {
    pub(crate) ordinal: u64,
    pub(crate) file: Arc<dyn File>,
    /// Its first index.
    pub(crate) first: u64,
    /// Where each of its entries begins.
    pub(crate) offsets: Vec<u64>,
    /// Where the last one ends.
    pub(crate) end: u64,
}

impl OpenSegment {
    /// Where the entry at `index` begins; the end if it is the next one.
    pub(crate) fn offset_of(&self, index: u64) -> u64 {
        self.offsets.get((index - self.first) as usize).copied().unwrap_or(self.end)
    }
}

/// Everything that readers and the appender share, behind one lock.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) sealed: Vec<Arc<Sealed>>,
    pub(crate) open: VecDeque<OpenSegment>,
    pub(crate) last: Option<LogId>,
    pub(crate) flushed: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    /// Counts truncations, so that a reader can tell that bytes changed under it.
    pub(crate) truncations: u64,
    /// Truncations asked for and not yet done on the disk, in order.
    pub(crate) pending_truncations: VecDeque<u64>,
    cache: VecDeque<Entry>,
    cache_bytes: u64,
    /// The first index of each term, from that of the last sealed entry on.
    terms: Vec<LogId>,
    pub(crate) keys: UnsealedKeys,
}

impl Log {
    /// The index of the next entry.
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// The first index that the cache holds; the next index if it holds none.
    pub(crate) fn cache_first(&self) -> u64 {
        self.next_index() - self.cache.len() as u64
    }

    /// The cached entries from `index` on, which must not be before [`Log::cache_first`].
    pub(crate) fn cached_from(&self, index: u64) -> impl Iterator<Item = &Entry> {
        self.cache.range((index - self.cache_first()) as usize..)
    }

    /// Notes that the entry after the last has this id, without caching it.
    pub(crate) fn extend(&mut self, id: LogId) {
        if self.terms.last().is_none_or(|first| first.term != id.term) {
            self.terms.push(id);
        }
        self.last = Some(id);
    }

    /// Adds an entry that is not yet written.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.extend(entry.id);
        self.cache_bytes += entry.payload.len() as u64 + ENTRY_BYTES;
        self.cache.push_back(entry);
    }

    /// The id of an entry that is not before the last sealed one.
    pub(crate) fn id_at(&self, index: u64) -> Option<LogId> {
        let n = self.terms.partition_point(|first| first.index <= index);
        Some(LogId::new(self.terms.get(n.checked_sub(1)?)?.term, index))
    }

    /// Forgets every entry from `index` on; the disk follows later.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        let keep = index.saturating_sub(self.cache_first()) as usize;
        for entry in self.cache.drain(keep.min(self.cache.len())..) {
            self.cache_bytes -= entry.payload.len() as u64 + ENTRY_BYTES;
        }
        let before = index.checked_sub(1).and_then(|index| self.id_at(index));
        self.last = before;
        self.flushed = self.flushed.min(before);
        self.terms.retain(|first| first.index < index);
        self.keys.truncate_from(index);
        self.truncations += 1;
        self.pending_truncations.push_back(index);
    }

    /// Everything up to `last` has been synced. Entries that are being truncated are not reported as such.
    pub(crate) fn flushed_up_to(&mut self, last: LogId, cache_limit: u64) {
        let flushed = match self.pending_truncations.iter().min() {
            // The id of an entry before every pending truncation is the same on the disk and here.
            Some(&limit) if limit <= last.index => limit.checked_sub(1).and_then(|index| self.id_at(index)),
            _ => Some(last),
        };
        self.flushed = self.flushed.max(flushed);
        let flushed = self.flushed.map(|id| id.index);
        while self.cache_bytes > cache_limit {
            if self.cache.front().is_none_or(|entry| Some(entry.id.index) > flushed) {
                break;
            }
            let Some(entry) = self.cache.pop_front() else { break };
            self.cache_bytes -= entry.payload.len() as u64 + ENTRY_BYTES;
        }
    }

    /// Whether the oldest open segment can be sealed: the first entry of the next one is committed, so both what the
    /// segment holds and where it ends are final, and it is durable here, so the end can be told after a crash.
    pub(crate) fn sealable(&self) -> bool {
        let Some(next) = self.open.get(1) else { return false };
        let reached = |id: Option<LogId>| id.is_some_and(|id| id.index >= next.first);
        !next.offsets.is_empty() && reached(self.committed) && reached(self.flushed)
    }

    /// The committed entry, as far as it is durable here.
    pub(crate) fn committed_and_flushed(&self) -> Option<LogId> {
        match (self.committed, self.flushed) {
            (Some(committed), Some(flushed)) if committed.index <= flushed.index => Some(committed),
            (Some(_), flushed) => flushed,
            (None, _) => None,
        }
    }
}

/// The keys of entries that are in no sealed segment.
///
/// They are filed when somebody asks: only a leader does, and a follower's are never filed at all.
#[derive(Default)]
pub(crate) struct UnsealedKeys {
    indexes: HashMap<u64, Indexes>,
    /// Every (index, key), in the order of the indexes.
    order: VecDeque<(u64, u64)>,
    /// So many of them, from the front, are in `indexes`.
    filed: usize,
}

#[expect(clippy::box_collection, reason = "half a million of these stay small; `Many` is rare")]
enum Indexes {
    One(u64),
    Many(Box<Vec<u64>>),
}

impl UnsealedKeys {
    pub(crate) fn insert(&mut self, index: u64, key: u64) {
        self.order.push_back((index, key));
    }

    /// All of them are where [`UnsealedKeys::find`] looks.
    pub(crate) fn are_filed(&self) -> bool {
        self.filed == self.order.len()
    }

    /// Files at most `limit` more.
    pub(crate) fn file(&mut self, limit: usize) {
        let end = self.order.len().min(self.filed.saturating_add(limit));
        for &(index, key) in self.order.range(self.filed..end) {
            match self.indexes.entry(key) {
                hashbrown::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(Indexes::One(index));
                }
                hashbrown::hash_map::Entry::Occupied(mut occupied) => match occupied.get_mut() {
                    Indexes::One(held) if *held == index => {}
                    Indexes::One(held) => {
                        let both = vec![*held, index];
                        occupied.insert(Indexes::Many(Box::new(both)));
                    }
                    Indexes::Many(held) => held.push(index),
                },
            }
        }
        self.filed = end;
    }

    /// Among those that are filed.
    pub(crate) fn find(&self, key: u64, out: &mut Vec<u64>) {
        match self.indexes.get(&key) {
            Some(Indexes::One(index)) => out.push(*index),
            Some(Indexes::Many(indexes)) => out.extend_from_slice(indexes),
            None => {}
        }
    }

    fn truncate_from(&mut self, index: u64) {
        while let Some((held, key)) = self.order.back().copied().filter(|(held, _)| *held >= index) {
            self.order.pop_back();
            if self.filed > self.order.len() {
                self.filed -= 1;
                self.forget(held, key);
            }
        }
    }

    /// Forgets at most `limit` keys of entries up to `index`; whether there are none left.
    pub(crate) fn forget_up_to(&mut self, index: u64, limit: usize) -> bool {
        for _ in 0..limit {
            let Some((held, key)) = self.order.front().copied().filter(|(held, _)| *held <= index) else {
                return true;
            };
            self.order.pop_front();
            if self.filed > 0 {
                self.filed -= 1;
                self.forget(held, key);
            }
        }
        false
    }

    fn forget(&mut self, index: u64, key: u64) {
        match self.indexes.get_mut(&key) {
            Some(Indexes::One(held)) if *held == index => {
                self.indexes.remove(&key);
            }
            Some(Indexes::Many(held)) => {
                held.retain(|held| *held != index);
                if held.is_empty() {
                    self.indexes.remove(&key);
                }
            }
            Some(Indexes::One(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { id: LogId::new(term, index), kind: 1, payload: bytes::Bytes::from_static(b"payload") }
    }

    #[test]
    fn unflushed_entries_never_leave_the_cache() {
        let mut log = Log::default();
        (0..10).for_each(|index| log.push(entry(1, index)));
        log.flushed_up_to(LogId::new(1, 3), 0);
        assert_eq!(log.cache_first(), 4);
        assert_eq!(log.cached_from(4).map(|entry| entry.id.index).collect::<Vec<_>>(), (4..10).collect::<Vec<_>>());
    }

    /// A batch of the old term may be reported as synced after its truncation was asked for; the new entries under
    /// the same indexes are not yet on the disk then.
    #[test]
    fn a_flush_of_truncated_entries_does_not_speak_for_their_successors() {
        let mut log = Log::default();
        (0..10).for_each(|index| log.push(entry(1, index)));
        log.truncate_from(5);
        (5..8).for_each(|index| log.push(entry(2, index)));
        log.flushed_up_to(LogId::new(1, 9), 0);
        assert_eq!(log.flushed, Some(LogId::new(1, 4)));
        assert_eq!(log.cache_first(), 5);
        log.pending_truncations.pop_front();
        log.flushed_up_to(LogId::new(2, 7), u64::MAX);
        assert_eq!(log.flushed, Some(LogId::new(2, 7)));
    }

    fn found(keys: &mut UnsealedKeys, key: u64) -> Vec<u64> {
        keys.file(usize::MAX);
        assert!(keys.are_filed());
        let mut out = Vec::new();
        keys.find(key, &mut out);
        out
    }

    #[test]
    fn keys_are_forgotten_from_both_ends() {
        let mut keys = UnsealedKeys::default();
        for index in 0..6 {
            keys.insert(index, 7);
            keys.insert(index, 100 + index);
        }
        assert_eq!(found(&mut keys, 7), [0, 1, 2, 3, 4, 5]);
        keys.truncate_from(4);
        assert_eq!(found(&mut keys, 7), [0, 1, 2, 3]);
        assert!(found(&mut keys, 104).is_empty());
        assert!(!keys.forget_up_to(1, 3));
        assert!(keys.forget_up_to(1, 3));
        assert_eq!(found(&mut keys, 7), [2, 3]);
        assert_eq!(found(&mut keys, 103), [3]);
        assert!(keys.forget_up_to(9, 99));
        assert!(keys.indexes.is_empty());
    }

    #[test]
    fn keys_that_nobody_asked_for_are_forgotten_as_well() {
        for filed in 0..=12 {
            let mut keys = UnsealedKeys::default();
            for index in 0..6 {
                keys.insert(index, 7);
                keys.insert(index, 100 + index);
            }
            keys.file(filed);
            keys.truncate_from(4);
            assert!(keys.forget_up_to(1, 99));
            assert_eq!(keys.are_filed(), filed >= 8, "{filed}");
            keys.insert(4, 7);
            assert_eq!(found(&mut keys, 7), [2, 3, 4], "{filed}");
            assert_eq!(found(&mut keys, 102), [2], "{filed}");
            assert!(found(&mut keys, 101).is_empty() && found(&mut keys, 104).is_empty(), "{filed}");
            assert!(keys.forget_up_to(9, 99));
            assert!(keys.indexes.is_empty() && keys.are_filed(), "{filed}");
        }
    }
}
