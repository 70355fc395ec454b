//! Tables within a budget: what is not in memory is answered all the same, or not at all.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use proptest::prelude::*;
use sillok_domain::{Command, Consent, Context, FriendSource, Intent, Load as _, MessageBody, decide};

use super::{
    everything, listings,
    spill::{asides, folded_again, options, shop},
};
use crate::{
    ChannelTable, FoldError, Options, Views,
    testing::{Author, added, opened, steps},
};

/// Room for so many bytes of pages.
fn within(dir: &Path, memory_bytes: usize) -> Views {
    let views = Views::open(Options { memory_bytes, ..options(dir) }, |_| true);
    views.set_spillable(u64::MAX - 1);
    views
}

/// What the domain decides about each of some users, by whether they are friends or not.
fn decisions(table: &ChannelTable) -> Vec<String> {
    let users = (1..45).map(|user| format!("user-{user}"));
    let of = |user_key: String| {
        let body = || MessageBody { text: "안녕하세요".into(), is_ad: false, unit_price_won: 15 };
        let user = || user_key.clone();
        [
            Intent::AddFriend { user_key: user(), source: FriendSource::Ad, attributes: vec![], consents: vec![] },
            Intent::BlockFriend { user_key: user() },
            Intent::GrantConsent { user_key: user(), consent: Consent::Night },
            Intent::SendPush { user_key: user(), body: body() },
        ]
    };
    users
        .flat_map(of)
        .map(|intent| {
            let command = Command { channel_id: "shop".into(), context: Context::default(), intent };
            format!("{:?}", decide(&**table, &command, 1))
        })
        .collect()
}

fn all_decisions(views: &Views) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    views.read_channels(None, usize::MAX, |_, table| all.push(decisions(table)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn with_room_for_nothing_every_answer_and_every_decision_is_the_same(
        steps in steps(250),
        cuts in prop::collection::vec(0usize..250, 1..5),
    ) {
        let author = Author::written(&steps);
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("views");
        let roomy = Views::open(Options::in_memory(), |_| true);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(author.entries.len())).collect();
        cuts.sort_unstable();
        cuts.push(author.entries.len());
        for cut in cuts {
            let views = within(&dir, 0);
            author.fold_to(&roomy, cut);
            author.fold_to(&views, cut);
            prop_assert!(views.spill_now(true));
            prop_assert_eq!(views.resident_bytes(), 0);
            prop_assert_eq!(everything(&views), everything(&roomy));
            prop_assert_eq!(all_decisions(&views), all_decisions(&roomy));
            for (id, model) in author.models.iter().filter(|_| cut == author.entries.len()) {
                views.with_channel(id, |table| table.into_iter().for_each(|table| listings(table, model)));
            }
            views.close();
        }
        prop_assert!(asides(&dir).is_empty());
    }
}

/// Friends on several pages, and more pushes than one page has.
fn busy_shop() -> Author {
    let mut author = shop();
    for nth in 0..1_300u32 {
        let push = sillok_domain::Event::PushAccepted {
            friend_number: nth * 7 % 700 + 1,
            text: "안녕하세요".into(),
            is_ad: false,
            unit_price_won: 15,
        };
        author.events("shop-0", &[push]);
        if nth % 100 == 0 {
            author.close();
        }
    }
    author.close();
    author
}

#[test]
fn one_friends_history_is_the_same_across_pages_that_are_on_disk() {
    let author = busy_shop();
    let temp = tempfile::tempdir().unwrap();
    let views = within(&temp.path().join("views"), 0);
    author.fold_all(&views);
    assert!(views.spill_now(true));
    let roomy = Views::open(Options::in_memory(), |_| true);
    author.fold_all(&roomy);
    for friend in [None, Some(1), Some(8), Some(694)] {
        let of =
            |views: &Views, before| views.with_channel("shop-0", |table| table.unwrap().sends(before, 2_000, friend));
        assert!(!of(&views, u64::MAX).is_empty());
        for before in [u64::MAX, 1_990, 1_300, 702, 1] {
            assert_eq!(of(&views, before), of(&roomy, before), "before {before} of {friend:?}");
        }
    }
    let of = |views: &Views| {
        views.with_channel("shop-0", |table| [701, 702, 1_500, 2_001, 2_002].map(|r| table.unwrap().send(r)))
    };
    assert_eq!(of(&views), of(&roomy));
}

