//! Reads an open chronicle once more from the disk, piece by piece, and checks every byte on the way. Whoever drives it says
//! how fast.
//!
//! ```text
//!   sealed      header ─► frames ─► digest ─► footer, part by part ─► the next segment
//!   unsealed    header ─► frames, as far as they are committed and durable: those never change, whatever is truncated
//! ```
//! What is not yet written is never read. The pages of sealed segments are forgotten before and after they are read: so it is
//! the disk that answers, not memory, and memory stays with those who read for clients.

use std::{io, sync::Arc};

use crate::{
    disk::File,
    error::{Damage, DamageReason, ReadError},
    layout::{HEADER_BYTES, Header, HeaderFound, segment_name},
    scan::{Scan, Step, read_exact},
    sealed::{FooterError, Sealed},
    shared::Shared,
    types::{Entry, LogId, SegmentInfo},
    verify::FooterCheck,
};

/// About how much one step reads, unless a single entry is larger: small beside what a disk does between two syncs.
const PIECE_BYTES: u64 = 256 << 10;

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// A piece verifies.
    Piece {
        /// Bytes read from the disk; a little more than were verified, because entries straddle pieces.
        read: u64,
    },
    /// The last piece of a sealed segment verifies, and so all of it: entries, digest and footer.
    Segment {
        /// As for a piece.
        read: u64,
        /// The segment.
        info: SegmentInfo,
    },
    /// Everything that was committed and durable here has been read.
    End,
}

/// A walk over everything that is committed and durable. [`Chronicle::scrub`](crate::Chronicle::scrub) begins one at the first
/// entry, [`Chronicle::scrub_from`](crate::Chronicle::scrub_from) goes on with one.
pub struct Scrub {
    shared: Arc<Shared>,
    at: At,
    /// Bytes of the segments before this one.
    before: u64,
}

/// How far the walk is in one segment.
struct At {
    ordinal: u64,
    file: Option<Arc<dyn File>>,
    /// Everything before verifies.
    offset: u64,
    /// The last entry that verifies.
    last: Option<LogId>,
    hasher: blake3::Hasher,
    footer: FooterCheck,
}

impl At {
    fn begin(ordinal: u64, last: Option<LogId>) -> Self {
        let (hasher, footer) = (blake3::Hasher::new(), FooterCheck::default());
        Self { ordinal, file: None, offset: HEADER_BYTES as u64, last, hasher, footer }
    }
}

/// What is to be read of the segment.
enum Part {
    Sealed(Arc<Sealed>),
    /// Frames that end at or before this offset are committed and durable.
    Open {
        limit: u64,
        is_last: bool,
    },
}

