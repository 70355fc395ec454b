//! What a channel sent, newest first, to all and to one friend.
//!
//! Pushes stand in one list by revision; each knows the push before it to the same friend, so that one friend's history
//! is a walk and costs 24 bytes a push. Pages of that list may be out of memory; the first revision of each page, each
//! friend's newest push and the bulk sends with their frozen audiences stay.

use std::sync::Arc;

use bincode::{Decode, Encode};
use roaring::RoaringBitmap;

use crate::{
    codec::{self, RowError},
    paged::{Page, Paged},
    rows::PUSHES,
};

/// Pushes a row.
pub(crate) const PAGE: usize = 512;

const NONE: u32 = u32::MAX;

/// Append only: numbers reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[repr(u8)]
pub enum SendKind {
    /// To one friend.
    Push = 1,
    /// To an audience.
    Narrowcast = 2,
    /// To every friend.
    Broadcast = 3,
}

/// One accepted send. Its text and rule are in the event, which the chronicle has at the revision's locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendRow {
    /// The message's id.
    pub revision: u64,
    /// What kind of send.
    pub kind: SendKind,
    /// Of a push.
    pub friend_number: Option<u32>,
    /// Friends in the frozen audience; 1 for a push.
    pub audience_count: u64,
    /// Won per recipient.
    pub unit_price_won: i64,
    /// `audience_count × unit_price_won`, saturating.
    pub cost_won: i64,
    /// Left out of an advertisement for want of consent.
    pub excluded_without_consent: u64,
    /// Left out because they blocked the channel.
    pub excluded_blocked: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Push {
    revision: u64,
    friend: u32,
    /// Place in the list of the push before to the same friend.
    before: u32,
    unit_price_won: i64,
}

/// One send to many.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bulk {
    pub(crate) revision: u64,
    pub(crate) kind: SendKind,
    pub(crate) unit_price_won: i64,
    pub(crate) excluded_without_consent: u64,
    pub(crate) excluded_blocked: u64,
    pub(crate) audience: Arc<RoaringBitmap>,
    pub(crate) audience_count: u64,
}

/// Up to 512 pushes.
#[derive(Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PushPage {
    pushes: Vec<Push>,
}

impl Page for PushPage {
    const TABLE: u8 = PUSHES;

    fn size_bytes(&self) -> usize {
        self.pushes.capacity() * size_of::<Push>()
    }
}

/// One bulk send on disk.
#[derive(Debug, Encode, Decode)]
pub(crate) struct BulkRow {
    revision: u64,
    kind: SendKind,
    unit_price_won: i64,
    excluded_without_consent: u64,
    excluded_blocked: u64,
    /// Portable Roaring bitmap.
    audience: Vec<u8>,
}

/// The send index of one channel.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    pub(crate) pages: Paged<PushPage>,
    /// Pushes, of which each page but the last has 512.
    pushes: usize,
    /// By page: the revision of its first push.
    firsts: Vec<u64>,
    /// Of the newest push.
    newest_revision: u64,
    /// By friend number: place of the newest push.
    newest: Vec<u32>,
    bulks: Vec<Bulk>,
    cost_won: i64,
}

impl Sends {
    pub(crate) fn push(&mut self, revision: u64, friend: u32, unit_price_won: i64) {
        let page = self.pushes / PAGE;
        let before = self.count_push(revision, friend, unit_price_won);
        self.pages.change(page, |page| page.pushes.push(Push { revision, friend, before, unit_price_won }));
    }

    /// All of the next push but its page; the place of the push before to the same friend.
    fn count_push(&mut self, revision: u64, friend: u32, unit_price_won: i64) -> u32 {
        let slot = friend as usize;
        if self.newest.len() <= slot {
            self.newest.resize(slot + 1, NONE);
        }
        if self.pushes.is_multiple_of(PAGE) {
            self.firsts.push(revision);
        }
        let before = std::mem::replace(&mut self.newest[slot], self.pushes as u32);
        self.pushes += 1;
        self.newest_revision = revision;
        self.cost_won = self.cost_won.saturating_add(unit_price_won);
        before
    }

    pub(crate) fn bulk(&mut self, bulk: Bulk) {
        self.cost_won = self.cost_won.saturating_add(bulk.row().cost_won);
        self.bulks.push(bulk);
    }

    pub(crate) fn count(&self) -> u64 {
        (self.pushes + self.bulks.len()) as u64
    }

    pub(crate) fn cost_won(&self) -> i64 {
        self.cost_won
    }

    pub(crate) fn get(&self, revision: u64) -> Option<SendRow> {
        self.find_push(revision).map(Push::row).or_else(|| self.find_bulk(revision).map(Bulk::row))
    }

