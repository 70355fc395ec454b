//! The meta file: what a node must remember beside its entries.
//!
//! Two slots, at bytes 0 and 4,096 of a file of 8,192; each is one sector, so each is written wholly or not at all.
//!
//! ```text
//!   0 "SILLOKme"          8 version u32 = 1      12 CRC32C of the rest      16 sequence number u64
//!  24 node id u64        32 incarnation u64      40 cluster id, 16 bytes
//!  56 flags u32: 1 cluster id, 2 vote, 4 vote is committed, 8 committed entry, 16 durable entry, 32 truncation
//!  60 bytes of the site label u32
//!  64 vote: term u64     72 vote: node id u64
//!  80 committed: term    88 committed: index     96 durable: index       104 segment bytes u64
//! 112 truncation: first index removed u64       120 site label, 128 bytes
//! 248 epoch: number u64 256 epoch: token u64    264 superseded by epoch number u64        272..512 zeros
//! ```
//! A slot that names an epoch has version 2, so that a version that knows of none does not write over it.
//! The slot with the higher sequence number counts. A write goes to the slot that does not hold the last *synced*
//! content: facts that were synced (votes, truncations, the cluster id) are never overwritten by a write that was not
//! (the committed and durable entries, every 100 ms). A slot that does not verify is damage, never passed over: the
//! other one may hold an older vote.

use std::{io, num::NonZero, sync::Arc};

use crate::{
    MAX_SITE_BYTES,
    disk::{Dir, File},
    error::DamageReason,
    frame::{u32_at, u64_at},
    layout::{META, META_TEMPORARY, VERSION, checksum},
    types::{Epoch, Identity, LogId, Vote},
};

const MAGIC: &[u8; 8] = b"SILLOKme";
const SLOT_BYTES: usize = 512;
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const FILE_BYTES: u64 = 8192;
/// Of a slot that names an epoch.
const VERSION_OF_EPOCHS: u32 = 2;

/// What the meta file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) identity: Identity,
    pub(crate) vote: Option<Vote>,
    /// Committed, and durable here when it was written.
    pub(crate) committed: Option<LogId>,
    /// The last index that was durable here when it was written: what ends before it is damaged, not torn.
    pub(crate) durable: Option<u64>,
    /// Entries from this index on are being removed.
    pub(crate) truncation: Option<u64>,
    /// Where segments are cut; `None` until the chronicle is first opened.
    pub(crate) segment_bytes: Option<NonZero<u64>>,
    pub(crate) epoch: Epoch,
    /// The number of an epoch that this chronicle is known not to be part of; 0: none.
    pub(crate) superseded_by: u64,
}

impl Meta {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            vote: None,
            committed: None,
            durable: None,
            truncation: None,
            segment_bytes: None,
            epoch: Epoch::default(),
            superseded_by: 0,
        }
    }

    fn version(&self) -> u32 {
        if self.epoch == Epoch::default() && self.superseded_by == 0 { VERSION } else { VERSION_OF_EPOCHS }
    }

    /// The last index that must be there whatever a crash did.
    pub(crate) fn remembered(&self) -> Option<u64> {
        self.durable.max(self.committed.map(|id| id.index))
    }

    fn encode(&self, sequence: u64) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        let mut put = |at: usize, bytes: &[u8]| slot[at..at + bytes.len()].copy_from_slice(bytes);
        let id = &self.identity;
        let mut flags = 0u32;
        put(0, MAGIC);
        put(8, &self.version().to_le_bytes());
        put(16, &sequence.to_le_bytes());
        put(24, &id.node_id.to_le_bytes());
        put(32, &id.incarnation.to_le_bytes());
        if let Some(cluster_id) = id.cluster_id {
            flags |= 1;
            put(40, &cluster_id);
        }
        if let Some(vote) = self.vote {
            flags |= if vote.committed { 2 | 4 } else { 2 };
            put(64, &vote.term.to_le_bytes());
            put(72, &vote.node_id.to_le_bytes());
        }
        if let Some(committed) = self.committed {
            flags |= 8;
            put(80, &committed.term.to_le_bytes());
            put(88, &committed.index.to_le_bytes());
        }
        if let Some(index) = self.durable {
            flags |= 16;
            put(96, &index.to_le_bytes());
        }
        if let Some(from) = self.truncation {
            flags |= 32;
            put(112, &from.to_le_bytes());
        }
        put(104, &self.segment_bytes.map_or(0, NonZero::get).to_le_bytes());
        put(56, &flags.to_le_bytes());
        put(60, &(id.site.len() as u32).to_le_bytes());
        put(120, id.site.as_bytes());
        put(248, &self.epoch.number.to_le_bytes());
        put(256, &self.epoch.token.to_le_bytes());
        put(264, &self.superseded_by.to_le_bytes());
        let crc = checksum(&slot);
        slot[12..16].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    fn parse(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Self)> {
        if &slot[..8] != MAGIC || u32_at(slot, 12) != checksum(slot) {
            return None;
        }
        let flags = u32_at(slot, 56);
        let has = |flag: u32| flags & flag != 0;
        let site = slot.get(120..120 + (u32_at(slot, 60) as usize).min(MAX_SITE_BYTES))?;
        let mut cluster_id = [0; 16];
        cluster_id.copy_from_slice(&slot[40..56]);
        let identity = Identity {
            node_id: u64_at(slot, 24),
            incarnation: u64_at(slot, 32),
            site: String::from_utf8(site.to_vec()).ok()?,
            cluster_id: has(1).then_some(cluster_id),
        };
        let meta = Self {
            identity,
            vote: has(2).then(|| Vote { term: u64_at(slot, 64), node_id: u64_at(slot, 72), committed: has(4) }),
            committed: has(8).then(|| LogId::new(u64_at(slot, 80), u64_at(slot, 88))),
            durable: has(16).then(|| u64_at(slot, 96)),
            truncation: has(32).then(|| u64_at(slot, 112)),
            segment_bytes: NonZero::new(u64_at(slot, 104)),
            epoch: Epoch { number: u64_at(slot, 248), token: u64_at(slot, 256) },
            superseded_by: u64_at(slot, 264),
        };
        Some((u64_at(slot, 16), meta))
    }
}