impl Scrub {
    /// From the sealed segment with this ordinal on, or from the first that is not sealed if that is none.
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        let (at, before) = {
            let log = shared.log.read();
            let passed = &log.sealed[..log.sealed.len().min(usize::try_from(from).unwrap_or(usize::MAX))];
            let last = passed.last().map(|sealed| sealed.info.last);
            let before = passed.iter().map(|sealed| sealed.trailer.file_bytes()).sum();
            (At::begin(passed.len() as u64, last), before)
        };
        Self { shared, at, before }
    }

    /// The segment that is read next.
    pub(crate) fn ordinal(&self) -> u64 {
        self.at.ordinal
    }

    /// Bytes of entries and footers that verify, or were passed over.
    pub fn done_bytes(&self) -> u64 {
        self.before + self.at.offset
    }

    /// Bytes of entries and footers that there are now.
    pub fn total_bytes(&self) -> u64 {
        let log = self.shared.log.read();
        let sealed: u64 = log.sealed.iter().map(|sealed| sealed.trailer.file_bytes()).sum();
        sealed + log.open.iter().map(|segment| segment.end).sum::<u64>()
    }

    /// Reads and verifies the next piece; `visit` sees each entry in turn. Blocks for the disk. Entries that `visit` sees
    /// share the piece's memory: copy the payload to keep it for long.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] for what does not verify and for what the disk cannot read back: the chronicle has stopped
    /// then, as for damage that any reader meets. [`ReadError::Io`] where a file could not be opened; the step may be
    /// tried again.
    pub fn step(&mut self, mut visit: impl FnMut(&Entry)) -> Result<Scrubbed, ReadError> {
        let shared = Arc::clone(&self.shared);
        shared.stop_if_damaged(self.next(&mut visit))
    }

    fn next(&mut self, visit: &mut dyn FnMut(&Entry)) -> Result<Scrubbed, ReadError> {
        loop {
            let Some(part) = self.part() else { return Ok(Scrubbed::End) };
            let (limit, is_sealed) = match &part {
                Part::Sealed(sealed) => (sealed.trailer.end, true),
                Part::Open { limit, .. } => (*limit, false),
            };
            let (file, header) = self.file()?;
            if self.at.offset < limit {
                let begin = self.at.offset;
                if is_sealed {
                    file.forget(begin, PIECE_BYTES);
                }
                let read = header + self.frames(&*file, limit, visit)?;
                if is_sealed {
                    file.forget(begin, read);
                }
                return Ok(Scrubbed::Piece { read });
            }
            match part {
                Part::Sealed(sealed) => return self.footer(&sealed, &*file),
                Part::Open { is_last: true, .. } => return Ok(Scrubbed::End),
                // Its successor is begun and it is not yet sealed; sealing reads it again.
                Part::Open { is_last: false, .. } => self.advance(limit),
            }
        }
    }

    fn part(&self) -> Option<Part> {
        let log = self.shared.log.read();
        if let Some(sealed) = log.sealed.get(self.at.ordinal as usize) {
            return Some(Part::Sealed(Arc::clone(sealed)));
        }
        let next = log.committed_and_flushed()?.index + 1;
        let segment = log.open.iter().find(|segment| segment.ordinal == self.at.ordinal)?;
        let end = segment.first + segment.offsets.len() as u64;
        let limit = segment.offset_of(next.clamp(segment.first, end));
        Some(Part::Open { limit, is_last: next <= end })
    }

    /// The segment's file, with its header verified, and how many bytes were read for that. A file of its own: those that
    /// serve readers stay open for them.
    fn file(&mut self) -> Result<(Arc<dyn File>, u64), ReadError> {
        if let Some(file) = &self.at.file {
            return Ok((Arc::clone(file), 0));
        }
        let name = segment_name(self.at.ordinal);
        let file = match self.shared.dir.open(&name, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.damage(0, DamageReason::SegmentMissing));
            }
            Err(error) => return Err(ReadError::io(name, 0, error)),
        };
        let bytes = read_exact(&*file, 0, HEADER_BYTES as u64).map_err(|error| self.unreadable(0, &error))?;
        let expected = Header { ordinal: self.at.ordinal, first: self.at.last.map_or(0, |id| id.index + 1) };
        match bytes.first_chunk().map(Header::parse) {
            Some(HeaderFound::Good(header)) if header == expected => {}
            _ => return Err(self.damage(0, DamageReason::SegmentHeader)),
        }
        self.at.file = Some(Arc::clone(&file));
        Ok((file, HEADER_BYTES as u64))
    }

    /// Verifies the frames of one piece; how many bytes were read.
    fn frames(&mut self, file: &dyn File, limit: u64, visit: &mut dyn FnMut(&Entry)) -> Result<u64, ReadError> {
        let at = &mut self.at;
        let scan = Scan::windowed(file, at.offset, limit, at.last, PIECE_BYTES);
        let mut scan = scan.map_err(|error| ReadError::io(segment_name(at.ordinal), at.offset, error))?;
        loop {
            let frame = match scan.step().map_err(|error| self.unreadable(scan.offset, &error))? {
                Step::Frame(frame) => frame,
                Step::Bad { reason, .. } => return Err(self.damage(scan.offset, reason)),
                Step::End => return Err(self.damage(scan.offset, DamageReason::EntryHead)),
            };
            let Some(entry) = frame.entry() else {
                return Err(self.damage(frame.offset, DamageReason::EntryBody { index: frame.id().index }));
            };
            visit(&entry);
            self.at.hasher.update(&frame.bytes);
            (self.at.offset, self.at.last) = (scan.offset, scan.last);
            if self.at.offset >= limit || !scan.is_read_ahead() {
                return Ok(scan.read);
            }
        }
    }

    /// Verifies a part of a footer; behind its last part the digest, and what memory has of it.
    fn footer(&mut self, sealed: &Sealed, file: &dyn File) -> Result<Scrubbed, ReadError> {
        let trailer = &sealed.trailer;
        if *self.at.hasher.finalize().as_bytes() != trailer.digest || self.at.last != Some(trailer.last) {
            return Err(self.damage(HEADER_BYTES as u64, DamageReason::Digest));
        }
        let footer_bytes = trailer.file_bytes() - trailer.end;
        file.forget(trailer.end, footer_bytes);
        let read = match self.at.footer.step(trailer, file, PIECE_BYTES) {
            Ok(0) => {
                let same = Sealed::load(file, self.at.ordinal).map_err(|error| self.footer_error(error))?;
                if same.trailer != *trailer {
                    let offset = trailer.file_bytes() - crate::footer::TRAILER_BYTES as u64;
                    return Err(self.damage(offset, DamageReason::Footer { part: "trailer" }));
                }
                let read = trailer.filter().len + trailer.state().len + crate::footer::TRAILER_BYTES as u64;
                file.forget(trailer.end, footer_bytes);
                self.advance(trailer.file_bytes());
                return Ok(Scrubbed::Segment { read, info: sealed.info.clone() });
            }
            Ok(read) => read,
            Err(error) => return Err(self.footer_error(error)),
        };
        Ok(Scrubbed::Piece { read })
    }

    /// Goes on to the next segment; this one has so many bytes.
    fn advance(&mut self, bytes: u64) {
        self.before += bytes;
        // The header of the next one is counted with it.
        self.at = At::begin(self.at.ordinal + 1, self.at.last);
    }

    fn footer_error(&self, error: FooterError) -> ReadError {
        match error {
            FooterError::Damaged { offset, part } => self.damage(offset, DamageReason::Footer { part }),
            FooterError::Io { offset, source } => self.unreadable(offset, &source),
        }
    }

    fn damage(&self, offset: u64, reason: DamageReason) -> ReadError {
        Damage { segment: segment_name(self.at.ordinal), offset, last_good: self.at.last, reason }.into()
    }

    /// What the disk cannot read back is as good as lost, and comes back from a peer like it.
    fn unreadable(&self, offset: u64, error: &io::Error) -> ReadError {
        self.damage(offset, DamageReason::Unreadable { error: error.to_string() })
    }
}
