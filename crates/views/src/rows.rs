//! What the pages of a channel look like on disk, which of them changed, and how they come back.
//!
//! ```text
//! table 0 header         page 0                          what the channel is, counters, how long each list is
//!       1 friends        page (number−1)/256
//!       2 coupons        page place/32                   place: in the order of definition
//!       3 batches        page revision                   one issue to an audience
//!       4 tickets        page revision/256               issued one by one
//!       5 batch tickets  page revision·2²⁴ + number/256  of a batch and no longer as issued
//!       6 manifests      page page/256                   digests of full pages of the next table
//!       7 locators       page (revision−1)/1024          full ones
//!       8 locators       page 0                          the last page, which is not full
//!       9 manifests      page page/256                   digests of full pages of the next table
//!      10 pushes         page place/512                  full ones
//!      11 pushes         page 0                          the last page, which is not full
//!      12 newest pushes  page number/1024                by friend
//!      13 bulk sends     page place
//!      14 digests        page (revision/64) mod 18       a ring
//! ```
//! Keys sort by table and page, and that is the order in which a channel can be put together again. Lists that only
//! grow know their changed pages from what the disk has; of the others the changed pages are noted. Pages of friends,
//! locators and pushes may be on disk alone (see `memory`): each of them is read by itself. Full pages of locators and pushes
//! are not read at the start either, so that it takes no longer the longer the history is: their manifests are. They never
//! change again, and one that no manifest lists is passed over, so a spill may end between two of them.

use std::{ops::Range, sync::Arc};

use bincode::{Decode, Encode};
use hashbrown::HashSet;
use sillok_domain::{Channel, ChannelRow, TicketPlace, TicketStatus, Touched};

use crate::{
    codec::{self, RowError},
    digests::{self, DigestPage, DigestRing, SetDigest},
    memory::ChannelPages,
    store::{AppliedRow, Row, StoreError, split_key},
    table::ChannelTable,
};

mod channel;
mod coupon;
pub(crate) mod friend;
mod ticket;

use channel::ChannelPart;
pub(crate) use coupon::CouponPlaces;

const HEADER: u8 = 0;
pub(crate) const FRIENDS: u8 = 1;
const COUPONS: u8 = 2;
const BATCHES: u8 = 3;
const TICKETS: u8 = 4;
const BATCH_TICKETS: u8 = 5;
pub(crate) const LOCATOR_MANIFESTS: u8 = 6;
pub(crate) const LOCATORS: u8 = 7;
pub(crate) const LOCATOR_TAIL: u8 = 8;
pub(crate) const PUSH_MANIFESTS: u8 = 9;
pub(crate) const PUSHES: u8 = 10;
pub(crate) const PUSH_TAIL: u8 = 11;
pub(crate) const NEWEST_PUSHES: u8 = 12;
const BULKS: u8 = 13;
const DIGESTS: u8 = 14;

const COUPONS_A_PAGE: u64 = 32;
/// Of those that hold tickets of a batch.
const HOLDERS_A_PAGE: u32 = 256;
const TICKET_REVISIONS_A_PAGE: u64 = 256;

/// What the disk has of a channel, or will have once the spill under way is written.
#[derive(Debug, Default)]
pub(crate) struct OnDisk {
    revision: u64,
    pushes: usize,
    bulks: usize,
    batches: usize,
}

/// Numbers of changed pages. Events that follow each other often change the same one.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    set: HashSet<u64>,
    newest: Option<u64>,
}

