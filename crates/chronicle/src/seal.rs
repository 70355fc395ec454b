//! Seals segments, oldest first: reads a wholly committed segment once more (so its digest speaks for what the disk
//! holds), writes the footer behind its entries, syncs, and trims the file to its final length.
//!
//! A crash at any point leaves either a sealed file or one whose length still says that it is not; the entries of the
//! latter end where the next segment's header says, whatever part of a footer stands behind them. The length says so
//! until the whole footer is durable: a file system may make a length durable before the bytes that it covers.
//!
//! The entries of a sealed segment then leave the system's memory (`docs/decisions/025`).

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    ahead,
    disk::File,
    error::{Damage, DamageReason, Failure},
    footer::{FooterBuilder, Trailer},
    layout::{BLOCK_BYTES, HEADER_BYTES, segment_name},
    options::Fold,
    overview,
    scan::{Scan, Step},
    sealed::Sealed,
    shared::Shared,
    types::LogId,
};

/// How many keys are forgotten while the log's lock is held once.
const FORGET_AT_ONCE: usize = 4096;

/// A segment to be sealed.
struct Candidate {
    ordinal: u64,
    file: Arc<dyn File>,
    end: u64,
    before: Option<LogId>,
}

/// How an attempt ended.
enum Ended {
    Sealed,
    /// The footer does not fit on the disk; nothing of it counts.
    NoSpace,
    /// The chronicle is closing meanwhile.
    Closing,
}

/// The body of the thread. `fold` stands behind the last sealed segment.
pub(crate) fn run(shared: &Shared, mut fold: Box<dyn Fold>) {
    while shared.seal.wait() {
        if !all(shared, &mut *fold) {
            return;
        }
    }
}

/// Seals all that can be, and covers what is sealed in the overview of keys where it is asked for; false if nothing more is to be
/// sealed ever.
pub(crate) fn all(shared: &Shared, fold: &mut dyn Fold) -> bool {
    loop {
        let Some(candidate) = next(shared) else {
            if shared.seal.is_closed() || !overview::cover_next(shared) {
                return true;
            }
            continue;
        };
        match seal(shared, &candidate, fold) {
            Ok(Ended::Sealed) => {}
            // Asked for again with the next entries.
            Ok(Ended::NoSpace) => return true,
            Ok(Ended::Closing) => return false,
            Err(failure) => {
                shared.stop(failure);
                return false;
            }
        }
    }
}

fn next(shared: &Shared) -> Option<Candidate> {
    // A footer may need space as well, and waits until there is some.
    if shared.ahead.is_full() {
        return None;
    }
    let log = shared.log.read();
    let segment = log.open.front().filter(|_| log.sealable())?;
    Some(Candidate {
        ordinal: segment.ordinal,
        file: Arc::clone(&segment.file),
        end: segment.end,
        before: log.sealed.last().map(|sealed| sealed.info.last),
    })
}

/// Seals one segment.
fn seal(shared: &Shared, candidate: &Candidate, fold: &mut dyn Fold) -> Result<Ended, Failure> {
    let name = segment_name(candidate.ordinal);
    let failure = |action| {
        let name = name.clone();
        move |error| Failure::io(action, name, error)
    };
    let file = &*candidate.file;
    let mut builder = FooterBuilder::new(candidate.ordinal);
    let mut scan = Scan::new(file, HEADER_BYTES as u64, candidate.end, candidate.before).map_err(failure("read"))?;
    let before = fold.state();
    let mut keys = Vec::new();
    while scan.offset < candidate.end {
        let damaged = |scan: &Scan<'_>, reason| Damage {
            segment: name.clone(),
            offset: scan.offset,
            last_good: scan.last,
            reason,
        };
        let frame = match scan.step().map_err(failure("read"))? {
            Step::Frame(frame) => frame,
            Step::Bad { reason, .. } => return Err(damaged(&scan, reason).into()),
            Step::End => return Err(damaged(&scan, DamageReason::EntryHead).into()),
        };
        let Some(entry) = frame.entry() else {
            let reason = DamageReason::EntryBody { index: frame.id().index };
            return Err(damaged(&scan, reason).into());
        };
        fold.entry(&entry, &mut keys);
        drop(entry);
        builder.frame(frame.id(), frame.offset, &frame.bytes, &keys);
        keys.clear();
        if shared.seal.is_closed() {
            return Ok(Ended::Closing);
        }
    }
    let state = fold.state();
    let Some((footer, trailer)) = builder.finish(state.clone()) else { return Ok(Ended::Closing) };
    let footer_end = candidate.end + footer.len() as u64;
    let len = file.len().map_err(failure("read"))?;
    // Not by writing behind the file's end, which would give it the length of a sealed file at once.
    let unsealed = len.max(footer_end).next_multiple_of(BLOCK_BYTES);
    let placed = match unsealed == len {
        true => Ok(()),
        false => file.set_len(unsealed),
    };
    match placed.and_then(|()| file.write_at(&footer, candidate.end)) {
        Ok(()) => {}
        Err(error) if ahead::is_full(&error) => {
            tracing::warn!(segment = name, "the disk is full: the segment is sealed later");
            fold.restore(&before);
            return Ok(Ended::NoSpace);
        }
        Err(error) => return Err(failure("write the footer of")(error)),
    }
    file.sync_all().map_err(failure("sync the footer of"))?;
    file.set_len(trailer.file_bytes()).map_err(failure("trim"))?;
    file.sync_all().map_err(failure("sync"))?;
    // What is read soon is in the tail. The next segment is written into the pages that come free here.
    file.forget(0, candidate.end);
    publish(shared, &footer, trailer, state.into());
    Ok(Ended::Sealed)
}

fn publish(shared: &Shared, footer: &[u8], trailer: Trailer, state: Bytes) {
    let range = trailer.filter();
    let begin = (range.offset - trailer.end) as usize;
    let sealed = Arc::new(Sealed::new(trailer, state, &footer[begin..begin + range.len as usize]));
    let last = sealed.info.last.index;
    tracing::debug!(segment = sealed.info.ordinal, last, bytes = sealed.info.bytes, "sealed a segment");
    let retired = {
        let mut log = shared.log.write();
        log.sealed.push(sealed);
        metrics::gauge!("sillok_chronicle_segments", "state" => "sealed").set(log.sealed.len() as f64);
        log.open.pop_front()
    };
    // Large, and of no interest to those who wait for the lock.
    drop(retired);
    // Until they are forgotten a lookup meets these keys twice, which it allows for.
    while !shared.log.write().keys.forget_up_to(last, FORGET_AT_ONCE) {}
}
