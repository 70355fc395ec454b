//! Rows from memory to disk, behind everybody's back.
//!
//! A spill is taken between two entries: the spill thread holds the fold for as long as it takes to encode what
//! changed, so that rows and `applied` are one moment. Then, with nothing held:
//!
//! ```text
//! sled batches, the last with `applied`  →  sled flush  →  fsync of sled's files  →  mark (boot, number of the spill)
//! ```
//! A process killed anywhere in between leaves the spill before or this one. After a power cut only a marked spill
//! counts. A spill is taken only of what the local chronicle has flushed and knows committed, so the views on disk are
//! never ahead of the chronicle beside them.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    applied::Applied,
    memory::Memory,
    options::{FreeBytes, Options, Spillable},
    place::{self, Mark},
    store::{Row, Spill, Store, StoreError},
    views::{Cell, Shared},
};

/// How long a spill that was taken waits for the local flush before it is put off until the next is due.
const FLUSH_WAIT: Duration = Duration::from_millis(250);
/// How often it looks meanwhile.
const RETRY: Duration = Duration::from_millis(10);
/// After a failure writing is tried again first after this long, then after twice as long each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 1 });
const BACKOFF_LONGEST: Duration = Duration::from_secs(60);
/// Space that a spill leaves beside twice its rows: sled cleans up behind itself. sled does not survive a full disk, and neither do
/// pages that are on it alone, so a spill waits instead.
const SPARE_BYTES: u64 = 16 << 20;
/// A spill that took long is followed by so many times its length of rest.
const REST: u32 = 3;

/// Where a spill is, for tests that copy the directory as a kill would leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing written yet.
    Taken,
    /// Between two batches of one spill.
    BetweenBatches,
    /// Everything is in sled.
    Written,
    /// sled's files are fsynced.
    Synced,
    /// The mark stands.
    Marked,
}

pub(crate) type Hook = Box<dyn FnMut(Step) + Send>;

/// The handle; dropping it ends the thread without a last spill, as a kill would.
pub(crate) struct Spiller {
    control: Arc<Control>,
}

struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// Highest index that may be spilled, plus one, as it was told.
    spillable: AtomicU64,
    /// The same, where it can be asked.
    ask: Option<Spillable>,
    spill_rows: usize,
    dirty_rows: AtomicUsize,
    hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct State {
    cluster_id: Option<[u8; 16]>,
    durable: Option<Applied>,
    /// Spills asked for and answered; an answer counts for every request made before its spill was taken.
    requested: u64,
    answered: u64,
    closing: bool,
    abandoned: bool,
    /// The thread runs.
    running: bool,
    /// Why nothing is written.
    trouble: Option<Arc<str>>,
}

impl Control {
    fn is_spillable(&self, index: u64) -> bool {
        let told = self.spillable.load(Ordering::Acquire) > index;
        told || self.ask.as_ref().is_some_and(|ask| ask().is_some_and(|spillable| spillable >= index))
    }
}

impl Spiller {
    pub(crate) fn new(options: &Options) -> Spiller {
        let control = Arc::new(Control {
            state: Mutex::new(State { cluster_id: options.cluster_id, ..State::default() }),
            changed: Condvar::new(),
            spillable: AtomicU64::new(0),
            ask: options.spillable.clone(),
            spill_rows: options.spill_rows.max(1),
            dirty_rows: AtomicUsize::new(0),
            hook: Mutex::new(None),
        });
        Spiller { control }
    }

    /// Starts the thread once the rows are loaded, unless it was closed meanwhile.
    pub(crate) fn start(
        &self,
        shared: Arc<Shared>,
        memory: Arc<Memory>,
        loaded: (Option<Store>, Option<Applied>, Option<String>),
        dir: &Path,
        options: &Options,
    ) {
        let (store, durable, trouble) = loaded;
        let mut state = self.control.state.lock();
        if state.closing {
            return memory.detach();
        }
        state.durable = durable;
        state.trouble = trouble.map(Into::into);
        state.running = true;
        drop(state);
        let thread = Thread {
            control: Arc::clone(&self.control),
            shared,
            memory,
            is_fresh: false,
            store,
            taken: None,
            dir: dir.to_owned(),
            cache_bytes: options.cache_bytes,
            boot_id: options.boot_id.clone(),
            free_bytes: options.free_bytes.clone(),
            every: options.spill_every.max(RETRY),
            backoff: BACKOFF_FIRST,
        };
        let started = (options.spawn)("sillok-views-spill".to_owned(), Box::new(move || thread.run()));
        if let Err(error) = started {
            tracing::error!(%error, "the views are kept in memory only: no thread to write them could be started");
            let mut state = self.control.state.lock();
            state.running = false;
            state.trouble = Some(format!("no thread to write them could be started: {error}").into());
        }
    }

