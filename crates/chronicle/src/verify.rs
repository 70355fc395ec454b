//! Checks a chronicle offline, reading every byte and changing none.

use std::{io, num::NonZero, path::Path, sync::Arc};

use bytes::Bytes;

use crate::{
    Entry, Epoch, Identity, LogId, Vote,
    disk::{Dir, Disk, File},
    error::{Damage, DamageReason, VerifyError},
    examine::{End, ExamineError, Layout},
    footer::{Directory, Range, Trailer, parse_key_block},
    layout::{HEADER_BYTES, META, VERSION, segment_name, segment_ordinal},
    meta::{MetaError, MetaFile},
    recover::meta_was_lost,
    scan::{Frame, Scan, Step, read_exact},
    sealed::{FooterError, Sealed},
};

/// How far verification has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes of entries verified so far.
    pub bytes_done: u64,
    /// Bytes of segment files in all; those that hold no entries are passed over quickly at the end.
    pub bytes_total: u64,
    /// Entries verified so far.
    pub entries: u64,
}

/// One segment, verified.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// The file's name.
    pub name: String,
    /// Its first entry.
    pub first: LogId,
    /// Its last entry.
    pub last: LogId,
    /// How many entries it holds.
    pub entries: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// BLAKE3 of the entries' bytes.
    pub digest: [u8; 32],
    /// Whether it is sealed, so that the digest is the same on every node.
    pub sealed: bool,
}

/// How the entries end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailState {
    /// After a whole entry.
    Clean,
    /// In a batch that a crash cut short; opening the chronicle cuts it off. Nothing durable is lost with it.
    Torn {
        /// How many bytes will be cut.
        bytes: u64,
    },
    /// In a truncation that a crash interrupted; opening the chronicle finishes it.
    TruncationPending {
        /// The first index that it removes.
        from_index: u64,
    },
}

/// What verification found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose chronicle it is.
    pub identity: Identity,
    /// Every segment that holds entries, in order, up to the damage if there is some.
    pub segments: Vec<SegmentReport>,
    /// How many entries verify.
    pub entries: u64,
    /// The last entry that verifies.
    pub last: Option<LogId>,
    /// The committed entry that the meta file remembers.
    pub committed: Option<LogId>,
    /// The vote that it remembers.
    pub vote: Option<Vote>,
    /// The epoch that the meta file names.
    pub epoch: Epoch,
    /// The number of the newest epoch that it is known not to be part of; 0: none.
    pub superseded_by: u64,
    /// Where segments are cut; `None` until it is first opened.
    pub segment_bytes: Option<NonZero<u64>>,
    /// How the entries end; `None` if verification did not come so far because of damage.
    pub tail: Option<TailState>,
    /// The first damage.
    pub damage: Option<Damage>,
}

/// Sees each entry that verifies, in order, and whether it is known here to be committed.
pub type Visit<'a> = &'a mut dyn FnMut(&Entry, bool);

/// Checks the chronicle in `dir`: the meta file, every entry, every footer. Reads only, and refuses a directory that
/// a running node has open. Damage is in the report, unless nothing at all can be said without the damaged part.
pub fn verify(disk: &Arc<dyn Disk>, dir: &Path, progress: impl FnMut(Progress)) -> Result<Report, VerifyError> {
    check(disk, dir, progress, None)
}

/// As [`verify`], showing each entry on the way. Entries of a truncation that is not finished are not shown.
pub fn verify_visiting(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    progress: impl FnMut(Progress),
    visit: Visit<'_>,
) -> Result<Report, VerifyError> {
    check(disk, dir, progress, Some(visit))
}

