//! What of one segment does not verify, and what around it tells that a peer's copy is the same.
//!
//! ```text
//!   good frames           wound                     good frames
//!  | 40 | 41 | ##################################### | 45 | 46 | ...
//!            ^ offset                                ^ end
//!              first 42 ... last 44                  anchor: the id of 45
//! ```
//! In consensus one log id names one entry, and whoever holds the entry of an id holds the same entries before it. So a peer
//! that holds the anchor holds, as 42 to 44, exactly what stood here; that its frames fill the wound to the byte, and that
//! the segment's digest is right again, is checked besides. A wound without an anchor is at the end of the log: nobody can
//! say what stood there, and it is left alone.

use std::io;

use bytes::Bytes;

use crate::{
    disk::{File, SECTOR_BYTES},
    frame::{FRAME_ALIGNMENT, HEAD_BYTES, Head},
    layout::HEADER_BYTES,
    scan::{last_nonzero, read_exact},
    types::LogId,
};

/// How much is looked through at a time for the next frame that verifies.
const WINDOW_BYTES: u64 = 1 << 20;

/// A stretch that does not verify.
#[derive(Debug)]
pub(super) struct Wound {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Where it ends, if that is known: where the frames for it must end too.
    pub(super) end: Option<u64>,
    /// The first entry that is missing.
    pub(super) first: u64,
    /// The last entry that is missing.
    pub(super) last: u64,
    /// The entry before.
    pub(super) before: Option<LogId>,
    pub(super) anchor: Anchor,
}

/// What is certainly known of an entry at or right behind a wound.
#[derive(Debug)]
pub(super) enum Anchor {
    /// The head of the one damaged frame verifies: id, length and checksum of the body.
    Head(Bytes),
    /// The frame behind the wound.
    Behind(Bytes),
    /// The trailer names the last entry of the wound, and the digest of all.
    Last(LogId),
    /// The next segment begins with this entry.
    Next(LogId),
}

impl Wound {
    /// How many entries behind the wound a peer must show besides.
    pub(super) fn shown_behind(&self) -> u64 {
        match self.anchor {
            Anchor::Behind(_) | Anchor::Next(_) => 1,
            Anchor::Head(_) | Anchor::Last(_) => 0,
        }
    }
}

/// What is known of a segment from elsewhere than its frames.
pub(super) struct Bounds {
    /// The entry before the segment.
    pub(super) before: Option<LogId>,
    /// Where the entries end, and with which, if a trailer says so.
    pub(super) trailer: Option<(u64, LogId)>,
    /// The first index of the next segment, if that is in use, and its id if that can be told.
    pub(super) next: Option<(u64, Option<LogId>)>,
}

/// What was found in a segment.
pub(super) struct Survey {
    pub(super) wounds: Vec<Wound>,
    /// Where the entries end; `None` if the last wound leaves that open.
    pub(super) end: Option<u64>,
    /// BLAKE3 of the frames, if none is damaged.
    pub(super) digest: Option<[u8; 32]>,
}

/// A wound whose extent cannot be told.
pub(super) struct Unknown {
    pub(super) offset: u64,
    pub(super) last_good: Option<LogId>,
}

pub(super) enum SurveyError {
    Unknown(Unknown),
    Io(io::Error),
}

impl From<io::Error> for SurveyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

enum At {
    Good(LogId, Bytes),
    /// A head that verifies before a body that does not.
    Head(Head, Bytes),
    Nothing,
}

