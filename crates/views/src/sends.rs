//! What a channel sent, newest first, to all and to one friend.
//!
//! Pushes stand in one list by revision; each knows the push before it to the same friend, so that one friend's history
//! is a walk and costs 24 bytes a push. Pages of that list may be out of memory; the first revision of each page, each
//! friend's newest push and the bulk sends with their frozen audiences stay.

use std::{ops::Range, sync::Arc};

use bincode::{Decode, Encode};
use roaring::RoaringBitmap;

use crate::{
    codec,
    paged::{MANIFEST, Page, Paged, grown},
    rows::{PUSH_TAIL, PUSHES, Pages},
};

/// Pushes a row.
pub(crate) const PAGE: usize = 512;

/// Friends whose newest pushes are a row.
pub(crate) const NEWEST_A_PAGE: usize = 1_024;

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
    const TAIL: u8 = PUSH_TAIL;

    fn size_bytes(&self) -> usize {
        self.pushes.capacity() * size_of::<Push>()
    }
}

/// Up to 256 full pages of pushes.
#[derive(Debug, Encode, Decode)]
pub(crate) struct PushManifest {
    digests: Vec<u64>,
    /// Revisions of their first pushes.
    firsts: Vec<u64>,
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
    /// By friend number: place of the newest push.
    newest: Vec<u32>,
    /// Pages of these that changed.
    pub(crate) newest_changed: Pages,
    bulks: Vec<Bulk>,
    cost_won: i64,
}

