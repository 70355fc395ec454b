//! Attributes of every friend of a channel, each text kept once.
//!
//! ```text
//! friend row ── set id ──► set: [pair, pair, …]          one for each combination that occurs
//!                                 │
//!                                 ▼
//!                               pair: "region", "서울"    one for each value that occurs
//!                                 └── members: the friends that have it, a bitmap
//! ```
//! A friend costs four bytes for all attributes together, and a rule is answered by bitmaps alone. A value that nobody
//! has any more is forgotten, so values that change for ever do not grow the channel.

use hashbrown::{DefaultHashBuilder, HashTable};
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Of no attributes.
pub(super) const EMPTY_SET: u32 = 0;

type PairIds = SmallVec<[u32; 8]>;

#[derive(Debug)]
pub(super) struct Attributes {
    pairs: Vec<Pair>,
    free_pairs: Vec<u32>,
    pair_index: HashTable<u32>,
    sets: Vec<Set>,
    free_sets: Vec<u32>,
    set_index: HashTable<u32>,
    /// Never seen from outside: nothing is iterated in the order of a hash.
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Pair {
    /// The key, then the value.
    text: Box<str>,
    key_len: usize,
    members: Members,
}

impl Pair {
    fn key(&self) -> &str {
        &self.text[..self.key_len]
    }

    fn value(&self) -> &str {
        &self.text[self.key_len..]
    }
}

/// Friends that have a pair. Values of one friend only (a name, a birthday) must not cost a bitmap each.
#[derive(Debug)]
enum Members {
    None,
    One(u32),
    Many(RoaringBitmap),
}

impl Members {
    fn insert(&mut self, number: u32) {
        match self {
            Members::None => *self = Members::One(number),
            Members::One(one) if *one == number => {}
            Members::One(one) => *self = Members::Many([*one, number].into_iter().collect()),
            Members::Many(many) => {
                many.insert(number);
            }
        }
    }

    /// Whether nobody is left.
    fn remove(&mut self, number: u32) -> bool {
        match self {
            Members::None => true,
            Members::One(one) => {
                let gone = *one == number;
                if gone {
                    *self = Members::None;
                }
                gone
            }
            Members::Many(many) => {
                many.remove(number);
                many.is_empty()
            }
        }
    }

    fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Members::None => {}
            Members::One(one) => {
                set.insert(*one);
            }
            Members::Many(many) => *set |= many,
        }
    }

    fn count_within(&self, set: &RoaringBitmap) -> u64 {
        match self {
            Members::None => 0,
            Members::One(one) => u64::from(set.contains(*one)),
            Members::Many(many) => many.intersection_len(set),
        }
    }
}

