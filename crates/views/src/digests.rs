//! Digests of one channel, now and at each of its last revisions.
//!
//! - friend list: the sum modulo 2²⁵⁶ of BLAKE3 of each friend's row, so that a change costs one subtraction and one
//!   addition, whatever the size of the list, and the order of joining does not matter;
//! - content: `h' = BLAKE3(h ‖ kind u32 ‖ occurred_at ‖ backfill u8 ‖ payload)`: what survives export and import;
//! - history: `h' = BLAKE3(h ‖ content digest at this revision ‖ revision u64 ‖ sequence u64 ‖ accepted_at i64 ‖ imported
//!   u8 ‖ original accepted_at ‖ actor ‖ retry key)`: what happened, and how it is recorded here. A payload is hashed once.
//!
//! Integers are little endian, an optional time is a 0 byte or a 1 byte and an i64, texts carry their length as u32. The
//! public contract (`Digests` in `queries.proto`) promises these bytes, so that anybody can compute them from the events.

use std::collections::VecDeque;

use bincode::{Decode, Encode};
use sillok_domain::UnixNanos;

/// Digests can be asked at the applied revision and at this many before it.
pub const DIGEST_REVISIONS: u64 = 1_024;

/// Revisions a page of the ring.
pub(crate) const PAGE: u64 = 64;
/// Pages that the answerable revisions can touch; a row's slot is its page modulo this.
pub(crate) const SLOTS: u64 = (DIGEST_REVISIONS + 1).div_ceil(PAGE) + 1;

/// The digests of a channel at one revision; equal on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// What they speak for.
    pub revision: u64,
    /// Friends that are not removed; blocked ones are among them.
    pub friend_count: u64,
    /// Of the friend list: number, key, state, attributes, consents.
    pub friend_list: [u8; 32],
    /// Of kind, payload, `occurred_at` and `backfill` of every event in order.
    pub content: [u8; 32],
    /// Of every event in order and of how it is recorded; chains the content digest.
    pub history: [u8; 32],
}

/// A set hash: the order of adding does not matter, removal undoes adding.
///
/// The sum of hashes modulo 2²⁵⁶ tells honest replicas apart with certainty for practical purposes; it is not meant to
/// withstand somebody who may choose millions of rows to make two lists collide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SetDigest([u64; 4]);

impl SetDigest {
    pub(crate) fn add(&mut self, hash: &[u8; 32]) {
        let mut carry = false;
        for (lane, term) in self.0.iter_mut().zip(lanes(hash)) {
            let (sum, over) = lane.overflowing_add(term);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*lane, carry) = (sum, over | over_again);
        }
    }

    pub(crate) fn subtract(&mut self, hash: &[u8; 32]) {
        let mut borrow = false;
        for (lane, term) in self.0.iter_mut().zip(lanes(hash)) {
            let (difference, under) = lane.overflowing_sub(term);
            let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
            (*lane, borrow) = (difference, under | under_again);
        }
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }
}

fn lanes(hash: &[u8; 32]) -> [u64; 4] {
    let mut lanes = [0; 4];
    for (lane, chunk) in lanes.iter_mut().zip(hash.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        *lane = u64::from_le_bytes(eight);
    }
    lanes
}

/// What one stored event adds to the digests.
pub(crate) struct Stored<'a> {
    pub(crate) kind: u32,
    pub(crate) revision: u64,
    pub(crate) sequence: u64,
    pub(crate) accepted_at: UnixNanos,
    pub(crate) occurred_at: Option<UnixNanos>,
    pub(crate) backfill: bool,
    pub(crate) imported: bool,
    pub(crate) original_accepted_at: Option<UnixNanos>,
    pub(crate) actor: &'a str,
    pub(crate) retry_key: &'a str,
    pub(crate) payload: &'a [u8],
}

/// The friend list at some revision and until the next mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Mark {
    count: u64,
    list: SetDigest,
}

/// The running digests and the ring of the last ones. The friend list is kept only where it changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct DigestRing {
    /// Of the newest revision.
    newest: u64,
    /// (content, history), the last for `newest`.
    chains: VecDeque<([u8; 32], [u8; 32])>,
    /// (first revision, mark), ascending; the first one covers the oldest chain.
    marks: VecDeque<(u64, Mark)>,
    /// The friend list as of now.
    pub(crate) count: u64,
    pub(crate) list: SetDigest,
}

/// Up to 64 revisions on disk.
#[derive(Debug, Encode, Decode)]
pub(crate) struct DigestPage {
    page: u64,
    /// Revision of the first entry.
    first: u64,
    entries: Vec<DigestEntry>,
}

#[derive(Debug, Encode, Decode)]
struct DigestEntry {
    content: [u8; 32],
    history: [u8; 32],
    /// Where the friend list changed; always in a page's first.
    mark: Option<Mark>,
}

