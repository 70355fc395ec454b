//! Puts a peer's frames where the wounds are: into a copy, which is checked from the disk before it takes the segment's name.

use std::io;

use bytes::Bytes;

use super::{
    Mended, Mending,
    patient::last_of,
    wounds::{Anchor, Wound, read_lenient},
};
use crate::{
    Entry, LogId,
    disk::{Dir, File},
    error::MendError,
    footer::FooterBuilder,
    frame::{HEAD_BYTES, Head},
    layout::{BLOCK_BYTES, HEADER_BYTES, Header, REPAIR, file_bytes},
    options::Fold,
    scan::{Scan, Step, read_exact, write_zeros},
    sealed::Sealed,
    verify::check_footer,
};

/// How much is copied at a time.
const COPY_BYTES: u64 = 1 << 20;
/// So many damaged files are kept aside.
const KEPT: usize = 4;
const KEPT_SUFFIX: &str = ".seg.damaged";

/// A part of the mended segment.
enum Piece<'a> {
    /// As it stands here.
    Local { from: u64, to: u64 },
    /// From a peer.
    Frames(&'a [u8]),
}

pub(super) fn mend<F: Fold>(
    mending: &Mending,
    frames: &[Bytes],
    fold: &mut F,
    approve: impl FnOnce(&F) -> Result<(), String>,
) -> Result<Mended, MendError> {
    if frames.len() != mending.wounds.len() {
        return Err(mending.refused("there is not one piece for each wound"));
    }
    let mut closing = Vec::new();
    for (wound, frames) in mending.wounds.iter().zip(frames) {
        closing.push(fits(wound, frames).map_err(|why| mending.refused(why))?);
    }
    let dir = &mending.dir;
    let failed = |action| MendError::io(action, REPAIR);
    dir.remove(REPAIR).map_err(failed("remove"))?;
    let made = make(mending, &closing, fold).and_then(|()| approve(fold).map_err(|why| mending.refused(why)));
    if let Err(error) = made {
        // Whatever it was, the space is better given back; the first error is the one to tell.
        let _ = dir.remove(REPAIR);
        return Err(error);
    }
    let name = mending.patient.name();
    let kept_as = keep_aside(mending);
    dir.rename(REPAIR, &name).map_err(MendError::io("rename the mended copy to", &*name))?;
    dir.sync().map_err(MendError::io("sync", "."))?;
    let entries = mending.wounds.iter().map(|wound| wound.last + 1 - wound.first).sum();
    let bytes = closing.iter().map(|frames| frames.len() as u64).sum();
    Ok(Mended { segment: name, entries, bytes, kept_as })
}

/// Which of the frames close the wound, if they are what stood there.
fn fits<'a>(wound: &Wound, frames: &'a [u8]) -> Result<&'a [u8], String> {
    let (mut at, mut last, mut closes) = (0, wound.before, 0);
    let mut shown: Option<(LogId, &[u8])> = None;
    while at < frames.len() {
        let next = last.map_or(0, |id| id.index + 1);
        let rest = &frames[at..];
        let head = Head::parse(rest).ok_or_else(|| format!("the frame given for index {next} has no head"))?;
        let len = head.frame_bytes() as usize;
        if len > rest.len() || !head.body_is_good(&rest[..len]) {
            return Err(format!("the body of the frame given for index {next} fails its checksum"));
        }
        if head.id.index != next || last.is_some_and(|last| last.term > head.id.term) {
            return Err(format!("entry {} was given where index {next} belongs", head.id));
        }
        last = Some(head.id);
        at += len;
        shown = Some((head.id, &rest[..len]));
        if head.id.index <= wound.last {
            closes = at;
        }
    }
    let Some((id, frame)) = shown else { return Err("nothing was given".to_owned()) };
    let asked = wound.last + wound.shown_behind();
    if id.index != asked {
        return Err(format!("entries up to index {} were given, and up to {asked} asked for", id.index));
    }
    if let Some(end) = wound.end.filter(|end| *end != wound.offset + closes as u64) {
        return Err(format!("{closes} bytes were given for a wound from byte {} to {end}", wound.offset));
    }
    let is_the_same = match &wound.anchor {
        Anchor::Head(head) => frame[..HEAD_BYTES] == head[..],
        Anchor::Behind(here) => frame == &here[..],
        Anchor::Last(here) | Anchor::Next(here) => id == *here,
    };
    if !is_the_same {
        return Err(format!("entry {id} there is not the one that stands here at that index"));
    }
    Ok(&frames[..closes])
}

