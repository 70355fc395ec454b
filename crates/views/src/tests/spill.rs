//! The rows on disk: when they are written, and what comes back.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::everything;
use crate::{
    Options, Views,
    spill::Step as SpillStep,
    testing::{Author, added, opened, steps},
};

const CLUSTER: [u8; 16] = [7; 16];

pub(super) fn options(dir: &Path) -> Options {
    // Spills happen only where a test asks for one.
    Options { spill_every: Duration::from_secs(3_600), ..Options::at(dir, Some(CLUSTER), "boot-1") }
}

pub(super) fn open(dir: &Path) -> Views {
    let views = Views::open(options(dir), |_| true);
    views.set_spillable(u64::MAX - 1);
    views
}

pub(super) fn folded_again(author: &Author, to: usize) -> Vec<String> {
    let views = Views::open(Options::in_memory(), |_| true);
    author.fold_to(&views, to);
    everything(&views)
}

pub(super) fn asides(dir: &Path) -> Vec<PathBuf> {
    let siblings = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut asides: Vec<_> = siblings.filter(|path| path.to_string_lossy().contains(".aside.")).collect();
    asides.sort();
    asides
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A node that had repaired its chronicle opened its views again a moment after it had closed them. sled's threads still held the
/// lock, and good rows were moved aside and built anew.
#[test]
fn rows_that_are_still_being_closed_are_waited_for() {
    use std::os::unix::fs::MetadataExt as _;

    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_all(&views);
    views.close();
    drop(views);

    let held = fs::File::open(dir.join("rows/db")).unwrap();
    held.lock().unwrap();
    let inode = format!(":{} ", held.metadata().unwrap().ino());
    let opening = std::thread::spawn({
        let dir = dir.clone();
        move || open(&dir).applied()
    });
    let waits = |locks: &str| locks.lines().any(|lock| lock.contains("->") && lock.contains(&inode));
    while !opening.is_finished() && !waits(&fs::read_to_string("/proc/locks").unwrap()) {
        std::thread::yield_now();
    }
    drop(held);
    assert_eq!(opening.join().unwrap().map(|applied| applied.index as usize + 1), Some(author.entries.len()));
    assert!(asides(&dir).is_empty());
}

/// A shop with enough of everything to fill several pages.
pub(super) fn shop() -> Author {
    let mut author = Author::new();
    author.events("shop-0", &[opened()]);
    author.close();
    for number in 1..=700 {
        author.events("shop-0", &[added(number, &format!("user-{number}"), "서울")]);
        if number % 90 == 0 {
            author.close();
        }
    }
    author.close();
    author
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn spilled_and_opened_again_the_answers_are_the_same_at_every_point(
        steps in steps(250),
        cuts in prop::collection::vec(0usize..250, 1..5),
    ) {
        let author = Author::written(&steps);
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("views");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(author.entries.len())).collect();
        cuts.sort_unstable();
        for cut in cuts {
            let views = open(&dir);
            author.fold_to(&views, cut);
            let before = everything(&views);
            prop_assert_eq!(&before, &folded_again(&author, cut));
            views.close();
            drop(views);
            let views = open(&dir);
            prop_assert_eq!(&everything(&views), &before);
        }
        let views = open(&dir);
        author.fold_all(&views);
        prop_assert_eq!(everything(&views), folded_again(&author, usize::MAX));
        prop_assert!(asides(&dir).is_empty());
    }
}

#[test]
fn tickets_of_batches_and_single_ones_come_back_across_their_pages() {
    use sillok_domain::{Event, TimeWindow};
    let mut author = Author::new();
    author.events("shop-0", &[opened()]);
    for number in 1..=600 {
        author.events("shop-0", &[added(number, &format!("user-{number}"), "서울")]);
    }
    author.close();
    for nth in 0..70 {
        let coupon_id = format!("coupon-{nth}");
        author.events(
            "shop-0",
            &[Event::CouponDefined {
                coupon_id: coupon_id.clone(),
                name: "열 잔".into(),
                cap: 1_000_000,
                per_friend_limit: 3,
                window: TimeWindow::default(),
            }],
        );
        let issued_revision = author.models["shop-0"].revision + 1;
        author.events(
            "shop-0",
            &[Event::TicketsIssued {
                coupon_id: coupon_id.clone(),
                rule: None,
                audience: crate::testing::frozen((1..=600).filter(|number| number % (nth + 2) == 0), 601),
                excluded_at_limit: 0,
            }],
        );
        for friend_number in [3, 300, 599] {
            author.events(
                "shop-0",
                &[Event::TicketIssued {
                    coupon_id: coupon_id.clone(),
                    ticket_id: format!("ticket-{nth}-{friend_number}"),
                    friend_number,
                }],
            );
        }
        for friend_number in [nth + 2, (nth + 2) * (600 / (nth + 2))] {
            let ticket_id = format!("{coupon_id}.{issued_revision}.{friend_number}");
            let coupon_id = coupon_id.clone();
            author.events("shop-0", &[Event::TicketRedeemed { coupon_id, ticket_id, friend_number }]);
        }
        author.close();
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    for to in [1, 2, 30, 31, 60, author.entries.len()] {
        let views = open(&dir);
        author.fold_to(&views, to);
        assert_eq!(everything(&views), folded_again(&author, to));
        views.close();
    }
    let views = open(&dir);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    views.with_channel("shop-0", |table| super::listings(table.unwrap(), &author.models["shop-0"]));
    assert!(asides(&dir).is_empty());
}

#[test]
fn views_that_were_removed_come_back_with_the_same_digests_and_listings() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_all(&views);
    let before = everything(&views);
    views.close();
    drop(views);
    fs::remove_dir_all(&dir).unwrap();
    let views = open(&dir);
    assert_eq!(views.applied(), None);
    author.fold_all(&views);
    assert_eq!(everything(&views), before);
}

