//! Looks at a chronicle's files and says what they hold, what a crash left undone, and what is damaged. Reads only:
//! opening acts on it, verification reports it.

use std::{collections::BTreeSet, io, sync::Arc};

use crate::{
    disk::{Dir, File},
    error::{Damage, DamageReason},
    layout::{BATCH_BYTES, BLOCK_BYTES, HEADER_BYTES, Header, HeaderFound, segment_name, segment_ordinal},
    meta::Meta,
    planted::{self, Planted},
    scan::{Frame, Scan, Step, has_frame_behind, has_hole, last_nonzero},
    sealed::{FooterError, Sealed},
    types::LogId,
};

/// Why a chronicle could not be examined to its end.
#[derive(Debug)]
pub(crate) enum ExamineError {
    Damaged(Damage),
    Version {
        file: String,
        found: u32,
    },
    Io {
        file: String,
        source: io::Error,
    },
    /// As `Io`, at a place where something is known to stand.
    Unreadable {
        damage: Damage,
        source: io::Error,
    },
}

impl ExamineError {
    /// The bytes at `offset` cannot be read back.
    pub(crate) fn unreadable(ordinal: u64, offset: u64, last_good: Option<LogId>, source: io::Error) -> Self {
        let reason = DamageReason::Unreadable { error: source.to_string() };
        Self::Unreadable { damage: Damage { segment: segment_name(ordinal), offset, last_good, reason }, source }
    }
}

fn io_error(file: &str) -> impl FnOnce(io::Error) -> ExamineError {
    let file = file.to_owned();
    move |source| ExamineError::Io { file, source }
}

fn damage(ordinal: u64, offset: u64, last_good: Option<LogId>, reason: DamageReason) -> ExamineError {
    ExamineError::Damaged(Damage { segment: segment_name(ordinal), offset, last_good, reason })
}

/// What stands in the first bytes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Nothing was ever written, as far as the whole file tells.
    Unused,
    /// The header is not there, but something behind it is.
    HeaderLost,
    Good(Header),
    Bad,
}

/// A segment file as it was found.
pub(crate) struct Found {
    pub(crate) ordinal: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) len: u64,
    begin: Begin,
}

/// The files, in order, none missing, and which of them are sealed.
pub(crate) struct Layout {
    /// The sealed segments, oldest first.
    pub(crate) sealed: Vec<Sealed>,
    /// All others up to the last that holds anything.
    pub(crate) unsealed: Vec<Found>,
    /// Files behind that, made ahead of their use.
    pub(crate) unused: Vec<Found>,
}

/// An unsealed segment that holds entries.
pub(crate) struct Segment {
    pub(crate) ordinal: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) len: u64,
    pub(crate) first: u64,
    pub(crate) offsets: Vec<u64>,
    pub(crate) end: u64,
}

/// How the entries end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing stands behind the last entry.
    Clean,
    /// Everything behind it must go: what a crash left of a batch, or of entries that were being truncated.
    Cut { torn_bytes: u64 },
}

/// The unsealed entries.
pub(crate) struct Tail {
    pub(crate) segments: Vec<Segment>,
    pub(crate) last: Option<LogId>,
    pub(crate) end: End,
    /// What ends at or before this index is damaged, not torn.
    floor: Option<u64>,
}

impl Layout {
    /// Finds the files and reads headers and footers. `on_sealed` sees each sealed segment in turn.
    pub(crate) fn examine(
        dir: &Dir,
        write: bool,
        mut on_sealed: impl FnMut(&Sealed, &dyn File) -> Result<(), ExamineError>,
    ) -> Result<Self, ExamineError> {
        let names = dir.list().map_err(io_error("."))?;
        let ordinals: BTreeSet<u64> = names.iter().filter_map(|name| segment_ordinal(name)).collect();
        let mut layout = Self { sealed: Vec::new(), unsealed: Vec::new(), unused: Vec::new() };
        // The last file that holds anything, and those behind it. One at a time: there may be more sealed files than
        // a process may hold open.
        let mut ahead: Vec<Found> = Vec::new();
        for (expected, ordinal) in (0..).zip(ordinals) {
            if ordinal != expected {
                return Err(damage(expected, 0, layout.last_sealed(), DamageReason::SegmentMissing));
            }
            let found = Found::open(dir, ordinal, write)?;
            if found.begin != Begin::Unused {
                for found in std::mem::take(&mut ahead) {
                    layout.add(found, &mut on_sealed)?;
                }
            }
            ahead.push(found);
        }
        let used = ahead.partition_point(|found| found.begin != Begin::Unused);
        layout.unused = ahead.split_off(used);
        layout.unsealed.append(&mut ahead);
        Ok(layout)
    }