    pub(crate) fn cluster_id(&self) -> Option<[u8; 16]> {
        self.control.state.lock().cluster_id
    }

    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        self.control.state.lock().trouble.clone()
    }

    pub(crate) fn adopt_cluster(&self, cluster_id: [u8; 16]) {
        self.control.state.lock().cluster_id = Some(cluster_id);
    }

    pub(crate) fn set_spillable(&self, index: u64) {
        self.control.spillable.fetch_max(index.saturating_add(1), Ordering::Release);
    }

    /// After every entry: no lock unless a spill is due for its size.
    pub(crate) fn folded(&self, dirty_rows: usize) {
        let before = self.control.dirty_rows.swap(dirty_rows, Ordering::Relaxed);
        let limit = self.control.spill_rows;
        if before < limit && dirty_rows >= limit {
            self.control.changed.notify_all();
        }
    }

    pub(crate) fn durable(&self) -> Option<Applied> {
        self.control.state.lock().durable
    }

    pub(crate) fn request(&self) -> u64 {
        let mut state = self.control.state.lock();
        state.requested += 1;
        self.control.changed.notify_all();
        state.requested
    }

    pub(crate) fn spill_and_wait(&self) {
        let request = self.request();
        let mut state = self.control.state.lock();
        while state.answered < request && state.running {
            self.control.changed.wait(&mut state);
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.control.state.lock();
        state.closing = true;
        self.control.changed.notify_all();
        while state.running {
            self.control.changed.wait(&mut state);
        }
    }

    #[cfg(test)]
    pub(crate) fn set_hook(&self, hook: Hook) {
        *self.control.hook.lock() = Some(hook);
    }
}

impl Drop for Spiller {
    fn drop(&mut self) {
        self.control.state.lock().abandoned = true;
        self.close();
    }
}

struct Thread {
    control: Arc<Control>,
    shared: Arc<Shared>,
    memory: Arc<Memory>,
    /// `None` after a failure, until a fresh one could be made.
    store: Option<Store>,
    /// The store is empty and the tables do not know it yet.
    is_fresh: bool,
    /// Rows that wait for the local flush, or for space.
    taken: Option<Taken>,
    dir: PathBuf,
    cache_bytes: u64,
    boot_id: String,
    free_bytes: FreeBytes,
    every: Duration,
    backoff: Duration,
}

/// What changed, at one moment.
struct Taken {
    spill: Spill,
    rows: Vec<Row>,
    /// Which rows are whose.
    channels: Vec<(Cell, Range<usize>)>,
}

impl Thread {
    fn run(mut self) {
        // Declared first, so it is dropped last: whoever waits for the end finds sled closed and its lock released.
        let _ended = Ended(Arc::clone(&self.control));
        let mut rest = if self.store.is_some() { self.every } else { self.backoff };
        let mut postponed = false;
        loop {
            let (request, closing) = self.wait(rest, postponed);
            if self.control.state.lock().abandoned {
                break;
            }
            let began = Instant::now();
            match self.spill() {
                Ok(done) => {
                    postponed = !done;
                    rest = self.every.max(began.elapsed() * REST);
                }
                Err(error) => {
                    rest = self.every.max(self.backoff);
                    self.broken(&error);
                }
            }
            if let (Some(applied), durable) = (*self.shared.applied.read(), self.durable()) {
                let lag = applied.index + 1 - durable.map_or(0, |durable| durable.index + 1).min(applied.index + 1);
                metrics::gauge!("sillok_views_durable_lag_entries").set(lag as f64);
            }
            let mut state = self.control.state.lock();
            state.answered = state.answered.max(request);
            self.control.changed.notify_all();
            if closing {
                break;
            }
        }
        self.drop_store();
    }

    /// What sled holds after a failure is nobody's guess, and a sync that failed once may succeed the next time without
    /// having written anything. So the rows are written anew, all of them, into an empty store. What only the disk has is
    /// taken into memory before, whatever the budget: what comes back as it was written is good.
    fn broken(&mut self, error: &StoreError) {
        tracing::error!(%error, dir = %self.dir.display(), again_in = ?self.backoff,
            "the views could not be written to disk; answers stay right, the next start folds more of the chronicle");
        metrics::counter!("sillok_views_spill_failures_total").increment(1);
        self.memory.stop_evicting();
        let cells: Vec<Cell> = self.shared.channels.read().values().cloned().collect();
        cells.iter().for_each(|cell| cell.read().recall());
        self.drop_store();
        self.taken = None;
        self.control.state.lock().trouble = Some(format!("{}: {error}", self.dir.display()).into());
        self.backoff = (self.backoff * 2).min(BACKOFF_LONGEST);
    }

    fn drop_store(&mut self) {
        self.memory.detach();
        if let Some(store) = self.store.take() {
            store.close();
        }
    }

