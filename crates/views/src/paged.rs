//! A list that only grows, in pages that may be out of memory.

use std::{ops::Range, sync::Arc};

use bincode::{Decode, Encode};
use sillok_domain::{FriendPages as _, Slot};

use crate::{
    codec::{self, RowError},
    memory::ChannelPages,
    store::Row,
};

/// Full pages that one manifest lists.
pub(crate) const MANIFEST: usize = if cfg!(test) { 2 } else { 256 };

/// A page, which is also its row on disk.
pub(crate) trait Page: Default + Encode + Decode<()> {
    /// The table of full pages, which never change again and are listed in manifests.
    const TABLE: u8;
    /// The table of one row: the last page, which is not full.
    const TAIL: u8;

    /// What it occupies beside itself.
    fn size_bytes(&self) -> usize;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Paged<P> {
    slots: Vec<Slot<P>>,
    /// The page whose copy is the tail's row.
    tail: Option<usize>,
    /// `None`: everything stays in memory.
    kept: Option<Arc<ChannelPages>>,
}

impl<P> Default for Paged<P> {
    fn default() -> Paged<P> {
        Paged { slots: Vec::new(), tail: None, kept: None }
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
        Some(self.slots.get(number)?.get(|digest| read(self.kept.as_deref(), self.tail, number, digest)))
    }

    /// Changes a page; where it is the next one, it is made first.
    pub(crate) fn change(&mut self, number: usize, change: impl FnOnce(&mut P)) {
        if number == self.slots.len() {
            self.slots.push(Slot::new(P::default()));
        }
        let (kept, tail) = (self.kept.as_deref(), self.tail);
        let Some(slot) = self.slots.get_mut(number) else { return };
        let Some(page) = slot.get_mut(|digest| read(kept, tail, number, digest)) else { return };
        let before = page.size_bytes();
        change(page);
        let grown = page.size_bytes() as isize - before as isize;
        if let Some(kept) = kept.filter(|_| grown != 0) {
            kept.resized(grown);
        }
    }

    /// Full pages, the next ones, which stand on disk under these digests and are read when they are asked for.
    pub(crate) fn restore_full(&mut self, digests: &[u64]) {
        self.slots.extend(digests.iter().map(|digest| Slot::away(*digest)));
    }

    /// The last page, which is not full and stands on disk under this digest.
    pub(crate) fn restore_tail(&mut self, page: P, digest: u64) {
        if let Some(kept) = &self.kept {
            kept.resized(page.size_bytes() as isize);
        }
        let mut slot = Slot::new(page);
        slot.taken(digest);
        slot.stored();
        self.tail = Some(self.slots.len());
        self.slots.push(slot);
    }

    /// The rows of these pages of a channel, up to the last one, to be stored. The first `full` of all never change again.
    pub(crate) fn take(
        &mut self,
        channel_id: &str,
        pages: Range<usize>,
        full: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), RowError> {
        if pages.is_empty() {
            return Ok(());
        }
        for number in pages.start..full {
            let row = Row::new(channel_id, P::TABLE, number as u64, self.bytes(number)?);
            self.taken(number, row.digest());
            rows.push(row);
        }
        // Where there is none, the row says so.
        let row = Row::new(channel_id, P::TAIL, 0, self.bytes(full)?);
        self.taken(full, row.digest());
        self.tail = Some(full);
        rows.push(row);
        Ok(())
    }

    fn bytes(&self, number: usize) -> Result<Vec<u8>, RowError> {
        match self.get(number) {
            Some(page) => codec::encode(page),
            None => codec::encode(&P::default()),
        }
    }

    fn taken(&mut self, number: usize, digest: u64) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.taken(digest);
        }
    }

    /// What was taken of a full page stands.
    pub(crate) fn stored(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.stored();
        }
    }

    /// What was taken of the tail stands.
    pub(crate) fn tail_stored(&mut self) {
        if let Some(tail) = self.tail {
            self.stored(tail);
        }
    }

    /// What the manifest of this number says of the first so many pages, which are full and were taken.
    pub(crate) fn manifest(&self, number: usize, full: usize) -> Vec<u64> {
        let listed = self.slots.iter().take(full).skip(number * MANIFEST).take(MANIFEST);
        listed.map(|slot| slot.copy().unwrap_or_default()).collect()
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

/// Rows of so many items each that a list lacks on disk which has grown from `before` items to `now`.
pub(crate) fn grown(before: usize, now: usize, a_row: usize) -> Range<usize> {
    if before == now { 0..0 } else { before / a_row..now.div_ceil(a_row) }
}

fn read<P: Page>(kept: Option<&ChannelPages>, tail: Option<usize>, number: usize, digest: u64) -> P {
    // Without anybody who keeps them no page leaves memory.
    let Some(kept) = kept else { return P::default() };
    let (table, row) = if tail == Some(number) { (P::TAIL, 0) } else { (P::TABLE, number as u64) };
    let page: P = kept.page(table, row, digest);
    kept.resized(page.size_bytes() as isize);
    page
}
