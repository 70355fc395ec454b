use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use proptest::prelude::*;
use sillok_chronicle::{Chronicle, Disk, Fold as _, Identity, sim::SimDisk};
use sillok_wire::record;

use super::*;
use crate::types::{Entry, LogId, Member, Membership, encode_membership};

fn chronicle(disk: &SimDisk, segment_bytes: u64) -> Chronicle {
    chronicle_with(disk, segment_bytes, Box::new(ChainFold::default()))
}

fn chronicle_with(disk: &SimDisk, segment_bytes: u64, fold: Box<dyn sillok_chronicle::Fold>) -> Chronicle {
    let dir = Path::new("/chronicle");
    let disk: Arc<dyn Disk> = disk.boot();
    let identity = Identity { node_id: 1, incarnation: 7, site: "chungju".into(), cluster_id: None };
    if sillok_chronicle::read_identity(&disk, dir).is_err() {
        sillok_chronicle::format(&disk, dir, &identity).unwrap();
    }
    let mut options = sillok_chronicle::Options::new(dir);
    options.disk = disk;
    options.segment_bytes = segment_bytes;
    options.fold = fold;
    options.keys = record_keys;
    Chronicle::open(options).unwrap()
}

fn append(chronicle: &Chronicle, entries: Vec<Entry>) {
    let (done, wait) = std::sync::mpsc::channel();
    chronicle.append(entries, move |result| done.send(result).unwrap());
    wait.recv().unwrap().unwrap();
}

fn a_record(index: u64, term: u64, predecessor: [u8; 32], first_sequence: u64) -> Entry {
    let decision = record::Decision {
        channel_id: "shop".into(),
        retry_key: format!("key-{index}"),
        fingerprint: vec![1; 16].into(),
        events: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
        ..Default::default()
    };
    let record = record::Record {
        predecessor: Bytes::copy_from_slice(&predecessor),
        feature_level: 1,
        first_sequence,
        accepted_at_unix_nanos: 1_000 + index,
        key_hashes: vec![records::key_hash("shop", &format!("key-{index}"))],
        decisions: vec![decision],
        recovery: None,
    };
    Entry { id: LogId { term, index }, kind: kind::RECORD, payload: records::encode(&record) }
}

fn blank(index: u64, term: u64) -> Entry {
    Entry { id: LogId { term, index }, kind: kind::BLANK, payload: Bytes::new() }
}

fn membership(index: u64, term: u64, incarnation: u64) -> Entry {
    let member = Member { site: "chungju".into(), incarnation, ..Member::default() };
    let membership = Membership::new(vec![[1].into()], std::collections::BTreeMap::from([(1, member)])).unwrap();
    Entry { id: LogId { term, index }, kind: kind::MEMBERSHIP, payload: encode_membership(&membership) }
}

/// The drawing in the module's documentation.
fn drawn() -> Vec<Entry> {
    let first = a_record(0, 1, records::GENESIS, 1);
    let second = a_record(2, 1, records::hash(&first.payload), 3);
    let stranger = a_record(3, 1, records::hash(&first.payload), 3);
    let third = a_record(4, 1, records::hash(&second.payload), 5);
    vec![first, blank(1, 1), second, stranger, third]
}

#[test]
fn a_record_upon_another_head_is_skipped_and_the_chain_goes_on_without_it() {
    let chronicle = chronicle(&SimDisk::new(1), 1 << 20);
    let chain = Chain::load(chronicle.clone()).unwrap();
    let entries = drawn();
    chain.append(&entries).unwrap();
    let became: Vec<Applied> = (0..5).map(|index| chain.link(index).unwrap().1).collect();
    use Applied::*;
    assert_eq!(became, [Recorded, NotARecord, Recorded, Skipped, Recorded]);
    assert!(chain.is_skipped(3) && !chain.is_skipped(4));
    let last = chain.link(4).unwrap().2;
    assert_eq!((last.next_sequence, last.accepted_at), (7, 1_004));
    assert_eq!(last.head, records::hash(&entries[4].payload));
}

#[test]
fn what_is_truncated_is_forgotten_and_another_history_may_follow() {
    let chronicle = chronicle(&SimDisk::new(1), 1 << 20);
    let chain = Chain::load(chronicle).unwrap();
    let entries = drawn();
    chain.append(&entries).unwrap();
    chain.append(&[membership(5, 1, 8)]).unwrap();
    chain.truncate(3);
    assert!(!chain.is_skipped(3) && chain.link(3).is_none() && chain.seen().is_empty());
    let other = a_record(3, 2, records::hash(&entries[2].payload), 5);
    chain.append(std::slice::from_ref(&other)).unwrap();
    assert_eq!(chain.head_at(other.id).unwrap(), HeadAt::Known(records::hash(&other.payload)));
    assert_eq!(chain.head_at(LogId { term: 1, index: 3 }).unwrap(), HeadAt::OtherEntry);
}