#[test]
fn a_kill_at_any_step_of_a_spill_leaves_the_spill_before_or_this_one() {
    killed_at_any_step(usize::MAX / 2);
}

#[test]
fn the_same_where_nothing_stays_in_memory_that_is_on_disk() {
    killed_at_any_step(0);
}

fn killed_at_any_step(memory_bytes: usize) {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = Views::open(Options { memory_bytes, ..options(&dir) }, |_| true);
    views.set_spillable(u64::MAX - 1);
    author.fold_to(&views, 3);
    assert!(views.spill_now(true));
    author.fold_all(&views);
    // Where the fold had to make room, it spilled meanwhile.
    let before = views.durable_applied().map_or(0, |applied| applied.index as usize + 1);

    let copies = Arc::new(Mutex::new(Vec::new()));
    let (seen, from, to) = (Arc::clone(&copies), dir.clone(), temp.path().to_owned());
    views.set_spill_hook(Box::new(move |step| {
        let mut seen = seen.lock();
        let copied = to.join(format!("copy-{}", seen.len())).join("views");
        copy(&from, &copied);
        seen.push((step, copied));
    }));
    assert!(views.spill_now(true));

    let copies = copies.lock();
    for step in [SpillStep::Taken, SpillStep::Written, SpillStep::Synced, SpillStep::Marked] {
        assert!(copies.iter().any(|(seen, _)| *seen == step), "{step:?}");
    }
    for (step, copied) in copies.iter() {
        for boot in ["boot-1", "boot-2"] {
            let again = copied.with_file_name(format!("views-{boot}"));
            copy(copied, &again);
            let views = Views::open(Options { boot_id: boot.to_owned(), memory_bytes, ..options(&again) }, |_| true);
            let folded = views.applied().map_or(0, |applied| applied.index as usize + 1);
            assert!([0, before, author.entries.len()].contains(&folded), "{step:?}: {folded}");
            assert_eq!(everything(&views), folded_again(&author, folded), "{step:?} in {boot}");
            if *step == SpillStep::Taken {
                assert_eq!(folded, before);
            }
            if *step == SpillStep::Marked {
                assert_eq!(folded, author.entries.len());
            }
            author.fold_all(&views);
            assert_eq!(everything(&views), folded_again(&author, usize::MAX));
        }
    }
}

#[test]
fn nothing_is_spilled_beyond_what_is_flushed_and_committed() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = Views::open(options(&dir), |_| true);
    author.fold_to(&views, 4);
    views.set_spillable(2);
    assert!(!views.spill_now(true));
    assert_eq!(views.durable_applied(), None);
    views.set_spillable(3);
    assert!(views.spill_now(true));
    assert_eq!(views.durable_applied(), views.applied());
    author.fold_all(&views);
    views.close();
    drop(views);
    let views = open(&dir);
    assert_eq!(views.applied().map(|applied| applied.index), Some(3));
}

#[test]
fn a_spill_asks_what_is_flushed_and_waits_for_it_a_moment() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let flushed = Arc::new(AtomicU64::new(1));
    let (asked, end) = (Arc::clone(&flushed), author.entries.len() as u64 - 1);
    let spillable: crate::Spillable = Arc::new(move || {
        // The flush moves on while it is asked about, as it does in life.
        Some(asked.fetch_add(1, Ordering::Relaxed).min(end))
    });
    let views = Views::open(Options { spillable: Some(spillable), ..options(&dir) }, |_| true);
    author.fold_all(&views);
    assert!(views.spill_now(true));
    assert!(flushed.load(Ordering::Relaxed) > end);
    assert_eq!(views.durable_applied(), views.applied());
}