#[test]
fn loading_and_reading_everything_keep_the_budget() {
    let mut author = busy_shop();
    for shop in 1..40 {
        let id = format!("shop-{shop}");
        author.events(&id, &[opened()]);
        for number in 1..=300 {
            author.events(&id, &[added(number, &format!("user-{number}"), "서울")]);
        }
        author.close();
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = within(&dir, usize::MAX / 2);
    author.fold_all(&views);
    let all = views.resident_bytes();
    views.close();
    drop(views);

    let budget = all / 8;
    let views = within(&dir, budget);
    let loaded = views.resident_bytes();
    assert!(loaded <= budget && loaded > budget / 2, "{loaded} of {budget} bytes once loaded");
    assert_eq!(views.applied().map(|applied| applied.index as usize + 1), Some(author.entries.len()));
    // A read brings in no more than it asks for, and makes room before.
    for round in 0..3 {
        for id in author.models.keys() {
            for after in [0, 256, 512] {
                views.with_channel(id, |table| {
                    let everybody = sillok_domain::Selector::of(sillok_domain::Statuses::ALL);
                    table.unwrap().friends(&everybody, after, 256).len()
                });
                let resident = views.resident_bytes();
                assert!(resident <= budget + all / 16, "{resident} bytes of {budget} in round {round}");
            }
        }
    }
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
}

/// At ten million events a node held the place of every one of them, and every push, before it answered, and nearly nobody asks for
/// an old one.
#[test]
fn places_and_pushes_of_old_are_read_back_when_somebody_asks_for_them() {
    let author = busy_shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let places = |views: &Views| views.with_channel("shop-0", |table| [1, 17, 1_024].map(|r| table.unwrap().locate(r)));
    let newest = |views: &Views| views.with_channel("shop-0", |table| [1_025, 2_001].map(|r| table.unwrap().locate(r)));
    let views = within(&dir, usize::MAX / 2);
    author.fold_all(&views);
    let (old, new) = (places(&views), newest(&views));
    assert!(old.iter().chain(&new).all(Option::is_some));
    views.close();
    drop(views);

    let views = within(&dir, usize::MAX / 2);
    let loaded = views.resident_bytes();
    assert_eq!(newest(&views), new);
    assert_eq!(views.resident_bytes(), loaded, "the page that is written to is there");
    assert_eq!(places(&views), old);
    let placed = views.resident_bytes();
    assert!(placed > loaded, "the one before was on disk");
    // The shop's first 701 events are of friends, so that its third page of pushes begins at revision 1,726.
    let push = |revision| views.with_channel("shop-0", |table| table.unwrap().send(revision).unwrap().friend_number);
    assert_eq!(push(2_001), Some(1_299 * 7 % 700 + 1));
    assert_eq!(views.resident_bytes(), placed, "the page that is written to is there");
    assert_eq!(push(1_725), Some(1_023 * 7 % 700 + 1));
    assert!(views.resident_bytes() > placed, "the one before was on disk");
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
}

/// What changed has to be on disk before it can leave memory; folding a long history faster than the disk takes it would have
/// no bound.
#[test]
fn where_what_changed_is_more_than_the_budget_the_fold_waits_for_a_spill() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let views = within(&temp.path().join("views"), 0);
    author.fold_all(&views);
    // Nobody asked for a spill, and none is due for an hour.
    assert!(views.durable_lag().unwrap() <= 1, "{:?}", views.durable_lag());
    // Where nothing can be spilled folding goes on.
    let blank =
        Views::open(Options { memory_bytes: 0, cluster_id: None, ..options(&temp.path().join("blank")) }, |_| true);
    author.fold_all(&blank);
    assert_eq!(everything(&blank), everything(&views));
}

#[test]
fn a_row_that_comes_back_changed_is_never_answered_and_the_next_start_builds_anew() {
    let author = busy_shop();
    let entries = author.entries.len();
    let temp = tempfile::tempdir().unwrap();
    for (table, page) in [(crate::rows::FRIENDS, 1), (crate::rows::PUSHES, 0), (crate::rows::LOCATORS, 0)] {
        let dir = temp.path().join(format!("views-{table}/views"));
        std::fs::create_dir_all(&dir).unwrap();
        let views = within(&dir, 0);
        author.fold_to(&views, entries - 1);
        assert!(views.spill_now(true));
        views.tamper(&crate::store::key("shop-0", table, page));

        let read = |views: &Views| {
            views.with_channel("shop-0", |read| {
                let read = read.unwrap();
                match table {
                    crate::rows::FRIENDS => format!("{:?}", read.friend_view(300)),
                    crate::rows::PUSHES => format!("{:?}", read.send(705)),
                    _ => format!("{:?}", read.locate(17)),
                }
            })
        };
        let said = catch_unwind(AssertUnwindSafe(|| read(&views))).unwrap_err();
        let said = said.downcast_ref::<String>().unwrap();
        assert!(said.contains("is not what was written") && said.contains("shop-0"), "{said}");
        drop(views);

        // Within one boot the rows would count without a mark, too.
        let views = within(&dir, 0);
        assert_eq!((views.applied(), asides(&dir).len()), (None, 1));
        author.fold_all(&views);
        assert!(views.spill_now(true));
        let roomy = Views::open(Options::in_memory(), |_| true);
        author.fold_all(&roomy);
        assert_eq!(read(&views), read(&roomy));
        drop(views);
        assert_eq!(within(&dir, 0).applied(), roomy.applied(), "what was built anew is used");
    }
}

