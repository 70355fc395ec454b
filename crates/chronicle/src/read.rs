//! Reading by index: the cache first, else the disk, from the nearest known offset.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    disk::File,
    error::{Damage, DamageReason, ReadError},
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
}

/// What is still wanted.
struct Want {
    from: u64,
    to: u64,
    budget: u64,
}

/// See [`crate::Chronicle::read`].
pub(crate) fn read(shared: &Shared, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
    loop {
        let mut attempt = Attempt {
            truncations: shared.log.read().truncations,
            want: Want { from, to, budget: max_bytes as u64 },
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
    Ok(Run { ordinal, file: sealed.file(&shared.pool)?, offset, index: first + delta, limit, before, end })
}

impl Run {
    /// Reads what is wanted and within the run; whether more may be wanted.
    fn read(mut self, want: &mut Want, out: &mut Vec<Entry>) -> Result<bool, ReadError> {
        let mut at_least = 0;
        while want.from < want.to && self.offset < self.limit {
            let len = want.budget.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()).max(at_least);
            let len = len.min(self.limit - self.offset);
            let chunk = read_exact(&*self.file, self.offset, len)
                .map_err(|error| ReadError::io(segment_name(self.ordinal), self.offset, error))?;
            if (chunk.len() as u64) < len {
                return Err(self.damage(0, DamageReason::FileShort));
            }
            let mut at = 0;
            at_least = 0;
            while want.from < want.to && at < chunk.len() {
                let rest = chunk.slice(at..);
                let Some(head) = Head::parse(&rest) else {
                    if rest.len() < HEAD_BYTES && self.offset + (chunk.len() as u64) < self.limit {
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
                    if self.offset + (chunk.len() as u64) >= self.limit {
                        return Err(self.damage(at, DamageReason::EntryBody { index: self.index }));
                    }
                    at_least = if at == 0 { frame_bytes as u64 } else { 0 };
                    break;
                }
                if self.index == want.from {
                    match self.take(&head, rest.slice(..frame_bytes), want, out) {
                        Some(true) => {}
                        Some(false) => return Ok(false),
                        None => return Err(self.damage(at, DamageReason::EntryBody { index: self.index })),
                    }
                }
                self.index += 1;
                at += frame_bytes;
            }
            self.offset += at as u64;
        }
        Ok(true)
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