    pub(crate) fn find_bulk(&self, revision: u64) -> Option<&Bulk> {
        self.bulks.get(self.bulks.binary_search_by_key(&revision, |bulk| bulk.revision).ok()?)
    }

    pub(crate) fn push_recipient(&self, revision: u64) -> Option<u32> {
        self.find_push(revision).map(|push| push.friend)
    }

    fn push_at(&self, place: u32) -> Option<&Push> {
        let place = place as usize;
        self.pages.get(place / PAGE)?.pushes.get(place % PAGE)
    }

    fn find_push(&self, revision: u64) -> Option<&Push> {
        let page = self.firsts.partition_point(|first| *first <= revision).checked_sub(1)?;
        let pushes = &self.pages.get(page)?.pushes;
        pushes.get(pushes.binary_search_by_key(&revision, |push| push.revision).ok()?)
    }

    /// How many pushes have revisions below this.
    fn pushes_below(&self, revision: u64) -> usize {
        // Only the last page that begins below it can have both.
        let Some(page) = self.firsts.partition_point(|first| *first < revision).checked_sub(1) else { return 0 };
        let pushes = self.pages.get(page).map_or(&[][..], |page| &page.pushes);
        page * PAGE + pushes.partition_point(|push| push.revision < revision)
    }

    /// Newest first, revisions below `before`.
    pub(crate) fn list(&self, before: u64, friend: Option<u32>) -> impl Iterator<Item = SendRow> + '_ {
        let mut pushes = PushWalk { sends: self, next: self.walk_from(before, friend), friend }.peekable();
        let below = self.bulks.partition_point(|bulk| bulk.revision < before);
        let mut bulks = self.bulks[..below]
            .iter()
            .rev()
            .filter(move |bulk| friend.is_none_or(|number| bulk.audience.contains(number)))
            .map(Bulk::row)
            .peekable();
        std::iter::from_fn(move || match (pushes.peek(), bulks.peek()) {
            (Some(push), Some(bulk)) if push.revision < bulk.revision => bulks.next(),
            (Some(_), _) => pushes.next(),
            (None, _) => bulks.next(),
        })
    }

    fn walk_from(&self, before: u64, friend: Option<u32>) -> u32 {
        let Some(number) = friend else {
            return (self.pushes_below(before) as u32).wrapping_sub(1);
        };
        let mut place = self.newest.get(number as usize).copied().unwrap_or(NONE);
        while let Some(push) = self.push_at(place) {
            if push.revision < before {
                break;
            }
            place = push.before;
        }
        place
    }

    pub(crate) fn lens(&self) -> (usize, usize) {
        (self.pushes, self.bulks.len())
    }

    /// Push pages and bulk rows that the disk, which has so many of each, lacks.
    pub(crate) fn dirty(&self, (pushes, bulks): (usize, usize)) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let pages = if pushes == self.pushes { 0..0 } else { pushes / PAGE..self.pushes.div_ceil(PAGE) };
        (pages, bulks..self.bulks.len())
    }

    pub(crate) fn bulk_row(&self, number: usize) -> Option<BulkRow> {
        let bulk = self.bulks.get(number)?;
        Some(BulkRow {
            revision: bulk.revision,
            kind: bulk.kind,
            unit_price_won: bulk.unit_price_won,
            excluded_without_consent: bulk.excluded_without_consent,
            excluded_blocked: bulk.excluded_blocked,
            audience: codec::bitmap_bytes(&bulk.audience),
        })
    }

    /// Takes the next page back, whose row this is and stands on disk under its digest. A full one is read when it is asked for.
    /// False if it cannot be the next.
    pub(crate) fn restore(&mut self, number: usize, row: &[u8], digest: u64) -> Result<bool, RowError> {
        let pushes = codec::decode_each::<Push>(row)?;
        let len = pushes.left();
        if number * PAGE != self.pushes || !(1..=PAGE as u64).contains(&len) {
            return Ok(false);
        }
        for push in pushes {
            let push = push?;
            let follows = self.newest_revision < push.revision
                && self.count_push(push.revision, push.friend, push.unit_price_won) == push.before;
            if !follows {
                return Ok(false);
            }
        }
        if len == PAGE as u64 && self.pages.is_kept() {
            self.pages.append_stored(digest);
        } else {
            self.pages.append(codec::decode(row)?);
        }
        Ok(true)
    }

    /// Takes the next bulk send back. False if it cannot be the next.
    pub(crate) fn restore_bulk(&mut self, number: usize, row: BulkRow) -> bool {
        let newest = self.bulks.last().map_or(0, |bulk| bulk.revision);
        let Some(audience) = codec::bitmap_of(&row.audience) else { return false };
        let sound = number == self.bulks.len() && row.revision > newest;
        if sound {
            self.bulk(Bulk {
                revision: row.revision,
                kind: row.kind,
                unit_price_won: row.unit_price_won,
                excluded_without_consent: row.excluded_without_consent,
                excluded_blocked: row.excluded_blocked,
                audience_count: audience.len(),
                audience: Arc::new(audience),
            });
        }
        sound
    }
}