fn check(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    progress: impl FnMut(Progress),
    visit: Option<Visit<'_>>,
) -> Result<Report, VerifyError> {
    let dir = Dir { disk: Arc::clone(disk), path: dir.to_owned() };
    let _lock = dir.disk.lock(&dir.path.join(META)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_meta(&dir),
        io::ErrorKind::WouldBlock => VerifyError::InUse { dir: dir.path.clone() },
        _ => VerifyError::Io { action: "lock", file: META.to_owned(), source: error },
    })?;
    let (meta, meta_damage) = match MetaFile::open(&dir, false) {
        Ok(file) => (file.meta, None),
        Err(MetaError::Damaged { slot, other }) => {
            let (offset, reason) = MetaError::damage(slot);
            let damage = Damage { segment: META.to_owned(), offset, last_good: None, reason };
            match other {
                Some(meta) => (*meta, Some(damage)),
                None => return Err(damage.into()),
            }
        }
        Err(MetaError::Missing) => return Err(no_meta(&dir)),
        Err(MetaError::Version(found)) => {
            return Err(VerifyError::Version { file: META.to_owned(), found, known: VERSION });
        }
        Err(MetaError::Io(source)) => return Err(VerifyError::Io { action: "read", file: META.to_owned(), source }),
    };
    let report = Report {
        identity: meta.identity.clone(),
        segments: Vec::new(),
        entries: 0,
        last: None,
        committed: meta.committed,
        vote: meta.vote,
        epoch: meta.epoch,
        superseded_by: meta.superseded_by,
        segment_bytes: meta.segment_bytes,
        tail: None,
        damage: meta_damage,
    };
    let (total, hasher) = (total_bytes(&dir)?, blake3::Hasher::new());
    let mut check = Check { report, done: 0, total, progress, hasher, visit };
    if check.report.damage.is_none() {
        match check.run(&dir, &meta) {
            Ok(()) => {}
            // Here bytes that cannot be read back are as good as lost: this is what tells which.
            Err(ExamineError::Damaged(damage) | ExamineError::Unreadable { damage, .. }) => {
                check.report.damage = Some(damage);
            }
            Err(ExamineError::Version { file, found }) => {
                return Err(VerifyError::Version { file, found, known: VERSION });
            }
            Err(ExamineError::Io { file, source }) => return Err(VerifyError::Io { action: "read", file, source }),
        }
    }
    Ok(check.report)
}

fn no_meta(dir: &Dir) -> VerifyError {
    match meta_was_lost(dir) {
        Ok(Some(damage)) => damage.into(),
        Ok(None) => VerifyError::NotFormatted { dir: dir.path.clone() },
        Err(source) => VerifyError::Io { action: "list", file: dir.path.display().to_string(), source },
    }
}

fn total_bytes(dir: &Dir) -> Result<u64, VerifyError> {
    let error = |file: &str| {
        let file = file.to_owned();
        move |source| VerifyError::Io { action: "read", file, source }
    };
    let mut total = 0;
    for name in dir.list().map_err(error("."))?.iter().filter(|name| segment_ordinal(name).is_some()) {
        total += dir.open(name, false).and_then(|file| file.len()).map_err(error(name))?;
    }
    Ok(total)
}

struct Check<'a, P> {
    report: Report,
    done: u64,
    total: u64,
    progress: P,
    hasher: blake3::Hasher,
    visit: Option<Visit<'a>>,
}

