//! The friends of a channel, densely by number.

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use roaring::RoaringBitmap;
use std::hash::BuildHasher;

use super::attributes::{Attributes, EMPTY_SET};
use crate::{Consent, Consents, FRIEND_LIMIT, FriendSource, FriendState, FriendStatus, Selector, Statuses, UnixNanos};

/// Friends a page: nothing larger than a page is ever moved when a channel grows.
const PAGE: usize = 256;
/// Parts of the index by key: each grows by itself, so that no add waits for a million keys to be hashed again.
const SHARDS: usize = 64;

const STATUSES: [FriendStatus; 3] = [FriendStatus::Friend, FriendStatus::Blocked, FriendStatus::Removed];

#[derive(Debug, Default)]
pub(super) struct Friends {
    pages: Vec<Page>,
    count: u32,
    /// Numbers by user key. Empty until the first friend.
    index: Vec<HashTable<u32>>,
    by_status: [RoaringBitmap; 3],
    by_consent: [RoaringBitmap; 2],
    pub(super) attributes: Attributes,
    /// Never seen from outside: nothing is iterated in the order of a hash.
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Default)]
struct Page {
    /// The keys one behind the other; `ends[n]` is where the n-th ends.
    keys: String,
    ends: Vec<u32>,
    rows: Vec<Row>,
}

/// 24 bytes a friend.
#[derive(Debug, Clone, Copy)]
struct Row {
    added_at: UnixNanos,
    added_revision: u64,
    attributes: u32,
    status: FriendStatus,
    source: FriendSource,
    consents: Consents,
}

fn place(number: u32) -> Option<(usize, usize)> {
    let at = number.checked_sub(1)? as usize;
    Some((at / PAGE, at % PAGE))
}