impl DigestRing {
    /// Chains one event on. The friend list must already be as after the event.
    pub(crate) fn push(&mut self, stored: &Stored<'_>, scratch: &mut Vec<u8>) {
        let (content, history) = self.chains.back().copied().unwrap_or_default();
        scratch.clear();
        scratch.extend_from_slice(&content);
        scratch.extend_from_slice(&stored.kind.to_le_bytes());
        put_time(scratch, stored.occurred_at);
        scratch.push(u8::from(stored.backfill));
        let content = hash(scratch, stored.payload);

        scratch.clear();
        scratch.extend_from_slice(&history);
        scratch.extend_from_slice(&content);
        scratch.extend_from_slice(&stored.revision.to_le_bytes());
        scratch.extend_from_slice(&stored.sequence.to_le_bytes());
        scratch.extend_from_slice(&stored.accepted_at.to_le_bytes());
        scratch.push(u8::from(stored.imported));
        put_time(scratch, stored.original_accepted_at);
        put_text(scratch, stored.actor);
        put_text(scratch, stored.retry_key);
        let history = *blake3::hash(scratch).as_bytes();

        self.newest = stored.revision;
        self.keep(content, history, Mark { count: self.count, list: self.list });
    }

    fn keep(&mut self, content: [u8; 32], history: [u8; 32], mark: Mark) {
        // Growth by doubling would end at twice what the ring ever holds.
        let full = DIGEST_REVISIONS as usize + 2;
        if self.chains.len() == self.chains.capacity() && self.chains.len() * 2 > full {
            self.chains.reserve_exact(full.saturating_sub(self.chains.len()));
        }
        self.chains.push_back((content, history));
        if self.marks.back().is_none_or(|(_, newest)| *newest != mark) {
            if self.marks.len() == self.marks.capacity() && self.marks.len() * 2 > full {
                self.marks.reserve_exact(full.saturating_sub(self.marks.len()));
            }
            self.marks.push_back((self.newest, mark));
        }
        if self.chains.len() as u64 > DIGEST_REVISIONS + 1 {
            self.chains.pop_front();
            let oldest = self.oldest();
            while self.marks.get(1).is_some_and(|(first, _)| *first <= oldest) {
                self.marks.pop_front();
            }
        }
    }

    fn oldest(&self) -> u64 {
        self.newest + 1 - self.chains.len() as u64
    }

    /// `None` before the first and after the newest revision, and for those no longer kept.
    pub(crate) fn at(&self, revision: u64) -> Option<Digests> {
        let back = self.newest.checked_sub(revision)?;
        let (content, history) = *self.chains.get((self.chains.len() as u64).checked_sub(back + 1)? as usize)?;
        let mark = self.mark_at(revision)?;
        Some(Digests { revision, friend_count: mark.count, friend_list: mark.list.bytes(), content, history })
    }

    fn mark_at(&self, revision: u64) -> Option<Mark> {
        let after = self.marks.partition_point(|(first, _)| *first <= revision);
        self.marks.get(after.checked_sub(1)?).map(|(_, mark)| *mark)
    }

    /// Pages with revisions after `revision`, which is what the disk has.
    pub(crate) fn dirty_pages(&self, revision: u64) -> std::ops::Range<u64> {
        if self.chains.is_empty() || revision >= self.newest {
            return 0..0;
        }
        (revision + 1).max(self.oldest()) / PAGE..self.newest / PAGE + 1
    }

    pub(crate) fn page(&self, page: u64) -> DigestPage {
        let first = (page * PAGE).max(self.oldest());
        let last = (page * PAGE + PAGE - 1).min(self.newest);
        let mut before = None;
        let entries = (first..=last)
            .filter_map(|revision| {
                let (content, history) = *self.chains.get((revision - self.oldest()) as usize)?;
                let mark = self.mark_at(revision)?;
                let changed = before != Some(mark);
                before = Some(mark);
                Some(DigestEntry { content, history, mark: changed.then_some(mark) })
            })
            .collect();
        DigestPage { page, first, entries }
    }

    /// The ring of these pages, whose newest revision is `newest`. `None` if they do not make one.
    pub(crate) fn restore(newest: u64, mut pages: Vec<DigestPage>) -> Option<DigestRing> {
        pages.sort_by_key(|page| page.page);
        let oldest = newest.saturating_sub(DIGEST_REVISIONS).max(1);
        let mut ring = DigestRing { newest: oldest - 1, ..DigestRing::default() };
        for page in pages {
            let mut mark = None;
            for (revision, entry) in (page.first..).zip(&page.entries) {
                mark = entry.mark.or(mark);
                if revision < oldest {
                    continue;
                }
                if revision != ring.newest + 1 || revision > newest {
                    return None;
                }
                ring.newest = revision;
                ring.keep(entry.content, entry.history, mark?);
            }
        }
        if let Some((_, mark)) = ring.marks.back() {
            (ring.count, ring.list) = (mark.count, mark.list);
        }
        (ring.newest == newest).then_some(ring)
    }
}

fn put_time(bytes: &mut Vec<u8>, time: Option<UnixNanos>) {
    match time {
        None => bytes.push(0),
        Some(nanos) => {
            bytes.push(1);
            bytes.extend_from_slice(&nanos.to_le_bytes());
        }
    }
}

