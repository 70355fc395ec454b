//! Folding: what becomes of entries.

use bytes::Bytes;
use proptest::prelude::*;
use sillok_wire::{record, records};

use super::everything;
use crate::{
    FoldError, Folded, Options, Views,
    testing::{Author, added, opened, steps},
};

fn in_memory() -> Views {
    Views::open(Options::in_memory(), |_| true)
}

/// A record with one event of these bytes, after `author`'s last.
fn record_of(author: &Author, views: &Views, payload: &'static [u8], feature_level: u32) -> Bytes {
    let applied = views.applied().unwrap();
    records::encode(&record::Record {
        predecessor: Bytes::copy_from_slice(&applied.head),
        feature_level,
        first_sequence: applied.sequence + 1,
        accepted_at_unix_nanos: author.now as u64,
        key_hashes: vec![1],
        decisions: vec![record::Decision {
            channel_id: "shop-0".into(),
            retry_key: "k".into(),
            fingerprint: Bytes::from_static(&[1; 16]),
            command_kind: 30,
            first_revision: author.models["shop-0"].revision + 1,
            events: vec![Bytes::from_static(payload)],
            ..Default::default()
        }],
        recovery: None,
    })
}

fn two_friends() -> Author {
    let mut author = Author::new();
    author.events("shop-0", &[opened(), added(1, "user-1", "서울")]);
    author.close();
    author.events("shop-0", &[added(2, "user-2", "부산")]);
    author.close();
    author
}

#[test]
fn a_skipped_record_changes_nothing_but_the_index() {
    let mut author = two_friends();
    author.stray();
    let views = in_memory();
    author.fold_to(&views, 2);
    let before = (views.applied().unwrap(), everything(&views));
    assert_eq!(author.fold_to(&views, 3), vec![Folded::Skipped]);
    let after = views.applied().unwrap();
    assert_eq!(after, crate::Applied { index: before.0.index + 1, ..before.0 });
    assert_eq!(everything(&views)[..before.1.len() - 1], before.1[..before.1.len() - 1]);
}

