//! The rows of a channel's friends, 256 a page.

use std::sync::Arc;

use super::attributes::{Attributes, EMPTY_SET};
use crate::{
    Consents, FriendRow, FriendSource, FriendStatus, UnixNanos,
    channel::apply::pairs,
    paging::{FriendPages, Slot},
};

/// Friends a page: nothing larger than a page is ever moved when a channel grows. Page `n` has the numbers from
/// `n` · 256 + 1 on.
pub const FRIENDS_A_PAGE: u32 = 256;
const PAGE: usize = FRIENDS_A_PAGE as usize;

/// Every friend's row, densely by number, and the attributes that rows refer to.
#[derive(Debug, Default)]
pub(super) struct Pages {
    slots: Vec<Slot<Page>>,
    count: u32,
    pub(super) attributes: Attributes,
    /// `None`: everything stays in memory.
    kept: Option<Arc<dyn FriendPages>>,
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
pub(super) struct Row {
    pub(super) added_at: UnixNanos,
    pub(super) added_revision: u64,
    pub(super) attributes: u32,
    pub(super) status: FriendStatus,
    pub(super) source: FriendSource,
    pub(super) consents: Consents,
}

impl Row {
    /// Of somebody of whom nothing is known yet.
    fn blank() -> Row {
        Row {
            added_at: 0,
            added_revision: 0,
            attributes: EMPTY_SET,
            status: FriendStatus::Friend,
            source: FriendSource::Unspecified,
            consents: Consents::default(),
        }
    }

    fn of(row: &FriendRow, attributes: u32) -> Row {
        let FriendRow { added_at, added_revision, status, source, consents, .. } = *row;
        Row { added_at, added_revision, attributes, status, source, consents }
    }
}

fn place(number: u32) -> Option<(usize, usize)> {
    let at = number.checked_sub(1)? as usize;
    Some((at / PAGE, at % PAGE))
}

impl Pages {
    /// Friends ever; their numbers are 1 to this.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Must come before the first friend.
    pub(super) fn keep(&mut self, kept: Arc<dyn FriendPages>) {
        self.kept = Some(kept);
    }

    pub(super) fn user_key(&self, number: u32) -> Option<&str> {
        let (page, slot) = place(number)?;
        self.page(page)?.key(slot)
    }

    pub(super) fn row(&self, number: u32) -> Option<Row> {
        let (page, slot) = place(number)?;
        self.page(page)?.rows.get(slot).copied()
    }

    pub(super) fn row_mut(&mut self, number: u32) -> Option<&mut Row> {
        let (page, slot) = place(number)?;
        self.page_mut(page)?.rows.get_mut(slot)
    }

    /// One more friend.
    pub(super) fn push(&mut self, user_key: &str) {
        let page = self.count as usize / PAGE;
        if page == self.slots.len() {
            self.slots.push(Slot::new(Page::default()));
        }
        if let Some(page) = self.page_mut(page) {
            let before = page.size_bytes();
            page.push(user_key, Row::blank());
            let grown = page.size_bytes() as isize - before as isize;
            self.resized(grown);
        }
        self.count += 1;
    }

    /// The rows of a page were taken, to be stored under this digest.
    pub(super) fn taken(&mut self, page: u32, digest: u64) {
        if let Some(slot) = self.slots.get_mut(page as usize) {
            slot.taken(digest);
        }
    }

    /// What was taken of a page stands.
    pub(super) fn stored(&mut self, page: u32) {
        if let Some(slot) = self.slots.get_mut(page as usize) {
            slot.stored();
        }
    }

    /// Brings every page into memory.
    pub(super) fn recall(&self) {
        for page in 0..self.slots.len() {
            self.page(page);
        }
    }

    /// No page is stored any more. All must be in memory.
    pub(super) fn forget_copies(&mut self) {
        self.slots.iter_mut().for_each(Slot::forget_copy);
    }

    /// See [`crate::Channel::sweep`].
    pub(super) fn sweep(&mut self, from: usize, goes_on: impl Fn() -> bool) -> usize {
        let Some(kept) = &self.kept else { return self.slots.len() };
        for (page, slot) in self.slots.iter_mut().enumerate().skip(from) {
            if !goes_on() {
                return page;
            }
            if let Some(page) = slot.sweep() {
                kept.evicted(page.size_bytes());
            }
        }
        self.slots.len()
    }

    fn page(&self, page: usize) -> Option<&Page> {
        let slot = self.slots.get(page)?;
        Some(slot.get(|digest| read(self.kept.as_ref(), &self.attributes, self.count, page, digest)))
    }

    fn page_mut(&mut self, page: usize) -> Option<&mut Page> {
        let (kept, attributes, count) = (self.kept.as_ref(), &self.attributes, self.count);
        self.slots.get_mut(page)?.get_mut(|digest| read(kept, attributes, count, page, digest))
    }

    fn resized(&self, by_bytes: isize) {
        if let Some(kept) = self.kept.as_ref().filter(|_| by_bytes != 0) {
            kept.resized(by_bytes);
        }
    }
}

/// A page that is not in memory. While it was away none of its friends changed, so their attributes are still known.
fn read(kept: Option<&Arc<dyn FriendPages>>, attributes: &Attributes, count: u32, number: usize, digest: u64) -> Page {
    // Without anybody who keeps them no page leaves memory.
    let Some(kept) = kept else { return Page::default() };
    let page = number as u32;
    let first = page * FRIENDS_A_PAGE + 1;
    let rows = kept.friends(page, digest);
    let expected = first..=count.min(first.saturating_add(FRIENDS_A_PAGE - 1));
    if !rows.iter().map(|row| row.number).eq(expected) {
        kept.contradicted(page);
    }
    let mut read = Page::with_capacity(&rows);
    for row in &rows {
        let Some(set) = attributes.find(pairs(&row.attributes)) else { kept.contradicted(page) };
        read.push(&row.user_key, Row::of(row, set));
    }
    kept.resized(read.size_bytes() as isize);
    read
}

impl Page {
    fn with_capacity(rows: &[FriendRow]) -> Page {
        let keys = rows.iter().map(|row| row.user_key.len()).sum();
        let (ends, of_rows) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        Page { keys: String::with_capacity(keys), ends, rows: of_rows }
    }

    fn push(&mut self, user_key: &str, row: Row) {
        self.keys.push_str(user_key);
        self.ends.push(self.keys.len() as u32);
        self.rows.push(row);
        if self.rows.len() == PAGE {
            self.keys.shrink_to_fit();
        }
    }

    fn key(&self, slot: usize) -> Option<&str> {
        let end = *self.ends.get(slot)? as usize;
        let start = if slot == 0 { 0 } else { self.ends[slot - 1] as usize };
        Some(&self.keys[start..end])
    }

    fn size_bytes(&self) -> usize {
        self.keys.capacity() + size_of::<u32>() * self.ends.capacity() + size_of::<Row>() * self.rows.capacity()
    }
}