/// Writes the mended copy, syncs it, and reads it back.
fn make<F: Fold>(mending: &Mending, closing: &[&[u8]], fold: &mut F) -> Result<(), MendError> {
    let failed = |action| MendError::io(action, REPAIR);
    let patient = &mending.patient;
    let file = mending.dir.create(REPAIR).map_err(failed("make"))?;
    let header = Header { ordinal: patient.ordinal, first: patient.first() };
    file.write_at(&header.encode(), 0).map_err(failed("write"))?;
    let mut pieces = Vec::new();
    let mut at = HEADER_BYTES as u64;
    for (wound, frames) in mending.wounds.iter().zip(closing) {
        pieces.push(Piece::Local { from: at, to: wound.offset });
        pieces.push(Piece::Frames(frames));
        at = wound.end.unwrap_or(wound.offset + frames.len() as u64);
    }
    let end = mending.end.unwrap_or(at).max(at);
    let is_sealed = patient.was_sealed;
    let local_end = if is_sealed && !patient.keeps_footer() { end } else { patient.len };
    pieces.push(Piece::Local { from: at, to: local_end });
    let written = write(mending, &*file, &pieces)?;
    if is_sealed {
        file.sync_all().map_err(failed("sync"))?;
        check_sealed(mending, &*file, end, fold)
    } else {
        let least = mending.segment_bytes().map_or(0, file_bytes);
        let len = written.next_multiple_of(BLOCK_BYTES).max(least);
        write_zeros(&*file, written, len).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))?;
        check_unsealed(mending, &*file, fold)
    }
}