#[test]
fn the_fold_does_not_build_on_a_row_that_comes_back_changed() {
    let mut author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = within(&dir, 0);
    author.fold_all(&views);
    assert!(views.spill_now(true));
    let before = views.applied();
    views.tamper(&crate::store::key("shop-0", crate::rows::FRIENDS, 1));
    author.events("shop-0", &[sillok_domain::Event::FriendBlocked { friend_number: 300 }]);
    author.close();
    assert!(catch_unwind(AssertUnwindSafe(|| author.fold_all(&views))).is_err());
    assert_eq!(views.applied(), before);
    drop(views);
    let views = within(&dir, 0);
    assert_eq!(views.applied(), None);
    author.fold_all(&views);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
}

/// A disk that could not be written to cost nothing while every row was in memory; now some are on it alone.
#[test]
fn what_only_the_disk_has_is_taken_into_memory_before_its_rows_are_written_anew() {
    let author = busy_shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = within(&dir, 0);
    author.fold_to(&views, 9);
    assert!(views.spill_now(true));
    assert_eq!(views.resident_bytes(), 0);
    // The mark cannot be written where a directory of its name stands.
    std::fs::create_dir(dir.join("mark.tmp")).unwrap();
    author.fold_to(&views, 10);
    assert!(!views.spill_now(true));
    assert!(views.trouble().is_some());
    assert!(views.resident_bytes() > 0);
    author.fold_all(&views);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    std::fs::remove_dir(dir.join("mark.tmp")).unwrap();
    assert!(views.spill_now(true));
    assert_eq!((views.trouble(), views.resident_bytes()), (None, 0), "and they leave memory again");
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    views.close();
    drop(views);
    assert_eq!(everything(&within(&dir, 0)), folded_again(&author, usize::MAX));
    assert!(asides(&dir).is_empty());
}

/// A full disk took sled with it: all that was ever recorded came into memory, and was written anew once there was space.
#[test]
fn a_spill_that_has_no_space_waits_for_it_and_nothing_comes_into_memory_for_that() {
    let author = busy_shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let asked = free.clone();
    let free_bytes: crate::FreeBytes = Arc::new(move |_| Some(asked.load(Ordering::Relaxed)));
    let views = Views::open(Options { memory_bytes: 0, free_bytes, ..options(&dir) }, |_| true);
    views.set_spillable(u64::MAX - 1);
    author.fold_to(&views, 12);
    assert!(views.spill_now(true));
    assert_eq!(views.resident_bytes(), 0);

    free.store(16 << 20, Ordering::Relaxed);
    author.fold_to(&views, 13);
    assert!(!views.spill_now(true) && !views.spill_now(true));
    assert!(views.trouble().unwrap().contains("16777216 bytes are free where "), "{:?}", views.trouble());
    assert_eq!(views.durable_lag(), Some(1), "what was written before is still there");
    let roomy = within(&temp.path().join("roomy"), usize::MAX / 2);
    author.fold_to(&roomy, 13);
    let (resident, all) = (views.resident_bytes(), roomy.resident_bytes());
    assert!(resident < all / 2, "{resident} of {all} bytes");
    author.fold_all(&views);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));

    free.store(u64::MAX, Ordering::Relaxed);
    assert!(views.spill_now(true));
    assert_eq!((views.trouble(), views.durable_lag(), views.resident_bytes()), (None, Some(0), 0));
    views.close();
    drop(views);
    assert_eq!(everything(&within(&dir, 0)), folded_again(&author, usize::MAX));
    assert!(asides(&dir).is_empty());
}

#[test]
fn views_that_are_closed_fold_nothing_and_answer_nothing_that_is_on_disk() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = within(&dir, 0);
    author.fold_to(&views, 5);
    views.close();
    let entry = &author.entries[5];
    assert_eq!(views.fold(5, 1, entry.kind, &entry.payload, None), Err(FoldError::Closed));
    let read = || views.with_channel("shop-0", |table| table.unwrap().user_key(1).map(str::to_owned));
    assert!(catch_unwind(AssertUnwindSafe(read)).is_err());
    // Nothing is wrong with the rows, and sled's lock is free though the views are still held.
    let again = within(&dir, 0);
    assert_eq!(again.applied(), views.applied());
    assert!(asides(&dir).is_empty());
}

#[test]
fn many_readers_and_the_fold_share_pages_that_come_and_go() {
    let author = busy_shop();
    let temp = tempfile::tempdir().unwrap();
    let views = within(&temp.path().join("views"), 24 << 10);
    let half = author.entries.len() / 2;
    author.fold_to(&views, half);
    assert!(views.spill_now(true));
    std::thread::scope(|scope| {
        scope.spawn(|| author.fold_all(&views));
        for reader in 0..3u32 {
            let views = &views;
            scope.spawn(move || {
                for nth in (reader..).step_by(3).take(2_000) {
                    let number = nth * 97 % 600 + 1;
                    views.with_channel("shop-0", |table| {
                        let table = table.unwrap();
                        let key = table.user_key(number).unwrap();
                        assert_eq!(key, format!("user-{number}"));
                        assert_eq!(table.number_of(key), Some(number));
                        let sends = table.sends(u64::MAX, 5, Some(number));
                        assert!(sends.iter().all(|row| row.friend_number == Some(number)));
                        assert!(table.locate(u64::from(number)).is_some());
                    });
                }
            });
        }
    });
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
}
