//! Opening: check, cut what a crash left, write the unsynced tail once more, sync, and only then report it.

use std::{io, num::NonZero, path::Path, sync::Arc};

use crate::{
    MAX_SITE_BYTES,
    ahead::{self, Space},
    disk::{Dir, Disk, File, LockGuard},
    error::{Damage, DamageReason, FormatError, OpenError},
    examine::{End, ExamineError, Layout, Segment, Tail},
    footer::Trailer,
    layout::{BLOCK_BYTES, META, META_TEMPORARY, REPAIR, SPARE, VERSION, file_bytes, segment_name, segment_ordinal},
    log::{Log, OpenSegment},
    meta::{Meta, MetaError, MetaFile},
    options::Options,
    planted::{self, Planted},
    scan::{read_exact, write_zeros},
    types::Identity,
    writer::Current,
};

/// How much of the tail is written again at a time.
const REWRITE_BYTES: u64 = 1 << 20;

/// What opening found, ready to be written to.
pub(crate) struct Recovered {
    pub(crate) meta: MetaFile,
    pub(crate) log: Log,
    pub(crate) current: Current,
    /// The file made ahead of its use that follows `current`, if there is one.
    pub(crate) spare: Option<Arc<dyn File>>,
    pub(crate) lock: Box<dyn LockGuard>,
}

/// See [`crate::format`].
pub(crate) fn format(disk: &Arc<dyn Disk>, path: &Path, identity: &Identity) -> Result<(), FormatError> {
    let dir = Dir { disk: Arc::clone(disk), path: path.to_owned() };
    let error = |action, file: &str| {
        let file = if file == "." { path.display().to_string() } else { file.to_owned() };
        move |source| FormatError::Io { action, file, source }
    };
    if identity.site.is_empty() || identity.site.len() > MAX_SITE_BYTES {
        return Err(FormatError::Site { bytes: identity.site.len(), limit: MAX_SITE_BYTES });
    }
    disk.create_dir(path).map_err(error("make", "."))?;
    // What a crash left of an earlier attempt is nobody's data.
    if let Some(found) = dir.list().map_err(error("list", "."))?.into_iter().find(|name| name != META_TEMPORARY) {
        return Err(FormatError::NotEmpty { dir: path.to_owned(), found });
    }
    MetaFile::create(&dir, &Meta::new(identity.clone())).map_err(error("write", META))
}

/// See [`crate::read_identity`].
pub(crate) fn read_identity(disk: &Arc<dyn Disk>, path: &Path) -> Result<Identity, OpenError> {
    let dir = Dir { disk: Arc::clone(disk), path: path.to_owned() };
    Ok(open_meta(&dir, false)?.meta.identity)
}

/// There is no meta file: nothing was ever formatted here, or it is lost, which is damage like any other.
fn no_meta(dir: &Dir) -> OpenError {
    match meta_was_lost(dir) {
        Ok(Some(damage)) => damage.into(),
        Ok(None) => OpenError::NotFormatted { dir: dir.path.clone() },
        Err(source) => OpenError::Io { action: "list", file: dir.path.display().to_string(), source },
    }
}

/// The damage, if segments stand where no meta file does.
pub(crate) fn meta_was_lost(dir: &Dir) -> io::Result<Option<Damage>> {
    let names = match dir.list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    let has_segments = names.iter().any(|name| segment_ordinal(name).is_some());
    let damage = Damage { segment: META.to_owned(), offset: 0, last_good: None, reason: DamageReason::MetaMissing };
    Ok(has_segments.then_some(damage))
}

fn open_meta(dir: &Dir, write: bool) -> Result<MetaFile, OpenError> {
    MetaFile::open(dir, write).map_err(|error| match error {
        MetaError::Missing => no_meta(dir),
        MetaError::Version(found) => OpenError::Version { file: META.to_owned(), found, known: VERSION },
        MetaError::Io(source) => OpenError::Io { action: "read", file: META.to_owned(), source },
        MetaError::Damaged { slot, .. } => {
            let (offset, reason) = MetaError::damage(slot);
            Damage { segment: META.to_owned(), offset, last_good: None, reason }.into()
        }
    })
}

impl From<ExamineError> for OpenError {
    fn from(error: ExamineError) -> Self {
        match error {
            ExamineError::Damaged(damage) => Self::Damaged(damage),
            ExamineError::Version { file, found } => Self::Version { file, found, known: VERSION },
            ExamineError::Io { file, source } => Self::Io { action: "read", file, source },
            // Another start may be able to read it; verification says whether that is so.
            ExamineError::Unreadable { damage: Damage { segment, offset, .. }, source } => {
                Self::Io { action: "read", file: format!("{segment} at byte {offset}"), source }
            }
        }
    }
}

