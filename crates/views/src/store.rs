//! The rows on disk: the one place that knows sled.
//!
//! sled is not trusted to keep a promise that the project needs: everything in it can be folded again. So what it gives
//! back is believed only if a sum over the rows ([`Meta::rows`]) agrees, which notices a torn spill, a row that went
//! missing and a row that came back from an older spill alike. Rows that never change again are not in the sum: manifests,
//! which are, list their digests, so that a start reads the manifests and not what they list.
//!
//! ```text
//! key   [channel id length u8][channel id][table u8][page u64 BE][part u16 BE]      [0] is the meta row
//! value [1 if more parts follow, else 0][up to 64 KiB of the row]                   parts keep values out of sled's blobs
//! ```

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use bincode::{Decode, Encode};

use crate::{
    applied::Applied,
    codec::{self, RowError},
    digests::SetDigest,
    rows::is_listed,
};

/// Bytes of one part of a row.
const PART_BYTES: usize = 64 << 10;
/// One sled batch takes about so many bytes of rows; a larger spill takes several, and its last has the meta row. While sled
/// takes a batch nobody reads from it.
const BATCH_BYTES: usize = if cfg!(test) { 256 << 10 } else { 4 << 20 };
const META_KEY: [u8; 1] = [0];
/// See [`count`].
const COUNTED_BYTES: usize = 2 << 10;

/// A logical row to be written.
pub(crate) struct Row {
    /// Without the part.
    key: Vec<u8>,
    bytes: Vec<u8>,
    hash: [u8; 32],
    /// A manifest of the same spill lists its digest.
    is_listed: bool,
}

impl Row {
    /// A page of one channel's table.
    pub(crate) fn new(channel_id: &str, table: u8, page: u64, bytes: Vec<u8>) -> Row {
        let key = key(channel_id, table, page);
        let hash = row_hash(&key, &bytes);
        Row { key, bytes, hash, is_listed: is_listed(table) }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.key.len() + self.bytes.len()
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// What is kept of a row that only the disk has.
    pub(crate) fn digest(&self) -> u64 {
        digest(&self.hash)
    }
}

/// What the rows speak for. In the last batch of every spill.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Meta {
    pub(crate) cluster_id: [u8; 16],
    /// Counts spills; the mark names the newest that was fsynced.
    pub(crate) spill: u64,
    /// In which boot of the machine it was written.
    pub(crate) boot_id: String,
    applied: AppliedRow,
    /// Sum of BLAKE3 over every other row that no manifest lists.
    rows: SetDigest,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AppliedRow {
    index: u64,
    term: u64,
    record_term: u64,
    sequence: u64,
    head: [u8; 32],
    accepted_at: Option<i64>,
}

impl From<Applied> for AppliedRow {
    fn from(applied: Applied) -> AppliedRow {
        let Applied { index, term, record_term, sequence, head, accepted_at } = applied;
        AppliedRow { index, term, record_term, sequence, head, accepted_at }
    }
}

impl From<&AppliedRow> for Applied {
    fn from(row: &AppliedRow) -> Applied {
        let AppliedRow { index, term, record_term, sequence, head, accepted_at } = *row;
        Applied { index, term, record_term, sequence, head, accepted_at }
    }
}

impl Meta {
    pub(crate) fn applied(&self) -> Applied {
        (&self.applied).into()
    }
}

/// Why rows cannot be used, or not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a row stands where none belongs")]
    Key,
    #[error("rows without a meta row")]
    NoMeta,
    #[error("the sum over the rows is not what the last spill left: it was torn, or the disk lost a part")]
    Sum,
}

/// sled, open.
pub(crate) struct Store {
    db: sled::Db,
    dir: PathBuf,
    /// Of what is in the database, `None` before the first spill.
    meta: Option<Meta>,
}

/// What a spill writes beside its rows.
pub(crate) struct Spill {
    pub(crate) cluster_id: [u8; 16],
    pub(crate) boot_id: String,
    pub(crate) applied: Applied,
}

