//! The same entries give the same segments on every node, however they were batched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use common::*;
use proptest::prelude::*;
use sillok_chronicle::sim::SimDisk;

/// The segment files after appending `entries(1, 0..count)` in batches of these sizes, all but the last sealed.
fn segments_of(count: u64, batches: &[u64], restart: bool, detour: bool) -> Vec<Vec<u8>> {
    let sim: SimDisk = formatted(0);
    let mut chronicle = open(&sim);
    let mut next = 0;
    for size in batches.iter().cycle() {
        let end = (next + size).min(count);
        if detour {
            // Another leader's entries, which are taken back.
            append(&chronicle, entries(1, next..next + 3)).unwrap();
            truncate(&chronicle, next).unwrap();
        }
        append(&chronicle, entries(1, next..end)).unwrap();
        next = end;
        if restart {
            chronicle.close();
            chronicle = open(&sim);
        }
        if next == count {
            break;
        }
    }
    commit_and_seal(&sim, &chronicle);
    chronicle.close();
    let used = last_used(&sim).0;
    segments(&sim).iter().filter(|path| **path <= used).map(|path| sim.bytes(path).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn batches_restarts_and_truncations_leave_no_trace(
        batches in prop::collection::vec(1..60u64, 1..8), restart: bool, detour: bool,
    ) {
        let expected = segments_of(180, &[180], false, false);
        prop_assert!(expected.len() > 4);
        let found = segments_of(180, &batches, restart, detour);
        prop_assert_eq!(expected.len(), found.len());
        for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
            prop_assert!(expected == found, "segment {} differs", i);
        }
    }
}