    /// Until a spill is due: by time, by size, by request, or to close.
    fn wait(&self, rest: Duration, postponed: bool) -> (u64, bool) {
        let deadline = Instant::now() + rest;
        let mut state = self.control.state.lock();
        loop {
            let full = self.control.dirty_rows.load(Ordering::Relaxed) >= self.control.spill_rows;
            // Neither a slow disk nor a fold ahead of the flush is helped by haste.
            let hurry = full && rest <= self.every && !postponed;
            if hurry || state.closing || state.requested > state.answered {
                break;
            }
            if self.control.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        (state.requested, state.closing)
    }

    /// False if it was postponed.
    fn spill(&mut self) -> Result<bool, StoreError> {
        let Some(cluster_id) = self.control.state.lock().cluster_id else { return Ok(false) };
        // Rows of an earlier look come first; what changed since is another spill.
        loop {
            let was_waiting = self.taken.is_some();
            let Some(taken) = self.taken.take().map_or_else(|| self.take(cluster_id), |taken| Ok(Some(taken)))? else {
                return Ok(true);
            };
            if !self.is_flushed(taken.spill.applied.index) || !self.has_room(&taken.rows) {
                self.taken = Some(taken);
                return Ok(false);
            }
            self.write(taken)?;
            if !was_waiting {
                return Ok(true);
            }
        }
    }

    fn write(&mut self, taken: Taken) -> Result<(), StoreError> {
        let began = Instant::now();
        let Taken { spill, rows, channels } = taken;
        let applied = spill.applied;
        let control = Arc::clone(&self.control);
        let step = |step| {
            if let Some(hook) = control.hook.lock().as_mut() {
                hook(step);
            }
        };
        step(Step::Taken);
        let store = self.store()?;
        let number = store.write(spill, &rows, || step(Step::BetweenBatches))?;
        step(Step::Written);
        store.sync()?;
        step(Step::Synced);
        place::write_mark(&self.dir, &Mark { boot_id: self.boot_id.clone(), spill: number })?;
        step(Step::Marked);
        // From here on what was taken, and did not change since, may leave memory.
        for (cell, range) in channels {
            let mut table = cell.write();
            rows[range].iter().try_for_each(|row| table.stored(row.key()))?;
        }
        self.memory.stored();
        self.memory.make_room(&self.shared.channels);
        let mut state = self.control.state.lock();
        state.durable = Some(applied);
        if state.trouble.take().is_some() {
            tracing::info!(dir = %self.dir.display(), "the views are written to disk again");
        }
        drop(state);
        self.backoff = BACKOFF_FIRST;
        metrics::histogram!("sillok_views_spill_seconds").record(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// The store; where there is none, a fresh one in place of what the disk has, which memory has too.
    fn store(&mut self) -> Result<&mut Store, StoreError> {
        match &mut self.store {
            Some(store) => Ok(store),
            none => {
                place::clear(&self.dir)?;
                let fresh = Store::open(&place::rows_dir(&self.dir), self.cache_bytes)?;
                Ok(none.insert(fresh))
            }
        }
    }

    /// Takes what changed, between two entries; `None`: nothing did. Only taking holds the fold, and whoever reads at one
    /// position.
    fn take(&mut self, cluster_id: [u8; 16]) -> Result<Option<Taken>, StoreError> {
        if self.store.is_none() {
            self.control.state.lock().durable = None;
            self.store()?;
            self.is_fresh = true;
        }
        let mut fold = self.shared.fold.lock();
        let Some(applied) = fold.applied().filter(|applied| self.durable() != Some(*applied)) else {
            return Ok(None);
        };
        if std::mem::take(&mut self.is_fresh) {
            fold.forget_disk();
            // Not before: what was stored was stored in the one before.
            self.store.iter().for_each(|store| self.memory.attach(store.reader()));
        }
        let (mut rows, mut channels) = (Vec::new(), Vec::new());
        for (id, cell) in fold.take_dirty() {
            let first = rows.len();
            cell.write().take_rows(&id, &mut rows)?;
            channels.push((cell, first..rows.len()));
        }
        self.control.dirty_rows.store(0, Ordering::Relaxed);
        Ok(Some(Taken { spill: Spill { cluster_id, boot_id: self.boot_id.clone(), applied }, rows, channels }))
    }

    /// Whether there is space for these rows. Where there is none, that is said.
    fn has_room(&self, rows: &[Row]) -> bool {
        let needed = 2 * rows.iter().map(|row| row.size_bytes() as u64).sum::<u64>() + SPARE_BYTES;
        let Some(free) = (self.free_bytes)(&self.dir).filter(|free| *free < needed) else { return true };
        let mut state = self.control.state.lock();
        if state.trouble.is_none() {
            tracing::error!(free, needed, dir = %self.dir.display(),
                "the disk is too full for the views; answers stay right, the next start folds more of the chronicle");
        }
        state.trouble = Some(format!("{}: {free} bytes are free where {needed} are needed", self.dir.display()).into());
        false
    }

    /// Whether this entry is flushed here; waits a moment for it.
    fn is_flushed(&self, index: u64) -> bool {
        let give_up = Instant::now() + FLUSH_WAIT;
        while !self.control.is_spillable(index) {
            if Instant::now() >= give_up || self.control.state.lock().abandoned {
                return false;
            }
            std::thread::sleep(RETRY);
        }
        true
    }

    fn durable(&self) -> Option<Applied> {
        self.control.state.lock().durable
    }
}

/// Wakes whoever waits for the end, however the thread ended.
struct Ended(Arc<Control>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.lock().running = false;
        self.0.changed.notify_all();
    }
}
