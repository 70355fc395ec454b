//! The friends of a channel: their rows, and what answers selections without them.

use roaring::RoaringBitmap;

use super::{attributes::EMPTY_SET, index::Index, pages::Pages};
use crate::{Consent, Consents, FRIEND_LIMIT, FriendState, FriendStatus, Selector, Statuses};

const STATUSES: [FriendStatus; 3] = [FriendStatus::Friend, FriendStatus::Blocked, FriendStatus::Removed];

#[derive(Debug, Default)]
pub(super) struct Friends {
    pub(super) pages: Pages,
    index: Index,
    by_status: [RoaringBitmap; 3],
    by_consent: [RoaringBitmap; 2],
}

impl Friends {
    /// Friends ever; their numbers are 1 to this.
    pub(super) fn count(&self) -> u32 {
        self.pages.count()
    }

    pub(super) fn with_status(&self, status: FriendStatus) -> &RoaringBitmap {
        &self.by_status[status as usize - 1]
    }

    pub(super) fn number_of(&self, user_key: &str) -> Option<u32> {
        self.index.find(user_key, |number| self.pages.user_key(number) == Some(user_key))
    }

    pub(super) fn user_key(&self, number: u32) -> Option<&str> {
        self.pages.user_key(number)
    }

    pub(super) fn state(&self, number: u32) -> Option<FriendState> {
        self.pages.row(number).map(|row| FriendState {
            status: row.status,
            consents: row.consents,
            source: row.source,
            added_revision: row.added_revision,
            added_at: row.added_at,
        })
    }

    /// Key and value of each attribute, ascending by key.
    pub(super) fn attributes_of(&self, number: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pages.attributes.of(self.pages.row(number).map_or(EMPTY_SET, |row| row.attributes))
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
        if number == 0 || number > FRIEND_LIMIT || number > self.count() + 1 {
            return false;
        }
        if number == self.count() + 1 && !self.push(number, user_key) {
            return false;
        }
        self.set_attributes(number, attributes);
        self.set_status(number, state.status);
        self.set_consents(number, state.consents);
        if let Some(row) = self.pages.row_mut(number) {
            (row.added_at, row.added_revision, row.source) = (state.added_at, state.added_revision, state.source);
        }
        true
    }

    fn push(&mut self, number: u32, user_key: &str) -> bool {
        let pages = &self.pages;
        if !self.index.insert(user_key, number, |number| pages.user_key(number) == Some(user_key)) {
            return false;
        }
        self.pages.push(user_key);
        self.by_status[FriendStatus::Friend as usize - 1].insert(number);
        true
    }

    pub(super) fn set_status(&mut self, number: u32, status: FriendStatus) {
        let Some(row) = self.pages.row_mut(number) else { return };
        let old = std::mem::replace(&mut row.status, status);
        if old != status {
            self.by_status[old as usize - 1].remove(number);
            self.by_status[status as usize - 1].insert(number);
        }
    }

    pub(super) fn set_consent(&mut self, number: u32, consent: Consent, held: bool) {
        if let Some(row) = self.pages.row(number) {
            self.set_consents(number, row.consents.with(consent, held));
        }
    }

    fn set_consents(&mut self, number: u32, consents: Consents) {
        let Some(row) = self.pages.row_mut(number) else { return };
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
        let Some(row) = self.pages.row(number) else { return };
        let set = self.pages.attributes.assign(number, row.attributes, attributes);
        if let Some(row) = self.pages.row_mut(number) {
            row.attributes = set;
        }
    }

    pub(super) fn change_attributes<'a>(
        &mut self,
        number: u32,
        cleared: &[String],
        set: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) {
        let Some(row) = self.pages.row(number) else { return };
        let set = self.pages.attributes.change(number, row.attributes, cleared, set);
        if let Some(row) = self.pages.row_mut(number) {
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
            let having = self.pages.attributes.having(&condition.key, &condition.any_of);
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
            return (after.saturating_add(1)..=self.count()).take(limit).collect();
        }
        let statuses = STATUSES.into_iter().filter(|status| selector.statuses.contains(*status));
        // At most two short sorted lists.
        let mut numbers: Vec<u32> =
            statuses.flat_map(|status| self.with_status(status).range(after.saturating_add(1)..).take(limit)).collect();
        numbers.sort_unstable();
        numbers.truncate(limit);
        numbers
    }
}
