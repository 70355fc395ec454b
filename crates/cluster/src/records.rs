//! Committed records, read back and decoded: for retries, for one event by its locator, for keys.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use sillok_chronicle::{Chronicle, LogId, ReadError};
use sillok_wire::{
    record,
    records::{self, DecisionView, RecordError, RecordHeader},
};

use crate::{chain::Chain, execution::Execution, types::kind};

/// Decoded records that are kept at most, and the bytes of theirs that are kept at most.
const KEPT: usize = 32;
const KEPT_BYTES: usize = 32 << 20;

/// One record with the places of its decisions.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) id: LogId,
    pub(crate) header: RecordHeader,
    decisions: Vec<record::Decision>,
    /// Positions of the record before each decision.
    offsets: Vec<u64>,
    key_hashes: Vec<u64>,
    bytes: usize,
}

/// A record could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("retry keys could not be looked up: {source}")]
    Find { source: ReadError },
    #[error("entry {index} could not be read back: {source}")]
    Read { index: u64, source: ReadError },
    #[error("entry {index} is not a record that can be decoded: {source}")]
    Decode { index: u64, source: RecordError },
    #[error("there is no record at entry {index}")]
    Missing { index: u64 },
    #[error("the reader of entry {index} was stopped")]
    Stopped { index: u64 },
}

impl Decoded {
    fn new(entry: sillok_chronicle::Entry) -> Result<Decoded, RecordError> {
        let header = records::peek_header(&entry.payload)?;
        let bytes = entry.payload.len();
        let record = records::decode(entry.payload)?;
        let mut offset = 0;
        let offsets = record.decisions.iter().map(|decision| {
            let before = offset;
            offset += decision.events.len() as u64 + u64::from(decision.refused.is_some());
            before
        });
        let offsets = offsets.collect();
        Ok(Decoded { id: entry.id, header, offsets, decisions: record.decisions, key_hashes: record.key_hashes, bytes })
    }

    /// The n-th decision.
    pub(crate) fn decision(&self, n: usize) -> Option<Result<DecisionView<'_>, RecordError>> {
        Some(DecisionView::of(self.decisions.get(n)?, *self.offsets.get(n)?))
    }

    /// The decision under this key, if it is in this record.
    pub(crate) fn by_key(&self, channel_id: &str, retry_key: &str, key_hash: u64) -> Option<usize> {
        let candidates = self.key_hashes.iter().enumerate().filter(|(_, hash)| **hash == key_hash);
        candidates
            .map(|(n, _)| n)
            .find(|n| self.decisions.get(*n).is_some_and(|d| d.channel_id == channel_id && d.retry_key == retry_key))
    }

    /// The decision that takes the n-th position of the record, and which of the decision's positions that is.
    pub(crate) fn by_item(&self, item: u32) -> Option<(usize, usize)> {
        let item = u64::from(item);
        let n = self.offsets.partition_point(|offset| *offset <= item).checked_sub(1)?;
        let decision = self.decisions.get(n)?;
        let within = usize::try_from(item - self.offsets.get(n)?).ok()?;
        (within < decision.events.len() + usize::from(decision.refused.is_some())).then_some((n, within))
    }
}

/// What the chronicle knows of a retry key.
#[derive(Debug)]
pub(crate) enum LookedUp {
    /// It is not bound.
    Fresh,
    /// It is bound by the n-th decision of this record.
    Recorded(Arc<Decoded>, usize),
    /// This entry may hold it and is not decoded yet: load it, then look again.
    NeedsEntry(u64),
}

/// Reads committed records; the last few stay decoded, because retries and locators come in runs.
pub(crate) struct Records {
    chronicle: Chronicle,
    chain: Arc<Chain>,
    execution: Execution,
    kept: Mutex<VecDeque<Arc<Decoded>>>,
}

