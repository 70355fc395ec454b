//! Friend numbers by user key.
//!
//! Keys are on pages that may be out of memory, so 32 bits of a key's hash stand beside each number: growing reads no key, and
//! looking up a key that nobody has reads one in n/2³² cases, with ten million friends one in 400.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

/// Each grows by itself, so that no add waits for a million entries to be moved.
const SHARDS: usize = 64;

/// 8 bytes a friend.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    number: u32,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Empty until the first friend.
    shards: Vec<HashTable<Entry>>,
    /// Never seen from outside: nothing is iterated in the order of a hash.
    hasher: DefaultHashBuilder,
}

impl Index {
    /// The number for which `is` holds, among those whose key may be this one.
    pub(super) fn find(&self, user_key: &str, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hash(user_key);
        let shard = self.shards.get(shard(hash))?;
        shard.find(spread(hash), |entry| entry.hash == hash && is(entry.number)).map(|entry| entry.number)
    }

    /// Enters a number; false where `is` holds for another.
    pub(super) fn insert(&mut self, user_key: &str, number: u32, is: impl Fn(u32) -> bool) -> bool {
        let hash = self.hash(user_key);
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashTable::new);
        }
        let same = |entry: &Entry| entry.hash == hash && is(entry.number);
        match self.shards[shard(hash)].entry(spread(hash), same, |entry| spread(entry.hash)) {
            hash_table::Entry::Occupied(_) => false,
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Entry { hash, number });
                true
            }
        }
    }

    fn hash(&self, user_key: &str) -> u32 {
        let hash = self.hasher.hash_one(user_key);
        (hash ^ hash >> 32) as u32
    }
}

/// A table takes its bucket from the lowest bits and its tag from the highest seven.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Bits that a table uses for neither, unless it is very large.
fn shard(hash: u32) -> usize {
    (hash >> 19) as usize % SHARDS
}
