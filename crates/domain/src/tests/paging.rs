//! Whatever is out of memory, every answer and every decision is the same.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicIsize, AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;

use super::{
    histories::{History, answers, steps},
    invariants::Rows,
    *,
};
use crate::{FRIENDS_A_PAGE, FriendPages, FriendRow};

/// Pages as they were stored.
#[derive(Debug, Default)]
struct Shelf {
    stored: Mutex<HashMap<(u32, u64), Vec<FriendRow>>>,
    newest: AtomicUsize,
    reads: AtomicUsize,
    resident_bytes: AtomicIsize,
}

impl FriendPages for Shelf {
    fn friends(&self, page: u32, digest: u64) -> Vec<FriendRow> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.stored.lock().unwrap()[&(page, digest)].clone()
    }

    fn contradicted(&self, page: u32) -> ! {
        panic!("page {page}")
    }

    fn resized(&self, by_bytes: isize) {
        self.resident_bytes.fetch_add(by_bytes, Ordering::Relaxed);
    }

    fn evicted(&self, bytes: usize) {
        self.resident_bytes.fetch_sub(bytes as isize, Ordering::Relaxed);
    }
}

impl Shelf {
    /// Stores every page that is asked for and drops all that can go.
    fn clear(&self, channel: &mut Channel, pages: impl Iterator<Item = u32>) {
        for page in pages {
            let digest = self.newest.fetch_add(1, Ordering::Relaxed) as u64;
            let first = page * FRIENDS_A_PAGE + 1;
            let rows = (first..first + FRIENDS_A_PAGE).map_while(|number| channel.friend_row(number)).collect();
            self.stored.lock().unwrap().insert((page, digest), rows);
            channel.friend_page_taken(page, digest);
            channel.friend_page_stored(page);
        }
        (0..2).for_each(|_| assert_eq!(channel.sweep(0, || true), channel.friend_pages()));
    }
}

fn shelved() -> (Arc<Shelf>, Channel) {
    let (shelf, mut channel) = (Arc::new(Shelf::default()), Channel::new());
    channel.keep(shelf.clone());
    (shelf, channel)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_channel_whose_pages_leave_memory_after_every_event_is_the_same(steps in steps(120)) {
        let mut history = History::default();
        let (shelf, mut channel) = shelved();
        history.open();
        history.recorded[0].fold(&mut channel);
        for step in &steps {
            let known = history.recorded.len();
            let (command, now) = history.step(*step);
            let decided = decide(&channel, &command, now).unwrap_or_default();
            prop_assert!(decided.iter().eq(history.recorded[known..].iter().map(|recorded| &recorded.event)));
            for recorded in &history.recorded[known..] {
                recorded.fold(&mut channel);
                // A page that changed is stored anew; one that did not is where it was.
                let pages = 0..channel.friend_pages();
                shelf.clear(&mut channel, pages);
                prop_assert_eq!(shelf.resident_bytes.load(Ordering::Relaxed), 0);
            }
        }
        prop_assert_eq!(Rows::of(&channel), Rows::of(&history.channel));
        prop_assert_eq!(answers(&channel, &history.tickets), answers(&history.channel, &history.tickets));
    }
}

#[test]
fn a_page_that_changed_after_it_was_taken_is_not_dropped_for_what_was_stored() {
    let (shelf, mut channel) = shelved();
    channel.apply(1, 1, None, &opened());
    channel.apply(2, 1, None, &added(1, "user-1"));
    channel.friend_page_taken(0, 7);
    channel.apply(3, 1, None, &blocked(1));
    channel.friend_page_stored(0);
    (0..2).for_each(|_| assert_eq!(channel.sweep(0, || true), 1));
    assert_eq!(channel.friend(1).unwrap().status, crate::FriendStatus::Blocked);
    assert_eq!(shelf.reads.load(Ordering::Relaxed), 0);
}

/// Every write looks whether a user key is known; a table that compared keys would read a page for most of them, and all of
/// them whenever it grew.
#[test]
fn a_key_that_nobody_has_reads_a_page_in_fewer_than_one_case_in_a_hundred() {
    const FRIENDS: u32 = 50_000;
    let (shelf, mut channel) = shelved();
    channel.apply(1, 1, None, &opened());
    for number in 1..=2 * FRIENDS {
        channel.apply(u64::from(number) + 1, 1, None, &added(number, &format!("user-{number}")));
        // One page stays: that which friends are added to.
        if number.is_multiple_of(FRIENDS_A_PAGE) {
            shelf.clear(&mut channel, std::iter::once(number / FRIENDS_A_PAGE - 1));
        }
    }
    let reads = shelf.reads.load(Ordering::Relaxed);
    assert!(reads < FRIENDS as usize / 100, "{reads} reads while {FRIENDS} friends became twice as many");
    for stranger in 0..FRIENDS {
        assert_eq!(channel.number_of(&format!("stranger-{stranger}")), None);
    }
    let reads = shelf.reads.load(Ordering::Relaxed);
    assert!(reads < FRIENDS as usize / 100, "{reads} reads");
    assert_eq!(channel.number_of("user-77777"), Some(77_777));
    assert_eq!(shelf.reads.load(Ordering::Relaxed), reads + 1, "that one is on disk");
}