/// Length as u32, then the bytes.
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// BLAKE3 of both, one after the other. Small payloads are copied behind the rest: one call is cheaper than a hasher.
fn hash(scratch: &mut Vec<u8>, payload: &[u8]) -> [u8; 32] {
    if scratch.len() + payload.len() <= 1_024 {
        scratch.extend_from_slice(payload);
        return *blake3::hash(scratch).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(scratch).update(payload);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(revision: u64, payload: &[u8]) -> Stored<'_> {
        Stored {
            kind: 20,
            revision,
            sequence: revision,
            accepted_at: 1,
            occurred_at: None,
            backfill: false,
            imported: false,
            original_accepted_at: None,
            actor: "",
            retry_key: "k",
            payload,
        }
    }

    #[test]
    fn the_set_digest_forgets_order_and_undoes_itself() {
        let rows: Vec<[u8; 32]> = (0..200u32).map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        let (mut forth, mut back) = (SetDigest::default(), SetDigest::default());
        rows.iter().for_each(|row| forth.add(row));
        rows.iter().rev().for_each(|row| back.add(row));
        assert_eq!(forth, back);
        assert_ne!(forth, SetDigest::default());
        rows.iter().for_each(|row| forth.subtract(row));
        assert_eq!(forth, SetDigest::default());
    }

    /// Exporters, auditors and later versions compute these digests themselves: every byte that goes into one is a
    /// promise, spelt out here and in the contract.
    #[test]
    fn every_byte_that_goes_into_a_chain_is_pinned() {
        let mut ring = DigestRing::default();
        let mut scratch = Vec::new();
        ring.push(&event(1, b"first"), &mut scratch);
        let imported = Stored {
            kind: 0x0102_0304,
            revision: 2,
            sequence: 0x1122,
            accepted_at: 0x33,
            occurred_at: Some(-2),
            backfill: true,
            imported: true,
            original_accepted_at: Some(0x44),
            actor: "shop",
            retry_key: "키",
            payload: b"second",
        };
        ring.push(&imported, &mut scratch);
        let hash = |parts: &[&[u8]]| *blake3::hash(&parts.concat()).as_bytes();

        let first_content = hash(&[&[0; 32], &[20, 0, 0, 0], &[0], &[0], b"first"]);
        let before_epoch = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let content = hash(&[&first_content, &[4, 3, 2, 1], &[1], &before_epoch, &[1], b"second"]);
        let eight = |low: [u8; 2]| [low[0], low[1], 0, 0, 0, 0, 0, 0];
        let history = hash(&[
            &[0; 32],
            &first_content,
            &eight([1, 0]),
            &eight([1, 0]),
            &eight([1, 0]),
            &[0],
            &[0],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0],
            b"k",
        ]);
        let history = hash(&[
            &history,
            &content,
            &eight([2, 0]),
            &eight([0x22, 0x11]),
            &eight([0x33, 0]),
            &[1],
            &[1],
            &eight([0x44, 0]),
            &[4, 0, 0, 0],
            b"shop",
            &[3, 0, 0, 0],
            "키".as_bytes(),
        ]);
        let digests = ring.at(2).expect("the newest");
        assert_eq!((digests.content, digests.history), (content, history));
    }

    #[test]
    fn carries_run_through_all_256_bits() {
        let mut digest = SetDigest::default();
        digest.subtract(&{
            let mut one = [0; 32];
            one[0] = 1;
            one
        });
        assert_eq!(digest.bytes(), [0xff; 32]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_ring_restored_from_its_pages_answers_the_same(len in 1u64..3_000, spilled_at in 0u64..3_000, seed in any::<u64>()) {
            let mut ring = DigestRing::default();
            let mut scratch = Vec::new();
            let mut disk = std::collections::BTreeMap::new();
            let mut on_disk = 0;
            for revision in 1..=len {
                if (revision ^ seed) % 3 == 0 {
                    ring.count += 1;
                    ring.list.add(blake3::hash(&revision.to_le_bytes()).as_bytes());
                }
                ring.push(&event(revision, b"x"), &mut scratch);
                if revision == spilled_at || revision == len {
                    for page in ring.dirty_pages(on_disk) {
                        disk.insert(page % SLOTS, crate::codec::encode(&ring.page(page)).unwrap());
                    }
                    on_disk = revision;
                }
            }
            let pages = disk.values().map(|bytes| crate::codec::decode(bytes).unwrap()).collect();
            let restored = DigestRing::restore(len, pages).expect("a ring");
            prop_assert_eq!((restored.count, restored.list), (ring.count, ring.list));
            for revision in 0..=len + 1 {
                prop_assert_eq!(restored.at(revision), ring.at(revision));
            }
            prop_assert_eq!(ring.at(len + 1), None);
            prop_assert_eq!(ring.at(len).is_some(), true);
            prop_assert_eq!(ring.at(len.saturating_sub(DIGEST_REVISIONS)).is_some(), len > DIGEST_REVISIONS);
            if len > DIGEST_REVISIONS + 1 {
                prop_assert_eq!(ring.at(len - DIGEST_REVISIONS - 1), None);
            }
        }
    }
}
