//! How much of the tables is in memory, and the way of a page out of it and back.
//!
//! All channels share one budget. Whoever may bring pages in, a reader or the fold, makes room first: a hand goes round over
//! all pages as over a clock and drops those that are stored and were not asked for since it last came by. So memory is above
//! the budget by what the reads under way bring in themselves, and by what changed and is not spilled yet; where the latter alone
//! is more than the budget, the fold waits for a spill.
//!
//! sled is believed here no more than at the start: what comes back must have the digest that is kept in memory. If it has not,
//! nobody is answered: the rows are condemned, so that the next start builds them anew, and this process ends.

use std::{
    collections::BTreeMap,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use bincode::Decode;
use parking_lot::{Mutex, RwLock};
use sillok_domain::{FriendPages, FriendRow};

use crate::{
    codec,
    error::LostPage,
    options::{Blocking, OnLost, Options},
    place,
    rows::{FRIENDS, friend},
    store::{self, Reader},
    table::ChannelTable,
    views::Cell,
};

/// Channels that the hand looks at before it looks up the next.
const CHANNELS: usize = 64;
/// One part in so many of the budget is freed at once.
const FREED: usize = 64;

/// What the pages of all channels may occupy, and do.
pub(crate) struct Memory {
    budget_bytes: usize,
    resident_bytes: AtomicUsize,
    /// Below this there is nothing to do. It is the budget, or more where the hand went round in vain.
    busy_above_bytes: AtomicUsize,
    /// Pages may leave: they can be read back.
    evicts: AtomicBool,
    /// Pages have left.
    has_evicted: AtomicBool,
    rows: RwLock<Option<Reader>>,
    hand: Mutex<Hand>,
    dir: PathBuf,
    blocking: Blocking,
    on_lost: OnLost,
}

/// Where the sweep goes on.
#[derive(Default)]
struct Hand {
    /// The channel looked at last.
    channel: Option<Arc<str>>,
    /// Its next page; `None`: it was looked at to its end.
    page: Option<usize>,
}

impl Memory {
    pub(crate) fn new(dir: &Path, options: &Options) -> Memory {
        Memory {
            budget_bytes: options.memory_bytes,
            resident_bytes: AtomicUsize::new(0),
            busy_above_bytes: AtomicUsize::new(options.memory_bytes),
            evicts: AtomicBool::new(false),
            has_evicted: AtomicBool::new(false),
            rows: RwLock::new(None),
            hand: Mutex::default(),
            dir: dir.to_owned(),
            blocking: options.blocking,
            on_lost: options.on_lost,
        }
    }

    /// Pages may leave from now on; they come back from here.
    pub(crate) fn attach(&self, rows: Reader) {
        *self.rows.write() = Some(rows);
        self.evicts.store(true, Ordering::Release);
    }

    /// No page leaves any more; returns once the hand stands still.
    pub(crate) fn stop_evicting(&self) {
        let _hand = self.hand.lock();
        self.evicts.store(false, Ordering::Release);
    }

    /// Lets go of the store. What is not in memory by then cannot be had any more.
    pub(crate) fn detach(&self) {
        self.stop_evicting();
        if let Some(rows) = self.rows.write().take() {
            rows.close();
        }
    }

    /// Every table is gone.
    pub(crate) fn reset(&self) {
        self.resident_bytes.store(0, Ordering::Relaxed);
    }

    /// More is in memory than may be, and no page that is there can leave before a spill.
    pub(crate) fn is_full(&self) -> bool {
        self.is_above(self.budget_bytes) && self.evicts.load(Ordering::Acquire)
    }

    /// Whether something may be on disk alone.
    pub(crate) fn has_evicted(&self) -> bool {
        self.has_evicted.load(Ordering::Relaxed)
    }

    /// Pages were stored: what could not leave before now can.
    pub(crate) fn stored(&self) {
        self.busy_above_bytes.store(self.budget_bytes, Ordering::Relaxed);
    }

    /// Drops pages until the budget is kept or none is left that can go.
    pub(crate) fn make_room(&self, channels: &RwLock<BTreeMap<Arc<str>, Cell>>) {
        let is_busy = || self.is_above(self.busy_above_bytes.load(Ordering::Relaxed));
        if !is_busy() || !self.evicts.load(Ordering::Acquire) {
            return;
        }
        let mut hand = self.hand.lock();
        if !is_busy() || !self.evicts.load(Ordering::Acquire) {
            return;
        }
        // The first round may begin in the middle, the second finds what was used since, the third takes it.
        let mut rounds = 0;
        while self.wants_room() && rounds < 3 {
            rounds += usize::from(!self.step(&mut hand, channels));
        }
        if self.is_above(self.budget_bytes) {
            let resident = self.resident_bytes.load(Ordering::Relaxed);
            self.busy_above_bytes.store(resident + self.budget_bytes / FREED, Ordering::Relaxed);
        }
        self.tell();
    }

    /// As [`Memory::make_room`], within a channel that is being loaded.
    pub(crate) fn make_room_in(&self, table: &mut ChannelTable, hand: &mut usize) {
        if !self.is_above(self.budget_bytes) {
            return;
        }
        let mut rounds = 0;
        while self.wants_room() && rounds < 3 {
            let next = table.sweep(*hand, || self.wants_room());
            rounds += usize::from(next.is_none());
            *hand = next.unwrap_or(0);
        }
    }

    /// Says how much is in memory.
    pub(crate) fn tell(&self) {
        metrics::gauge!("sillok_views_resident_bytes").set(self.resident_bytes.load(Ordering::Relaxed) as f64);
    }

    /// Moves the hand on by a few channels; false at the end of a round.
    fn step(&self, hand: &mut Hand, channels: &RwLock<BTreeMap<Arc<str>, Cell>>) -> bool {
        let from = match (&hand.channel, hand.page) {
            (None, _) => Bound::Unbounded,
            (Some(id), Some(_)) => Bound::Included(&**id),
            (Some(id), None) => Bound::Excluded(&**id),
        };
        let next: Vec<(Arc<str>, Cell)> = {
            let channels = channels.read();
            let next = channels.range::<str, _>((from, Bound::Unbounded)).take(CHANNELS);
            next.map(|(id, cell)| (Arc::clone(id), Arc::clone(cell))).collect()
        };
        if next.is_empty() {
            *hand = Hand::default();
            return false;
        }
        for (id, cell) in next {
            let page = hand.page.take().unwrap_or(0);
            hand.page = cell.write().sweep(page, || self.wants_room());
            hand.channel = Some(id);
            if hand.page.is_some() {
                break;
            }
        }
        true
    }

    fn wants_room(&self) -> bool {
        self.is_above(self.budget_bytes - self.budget_bytes / FREED)
    }

    fn is_above(&self, bytes: usize) -> bool {
        self.resident_bytes.load(Ordering::Relaxed) > bytes
    }

    #[cfg(test)]
    pub(crate) fn resident_bytes(&self) -> usize {
        self.resident_bytes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn tamper(&self, key: &[u8]) {
        self.rows.read().as_ref().expect("attached").tamper(key);
    }

    fn resized(&self, by_bytes: isize) {
        // Wraps as a subtraction where it shrinks.
        self.resident_bytes.fetch_add(by_bytes as usize, Ordering::Relaxed);
    }
}

/// The pages of one channel.
pub(crate) struct ChannelPages {
    channel_id: Arc<str>,
    memory: Arc<Memory>,
}

impl ChannelPages {
    pub(crate) fn new(channel_id: Arc<str>, memory: Arc<Memory>) -> Arc<ChannelPages> {
        Arc::new(ChannelPages { channel_id, memory })
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The page that was stored under this digest.
    pub(crate) fn page<P: Decode<()>>(&self, table: u8, page: u64, digest: u64) -> P {
        let read = self.bytes(table, page, digest);
        let read = read.and_then(|bytes| codec::decode(&bytes).map_err(|error| error.to_string()));
        read.unwrap_or_else(|reason| self.lost(table, page, reason))
    }

    /// The bytes of its row. What stands in their way is told apart by people only.
    fn bytes(&self, table: u8, page: u64, digest: u64) -> Result<Vec<u8>, String> {
        let began = Instant::now();
        let key = store::key(&self.channel_id, table, page);
        let mut read = Ok(None);
        (self.memory.blocking)(&mut || {
            let rows = self.memory.rows.read();
            // Not lost: a start finds it. Nothing is decided or answered once the node closes its views.
            let Some(rows) = &*rows else { panic!("the views are closed, and what was asked for is on disk") };
            read = rows.get(&key);
        });
        metrics::histogram!("sillok_views_page_read_seconds").record(began.elapsed());
        match read {
            Ok(Some((bytes, found))) if found == digest => Ok(bytes),
            Ok(Some(_)) => Err("it is not what was written".to_owned()),
            Ok(None) => Err("it is not there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn lost(&self, table: u8, page: u64, reason: String) -> ! {
        let lost = LostPage { channel_id: self.channel_id.to_string(), table, page, reason };
        if let Err(error) = place::condemn(&self.memory.dir, &lost.to_string()) {
            tracing::error!(%error, dir = %self.memory.dir.display(), "the rows of the views could not be condemned");
        }
        (self.memory.on_lost)(&lost)
    }
}

impl FriendPages for ChannelPages {
    fn friends(&self, page: u32, digest: u64) -> Vec<FriendRow> {
        let page = u64::from(page);
        let rows = self.bytes(FRIENDS, page, digest);
        let rows = rows.and_then(|bytes| friend::rows(&bytes).map_err(|error| error.to_string()));
        rows.unwrap_or_else(|reason| self.lost(FRIENDS, page, reason))
    }

    fn contradicted(&self, page: u32) -> ! {
        self.lost(FRIENDS, u64::from(page), "it contradicts what is in memory".to_owned())
    }

    fn resized(&self, by_bytes: isize) {
        self.memory.resized(by_bytes);
    }

    fn evicted(&self, bytes: usize) {
        metrics::counter!("sillok_views_pages_evicted_total").increment(1);
        self.memory.has_evicted.store(true, Ordering::Relaxed);
        self.memory.resized(-(bytes as isize));
    }
}

impl std::fmt::Debug for ChannelPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelPages").field("channel_id", &self.channel_id).finish_non_exhaustive()
    }
}
