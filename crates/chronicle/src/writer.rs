//! The one thread that writes: it drains the queue, writes once, syncs once, and completes every callback in order.

mod truncate;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ahead::Space,
    disk::File,
    error::{Failure, WriteError},
    frame::{Plan, encode},
    layout::{BATCH_BYTES, BLOCK_BYTES, HEADER_BYTES, Header, META, segment_name},
    log::OpenSegment,
    meta::MetaFile,
    shared::{Command, Done, Queue, Shared},
    types::{Entry, LogId},
};

/// The buffer's memory is given back if one huge entry made it larger than this.
const KEEP_BUFFER_BYTES: usize = 2 * BATCH_BYTES as usize;

/// Batches of this size on average take longer to write than a sync adds where the space was not filled before. So do batches
/// that fill a small segment in a few.
const LARGE_BATCH_BYTES: u64 = 256 << 10;
const FEW_BATCHES: u64 = 4;

/// The segment that is being written.
pub(crate) struct Current {
    pub(crate) ordinal: u64,
    pub(crate) file: Arc<dyn File>,
    /// Where the next frame goes; 0 if not even the header is there.
    pub(crate) end: u64,
    /// The file's length.
    pub(crate) len: u64,
    /// Bytes written and syncs done since it was begun, or since the chronicle was opened.
    written: u64,
    syncs: u64,
}

impl Current {
    /// The segment of this number, which is `len` bytes long; the next frame goes to `end`.
    pub(crate) fn new(ordinal: u64, file: Arc<dyn File>, end: u64, len: u64) -> Self {
        Self { ordinal, file, end, len, written: 0, syncs: 0 }
    }

    /// How the space of the next segment is best made: as if it will be written in batches like those of this one.
    fn space_of_next(&self, segment_bytes: u64) -> Space {
        let large = LARGE_BATCH_BYTES.min(segment_bytes / FEW_BATCHES);
        if self.syncs > 0 && self.written / self.syncs >= large { Space::Taken } else { Space::Filled }
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    meta: MetaFile,
    current: Current,
    /// Frames (and perhaps the header) that belong at `current.end`.
    buffer: Vec<u8>,
    /// Where each frame in the buffer begins in the file.
    offsets: Vec<u64>,
    /// The first and the last entry in the buffer.
    ids: Option<(LogId, LogId)>,
    /// Payload bytes in the buffer, as they count for the queue.
    queued_bytes: u64,
    /// What was taken from the queue and not begun.
    commands: VecDeque<Command>,
    /// The callback of the command that is being carried out.
    at_hand: Option<Done>,
    /// Callbacks of what will be durable with the buffer.
    waiting: VecDeque<Done>,
}

/// What the queue held.
enum Work {
    Commands(VecDeque<Command>),
    Persist,
    Close,
    Stop(Arc<Failure>),
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, meta: MetaFile, current: Current) -> Self {
        Self {
            shared,
            meta,
            current,
            buffer: Vec::new(),
            offsets: Vec::new(),
            ids: None,
            queued_bytes: 0,
            commands: VecDeque::new(),
            at_hand: None,
            waiting: VecDeque::new(),
        }
    }

    /// The body of the thread.
    pub(crate) fn run(self) {
        let shared = Arc::clone(&self.shared);
        self.work();
        // Only now: what was queued may still have needed a segment.
        shared.ahead.close();
    }

    fn work(mut self) {
        // A panic (a callback's, most likely) must not leave callers without an answer. Nothing more is written, so what
        // it left half done does not matter.
        let result = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let failure = match result {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::panicked("write", &*panic),
        };
        let failure = self.shared.stop(failure);
        self.drain(&failure);
    }

