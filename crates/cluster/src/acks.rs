//! Who has flushed what.
//!
//! Our network layer notes a follower's flushed index as each append response arrives, before openraft sees it, and the
//! chronicle's writer notes the local one; so when openraft commits an entry, the sites that made it a quorum are already
//! here. What stands here is a lower bound, never a guess: it is forgotten whenever a newer term is seen, because only a
//! leader's own followers hold what the leader holds.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use sillok_wire::v1;
use tokio::sync::oneshot;

use crate::roster::Roster;

/// Flushed index per node, counted from 1 so that 0 says nothing is flushed.
#[derive(Debug)]
pub(crate) struct Acks {
    local: u64,
    tail: Mutex<Tail>,
    followers: RwLock<Followers>,
    roster: Roster,
    /// Who waits for every site: by the index waited for, and a number. Locked before everything else here.
    waiting: Mutex<BTreeMap<(u64, u64), oneshot::Sender<()>>>,
    next_number: AtomicU64,
}

/// The local log. A flush that was asked for before a truncation says nothing of what came to stand there afterwards.
#[derive(Debug)]
struct Tail {
    flushed: u64,
    truncations: u64,
}

#[derive(Debug, Default)]
struct Followers {
    term: u64,
    flushed: BTreeMap<u64, AtomicU64>,
}

impl Followers {
    fn begin(&mut self, term: u64) {
        if self.term < term {
            self.term = term;
            self.flushed.clear();
        }
    }
}

impl Acks {
    /// `local` is this node's id, `flushed` how far its chronicle is flushed.
    pub(crate) fn new(local: u64, flushed: Option<u64>, roster: Roster) -> Acks {
        Acks {
            local,
            tail: Mutex::new(Tail { flushed: flushed.map_or(0, |index| index + 1), truncations: 0 }),
            followers: RwLock::default(),
            roster,
            waiting: Mutex::default(),
            next_number: AtomicU64::new(0),
        }
    }

    /// Goes with every append, and with [`Acks::note_local`] once it is flushed.
    pub(crate) fn truncations(&self) -> u64 {
        self.tail.lock().truncations
    }

    /// The local writer has synced everything up to `index`, appended after so many truncations.
    pub(crate) fn note_local(&self, truncations: u64, index: u64) {
        {
            let mut tail = self.tail.lock();
            if tail.truncations != truncations {
                return;
            }
            tail.flushed = tail.flushed.max(index + 1);
        }
        self.wake();
    }

    /// Entries from `index` on are about to be removed from the local tail.
    pub(crate) fn note_truncated(&self, index: u64) {
        let mut tail = self.tail.lock();
        tail.truncations += 1;
        tail.flushed = tail.flushed.min(index);
    }

    /// This node leads in `term`: what followers acknowledged before may have been overwritten since.
    pub(crate) fn begin_term(&self, term: u64) {
        self.followers.write().begin(term);
    }

    /// A follower told the leader of `term` that it has flushed everything up to `index`.
    pub(crate) fn note_follower(&self, term: u64, node_id: u64, index: u64) {
        {
            let followers = self.followers.read();
            if followers.term > term {
                return;
            }
            if followers.term == term
                && let Some(flushed) = followers.flushed.get(&node_id)
            {
                flushed.fetch_max(index + 1, Ordering::AcqRel);
                drop(followers);
                self.wake();
                return;
            }
        }
        {
            let mut followers = self.followers.write();
            if followers.term > term {
                return;
            }
            followers.begin(term);
            followers.flushed.entry(node_id).or_default().fetch_max(index + 1, Ordering::AcqRel);
        }
        self.wake();
    }

    /// The newest index known to be flushed there.
    pub(crate) fn flushed(&self, node_id: u64) -> Option<u64> {
        let count = if node_id == self.local {
            self.tail.lock().flushed
        } else {
            self.followers.read().flushed.get(&node_id).map_or(0, |flushed| flushed.load(Ordering::Acquire))
        };
        count.checked_sub(1)
    }