impl Pages {
    pub(crate) fn insert(&mut self, page: u64) {
        if self.newest != Some(page) {
            self.newest = Some(page);
            self.set.insert(page);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Ascending, and clean from now on.
    fn take(&mut self) -> Vec<u64> {
        self.newest = None;
        let mut pages: Vec<u64> = self.set.drain().collect();
        pages.sort_unstable();
        pages
    }
}

/// What changed and is not found by comparing lengths.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    friends: Pages,
    coupons: Pages,
    tickets: Pages,
    batch_tickets: Pages,
}

impl Dirty {
    fn len(&self) -> usize {
        [&self.friends, &self.coupons, &self.tickets, &self.batch_tickets].iter().map(|pages| pages.len()).sum()
    }
}

#[derive(Debug, Encode, Decode)]
struct Header {
    channel: ChannelPart,
    changed: AppliedRow,
    pushes: u64,
    bulks: u64,
    /// Of all sends.
    cost_won: i64,
    refused: Vec<(u32, i32, u64)>,
}

fn note_ticket(dirty: &mut Dirty, batches: &[u64], issued_revision: u64, friend_number: u32) {
    if batches.binary_search(&issued_revision).is_ok() {
        dirty.batch_tickets.insert(issued_revision << 24 | u64::from(friend_number / HOLDERS_A_PAGE));
    } else {
        dirty.tickets.insert(issued_revision / TICKET_REVISIONS_A_PAGE);
    }
}

impl ChannelTable {
    /// Notes what an event changed, after it was applied.
    pub(crate) fn touch(&mut self, touched: &Touched<'_>) {
        if let Some(number) = touched.friend {
            self.dirty.friends.insert(friend::page_of(number));
        }
        if let Some(id) = touched.coupon.filter(|id| self.channel.coupon_view(id).is_some()) {
            let place = self.coupons.place(id);
            self.dirty.coupons.insert(place / COUPONS_A_PAGE);
        }
        if let Some(revision) = touched.batch {
            self.batches.push(revision);
        }
        let place = touched.issued.or_else(|| touched.ticket.and_then(|id| self.ticket_place(id)));
        if let Some(TicketPlace { issued_revision, friend_number }) = place {
            note_ticket(&mut self.dirty, &self.batches, issued_revision, friend_number);
        }
    }

    /// The disk has none of its rows any more. Every page must be in memory.
    pub(crate) fn forget_disk(&mut self) {
        self.on_disk = OnDisk::default();
        self.is_dirty = true;
        self.channel.forget_stored_friends();
        self.locators.pages.forget_copies();
        self.sends.forget_disk();
        (0..self.channel.friend_pages()).for_each(|page| self.dirty.friends.insert(u64::from(page)));
        (0..self.coupons.pages()).for_each(|page| self.dirty.coupons.insert(page));
        let every = TicketPlace { issued_revision: 0, friend_number: 0 };
        for row in self.channel.ticket_rows(every) {
            note_ticket(&mut self.dirty, &self.batches, row.issued_revision, row.friend_number);
        }
    }

    /// How many rows the disk lacks.
    pub(crate) fn dirty_rows(&self) -> usize {
        if !self.is_dirty {
            return 0;
        }
        let OnDisk { revision, pushes, bulks, batches } = self.on_disk;
        let digests = self.digests.dirty_pages(revision);
        let grown = [
            self.locators.dirty_pages(revision),
            self.locators.dirty_manifests(revision),
            self.sends.dirty_pages(pushes),
            self.sends.dirty_manifests(pushes),
            self.sends.dirty_bulks(bulks),
            batches..self.batches.len(),
            digests.start as usize..digests.end as usize,
        ];
        1 + self.dirty.len() + self.sends.newest_changed.len() + grown.iter().map(Range::len).sum::<usize>()
    }