impl Friends {
    /// Friends ever; their numbers are 1 to this.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn with_status(&self, status: FriendStatus) -> &RoaringBitmap {
        &self.by_status[status as usize - 1]
    }

    pub(super) fn number_of(&self, user_key: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(user_key);
        let shard = self.index.get(shard(hash))?;
        shard.find(hash, |&number| key(&self.pages, number) == user_key).copied()
    }

    pub(super) fn user_key(&self, number: u32) -> Option<&str> {
        (number != 0 && number <= self.count).then(|| key(&self.pages, number))
    }

    pub(super) fn state(&self, number: u32) -> Option<FriendState> {
        self.row(number).map(|row| FriendState {
            status: row.status,
            consents: row.consents,
            source: row.source,
            added_revision: row.added_revision,
            added_at: row.added_at,
        })
    }

    /// Key and value of each attribute, ascending by key.
    pub(super) fn attributes_of(&self, number: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.attributes.of(self.row(number).map_or(EMPTY_SET, |row| row.attributes))
    }

    /// A new friend, or a known one added again. False where neither is possible: the number is not the next one, or
    /// another friend has the key.
    pub(super) fn add<'a>(
        &mut self,
        number: u32,
        user_key: &str,
        state: FriendState,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> bool {
        if number == 0 || number > FRIEND_LIMIT || number > self.count + 1 {
            return false;
        }
        if number == self.count + 1 && !self.push(number, user_key) {
            return false;
        }
        self.set_attributes(number, attributes);
        self.set_status(number, state.status);
        self.set_consents(number, state.consents);
        if let Some(row) = self.row_mut(number) {
            (row.added_at, row.added_revision, row.source) = (state.added_at, state.added_revision, state.source);
        }
        true
    }

    fn push(&mut self, number: u32, user_key: &str) -> bool {
        if self.index.is_empty() {
            self.index.resize_with(SHARDS, HashTable::new);
        }
        let hash = self.hasher.hash_one(user_key);
        let (pages, hasher) = (&self.pages, &self.hasher);
        let entry = self.index[shard(hash)].entry(
            hash,
            |&number| key(pages, number) == user_key,
            |&number| hasher.hash_one(key(pages, number)),
        );
        match entry {
            Entry::Occupied(_) => return false,
            Entry::Vacant(vacant) => vacant.insert(number),
        };
        if self.count.is_multiple_of(PAGE as u32) {
            self.pages.push(Page::default());
        }
        let Some(page) = self.pages.last_mut() else { return false };
        page.keys.push_str(user_key);
        page.ends.push(page.keys.len() as u32);
        page.rows.push(Row {
            added_at: 0,
            added_revision: 0,
            attributes: EMPTY_SET,
            status: FriendStatus::Friend,
            source: FriendSource::Unspecified,
            consents: Consents::default(),
        });
        if page.rows.len() == PAGE {
            page.keys.shrink_to_fit();
        }
        self.by_status[FriendStatus::Friend as usize - 1].insert(number);
        self.count = number;
        true
    }

    pub(super) fn set_status(&mut self, number: u32, status: FriendStatus) {
        let Some(row) = self.row_mut(number) else { return };
        let old = std::mem::replace(&mut row.status, status);
        if old != status {
            self.by_status[old as usize - 1].remove(number);
            self.by_status[status as usize - 1].insert(number);
        }
    }

    pub(super) fn set_consent(&mut self, number: u32, consent: Consent, held: bool) {
        if let Some(row) = self.row(number) {
            self.set_consents(number, row.consents.with(consent, held));
        }
    }

    fn set_consents(&mut self, number: u32, consents: Consents) {
        let Some(row) = self.row_mut(number) else { return };
        let old = std::mem::replace(&mut row.consents, consents);
        for consent in [Consent::Advertising, Consent::Night] {
            let members = &mut self.by_consent[consent as usize - 1];
            match (old.contains(consent), consents.contains(consent)) {
                (false, true) => members.insert(number),
                (true, false) => members.remove(number),
                _ => continue,
            };
        }
    }

    /// In place of all the friend had.
    fn set_attributes<'a>(&mut self, number: u32, attributes: impl Iterator<Item = (&'a str, &'a str)>) {
        let Some(row) = self.row(number) else { return };
        let set = self.attributes.assign(number, row.attributes, attributes);
        if let Some(row) = self.row_mut(number) {
            row.attributes = set;
        }
    }

    pub(super) fn change_attributes<'a>(
        &mut self,
        number: u32,
        cleared: &[String],
        set: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) {
        let Some(row) = self.row(number) else { return };
        let set = self.attributes.change(number, row.attributes, cleared, set);
        if let Some(row) = self.row_mut(number) {
            row.attributes = set;
        }
    }

    pub(super) fn select(&self, selector: &Selector<'_>) -> RoaringBitmap {
        let mut selected: Option<RoaringBitmap> = None;
        for status in STATUSES.into_iter().filter(|status| selector.statuses.contains(*status)) {
            let members = self.with_status(status);
            match &mut selected {
                Some(selected) => *selected |= members,
                None => selected = Some(members.clone()),
            }
        }
        let Some(mut selected) = selected else { return RoaringBitmap::new() };
        if let Some(consent) = selector.consent {
            selected &= &self.by_consent[consent as usize - 1];
        }
        for condition in selector.rule.iter().flat_map(|rule| &rule.all_of) {
            let having = self.attributes.having(&condition.key, &condition.any_of);
            if condition.negate {
                selected -= having;
            } else {
                selected &= having;
            }
        }
        selected
    }

    /// The numbers of those selected above `after`, ascending, at most `limit`. Without a rule no bitmap is made.
    pub(super) fn page(&self, selector: &Selector<'_>, after: u32, limit: usize) -> Vec<u32> {
        let asks_nothing = selector.consent.is_none() && selector.rule.is_none_or(|rule| rule.all_of.is_empty());
        if !asks_nothing {
            let selected = self.select(selector);
            return selected.range(after.saturating_add(1)..).take(limit).collect();
        }
        if selector.statuses == Statuses::ALL {
            return (after.saturating_add(1)..=self.count).take(limit).collect();
        }
        let statuses = STATUSES.into_iter().filter(|status| selector.statuses.contains(*status));
        // At most two short sorted lists.
        let mut numbers: Vec<u32> =
            statuses.flat_map(|status| self.with_status(status).range(after.saturating_add(1)..).take(limit)).collect();
        numbers.sort_unstable();
        numbers.truncate(limit);
        numbers
    }

    fn row(&self, number: u32) -> Option<Row> {
        let (page, slot) = place(number)?;
        self.pages.get(page)?.rows.get(slot).copied()
    }

    fn row_mut(&mut self, number: u32) -> Option<&mut Row> {
        let (page, slot) = place(number)?;
        self.pages.get_mut(page)?.rows.get_mut(slot)
    }
}

/// Bits of the hash that a table uses neither for its bucket nor for its tag.
fn shard(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

/// The key of a friend that exists.
fn key(pages: &[Page], number: u32) -> &str {
    let Some((page, slot)) = place(number).and_then(|(page, slot)| Some((pages.get(page)?, slot))) else { return "" };
    let start = if slot == 0 { 0 } else { page.ends[slot - 1] as usize };
    &page.keys[start..page.ends[slot] as usize]
}