/// Opens the directory of `options` and makes everything in it durable.
pub(crate) fn recover(dir: &Dir, options: &Options) -> Result<Recovered, OpenError> {
    let lock = match dir.disk.lock(&dir.path.join(META)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_meta(dir)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(OpenError::InUse { dir: dir.path.clone() });
        }
        Err(error) => return Err(OpenError::io("lock", META)(error)),
    };
    let mut meta = open_meta(dir, true)?;
    check_identity(dir, options, &meta.meta.identity)?;
    if let Some(recorded) = meta.meta.segment_bytes.filter(|recorded| recorded.get() != options.segment_bytes) {
        let (recorded, configured) = (recorded.get(), options.segment_bytes);
        return Err(OpenError::SegmentBytes { dir: dir.path.clone(), recorded, configured });
    }
    meta.meta.segment_bytes = NonZero::new(options.segment_bytes);
    let mut log = Log::default();
    let mut keys = Vec::new();
    let layout = Layout::examine(dir, true, |_, _| Ok(()))?;
    if let Some(id) = layout.last_sealed() {
        log.extend(id);
    }
    let tail = layout.examine_tail(&meta.meta, |_, frame| {
        log.extend(frame.id());
        if let Some(entry) = frame.entry() {
            (options.keys)(&entry, &mut keys);
            keys.drain(..).for_each(|key| log.keys.insert(entry.id.index, key));
        }
        Ok(())
    })?;
    log.sealed = layout.sealed.into_iter().map(Arc::new).collect();

    // From here on the directory is written to. First of all the meta file: like entries, a vote or the end of a
    // truncation may be readable though its sync failed, and nothing may be built on what a power cut can take back.
    meta.save().map_err(OpenError::io("write and sync", META))?;
    dir.remove(SPARE).map_err(OpenError::io("remove", SPARE))?;
    dir.remove(REPAIR).map_err(OpenError::io("remove", REPAIR))?;
    let next_ordinal = tail.segments.last().map_or(log.sealed.len() as u64, |segment| segment.ordinal + 1);
    let files = layout.unsealed.into_iter().chain(layout.unused);
    let mut spare = files.filter(|found| found.ordinal >= next_ordinal).map(|found| (found.ordinal, found)).collect();
    cut(dir, &mut meta, &tail, &mut spare)?;
    if let Some(sealed) = log.sealed.last() {
        rewrite_footer(dir, &sealed.trailer).map_err(OpenError::io("write and sync the footer of", sealed.name()))?;
    }
    for segment in tail.segments.iter().filter(|_| !planted::is(Planted::UnsyncedTail)) {
        rewrite(segment, meta.meta.durable).map_err(OpenError::io("write and sync", segment_name(segment.ordinal)))?;
    }
    // A crash may have emptied a segment that already had its successor made: one file ahead is enough, and every
    // other would be in the way.
    let current_ordinal = tail.segments.last().map_or(next_ordinal, |segment| segment.ordinal);
    remove_all(dir, spare.split_off(&(current_ordinal + 2)))?;
    // A file may also have been given its name just before the process was killed.
    dir.sync().map_err(OpenError::io("sync", "."))?;

    let current = match tail.segments.last() {
        Some(segment) => {
            let len = lengthen(segment, options.segment_bytes)
                .map_err(OpenError::io("lengthen", segment_name(segment.ordinal)))?;
            Current::new(segment.ordinal, Arc::clone(&segment.file), segment.end, len)
        }
        None => {
            let file = match spare.remove(&next_ordinal) {
                Some(found) => found.file,
                None => ahead::make(dir, next_ordinal, options.segment_bytes, Space::Filled, 0, &|| false)
                    .map_err(OpenError::io("make", segment_name(next_ordinal)))?,
            };
            let len = file.len().map_err(OpenError::io("read", segment_name(next_ordinal)))?;
            Current::new(next_ordinal, file, 0, len)
        }
    };
    let spare = spare.remove(&(current.ordinal + 1)).map(|found| found.file);
    meta.meta.durable = tail.last.map(|id| id.index);
    log.flushed = tail.last;
    // The meta file may have fallen behind; a segment is sealed only once all of it is committed.
    log.committed = meta.meta.committed.max(log.sealed.last().map(|sealed| sealed.info.last));
    log.open = tail.segments.into_iter().map(OpenSegment::from).collect();
    Ok(Recovered { meta, log, current, spare, lock })
}

impl From<Segment> for OpenSegment {
    fn from(segment: Segment) -> Self {
        let Segment { ordinal, file, first, offsets, end, len: _ } = segment;
        Self { ordinal, file, first, offsets, end }
    }
}

