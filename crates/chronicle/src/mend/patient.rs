//! One segment that is to be mended: what its neighbours and its own footer say of it.

use std::{collections::BTreeSet, io, sync::Arc};

use bytes::Bytes;

use super::wounds::{Anchor, Bounds, Survey, Wound};
use crate::{
    Entry, LogId,
    disk::{Dir, File},
    error::{Damage, MendError},
    footer::{TRAILER_BYTES, Trailer},
    frame::{HEAD_BYTES, Head},
    layout::{BLOCK_BYTES, HEADER_BYTES, Header, HeaderFound, segment_name, segment_ordinal},
    scan::{Scan, Step, last_nonzero, read_exact},
    sealed::Sealed,
    verify::check_footer,
};

pub(super) struct Patient {
    pub(super) ordinal: u64,
    /// `None` if it is missing.
    pub(super) file: Option<Arc<dyn File>>,
    pub(super) len: u64,
    pub(super) bounds: Bounds,
    /// Its own, if it verifies.
    pub(super) trailer: Option<Trailer>,
    /// The whole footer verifies.
    footer_is_good: bool,
    header_is_good: bool,
    /// A segment behind it is sealed, so this one was.
    pub(super) was_sealed: bool,
    /// The newest segment before it that is sealed and whose footer verifies.
    pub(super) base: Option<Sealed>,
    /// Segments between the base and this one.
    pub(super) between: Vec<Between>,
}

/// An unsealed segment before the damaged one.
pub(super) struct Between {
    pub(super) file: Arc<dyn File>,
    /// Its entries end before this index.
    pub(super) until: Option<u64>,
}

/// Why the neighbours do not say enough.
pub(super) enum PatientError {
    Beyond(&'static str),
    Io(String, io::Error),
}

impl PatientError {
    pub(super) fn of(self, damage: &Damage) -> MendError {
        match self {
            Self::Beyond(why) => MendError::Beyond { damage: damage.clone(), why: why.to_owned() },
            Self::Io(file, source) => MendError::io("read", file)(source),
        }
    }
}

fn io_error(ordinal: u64) -> impl Fn(io::Error) -> PatientError {
    move |source| PatientError::Io(segment_name(ordinal), source)
}

impl Patient {
    pub(super) fn find(dir: &Dir, ordinal: u64) -> Result<Patient, PatientError> {
        let file = open(dir, ordinal)?;
        let len = match &file {
            Some(file) => file.len().map_err(io_error(ordinal))?,
            None => 0,
        };
        let trailer = file.as_deref().and_then(|file| trailer(file, ordinal, len));
        let header = file.as_deref().and_then(header);
        let next = next(dir, ordinal)?;
        let was_sealed = trailer.is_some() || is_sealed_behind(dir, ordinal)?;
        let own_first = header
            .filter(|header| header.ordinal == ordinal)
            .map(|header| header.first)
            .or(trailer.as_ref().map(|trailer| trailer.first.index));
        let (base, mut between) = base_before(dir, ordinal)?;
        if let Some(last) = between.last_mut() {
            last.until = own_first;
        }
        let before = last_of(base.as_ref().map(|base| base.info.last), &between, |_| {})
            .map_err(io_error(ordinal.saturating_sub(1)))?;
        let first = before.map_or(0, |id| id.index + 1);
        if own_first.is_some_and(|own| own != first) {
            return Err(PatientError::Beyond(
                "the segment before it is damaged as well, and where this one begins is not certain",
            ));
        }
        let bounds = Bounds { before, trailer: trailer.as_ref().map(|it| (it.end, it.last)), next };
        let mut patient = Patient {
            ordinal,
            file,
            len,
            bounds,
            trailer,
            footer_is_good: false,
            header_is_good: header == Some(Header { ordinal, first }),
            was_sealed,
            base,
            between,
        };
        patient.footer_is_good = patient.has_good_footer();
        Ok(patient)
    }

    pub(super) fn name(&self) -> String {
        segment_name(self.ordinal)
    }