    /// Takes every row that the disk lacks; the table is clean from now on.
    pub(crate) fn take_rows(&mut self, id: &str, rows: &mut Vec<Row>) -> Result<(), RowError> {
        // A channel is in the directory only with its first event folded.
        let Some(channel) = self.channel.channel_row() else { return Ok(()) };
        let (pushes, bulks) = self.sends.lens();
        let header = Header {
            channel: ChannelPart::of(&channel),
            changed: self.changed.into(),
            pushes: pushes as u64,
            bulks: bulks as u64,
            cost_won: self.sends.cost_won(),
            refused: self.refused.iter().map(|((kind, reason), count)| (*kind, *reason, *count)).collect(),
        };
        let mut put = |table, page, bytes| rows.push(Row::new(id, table, page, bytes));
        put(HEADER, 0, codec::encode(&header)?);
        for page in self.dirty.coupons.take() {
            put(COUPONS, page, coupon::page(&self.channel, self.coupons.page(page))?);
        }
        for revision in self.batches.iter().skip(self.on_disk.batches) {
            put(BATCHES, *revision, ticket::batch(&self.channel, *revision)?);
        }
        for page in self.dirty.tickets.take() {
            put(TICKETS, page, ticket::page(&self.channel, page, &self.batches)?);
        }
        for page in self.dirty.batch_tickets.take() {
            put(BATCH_TICKETS, page, ticket::batch_page(&self.channel, page)?);
        }
        for page in self.sends.newest_changed.take() {
            put(NEWEST_PUSHES, page, codec::encode(&self.sends.newest_page(page))?);
        }
        for bulk in self.sends.dirty_bulks(self.on_disk.bulks) {
            put(BULKS, bulk as u64, codec::encode(&self.sends.bulk_row(bulk))?);
        }
        for page in self.digests.dirty_pages(self.on_disk.revision) {
            put(DIGESTS, page % digests::SLOTS, codec::encode(&self.digests.page(page))?);
        }
        // Pages that may leave memory; manifests of those that never change again come after them.
        for page in self.dirty.friends.take() {
            let row = Row::new(id, FRIENDS, page, friend::page(&self.channel, page)?);
            self.channel.friend_page_taken(page as u32, row.digest());
            rows.push(row);
        }
        let full = self.locators.full();
        self.locators.pages.take(id, self.locators.dirty_pages(self.on_disk.revision), full, rows)?;
        for manifest in self.locators.dirty_manifests(self.on_disk.revision) {
            let listed = self.locators.pages.manifest(manifest, full);
            rows.push(Row::new(id, LOCATOR_MANIFESTS, manifest as u64, codec::encode(&listed)?));
        }
        let full = self.sends.full();
        self.sends.pages.take(id, self.sends.dirty_pages(self.on_disk.pushes), full, rows)?;
        for manifest in self.sends.dirty_manifests(self.on_disk.pushes) {
            let listed = self.sends.manifest(manifest);
            rows.push(Row::new(id, PUSH_MANIFESTS, manifest as u64, codec::encode(&listed)?));
        }
        self.on_disk = OnDisk { revision: channel.revision, pushes, bulks, batches: self.batches.len() };
        self.is_dirty = false;
        Ok(())
    }

    /// A row that was taken stands on disk for certain.
    pub(crate) fn stored(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let (_, table, page) = split_key(key)?;
        match table {
            FRIENDS => self.channel.friend_page_stored(page as u32),
            LOCATORS => self.locators.pages.stored(page as usize),
            LOCATOR_TAIL => self.locators.pages.tail_stored(),
            PUSHES => self.sends.pages.stored(page as usize),
            PUSH_TAIL => self.sends.pages.tail_stored(),
            // The others never leave memory.
            _ => {}
        }
        Ok(())
    }

    /// Drops pages from memory that are stored and were not asked for since the sweep before, from the place of a page on and
    /// for as long as it `goes_on`. The place to go on from; `None` at the end.
    pub(crate) fn sweep(&mut self, from: usize, goes_on: impl Fn() -> bool) -> Option<usize> {
        let friends = self.channel.friend_pages() as usize;
        if from < friends {
            let at = self.channel.sweep(from as u32, &goes_on) as usize;
            if at < friends {
                return Some(at);
            }
        }
        let pushes = friends + self.sends.pages.len();
        if from < pushes {
            let at = friends + self.sends.pages.sweep(from.saturating_sub(friends), &goes_on);
            if at < pushes {
                return Some(at);
            }
        }
        let end = pushes + self.locators.pages.len();
        let at = pushes + self.locators.pages.sweep(from.saturating_sub(pushes), &goes_on);
        (at < end).then_some(at)
    }

    /// Brings every page into memory.
    pub(crate) fn recall(&self) {
        self.channel.recall_friends();
        self.sends.pages.recall();
        self.locators.pages.recall();
    }
}

/// Why a row is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("{0}")]
    Domain(#[from] sillok_domain::RestoreError),
    #[error("it does not follow the rows before it")]
    Order,
    #[error("a number that this build does not know: {0}")]
    Number(u8),
    #[error("rows are missing")]
    Incomplete,
    #[error("the friends have another digest than the one kept beside them")]
    FriendList,
}

/// Whether rows of this table are full pages, whose digests manifests list: they never change again, and are read when they are asked
/// for and not at the start.
pub(crate) fn is_listed(table: u8) -> bool {
    table == LOCATORS || table == PUSHES
}

/// A channel on its way back: rows come in order of their keys, the header first.
#[derive(Debug)]
pub(crate) struct Restoring {
    table: ChannelTable,
    header: Option<(Header, ChannelRow)>,
    digests: Vec<DigestPage>,
    /// Count and digest of the friend list, from the friends so far.
    friend_list: (u64, SetDigest),
    pages: Arc<ChannelPages>,
    /// Where the next sweep of its pages begins.
    hand: usize,
}

impl Restoring {
    /// Nothing is there yet.
    pub(crate) fn new(pages: Arc<ChannelPages>) -> Restoring {
        let (table, friend_list) = (ChannelTable::kept(&pages), Default::default());
        Restoring { table, header: None, digests: Vec::new(), friend_list, pages, hand: 0 }
    }

