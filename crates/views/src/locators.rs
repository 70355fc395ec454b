//! Where each revision of a channel stands in the chronicle.
//!
//! ```text
//! page p: revisions p·1024+1 ..= p·1024+1024
//!   run: (offset in the page, raft index, item) — goes on with item+1, item+2 … in the same record until the next run
//! ```
//! Several events of one channel usually stand side by side in a record, so runs are few.

use bincode::{Decode, Encode};

use crate::{
    codec::{self, RowError},
    paged::{Page, Paged},
    rows::LOCATORS,
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
    /// Revisions in this page, 1 to 1,024. First, so that a row tells it without its runs.
    filled: u16,
    runs: Vec<Run>,
}

impl Page for LocatorPage {
    const TABLE: u8 = LOCATORS;

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

    /// Pages that hold revisions after `len`, which is what the disk has.
    pub(crate) fn dirty_pages(&self, len: u64) -> std::ops::Range<u64> {
        if len == self.len { 0..0 } else { len / PAGE..self.pages.len() as u64 }
    }

    /// Takes the next page back, whose row this is and stands on disk under its digest. A full one is read when it is asked for: all
    /// that must be known of it is that it is full. False if it cannot be the next.
    pub(crate) fn restore(&mut self, number: u64, row: &[u8], digest: u64) -> Result<bool, RowError> {
        let filled: u16 = codec::decode_first(row)?;
        if u64::from(filled) == PAGE && self.pages.is_kept() {
            let follows = number * PAGE == self.len;
            if follows {
                self.len += PAGE;
                self.pages.append_stored(digest);
            }
            return Ok(follows);
        }
        Ok(self.restore_page(number, codec::decode(row)?))
    }

    fn restore_page(&mut self, number: u64, page: LocatorPage) -> bool {
        let sound = number * PAGE == self.len
            && (1..=PAGE).contains(&u64::from(page.filled))
            && page.runs.first().is_some_and(|run| run.offset == 0)
            && page.runs.is_sorted_by(|a, b| a.offset < b.offset)
            && page.runs.last().is_some_and(|run| run.offset < page.filled);
        if sound {
            self.len += u64::from(page.filled);
            self.pages.append(page);
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
        fn what_was_pushed_is_found_and_survives_its_pages(steps in prop::collection::vec((0u64..3, 0u32..3), 1..3_000)) {
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
            let mut restored = Locators::default();
            for number in locators.dirty_pages(0) {
                let bytes = locators.pages.take(number as usize).unwrap();
                prop_assert!(restored.restore(number, &bytes, 0).unwrap());
            }
            prop_assert_eq!(restored.len(), locators.len());
            for (at, locator) in all.iter().enumerate() {
                prop_assert_eq!(restored.get(at as u64 + 1), Some(*locator));
            }
            prop_assert_eq!(restored.get(0), None);
            prop_assert_eq!(restored.get(all.len() as u64 + 1), None);
        }
    }
}