impl Store {
    /// Opens or makes the database in `dir`.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Store, StoreError> {
        wait_until_closed(dir)?;
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes.max(1 << 20)).flush_every_ms(None);
        let db = guarded(|| Ok(config.open()?))?;
        let meta = match guarded(|| Ok(db.get(META_KEY)?))? {
            Some(bytes) => Some(codec::decode(&bytes)?),
            None if db.is_empty() => None,
            None => return Err(StoreError::NoMeta),
        };
        Ok(Store { db, dir: dir.to_owned(), meta })
    }

    pub(crate) fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// Gives every logical row that no manifest lists in order of its key, with its digest, then checks the sum over them.
    pub(crate) fn read<E: From<StoreError>>(
        &self,
        mut row: impl FnMut(&[u8], &[u8], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sum = SetDigest::default();
        let after_meta = [META_KEY[0], 0];
        let mut rows = self.db.range(after_meta..);
        let mut value = Vec::new();
        let mut part = 0u16;
        while let Some(item) = guarded(|| Ok(rows.next().transpose()?))? {
            let (key, bytes) = item;
            let (logical, number) = split_part(&key)?;
            let (channel_id, table, _) = split_key(logical)?;
            if is_listed(table) {
                rows = self.db.range(self::key(channel_id, table + 1, 0)..);
                continue;
            }
            let (&more, bytes) = bytes.split_first().ok_or(StoreError::Key)?;
            if number != part {
                return Err(StoreError::Key.into());
            }
            value.extend_from_slice(bytes);
            if more == 1 {
                part += 1;
                continue;
            }
            count(&self.db, &key, value.len())?;
            let hash = row_hash(logical, &value);
            sum.add(&hash);
            row(logical, &value, digest(&hash))?;
            value.clear();
            part = 0;
        }
        let expected = self.meta.as_ref().map(|meta| meta.rows).unwrap_or_default();
        if sum == expected && value.is_empty() { Ok(()) } else { Err(StoreError::Sum.into()) }
    }

    /// Writes changed rows and then the meta row; `between` is called before each batch after the first. Survives a
    /// killed process from here on, and a power cut only after [`Store::sync`]. The number of the spill.
    ///
    /// What manifests list comes first, in batches of its own: until the manifests stand, nobody looks there. So a process
    /// killed meanwhile leaves what was there before; only where the rest is more than one batch it may leave a torn spill.
    pub(crate) fn write(&mut self, spill: Spill, rows: &[Row], mut between: impl FnMut()) -> Result<u64, StoreError> {
        let mut sum = self.meta.as_ref().map(|meta| meta.rows).unwrap_or_default();
        let number = self.meta.as_ref().map_or(1, |meta| meta.spill + 1);
        let (listed, rest): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.is_listed);
        let first_of_rest = listed.len();
        let mut batch = sled::Batch::default();
        let mut in_batch = Vec::new();
        let mut batch_bytes = 0;
        for (nth, row) in listed.into_iter().chain(rest).enumerate() {
            if batch_bytes > BATCH_BYTES || nth == first_of_rest && nth > 0 {
                self.apply(std::mem::take(&mut batch), &in_batch)?;
                between();
                (in_batch, batch_bytes) = (Vec::new(), 0);
            }
            let old_parts = if row.is_listed { 0 } else { self.replace(row, &mut sum)? };
            let new_parts = row.bytes.len().div_ceil(PART_BYTES).max(1);
            let mut rest = &row.bytes[..];
            for part in 0..new_parts {
                let (bytes, after) = rest.split_at(rest.len().min(PART_BYTES));
                let mut stored = Vec::with_capacity(bytes.len() + 1);
                stored.push(u8::from(part + 1 < new_parts));
                stored.extend_from_slice(bytes);
                batch.insert(with_part(&row.key, part)?, stored);
                rest = after;
            }
            for part in new_parts..old_parts {
                batch.remove(with_part(&row.key, part)?);
            }
            in_batch.push(row);
            batch_bytes += row.bytes.len();
        }
        let meta = Meta {
            cluster_id: spill.cluster_id,
            spill: number,
            boot_id: spill.boot_id,
            applied: spill.applied.into(),
            rows: sum,
        };
        batch.insert(&META_KEY, codec::encode(&meta)?);
        self.apply(batch, &in_batch)?;
        self.meta = Some(meta);
        Ok(number)
    }

    fn apply(&self, batch: sled::Batch, rows: &[&Row]) -> Result<(), StoreError> {
        guarded(|| Ok(self.db.apply_batch(batch)?))?;
        rows.iter().try_for_each(|row| count(&self.db, &with_part(&row.key, 0)?, row.bytes.len()))
    }

    /// Reads beside this store's writes.
    pub(crate) fn reader(&self) -> Reader {
        Reader { db: self.db.clone() }
    }

    /// Takes the row into the sum, and out of it what stands in its place; says how many parts that has.
    fn replace(&self, row: &Row, sum: &mut SetDigest) -> Result<usize, StoreError> {
        sum.add(&row.hash);
        let Some((old, parts)) = get(&self.db, &row.key)? else { return Ok(0) };
        sum.subtract(&row_hash(&row.key, &old));
        Ok(parts)
    }

    /// sled's own flush is `sync_file_range`; this makes every file of it durable.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        guarded(|| Ok(self.db.flush()?))?;
        sync_tree(&self.dir)?;
        Ok(())
    }
}

impl Store {
    /// sled flushes when it is dropped, and may meet the failure again that it is dropped for.
    pub(crate) fn close(self) {
        // Everything worth keeping was synced, or is written anew.
        let _ = guarded(|| {
            drop(self);
            Ok(())
        });
    }
}

/// Single rows, read on any thread while the store is written. sled stays open until it is closed.
pub(crate) struct Reader {
    db: sled::Db,
}