#[test]
fn an_event_of_an_unknown_kind_stops_the_fold_and_says_so() {
    let author = two_friends();
    let views = in_memory();
    author.fold_all(&views);
    let before = everything(&views);
    // Field 339, length-delimited, empty: a kind that this build does not have.
    let strange = record_of(&author, &views, &[0x9a, 0x15, 0x00], 1);
    for _ in 0..2 {
        let error = views.fold(2, 1, 1, &strange, None).unwrap_err();
        assert!(
            matches!(&error, FoldError::UnknownEvent { index: 2, channel_id, revision: 4, .. } if channel_id == "shop-0")
        );
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
    assert_eq!(everything(&views), before);
    // Later entries are not taken instead.
    assert_eq!(views.fold(3, 1, 0, &Bytes::new(), None), Err(FoldError::OutOfOrder { expected: 2, got: 3 }));
}

#[test]
fn a_record_of_a_later_feature_level_stops_the_fold() {
    let author = two_friends();
    let views = in_memory();
    author.fold_all(&views);
    let later = record_of(&author, &views, &[0x22, 0x00], records::FEATURE_LEVEL + 1);
    assert!(matches!(views.fold(2, 1, 1, &later, None), Err(FoldError::FeatureLevel { index: 2, .. })));
    assert!(matches!(views.fold(2, 1, 77, &Bytes::new(), None), Err(FoldError::UnknownEntryKind { kind: 77, .. })));
    assert!(matches!(views.fold(2, 1, 1, &Bytes::from_static(b"\xff\xff"), None), Err(FoldError::Malformed { .. })));
    // The known level folds.
    let known = record_of(&author, &views, &[0x22, 0x00], records::FEATURE_LEVEL);
    assert_eq!(views.fold(2, 1, 1, &known, None), Ok(Folded::Recorded { events: 1, refusals: 0 }));
}

#[test]
fn two_channels_with_the_same_content_have_the_same_content_digest_and_another_history() {
    let mut author = two_friends();
    author.blank();
    author.refusal("shop-0");
    author.events("copy", &[opened(), added(1, "user-1", "서울"), added(2, "user-2", "부산")]);
    author.close();
    author.events("other", &[opened(), added(1, "user-1", "서울"), added(2, "user-2", "대구")]);
    author.close();
    let views = in_memory();
    author.fold_all(&views);
    let of = |id: &str| views.with_channel(id, |table| table.unwrap().digests(3).unwrap());
    let (original, copy, other) = (of("shop-0"), of("copy"), of("other"));
    assert_eq!(original.content, copy.content);
    assert_eq!((original.friend_list, original.friend_count), (copy.friend_list, 2));
    assert_ne!(original.history, copy.history);
    assert_ne!(original.content, other.content);
    assert_ne!(original.friend_list, other.friend_list);
}

#[test]
fn a_refusal_about_a_channel_that_was_never_opened_makes_no_channel() {
    let mut author = two_friends();
    author.refusal("made-up");
    author.refusal("shop-0");
    author.close();
    let views = in_memory();
    author.fold_all(&views);
    assert_eq!(views.channel_ids_after(None, 10), ["shop-0"]);
    assert_eq!(views.with_channel("shop-0", |table| table.unwrap().refused_count()), 1);
    assert_eq!(views.applied().unwrap().sequence, 5);
}

#[test]
fn a_read_speaks_for_a_position_that_holds_all_it_shows() {
    let author = two_friends();
    let views = in_memory();
    assert_eq!(views.read_channel("shop-0", |table, applied| (table.is_some(), applied)), (false, None));
    author.fold_to(&views, 1);
    let applied = views.read_channel("shop-0", |_, applied| applied).unwrap();
    assert_eq!((applied.index, applied.sequence), (0, 2));
}

#[test]
fn while_the_fold_runs_every_read_holds_exactly_what_its_position_says() {
    let mut author = two_friends();
    let mut number = 2;
    for round in 0..400 {
        // Both channels in one record, the second twice, so that a read between two groups would show a half.
        number += 1;
        author.events("shop-0", &[added(number, &format!("user-{number}"), "서울")]);
        author.events("a-shop", &[if round == 0 { opened() } else { added(round, &format!("user-{round}"), "서울") }]);
        author.refusal("shop-0");
        author.close();
        if round % 5 == 0 {
            author.blank();
        }
    }
    // What each channel's revision is at each entry, folded alone.
    let alone = in_memory();
    let revisions: Vec<_> = (1..=author.entries.len())
        .map(|to| {
            author.fold_to(&alone, to);
            ["shop-0", "a-shop"].map(|id| alone.with_channel(id, |table| table.map_or(0, |table| table.revision())))
        })
        .collect();

    let views = in_memory();
    std::thread::scope(|scope| {
        let folding = scope.spawn(|| author.fold_all(&views));
        while !folding.is_finished() {
            for (nth, id) in ["shop-0", "a-shop"].into_iter().enumerate() {
                let (revision, applied) =
                    views.read_channel(id, |table, applied| (table.map_or(0, |table| table.revision()), applied));
                let expected = applied.map_or(0, |applied| revisions[applied.index as usize][nth]);
                assert_eq!(revision, expected, "{id} at {applied:?}");
            }
            let mut all = [0; 2];
            let applied =
                views.read_channels(None, 10, |id, table| all[usize::from(id == "a-shop")] = table.revision());
            assert_eq!(all, applied.map_or([0; 2], |applied| revisions[applied.index as usize]));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_folded_is_what_the_model_says(steps in steps(400)) {
        let author = Author::written(&steps);
        let views = in_memory();
        author.fold_all(&views);
        for (id, model) in author.models.iter().filter(|(_, model)| model.revision > 0) {
            views.with_channel(id, |table| {
                let table = table.unwrap();
                assert_eq!(table.locators.len(), model.revision);
                for (nth, (index, item)) in model.at.iter().enumerate() {
                    let locator = table.locate(nth as u64 + 1).unwrap();
                    assert_eq!((locator.index, locator.item), (*index, *item));
                }
                let friends = model.with_status(&[1, 2]);
                let digests = table.digests(model.revision).unwrap();
                assert_eq!(digests.friend_count, friends.len() as u64);
                super::listings(table, model);
                assert_eq!(table.refused_count(), model.refused);
                for friend in (1..40).map(Some).chain([None]) {
                    let brute = model.sends.iter().rev().filter(|(_, to)| friend.is_none_or(|number| to.contains(&number)));
                    let brute: Vec<u64> = brute.map(|(revision, _)| *revision).collect();
                    let listed: Vec<u64> = table.sends(u64::MAX, usize::MAX, friend).iter().map(|row| row.revision).collect();
                    assert_eq!(listed, brute, "history of {friend:?}");
                }
                for (revision, to) in &model.sends {
                    assert_eq!(table.audience(*revision).unwrap().iter().collect::<std::collections::BTreeSet<_>>(), *to);
                }
            });
        }
    }

    #[test]
    fn folding_twice_gives_the_same_answers_whatever_the_batches(steps in steps(200)) {
        let author = Author::written(&steps);
        let (first, second) = (in_memory(), in_memory());
        author.fold_all(&first);
        (0..=author.entries.len()).for_each(|to| drop(author.fold_to(&second, to)));
        prop_assert_eq!(everything(&first), everything(&second));
    }
}

/// After an election every answer named the position of the newest event with the new term, in which it was never recorded:
/// the blank entry of the new leader had moved it.
#[test]
fn a_blank_entry_of_a_later_term_leaves_the_term_of_the_position_alone() {
    let author = two_friends();
    let views = in_memory();
    author.fold_all(&views);
    let before = views.applied().unwrap();
    assert_eq!((before.term, before.record_term), (1, 1));
    views.fold(before.index + 1, 5, 0, &bytes::Bytes::new(), None).unwrap();
    let after = views.applied().unwrap();
    assert_eq!((after.term, after.record_term, after.sequence), (5, 1, before.sequence));
}