    pub(super) fn first(&self) -> u64 {
        self.bounds.before.map_or(0, |id| id.index + 1)
    }

    fn has_good_footer(&self) -> bool {
        let (Some(trailer), Some(file)) = (&self.trailer, &self.file) else { return false };
        Sealed::load(&**file, self.ordinal).is_ok() && check_footer(trailer, &**file).is_ok()
    }

    /// Whether the footer can stay as it is.
    pub(super) fn keeps_footer(&self) -> bool {
        self.footer_is_good
    }

    /// Whole frames stand here, and they are not those that were sealed.
    pub(super) fn digest_differs(&self, survey: &Survey) -> bool {
        let Some(trailer) = &self.trailer else { return false };
        survey.digest.is_some_and(|digest| digest != trailer.digest) || survey.end.is_some_and(|end| end != trailer.end)
    }

    /// Nothing is wrong with a segment without wounds.
    pub(super) fn is_sound(&self, survey: &Survey) -> bool {
        let as_sealed = self.footer_is_good || !self.was_sealed && self.len.is_multiple_of(BLOCK_BYTES);
        self.header_is_good && as_sealed && survey.wounds.is_empty()
    }

    /// The whole segment as one wound, if it can be told where it ends.
    pub(super) fn all_of_it(&self) -> Option<Survey> {
        let (end, last, anchor) = match (self.bounds.trailer, self.bounds.next) {
            (Some((end, last)), _) => (Some(end), last.index, Anchor::Last(last)),
            (None, Some((next, Some(id)))) => (None, next.checked_sub(1)?, Anchor::Next(id)),
            _ => return None,
        };
        let offset = HEADER_BYTES as u64;
        let wound = Wound { offset, end, first: self.first(), last, before: self.bounds.before, anchor };
        Some(Survey { wounds: vec![wound], end, digest: None })
    }
}

fn open(dir: &Dir, ordinal: u64) -> Result<Option<Arc<dyn File>>, PatientError> {
    match dir.open(&segment_name(ordinal), false) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(ordinal)(error)),
    }
}

fn header(file: &dyn File) -> Option<Header> {
    let mut bytes = [0; HEADER_BYTES];
    let n = file.read_at(&mut bytes, 0).ok()?;
    match Header::parse(&bytes) {
        HeaderFound::Good(header) if n == HEADER_BYTES => Some(header),
        _ => None,
    }
}

fn trailer(file: &dyn File, ordinal: u64, len: u64) -> Option<Trailer> {
    if len.is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    let bytes = read_exact(file, len.checked_sub(TRAILER_BYTES as u64)?, TRAILER_BYTES as u64).ok()?;
    Trailer::parse(&bytes, len).filter(|trailer| trailer.ordinal == ordinal)
}