/// Under load the chronicle's flush is always a little behind; the spill thread held the fold while it waited for it, and
/// with the fold every reader of the list of channels.
#[test]
fn nobody_waits_while_a_spill_waits_for_the_flush() {
    use std::sync::mpsc;
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let (asked, was_asked) = mpsc::sync_channel(0);
    let spillable: crate::Spillable = Arc::new(move || {
        // Whoever listens folds on before the answer is given.
        let _ = asked.send(());
        None
    });
    let views = Views::open(Options { spillable: Some(spillable), ..options(&dir) }, |_| true);
    author.fold_to(&views, 2);
    views.spill_now(false);
    was_asked.recv().unwrap();
    // The spill thread is at its question now, and stays there until it is taken again.
    author.fold_all(&views);
    views.read_channels(None, 10, |_, _| {});
    drop(was_asked);
    views.set_spillable(u64::MAX - 1);
    assert!(views.spill_now(true));
    views.close();
    drop(views);
    assert_eq!(everything(&open(&dir)), folded_again(&author, usize::MAX));
}

/// A disk that was full for a minute cost every later start an hour: the first failure ended writing until the process was
/// started again, and then the whole chronicle was folded anew.
#[test]
fn after_a_failure_everything_is_written_anew_and_comes_back() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_to(&views, 4);
    assert!(views.spill_now(true));
    assert_eq!(views.durable_lag(), Some(0));
    author.fold_to(&views, 6);
    // The mark cannot be written where a directory of its name stands.
    fs::create_dir(dir.join("mark.tmp")).unwrap();
    assert!(!views.spill_now(true));
    assert!(views.trouble().is_some());
    assert_eq!(views.durable_lag(), Some(2), "what was written before is still there");
    fs::remove_dir(dir.join("mark.tmp")).unwrap();
    assert!(views.spill_now(true));
    assert_eq!((views.trouble(), views.durable_lag()), (None, Some(0)));
    author.fold_all(&views);
    views.close();
    drop(views);
    let views = open(&dir);
    assert_eq!(views.applied().map(|applied| applied.index as usize + 1), Some(author.entries.len()));
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    assert!(asides(&dir).is_empty());
}

/// A full disk, or too few descriptors, kept a node from starting at all; and rows that were good were moved aside for it.
#[test]
fn a_disk_that_cannot_be_used_costs_neither_the_start_nor_the_rows() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    // Nothing can be made below a file, whoever asks.
    fs::write(&dir, b"in the way").unwrap();
    let views = open(&dir);
    assert!(views.trouble().is_some());
    author.fold_all(&views);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    assert!(!views.spill_now(true));
    assert_eq!(views.durable_lag(), Some(author.entries.len() as u64));
    assert!(asides(&dir).is_empty());
    // Once it can be used again, everything is written.
    fs::remove_file(&dir).unwrap();
    assert!(views.spill_now(true));
    views.close();
    drop(views);
    assert_eq!(everything(&open(&dir)), folded_again(&author, usize::MAX));
}

#[test]
fn views_that_are_not_loaded_have_nothing_and_start_nothing() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_all(&views);
    views.close();
    drop(views);
    let views = Views::new(options(&dir));
    assert_eq!((views.applied(), views.channel_count()), (None, 0));
    views.load(|_| true);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
}

#[test]
fn a_blank_node_spills_once_it_has_adopted_a_cluster() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = Views::open(Options { cluster_id: None, ..options(&dir) }, |_| true);
    views.set_spillable(u64::MAX - 1);
    author.fold_all(&views);
    assert!(!views.spill_now(true));
    views.adopt_cluster(CLUSTER);
    assert!(views.spill_now(true));
    drop(views);
    assert_eq!(open(&dir).applied().map(|applied| applied.index as usize + 1), Some(author.entries.len()));
}

#[test]
fn a_large_spill_torn_between_its_batches_is_noticed() {
    let mut author = Author::new();
    author.events("shop-0", &[opened()]);
    author.close();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_all(&views);
    assert!(views.spill_now(true));
    // Audiences that do not compress: 9 × 60 KiB are more than one batch takes in tests.
    for salt in 0..9u32 {
        let members = (0..500_000u32).filter(|number| number.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 30 == 1);
        author.events(
            "shop-0",
            &[sillok_domain::Event::BroadcastAccepted {
                audience: crate::testing::frozen(members, 1),
                text: "모두에게".into(),
                is_ad: false,
                unit_price_won: 15,
            }],
        );
        author.close();
    }
    author.fold_all(&views);
    let torn = Arc::new(Mutex::new(None));
    let (seen, from, to) = (Arc::clone(&torn), dir.clone(), temp.path().join("torn/views"));
    views.set_spill_hook(Box::new(move |step| {
        if step == SpillStep::BetweenBatches {
            copy(&from, &to);
            *seen.lock() = Some(to.clone());
        }
    }));
    assert!(views.spill_now(true));
    drop(views);
    let torn = torn.lock().clone().expect("more than one batch");
    let views = open(&torn);
    let folded = views.applied().map_or(0, |applied| applied.index as usize + 1);
    assert!([0, 1].contains(&folded), "{folded}");
    assert_eq!(everything(&views), folded_again(&author, folded));
    drop(views);
    assert_eq!(everything(&open(&dir)), folded_again(&author, usize::MAX));
}