    /// Works off what is queued, on the calling thread. Gives itself back with the moment at which it is due although nothing
    /// is queued; `None` where it was closed or has failed, and everybody is answered.
    pub(crate) fn step(mut self) -> Option<(Self, Option<Instant>)> {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let work = self.take(&mut self.shared.queue.lock());
                match work {
                    Ok(work) => {
                        if !self.carry_out(work)? {
                            return Ok(None);
                        }
                    }
                    Err(due) => return Ok(Some(due)),
                }
            }
        }));
        let failure = match result {
            Ok(Ok(Some(due))) => return Some((self, due)),
            Ok(Ok(None)) => return None,
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::panicked("write", &*panic),
        };
        let failure = self.shared.stop(failure);
        self.answer_begun(&failure);
        // Nothing more is taken once it has stopped.
        let commands = std::mem::take(&mut self.shared.queue.lock().commands);
        answer_all(commands.into_iter().map(Command::done), &failure);
        None
    }

    /// Works until the chronicle is closed, or why it cannot go on.
    fn serve(&mut self) -> Result<(), Failure> {
        loop {
            let work = self.wait();
            if !self.carry_out(work)? {
                return Ok(());
            }
        }
    }

    /// False once the chronicle is closed.
    fn carry_out(&mut self, work: Work) -> Result<bool, Failure> {
        match work {
            Work::Commands(commands) => {
                self.commands = commands;
                self.execute()?;
            }
            Work::Persist => self.persist()?,
            Work::Close => {
                // With a failed disk there is nothing left to remember.
                let _ = self.persist();
                return Ok(false);
            }
            Work::Stop(failure) => return Err(Failure::clone(&failure)),
        }
        Ok(true)
    }

    fn wait(&self) -> Work {
        let mut queue = self.shared.queue.lock();
        loop {
            match self.take(&mut queue) {
                Ok(work) => return work,
                Err(Some(due)) => drop(self.shared.queued.wait_until(&mut queue, due)),
                Err(None) => self.shared.queued.wait(&mut queue),
            }
        }
    }

    /// What is to be done, or when something will be.
    fn take(&self, queue: &mut Queue) -> Result<Work, Option<Instant>> {
        queue.in_flight = None;
        if let Some(failure) = &queue.stopped {
            return Ok(Work::Stop(Arc::clone(failure)));
        }
        let due = queue.dirty_since.map(|since| since + self.shared.settings.persist_every);
        if due.is_some_and(|due| due <= self.shared.now()) {
            queue.dirty_since = None;
            return Ok(Work::Persist);
        }
        if !queue.commands.is_empty() {
            queue.in_flight = queue.oldest.take();
            return Ok(Work::Commands(std::mem::take(&mut queue.commands)));
        }
        if queue.closing { Ok(Work::Close) } else { Err(due) }
    }

    /// Answers everything that was begun with the failure.
    fn answer_begun(&mut self, failure: &Arc<Failure>) {
        let begun = self.waiting.drain(..).chain(self.at_hand.take());
        answer_all(begun.chain(self.commands.drain(..).map(Command::done)), failure);
    }

    /// Answers everything that waits, and all that comes until the chronicle is closed, with the failure.
    fn drain(mut self, failure: &Arc<Failure>) {
        self.answer_begun(failure);
        let mut queue = self.shared.queue.lock();
        loop {
            let commands = std::mem::take(&mut queue.commands);
            if !commands.is_empty() {
                parking_lot::MutexGuard::unlocked(&mut queue, || {
                    answer_all(commands.into_iter().map(Command::done), failure);
                });
            } else if queue.closing {
                return;
            } else {
                self.shared.queued.wait(&mut queue);
            }
        }
    }

    /// Carries the commands out. Whatever fails, each one's callback is called, or still held for [`Writer::drain`].
    fn execute(&mut self) -> Result<(), Failure> {
        while let Some(command) = self.commands.pop_front() {
            self.execute_one(command)?;
            self.waiting.extend(self.at_hand.take());
        }
        self.flush()
    }

    fn execute_one(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Append { entries, bytes, done } => {
                self.at_hand = Some(done);
                entries.iter().try_for_each(|entry| self.add(entry))?;
                self.queued_bytes += bytes;
            }
            Command::Truncate { from, done } => {
                self.at_hand = Some(done);
                self.flush()?;
                self.truncate(from)?;
            }
            Command::Vote { vote, done } => {
                self.at_hand = Some(done);
                self.flush()?;
                self.meta.meta.vote = Some(vote);
                self.save_meta()?;
                self.shared.meta_view.lock().vote = Some(vote);
            }
            Command::Adopt { cluster_id, done } => {
                if self.meta.meta.identity.cluster_id.is_some_and(|held| held != cluster_id) {
                    done(Err(WriteError::OtherCluster));
                    return Ok(());
                }
                self.at_hand = Some(done);
                self.flush()?;
                self.meta.meta.identity.cluster_id = Some(cluster_id);
                self.save_meta()?;
                self.shared.meta_view.lock().identity.cluster_id = Some(cluster_id);
            }
            Command::BeginEpoch { epoch, done } => {
                let held = self.meta.meta.epoch;
                if held.number > epoch.number || held.number == epoch.number && held != epoch {
                    done(Err(WriteError::OtherEpoch { held, asked: epoch }));
                    return Ok(());
                }
                self.at_hand = Some(done);
                self.flush()?;
                self.meta.meta.epoch = epoch;
                self.save_meta()?;
                self.shared.meta_view.lock().epoch = epoch;
            }
            Command::Supersede { by, done } => {
                self.at_hand = Some(done);
                self.flush()?;
                self.meta.meta.superseded_by = self.meta.meta.superseded_by.max(by);
                self.save_meta()?;
                self.shared.meta_view.lock().superseded_by = self.meta.meta.superseded_by;
            }
        }
        Ok(())
    }

    /// Adds an entry to the batch, in a new segment if it does not fit into the current one.
    ///
    /// The rule depends on the entries alone (not on batches, nor on how long a file happens to be), so that every
    /// node cuts the same log into the same segments.
    fn add(&mut self, entry: &Entry) -> Result<(), Failure> {
        let plan = Plan::of(&entry.payload);
        let end = self.current.end + self.buffer.len() as u64;
        let entry_bytes = end.saturating_sub(HEADER_BYTES as u64);
        if entry_bytes > 0 && entry_bytes + plan.frame_bytes() > self.shared.settings.segment_bytes {
            self.roll()?;
        } else if self.buffer.len() as u64 >= BATCH_BYTES {
            self.flush()?;
        }
        if self.current.end == 0 && self.buffer.is_empty() {
            let header = Header { ordinal: self.current.ordinal, first: entry.id.index };
            self.buffer.extend_from_slice(&header.encode());
        }
        self.offsets.push(self.current.end + self.buffer.len() as u64);
        self.ids = Some((self.ids.map_or(entry.id, |(first, _)| first), entry.id));
        encode(entry, plan, &mut self.buffer);
        Ok(())
    }

    /// Goes on in the next segment. The current one is synced first: a segment that has a successor is whole.
    fn roll(&mut self) -> Result<(), Failure> {
        self.flush()?;
        let ordinal = self.current.ordinal + 1;
        let failure = |error| Failure::io("make", segment_name(ordinal), error);
        let file = self.shared.ahead.take(ordinal, &self.shared).map_err(failure)?;
        let len = file.len().map_err(failure)?;
        let space = self.current.space_of_next(self.shared.settings.segment_bytes);
        self.current = Current::new(ordinal, file, 0, len);
        self.shared.ahead.want(ordinal + 1, space);
        Ok(())
    }

    /// Makes everything so far durable and completes the commands that are wholly so.
    fn flush(&mut self) -> Result<(), Failure> {
        self.flush_entries()?;
        if self.queued_bytes > 0 {
            let mut queue = self.shared.queue.lock();
            queue.bytes -= std::mem::take(&mut self.queued_bytes);
            metrics::gauge!("sillok_chronicle_queue_bytes").set(queue.bytes as f64);
        }
        while let Some(done) = self.waiting.pop_front() {
            done(Ok(()));
        }
        Ok(())
    }

    fn flush_entries(&mut self) -> Result<(), Failure> {
        let Some((first, last)) = self.ids else { return Ok(()) };
        let name = || segment_name(self.current.ordinal);
        let end = self.current.end + self.buffer.len() as u64;
        if end > self.current.len {
            // An entry larger than a segment. The length stays a multiple of a block, as an unsealed file's must.
            let len = end.next_multiple_of(BLOCK_BYTES);
            self.current.file.set_len(len).map_err(|error| Failure::io("lengthen", name(), error))?;
            self.current.len = len;
        }
        let begun = Instant::now();
        self.current
            .file
            .write_at(&self.buffer, self.current.end)
            .map_err(|error| Failure::io("write", name(), error))?;
        self.current.file.sync_data().map_err(|error| Failure::io("sync", name(), error))?;
        metrics::histogram!("sillok_chronicle_fsync_seconds").record(begun.elapsed());
        metrics::histogram!("sillok_chronicle_batch_bytes").record(self.buffer.len() as f64);
        metrics::histogram!("sillok_chronicle_batch_entries").record(self.offsets.len() as f64);
        self.current.end = end;
        self.current.written += self.buffer.len() as u64;
        self.current.syncs += 1;
        self.publish(first, last);
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER_BYTES);
        self.ids = None;
        Ok(())
    }

    /// Tells readers where the entries of the batch are and that they are durable.
    fn publish(&mut self, first: LogId, last: LogId) {
        let sealable = {
            let mut log = self.shared.log.write();
            if log.open.back().is_none_or(|segment| segment.ordinal != self.current.ordinal) {
                log.open.push_back(OpenSegment {
                    ordinal: self.current.ordinal,
                    file: Arc::clone(&self.current.file),
                    first: first.index,
                    offsets: Vec::new(),
                    end: self.current.end,
                });
                metrics::gauge!("sillok_chronicle_segments", "state" => "open").set(log.open.len() as f64);
            }
            if let Some(segment) = log.open.back_mut() {
                segment.offsets.append(&mut self.offsets);
                segment.end = self.current.end;
            }
            log.flushed_up_to(last, self.shared.settings.tail_cache_bytes);
            log.sealable()
        };
        if sealable {
            self.shared.wake_sealer();
        }
        self.meta.meta.durable = Some(last.index);
        self.shared.queue.lock().dirty_since.get_or_insert_with(|| self.shared.now());
    }

    fn save_meta(&mut self) -> Result<(), Failure> {
        self.meta.meta.committed = self.shared.log.read().committed_and_flushed();
        self.meta.save().map_err(|error| Failure::io("write", META, error))
    }

    /// Remembers what is committed and durable, without a sync of its own.
    fn persist(&mut self) -> Result<(), Failure> {
        self.meta.meta.committed = self.shared.log.read().committed_and_flushed();
        self.meta.write().map(drop).map_err(|error| Failure::io("write", META, error))
    }
}