#[derive(Debug, Default)]
struct Set {
    /// Ascending by key.
    pairs: Box<[u32]>,
    /// Friends that have exactly this set.
    friends: u32,
}

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes {
            pairs: Vec::new(),
            free_pairs: Vec::new(),
            pair_index: HashTable::new(),
            // The empty set is never counted, never found by hash and never freed.
            sets: vec![Set::default()],
            free_sets: Vec::new(),
            set_index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Attributes {
    /// Gives a friend these attributes for those of `old_set`; returns the new set.
    pub(super) fn assign<'a>(
        &mut self,
        number: u32,
        old_set: u32,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> u32 {
        let pairs = attributes.map(|(key, value)| self.pair(key, value)).collect();
        self.replace(number, old_set, pairs)
    }

    /// Clears and sets some attributes of a friend; returns the new set.
    pub(super) fn change<'a>(
        &mut self,
        number: u32,
        old_set: u32,
        cleared: &[String],
        set: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> u32 {
        let mut pairs: PairIds = set.clone().map(|(key, value)| self.pair(key, value)).collect();
        for &pair in &self.sets[old_set as usize].pairs {
            let key = self.key_of(pair);
            if !cleared.iter().any(|cleared| cleared == key) && !set.clone().any(|(set, _)| set == key) {
                pairs.push(pair);
            }
        }
        self.replace(number, old_set, pairs)
    }

    fn replace(&mut self, number: u32, old_set: u32, mut pairs: PairIds) -> u32 {
        if !pairs.is_sorted_by(|a, b| self.key_of(*a) < self.key_of(*b)) {
            pairs.sort_by(|a, b| self.key_of(*a).cmp(self.key_of(*b)));
            // Facts repeat no key; folding must still not depend on it. The first one stays.
            let all = pairs.clone();
            pairs.dedup_by(|later, first| self.key_of(*later) == self.key_of(*first));
            for pair in all.into_iter().filter(|pair| !pairs.contains(pair)) {
                if matches!(self.pairs[pair as usize].members, Members::None) {
                    self.forget(pair);
                }
            }
        }
        let new_set = self.set(&pairs);
        if new_set == old_set {
            return old_set;
        }
        for &pair in &pairs {
            self.pairs[pair as usize].members.insert(number);
        }
        let old: PairIds = SmallVec::from_slice(&self.sets[old_set as usize].pairs);
        self.leave(old_set);
        for pair in old.into_iter().filter(|pair| !pairs.contains(pair)) {
            if self.pairs[pair as usize].members.remove(number) {
                self.forget(pair);
            }
        }
        if new_set != EMPTY_SET {
            self.sets[new_set as usize].friends += 1;
        }
        new_set
    }

    /// The set of these, which some friend has; ascending by key.
    pub(super) fn find<'a>(&self, attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Option<u32> {
        let pairs = attributes.map(|(key, value)| self.find_pair(key, value)).collect::<Option<PairIds>>()?;
        if pairs.is_empty() {
            return Some(EMPTY_SET);
        }
        let hash = self.hasher.hash_one(&*pairs);
        self.set_index.find(hash, |&set| *self.sets[set as usize].pairs == *pairs).copied()
    }

    /// Key and value of each attribute of a set, ascending by key.
    pub(super) fn of(&self, set: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        let pairs = self.sets.get(set as usize).map_or(&[][..], |set| &set.pairs);
        pairs.iter().map(|&pair| {
            let pair = &self.pairs[pair as usize];
            (pair.key(), pair.value())
        })
    }

    /// Friends of any status that have one of these values.
    pub(super) fn having(&self, key: &str, values: &[String]) -> RoaringBitmap {
        let mut having = RoaringBitmap::new();
        for value in values {
            if let Some(pair) = self.find_pair(key, value) {
                self.pairs[pair as usize].members.add_to(&mut having);
            }
        }
        having
    }

    /// Each value of a key with how many of these friends have it, in no order; values of none of them left out.
    pub(super) fn count_by<'a>(
        &'a self,
        key: &'a str,
        within: &'a RoaringBitmap,
    ) -> impl Iterator<Item = (&'a str, u64)> + 'a {
        let of_key = self.pairs.iter().filter(move |pair| pair.key_len == key.len() && pair.key() == key);
        of_key.map(|pair| (pair.value(), pair.members.count_within(within))).filter(|(_, count)| *count > 0)
    }

    fn key_of(&self, pair: u32) -> &str {
        self.pairs[pair as usize].key()
    }

    fn is_pair(&self, pair: u32, key: &str, value: &str) -> bool {
        let pair = &self.pairs[pair as usize];
        pair.key() == key && pair.value() == value
    }

    fn find_pair(&self, key: &str, value: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((key, value));
        self.pair_index.find(hash, |&pair| self.is_pair(pair, key, value)).copied()
    }

    /// Finds or makes a pair.
    fn pair(&mut self, key: &str, value: &str) -> u32 {
        let hash = self.hasher.hash_one((key, value));
        if let Some(&pair) = self.pair_index.find(hash, |&pair| self.is_pair(pair, key, value)) {
            return pair;
        }
        let pair = Pair { text: [key, value].concat().into(), key_len: key.len(), members: Members::None };
        let id = put(&mut self.pairs, &mut self.free_pairs, pair);
        let (pairs, hasher) = (&self.pairs, &self.hasher);
        self.pair_index.insert_unique(hash, id, |&pair| {
            let pair = &pairs[pair as usize];
            hasher.hash_one((pair.key(), pair.value()))
        });
        id
    }

    fn forget(&mut self, id: u32) {
        let empty = Pair { text: Box::default(), key_len: 0, members: Members::None };
        let pair = std::mem::replace(&mut self.pairs[id as usize], empty);
        let hash = self.hasher.hash_one((pair.key(), pair.value()));
        if let Ok(entry) = self.pair_index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.free_pairs.push(id);
    }

    /// Finds or makes a set.
    fn set(&mut self, pairs: &[u32]) -> u32 {
        if pairs.is_empty() {
            return EMPTY_SET;
        }
        let hash = self.hasher.hash_one(pairs);
        if let Some(&set) = self.set_index.find(hash, |&set| *self.sets[set as usize].pairs == *pairs) {
            return set;
        }
        let id = put(&mut self.sets, &mut self.free_sets, Set { pairs: pairs.into(), friends: 0 });
        let (sets, hasher) = (&self.sets, &self.hasher);
        self.set_index.insert_unique(hash, id, |&set| hasher.hash_one(&*sets[set as usize].pairs));
        id
    }

    /// One friend fewer has this set.
    fn leave(&mut self, id: u32) {
        if id == EMPTY_SET {
            return;
        }
        let set = &mut self.sets[id as usize];
        set.friends -= 1;
        if set.friends > 0 {
            return;
        }
        let pairs = std::mem::take(&mut set.pairs);
        let hash = self.hasher.hash_one(&*pairs);
        if let Ok(entry) = self.set_index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.free_sets.push(id);
    }
}

