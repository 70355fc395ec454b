//! Makes the next segment file before it is needed: filled with zeros and synced, so that the writer's `fdatasync`
//! never has to make blocks or lengths durable (1.5 to 2.5 times faster than into a growing file) and a roll never
//! waits. A file is filled under another name and renamed when it is durable, so a crash leaves no half-filled segment.
//!
//! Filling writes each byte of the log once more. That pays where syncs are many and small. Where batches are large, as in a
//! node that catches up, a sync costs little beside what it writes: then space is only taken ([`Space::Taken`]), which reads as
//! zeros and cannot run out either, and the disk has its whole speed for the entries.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    disk::{Dir, File},
    layout::{SPARE, file_bytes, segment_name},
    scan::write_zeros,
    shared::Shared,
};

/// How much is filled between two syncs: one large sync would hold up those of the writer.
const FILL_BYTES: u64 = 4 << 20;
/// How often a disk that was full is tried again.
const TRY_AGAIN_EVERY: Duration = Duration::from_millis(500);

/// What is done with a segment's space before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// Zeros are written and synced.
    Filled,
    /// The file system sets it aside, where it can.
    Taken,
}

#[derive(Default)]
pub(crate) struct Ahead {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The segment to be made next.
    wanted: Option<(u64, Space)>,
    /// The segment that has been made, or why it could not be.
    ready: Option<(u64, io::Result<Arc<dyn File>>)>,
    /// When a disk that was full is tried again.
    again_at: Option<Instant>,
    /// The segment that is being made.
    making: Option<u64>,
    /// The writer cannot go on without the segment.
    is_awaited: bool,
    closed: bool,
}

impl Ahead {
    /// Asks for a segment; returns at once.
    pub(crate) fn want(&self, ordinal: u64, space: Space) {
        let mut state = self.state.lock();
        if state.making != Some(ordinal) && state.ready.as_ref().is_none_or(|(ready, _)| *ready != ordinal) {
            state.wanted = Some((ordinal, space));
            self.changed.notify_all();
        }
    }

    /// Hands over a segment that was there when the chronicle was opened.
    pub(crate) fn offer(&self, ordinal: u64, file: Arc<dyn File>) {
        self.state.lock().ready = Some((ordinal, Ok(file)));
    }

    /// The segment's file, waiting for it if need be. A failure to make it is tried once more: it may be minutes old
    /// and someone may have freed space since. (Nothing is written to a file whose sync failed; it is made anew.)
    pub(crate) fn take(&self, ordinal: u64, shared: &Shared) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.is_awaited = true;
        let taken = self.await_segment(&mut state, ordinal, shared);
        state.is_awaited = false;
        taken
    }

    fn await_segment(
        &self,
        state: &mut MutexGuard<'_, State>,
        ordinal: u64,
        shared: &Shared,
    ) -> io::Result<Arc<dyn File>> {
        let mut again = true;
        loop {
            match state.ready.take() {
                Some((ready, Ok(file))) if ready == ordinal => return Ok(file),
                Some((ready, Err(error))) if ready == ordinal && !again => return Err(error),
                Some((ready, Err(_))) if ready == ordinal => {
                    again = false;
                    state.wanted = Some((ordinal, Space::Filled));
                }
                _ if state.closed => return Err(io::Error::other("the chronicle is closing")),
                _ if state.wanted.is_none() && state.making.is_none() => {
                    state.wanted = Some((ordinal, Space::Filled));
                }
                _ => {}
            }
            if shared.has_no_threads() {
                MutexGuard::unlocked(state, || make_wanted(shared));
            } else {
                self.changed.notify_all();
                self.changed.wait(state);
            }
        }
    }

    /// Waits until nothing is being made and forgets what was.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        state.wanted = None;
        while state.making.is_some() {
            self.changed.wait(&mut state);
        }
        state.ready = None;
    }

    /// There is no space for the next segment: what is left of the current one is all that can be written.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().full().is_some()
    }

    /// Ends the thread, once the writer no longer needs it.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

impl State {
    /// The segment that does not fit on the disk, and when it is to be tried again.
    fn full(&self) -> Option<(u64, Instant)> {
        match &self.ready {
            Some((ordinal, Err(_))) => Some(*ordinal).zip(self.again_at),
            _ => None,
        }
    }

    /// Asks again for the segment that did not fit, where that is due.
    fn try_again(&mut self, now: Instant) {
        if let Some((ordinal, again_at)) = self.full()
            && now >= again_at
        {
            self.wanted.get_or_insert((ordinal, Space::Filled));
        }
    }
}

