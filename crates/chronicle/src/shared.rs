//! What the handle and the chronicle's threads share.
//!
//! Lock order: `log`, then `queue`. `failure`, `meta_view` and the locks of `ahead`, `seal` and `overview` are taken last and alone.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use crate::{
    ahead::Ahead,
    disk::{Dir, LockGuard},
    error::{Failure, ReadError, WriteError},
    log::Log,
    options::{KeysOf, Now},
    overview::Overview,
    sealed::FilePool,
    types::{Entry, Epoch, Identity, Vote},
};

/// Called once, on the writer's thread unless the request is refused at once.
pub(crate) type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// What the writer is asked for, in order.
pub(crate) enum Command {
    Append { entries: Vec<Entry>, bytes: u64, done: Done },
    Truncate { from: u64, done: Done },
    Vote { vote: Vote, done: Done },
    Adopt { cluster_id: [u8; 16], done: Done },
    BeginEpoch { epoch: Epoch, done: Done },
    Supersede { by: u64, done: Done },
}

impl Command {
    pub(crate) fn done(self) -> Done {
        match self {
            Self::Append { done, .. }
            | Self::Truncate { done, .. }
            | Self::Vote { done, .. }
            | Self::Adopt { done, .. }
            | Self::BeginEpoch { done, .. }
            | Self::Supersede { done, .. } => done,
        }
    }
}

/// The writer's queue.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) commands: VecDeque<Command>,
    /// Bytes appended and not yet durable, those that the writer has taken included.
    pub(crate) bytes: u64,
    /// When the oldest command in `commands` came.
    pub(crate) oldest: Option<Instant>,
    /// When the oldest command that the writer has taken and not finished came.
    pub(crate) in_flight: Option<Instant>,
    /// When the meta file fell behind.
    pub(crate) dirty_since: Option<Instant>,
    pub(crate) closing: bool,
    pub(crate) stopped: Option<Arc<Failure>>,
}

impl Queue {
    /// Why nothing more is taken, if so.
    pub(crate) fn refusal(&self) -> Option<WriteError> {
        match &self.stopped {
            Some(failure) => Some(WriteError::Stopped(Arc::clone(failure))),
            None => self.closing.then_some(WriteError::Closed),
        }
    }

    pub(crate) fn push(&mut self, command: Command, now: Instant) {
        if let Command::Append { bytes, .. } = &command {
            self.bytes += bytes;
        }
        self.oldest.get_or_insert(now);
        self.commands.push_back(command);
    }
}

/// What callers may know of the meta file.
pub(crate) struct MetaView {
    pub(crate) identity: Identity,
    pub(crate) vote: Option<Vote>,
    pub(crate) epoch: Epoch,
    pub(crate) superseded_by: u64,
}

#[derive(Default)]
struct FailureState {
    failure: Option<Arc<Failure>>,
    callbacks: Vec<Box<dyn FnOnce(Arc<Failure>) + Send>>,
}

/// Those of the [`Options`](crate::Options) that are asked for later.
pub(crate) struct Settings {
    pub(crate) segment_bytes: u64,
    pub(crate) tail_cache_bytes: u64,
    pub(crate) max_unflushed_bytes: u64,
    pub(crate) persist_every: Duration,
    pub(crate) keys_of: KeysOf,
    pub(crate) now: Now,
    /// Tells the opener that there is work, where there are no threads.
    pub(crate) bell: Option<Arc<dyn Fn() + Send + Sync>>,
}

pub(crate) struct Shared {
    pub(crate) dir: Dir,
    pub(crate) settings: Settings,
    pub(crate) log: RwLock<Log>,
    pub(crate) queue: Mutex<Queue>,
    /// Something came into the queue; see [`Shared::wake_writer`].
    pub(crate) queued: Condvar,
    pub(crate) meta_view: Mutex<MetaView>,
    pub(crate) pool: FilePool,
    pub(crate) overview: Overview,
    pub(crate) ahead: Ahead,
    pub(crate) seal: Signal,
    pub(crate) threads: Threads,
    failure: Mutex<FailureState>,
    /// Held until the threads have ended.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

impl Shared {
    pub(crate) fn new(dir: Dir, settings: Settings, log: Log, meta_view: MetaView, lock: Box<dyn LockGuard>) -> Self {
        Self {
            pool: FilePool::new(dir.clone()),
            overview: Overview::default(),
            ahead: Ahead::default(),
            dir,
            settings,
            log: RwLock::new(log),
            queue: Mutex::default(),
            queued: Condvar::new(),
            meta_view: Mutex::new(meta_view),
            seal: Signal::default(),
            threads: Threads::default(),
            failure: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.settings.now)()
    }