    /// The sites, and their nodes, that are known to have flushed the committed entry at `index`.
    pub(crate) fn sites_with(&self, index: u64) -> v1::Durability {
        let roster = self.roster.view();
        let mut sites: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (&id, member) in &roster.members {
            if self.flushed(id).is_some_and(|flushed| flushed >= index) {
                sites.entry(&member.site).or_default().push(id);
            }
        }
        let voters = roster.voters();
        let all_sites = !voters.is_empty() && roster.voter_sites().iter().all(|site| sites.contains_key(site));
        let sites =
            sites.into_iter().map(|(site, nodes)| v1::SiteDurability { site: site.to_owned(), nodes }).collect();
        v1::Durability { sites, all_sites, is_retry: false }
    }

    /// The newest index that every voter's site has flushed.
    fn everywhere(&self) -> Option<u64> {
        let roster = self.roster.view();
        let mut newest: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for (&id, member) in &roster.members {
            let here = newest.entry(&member.site).or_default();
            *here = (*here).max(self.flushed(id));
        }
        roster.voter_sites().into_iter().map(|site| newest.get(site).copied().flatten()).min().flatten()
    }

    /// Tells those whose entry is everywhere by now, and nobody else.
    fn wake(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let Some(everywhere) = self.everywhere() else { return };
        let later = waiting.split_off(&(everywhere + 1, 0));
        for (_, waiter) in std::mem::replace(&mut *waiting, later) {
            // It may have lost its patience just now.
            let _ = waiter.send(());
        }
    }

    /// Waits until every voter's site has flushed `index`; false if `at_most` passes first.
    pub(crate) async fn wait_all_sites(&self, index: u64, at_most: Duration) -> bool {
        let place = (index, self.next_number.fetch_add(1, Ordering::Relaxed));
        let (told, everywhere) = oneshot::channel();
        self.waiting.lock().insert(place, told);
        let _waiter = Waiter { acks: self, place };
        // What was acknowledged before the place was taken woke nobody here.
        if self.everywhere().is_some_and(|everywhere| everywhere >= index) {
            return true;
        }
        tokio::time::timeout(at_most, everywhere).await.is_ok_and(|told| told.is_ok())
    }
}

