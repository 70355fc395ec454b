//! Mends a damaged segment with entries that a peer still has. Asks nobody itself: it says what is wanted, and takes what it
//! is given only if that is, to the byte, what stood here.
//!
//! ```text
//! Mending::begin ─► wanted() ─► (a peer) ─► mend() : splice ─► repair.tmp, synced ─► read back and checked
//!                                                      ─► the damaged file kept aside ─► renamed over it ─► synced
//! ```
//! A crash at any point leaves the damaged segment or the mended one, never anything between. Nothing is ever cut: a mended
//! chronicle ends where it ended.

mod patient;
mod splice;
mod wounds;

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;

use crate::{
    Epoch, Identity, LogId,
    disk::{Dir, Disk, LockGuard},
    error::{Damage, DamageReason, MendError},
    examine::{ExamineError, Layout},
    layout::{META, segment_name, segment_ordinal},
    meta::{Meta, MetaError, MetaFile},
    options::Fold,
    recover::meta_was_lost,
};

use patient::Patient;
use wounds::{SurveyError, Wound};

/// Entries that a peer is asked for: `from..=to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first one missing here.
    pub from: u64,
    /// The last one missing here. What a peer knows of the chain of records behind it can be compared.
    pub last: u64,
    /// The last one asked for: where it lies behind `last` it is known here, and must be the same there.
    pub to: u64,
}

/// What was done to a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The segment file.
    pub segment: String,
    /// Entries that came from a peer.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the damaged file is kept; `None` if it was missing or could not be kept.
    pub kept_as: Option<String>,
}

/// One damaged segment of a chronicle that is not open. Holds the directory until it is dropped.
pub struct Mending {
    dir: Dir,
    meta: Meta,
    damage: Damage,
    patient: Patient,
    wounds: Vec<Wound>,
    /// Where the entries end, if that is known before the wounds are closed.
    end: Option<u64>,
    _lock: Box<dyn LockGuard>,
}

