//! When a leader was last heard, and what it said was committed.
//!
//! A word is taken down as it comes in and counts once it is accepted, which may be an fsync later. It speaks for the moment
//! at which it was sent: a node that was paused works through what its leader said long ago.
//!
//! openraft names as leader whoever the stored vote was granted to: after a restart that may be a node that burned since.
//! Only who was heard by this process, and lately, is a leader.

use std::time::Duration;

use parking_lot::Mutex;
use sillok_domain::UnixNanos;
use sillok_wire::peer;
use tokio::{sync::Notify, time::Instant};

/// Noted for every append and heartbeat that this node accepted.
#[derive(Debug)]
pub(crate) struct Contact {
    silence: Duration,
    last: Mutex<Option<Heard>>,
    resumed: Notify,
}

/// A leader's word, as it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// Never runs backwards.
    instant: Instant,
    /// `None`: it does not say what is committed.
    says: Option<Says>,
}

#[derive(Debug, Clone, Copy)]
struct Says {
    /// The earlier of the leader's clock when it was sent and ours when it came in, for display; clocks may jump.
    at: UnixNanos,
    committed: u64,
}

impl Heard {
    /// Taken down when the request comes in, at `now` by this node's clock.
    pub(crate) fn of(request: &peer::AppendRequest, now: UnixNanos) -> Heard {
        let term = request.vote.as_ref().map(|vote| vote.term);
        // A leader that has committed nothing in its own term may not know of all that its predecessor acknowledged.
        let committed = request.leader_commit.filter(|commit| Some(commit.term) == term).map(|commit| commit.index);
        let sent_at = (request.sent_at_unix_nanos != 0).then(|| request.sent_at_unix_nanos.min(now));
        let says = committed.zip(sent_at).map(|(committed, at)| Says { at, committed });
        Heard { instant: Instant::now(), says }
    }
}

impl Contact {
    /// A leader that was not heard for `silence` is taken for lost.
    pub(crate) fn new(silence: Duration) -> Contact {
        Contact { silence, last: Mutex::default(), resumed: Notify::new() }
    }

    /// A leader's word was accepted. Of two, the one that came in later counts.
    pub(crate) fn accepted(&self, heard: Heard) {
        let mut last = self.last.lock();
        let before = *last;
        if before.is_some_and(|before| before.instant > heard.instant) {
            return;
        }
        *last = Some(Heard { says: heard.says.or(before.and_then(|before| before.says)), ..heard });
        drop(last);
        // As of now, not as of when it came in: the leader may have been given up while this word waited for the disk.
        let is_lost = |word: Heard| word.instant + self.silence <= Instant::now();
        if before.is_none_or(is_lost) && !is_lost(heard) {
            self.resumed.notify_one();
        }
    }

    /// The moment the last word speaks for, unless it spoke of something after `index`.
    pub(crate) fn confirmed_at(&self, index: u64) -> Option<UnixNanos> {
        let says = (*self.last.lock())?.says?;
        (says.committed <= index).then_some(says.at)
    }

    /// What the leader that was heard last had committed in its own term; `None`: none has said.
    pub(crate) fn committed(&self) -> Option<u64> {
        Some((*self.last.lock())?.says?.committed)
    }

    /// A leader was heard, and at this moment it will have been silent for too long unless it is heard again; `None`: no
    /// leader was heard, or that moment has passed.
    pub(crate) fn lasts_until(&self) -> Option<Instant> {
        let until = (*self.last.lock())?.instant + self.silence;
        (until > Instant::now()).then_some(until)
    }

    /// Returns once a leader is heard after a silence. One task may wait.
    pub(crate) async fn resumed(&self) {
        self.resumed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leader's word of what it has committed, sent and come in at these times.
    fn word(committed: peer::LogId, sent_at: UnixNanos, now: UnixNanos) -> Heard {
        let request = peer::AppendRequest {
            vote: Some(peer::Vote { term: 3, node_id: 1, committed: true }),
            leader_commit: Some(committed),
            sent_at_unix_nanos: sent_at,
            ..Default::default()
        };
        Heard::of(&request, now)
    }

    fn in_its_term(index: u64) -> peer::LogId {
        peer::LogId { term: 3, index }
    }

    /// A follower's machine slept for a minute; when it woke it worked through what the leader had sent before, and claimed
    /// to be current as of now.
    #[tokio::test(start_paused = true)]
    async fn a_word_speaks_for_the_moment_it_was_sent() {
        let contact = Contact::new(Duration::from_millis(700));
        contact.accepted(word(in_its_term(5), 1_000, 61_000));
        assert_eq!(contact.confirmed_at(5), Some(1_000));
        // The leader's clock is ahead of ours: the moment it came in is later than any it can speak for.
        contact.accepted(word(in_its_term(5), 90_000, 62_000));
        assert_eq!(contact.confirmed_at(5), Some(62_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_that_waited_for_the_disk_does_not_replace_a_later_one() {
        let contact = Contact::new(Duration::from_millis(700));
        let slow = word(in_its_term(5), 1, 1);
        tokio::time::advance(Duration::from_millis(100)).await;
        contact.accepted(word(in_its_term(9), 2, 2));
        let until = contact.lasts_until();
        tokio::time::advance(Duration::from_millis(100)).await;
        contact.accepted(slow);
        assert_eq!((contact.confirmed_at(9), contact.lasts_until()), (Some(2), until));
        assert_eq!(contact.confirmed_at(5), None);
    }

    /// A new leader had not yet heard of the last events that its predecessor acknowledged, and confirmed a follower that
    /// had not either.
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_committed_nothing_in_its_term_confirms_nothing() {
        let contact = Contact::new(Duration::from_millis(700));
        contact.accepted(word(in_its_term(5), 1, 1));
        contact.accepted(word(peer::LogId { term: 2, index: 5 }, 2, 2));
        assert_eq!(contact.confirmed_at(5), Some(1));
        assert!(contact.lasts_until().is_some(), "but it leads");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_lost_after_a_silence_and_known_again_once_heard() {
        let contact = Contact::new(Duration::from_millis(700));
        assert_eq!(contact.lasts_until(), None, "nobody was heard by this process");
        contact.accepted(word(in_its_term(5), 1, 1));
        contact.resumed().await;
        let until = contact.lasts_until().unwrap();
        tokio::time::advance(Duration::from_millis(699)).await;
        assert_eq!(contact.lasts_until(), Some(until));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(contact.lasts_until(), None);
        contact.accepted(word(in_its_term(9), 2, 2));
        contact.resumed().await;
        assert!(contact.lasts_until().is_some());
        assert_eq!((contact.confirmed_at(9), contact.confirmed_at(8)), (Some(2), None));
    }

    /// A follower's disk was slow for a moment, and a word that had come in early waited for it until the leader was taken for
    /// lost. The words came in one close behind the other, so none of them ended a silence: the follower knew no leader for
    /// ever after, with every entry in its log (seed 69 of the simulation).
    #[tokio::test(start_paused = true)]
    async fn a_leader_given_up_while_its_word_waited_for_the_disk_is_known_again() {
        let contact = Contact::new(Duration::from_millis(700));
        contact.accepted(word(in_its_term(5), 1, 1));
        contact.resumed().await;
        tokio::time::advance(Duration::from_millis(300)).await;
        let waits = word(in_its_term(6), 2, 2);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(contact.lasts_until(), None, "it is given up");
        contact.accepted(waits);
        tokio::time::timeout(Duration::from_millis(1), contact.resumed()).await.expect("it is known again");
        assert!(contact.lasts_until().is_some());
    }
}