impl Reader {
    /// A logical row and its digest. Whoever asks knows that it is not written at the same time.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        let row = get(&self.db, key)?;
        Ok(row.map(|(value, _)| {
            let digest = digest(&row_hash(key, &value));
            (value, digest)
        }))
    }

    #[cfg(test)]
    pub(crate) fn tamper(&self, key: &[u8]) {
        let key = with_part(key, 0).unwrap();
        let mut stored = self.db.get(&key).unwrap().expect("there is such a row").to_vec();
        let last = stored.len() - 1;
        stored[last] ^= 1;
        self.db.insert(key, stored).unwrap();
    }

    /// As [`Store::close`].
    pub(crate) fn close(self) {
        let _ = guarded(|| {
            drop(self);
            Ok(())
        });
    }
}

/// sled's own threads let go of its file a moment after it was closed. Whoever opened it again within that moment, as a node does
/// that has repaired its chronicle, was told that it is in use.
fn wait_until_closed(dir: &Path) -> io::Result<()> {
    let file = match fs::File::open(dir.join(LOCKED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => {
            tracing::info!(dir = %dir.display(), "the rows of the views are still being closed");
            file.lock()
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The file that sled locks.
const LOCKED: &str = "db";

/// sled looks whether its cache is within its bound only once 64 questions have come to one of its 256 parts, so 16,384 pages of
/// 20 KiB and more were held beyond it, hundreds of megabytes. Asking again, which is cheap, makes large rows count for more.
fn count(db: &sled::Db, key: &[u8], bytes: usize) -> Result<(), StoreError> {
    for _ in 0..(bytes / COUNTED_BYTES).min(64) {
        guarded(|| Ok(db.get(key)?))?;
    }
    Ok(())
}

/// A logical row, and of how many parts it is.
fn get(db: &sled::Db, key: &[u8]) -> Result<Option<(Vec<u8>, usize)>, StoreError> {
    let mut value = Vec::new();
    for part in 0.. {
        let Some(stored) = guarded(|| Ok(db.get(with_part(key, part)?)?))? else {
            return if part == 0 { Ok(None) } else { Err(StoreError::Key) };
        };
        let (&more, bytes) = stored.split_first().ok_or(StoreError::Key)?;
        value.extend_from_slice(bytes);
        if more == 0 {
            count(db, &with_part(key, 0)?, value.len())?;
            return Ok(Some((value, part + 1)));
        }
    }
    Err(StoreError::Key)
}

/// fsyncs every file under `dir` and then the directories.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) => file.sync_all()?,
            // sled removes files of its own while we look; one that is gone needs no sync, and the directory is synced below.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    File::open(dir)?.sync_all()
}

/// sled meets damage with a panic in places; here that is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let said = payload.downcast_ref::<String>().cloned();
        let said = said.or_else(|| payload.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Err(StoreError::Panicked(said.unwrap_or_default()))
    })
}

/// In one piece, so that chunks are hashed side by side: with the key given first by itself, the first kilobytes of a row went one
/// chunk after the other.
fn row_hash(key: &[u8], value: &[u8]) -> [u8; 32] {
    *blake3::hash(&[&(key.len() as u64).to_le_bytes(), key, value].concat()).as_bytes()
}

/// What memory keeps of a row that only the disk has.
fn digest(hash: &[u8; 32]) -> u64 {
    hash.iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

fn with_part(key: &[u8], part: usize) -> Result<Vec<u8>, StoreError> {
    let part = u16::try_from(part).map_err(|_| StoreError::Key)?;
    Ok([key, &part.to_be_bytes()].concat())
}

fn split_part(key: &[u8]) -> Result<(&[u8], u16), StoreError> {
    let (logical, part) = key.split_last_chunk::<2>().ok_or(StoreError::Key)?;
    Ok((logical, u16::from_be_bytes(*part)))
}

/// The key of a page of one channel's table.
pub(crate) fn key(channel_id: &str, table: u8, page: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(channel_id.len() + 12);
    // Channel ids are at most 64 bytes.
    key.push(channel_id.len() as u8);
    key.extend_from_slice(channel_id.as_bytes());
    key.push(table);
    key.extend_from_slice(&page.to_be_bytes());
    key
}

/// Channel id, table and page of a key.
pub(crate) fn split_key(key: &[u8]) -> Result<(&str, u8, u64), StoreError> {
    let (&len, rest) = key.split_first().ok_or(StoreError::Key)?;
    let (id, rest) = rest.split_at_checked(usize::from(len)).ok_or(StoreError::Key)?;
    let (&table, page) = rest.split_first().ok_or(StoreError::Key)?;
    let page = page.try_into().map_err(|_| StoreError::Key)?;
    Ok((std::str::from_utf8(id).map_err(|_| StoreError::Key)?, table, u64::from_be_bytes(page)))
}
