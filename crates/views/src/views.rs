//! What others call.
//!
//! Lock order: the fold, the directory of channels, one channel, `applied`. A reader holds one channel's read lock and
//! nothing else, so it delays the fold only where the fold wants that very channel.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::{
    applied::{Applied, Folded},
    error::FoldError,
    fold::FoldState,
    load,
    memory::{ChannelPages, Memory},
    options::Options,
    spill::Spiller,
    table::ChannelTable,
};

/// One channel behind its lock.
pub(crate) type Cell = Arc<RwLock<ChannelTable>>;

/// Tables of every channel in memory, written behind to sled. Clones share everything; when the last one is dropped
/// without [`Views::close`], what was not yet spilled is folded again at the next start.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
    /// Ends the spill thread when the last clone goes.
    spiller: Option<Arc<Spiller>>,
    options: Arc<Options>,
}

/// What the fold, the readers and the spill thread share. Empty until [`Views::load`].
#[derive(Default)]
pub(crate) struct Shared {
    /// `None`: everything stays in memory.
    memory: Option<Arc<Memory>>,
    pub(crate) fold: Mutex<FoldState>,
    pub(crate) channels: RwLock<BTreeMap<Arc<str>, Cell>>,
    pub(crate) applied: RwLock<Option<Applied>>,
}

impl Shared {
    /// What was loaded; nothing is folded before. Channels come first: one may be ahead of `applied`, never behind.
    fn install(&self, applied: Option<Applied>, channels: BTreeMap<Arc<str>, Cell>) {
        let mut fold = self.fold.lock();
        *fold = FoldState::new(applied, &channels);
        *self.channels.write() = channels;
        *self.applied.write() = applied;
    }

    /// A channel that was never opened.
    pub(crate) fn new_channel(&self, id: &Arc<str>) -> ChannelTable {
        match &self.memory {
            Some(memory) => ChannelTable::kept(&ChannelPages::new(Arc::clone(id), Arc::clone(memory))),
            None => ChannelTable::default(),
        }
    }

    /// Whether pages may have to be read from disk.
    pub(crate) fn has_evicted(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.has_evicted())
    }

    /// Comes before whatever may bring pages into memory; no table may be locked.
    fn make_room(&self) {
        if let Some(memory) = &self.memory {
            memory.make_room(&self.channels);
        }
    }
}

impl Views {
    /// Empty views. Nothing is read and nothing can fail: starting never waits for a view.
    pub fn new(options: Options) -> Views {
        let spiller = options.dir.is_some().then(|| Arc::new(Spiller::new(&options)));
        let memory = options.dir.as_ref().map(|dir| Arc::new(Memory::new(dir, &options)));
        Views { shared: Arc::new(Shared { memory, ..Shared::default() }), spiller, options: Arc::new(options) }
    }

    /// Loads the rows of `options.dir`, before anything is folded; takes as long as reading them takes. Then the caller
    /// folds on from [`Views::applied`], from the first entry where that is `None`.
    ///
    /// `admissible` is told what the rows speak for and compares it with the verified chronicle: not beyond what is
    /// flushed and committed there, and the same head. Rows that are not admissible, of another cluster or schema,
    /// damaged, or written before a reboot without having been fsynced are moved aside with a warning. Where the disk
    /// itself cannot be used (full, no descriptors, no permission) they stay where they are, the views go on in memory
    /// and say so ([`Views::trouble`]), and writing is tried again and again.
    pub fn load(&self, admissible: impl FnOnce(&Applied) -> bool) {
        let (Some(spiller), Some(dir), Some(memory)) = (&self.spiller, &self.options.dir, &self.shared.memory) else {
            return;
        };
        let loaded = load::open(dir, &self.options, spiller.cluster_id(), memory, admissible);
        self.shared.install(loaded.applied, loaded.channels);
        memory.tell();
        let rows = (loaded.store, loaded.applied, loaded.trouble);
        spiller.start(Arc::clone(&self.shared), Arc::clone(memory), rows, dir, &self.options);
    }

    /// Views that are loaded.
    pub fn open(options: Options, admissible: impl FnOnce(&Applied) -> bool) -> Views {
        let views = Views::new(options);
        views.load(admissible);
        views
    }

