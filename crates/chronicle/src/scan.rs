//! Walks the frames of one segment file from front to back, verifying each.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::{
    disk::{File, SECTOR_BYTES},
    error::DamageReason,
    frame::{FRAME_ALIGNMENT, HEAD_BYTES, Head},
    types::{Entry, LogId},
};

/// How much is read at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// What stands at the scan's offset.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole frame that verifies and follows the one before; the scan is behind it now.
    Frame(Frame),
    /// Eight zeros, or the end of the file: no frame begins here.
    End,
    /// Something else. `extent` is how far the frame is known to reach, as a file offset.
    Bad { reason: DamageReason, extent: u64 },
}

/// A frame that verifies.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// All of its bytes.
    pub(crate) bytes: Bytes,
    head: Head,
}

impl Frame {
    /// Where the entry stands in the log.
    pub(crate) fn id(&self) -> LogId {
        self.head.id
    }

    /// The entry. It shares the memory of the window it was read with; copy the payload to keep it for long.
    pub(crate) fn entry(&self) -> Option<Entry> {
        self.head.decode_verified(&self.bytes)
    }
}

/// A walk over the frames of one file.
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    /// Where the next frame begins.
    pub(crate) offset: u64,
    /// The last entry met, or the one before the first.
    pub(crate) last: Option<LogId>,
    /// Frames end before this offset.
    limit: u64,
    /// How much is read at a time, in bytes.
    window_bytes: u64,
    window: Bytes,
    window_at: u64,
    /// How much was read, in bytes.
    pub(crate) read: u64,
}

impl<'a> Scan<'a> {
    /// A walk from `offset` up to `limit` or the end of the file; `last` is the entry before.
    pub(crate) fn new(file: &'a dyn File, offset: u64, limit: u64, last: Option<LogId>) -> io::Result<Self> {
        Self::windowed(file, offset, limit, last, WINDOW_BYTES)
    }

    /// As [`Scan::new`], reading `window_bytes` at a time.
    pub(crate) fn windowed(
        file: &'a dyn File,
        offset: u64,
        limit: u64,
        last: Option<LogId>,
        window_bytes: u64,
    ) -> io::Result<Self> {
        let limit = limit.min(file.len()?);
        Ok(Self { file, offset, last, limit, window_bytes, window: Bytes::new(), window_at: offset, read: 0 })
    }

    /// Whether the next step needs no reading: a whole frame stands in what was read last.
    pub(crate) fn is_read_ahead(&self) -> bool {
        let begin = (self.offset - self.window_at) as usize;
        let rest = self.window.get(begin..).unwrap_or_default();
        Head::parse(rest).is_some_and(|head| head.frame_bytes() <= rest.len() as u64)
    }

    /// The index of the next entry.
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// Looks at what comes next.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let word = self.bytes(self.offset, 8)?;
        if word.len() < 8 && word.iter().all(|&byte| byte == 0) || word[..] == [0; 8] {
            return Ok(Step::End);
        }
        drop(word);
        let Some(head) = Head::parse(&self.bytes(self.offset, HEAD_BYTES as u64)?) else {
            return Ok(Step::Bad { reason: DamageReason::EntryHead, extent: self.offset + HEAD_BYTES as u64 });
        };
        let extent = self.offset + head.frame_bytes();
        if head.id.index != self.next_index() || self.last.is_some_and(|last| last.term > head.id.term) {
            // No lost write makes a head that verifies: this was another entry's place, or another's segment.
            let reason = DamageReason::OutOfSequence { expected: self.next_index(), found: head.id };
            return Ok(Step::Bad { reason, extent: self.offset });
        }
        let bytes = self.bytes(self.offset, head.frame_bytes())?;
        if bytes.len() as u64 != head.frame_bytes() || !head.body_is_good(&bytes) {
            return Ok(Step::Bad { reason: DamageReason::EntryBody { index: head.id.index }, extent });
        }
        let frame = Frame { offset: self.offset, bytes, head };
        self.offset = extent;
        self.last = Some(head.id);
        Ok(Step::Frame(frame))
    }

    /// The bytes at `offset`, fewer than `len` only at the limit.
    fn bytes(&mut self, offset: u64, len: u64) -> io::Result<Bytes> {
        let end = (offset + len).min(self.limit).max(offset);
        if end > self.window_at + self.window.len() as u64 {
            let until = end.max(offset + self.window_bytes).min(self.limit);
            // The memory of the window before, unless somebody still holds a frame of it.
            let memory = std::mem::take(&mut self.window).try_into_mut().unwrap_or_default();
            self.window = match read_into(memory, self.file, offset, until - offset) {
                // Perhaps only what was read ahead: the error must come where the bytes are that cannot be read.
                Err(_) if until > end => read_exact(self.file, offset, end - offset)?,
                window => window?,
            };
            self.window_at = offset;
            self.read += self.window.len() as u64;
        }
        let begin = (offset - self.window_at) as usize;
        let available = self.window.len().saturating_sub(begin).min((end - offset) as usize);
        Ok(self.window.slice(begin.min(self.window.len())..begin.min(self.window.len()) + available))
    }
}