impl Records {
    pub(crate) fn new(chronicle: Chronicle, chain: Arc<Chain>, execution: Execution) -> Arc<Records> {
        Arc::new(Records { chronicle, chain, execution, kept: Mutex::new(VecDeque::with_capacity(KEPT + 1)) })
    }

    /// If it is decoded already. Never touches a disk.
    pub(crate) fn kept(&self, index: u64) -> Option<Arc<Decoded>> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|record| record.id.index == index)?;
        let record = kept.remove(at)?;
        kept.push_back(record.clone());
        Some(record)
    }

    /// Reads and decodes; blocks for the disk where the entry is no longer in memory. Only for committed entries: what
    /// is kept is never looked at again.
    pub(crate) fn load(&self, index: u64) -> Result<Arc<Decoded>, LoadError> {
        if let Some(record) = self.kept(index) {
            return Ok(record);
        }
        let entries = self.chronicle.read(index, index + 1, 0).map_err(|source| LoadError::Read { index, source })?;
        let entry = entries.into_iter().next().filter(|entry| entry.kind == kind::RECORD && entry.id.index == index);
        let entry = entry.ok_or(LoadError::Missing { index })?;
        let record = Arc::new(Decoded::new(entry).map_err(|source| LoadError::Decode { index, source })?);
        let mut kept = self.kept.lock();
        kept.push_back(record.clone());
        while kept.len() > KEPT || (kept.len() > 1 && kept.iter().map(|r| r.bytes).sum::<usize>() > KEPT_BYTES) {
            kept.pop_front();
        }
        Ok(record)
    }

    /// As [`Records::load`], off the calling task where it may block.
    pub(crate) async fn get(self: &Arc<Self>, index: u64) -> Result<Arc<Decoded>, LoadError> {
        if let Some(record) = self.kept(index) {
            return Ok(record);
        }
        let records = self.clone();
        let loaded = self.execution.blocking(move || records.load(index)).await;
        loaded.unwrap_or(Err(LoadError::Stopped { index }))
    }

    /// Each of these hashes of keys with what [`Records::look_up`] may pass over for it.
    pub(crate) fn screen(&self, keys: &[u64]) -> impl Iterator<Item = (u64, usize)> {
        keys.iter().copied().zip(self.chronicle.screen(keys))
    }

    /// What is recorded under a key in entries up to `committed`, but for the oldest `passed` sealed segments. A fresh key, the
    /// usual case, is answered from memory but for one in many thousands (a filter errs), which costs a read of a footer.
    pub(crate) fn look_up(
        &self,
        channel_id: &str,
        retry_key: &str,
        key_hash: u64,
        passed: usize,
        committed: u64,
    ) -> Result<LookedUp, LoadError> {
        let mut candidates = Vec::new();
        let found = self.chronicle.find_from(passed, key_hash, &mut candidates);
        found.map_err(|source| LoadError::Find { source })?;
        for index in candidates {
            if index > committed || self.chain.is_skipped(index) {
                continue;
            }
            let Some(record) = self.kept(index) else { return Ok(LookedUp::NeedsEntry(index)) };
            if let Some(n) = record.by_key(channel_id, retry_key, key_hash) {
                return Ok(LookedUp::Recorded(record, n));
            }
        }
        Ok(LookedUp::Fresh)
    }

    /// As [`Records::look_up`], reading back what has to be.
    pub(crate) async fn find(
        self: &Arc<Self>,
        channel_id: &str,
        retry_key: &str,
        committed: u64,
    ) -> Result<Option<(Arc<Decoded>, usize)>, LoadError> {
        let key_hash = records::key_hash(channel_id, retry_key);
        loop {
            match self.look_up(channel_id, retry_key, key_hash, 0, committed)? {
                LookedUp::Fresh => return Ok(None),
                LookedUp::Recorded(record, n) => return Ok(Some((record, n))),
                LookedUp::NeedsEntry(index) => {
                    self.get(index).await?;
                }
            }
        }
    }
}