impl Sends {
    pub(crate) fn push(&mut self, revision: u64, friend: u32, unit_price_won: i64) {
        let slot = friend as usize;
        if self.newest.len() <= slot {
            self.newest.resize(slot + 1, NONE);
        }
        if self.pushes.is_multiple_of(PAGE) {
            self.firsts.push(revision);
        }
        let before = std::mem::replace(&mut self.newest[slot], self.pushes as u32);
        self.newest_changed.insert((slot / NEWEST_A_PAGE) as u64);
        let push = Push { revision, friend, before, unit_price_won };
        self.pages.change(self.pushes / PAGE, |page| page.pushes.push(push));
        self.pushes += 1;
        self.cost_won = self.cost_won.saturating_add(unit_price_won);
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

    /// Pages of pushes that never change again.
    pub(crate) fn full(&self) -> usize {
        self.pushes / PAGE
    }

    /// Pages of pushes that the disk lacks, which has so many pushes.
    pub(crate) fn dirty_pages(&self, pushes: usize) -> Range<usize> {
        grown(pushes, self.pushes, PAGE)
    }

    /// Manifests that list pages which the disk, with so many pushes, does not have in full.
    pub(crate) fn dirty_manifests(&self, pushes: usize) -> Range<usize> {
        grown(pushes / PAGE, self.full(), MANIFEST)
    }

    /// Bulk sends that the disk lacks, which has so many.
    pub(crate) fn dirty_bulks(&self, bulks: usize) -> Range<usize> {
        bulks..self.bulks.len()
    }

    /// The disk has nothing any more.
    pub(crate) fn forget_disk(&mut self) {
        self.pages.forget_copies();
        (0..self.newest.len().div_ceil(NEWEST_A_PAGE)).for_each(|page| self.newest_changed.insert(page as u64));
    }

    pub(crate) fn manifest(&self, number: usize) -> PushManifest {
        let firsts = self.firsts.iter().take(self.full()).skip(number * MANIFEST).take(MANIFEST);
        PushManifest { digests: self.pages.manifest(number, self.full()), firsts: firsts.copied().collect() }
    }

    /// Places of the newest pushes to the friends of this page.
    pub(crate) fn newest_page(&self, page: u64) -> &[u32] {
        let from = (page as usize * NEWEST_A_PAGE).min(self.newest.len());
        &self.newest[from..self.newest.len().min(from + NEWEST_A_PAGE)]
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

    /// Takes the next full pages back, which are read when they are asked for. False if they cannot be the next.
    pub(crate) fn restore_manifest(&mut self, number: usize, manifest: &PushManifest) -> bool {
        let PushManifest { digests, firsts } = manifest;
        let sound = number.checked_mul(MANIFEST) == Some(self.pages.len())
            && (1..=MANIFEST).contains(&digests.len())
            && firsts.len() == digests.len()
            && self.firsts.last().into_iter().chain(firsts).is_sorted_by(|a, b| a < b);
        if sound {
            self.pages.restore_full(digests);
            self.firsts.extend(firsts);
            self.pushes += digests.len() * PAGE;
        }
        sound
    }

    /// Takes the last page back, which is not full and stands under this digest. False if it cannot be that.
    pub(crate) fn restore_tail(&mut self, page: PushPage, digest: u64) -> bool {
        let revisions = || page.pushes.iter().map(|push| push.revision);
        let Some(first) = revisions().next() else { return true };
        let sound = page.pushes.len() < PAGE
            && self.firsts.last().is_none_or(|last| *last < first)
            && revisions().is_sorted_by(|a, b| a < b);
        if sound {
            self.firsts.push(first);
            self.pushes += page.pushes.len();
            self.pages.restore_tail(page, digest);
        }
        sound
    }

    /// Takes a page of newest pushes back, of friends that there are. False if it does not follow those before it.
    pub(crate) fn restore_newest(&mut self, page: usize, places: &[u32]) -> bool {
        let first = page * NEWEST_A_PAGE;
        let sound = self.newest.len() <= first
            && (1..=NEWEST_A_PAGE).contains(&places.len())
            && places.iter().all(|place| *place == NONE || (*place as usize) < self.pushes);
        if sound {
            self.newest.resize(first, NONE);
            self.newest.extend(places);
        }
        sound
    }

    /// What all sends cost, which is not known from pages that were not read.
    pub(crate) fn restore_cost(&mut self, cost_won: i64) {
        self.cost_won = cost_won;
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
    fn rows_that_do_not_follow_each_other_are_no_index() {
        let page = |revisions: Range<u64>| {
            let push = |revision| Push { revision, friend: 1, before: NONE, unit_price_won: 15 };
            PushPage { pushes: revisions.map(push).collect() }
        };
        let manifest =
            |firsts: Range<u64>| PushManifest { digests: vec![7; firsts.end as usize], firsts: firsts.collect() };
        let mut sends = Sends::default();
        assert!(!sends.restore_tail(page(1..513), 7), "it is full, and in no manifest");
        assert!(!sends.restore_manifest(1, &manifest(0..2)), "the first is missing");
        let short = PushManifest { digests: vec![7, 7], firsts: vec![1] };
        assert!(!sends.restore_manifest(0, &short), "a first revision is missing");
        assert!(!sends.restore_manifest(0, &manifest(0..MANIFEST as u64 + 1)), "it is too long");
        assert_eq!(sends.lens(), (0, 0));
        assert!(sends.restore_manifest(0, &manifest(0..2)));
        assert!(!sends.restore_tail(page(1..3), 7), "revisions go back");
        assert!(sends.restore_tail(page(2..5), 7));
        assert_eq!(sends.lens(), (2 * PAGE + 3, 0));
        assert!(!sends.restore_newest(0, &[2 * PAGE as u32 + 3]), "there is no such push");
        assert!(sends.restore_newest(1, &[0]) && !sends.restore_newest(1, &[0]) && !sends.restore_newest(0, &[0]));
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
            for friend in [None, Some(1), Some(7), Some(99)] {
                let brute: Vec<u64> = all
                    .iter()
                    .rev()
                    .filter(|(revision, to)| *revision < before && friend.is_none_or(|number| to.contains(&number)))
                    .map(|(revision, _)| *revision)
                    .collect();
                let listed: Vec<u64> = sends.list(before, friend).map(|row| row.revision).collect();
                prop_assert_eq!(listed, brute);
            }
            for (revision, _) in &all {
                prop_assert_eq!(sends.get(*revision).map(|row| row.revision), Some(*revision));
            }
        }
    }
}
