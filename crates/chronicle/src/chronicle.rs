//! The handle.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Due, Entry, Epoch, Failure, FormatError, Identity, Left, LogId, MAX_PAYLOAD_BYTES, OpenError, Options, ReadError,
    Scrub, SegmentInfo, Vote, Workers, WriteError,
    ahead::Space,
    disk::{Dir, Disk},
    frame, left,
    overview::Overview,
    read::{self, Reader},
    recover,
    shared::{Command, Done, MetaView, Settings, Shared},
    work::{Hands, start_threads},
    writer::{self, Writer},
};

/// How many keys are filed while the log's lock is held once.
const FILE_AT_ONCE: usize = 4096;

/// Makes `dir` (and its parents) a chronicle of `identity` without entries. Refuses a directory that holds anything.
pub fn format(disk: &Arc<dyn Disk>, dir: &Path, identity: &Identity) -> Result<(), FormatError> {
    recover::format(disk, dir, identity)
}

/// Whose chronicle `dir` holds, without opening it. [`OpenError::NotFormatted`] if it holds none.
pub fn read_identity(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Identity, OpenError> {
    recover::read_identity(disk, dir)
}

/// An open chronicle. Clones share it; when the last one is dropped it closes without being waited for.
#[derive(Clone)]
pub struct Chronicle {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    /// Where the opener works.
    hands: Option<Hands>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl std::fmt::Debug for Chronicle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chronicle")
            .field("dir", &self.handle.shared.dir.path)
            .field("last", &self.last())
            .field("flushed", &self.flushed())
            .field("committed", &self.committed())
            .finish()
    }
}

impl Chronicle {
    /// Opens a formatted directory. Blocks while the unsealed tail (at most a segment or two, if commits keep up) is
    /// read, and what of it is not known to be durable is written again and synced.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let begun = (options.now)();
        let dir = Dir { disk: Arc::clone(&options.disk), path: options.dir.clone() };
        let recovered = recover::recover(&dir, &options)?;
        let Options { workers, mut fold, now, .. } = options;
        if let Some(sealed) = recovered.log.sealed.last() {
            fold.restore(&sealed.info.state);
        }
        let meta = &recovered.meta.meta;
        let view = MetaView {
            identity: meta.identity.clone(),
            vote: meta.vote,
            epoch: meta.epoch,
            superseded_by: meta.superseded_by,
        };
        let next = recovered.current.ordinal + 1;
        let settings = Settings {
            segment_bytes: options.segment_bytes,
            tail_cache_bytes: options.tail_cache_bytes,
            max_unflushed_bytes: options.max_unflushed_bytes,
            persist_every: options.persist_every,
            keys_of: options.keys,
            now,
            bell: match &workers {
                Workers::Threads(_) => None,
                Workers::Opener(bell) => Some(Arc::clone(bell)),
            },
        };
        let shared = Arc::new(Shared::new(dir, settings, recovered.log, view, recovered.lock));
        match recovered.spare {
            Some(spare) => shared.ahead.offer(next, spare),
            None => shared.ahead.want(next, Space::Filled),
        }
        shared.queue.lock().dirty_since = Some(begun);
        {
            let log = shared.log.read();
            metrics::gauge!("sillok_chronicle_segments", "state" => "sealed").set(log.sealed.len() as f64);
            metrics::gauge!("sillok_chronicle_segments", "state" => "open").set(log.open.len() as f64);
        }
        let writer = Writer::new(Arc::clone(&shared), recovered.meta, recovered.current);
        let (hands, threads) = match workers {
            Workers::Opener(_) => (Some(Hands::new(writer, fold)), None),
            Workers::Threads(spawn) => (None, Some((spawn, writer, fold))),
        };
        let chronicle = Self { handle: Arc::new(Handle { shared: Arc::clone(&shared), hands }) };
        let node_id = chronicle.identity().node_id;
        if let Some((spawn, writer, fold)) = threads {
            start_threads(&shared, &spawn, node_id, writer, fold)?;
        }
        shared.wake_sealer();
        tracing::info!(
            dir = %shared.dir.path.display(), node_id, last = ?chronicle.last(), committed = ?chronicle.committed(),
            sealed_segments = shared.log.read().sealed.len(), elapsed = ?shared.now().duration_since(begun), "opened the chronicle"
        );
        Ok(chronicle)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Does all the work there is, callbacks included, where the opener does it ([`Workers::Opener`]); nothing where threads work. Not to be called from a callback.
    pub fn work(&self) -> Due {
        self.handle.hands.as_ref().map_or(Due::Never, |hands| hands.work(self.shared()))
    }

