//! Reading by index: the cache first, else the disk, from the nearest known offset.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    disk::File,
    error::{Damage, DamageReason, ReadError},
    footer::POINT_SPACING,
    frame::{HEAD_BYTES, Head},
    layout::{HEADER_BYTES, segment_name},
    log::Log,
    scan::{Scan, Step, read_exact},
    sealed::Sealed,
    shared::Shared,
    types::{Entry, LogId},
};

/// The least and the most that is read from the disk at a time, in bytes.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = (128 << 10)..=(8 << 20);

/// Where entries are to be read.
enum Place {
    Nowhere,
    /// The cache had them; they are in the answer.
    Cached,
    Open(Run),
    Sealed(Arc<Sealed>),
}

/// A stretch of frames in one file.
struct Run {
    ordinal: u64,
    file: Arc<dyn File>,
    /// A frame begins at `offset`, with this index.
    offset: u64,
    index: u64,
    /// Frames that are wanted end before this offset.
    limit: u64,
    /// The entry before the segment.
    before: Option<LogId>,
    /// Where the segment's entries end.
    end: u64,
    is_sealed: bool,
}

/// How somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Whoever wants these entries, and perhaps again.
    Asks,
    /// Goes through everything, once: what is sealed does not stay in the system's memory for it, and what comes next is
    /// fetched from the disk meanwhile.
    Passes,
}

/// What became of a chunk.
enum Taken {
    /// All whole frames of it that are wanted.
    Chunk,
    /// It is smaller than the frame that it begins with.
    Nothing { frame_bytes: u64 },
    /// The next frame is more than what is still wanted.
    Enough,
}

/// What is still wanted.
struct Want {
    from: u64,
    to: u64,
    budget: u64,
    reader: Reader,
}

/// See [`crate::Chronicle::read`].
pub(crate) fn read(
    shared: &Shared,
    from: u64,
    to: u64,
    max_bytes: usize,
    reader: Reader,
) -> Result<Vec<Entry>, ReadError> {
    loop {
        let mut attempt = Attempt {
            truncations: shared.log.read().truncations,
            want: Want { from, to, budget: max_bytes as u64, reader },
            out: Vec::new(),
        };
        let result = attempt.run(shared);
        // A truncation may have zeroed or replaced what was being read: what was read may be of two logs, and an error
        // says nothing.
        if shared.log.read().truncations == attempt.truncations {
            return result.map(|()| attempt.out);
        }
    }
}

/// One attempt to read while nothing is truncated.
struct Attempt {
    truncations: u64,
    want: Want,
    out: Vec<Entry>,
}

impl Attempt {
    fn run(&mut self, shared: &Shared) -> Result<(), ReadError> {
        loop {
            let place = {
                let log = shared.log.read();
                if log.truncations != self.truncations {
                    return Ok(());
                }
                self.want.to = self.want.to.min(log.next_index());
                find_place(&log, &mut self.want, &mut self.out)
            };
            let run = match place {
                Place::Nowhere | Place::Cached => return Ok(()),
                Place::Open(run) => run,
                Place::Sealed(sealed) => find_run(shared, &sealed, &self.want)?,
            };
            if !run.read(&mut self.want, &mut self.out)? {
                return Ok(());
            }
        }
    }
}

fn find_place(log: &Log, want: &mut Want, out: &mut Vec<Entry>) -> Place {
    if want.from >= want.to {
        return Place::Nowhere;
    }
    if want.from >= log.cache_first() {
        for entry in log.cached_from(want.from).take((want.to - want.from) as usize) {
            let bytes = entry.payload.len() as u64;
            if !out.is_empty() && bytes > want.budget {
                break;
            }
            want.budget = want.budget.saturating_sub(bytes);
            out.push(entry.clone());
        }
        return Place::Cached;
    }
    let segment = log.open.partition_point(|segment| segment.first <= want.from).checked_sub(1);
    match segment.and_then(|i| log.open.get(i)) {
        Some(segment) => {
            // What the cache has is read from there: while a truncation is being done, the disk still has other
            // entries under the same indexes.
            let next = log.cache_first().min(segment.first + segment.offsets.len() as u64);
            Place::Open(Run {
                ordinal: segment.ordinal,
                file: Arc::clone(&segment.file),
                offset: segment.offset_of(want.from),
                index: want.from,
                limit: segment.offset_of(want.to.min(next)),
                before: segment.first.checked_sub(1).and_then(|index| log.id_at(index)),
                end: segment.end,
                is_sealed: false,
            })
        }
        None => {
            let n = log.sealed.partition_point(|sealed| sealed.info.first.index <= want.from);
            n.checked_sub(1).and_then(|i| log.sealed.get(i)).map_or(Place::Nowhere, |it| Place::Sealed(Arc::clone(it)))
        }
    }
}