/// Whether the segment file is there and holds anything.
pub(super) fn is_used(dir: &Dir, ordinal: u64) -> Result<bool, MendError> {
    let failed = |source| MendError::io("read", segment_name(ordinal))(source);
    match dir.open(&segment_name(ordinal), false) {
        Ok(file) => Ok(last_nonzero(&*file, 0).map_err(failed)?.is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// The first index of the segment behind, and its first entry, as far as either can be told.
fn next(dir: &Dir, ordinal: u64) -> Result<Option<(u64, Option<LogId>)>, PatientError> {
    let Some(file) = open(dir, ordinal + 1)? else { return Ok(None) };
    let len = file.len().map_err(io_error(ordinal + 1))?;
    if let Some(trailer) = trailer(&*file, ordinal + 1, len) {
        return Ok(Some((trailer.first.index, Some(trailer.first))));
    }
    let named = header(&*file).filter(|header| header.ordinal == ordinal + 1).map(|header| header.first);
    let head = read_exact(&*file, HEADER_BYTES as u64, HEAD_BYTES as u64).ok();
    let id = head.and_then(|head| Head::parse(&head)).map(|head| head.id);
    let id = id.filter(|id| named.is_none_or(|first| id.index == first));
    Ok(named.or(id.map(|id| id.index)).map(|first| (first, id)))
}

/// Segments are sealed in order: one that is sealed behind says that this one was.
fn is_sealed_behind(dir: &Dir, ordinal: u64) -> Result<bool, PatientError> {
    for behind in ordinals(dir)?.range(ordinal + 1..) {
        let Some(file) = open(dir, *behind)? else { continue };
        let len = file.len().map_err(io_error(*behind))?;
        if trailer(&*file, *behind, len).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ordinals(dir: &Dir) -> Result<BTreeSet<u64>, PatientError> {
    let names = dir.list().map_err(|source| PatientError::Io(".".to_owned(), source))?;
    Ok(names.iter().filter_map(|name| segment_ordinal(name)).collect())
}

/// The newest sealed segment before this one whose footer verifies, and those between.
fn base_before(dir: &Dir, ordinal: u64) -> Result<(Option<Sealed>, Vec<Between>), PatientError> {
    let mut between: Vec<Between> = Vec::new();
    for earlier in (0..ordinal).rev() {
        let file = open(dir, earlier)?.ok_or(PatientError::Beyond("the segment before it is missing as well"))?;
        let len = file.len().map_err(io_error(earlier))?;
        if !len.is_multiple_of(BLOCK_BYTES)
            && let Ok(sealed) = Sealed::load(&*file, earlier)
        {
            between.reverse();
            return Ok((Some(sealed), between));
        }
        if let Some(behind) = between.last() {
            let until = header(&*behind.file).map(|header| header.first);
            between.push(Between { file, until });
        } else {
            between.push(Between { file, until: None });
        }
    }
    between.reverse();
    Ok((None, between))
}

/// Walks the entries behind `base`; the last one.
pub(super) fn last_of(
    base: Option<LogId>,
    between: &[Between],
    mut on_entry: impl FnMut(&Entry),
) -> io::Result<Option<LogId>> {
    let mut last = base;
    for Between { file, until } in between {
        let mut scan = Scan::new(&**file, HEADER_BYTES as u64, u64::MAX, last)?;
        while *until != Some(scan.next_index()) {
            let Step::Frame(frame) = scan.step()? else { break };
            if let Some(entry) = frame.entry() {
                on_entry(&Entry { payload: Bytes::copy_from_slice(&entry.payload), ..entry });
            }
        }
        last = scan.last;
    }
    Ok(last)
}

/// See [`super::Mending::salvage`].
pub(super) fn salvage(
    dir: &Dir,
    on_state: impl FnOnce(&[u8]),
    mut on_entry: impl FnMut(&Entry),
) -> Result<(), MendError> {
    let failed = |error: PatientError| match error {
        PatientError::Io(file, source) => MendError::io("read", file)(source),
        PatientError::Beyond(why) => MendError::io("read", ".")(io::Error::other(why)),
    };
    let ordinals = ordinals(dir).map_err(failed)?;
    let mut base = None;
    for &ordinal in ordinals.iter().rev() {
        let Some(file) = open(dir, ordinal).map_err(failed)? else { continue };
        let Ok(sealed) = Sealed::load(&*file, ordinal) else { continue };
        on_state(&sealed.info.state);
        base = Some(ordinal);
        break;
    }
    for &ordinal in ordinals.iter().filter(|ordinal| base.is_none_or(|base| **ordinal > base)) {
        let Some(file) = open(dir, ordinal).map_err(failed)? else { continue };
        let Some(first) = header(&*file).map(|header| header.first) else { continue };
        // The term of the entry before is not known here, and nothing depends on it.
        let before = first.checked_sub(1).map(|index| LogId::new(0, index));
        let mut scan =
            Scan::new(&*file, HEADER_BYTES as u64, u64::MAX, before).map_err(io_error(ordinal)).map_err(failed)?;
        while let Ok(Step::Frame(frame)) = scan.step() {
            frame.entry().iter().for_each(&mut on_entry);
        }
    }
    Ok(())
}