    /// Queues a command, or answers it at once if nothing more is taken.
    fn enqueue(&self, command: Command) {
        let shared = self.shared();
        let mut queue = shared.queue.lock();
        match queue.refusal() {
            None => {
                queue.push(command, shared.now());
                shared.wake_writer(queue);
            }
            Some(refusal) => {
                drop(queue);
                command.done()(Err(refusal));
            }
        }
    }

    /// Whose chronicle this is.
    pub fn identity(&self) -> Identity {
        self.shared().meta_view.lock().identity.clone()
    }

    /// Makes this chronicle part of a cluster, durably; blocks for a sync. Nothing happens if it already is part of
    /// it, [`WriteError::OtherCluster`] if it is part of another.
    pub fn adopt_cluster(&self, cluster_id: [u8; 16]) -> Result<(), WriteError> {
        self.wait_for(|done| Command::Adopt { cluster_id, done })
    }

    /// The epoch that this chronicle is part of.
    pub fn epoch(&self) -> Epoch {
        self.shared().meta_view.lock().epoch
    }

    /// Makes this chronicle part of a later epoch, durably; blocks for a sync. [`WriteError::OtherEpoch`] if it is part
    /// of a later one already, or of another with the same number.
    pub fn begin_epoch(&self, epoch: Epoch) -> Result<(), WriteError> {
        self.wait_for(|done| Command::BeginEpoch { epoch, done })
    }

    /// The number of the newest epoch that this chronicle is known not to be part of; 0: none.
    pub fn superseded_by(&self) -> u64 {
        self.shared().meta_view.lock().superseded_by
    }

    /// Remembers for ever that the cluster went on without this chronicle in the epoch of this number; blocks for a sync.
    pub fn supersede(&self, by: u64) -> Result<(), WriteError> {
        self.wait_for(|done| Command::Supersede { by, done })
    }