    /// Why rows are not written to disk, for a person; `None`: they are, or were never meant to be.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.spiller.as_ref().and_then(|spiller| spiller.trouble())
    }

    /// Entries that are folded and not in the fsynced rows, which a start after a crash folds again; `None`: memory only.
    pub fn durable_lag(&self) -> Option<u64> {
        let spiller = self.spiller.as_ref()?;
        let behind = |applied: Option<Applied>| applied.map_or(0, |applied| applied.index + 1);
        // In this order: what is durable was folded.
        let durable = behind(spiller.durable());
        Some(behind(self.applied()).saturating_sub(durable))
    }

    /// The cluster whose chronicle is folded, once a blank node has adopted one. Rows are spilled from then on.
    pub fn adopt_cluster(&self, cluster_id: [u8; 16]) {
        if let Some(spiller) = &self.spiller {
            spiller.adopt_cluster(cluster_id);
        }
    }

    /// How far the tables are. `None` before the first entry.
    pub fn applied(&self) -> Option<Applied> {
        *self.shared.applied.read()
    }

    /// Folds the entry at `index`, which must follow the one before. `kind` is 0 blank, 1 record, 2 membership. `hash` is the BLAKE3
    /// of the payload, where the caller knows it.
    ///
    /// # Errors
    /// Nothing was folded, the tables stand at the entry before, and the same entry gives the same error again.
    pub fn fold(
        &self,
        index: u64,
        term: u64,
        kind: u8,
        payload: &Bytes,
        hash: Option<[u8; 32]>,
    ) -> Result<Folded, FoldError> {
        self.make_room_for_fold();
        let mut fold = self.shared.fold.lock();
        let folded = fold.entry(&self.shared, index, term, kind, payload, hash)?;
        let dirty_rows = fold.dirty_rows();
        drop(fold);
        if let Some(spiller) = &self.spiller {
            spiller.folded(dirty_rows);
        }
        Ok(folded)
    }

    /// What changed cannot leave memory before it is spilled. Where it alone is more than the budget, folding waits for a spill;
    /// once, however that ends, because a disk that is slow or full must not stop it.
    fn make_room_for_fold(&self) {
        self.shared.make_room();
        if let (Some(spiller), Some(memory)) = (&self.spiller, &self.shared.memory) {
            if memory.is_full() {
                spiller.spill_and_wait();
            }
            memory.tell();
        }
    }

    /// Runs `f` under the read lock of one channel; `None` if it was never opened. `f` must not call these views.
    pub fn with_channel<R>(&self, channel_id: &str, f: impl FnOnce(Option<&ChannelTable>) -> R) -> R {
        self.shared.make_room();
        let cell = self.shared.channels.read().get(channel_id).cloned();
        match cell {
            Some(cell) => f(Some(&cell.read())),
            None => f(None),
        }
    }

    /// As [`Views::with_channel`], and says what the answer speaks for: every event of the channel up to there, and
    /// none after.
    pub fn read_channel<R>(&self, channel_id: &str, f: impl FnOnce(Option<&ChannelTable>, Option<Applied>) -> R) -> R {
        self.shared.make_room();
        // A channel that is missing after this moment was missing at it.
        let before = self.applied();
        let cell = self.shared.channels.read().get(channel_id).cloned();
        let Some(cell) = cell else { return f(None, before) };
        let table = cell.read();
        // While the lock is held the channel stands still. The fold publishes `applied` after the channel changed, so
        // the channel may be one record ahead of it, and then speaks for that record.
        let applied = self.applied();
        let own = table.changed();
        let speaks_for = if applied.is_none_or(|applied| applied.index < own.index) { Some(own) } else { applied };
        f(Some(&table), speaks_for)
    }

    /// Channels in order of their ids, all at one position, which is returned. Folding waits meanwhile: keep `limit`
    /// to a page. `f` must not call these views.
    pub fn read_channels(
        &self,
        after: Option<&str>,
        limit: usize,
        mut f: impl FnMut(&str, &ChannelTable),
    ) -> Option<Applied> {
        self.shared.make_room();
        let _fold = self.shared.fold.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (id, cell) in self.shared.channels.read().range::<str, _>((from, Bound::Unbounded)).take(limit) {
            f(id, &cell.read());
        }
        self.applied()
    }

    /// Ids of channels in ascending order.
    pub fn channel_ids_after(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let channels = self.shared.channels.read();
        channels.range::<str, _>((from, Bound::Unbounded)).take(limit).map(|(id, _)| id.to_string()).collect()
    }

    /// How many channels there are.
    pub fn channel_count(&self) -> usize {
        self.shared.channels.read().len()
    }

    /// Entries up to this Raft index are flushed here and committed: a spill may hold them, and nothing later.
    pub fn set_spillable(&self, index: u64) {
        if let Some(spiller) = &self.spiller {
            spiller.set_spillable(index);
        }
    }

    /// Asks for a spill now. With `wait`, returns once one that began after the call was written and fsynced, or could
    /// not be made (entries beyond [`Views::set_spillable`], a disk that fails). True if the rows on disk then speak
    /// for at least what was folded at the call.
    pub fn spill_now(&self, wait: bool) -> bool {
        let Some(spiller) = &self.spiller else { return false };
        let applied = self.applied();
        if wait {
            spiller.spill_and_wait();
        } else {
            spiller.request();
        }
        match (self.durable_applied(), applied) {
            (Some(durable), Some(applied)) => durable.index >= applied.index,
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    /// What the fsynced rows speak for; a start after a crash folds from there.
    pub fn durable_applied(&self) -> Option<Applied> {
        self.spiller.as_ref().and_then(|spiller| spiller.durable())
    }

    /// Spills what is left, if that is allowed, ends the spill thread and closes the rows. Nothing is folded any more, and
    /// whoever reads what only the disk has panics.
    pub fn close(&self) {
        if self.shared.memory.is_some() {
            self.shared.fold.lock().close();
        }
        if let Some(spiller) = &self.spiller {
            spiller.close();
        }
        if let Some(memory) = &self.shared.memory {
            memory.detach();
        }
    }

    /// What the pages in memory occupy.
    #[cfg(test)]
    pub(crate) fn resident_bytes(&self) -> usize {
        self.shared.memory.as_ref().map_or(0, |memory| memory.resident_bytes())
    }

    /// Changes a byte of a row on disk.
    #[cfg(test)]
    pub(crate) fn tamper(&self, key: &[u8]) {
        self.shared.memory.as_ref().expect("rows").tamper(key);
    }

    #[cfg(test)]
    pub(crate) fn set_spill_hook(&self, hook: crate::spill::Hook) {
        if let Some(spiller) = &self.spiller {
            spiller.set_hook(hook);
        }
    }
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views").field("applied", &self.applied()).finish_non_exhaustive()
    }
}