    /// Adds a file that has a successor in use. Only a sealed file's length is no multiple of a block.
    fn add(
        &mut self,
        found: Found,
        on_sealed: &mut impl FnMut(&Sealed, &dyn File) -> Result<(), ExamineError>,
    ) -> Result<(), ExamineError> {
        if self.unsealed.is_empty() && !found.len.is_multiple_of(BLOCK_BYTES) {
            let sealed = self.load_sealed(&found)?;
            on_sealed(&sealed, &*found.file)?;
            self.sealed.push(sealed);
        } else {
            self.unsealed.push(found);
        }
        Ok(())
    }

    fn load_sealed(&self, found: &Found) -> Result<Sealed, ExamineError> {
        let before = self.last_sealed();
        let sealed = Sealed::load(&*found.file, found.ordinal).map_err(|error| match error {
            FooterError::Damaged { offset, part } => {
                damage(found.ordinal, offset, before, DamageReason::Footer { part })
            }
            FooterError::Io { offset, source } => ExamineError::unreadable(found.ordinal, offset, before, source),
        })?;
        let expected = before.map_or(0, |id| id.index + 1);
        if found.begin != Begin::Good(Header { ordinal: found.ordinal, first: expected }) {
            return Err(damage(found.ordinal, 0, before, DamageReason::SegmentHeader));
        }
        if sealed.info.first.index != expected {
            let reason = DamageReason::OutOfSequence { expected, found: sealed.info.first };
            return Err(damage(found.ordinal, HEADER_BYTES as u64, before, reason));
        }
        Ok(sealed)
    }

    /// The last sealed entry.
    pub(crate) fn last_sealed(&self) -> Option<LogId> {
        self.sealed.last().map(|sealed| sealed.info.last)
    }

    /// Walks the unsealed entries; `on_frame` sees each. Tells a torn tail from damage.
    pub(crate) fn examine_tail(
        &self,
        meta: &Meta,
        mut on_frame: impl FnMut(u64, &Frame) -> Result<(), ExamineError>,
    ) -> Result<Tail, ExamineError> {
        let mut tail =
            Tail { segments: Vec::new(), last: self.last_sealed(), end: End::Clean, floor: self.floor(meta) };
        for (i, found) in self.unsealed.iter().enumerate() {
            let goes =
                |last: Option<LogId>| meta.truncation.is_some_and(|from| last.map_or(0, |id| id.index + 1) >= from);
            if goes(tail.last) {
                tail.end = End::Cut { torn_bytes: 0 };
                break;
            }
            let next = self.unsealed.get(i + 1);
            match found.begin {
                Begin::Good(header) if header.ordinal == found.ordinal && header.first == tail.next_index() => {}
                Begin::HeaderLost if next.is_none() => {
                    tail.end = torn(&*found.file, 0).map_err(io_error(&segment_name(found.ordinal)))?;
                    break;
                }
                _ => return Err(damage(found.ordinal, 0, tail.last, DamageReason::SegmentHeader)),
            }
            tail.walk(found, next, meta, &mut on_frame)?;
        }
        tail.check_floor(self)?;
        Ok(tail)
    }

    /// The last index that was certainly durable: a segment is sealed only once the entry behind it is.
    fn floor(&self, meta: &Meta) -> Option<u64> {
        meta.remembered().max(self.last_sealed().map(|id| id.index + 1))
    }
}

impl Found {
    fn open(dir: &Dir, ordinal: u64, write: bool) -> Result<Self, ExamineError> {
        let name = segment_name(ordinal);
        let file = dir.open(&name, write).map_err(io_error(&name))?;
        let len = file.len().map_err(io_error(&name))?;
        let begin = find_begin(&*file, &name)?;
        Ok(Self { ordinal, file, len, begin })
    }
}

fn find_begin(file: &dyn File, name: &str) -> Result<Begin, ExamineError> {
    let mut header = [0; HEADER_BYTES];
    let n = file.read_at(&mut header, 0).map_err(io_error(name))?;
    match Header::parse(&header) {
        HeaderFound::Good(header) => Ok(Begin::Good(header)),
        HeaderFound::Version(found) => Err(ExamineError::Version { file: name.to_owned(), found }),
        // The first sector was never written, or the file ends within the header.
        HeaderFound::Bad if n < HEADER_BYTES || has_hole(file, 0, HEADER_BYTES as u64).map_err(io_error(name))? => {
            let used = last_nonzero(file, 0).map_err(io_error(name))?.is_some();
            Ok(if used { Begin::HeaderLost } else { Begin::Unused })
        }
        HeaderFound::Bad => Ok(Begin::Bad),
    }
}