fn put<T>(slots: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(id) => {
            slots[id as usize] = value;
            id
        }
        None => {
            slots.push(value);
            (slots.len() - 1) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(attributes: &mut Attributes, number: u32, old: u32, pairs: &[(&str, &str)]) -> u32 {
        attributes.assign(number, old, pairs.iter().copied())
    }

    #[test]
    fn equal_attributes_are_one_set() {
        let mut all = Attributes::default();
        let first = assign(&mut all, 1, EMPTY_SET, &[("grade", "vip"), ("region", "서울")]);
        let second = assign(&mut all, 2, EMPTY_SET, &[("grade", "vip"), ("region", "서울")]);
        assert_eq!(first, second);
        assert_eq!(all.of(first).collect::<Vec<_>>(), [("grade", "vip"), ("region", "서울")]);
        assert_eq!(all.having("region", &["서울".into()]), [1, 2].into_iter().collect());
    }

    #[test]
    fn values_that_nobody_has_any_more_are_forgotten() {
        let mut all = Attributes::default();
        let mut set = EMPTY_SET;
        for visit in 0..1_000 {
            set = assign(&mut all, 7, set, &[("last_visit", &visit.to_string())]);
        }
        assert_eq!((all.pair_index.len(), all.set_index.len()), (1, 1));
        assert!(all.pairs.len() <= 2 && all.sets.len() <= 3, "slots are used again");
        assert!(all.having("last_visit", &["3".into()]).is_empty());
        assert_eq!(all.having("last_visit", &["999".into()]).len(), 1);
        assign(&mut all, 7, set, &[]);
        assert_eq!((all.pair_index.len(), all.set_index.len()), (0, 0));
    }

    #[test]
    fn a_key_and_a_value_are_told_apart_from_another_cut_of_the_same_text() {
        let mut all = Attributes::default();
        assign(&mut all, 1, EMPTY_SET, &[("ab", "c")]);
        assert!(all.having("a", &["bc".into()]).is_empty());
        assert_eq!(all.count_by("ab", &RoaringBitmap::from_iter([1])).collect::<Vec<_>>(), [("c", 1)]);
    }
}