    fn wait_for(&self, command: impl FnOnce(Done) -> Command) -> Result<(), WriteError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        // The receiver waits right below.
        self.enqueue(command(Box::new(move |result| drop(sender.send(result)))));
        self.work();
        // Every callback is called; a lost one would mean that the writer's thread is gone.
        receiver.recv().unwrap_or(Err(WriteError::Closed))
    }

    /// The last vote that is durable.
    pub fn vote(&self) -> Option<Vote> {
        self.shared().meta_view.lock().vote
    }

    /// Saves a vote. `done` is called on the writer's thread once it is durable, after everything appended before.
    pub fn save_vote(&self, vote: Vote, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.enqueue(Command::Vote { vote, done: Box::new(done) });
    }

    /// The last entry known to be committed, never beyond [`Chronicle::flushed`].
    pub fn committed(&self) -> Option<LogId> {
        self.shared().log.read().committed_and_flushed()
    }

    /// Notes that everything up to `id` is committed; it never goes back. Reaches the meta file within
    /// `Options::persist_every` without a sync of its own, and lets wholly committed segments be sealed.
    pub fn set_committed(&self, id: LogId) {
        let shared = self.shared();
        let sealable = {
            let mut log = shared.log.write();
            if log.committed.is_some_and(|committed| committed.index >= id.index) {
                return;
            }
            log.committed = Some(id);
            log.sealable()
        };
        if sealable {
            shared.wake_sealer();
        }
        let mut queue = shared.queue.lock();
        if queue.dirty_since.is_none() {
            queue.dirty_since = Some(shared.now());
            shared.wake_writer(queue);
        }
    }

    /// Appends entries, which must follow the last one without a gap and with terms that do not decrease. They can be
    /// read at once. `done` is called on the writer's thread once they are durable, in the order of appends; at once
    /// and on this thread if they are refused ([`WriteError::OutOfOrder`], [`WriteError::TooLarge`], closed, stopped),
    /// and then none is appended.
    ///
    /// Never blocks: look at [`Chronicle::has_room`] before taking on more.
    pub fn append(&self, entries: Vec<Entry>, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        match self.try_append(entries, Box::new(done)) {
            Ok(()) => {}
            Err((error, done)) => done(Err(error)),
        }
    }

    fn try_append(&self, entries: Vec<Entry>, done: Done) -> Result<(), (WriteError, Done)> {
        let shared = self.shared();
        let mut keys = Vec::new();
        let mut indexed: Vec<(u64, u64)> = Vec::new();
        let mut bytes = 0;
        for entry in &entries {
            if entry.payload.len() > MAX_PAYLOAD_BYTES {
                let bytes = entry.payload.len();
                return Err((WriteError::TooLarge { bytes, limit: MAX_PAYLOAD_BYTES }, done));
            }
            bytes += entry.payload.len() as u64;
            (shared.settings.keys_of)(entry, &mut keys);
            indexed.extend(keys.drain(..).map(|key| (entry.id.index, key)));
        }
        let mut log = shared.log.write();
        let mut last = log.last;
        for entry in &entries {
            let follows =
                last.map_or(entry.id.index == 0, |last| entry.id.index == last.index + 1 && entry.id.term >= last.term);
            if !follows {
                return Err((WriteError::OutOfOrder { last, got: entry.id }, done));
            }
            last = Some(entry.id);
        }
        let mut queue = shared.queue.lock();
        if let Some(refusal) = queue.refusal() {
            return Err((refusal, done));
        }
        entries.iter().for_each(|entry| log.push(entry.clone()));
        indexed.into_iter().for_each(|(index, key)| log.keys.insert(index, key));
        queue.push(Command::Append { entries, bytes, done }, shared.now());
        drop(log);
        shared.wake_writer(queue);
        Ok(())
    }

    /// Removes every entry from `index` on. They can no longer be read when this returns; `done` is called on the
    /// writer's thread once they are durably gone. [`WriteError::Committed`], at once, if one of them is committed.
    pub fn truncate_from(&self, index: u64, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        let shared = self.shared();
        let mut log = shared.log.write();
        if let Some(committed) = log.committed.filter(|committed| committed.index >= index) {
            drop(log);
            return done(Err(WriteError::Committed { index, committed: committed.index }));
        }
        let mut queue = shared.queue.lock();
        if let Some(refusal) = queue.refusal() {
            drop((queue, log));
            return done(Err(refusal));
        }
        if index < log.next_index() {
            log.truncate_from(index);
            queue.push(Command::Truncate { from: index, done: Box::new(done) }, shared.now());
            drop(log);
            shared.wake_writer(queue);
        } else {
            drop((queue, log));
            done(Ok(()));
        }
    }

    /// The last entry appended, durable or not.
    pub fn last(&self) -> Option<LogId> {
        self.shared().log.read().last
    }

    /// The last entry that is durable here.
    pub fn flushed(&self) -> Option<LogId> {
        self.shared().log.read().flushed
    }

    /// The first index: always 0, for nothing is ever purged.
    pub fn first_index(&self) -> u64 {
        0
    }

    /// The entries `from..to_exclusive`, in order: those that exist, as many as have at most `max_bytes` of payload
    /// together, but at least one if there is one. Answers from memory where it can, else blocks for the disk.
    /// Damage stops the chronicle, whoever meets it.
    pub fn read(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.read_as(Reader::Asks, from, to_exclusive, max_bytes)
    }

    /// As [`Chronicle::read`], for who goes through the chronicle once: sealed segments do not stay in the system's memory for
    /// it, and what comes next is fetched from the disk meanwhile.
    pub fn read_through(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.read_as(Reader::Passes, from, to_exclusive, max_bytes)
    }

    fn read_as(&self, reader: Reader, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.shared().stop_if_damaged(read::read(self.shared(), from, to, max_bytes, reader))
    }

    /// As [`Chronicle::read`], but the entries' frames, one behind the other, as they stand in the segment files of every
    /// node; and the first index behind them.
    pub fn read_frames(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<(Bytes, u64), ReadError> {
        let entries = self.read(from, to_exclusive, max_bytes)?;
        let mut frames = Vec::new();
        entries.iter().for_each(|entry| frame::encode(entry, frame::Plan::of(&entry.payload), &mut frames));
        Ok((frames.into(), from + entries.len() as u64))
    }

    /// The first index from which on [`Chronicle::read`] answers from memory.
    pub fn first_cached(&self) -> u64 {
        self.shared().log.read().cache_first()
    }

    /// Appends to `out`, in ascending order, the indexes of all entries that have `key`: unsealed ones (appended and
    /// not truncated) from memory, sealed ones through the segments' filters and, if those say so, from the disk.
    pub fn find(&self, key: u64, out: &mut Vec<u64>) -> Result<(), ReadError> {
        self.find_from(0, key, out)
    }

    /// As [`Chronicle::find`], passing over the oldest `passed` sealed segments: those for which [`Chronicle::screen`] said that
    /// no entry has the key.
    pub fn find_from(&self, passed: usize, key: u64, out: &mut Vec<u64>) -> Result<(), ReadError> {
        let shared = self.shared();
        let begin = out.len();
        let sealed = loop {
            let log = shared.log.read();
            if log.keys.are_filed() {
                log.keys.find(key, out);
                break self.covering(|overview| overview.holders(&log.sealed, passed, key), log.sealed.len());
            }
            drop(log);
            shared.log.write().keys.file(FILE_AT_ONCE);
        };
        for segment in sealed {
            metrics::counter!("sillok_chronicle_key_reads_total").increment(1);
            shared.stop_if_damaged(segment.find(&shared.pool, key, out))?;
        }
        let mut found = out.split_off(begin);
        found.sort_unstable();
        // A segment that has just been sealed has its keys in memory for a moment longer.
        found.dedup();
        out.append(&mut found);
        Ok(())
    }

    /// For each of `keys`: how many of the oldest sealed segments certainly have no entry with it; 0 where one may. All keys are
    /// held against the same segments before the next, whose filters are near while they are asked. What is sealed never changes, so
    /// the answers stay true.
    pub fn screen(&self, keys: &[u64]) -> Vec<usize> {
        let mut may_be_there = vec![false; keys.len()];
        let log = self.shared().log.read();
        self.covering(|overview| overview.screen(&log.sealed, keys, &mut may_be_there), log.sealed.len());
        may_be_there.into_iter().map(|may| if may { 0 } else { log.sealed.len() }).collect()
    }

    /// Asks the overview of the sealed segments, and has it made where it is asked often.
    fn covering<T>(&self, ask: impl FnOnce(&Overview) -> T, sealed: usize) -> T {
        let overview = &self.shared().overview;
        let (before, answer) = (overview.wants_more(sealed), ask(overview));
        if !before && overview.wants_more(sealed) {
            self.shared().wake_sealer();
        }
        answer
    }

    /// Begins to read everything once more from the disk; see [`Scrub`].
    pub fn scrub(&self) -> Scrub {
        Scrub::new(Arc::clone(&self.handle.shared), 0)
    }

    /// As [`Chronicle::scrub`], passing over the sealed segments before the one with this ordinal (all of them, where there are
    /// fewer); and the last of those that are passed over, if any is.
    pub fn scrub_from(&self, ordinal: u64) -> (Scrub, Option<SegmentInfo>) {
        let scrub = Scrub::new(Arc::clone(&self.handle.shared), ordinal);
        let passed = scrub.ordinal().checked_sub(1);
        let sealed = |ordinal| self.shared().log.read().sealed.get(ordinal as usize).map(|sealed| sealed.info.clone());
        (scrub, passed.and_then(sealed))
    }

    /// The sealed segments, in order.
    pub fn sealed(&self) -> Vec<SegmentInfo> {
        self.shared().log.read().sealed.iter().map(|sealed| sealed.info.clone()).collect()
    }

    /// The fold's newest state that covers only entries before `index`: the first index that it does not cover, and
    /// the state; `(0, None)` if there is none.
    pub fn state_before(&self, index: u64) -> (u64, Option<Bytes>) {
        let log = self.shared().log.read();
        let n = log.sealed.partition_point(|sealed| sealed.info.last.index < index);
        match n.checked_sub(1).and_then(|i| log.sealed.get(i)) {
            Some(sealed) => (sealed.info.last.index + 1, Some(sealed.info.state.clone())),
            None => (0, None),
        }
    }

    /// How much stands behind the entry at `index`, without reading.
    pub fn left_behind(&self, index: u64) -> Left {
        left::left(&self.shared().log.read(), index)
    }

    /// Payload bytes appended and not yet durable.
    pub fn unflushed_bytes(&self) -> u64 {
        self.shared().queue.lock().bytes
    }

    /// Whether fewer than `Options::max_unflushed_bytes` are not yet durable.
    pub fn has_room(&self) -> bool {
        self.unflushed_bytes() < self.shared().settings.max_unflushed_bytes
    }

    /// There is no space for another segment on the disk. What is left of the current one can still be written; then the
    /// chronicle stops. It is tried again all the time.
    pub fn is_disk_full(&self) -> bool {
        self.shared().ahead.is_full()
    }

    /// How long the oldest write that is not yet durable has been waiting; zero if none is.
    pub fn flush_lag(&self) -> Duration {
        writer::flush_lag(self.shared())
    }

    /// Why the chronicle stopped, if it did.
    pub fn failed(&self) -> Option<Arc<Failure>> {
        self.shared().failed()
    }

    /// Calls `callback` once when the chronicle stops for good; at once if it already has.
    pub fn on_failure(&self, callback: impl FnOnce(Arc<Failure>) + Send + 'static) {
        self.shared().on_failure(Box::new(callback));
    }

    /// Writes what is queued, remembers the committed index, ends the threads, waits for them and gives the directory
    /// free. Nothing more is taken from here on; reads still work. Not to be called from a callback.
    pub fn close(&self) {
        let shared = self.shared();
        shared.begin_close();
        self.work();
        shared.threads.wait();
        shared.release();
    }
}