/// The body of the thread.
pub(crate) fn run(shared: &Shared) {
    // Whoever waits for this thread must not wait for ever if it panics.
    let _ended = Ended(&shared.ahead);
    work(shared);
}

struct Ended<'a>(&'a Ahead);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.making = None;
        self.0.changed.notify_all();
    }
}

fn work(shared: &Shared) {
    let ahead = &shared.ahead;
    loop {
        let (ordinal, space) = {
            let mut state = ahead.state.lock();
            loop {
                if state.closed {
                    return;
                }
                if let Some((ordinal, space)) = state.wanted.take() {
                    state.making = Some(ordinal);
                    break (ordinal, space);
                }
                match state.full() {
                    Some((_, again_at)) => drop(ahead.changed.wait_until(&mut state, again_at)),
                    None => ahead.changed.wait(&mut state),
                }
                state.try_again(shared.now());
            }
        };
        make_and_offer(shared, ordinal, space);
    }
}

/// Makes the segment that is asked for, if one is, on the calling thread; when it is to be tried again, where the disk is full.
pub(crate) fn make_wanted(shared: &Shared) -> Option<Instant> {
    let wanted = {
        let mut state = shared.ahead.state.lock();
        state.try_again(shared.now());
        let wanted = state.wanted.take();
        state.making = wanted.map(|(ordinal, _)| ordinal);
        wanted
    };
    if let Some((ordinal, space)) = wanted {
        make_and_offer(shared, ordinal, space);
    }
    shared.ahead.state.lock().full().map(|(_, again_at)| again_at)
}

fn make_and_offer(shared: &Shared, ordinal: u64, space: Space) {
    let ahead = &shared.ahead;
    let segment_bytes = shared.settings.segment_bytes;
    // The last space of a disk is better used by the writer than left.
    let leaves = if ahead.state.lock().is_awaited { 0 } else { segment_bytes / 2 };
    let made = make(&shared.dir, ordinal, segment_bytes, space, leaves, &|| ahead.state.lock().closed);
    let mut state = ahead.state.lock();
    let was_full = state.again_at.take().is_some();
    if let Err(error) = &made {
        if is_full(error) {
            state.again_at = Some(shared.now() + TRY_AGAIN_EVERY);
        }
        if error.kind() != io::ErrorKind::Interrupted && !(was_full && is_full(error)) {
            tracing::warn!(ordinal, %error, "cannot make the next segment file; writing stops when the current one is full");
        }
    }
    state.making = None;
    state.ready = Some((ordinal, made));
    ahead.changed.notify_all();
}

/// The disk is, as the system says.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes an unused segment file that reads as zeros, durable under its name, where that `leaves` so many bytes of the disk: the
/// views and the logs need some as well.
pub(crate) fn make(
    dir: &Dir,
    ordinal: u64,
    segment_bytes: u64,
    space: Space,
    leaves: u64,
    abandoned: &dyn Fn() -> bool,
) -> io::Result<Arc<dyn File>> {
    dir.remove(SPARE)?;
    let bytes = file_bytes(segment_bytes);
    // Filling what is left of a disk, only to give it back, would take it from everybody else meanwhile.
    let needed = bytes + leaves;
    if let Some(free) = dir.free_bytes().filter(|free| *free < needed) {
        let told = format!("{free} bytes are free where {needed} are needed");
        return Err(io::Error::new(io::ErrorKind::StorageFull, told));
    }
    let file = dir.create(SPARE)?;
    let result = match space {
        Space::Filled => fill(&*file, bytes, abandoned),
        Space::Taken => match file.take_space(bytes) {
            Ok(()) => file.sync_all(),
            // Not every file system can.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => fill(&*file, bytes, abandoned),
            Err(error) => Err(error),
        },
    };
    if let Err(error) = result {
        // Whatever it was, the space is better given back; the first error is the one to tell.
        let _ = dir.remove(SPARE);
        return Err(error);
    }
    let name = segment_name(ordinal);
    if dir.open(&name, false).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} is there already")));
    }
    dir.rename(SPARE, &name)?;
    dir.sync()?;
    Ok(file)
}

fn fill(file: &dyn File, bytes: u64, abandoned: &dyn Fn() -> bool) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        if abandoned() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the chronicle is closing"));
        }
        let end = (at + FILL_BYTES).min(bytes);
        write_zeros(file, at, end)?;
        file.sync_data()?;
        at = end;
    }
    file.sync_all()
}