/// Walks a segment's frames and finds every wound; in the last segment in use only the first, for what stands behind may
/// be torn and is opening's to judge.
pub(super) fn survey(file: &dyn File, bounds: &Bounds) -> Result<Survey, SurveyError> {
    let limit = bounds.trailer.map_or(file.len()?, |(end, _)| end);
    let until = bounds.trailer.map(|(_, last)| last.index + 1).or(bounds.next.map(|(first, _)| first));
    let mut wounds = Vec::new();
    let mut hasher = blake3::Hasher::new();
    let (mut at, mut last) = (HEADER_BYTES as u64, bounds.before);
    let next_index = |last: Option<LogId>| last.map_or(0, |id| id.index + 1);
    while until != Some(next_index(last)) {
        match frame_at(file, at, limit, last)? {
            At::Good(id, bytes) => {
                hasher.update(&bytes);
                at += bytes.len() as u64;
                last = Some(id);
                continue;
            }
            At::Head(head, bytes) => {
                let end = at + head.frame_bytes();
                let (index, anchor) = (head.id.index, Anchor::Head(bytes));
                wounds.push(Wound { offset: at, end: Some(end), first: index, last: index, before: last, anchor });
                (at, last) = (end, Some(head.id));
            }
            At::Nothing => {
                if until.is_none() && last_nonzero(file, at)?.is_none() {
                    break;
                }
                let first = next_index(last);
                match next_frame(file, at + FRAME_ALIGNMENT, limit, last, until)? {
                    Some((end, id, bytes)) => {
                        let anchor = Anchor::Behind(bytes);
                        wounds.push(Wound {
                            offset: at,
                            end: Some(end),
                            first,
                            last: id.index - 1,
                            before: last,
                            anchor,
                        });
                        (at, last) = (end, Some(LogId::new(id.term, id.index - 1)));
                    }
                    None => {
                        let unknown = SurveyError::Unknown(Unknown { offset: at, last_good: last });
                        let (end, id, anchor) = match (bounds.trailer, bounds.next) {
                            (Some((end, id)), _) => (Some(end), id.index, Anchor::Last(id)),
                            (None, Some((next, Some(id)))) => (None, next - 1, Anchor::Next(id)),
                            _ => return Err(unknown),
                        };
                        wounds.push(Wound { offset: at, end, first, last: id, before: last, anchor });
                        return Ok(Survey { wounds, end, digest: None });
                    }
                }
            }
        }
        if until.is_none() {
            break;
        }
    }
    let digest = wounds.is_empty().then(|| *hasher.finalize().as_bytes());
    Ok(Survey { wounds, end: until.map(|_| at), digest })
}

fn follows(head: &Head, last: Option<LogId>) -> bool {
    last.map_or(head.id.index == 0, |last| head.id.index == last.index + 1 && head.id.term >= last.term)
}

fn frame_at(file: &dyn File, at: u64, limit: u64, last: Option<LogId>) -> io::Result<At> {
    let room = limit.saturating_sub(at);
    let head_bytes = read_lenient(file, at, room.min(HEAD_BYTES as u64))?;
    let Some(head) = Head::parse(&head_bytes).filter(|head| follows(head, last) && head.frame_bytes() <= room) else {
        return Ok(At::Nothing);
    };
    let bytes = read_lenient(file, at, head.frame_bytes())?;
    let is_good = bytes.len() as u64 == head.frame_bytes() && head.body_is_good(&bytes);
    Ok(if is_good { At::Good(head.id, bytes) } else { At::Head(head, head_bytes) })
}

/// The next frame that verifies and may follow `last` with a gap.
fn next_frame(
    file: &dyn File,
    from: u64,
    limit: u64,
    last: Option<LogId>,
    until: Option<u64>,
) -> io::Result<Option<(u64, LogId, Bytes)>> {
    let next = last.map_or(0, |id| id.index + 1);
    let may_follow = |id: LogId, gap: u64| {
        // Each entry of the gap takes at least a head.
        let fits = (id.index - next).saturating_mul(HEAD_BYTES as u64) <= gap;
        last.is_none_or(|last| id.term >= last.term) && until.is_none_or(|until| id.index < until) && fits
    };
    let mut at = from;
    while at < limit {
        let window = read_lenient(file, at, (WINDOW_BYTES + HEAD_BYTES as u64).min(limit - at))?;
        for i in (0..WINDOW_BYTES.min(window.len() as u64)).step_by(FRAME_ALIGNMENT as usize) {
            let Some(head) = Head::parse(&window[i as usize..]) else { continue };
            let gap = at + i + FRAME_ALIGNMENT - from;
            if head.id.index <= next || !may_follow(head.id, gap) || head.frame_bytes() > limit - at - i {
                continue;
            }
            let frame = read_lenient(file, at + i, head.frame_bytes())?;
            if frame.len() as u64 == head.frame_bytes() && head.body_is_good(&frame) {
                return Ok(Some((at + i, head.id, frame)));
            }
        }
        at += WINDOW_BYTES;
    }
    Ok(None)
}

/// As [`read_exact`], but sectors that the disk cannot read back are zeros, which never verify.
pub(super) fn read_lenient(file: &dyn File, offset: u64, len: u64) -> io::Result<Bytes> {
    if let Ok(bytes) = read_exact(file, offset, len) {
        return Ok(bytes);
    }
    let end = (offset + len).min(file.len()?);
    let mut out = Vec::with_capacity(len as usize);
    let mut at = offset;
    while at < end {
        let sector_end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        match read_exact(file, at, sector_end - at) {
            Ok(bytes) => out.extend_from_slice(&bytes),
            Err(_) => out.resize(out.len() + (sector_end - at) as usize, 0),
        }
        at = sector_end;
    }
    Ok(out.into())
}