fn check_identity(dir: &Dir, options: &Options, found: &Identity) -> Result<(), OpenError> {
    if let Some(expected) = options.expect_node_id.filter(|expected| *expected != found.node_id) {
        return Err(OpenError::WrongNode { dir: dir.path.clone(), expected, found: found.node_id });
    }
    if let Some(expected) = options.expect_site.as_ref().filter(|expected| **expected != found.site) {
        return Err(OpenError::WrongSite {
            dir: dir.path.clone(),
            expected: expected.clone(),
            found: found.site.clone(),
        });
    }
    Ok(())
}

/// Files behind the last that holds entries, by ordinal.
type Spare = std::collections::BTreeMap<u64, crate::examine::Found>;

/// Removes what stands behind the last entry, under the same intent as a truncation, so that it is finished whenever
/// it was begun.
fn cut(dir: &Dir, meta: &mut MetaFile, tail: &Tail, spare: &mut Spare) -> Result<(), OpenError> {
    let End::Cut { torn_bytes } = tail.end else {
        if meta.meta.truncation.take().is_some() {
            // The crash came between the removal and the end of the intent.
            meta.save().map_err(OpenError::io("write", META))?;
        }
        return Ok(());
    };
    if meta.meta.truncation.is_none() {
        tracing::warn!(
            dir = %dir.path.display(), bytes = torn_bytes, next_index = tail.next_index(),
            "cutting the torn end of a batch that was never acknowledged"
        );
        meta.meta.truncation = Some(tail.next_index());
        meta.save().map_err(OpenError::io("write", META))?;
    }
    remove_all(dir, std::mem::take(spare))?;
    dir.sync().map_err(OpenError::io("sync", "."))?;
    if let Some(segment) = tail.segments.last() {
        let name = segment_name(segment.ordinal);
        // Over what is zeros already, too: an earlier attempt may have left them readable and not on the disk.
        write_zeros(&*segment.file, segment.end, segment.len).map_err(OpenError::io("write", &*name))?;
        segment.file.sync_data().map_err(OpenError::io("sync", &*name))?;
    }
    meta.meta.truncation = None;
    meta.save().map_err(OpenError::io("write", META))
}

/// Removes files, the last first, so that none is ever missing before another.
fn remove_all(dir: &Dir, files: Spare) -> Result<(), OpenError> {
    for ordinal in files.into_keys().rev() {
        let name = segment_name(ordinal);
        dir.remove(&name).map_err(OpenError::io("remove", name))?;
    }
    Ok(())
}

/// Writes the bytes behind the last entry that is known to be durable once more and syncs them: after a kill, bytes
/// may be readable whose sync failed, and a second sync alone would not write them.
fn rewrite(segment: &Segment, durable: Option<u64>) -> io::Result<()> {
    let first_unsynced = durable.map_or(0, |index| index + 1).max(segment.first);
    let n = (first_unsynced - segment.first) as usize;
    let Some(&offset) = segment.offsets.get(n) else { return Ok(()) };
    // Whole blocks. The first one takes the header along; the last one keeps the length of a file that was lengthened
    // for a huge entry a multiple of a block.
    let begin = if n == 0 { 0 } else { offset / BLOCK_BYTES * BLOCK_BYTES };
    let end = segment.end.next_multiple_of(BLOCK_BYTES).min(segment.len);
    write_again(&*segment.file, begin, end)?;
    segment.file.sync_all()
}

/// Makes the newest seal durable: it may be readable only because the process was killed, or its last sync failed, and
/// the keys of its entries are looked up nowhere else from here on. Older segments were sealed before this one was.
fn rewrite_footer(dir: &Dir, trailer: &Trailer) -> io::Result<()> {
    let file = dir.open(&segment_name(trailer.ordinal), true)?;
    write_again(&*file, trailer.end / BLOCK_BYTES * BLOCK_BYTES, trailer.file_bytes())?;
    file.sync_all()
}

/// Writes the bytes from `from` up to `to` once more, as they are read.
fn write_again(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let bytes = read_exact(file, at, REWRITE_BYTES.min(to - at))?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Gives a file that lost its end its zeros back.
fn lengthen(segment: &Segment, segment_bytes: u64) -> io::Result<u64> {
    let want = file_bytes(segment_bytes).max(segment.end.next_multiple_of(BLOCK_BYTES));
    if segment.len >= want && segment.len.is_multiple_of(BLOCK_BYTES) {
        return Ok(segment.len);
    }
    let want = want.max(segment.len.next_multiple_of(BLOCK_BYTES));
    write_zeros(&*segment.file, segment.len.max(segment.end), want)?;
    segment.file.sync_all()?;
    Ok(want)
}
