//! Where each revision of a channel stands in the chronicle.
//!
//! ```text
//! page p: revisions p·1024+1 ..= p·1024+1024
//!   run: (offset in the page, raft index, item) — goes on with item+1, item+2 … in the same record until the next run
//! ```
//! Several events of one channel usually stand side by side in a record, so runs are few.

use std::ops::Range;

use bincode::{Decode, Encode};

use crate::{
    paged::{MANIFEST, Page, Paged, grown},
    rows::{LOCATOR_TAIL, LOCATORS},
};

/// Revisions a page.
pub(crate) const PAGE: u64 = 1_024;

/// Where one event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locator {
    /// Raft index of the record.
    pub index: u64,
    /// The how-manyeth position of that record, from 0: its position is `first_sequence + item`.
    pub item: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Run {
    offset: u16,
    item: u32,
    index: u64,
}

/// Revision → locator; revisions are 1, 2, 3 … without gaps.
#[derive(Debug, Default)]
pub(crate) struct Locators {
    pub(crate) pages: Paged<LocatorPage>,
    len: u64,
}

/// Up to 1,024 revisions.
#[derive(Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LocatorPage {
    /// Revisions in this page, 1 to 1,024.
    filled: u16,
    runs: Vec<Run>,
}

impl Page for LocatorPage {
    const TABLE: u8 = LOCATORS;
    const TAIL: u8 = LOCATOR_TAIL;

    fn size_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }
}

impl LocatorPage {
    fn push(&mut self, locator: Locator) {
        let offset = self.filled;
        let goes_on = self.runs.last().is_some_and(|run| {
            run.index == locator.index
                && u64::from(run.item) + u64::from(offset - run.offset) == u64::from(locator.item)
        });
        if !goes_on {
            self.runs.push(Run { offset, item: locator.item, index: locator.index });
        }
        self.filled += 1;
        if u64::from(self.filled) == PAGE {
            self.runs.shrink_to_fit();
        }
    }
}

impl Locators {
    /// The newest revision.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn push(&mut self, locator: Locator) {
        self.pages.change((self.len / PAGE) as usize, |page| page.push(locator));
        self.len += 1;
    }

    pub(crate) fn get(&self, revision: u64) -> Option<Locator> {
        if revision == 0 || revision > self.len {
            return None;
        }
        let page = self.pages.get(((revision - 1) / PAGE) as usize)?;
        let offset = ((revision - 1) % PAGE) as u16;
        let run = page.runs.get(page.runs.partition_point(|run| run.offset <= offset).checked_sub(1)?)?;
        Some(Locator { index: run.index, item: run.item + u32::from(offset - run.offset) })
    }

    /// Pages that never change again.
    pub(crate) fn full(&self) -> usize {
        (self.len / PAGE) as usize
    }

    /// Pages that hold revisions after `len`, which is what the disk has.
    pub(crate) fn dirty_pages(&self, len: u64) -> Range<usize> {
        grown(len as usize, self.len as usize, PAGE as usize)
    }

    /// Manifests that list pages which the disk, with `len` revisions, does not have in full.
    pub(crate) fn dirty_manifests(&self, len: u64) -> Range<usize> {
        grown((len / PAGE) as usize, self.full(), MANIFEST)
    }

    /// Takes the next full pages back, which stand on disk under these digests and are read when they are asked for. False if they
    /// cannot be the next.
    pub(crate) fn restore_manifest(&mut self, number: usize, digests: &[u64]) -> bool {
        let sound = number.checked_mul(MANIFEST) == Some(self.pages.len()) && (1..=MANIFEST).contains(&digests.len());
        if sound {
            self.pages.restore_full(digests);
            self.len += digests.len() as u64 * PAGE;
        }
        sound
    }

    /// Takes the last page back, which is not full and stands under this digest. False if it cannot be that.
    pub(crate) fn restore_tail(&mut self, page: LocatorPage, digest: u64) -> bool {
        if page == LocatorPage::default() {
            return true;
        }
        let sound = (1..PAGE).contains(&u64::from(page.filled))
            && page.runs.first().is_some_and(|run| run.offset == 0)
            && page.runs.is_sorted_by(|a, b| a.offset < b.offset)
            && page.runs.last().is_some_and(|run| run.offset < page.filled);
        if sound {
            self.len += u64::from(page.filled);
            self.pages.restore_tail(page, digest);
        }
        sound
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_pushed_is_found(steps in prop::collection::vec((0u64..3, 0u32..3), 1..3_000)) {
            let mut locators = Locators::default();
            let (mut index, mut item) = (5u64, 0u32);
            let mut all = Vec::new();
            for (index_step, item_step) in steps {
                if index_step > 0 {
                    (index, item) = (index + index_step, item_step);
                } else {
                    item += 1 + item_step;
                }
                all.push(Locator { index, item });
                locators.push(Locator { index, item });
            }
            prop_assert_eq!(locators.len(), all.len() as u64);
            for (at, locator) in all.iter().enumerate() {
                prop_assert_eq!(locators.get(at as u64 + 1), Some(*locator));
            }
            prop_assert_eq!(locators.get(0), None);
            prop_assert_eq!(locators.get(all.len() as u64 + 1), None);
        }
    }
}