/// Writes the pieces one behind the other; where they end.
fn write(mending: &Mending, file: &dyn File, pieces: &[Piece<'_>]) -> Result<u64, MendError> {
    let failed = |action| MendError::io(action, REPAIR);
    let mut to = HEADER_BYTES as u64;
    for piece in pieces {
        match piece {
            Piece::Frames(frames) => {
                file.write_at(frames, to).map_err(failed("write"))?;
                to += frames.len() as u64;
            }
            Piece::Local { from, to: until } => {
                let Some(local) = &mending.patient.file else { continue };
                let mut at = *from;
                while at < *until {
                    let bytes = read_exact(&**local, at, COPY_BYTES.min(until - at))
                        .map_err(MendError::io("read", mending.patient.name()))?;
                    if bytes.is_empty() {
                        return Err(mending.refused("the damaged file became shorter meanwhile"));
                    }
                    file.write_at(&bytes, to).map_err(failed("write"))?;
                    at += bytes.len() as u64;
                    to += bytes.len() as u64;
                }
            }
        }
    }
    Ok(to)
}

/// Lets the fold follow everything before the segment that no footer speaks for.
fn follow_before<F: Fold>(mending: &Mending, fold: &mut F) -> Result<(), MendError> {
    let patient = &mending.patient;
    if let Some(base) = &patient.base {
        fold.restore(&base.info.state);
    }
    let mut keys = Vec::new();
    let last = last_of(patient.base.as_ref().map(|base| base.info.last), &patient.between, |entry| {
        fold.entry(entry, &mut keys);
        keys.clear();
    });
    let last = last.map_err(MendError::io("read the segments before", patient.name()))?;
    if last == mending.before() {
        Ok(())
    } else {
        Err(mending.refused("the segment before it cannot be read twice alike"))
    }
}

/// Reads a copy that is to be sealed: its digest, if it is known, must be right again, and so must its footer.
fn check_sealed<F: Fold>(mending: &Mending, file: &dyn File, end: u64, fold: &mut F) -> Result<(), MendError> {
    let failed = |action| MendError::io(action, REPAIR);
    let patient = &mending.patient;
    follow_before(mending, fold)?;
    let mut builder = FooterBuilder::new(patient.ordinal);
    let mut scan = Scan::new(file, HEADER_BYTES as u64, end, mending.before()).map_err(failed("read"))?;
    let mut keys = Vec::new();
    while scan.offset < end {
        let Step::Frame(frame) = scan.step().map_err(failed("read"))? else {
            return Err(mending.refused(format!("the mended copy does not verify at byte {}", scan.offset)));
        };
        let Some(entry) = frame.entry() else {
            return Err(mending.refused(format!("the mended copy does not verify at byte {}", frame.offset)));
        };
        fold.entry(&Entry { payload: Bytes::copy_from_slice(&entry.payload), ..entry }, &mut keys);
        builder.frame(frame.id(), frame.offset, &frame.bytes, &keys);
        keys.clear();
    }
    if patient.bounds.next.is_some_and(|(next, _)| next != scan.next_index()) {
        return Err(mending.refused("the mended copy does not end where the next segment begins"));
    }
    let Some((footer, built)) = builder.finish(fold.state()) else {
        return Err(mending.refused("the mended copy holds no entries"));
    };
    match &patient.trailer {
        Some(trailer) if (built.digest, built.last, built.end) != (trailer.digest, trailer.last, trailer.end) => {
            return Err(
                mending.refused("with these entries the segment does not have the digest that its footer names")
            );
        }
        // What is damaged of the footer has its checksum in the trailer.
        Some(trailer) if !patient.keeps_footer() && built != *trailer => {
            return Err(mending.refused("the footer that belongs to these entries is not the one that was there"));
        }
        _ => {}
    }
    if !patient.keeps_footer() {
        file.write_at(&footer, end).map_err(failed("write"))?;
        file.set_len(built.file_bytes()).map_err(failed("trim"))?;
        file.sync_all().map_err(failed("sync"))?;
    }
    let sealed = Sealed::load(file, patient.ordinal).ok().filter(|sealed| check_footer(&sealed.trailer, file).is_ok());
    if sealed.is_none() {
        return Err(mending.refused("the footer of the mended copy does not verify"));
    }
    Ok(())
}

/// Reads a copy that is not sealed up to the entry behind its last wound.
fn check_unsealed<F: Fold>(mending: &Mending, file: &dyn File, fold: &mut F) -> Result<(), MendError> {
    let failed = |action| MendError::io(action, REPAIR);
    follow_before(mending, fold)?;
    let Some(wound) = mending.wounds.last() else { return Ok(()) };
    let behind = matches!(wound.anchor, Anchor::Behind(_));
    let until = wound.last + 1 + u64::from(behind);
    let mut scan = Scan::new(file, HEADER_BYTES as u64, u64::MAX, mending.before()).map_err(failed("read"))?;
    let mut keys = Vec::new();
    while scan.next_index() < until {
        let entry = match scan.step().map_err(failed("read"))? {
            Step::Frame(frame) => frame.entry(),
            _ => None,
        };
        let Some(entry) = entry else {
            return Err(mending.refused(format!("the mended copy does not verify at byte {}", scan.offset)));
        };
        fold.entry(&Entry { payload: Bytes::copy_from_slice(&entry.payload), ..entry }, &mut keys);
        keys.clear();
    }
    Ok(())
}

/// Keeps the damaged file under another name, for whoever wants to know what became of it. Repair does not depend on it.
fn keep_aside(mending: &Mending) -> Option<String> {
    let local = mending.patient.file.as_deref()?;
    let name = format!("{}.damaged", mending.patient.name());
    match copy_aside(&mending.dir, local, mending.patient.len, &name) {
        Ok(()) => Some(name),
        Err(error) => {
            // A piece of it is of no use, and takes space.
            let _ = mending.dir.remove(&name);
            tracing::warn!(file = name, %error, "the damaged segment cannot be kept aside; it is repaired all the same");
            None
        }
    }
}

fn copy_aside(dir: &Dir, local: &dyn File, len: u64, name: &str) -> io::Result<()> {
    let mut kept: Vec<String> = dir.list()?.into_iter().filter(|it| it.ends_with(KEPT_SUFFIX) && it != name).collect();
    kept.sort();
    while kept.len() >= KEPT {
        dir.remove(&kept.remove(0))?;
    }
    dir.remove(name)?;
    let copy = dir.create(name)?;
    let mut at = 0;
    while at < len {
        let bytes = read_lenient(local, at, COPY_BYTES.min(len - at))?;
        if bytes.is_empty() {
            break;
        }
        copy.write_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    copy.sync_all()
}