impl<P: FnMut(Progress)> Check<'_, P> {
    fn run(&mut self, dir: &Dir, meta: &crate::meta::Meta) -> Result<(), ExamineError> {
        let layout = Layout::examine(dir, false, |sealed, file| self.sealed(sealed, file))?;
        let tail = layout.examine_tail(meta, |ordinal, frame| {
            self.frame(ordinal, frame, false);
            Ok(())
        });
        self.finish_digest();
        let tail = tail?;
        self.report.tail = Some(match (meta.truncation, tail.end) {
            (Some(from_index), _) => TailState::TruncationPending { from_index },
            (None, End::Cut { torn_bytes }) => TailState::Torn { bytes: torn_bytes },
            (None, End::Clean) => TailState::Clean,
        });
        self.step(0);
        Ok(())
    }

    fn step(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(Progress { bytes_done: self.done, bytes_total: self.total, entries: self.report.entries });
    }

    /// Notes a good frame.
    fn frame(&mut self, ordinal: u64, frame: &Frame, is_sealed: bool) {
        let (id, len) = (frame.id(), frame.bytes.len() as u64);
        let name = segment_name(ordinal);
        if self.report.segments.last().is_none_or(|segment| segment.name != name) {
            self.finish_digest();
            self.report.segments.push(SegmentReport {
                name,
                first: id,
                last: id,
                entries: 0,
                bytes: 0,
                digest: [0; 32],
                sealed: false,
            });
        }
        self.hasher.update(&frame.bytes);
        if let Some(visit) = &mut self.visit
            && let Some(entry) = frame.entry()
        {
            // Nothing is sealed before it is committed.
            visit(&entry, is_sealed || self.report.committed.is_some_and(|committed| id.index <= committed.index));
        }
        if let Some(segment) = self.report.segments.last_mut() {
            segment.last = id;
            segment.entries += 1;
            segment.bytes += len;
        }
        self.report.entries += 1;
        self.report.last = Some(id);
        let before = self.done >> 22;
        self.done += len;
        // About every 4 MiB.
        if self.done >> 22 != before {
            self.step(0);
        }
    }

    fn finish_digest(&mut self) {
        if let Some(segment) = self.report.segments.last_mut().filter(|segment| !segment.sealed) {
            segment.digest = *self.hasher.finalize().as_bytes();
        }
        self.hasher.reset();
    }

    fn sealed(&mut self, sealed: &Sealed, file: &dyn File) -> Result<(), ExamineError> {
        let name = sealed.name();
        let ordinal = sealed.info.ordinal;
        let damaged = |offset, last_good, reason| {
            Err(ExamineError::Damaged(Damage { segment: name.clone(), offset, last_good, reason }))
        };
        let trailer = &sealed.trailer;
        let before = self.report.last;
        let mut scan = Scan::new(file, HEADER_BYTES as u64, trailer.end, before)
            .map_err(|source| ExamineError::unreadable(ordinal, 0, before, source))?;
        while scan.offset < trailer.end {
            let (offset, last) = (scan.offset, scan.last);
            match scan.step().map_err(|source| ExamineError::unreadable(ordinal, offset, last, source))? {
                Step::Frame(frame) => self.frame(ordinal, &frame, true),
                Step::Bad { reason, .. } => return damaged(scan.offset, scan.last, reason),
                Step::End => return damaged(scan.offset, scan.last, DamageReason::EntryHead),
            }
        }
        self.finish_digest();
        if let Some(segment) = self.report.segments.last_mut() {
            segment.sealed = true;
            if segment.digest != trailer.digest || Some(trailer.last) != self.report.last {
                return damaged(HEADER_BYTES as u64, scan.last, DamageReason::Digest);
            }
        }
        match check_footer(trailer, file) {
            Ok(()) => Ok(()),
            Err(FooterError::Damaged { offset, part }) => damaged(offset, scan.last, DamageReason::Footer { part }),
            Err(FooterError::Io { offset, source }) => {
                Err(ExamineError::unreadable(ordinal, offset, scan.last, source))
            }
        }
    }
}

/// Checks what of the footer was not checked when the segment was loaded (trailer, state and filter were).
pub(crate) fn check_footer(trailer: &Trailer, file: &dyn File) -> Result<(), FooterError> {
    let mut check = FooterCheck::default();
    while check.step(trailer, file, u64::MAX)? > 0 {}
    Ok(())
}

/// How far the check of a footer has come.
#[derive(Default)]
pub(crate) struct FooterCheck {
    /// Key blocks that verify.
    blocks: u64,
    last: Option<(u64, u32)>,
    done: bool,
}

impl FooterCheck {
    /// Checks about `max_bytes` more, at least one part; how many bytes were read, 0 once all is checked.
    pub(crate) fn step(&mut self, trailer: &Trailer, file: &dyn File, max_bytes: u64) -> Result<u64, FooterError> {
        if self.done {
            return Ok(0);
        }
        let mut read = 0;
        while self.blocks < trailer.blocks() && read < max_bytes {
            let range = trailer.key_block(self.blocks);
            let damaged = |part| FooterError::Damaged { offset: range.offset, part };
            let block = read_range(file, range)?;
            for pair in parse_key_block(&block).ok_or_else(|| damaged("keys"))? {
                if self.last.is_some_and(|last| last >= pair) {
                    return Err(damaged("order of the keys"));
                }
                self.last = Some(pair);
            }
            self.blocks += 1;
            read += range.len;
        }
        if self.blocks < trailer.blocks() {
            return Ok(read);
        }
        let range = trailer.directory();
        if Directory::parse(trailer, &read_range(file, range)?).is_none() {
            return Err(FooterError::Damaged { offset: range.offset, part: "directory" });
        }
        let padding = trailer.padding();
        if read_range(file, padding)?.iter().any(|&byte| byte != 0) {
            return Err(FooterError::Damaged { offset: padding.offset, part: "padding" });
        }
        self.done = true;
        // Never 0: that says that nothing is left.
        Ok((read + range.len + padding.len).max(1))
    }
}

fn read_range(file: &dyn File, range: Range) -> Result<Bytes, FooterError> {
    read_exact(file, range.offset, range.len).map_err(|source| FooterError::Io { offset: range.offset, source })
}