/// Why the meta file could not be read.
#[derive(Debug)]
pub(crate) enum MetaError {
    Missing,
    Damaged { slot: u8, other: Option<Box<Meta>> },
    Version(u32),
    Io(io::Error),
}

impl MetaError {
    /// Where a damaged slot stands, and what to say about it.
    pub(crate) fn damage(slot: u8) -> (u64, DamageReason) {
        (SLOT_OFFSETS[usize::from(slot)], DamageReason::Meta { slot })
    }
}

/// The open meta file. Only the writer's thread writes to it.
pub(crate) struct MetaFile {
    file: Arc<dyn File>,
    sequence: u64,
    /// The slot that holds the last synced content.
    synced_slot: usize,
    pub(crate) meta: Meta,
}

impl MetaFile {
    /// Makes a meta file in an empty directory, durably.
    pub(crate) fn create(dir: &Dir, meta: &Meta) -> io::Result<()> {
        dir.remove(META_TEMPORARY)?;
        let file = dir.create(META_TEMPORARY)?;
        file.write_at(&[0; FILE_BYTES as usize], 0)?;
        for (slot, offset) in SLOT_OFFSETS.into_iter().enumerate() {
            file.write_at(&meta.encode(1 + slot as u64), offset)?;
        }
        file.sync_all()?;
        dir.rename(META_TEMPORARY, META)?;
        dir.sync()
    }

    pub(crate) fn open(dir: &Dir, write: bool) -> Result<Self, MetaError> {
        let file = match dir.open(META, write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(MetaError::Missing),
            Err(error) => return Err(MetaError::Io(error)),
        };
        let mut found = Vec::with_capacity(2);
        for offset in SLOT_OFFSETS {
            let mut slot = [0; SLOT_BYTES];
            let n = file.read_at(&mut slot, offset).map_err(MetaError::Io)?;
            if n == SLOT_BYTES && &slot[..8] == MAGIC && u32_at(&slot, 12) == checksum(&slot) {
                let version = u32_at(&slot, 8);
                if !(VERSION..=VERSION_OF_EPOCHS).contains(&version) {
                    return Err(MetaError::Version(version));
                }
            }
            found.push(if n == SLOT_BYTES { Meta::parse(&slot) } else { None });
        }
        match (found.pop().flatten(), found.pop().flatten()) {
            (Some((sequence, meta)), Some((other, _))) if sequence > other => {
                Ok(Self { file, sequence, synced_slot: 1, meta })
            }
            (Some(_), Some((sequence, meta))) => Ok(Self { file, sequence, synced_slot: 0, meta }),
            (other, None) => Err(MetaError::Damaged { slot: 0, other: other.map(|(_, meta)| Box::new(meta)) }),
            (None, Some((_, meta))) => Err(MetaError::Damaged { slot: 1, other: Some(Box::new(meta)) }),
        }
    }

    /// Writes the content and makes it durable.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        let slot = self.write()?;
        self.file.sync_data()?;
        self.synced_slot = slot;
        Ok(())
    }

    /// Writes the content and leaves it to the system when it reaches the disk.
    pub(crate) fn write(&mut self) -> io::Result<usize> {
        let slot = 1 - self.synced_slot;
        self.sequence += 1;
        self.file.write_at(&self.meta.encode(self.sequence), SLOT_OFFSETS[slot])?;
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn meta()(
            node_id: u64, incarnation: u64, site in "[a-z가-힣]{1,32}", cluster_id: Option<[u8; 16]>,
            vote: Option<(u64, u64, bool)>, committed: Option<(u64, u64)>, durable: Option<u64>, truncation: Option<u64>,
            segment_bytes: u64, epoch: (u64, u64), superseded_by: u64,
        ) -> Meta {
            let committed = committed.map(|(term, index)| LogId::new(term, index));
            let vote = vote.map(|(term, node_id, committed)| Vote { term, node_id, committed });
            let identity = Identity { node_id, incarnation, site, cluster_id };
            let segment_bytes = NonZero::new(segment_bytes);
            let epoch = Epoch { number: epoch.0, token: epoch.1 };
            Meta { identity, vote, committed, durable, truncation, segment_bytes, epoch, superseded_by }
        }
    }

    proptest! {
        #[test]
        fn a_slot_is_read_back(meta in meta(), sequence: u64) {
            prop_assert_eq!(Meta::parse(&meta.encode(sequence)), Some((sequence, meta)));
        }

        #[test]
        fn a_slot_that_names_an_epoch_is_of_the_second_version(meta in meta()) {
            let plain = Meta { epoch: Epoch::default(), superseded_by: 0, ..meta.clone() };
            prop_assert_eq!(u32_at(&plain.encode(1), 8), 1);
            let old = Meta { superseded_by: 1, ..plain };
            prop_assert_eq!(u32_at(&old.encode(1), 8), 2);
            let new = Meta { epoch: Epoch { number: 1, token: 7 }, ..meta };
            prop_assert_eq!(u32_at(&new.encode(1), 8), 2);
        }

        #[test]
        fn a_flipped_byte_is_noticed(meta in meta(), at in 0..SLOT_BYTES, flip in 1..=255u8) {
            let mut slot = meta.encode(1);
            slot[at] ^= flip;
            prop_assert_eq!(Meta::parse(&slot), None);
        }
    }
}
