//! Peers that have answered nothing for long.
//!
//! A leader that hears nobody, and is heard by everyone, must fall silent: whoever hears it takes it for the leader and
//! elects no other. openraft holds its heartbeats back by then (`quorum_loss_probe_interval`), and not its appends: it opens
//! one stream after the other, and each one's first request is heard. Here they become rare enough for an election.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Noted for every heartbeat and append stream to a peer, and for every answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// Of election timeouts, the longest.
    election_max: Duration,
    peers: Mutex<BTreeMap<u64, Peer>>,
}

#[derive(Debug)]
struct Peer {
    /// Of the leader that asks. What went unanswered in an earlier term says nothing.
    term: u64,
    /// The first question after the last answer.
    since: Option<Instant>,
    /// The last append stream.
    tried: Instant,
}

impl Unanswered {
    pub(crate) fn new(election_max: Duration) -> Unanswered {
        Unanswered { election_max, peers: Mutex::default() }
    }

    /// A heartbeat is sent.
    pub(crate) fn asked(&self, peer: u64, term: u64) {
        self.of(peer, term, |state, now| {
            state.since.get_or_insert(now);
        });
    }

    /// It answered, whatever it said.
    pub(crate) fn answered(&self, peer: u64) {
        if let Some(state) = self.peers.lock().get_mut(&peer) {
            state.since = None;
        }
    }

    /// Whether an append stream may be opened now, which is noted; else for how long nothing was answered. Once that is an
    /// election timeout, a stream is opened every four: peers that are asked at different moments then still have an election
    /// timeout in which both have given this leader up, and one can be elected. (Never again would be too little: on a link slower than a
    /// heartbeat's deadline only appends are answered.)
    pub(crate) fn may_append(&self, peer: u64, term: u64) -> Result<(), Duration> {
        self.of(peer, term, |state, now| {
            let silent = now - *state.since.get_or_insert(now);
            if silent >= self.election_max && now - state.tried < 4 * self.election_max {
                return Err(silent);
            }
            state.tried = now;
            Ok(())
        })
    }

    fn of<R>(&self, peer: u64, term: u64, then: impl FnOnce(&mut Peer, Instant) -> R) -> R {
        let now = Instant::now();
        let mut peers = self.peers.lock();
        let state = peers.entry(peer).or_insert(Peer { term, since: None, tried: now });
        if state.term != term {
            *state = Peer { term, since: None, tried: now };
        }
        then(state, now)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const ELECTION_MAX: Duration = Duration::from_millis(350);
    const TICK: Duration = Duration::from_millis(10);

    /// A drill's leader heard nobody and was heard by both followers. Its append streams, one after the other with pauses
    /// shorter than an election timeout, kept both from standing for election: eleven seconds without a write.
    #[tokio::test(start_paused = true)]
    async fn whoever_hears_a_leader_that_hears_nobody_has_time_for_an_election() {
        let unanswered = Unanswered::new(ELECTION_MAX);
        // Both are tried as often as may be, the second from another moment on.
        let mut heard: [Vec<Instant>; 2] = Default::default();
        let begun = Instant::now();
        while begun.elapsed() < 20 * ELECTION_MAX {
            for (peer, heard) in heard.iter_mut().enumerate() {
                let late = ELECTION_MAX * 2 * peer as u32;
                if begun.elapsed() >= late && unanswered.may_append(peer as u64, 1).is_ok() {
                    heard.push(Instant::now());
                }
            }
            advance(TICK).await;
        }
        // The leader was given up by both, for as long as the longest election timeout.
        let given_up =
            |now: Instant| heard.iter().all(|heard| heard.iter().all(|at| *at > now || now - *at >= ELECTION_MAX));
        let ticks = (0..20 * 35).map(|tick| begun + TICK * tick);
        let mut longest = 0;
        ticks.fold(0, |run, now| {
            let run = if given_up(now) { run + 1 } else { 0 };
            longest = longest.max(run);
            run
        });
        assert!(longest >= 35, "{longest} ticks of 10 ms, {heard:?}");
        assert!(heard.iter().all(|heard| heard.len() > 35 + 3), "it goes on to try: {heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_opens_the_way_and_so_does_a_new_term() {
        let unanswered = Unanswered::new(ELECTION_MAX);
        unanswered.asked(2, 1);
        advance(ELECTION_MAX).await;
        assert_eq!(unanswered.may_append(2, 1), Err(ELECTION_MAX));
        assert_eq!(unanswered.may_append(3, 1), Ok(()), "each peer for itself");
        unanswered.answered(2);
        assert_eq!(unanswered.may_append(2, 1), Ok(()));
        advance(ELECTION_MAX).await;
        assert_eq!(unanswered.may_append(2, 1), Err(ELECTION_MAX));
        assert_eq!(unanswered.may_append(2, 2), Ok(()));
    }
}
