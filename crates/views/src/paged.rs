//! A list that only grows, in pages that may be out of memory.

use std::sync::Arc;

use bincode::{Decode, Encode};
use sillok_domain::{FriendPages as _, Slot};

use crate::{
    codec::{self, RowError},
    memory::ChannelPages,
};

/// A page, which is also its row on disk.
pub(crate) trait Page: Default + Encode + Decode<()> {
    /// Of the table that these pages are.
    const TABLE: u8;

    /// What it occupies beside itself.
    fn size_bytes(&self) -> usize;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Paged<P> {
    slots: Vec<Slot<P>>,
    /// `None`: everything stays in memory.
    kept: Option<Arc<ChannelPages>>,
}

impl<P> Default for Paged<P> {
    fn default() -> Paged<P> {
        Paged { slots: Vec::new(), kept: None }
    }
}

impl<P: Page> Paged<P> {
    /// Must come before the first page.
    pub(crate) fn keep(&mut self, kept: Arc<ChannelPages>) {
        self.kept = Some(kept);
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&P> {
        Some(self.slots.get(number)?.get(|digest| read(self.kept.as_deref(), number, digest)))
    }

    /// Changes a page; where it is the next one, it is made first.
    pub(crate) fn change(&mut self, number: usize, change: impl FnOnce(&mut P)) {
        if number == self.slots.len() {
            self.slots.push(Slot::new(P::default()));
        }
        let kept = self.kept.as_deref();
        let Some(slot) = self.slots.get_mut(number) else { return };
        let Some(page) = slot.get_mut(|digest| read(kept, number, digest)) else { return };
        let before = page.size_bytes();
        change(page);
        let grown = page.size_bytes() as isize - before as isize;
        if let Some(kept) = kept.filter(|_| grown != 0) {
            kept.resized(grown);
        }
    }

    /// The next page, as a whole.
    pub(crate) fn append(&mut self, page: P) {
        if let Some(kept) = &self.kept {
            kept.resized(page.size_bytes() as isize);
        }
        self.slots.push(Slot::new(page));
    }

    /// Whether pages may leave memory.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The next page, which stands on disk under this digest and is read when it is asked for. Pages must be kept.
    pub(crate) fn append_stored(&mut self, digest: u64) {
        self.slots.push(Slot::away(digest));
    }

    /// The bytes of a page's row, to be stored.
    pub(crate) fn take(&mut self, number: usize) -> Result<Vec<u8>, RowError> {
        let bytes = match self.get(number) {
            Some(page) => codec::encode(page)?,
            None => codec::encode(&P::default())?,
        };
        self.taken(number);
        Ok(bytes)
    }

    /// The row of a page was taken, to be stored.
    pub(crate) fn taken(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.taken();
        }
    }

    /// What was taken of a page stands, under this digest.
    pub(crate) fn stored(&mut self, number: usize, digest: u64) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.stored(digest);
        }
    }

    /// Brings every page into memory.
    pub(crate) fn recall(&self) {
        for number in 0..self.slots.len() {
            self.get(number);
        }
    }

    /// No page is stored any more. All must be in memory.
    pub(crate) fn forget_copies(&mut self) {
        self.slots.iter_mut().for_each(Slot::forget_copy);
    }

    /// Drops pages that are stored and were not asked for since the sweep before; the page to go on from.
    pub(crate) fn sweep(&mut self, from: usize, goes_on: impl Fn() -> bool) -> usize {
        let Some(kept) = &self.kept else { return self.slots.len() };
        for (number, slot) in self.slots.iter_mut().enumerate().skip(from) {
            if !goes_on() {
                return number;
            }
            if let Some(page) = slot.sweep() {
                kept.evicted(page.size_bytes());
            }
        }
        self.slots.len()
    }
}

fn read<P: Page>(kept: Option<&ChannelPages>, number: usize, digest: u64) -> P {
    // Without anybody who keeps them no page leaves memory.
    let Some(kept) = kept else { return P::default() };
    let page: P = kept.page(P::TABLE, number as u64, digest);
    kept.resized(page.size_bytes() as isize);
    page
}