impl Mending {
    /// Looks for the first damaged segment of the chronicle in `dir` as opening would, and within the segment of `suspect`,
    /// which a reader met, also where opening does not look. `None` if nothing is damaged there. Reads only.
    ///
    /// # Errors
    /// [`MendError::Beyond`] where no peer can help: a damaged meta file, or damage at the very end of the log.
    pub fn begin(disk: &Arc<dyn Disk>, dir: &Path, suspect: Option<&Damage>) -> Result<Option<Mending>, MendError> {
        let dir = Dir { disk: Arc::clone(disk), path: dir.to_owned() };
        let lock = dir.disk.lock(&dir.path.join(META)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => no_meta(&dir),
            _ => MendError::io("lock", META)(source),
        })?;
        let meta = match MetaFile::open(&dir, false) {
            Ok(file) => file.meta,
            Err(MetaError::Damaged { slot, .. }) => {
                let (offset, reason) = MetaError::damage(slot);
                return Err(meta_is_lost(Damage { segment: META.to_owned(), offset, last_good: None, reason }));
            }
            Err(MetaError::Missing) => return Err(no_meta(&dir)),
            Err(MetaError::Version(found)) => return Err(MendError::Version { file: META.to_owned(), found }),
            Err(MetaError::Io(source)) => return Err(MendError::io("read", META)(source)),
        };
        let examined = Layout::examine(&dir, false, |_, _| Ok(()))
            .and_then(|layout| layout.examine_tail(&meta, |_, _| Ok(())).map(drop));
        let (damage, stops_opening) = match examined {
            Err(ExamineError::Damaged(damage) | ExamineError::Unreadable { damage, .. }) => (damage, true),
            Err(ExamineError::Version { file, found }) => return Err(MendError::Version { file, found }),
            Err(ExamineError::Io { file, source }) => return Err(MendError::io("read", file)(source)),
            Ok(()) => match suspect.filter(|suspect| segment_ordinal(&suspect.segment).is_some()) {
                Some(suspect) => (suspect.clone(), false),
                None => return Ok(None),
            },
        };
        match Self::look(dir, meta, damage.clone(), lock)? {
            None if stops_opening => {
                let why = "entries at the end of the log are gone, and nothing says which they were".to_owned();
                Err(MendError::Beyond { damage, why })
            }
            found => Ok(found),
        }
    }

    /// The wounds of the damaged segment; `None` if there is nothing wrong with it.
    fn look(dir: Dir, meta: Meta, damage: Damage, lock: Box<dyn LockGuard>) -> Result<Option<Mending>, MendError> {
        let beyond = |damage: &Damage, why: &str| MendError::Beyond { damage: damage.clone(), why: why.to_owned() };
        let Some(mut ordinal) = segment_ordinal(&damage.segment) else {
            return Err(beyond(&damage, "it is no segment"));
        };
        if matches!(damage.reason, DamageReason::Missing { .. }) && patient::is_used(&dir, ordinal + 1)? {
            // The entries do not end early: the header of the segment behind is lost.
            ordinal += 1;
        }
        let patient = Patient::find(&dir, ordinal).map_err(|error| error.of(&damage))?;
        let found = match &patient.file {
            Some(file) => wounds::survey(&**file, &patient.bounds),
            None => {
                let unknown = wounds::Unknown { offset: 0, last_good: patient.bounds.before };
                patient.all_of_it().ok_or(SurveyError::Unknown(unknown))
            }
        };
        let mut survey = match found {
            Ok(survey) => survey,
            Err(SurveyError::Io(source)) => return Err(MendError::io("read", segment_name(ordinal))(source)),
            Err(SurveyError::Unknown(unknown)) => {
                let damage = Damage {
                    segment: segment_name(ordinal),
                    offset: unknown.offset,
                    last_good: unknown.last_good,
                    ..damage
                };
                let why = "it is at the end of the log, where nothing that is intact says what stood there";
                return Err(beyond(&damage, why));
            }
        };
        if survey.wounds.is_empty() {
            if patient.digest_differs(&survey) {
                // Whole frames that are not those that were sealed.
                survey = patient.all_of_it().ok_or_else(|| beyond(&damage, "nothing says what the segment held"))?;
            } else if patient.is_sound(&survey) {
                return Ok(None);
            }
        }
        let wounds::Survey { wounds, end, .. } = survey;
        Ok(Some(Mending { dir, meta, damage, patient, wounds, end, _lock: lock }))
    }

    /// What was found.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Whose chronicle this is.
    pub fn identity(&self) -> &Identity {
        &self.meta.identity
    }

    /// The epoch that it is part of.
    pub fn epoch(&self) -> Epoch {
        self.meta.epoch
    }

    /// Where this chronicle's segments are cut, once that is known.
    pub fn segment_bytes(&self) -> Option<u64> {
        self.meta.segment_bytes.map(std::num::NonZero::get)
    }

    /// What a peer must give, in order. Empty where everything that is lost can be made again from what is here.
    pub fn wanted(&self) -> Vec<Wanted> {
        let wanted = self.wounds.iter();
        wanted.map(|it| Wanted { from: it.first, last: it.last, to: it.last + it.shown_behind() }).collect()
    }

    /// Shows every entry that can still be read, oldest first, beginning with the newest sealed segment whose footer is
    /// intact; `on_state` sees that footer's state. For whoever must find out who the peers are.
    ///
    /// # Errors
    /// The disk's.
    pub fn salvage(&self, on_state: impl FnOnce(&[u8]), on_entry: impl FnMut(&crate::Entry)) -> Result<(), MendError> {
        patient::salvage(&self.dir, on_state, on_entry)
    }

    /// Closes the wounds with `frames`, one piece for each of [`Mending::wanted`]: whole frames, as [`crate::Chronicle::read_frames`]
    /// gives them. `fold` follows all entries of the segment, from the newest state before it; then `approve` has the last
    /// word, before anything is replaced.
    ///
    /// # Errors
    /// [`MendError::Refused`] where the frames are not what stood here, and nothing was changed; another peer may have them.
    pub fn mend<F: Fold>(
        &self,
        frames: &[Bytes],
        fold: &mut F,
        approve: impl FnOnce(&F) -> Result<(), String>,
    ) -> Result<Mended, MendError> {
        splice::mend(self, frames, fold, approve)
    }

    fn refused(&self, why: impl Into<String>) -> MendError {
        MendError::Refused { segment: self.patient.name(), why: why.into() }
    }

    /// The entry before the segment.
    fn before(&self) -> Option<LogId> {
        self.patient.bounds.before
    }
}

fn meta_is_lost(damage: Damage) -> MendError {
    MendError::Beyond { damage, why: "it holds this node's vote, which no peer knows".to_owned() }
}

fn no_meta(dir: &Dir) -> MendError {
    match meta_was_lost(dir) {
        Ok(Some(damage)) => meta_is_lost(damage),
        Ok(None) => MendError::io("open", META)(io::ErrorKind::NotFound.into()),
        Err(source) => MendError::io("list", dir.path.display().to_string())(source),
    }
}
