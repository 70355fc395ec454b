//! The filter of a sealed segment's keys: no false negatives, about 1 in 65,536 false positives, 18 bits a key.
//!
//! Stored as xorf's 20-byte descriptor and its fingerprints, little-endian u16. A golden segment in the tests guards
//! against a release of xorf that would read them otherwise: a false negative would charge a retry twice.

use std::collections::BTreeSet;

use xorf::{BinaryFuse16, BinaryFuse16Ref, DmaSerializable, Filter as _, FilterRef};

const DESCRIPTOR_BYTES: usize = BinaryFuse16::DESCRIPTOR_LEN;

/// The stored form of a filter of `keys` (ascending, perhaps repeated). Empty if there are no keys, or if (which is
/// all but impossible) no filter can be built: then every lookup reads the key table.
pub(crate) fn build(keys: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut keys: Vec<u64> = keys.collect();
    keys.dedup();
    debug_assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    if keys.is_empty() {
        return Vec::new();
    }
    let Ok(filter) = BinaryFuse16::try_from(&keys) else { return Vec::new() };
    let mut stored = vec![0; DESCRIPTOR_BYTES];
    filter.dma_copy_descriptor_to(&mut stored);
    stored.extend(filter.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()));
    stored
}

/// A filter in memory.
pub(crate) struct KeyFilter {
    descriptor: [u8; DESCRIPTOR_BYTES],
    /// The fingerprints stand at `begin`, which makes their address even as [`BinaryFuse16Ref`] demands.
    bytes: Vec<u8>,
    begin: usize,
}

impl KeyFilter {
    /// Takes a stored filter; `None` if it is empty or cannot be one.
    pub(crate) fn parse(stored: &[u8]) -> Option<Self> {
        let (descriptor, fingerprints) = stored.split_first_chunk::<DESCRIPTOR_BYTES>()?;
        let segment_length = u64::from(crate::frame::u32_at(descriptor, 8));
        let count_length = u64::from(crate::frame::u32_at(descriptor, 16));
        // What xorf indexes without asking: three places, each less than a segment behind the one before.
        if fingerprints.len() % 2 != 0 || fingerprints.len() as u64 / 2 < count_length + 2 * segment_length {
            return None;
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(fingerprints.len() + 1);
        let begin = bytes.as_ptr().align_offset(2).min(1);
        bytes.resize(begin, 0);
        bytes.extend_from_slice(fingerprints);
        if cfg!(target_endian = "big") {
            bytes[begin..].as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
        }
        Some(Self { descriptor: *descriptor, bytes, begin })
    }

    /// Whether `key` may be among the keys.
    pub(crate) fn may_contain(&self, key: u64) -> bool {
        self.filter().contains(&key)
    }

    /// Of `keys`, notes those that may be among the filter's.
    pub(crate) fn screen(&self, keys: &[u64], may_be_here: &mut [bool]) {
        let filter = self.filter();
        for (key, may_be_here) in keys.iter().zip(may_be_here) {
            *may_be_here |= filter.contains(key);
        }
    }

    fn filter(&self) -> BinaryFuse16Ref<'_> {
        BinaryFuse16Ref::from_dma(&self.descriptor, &self.bytes[self.begin..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_hardly_any_other() {
        for n in [1u64, 2, 3, 10, 1_000, 50_000] {
            let mut keys: Vec<u64> = (0..n).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
            keys.sort_unstable();
            let stored = build(keys.iter().copied());
            let filter = KeyFilter::parse(&stored).unwrap();
            assert!(keys.iter().all(|&key| filter.may_contain(key)), "{n} keys");
            let others = (0..100_000u64).filter(|i| filter.may_contain(i.wrapping_mul(0xD134_2543_DE82_EF95) ^ 1));
            assert!(others.count() < 30, "{n} keys");
            assert_eq!(stored, build(keys.into_iter()), "the same keys give the same bytes");
        }
        assert!(KeyFilter::parse(&build(std::iter::empty())).is_none());
    }

    /// Every write asks the filters of all sealed segments for a key that none of them has.
    #[test]
    fn of_a_hundred_fresh_keys_fewer_than_one_reads_a_key_table_of_a_hundred_segments() {
        let key = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let filters: Vec<KeyFilter> = (0..100)
            .map(|segment| {
                let mut keys: Vec<u64> = (0..2_000).map(|n| key(segment * 2_000 + n)).collect();
                keys.sort_unstable();
                KeyFilter::parse(&build(keys.into_iter())).unwrap()
            })
            .collect();
        let fresh = 1_000_000..1_020_000u64;
        let reads: usize =
            fresh.clone().map(|n| filters.iter().filter(|filter| filter.may_contain(key(n))).count()).sum();
        assert!(reads * 100 < fresh.count(), "{reads} reads");
    }
}