    /// Takes one row, which the disk has under this digest, and keeps the budget.
    pub(crate) fn row(&mut self, table: u8, page: u64, bytes: &[u8], digest: u64) -> Result<(), RestoreError> {
        if (table == HEADER) != self.header.is_none() {
            return Err(RestoreError::Order);
        }
        let into = &mut self.table;
        let follows = match table {
            HEADER => {
                let header: Header = codec::decode(bytes)?;
                let channel = header.channel.row()?;
                into.channel = Channel::restore(&channel);
                into.channel.keep(self.pages.clone());
                into.changed = (&header.changed).into();
                into.refused = header.refused.iter().map(|(kind, reason, count)| ((*kind, *reason), *count)).collect();
                self.header = Some((header, channel));
                true
            }
            FRIENDS => {
                let follows = friend::restore(&mut into.channel, page, bytes)?;
                // Now, while they are in memory.
                into.add_to_friend_list(friend::numbers(page), &mut self.friend_list);
                into.channel.friend_page_taken(page as u32, digest);
                into.channel.friend_page_stored(page as u32);
                follows
            }
            COUPONS => coupon::restore(&mut into.channel, &mut into.coupons, page, bytes)?,
            BATCHES => {
                let follows = into.batches.last().is_none_or(|last| *last < page);
                into.batches.push(page);
                ticket::restore_batch(&mut into.channel, page, bytes)?;
                follows
            }
            TICKETS | BATCH_TICKETS => ticket::restore(&mut into.channel, bytes)?,
            LOCATOR_MANIFESTS => into.locators.restore_manifest(page as usize, &codec::decode::<Vec<u64>>(bytes)?),
            LOCATOR_TAIL => into.locators.restore_tail(codec::decode(bytes)?, digest),
            PUSH_MANIFESTS => into.sends.restore_manifest(page as usize, &codec::decode(bytes)?),
            PUSH_TAIL => into.sends.restore_tail(codec::decode(bytes)?, digest),
            NEWEST_PUSHES => {
                let has_friends = page <= u64::from(into.channel.friend_pages());
                has_friends && into.sends.restore_newest(page as usize, &codec::decode::<Vec<u32>>(bytes)?)
            }
            BULKS => match codec::decode::<Option<_>>(bytes)? {
                Some(row) => into.sends.restore_bulk(page as usize, row),
                None => false,
            },
            DIGESTS => {
                self.digests.push(codec::decode(bytes)?);
                true
            }
            _ => false,
        };
        if !follows {
            return Err(RestoreError::Order);
        }
        self.pages.memory().make_room_in(into, &mut self.hand);
        Ok(())
    }

    /// The channel, if the rows made a whole.
    pub(crate) fn finish(self) -> Result<ChannelTable, RestoreError> {
        let mut table = self.table;
        let (header, channel) = self.header.ok_or(RestoreError::Incomplete)?;
        table.channel.restored(&channel)?;
        table.digests = DigestRing::restore(channel.revision, self.digests).ok_or(RestoreError::Incomplete)?;
        if self.friend_list != (table.digests.count, table.digests.list) {
            return Err(RestoreError::FriendList);
        }
        let (pushes, bulks) = table.sends.lens();
        if table.locators.len() != channel.revision || (pushes as u64, bulks as u64) != (header.pushes, header.bulks) {
            return Err(RestoreError::Incomplete);
        }
        table.sends.restore_cost(header.cost_won);
        table.on_disk = OnDisk { revision: channel.revision, pushes, bulks, batches: table.batches.len() };
        Ok(table)
    }
}

fn ticket_status(number: u8) -> Result<TicketStatus, RestoreError> {
    TicketStatus::from_number(number).ok_or(RestoreError::Number(number))
}
