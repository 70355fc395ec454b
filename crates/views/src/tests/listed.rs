//! Full pages of history, which a start does not read.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use sillok_domain::Event;

use super::{
    everything,
    spill::{asides, copy, folded_again, open, shop},
};
use crate::{
    Views,
    rows::{LOCATOR_MANIFESTS, LOCATORS, NEWEST_PUSHES, PUSH_MANIFESTS, PUSHES},
    spill::Step,
    store::key,
    testing::{Author, added, opened},
};

const SHOP: &str = "shop-0";

/// Several manifests of pushes and of locators in one channel, and another channel behind it.
fn history() -> Author {
    let mut author = shop();
    author.events("shop-1", &[opened(), added(1, "user-1", "서울")]);
    for nth in 0..3_700u32 {
        author.events(SHOP, &[push(nth * 7 % 700 + 1)]);
        if nth % 500 == 7 {
            author.events("shop-1", &[push(1)]);
        }
        if nth % 64 == 0 {
            author.close();
        }
    }
    author.close();
    author
}

fn push(friend_number: u32) -> Event {
    Event::PushAccepted { friend_number, text: "안녕하세요".into(), is_ad: false, unit_price_won: 15 }
}

/// Views whose disk has all of it and whose memory ends with them.
fn closed(author: &Author, dir: &Path, before: impl FnOnce(&Views)) {
    let views = open(dir);
    author.fold_all(&views);
    assert!(views.spill_now(true));
    before(&views);
    views.close();
}

#[test]
fn a_history_of_many_pages_is_the_same_after_starts_in_between() {
    let author = history();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    // A page that grows, one that is full at a start, and starts after which nothing is folded.
    for to in [12, 13, 13, 30, 31, 50, author.entries.len(), author.entries.len()] {
        let views = open(&dir);
        author.fold_to(&views, to);
        assert_eq!(everything(&views), folded_again(&author, to), "{to} entries");
        views.close();
    }
    assert!(asides(&dir).is_empty());
}

#[test]
fn a_page_that_is_full_at_a_start_is_followed_by_the_next() {
    let mut author = shop();
    // 701 events so far.
    for (friend, pushes) in [(1, 323), (2, 189), (3, 511), (4, 1), (5, 1)] {
        (0..pushes).for_each(|_| author.events(SHOP, &[push(friend)]));
        author.close();
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let mut full = (0, 0);
    for to in 8..=author.entries.len() {
        let views = open(&dir);
        author.fold_to(&views, to);
        let lens = views.with_channel(SHOP, |table| (table.unwrap().revision(), table.unwrap().message_count()));
        full = (
            full.0 + u32::from(lens.0.is_multiple_of(1_024)),
            full.1 + u32::from(lens.1 > 0 && lens.1.is_multiple_of(512)),
        );
        views.close();
        drop(views);
        assert_eq!(everything(&open(&dir)), folded_again(&author, to), "{to} entries");
    }
    assert_eq!(full, (1, 2), "starts with a full last page of locators, and of pushes");
}

/// With every event ever in it, a start took the longer the longer the history was: half a minute at a hundred million.
#[test]
fn a_start_reads_no_full_page_and_nobody_is_answered_from_one_that_changed() {
    let author = history();
    let temp = tempfile::tempdir().unwrap();
    for (table, pages) in [(LOCATORS, 4), (PUSHES, 7)] {
        let dir = temp.path().join(format!("{table}/views"));
        closed(&author, &dir, |views| (0..pages).for_each(|page| views.tamper(&key(SHOP, table, page))));

        let views = open(&dir);
        assert_eq!(views.applied().map(|applied| applied.index as usize + 1), Some(author.entries.len()));
        views.with_channel(SHOP, |table| {
            let table = table.unwrap();
            assert_eq!((table.message_count(), table.send_cost_won()), (3_700, 3_700 * 15));
            assert!(table.locate(table.revision()).is_some() && table.send(table.revision()).is_some());
        });
        let read = || views.with_channel(SHOP, |read| (read.unwrap().locate(17), read.unwrap().send(705)));
        let said = catch_unwind(AssertUnwindSafe(read)).unwrap_err();
        let said = said.downcast_ref::<String>().unwrap();
        assert!(said.contains("is not what was written") && said.contains(SHOP), "{said}");
        drop(views);

        let views = open(&dir);
        assert_eq!((views.applied(), asides(&dir).len()), (None, 1), "they are built anew");
        author.fold_all(&views);
        assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    }
}

#[test]
fn what_stands_for_pages_that_are_not_read_is_checked_at_the_start() {
    let author = history();
    let temp = tempfile::tempdir().unwrap();
    for (table, page) in [(LOCATOR_MANIFESTS, 0), (LOCATOR_MANIFESTS, 1), (PUSH_MANIFESTS, 3), (NEWEST_PUSHES, 0)] {
        let dir = temp.path().join(format!("{table}-{page}/views"));
        closed(&author, &dir, |views| views.tamper(&key(SHOP, table, page)));
        let views = open(&dir);
        assert_eq!((views.applied(), asides(&dir).len()), (None, 1), "table {table}, page {page}");
        author.fold_all(&views);
        assert_eq!(everything(&views), folded_again(&author, usize::MAX));
    }
}

/// Killed between two batches of a spill, a node folded its whole chronicle again, though nothing of the spill before was gone.
#[test]
fn a_spill_that_ends_among_pages_that_are_full_leaves_the_one_before() {
    let author = history();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_to(&views, 13);
    assert!(views.spill_now(true));
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (made, from, to) = (Arc::clone(&copies), dir.clone(), temp.path().to_owned());
    views.set_spill_hook(Box::new(move |step| {
        if step == Step::BetweenBatches {
            let mut made = made.lock();
            let copied = to.join(format!("killed-{}/views", made.len()));
            copy(&from, &copied);
            made.push(copied);
        }
    }));
    author.fold_all(&views);
    assert!(views.spill_now(true));
    drop(views);
    let copies = copies.lock().clone();
    assert!(!copies.is_empty(), "the spill was one batch");
    for killed in copies {
        let views = open(&killed);
        assert_eq!(views.applied().map(|applied| applied.index), Some(12));
        assert!(asides(&killed).is_empty());
        assert_eq!(everything(&views), folded_again(&author, 13));
        author.fold_all(&views);
        views.close();
        drop(views);
        assert_eq!(everything(&open(&killed)), folded_again(&author, usize::MAX));
    }
}