    /// Whether the opener works, not threads.
    pub(crate) fn has_no_threads(&self) -> bool {
        self.settings.bell.is_some()
    }

    /// Something came into the queue. It is let go first: a writer that is woken while it is held is handed it by its holder, and
    /// whoever wants it next waits until the writer has got a processor.
    pub(crate) fn wake_writer(&self, queue: MutexGuard<'_, Queue>) {
        drop(queue);
        self.queued.notify_one();
        self.ring();
    }

    /// A segment may be sealed.
    pub(crate) fn wake_sealer(&self) {
        self.seal.ring();
        self.ring();
    }

    fn ring(&self) {
        if let Some(bell) = &self.settings.bell {
            bell();
        }
    }

    /// Gives the directory free.
    pub(crate) fn release(&self) {
        self.lock.lock().take();
    }

    /// Stops the chronicle for good. Only the first failure counts.
    ///
    /// Those who asked to be told of a failure hear of it before any write is answered with it: what they make of the
    /// answer (consensus that stops, say) must not pass for the cause.
    pub(crate) fn stop(&self, failure: Failure) -> Arc<Failure> {
        let (failure, callbacks) = {
            let mut state = self.failure.lock();
            if let Some(first) = &state.failure {
                return Arc::clone(first);
            }
            let failure = Arc::new(failure);
            tracing::error!(dir = %self.dir.path.display(), error = %failure, "the chronicle has stopped");
            state.failure = Some(Arc::clone(&failure));
            (failure, std::mem::take(&mut state.callbacks))
        };
        callbacks.into_iter().for_each(|callback| callback(Arc::clone(&failure)));
        let mut queue = self.queue.lock();
        queue.stopped = Some(Arc::clone(&failure));
        self.wake_writer(queue);
        failure
    }

    /// Damage stops the chronicle wherever it is met: a node with damaged entries must not go on voting and leading.
    pub(crate) fn stop_if_damaged<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(ReadError::Damaged(damage)) = &result {
            self.stop(damage.clone().into());
        }
        result
    }

    /// Runs what one of the chronicle's threads does; a panic stops the chronicle.
    pub(crate) fn guard(&self, thread: &'static str, body: impl FnOnce()) {
        // What was shared with the body is behind locks, and its changes under each of them are whole; nothing is
        // written any more.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            self.stop(Failure::panicked(thread, &*panic));
        }
    }

    pub(crate) fn failed(&self) -> Option<Arc<Failure>> {
        self.failure.lock().failure.clone()
    }

    pub(crate) fn on_failure(&self, callback: Box<dyn FnOnce(Arc<Failure>) + Send>) {
        let mut state = self.failure.lock();
        match state.failure.clone() {
            Some(failure) => {
                drop(state);
                callback(failure);
            }
            None => state.callbacks.push(callback),
        }
    }

    /// Asks every thread to end. The writer first finishes what is queued, and then ends the one ahead of it.
    pub(crate) fn begin_close(&self) {
        let mut queue = self.queue.lock();
        queue.closing = true;
        self.wake_writer(queue);
        self.seal.close();
    }
}

/// A thread's bell: rung often, answered once.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    rung: Condvar,
}

#[derive(Default)]
struct SignalState {
    rung: bool,
    closed: bool,
}

impl Signal {
    pub(crate) fn ring(&self) {
        self.state.lock().rung = true;
        self.rung.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.rung.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits until it is rung; false once it is closed.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.rung && !state.closed {
            self.rung.wait(&mut state);
        }
        state.rung = false;
        !state.closed
    }
}

/// Counts running threads, so that closing can wait for them wherever they come from.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    count: Arc<(Mutex<usize>, Condvar)>,
}

/// A thread that runs, until it is dropped (by a panic too).
pub(crate) struct Running(Threads);

impl Threads {
    pub(crate) fn begin(&self) -> Running {
        *self.count.0.lock() += 1;
        Running(self.clone())
    }

    pub(crate) fn wait(&self) {
        let (running, ended) = &*self.count;
        let mut running = running.lock();
        while *running > 0 {
            ended.wait(&mut running);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (running, ended) = &*self.0.count;
        *running.lock() -= 1;
        ended.notify_all();
    }
}