/// How long a command that the writer has not finished has been waiting.
pub(crate) fn flush_lag(shared: &Shared) -> Duration {
    let queue = shared.queue.lock();
    queue.in_flight.or(queue.oldest).map_or(Duration::ZERO, |since| shared.now().duration_since(since))
}

fn answer_all(all: impl Iterator<Item = Done>, failure: &Arc<Failure>) {
    for done in all {
        // One that panics must not keep the others from theirs; the first panic has been told of.
        let _ = catch_unwind(AssertUnwindSafe(|| done(Err(WriteError::Stopped(Arc::clone(failure))))));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Disk as _, RealDisk, scan::last_nonzero, sim::SimDisk};

    /// A blank node wrote every byte of its first day twice: the zeros, and then what belonged there.
    #[test]
    fn space_is_filled_for_small_batches_and_taken_for_large_ones() {
        let file = SimDisk::new(1).boot().create(Path::new("/segment")).unwrap();
        let after = |written, syncs| Current { written, syncs, ..Current::new(3, Arc::clone(&file), 0, 0) };
        const SEGMENT: u64 = 64 << 20;
        for (written, syncs, segment, space) in [
            (0, 0, SEGMENT, Space::Filled),
            (SEGMENT, 2_000, SEGMENT, Space::Filled),
            (SEGMENT, 257, SEGMENT, Space::Filled),
            (SEGMENT, 256, SEGMENT, Space::Taken),
            (SEGMENT, 8, SEGMENT, Space::Taken),
            // Reopened: what was written before says nothing.
            (4_000, 40, SEGMENT, Space::Filled),
            (1 << 20, 4, 1 << 20, Space::Taken),
            (1 << 20, 5, 1 << 20, Space::Filled),
        ] {
            assert_eq!(after(written, syncs).space_of_next(segment), space, "{written} bytes in {syncs}");
        }
    }

    #[test]
    fn space_that_is_taken_reads_as_zeros_and_has_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("segment")).unwrap();
        match file.take_space(3 << 20) {
            // Not every file system can.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
            Ok(()) => assert_eq!((file.len().unwrap(), last_nonzero(&*file, 0).unwrap()), (3 << 20, None)),
        }
    }
}