/// The `len` bytes at `offset`, fewer only if the file ends before.
pub(crate) fn read_exact(file: &dyn File, offset: u64, len: u64) -> io::Result<Bytes> {
    read_into(BytesMut::new(), file, offset, len)
}

fn read_into(mut memory: BytesMut, file: &dyn File, offset: u64, len: u64) -> io::Result<Bytes> {
    memory.resize(len as usize, 0);
    let n = file.read_at(&mut memory, offset)?;
    memory.truncate(n);
    Ok(memory.freeze())
}

/// Whether a lost write explains that the frame at `offset`, known to reach to `extent`, does not verify: some sector
/// that it touches holds nothing but zeros from the frame's beginning on (before that stand earlier frames, which were
/// in the sector before it was written again), or the file ends inside the frame.
///
/// Only the failing frame's own sectors count. A lost sector further behind says nothing about this one.
pub(crate) fn has_hole(file: &dyn File, offset: u64, extent: u64) -> io::Result<bool> {
    let mut at = offset;
    while at < extent {
        let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let piece = read_exact(file, at, sector_end - at)?;
        let file_ends_here = at + (piece.len() as u64) < sector_end.min(extent);
        if file_ends_here || piece.iter().all(|&byte| byte == 0) {
            return Ok(true);
        }
        at = sector_end;
    }
    Ok(false)
}

/// Whether a whole frame that verifies, of an entry that may follow `last`, begins at or behind `from`.
pub(crate) fn has_frame_behind(file: &dyn File, from: u64, last: Option<LogId>) -> io::Result<bool> {
    let (mut at, len) = (from.next_multiple_of(FRAME_ALIGNMENT), file.len()?);
    while at < len {
        let window = read_exact(file, at, (WINDOW_BYTES + HEAD_BYTES as u64).min(len - at))?;
        for i in (0..WINDOW_BYTES.min(window.len() as u64)).step_by(FRAME_ALIGNMENT as usize) {
            let Some(head) = Head::parse(&window[i as usize..]) else { continue };
            if last.is_some_and(|last| head.id.index <= last.index || head.id.term < last.term) {
                continue;
            }
            let frame = read_exact(file, at + i, head.frame_bytes())?;
            if frame.len() as u64 == head.frame_bytes() && head.body_is_good(&frame) {
                return Ok(true);
            }
        }
        at += WINDOW_BYTES;
    }
    Ok(false)
}

/// Where the last byte at or behind `offset` that is not zero ends; `None` if there is none.
pub(crate) fn last_nonzero(file: &dyn File, offset: u64) -> io::Result<Option<u64>> {
    let (mut at, len, mut last) = (offset, file.len()?, None);
    while at < len {
        let window = read_exact(file, at, WINDOW_BYTES.min(len - at))?;
        if let Some(i) = window.iter().rposition(|&byte| byte != 0) {
            last = Some(at + i as u64 + 1);
        }
        at += WINDOW_BYTES;
    }
    Ok(last)
}

/// Writes zeros from `from` up to `to`.
pub(crate) fn write_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; WINDOW_BYTES.min(to.saturating_sub(from)) as usize];
    let mut at = from;
    while at < to {
        let n = (to - at).min(WINDOW_BYTES);
        file.write_at(&zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}