struct PushWalk<'a> {
    sends: &'a Sends,
    next: u32,
    friend: Option<u32>,
}

impl Iterator for PushWalk<'_> {
    type Item = SendRow;

    fn next(&mut self) -> Option<SendRow> {
        let push = self.sends.push_at(self.next)?;
        // Below 0 wraps to NONE, which no list reaches.
        self.next = if self.friend.is_some() { push.before } else { self.next.wrapping_sub(1) };
        Some(push.row())
    }
}

impl Push {
    fn row(&self) -> SendRow {
        SendRow {
            revision: self.revision,
            kind: SendKind::Push,
            friend_number: Some(self.friend),
            audience_count: 1,
            unit_price_won: self.unit_price_won,
            cost_won: self.unit_price_won,
            excluded_without_consent: 0,
            excluded_blocked: 0,
        }
    }
}

impl Bulk {
    fn row(&self) -> SendRow {
        let count = i64::try_from(self.audience_count).unwrap_or(i64::MAX);
        SendRow {
            revision: self.revision,
            kind: self.kind,
            friend_number: None,
            audience_count: self.audience_count,
            unit_price_won: self.unit_price_won,
            cost_won: count.saturating_mul(self.unit_price_won),
            excluded_without_consent: self.excluded_without_consent,
            excluded_blocked: self.excluded_blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_that_do_not_follow_each_other_are_no_index() {
        let mut sends = Sends::default();
        (1..=600u64).for_each(|revision| sends.push(revision, 1, 15));
        let rows: Vec<Vec<u8>> = (0..2).map(|page| sends.pages.take(page).unwrap()).collect();
        let restored = |pages: &[(usize, usize)]| {
            let mut restored = Sends::default();
            pages.iter().map(|(number, row)| restored.restore(*number, &rows[*row], 0).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(restored(&[(0, 0), (1, 1)]), [true, true]);
        assert_eq!(restored(&[(1, 1)]), [false], "the first is missing");
        assert_eq!(restored(&[(0, 0), (1, 0)]), [true, false], "revisions go back");
        assert_eq!(restored(&[(0, 1)]), [false], "pushes before it are missing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn one_friends_history_is_what_a_scan_of_everything_finds(
            steps in prop::collection::vec((1u64..4, prop::collection::vec(1u32..12, 1..6), any::<bool>()), 0..1_500),
            before in 1u64..5_000,
        ) {
            let mut sends = Sends::default();
            let mut all: Vec<(u64, Vec<u32>)> = Vec::new();
            let mut revision = 0;
            for (gap, members, bulk) in steps {
                revision += gap;
                if bulk {
                    let audience = Arc::new(members.iter().copied().collect::<RoaringBitmap>());
                    sends.bulk(Bulk {
                        revision,
                        kind: SendKind::Narrowcast,
                        unit_price_won: 15,
                        excluded_without_consent: 0,
                        excluded_blocked: 0,
                        audience_count: audience.len(),
                        audience,
                    });
                    all.push((revision, members));
                } else {
                    sends.push(revision, members[0], 15);
                    all.push((revision, vec![members[0]]));
                }
            }
            let mut restored = Sends::default();
            let (pages, bulks) = sends.dirty((0, 0));
            for page in pages {
                let bytes = sends.pages.take(page).unwrap();
                prop_assert!(restored.restore(page, &bytes, 0).unwrap());
            }
            for number in bulks {
                let bytes = codec::encode(&sends.bulk_row(number).unwrap()).unwrap();
                prop_assert!(restored.restore_bulk(number, codec::decode(&bytes).unwrap()));
            }
            prop_assert_eq!(restored.count(), sends.count());
            prop_assert_eq!(restored.cost_won(), sends.cost_won());
            for friend in [None, Some(1), Some(7), Some(99)] {
                let brute: Vec<u64> = all
                    .iter()
                    .rev()
                    .filter(|(revision, to)| *revision < before && friend.is_none_or(|number| to.contains(&number)))
                    .map(|(revision, _)| *revision)
                    .collect();
                let listed: Vec<u64> = restored.list(before, friend).map(|row| row.revision).collect();
                prop_assert_eq!(listed, brute);
            }
            for (revision, _) in &all {
                prop_assert_eq!(restored.get(*revision).map(|row| row.revision), Some(*revision));
            }
        }
    }
}