/// The end of a tail behind which only leavings stand, from `offset` of this file on.
fn torn(file: &dyn File, offset: u64) -> io::Result<End> {
    Ok(last_nonzero(file, offset)?.map_or(End::Clean, |end| End::Cut { torn_bytes: end - offset }))
}

impl Tail {
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn walk(
        &mut self,
        found: &Found,
        next: Option<&Found>,
        meta: &Meta,
        on_frame: &mut impl FnMut(u64, &Frame) -> Result<(), ExamineError>,
    ) -> Result<(), ExamineError> {
        let name = segment_name(found.ordinal);
        let file = &*found.file;
        // A segment that has a successor was synced before its successor was begun: it is whole, up to where the
        // successor says. Behind that may stand part of a footer.
        let until = match next.map(|next| next.begin) {
            Some(Begin::Good(header)) => Some(header.first),
            _ => None,
        };
        let mut segment = Segment {
            ordinal: found.ordinal,
            file: Arc::clone(&found.file),
            len: found.len,
            first: self.next_index(),
            offsets: Vec::new(),
            end: HEADER_BYTES as u64,
        };
        let mut scan = Scan::new(file, HEADER_BYTES as u64, u64::MAX, self.last).map_err(io_error(&name))?;
        loop {
            let index = scan.next_index();
            if meta.truncation.is_some_and(|from| index >= from) {
                self.end = End::Cut { torn_bytes: 0 };
                break;
            }
            if until == Some(index) {
                break;
            }
            let (offset, last) = (scan.offset, scan.last);
            let unreadable = |source| ExamineError::unreadable(found.ordinal, offset, last, source);
            match scan.step().map_err(unreadable)? {
                Step::Frame(frame) => {
                    on_frame(found.ordinal, &frame)?;
                    segment.offsets.push(frame.offset);
                }
                Step::End => {
                    if let Some(next_first) = until {
                        let reason = DamageReason::SegmentShort { next_first };
                        return Err(damage(found.ordinal, scan.offset, scan.last, reason));
                    }
                    // Zeros where a frame would begin, and something behind: the frame's first sector was lost.
                    let rest = torn(file, scan.offset).map_err(io_error(&name))?;
                    if rest != End::Clean {
                        let extent = scan.offset + 8;
                        self.judge(&scan, found, next, extent, DamageReason::EntryHead)?;
                    }
                    break;
                }
                Step::Bad { reason, extent } => {
                    self.judge(&scan, found, next, extent, reason)?;
                    break;
                }
            }
        }
        segment.end = scan.offset;
        self.last = scan.last;
        if segment.offsets.is_empty() {
            // Not even the first entry is whole: the segment has not begun.
            if self.end == End::Clean {
                self.end = End::Cut { torn_bytes: segment.end };
            }
        } else {
            self.segments.push(segment);
        }
        Ok(())
    }

    /// The frame at the scan's offset fails: torn if it may be, else damaged.
    fn judge(
        &mut self,
        scan: &Scan<'_>,
        found: &Found,
        next: Option<&Found>,
        extent: u64,
        reason: DamageReason,
    ) -> Result<(), ExamineError> {
        let name = segment_name(found.ordinal);
        let file = &*found.file;
        let was_durable = self.floor.is_some_and(|floor| floor >= scan.next_index());
        let is_torn = planted::is(Planted::CutOnDamage)
            || !was_durable
            && next.is_none()
            && has_hole(file, scan.offset, extent).map_err(io_error(&name))?
            // Not of the last batch: it was synced, and acknowledged perhaps, before a later one was begun.
            && !has_frame_behind(file, scan.offset + BATCH_BYTES, scan.last).map_err(io_error(&name))?;
        if !is_torn {
            return Err(damage(found.ordinal, scan.offset, scan.last, reason));
        }
        self.end = torn(file, scan.offset).map_err(io_error(&name))?;
        Ok(())
    }

    /// What was certainly durable must be there.
    fn check_floor(&self, layout: &Layout) -> Result<(), ExamineError> {
        match self.floor {
            Some(remembered) if remembered >= self.next_index() && !planted::is(Planted::CutOnDamage) => {
                let (ordinal, offset) = match self.segments.last() {
                    Some(segment) => (segment.ordinal, segment.end),
                    None => (layout.sealed.len() as u64, 0),
                };
                Err(damage(ordinal, offset, self.last, DamageReason::Missing { remembered }))
            }
            _ => Ok(()),
        }
    }
}