fn find_run(shared: &Shared, sealed: &Sealed, want: &Want) -> Result<Run, ReadError> {
    let first = sealed.info.first.index;
    let directory = sealed.directory(&shared.pool)?;
    let end = sealed.trailer.end;
    let (delta, offset) = directory.point_before(want.from - first).unwrap_or((0, HEADER_BYTES as u64));
    let ordinal = sealed.info.ordinal;
    let before = ordinal.checked_sub(1).and_then(|i| shared.log.read().sealed.get(i as usize).map(|it| it.info.last));
    let limit = directory.offset_after(want.to - first).unwrap_or(end);
    let (file, index) = (sealed.file(&shared.pool)?, first + delta);
    Ok(Run { ordinal, file, offset, index, limit, before, end, is_sealed: true })
}

impl Run {
    /// Reads what is wanted and within the run; whether more may be wanted.
    fn read(mut self, want: &mut Want, out: &mut Vec<Entry>) -> Result<bool, ReadError> {
        let passes = self.is_sealed && want.reader == Reader::Passes;
        let mut at_least = 0;
        while want.from < want.to && self.offset < self.limit {
            let len = want.budget.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()).max(at_least);
            let len = len.min(self.limit - self.offset);
            let chunk = read_exact(&*self.file, self.offset, len)
                .map_err(|error| ReadError::io(segment_name(self.ordinal), self.offset, error))?;
            if (chunk.len() as u64) < len {
                return Err(self.damage(0, DamageReason::FileShort));
            }
            if passes {
                let next = self.offset + len;
                self.file.fetch(next, len.min(self.end - next));
            }
            let begin = self.offset;
            let taken = self.frames(&chunk, want, out)?;
            if passes {
                // The next stretch begins at the point before the first frame that it wants.
                let still_read = if self.offset == self.end { 0 } else { POINT_SPACING };
                let (from, to) = (begin.saturating_sub(POINT_SPACING), self.offset.saturating_sub(still_read));
                self.file.forget(from, to.saturating_sub(from));
            }
            match taken {
                Taken::Chunk => at_least = 0,
                Taken::Nothing { frame_bytes } => at_least = frame_bytes,
                Taken::Enough => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes what is wanted of a chunk that begins at the run's offset, and moves that on.
    fn frames(&mut self, chunk: &Bytes, want: &mut Want, out: &mut Vec<Entry>) -> Result<Taken, ReadError> {
        let mut at = 0;
        let mut taken = Taken::Chunk;
        while want.from < want.to && at < chunk.len() {
            let rest = chunk.slice(at..);
            let is_last = self.offset + chunk.len() as u64 >= self.limit;
            let Some(head) = Head::parse(&rest) else {
                if rest.len() < HEAD_BYTES && !is_last {
                    break;
                }
                return Err(self.damage(at, DamageReason::EntryHead));
            };
            if head.id.index != self.index {
                let reason = DamageReason::OutOfSequence { expected: self.index, found: head.id };
                return Err(self.damage(at, reason));
            }
            let frame_bytes = head.frame_bytes() as usize;
            if frame_bytes > rest.len() {
                if is_last {
                    return Err(self.damage(at, DamageReason::EntryBody { index: self.index }));
                }
                if at == 0 {
                    taken = Taken::Nothing { frame_bytes: frame_bytes as u64 };
                }
                break;
            }
            if self.index == want.from {
                match self.take(&head, rest.slice(..frame_bytes), want, out) {
                    Some(true) => {}
                    Some(false) => {
                        taken = Taken::Enough;
                        break;
                    }
                    None => return Err(self.damage(at, DamageReason::EntryBody { index: self.index })),
                }
            }
            self.index += 1;
            at += frame_bytes;
        }
        self.offset += at as u64;
        Ok(taken)
    }

    /// Adds an entry to the answer; false if it no longer fits, `None` if it does not verify.
    fn take(&self, head: &Head, frame: Bytes, want: &mut Want, out: &mut Vec<Entry>) -> Option<bool> {
        let entry = head.decode(&frame)?;
        let bytes = entry.payload.len() as u64;
        if !out.is_empty() && bytes > want.budget {
            return Some(false);
        }
        want.budget = want.budget.saturating_sub(bytes);
        want.from += 1;
        out.push(entry);
        Some(true)
    }

    /// What is wrong at `at` bytes behind the run's offset. Walks the segment from its beginning, so that the first
    /// damage and the last good entry are named exactly.
    fn damage(&self, at: usize, reason: DamageReason) -> ReadError {
        let segment = segment_name(self.ordinal);
        let fallback = Damage { segment: segment.clone(), offset: self.offset + at as u64, last_good: None, reason };
        let Ok(mut scan) = Scan::new(&*self.file, HEADER_BYTES as u64, self.end, self.before) else {
            return fallback.into();
        };
        loop {
            match scan.step() {
                Ok(Step::Frame(_)) => {}
                Ok(Step::Bad { reason, .. }) => {
                    return Damage { segment, offset: scan.offset, last_good: scan.last, reason }.into();
                }
                _ => return Damage { last_good: scan.last, ..fallback }.into(),
            }
        }
    }
}