/// A place among those who wait; given up with the wait.
struct Waiter<'a> {
    acks: &'a Acks,
    place: (u64, u64),
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.acks.waiting.lock().remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{Arc, atomic::AtomicUsize},
        task::{Context, Wake},
    };

    use tokio::sync::watch;

    use super::*;
    use crate::{roster::RosterView, types::Member};

    /// The acknowledgements as node 1 sees them.
    fn acks(flushed: Option<u64>, voters: &[u64]) -> Acks {
        let sites = [(1, "chungju"), (2, "seongju"), (3, "jeonju"), (4, "odaesan")];
        let members = sites.map(|(id, site)| (id, Member { site: site.to_owned(), ..Member::default() }));
        let view =
            RosterView { log_id: None, configs: vec![voters.iter().copied().collect()], members: members.into() };
        Acks::new(1, flushed, Roster::new(watch::channel(Arc::new(view)).1))
    }

    fn names(durability: &v1::Durability) -> Vec<&str> {
        durability.sites.iter().map(|site| &*site.site).collect()
    }

    #[test]
    fn a_receipt_names_only_sites_that_are_known_to_have_flushed_the_entry() {
        let acks = acks(None, &[1, 2, 3]);
        assert_eq!(names(&acks.sites_with(0)), Vec::<&str>::new());
        acks.note_local(0, 4);
        acks.note_follower(1, 2, 3);
        acks.note_follower(1, 3, 4);
        let durability = acks.sites_with(4);
        assert_eq!((names(&durability), durability.all_sites), (vec!["chungju", "jeonju"], false));
        acks.note_follower(1, 2, 4);
        assert!(acks.sites_with(4).all_sites);
        assert!(!acks.sites_with(5).all_sites);
    }

    #[test]
    fn learners_sites_are_named_and_not_waited_for() {
        let acks = acks(Some(0), &[1, 2]);
        acks.note_follower(1, 2, 0);
        acks.note_follower(1, 4, 0);
        let durability = acks.sites_with(0);
        assert_eq!((names(&durability), durability.all_sites), (vec!["chungju", "odaesan", "seongju"], true));
    }

    #[test]
    fn what_was_acknowledged_to_another_term_says_nothing_of_this_one() {
        let acks = acks(None, &[1, 2, 3]);
        acks.note_follower(3, 2, 9);
        acks.note_follower(4, 3, 5);
        assert_eq!((acks.flushed(2), acks.flushed(3)), (None, Some(5)));
        acks.note_follower(3, 2, 9);
        assert_eq!(acks.flushed(2), None, "an answer to a deposed leader came late");
        acks.begin_term(5);
        assert_eq!(acks.flushed(3), None, "another leader may have overwritten it in between");
    }

    #[test]
    fn a_truncated_tail_is_not_flushed_any_more() {
        let acks = acks(Some(9), &[1, 2, 3]);
        let before = acks.truncations();
        acks.note_truncated(6);
        assert_eq!(acks.flushed(1), Some(5));
        acks.note_local(before, 9);
        assert_eq!(acks.flushed(1), Some(5), "the flush of what was truncated came late");
        acks.note_local(acks.truncations(), 7);
        assert_eq!(acks.flushed(1), Some(7));
    }

    #[tokio::test]
    async fn waiting_for_all_sites_ends_with_the_last_site_or_with_the_patience() {
        let acks = Arc::new(acks(Some(0), &[1, 2]));
        let waiting = tokio::spawn({
            let acks = acks.clone();
            async move { acks.wait_all_sites(0, Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        acks.note_follower(1, 2, 0);
        assert!(waiting.await.unwrap());
        assert!(acks.wait_all_sites(0, Duration::from_secs(60)).await, "it is everywhere already");
        assert!(!acks.wait_all_sites(1, Duration::from_millis(1)).await);
        assert!(acks.waiting.lock().is_empty(), "whoever has gone waits for nothing");
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A site was dark, and tens of thousands of receipts waited for it: each acknowledgement of the others woke every one
    /// of them, and the leader did nothing else.
    #[tokio::test]
    async fn an_acknowledgement_wakes_only_those_whose_entry_is_everywhere() {
        let acks = acks(Some(9), &[1, 2, 3]);
        let (near_wakes, far_wakes) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let mut near = pin!(acks.wait_all_sites(2, Duration::from_secs(60)));
        let mut far = pin!(acks.wait_all_sites(7, Duration::from_secs(60)));
        let is_ready = |future: std::pin::Pin<&mut dyn Future<Output = bool>>, wakes: &Arc<Wakes>| {
            future.poll(&mut Context::from_waker(&wakes.clone().into())).is_ready()
        };
        assert!(!is_ready(near.as_mut(), &near_wakes) && !is_ready(far.as_mut(), &far_wakes));
        for index in 0..6 {
            acks.note_follower(1, 2, index);
        }
        assert_eq!(near_wakes.0.load(Ordering::Relaxed), 0, "jeonju is still dark");
        acks.note_follower(1, 3, 4);
        assert_eq!((near_wakes.0.load(Ordering::Relaxed), far_wakes.0.load(Ordering::Relaxed)), (1, 0));
        assert!(is_ready(near.as_mut(), &near_wakes) && !is_ready(far.as_mut(), &far_wakes));
        acks.note_follower(1, 2, 7);
        acks.note_follower(1, 3, 7);
        assert!(is_ready(far.as_mut(), &far_wakes));
    }
}
