//! Rows from disk to memory at the start, or aside if there is any doubt about them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Instant};

use parking_lot::RwLock;

use crate::{
    applied::Applied,
    memory::{ChannelPages, Memory},
    options::Options,
    place,
    rows::{RestoreError, Restoring},
    store::{self, Store, StoreError},
    views::Cell,
};

/// Views as the rows had them; empty if there were none to use.
#[derive(Default)]
pub(crate) struct Loaded {
    /// `None`: the disk cannot be used now.
    pub(crate) store: Option<Store>,
    pub(crate) applied: Option<Applied>,
    pub(crate) channels: BTreeMap<Arc<str>, Cell>,
    /// Why there is no store.
    pub(crate) trouble: Option<String>,
}

/// Why rows that are there are not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("they were condemned: {0}")]
    Condemned(String),
    #[error("the store is empty although a spill was fsynced")]
    Vanished,
    #[error("they were written for another cluster")]
    Cluster,
    #[error("the machine was rebooted and the newest rows had not been fsynced before")]
    Unmarked,
    #[error("the chronicle here does not have what they speak for (entry {index}, position {sequence})")]
    Inadmissible { index: u64, sequence: u64 },
    #[error("table {table}, page {page} of channel {channel_id}: {error}")]
    Page { channel_id: String, table: u8, page: u64, error: RestoreError },
    #[error("channel {channel_id}: {error}")]
    Channel { channel_id: String, error: RestoreError },
}

/// Loads the rows in `dir`, moves them aside and starts empty, or goes on without a disk. Pages are read back from what
/// `memory` is attached to.
pub(crate) fn open(
    dir: &Path,
    options: &Options,
    cluster_id: Option<[u8; 16]>,
    memory: &Arc<Memory>,
    admissible: impl FnOnce(&Applied) -> bool,
) -> Loaded {
    try_open(dir, options, cluster_id, memory, admissible).unwrap_or_else(|error| {
        tracing::error!(%error, dir = %dir.display(),
            "the disk of the views cannot be used; they are kept in memory and folded from the whole chronicle, nothing is lost; writing is tried again");
        Loaded { trouble: Some(format!("{}: {error}", dir.display())), ..Loaded::default() }
    })
}

fn try_open(
    dir: &Path,
    options: &Options,
    cluster_id: Option<[u8; 16]>,
    memory: &Arc<Memory>,
    admissible: impl FnOnce(&Applied) -> bool,
) -> Result<Loaded, StoreError> {
    fs::create_dir_all(dir)?;
    match load(dir, options, cluster_id, memory, admissible) {
        Ok(loaded) => Ok(loaded),
        Err(reason) => {
            // sled must be closed before its directory moves.
            memory.detach();
            memory.reset();
            // Rows are not at fault where the disk takes no file: they may be good ones.
            place::probe(dir)?;
            let aside = place::move_aside(dir)?;
            tracing::warn!(%reason, aside = %aside.display(),
                "the rows of the views cannot be used; they were moved aside and are built again from the chronicle, nothing is lost");
            let store = Store::open(&place::rows_dir(dir), options.cache_bytes)?;
            memory.attach(store.reader());
            Ok(Loaded { store: Some(store), ..Loaded::default() })
        }
    }
}

fn load(
    dir: &Path,
    options: &Options,
    cluster_id: Option<[u8; 16]>,
    memory: &Arc<Memory>,
    admissible: impl FnOnce(&Applied) -> bool,
) -> Result<Loaded, Unusable> {
    if let Some(reason) = place::condemned(dir) {
        return Err(Unusable::Condemned(reason));
    }
    let store = Store::open(&place::rows_dir(dir), options.cache_bytes)?;
    memory.attach(store.reader());
    let mark = place::read_mark(dir);
    let meta = match (store.meta(), &mark) {
        (Some(meta), _) => meta,
        (None, Some(_)) => return Err(Unusable::Vanished),
        (None, None) => return Ok(Loaded { store: Some(store), ..Loaded::default() }),
    };
    if cluster_id != Some(meta.cluster_id) {
        return Err(Unusable::Cluster);
    }
    // Within one boot a write that returned is in the page cache, fsynced or not.
    let same_boot = !meta.boot_id.is_empty() && meta.boot_id == options.boot_id;
    if !same_boot && mark.map(|mark| mark.spill) != Some(meta.spill) {
        return Err(Unusable::Unmarked);
    }
    let applied = meta.applied();
    if !admissible(&applied) {
        return Err(Unusable::Inadmissible { index: applied.index, sequence: applied.sequence });
    }
    let began = Instant::now();
    let channels = tables(&store, memory)?;
    tracing::info!(
        index = applied.index,
        channels = channels.len(),
        elapsed = ?began.elapsed(),
        "views loaded from their rows"
    );
    Ok(Loaded { store: Some(store), applied: Some(applied), channels, trouble: None })
}

fn tables(store: &Store, memory: &Arc<Memory>) -> Result<BTreeMap<Arc<str>, Cell>, Unusable> {
    let mut channels = BTreeMap::new();
    let mut current: Option<(Arc<str>, Restoring)> = None;
    store.read(|key, value, digest| {
        let (id, table, page) = store::split_key(key)?;
        if current.as_ref().is_none_or(|(open, _)| **open != *id) {
            finish(current.take(), &mut channels)?;
            let id: Arc<str> = id.into();
            let pages = ChannelPages::new(Arc::clone(&id), Arc::clone(memory));
            current = Some((id, Restoring::new(pages)));
        }
        let Some((_, restoring)) = &mut current else { return Ok(()) };
        restoring.row(table, page, value, digest).map_err(|error| Unusable::Page {
            channel_id: id.to_owned(),
            table,
            page,
            error,
        })
    })?;
    finish(current, &mut channels)?;
    Ok(channels)
}

fn finish(restoring: Option<(Arc<str>, Restoring)>, channels: &mut BTreeMap<Arc<str>, Cell>) -> Result<(), Unusable> {
    let Some((id, restoring)) = restoring else { return Ok(()) };
    let table = restoring.finish().map_err(|error| Unusable::Channel { channel_id: id.to_string(), error })?;
    channels.insert(id, Arc::new(RwLock::new(table)));
    Ok(())
}