#[test]
fn a_peer_with_another_record_under_the_same_log_id_is_noticed_now_or_when_the_entry_comes() {
    let chronicle = chronicle(&SimDisk::new(1), 1 << 20);
    let chain = Chain::load(chronicle).unwrap();
    let entries = drawn();
    chain.append(&entries[..3]).unwrap();
    let (third, fifth) = (entries[2].id, entries[4].id);
    chain.expect(third, records::hash(&entries[2].payload)).unwrap();
    assert!(matches!(chain.expect(third, [9; 32]), Err(ChainError::Mismatch { at, .. }) if at == third));
    // Another term under the index is a conflict for consensus to settle, and no contradiction.
    chain.expect(LogId { term: 7, index: 2 }, [9; 32]).unwrap();

    chain.expect(fifth, [9; 32]).unwrap();
    assert!(matches!(chain.append(&entries[3..]), Err(ChainError::Mismatch { at, .. }) if at == fifth));
}

#[test]
fn a_footers_state_comes_back_whole_and_holds_the_keys_of_what_happened_only() {
    let mut fold = ChainFold::default();
    let mut keys = Vec::new();
    for entry in drawn().iter().chain([&membership(5, 1, 8)]) {
        fold.entry(entry, &mut keys);
    }
    let expected: Vec<u64> = [0, 2, 4].map(|index| records::key_hash("shop", &format!("key-{index}"))).to_vec();
    assert_eq!(keys, expected, "a skipped record's keys bind nothing");
    let mut restored = ChainFold::default();
    restored.restore(&fold.state());
    assert_eq!(restored, fold);
    assert_eq!((restored.skipped, restored.seen.get(&1)), (vec![3], Some(&8)));
    // These bytes stand in footers for ever.
    let digest = blake3::hash(&fold.state()).to_hex();
    assert_eq!(&digest[..16], "a8235d862380d1ba", "the bytes of a footer's state have changed");
}

/// What a chain has in memory is taken from it, and nothing else: not of another term, nor of what it has not followed.
#[test]
fn a_running_node_folds_as_one_that_computes_everything() {
    let chronicle = chronicle(&SimDisk::new(1), 1 << 20);
    let chain = Arc::new(Chain::load(chronicle).unwrap());
    let (entries, first) = (drawn(), a_record(5, 2, records::GENESIS, 1));
    chain.append(&entries).unwrap();
    let mut other = entries.clone();
    other[4] = a_record(4, 2, records::hash(&entries[2].payload), 5);
    for (log, followed) in [(&entries, true), (&entries, false), (&other, true)] {
        let link = Arc::new(OnceLock::new());
        let mut running = RunningFold::new(link.clone());
        if followed {
            link.set(Arc::downgrade(&chain)).unwrap();
        }
        let mut computed = ChainFold::default();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for entry in log.iter().chain([&membership(5, 1, 8), &first]) {
            running.entry(entry, &mut ours);
            computed.entry(entry, &mut theirs);
            assert_eq!((running.state(), &ours), (computed.state(), &theirs), "after {}", entry.id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Entry kinds: 0 extends the chain, 1 does not, 2 blank, 3 membership; cut where the log is opened again.
    #[test]
    fn every_state_is_the_same_from_memory_from_footers_and_after_a_restart(
        kinds in prop::collection::vec(0u8..4, 1..120),
        committed in 0.0f64..1.0,
    ) {
        let disk = SimDisk::new(3);
        let followed = Arc::new(OnceLock::new());
        let open = chronicle_with(&disk, 4 << 10, Box::new(RunningFold::new(followed.clone())));
        let chain = Arc::new(Chain::load(open.clone()).unwrap());
        followed.set(Arc::downgrade(&chain)).unwrap();
        let mut state = ChainState::default();
        let mut expected = Vec::new();
        let mut skipped = Vec::new();
        for (index, kind) in (0u64..).zip(&kinds) {
            let entry = match kind {
                0 => a_record(index, 1, state.head, state.next_sequence),
                1 => a_record(index, 1, [7; 32], state.next_sequence),
                2 => blank(index, 1),
                _ => membership(index, 1, index),
            };
            if *kind == 0 {
                let head = records::hash(&entry.payload);
                let accepted_at = 1_000 + index as i64;
                state = ChainState { head, next_sequence: state.next_sequence + 2, accepted_at };
            } else if *kind == 1 {
                skipped.push(index);
            }
            expected.push(state);
            chain.append(std::slice::from_ref(&entry)).unwrap();
            append(&open, vec![entry]);
        }
        let last = kinds.len() as u64 - 1;
        let committed = ((last as f64) * committed) as u64;
        open.set_committed(LogId { term: 1, index: committed });
        let seen = chain.seen();
        open.close();
        drop(chain);

        let open = chronicle(&disk, 4 << 10);
        let chain = Chain::load(open.clone()).unwrap();
        for (index, expected) in (0u64..).zip(&expected) {
            prop_assert_eq!(&chain.state_at(Some(index)).unwrap(), expected, "at {}", index);
            prop_assert_eq!(chain.is_skipped(index), skipped.contains(&index));
            let id = LogId { term: 1, index };
            prop_assert_eq!(chain.head_at(id).unwrap(), HeadAt::Known(expected.head));
        }
        prop_assert_eq!(chain.seen(), seen);
        prop_assert!(matches!(chain.state_at(Some(last + 1)), Err(ChainError::Absent(_))));
        open.close();
    }
}
