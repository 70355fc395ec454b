//! How much may be in the house: commands that are queued, in flight or not yet answered, counted in bytes.
//!
//! A bound in bytes alone would be a bound on memory: what it holds may be seconds of work, and under overload every call would
//! be answered after those seconds, most of them to callers that no longer wait. So the house is also bounded by how long what
//! is in it will take ([`Pace`]). Calls and new streams beyond that are refused at once, which costs next to nothing; streams that
//! are open hold themselves back before that, so that there is room for new ones whatever the open ones have to send. A stream
//! that is taken has a place from then on and not only once its first frame is here ([`Expecting`]): whoever comes meanwhile would
//! find the house as empty as the one before.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sillok_wire::{
    errors::{Outcome, Problem},
    v1,
};
use tokio::{sync::Notify, time::Duration};
use tokio_util::sync::CancellationToken;

use super::{
    expecting::{Expected, Expecting},
    lane::Lane,
    pace::Pace,
};

/// Calls have so much in any case, however slow the house is: a thousand small ones at least.
const CALLS_BYTES: usize = 1 << 20;
/// Streams have so much in any case: what one of them may have unanswered.
const STREAMS_BYTES: usize = 4 << 20;
/// Open streams send less once what waits takes more than three quarters of what is in time. Not less: over a long distance a
/// round trip's worth must be on its way.
const HELD_BACK: (usize, usize) = (3, 4);

/// Bytes admitted, at most so many at a time; at most half of them may wait for all sites.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    used: AtomicUsize,
    /// Of these, bytes of single calls, whose callers hold nothing back by themselves.
    of_calls: AtomicUsize,
    /// Of these, bytes of calls that ask for all sites: where one is dark they stay as long as they are willing to wait.
    for_sites: AtomicUsize,
    /// Of these, bytes of calls that are committed and wait for sites alone.
    waiting_for_sites: AtomicUsize,
    pace: Pace,
    /// Streams whose first frame is not here yet.
    expecting: Arc<Expecting>,
    emptied: Notify,
    /// Nothing is waited for any more.
    closing: CancellationToken,
}

/// Why a call is not admitted. Each holds the bytes that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// There is no room at all.
    Room(usize),
    /// There is none for calls that ask for all sites; others are taken.
    Sites(usize),
    /// There is room, and what is there already takes too long.
    Late(usize),
}

/// When an overloaded node is worth asking again.
const OVERLOADED_RETRY: Duration = Duration::from_millis(100);

impl Full {
    /// OVERLOADED, certainly not recorded, to whoever came with so many bytes. `no_room`: where those are that take the room.
    pub(crate) fn problem(self, bytes: usize, no_room: impl FnOnce(usize) -> String) -> Problem {
        let message = match self {
            Full::Room(used) => no_room(used),
            Full::Late(used) => {
                format!("{used} bytes of commands wait already, more than can be answered soon; try again")
            }
            Full::Sites(used) => format!(
                "{used} bytes of commands wait for all sites already and {bytes} more are too many; try again, or ask for no \
                 more than a quorum"
            ),
        };
        let problem = Problem::new(v1::Reason::Overloaded, message);
        problem.outcome(Some(Outcome::NotRecorded)).retry_after(OVERLOADED_RETRY)
    }
}

/// Who asks for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A single call.
    Call,
    /// A frame of a stream that is open: it was taken when the stream was.
    Stream,
}

impl Caller {
    /// Whose frame it is, by the stream that it came on.
    pub(crate) fn on(lane: Option<&Arc<Lane>>) -> Caller {
        if lane.is_some() { Caller::Stream } else { Caller::Call }
    }
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Arc<Admission> {
        Arc::new(Admission {
            limit,
            used: AtomicUsize::new(0),
            of_calls: AtomicUsize::new(0),
            pace: Pace::new(),
            expecting: Arc::default(),
            for_sites: AtomicUsize::new(0),
            waiting_for_sites: AtomicUsize::new(0),
            emptied: Notify::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Room for `bytes`, given back when the permit is dropped. One call is always taken where nothing else is there, so
    /// that a call larger than the limit is not refused for ever.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize, for_sites: bool, caller: Caller) -> Result<Permit, Full> {
        if caller == Caller::Call {
            self.calls_are_taken()?;
        }
        if for_sites {
            take(&self.for_sites, bytes, self.limit / 2).map_err(Full::Sites)?;
        }
        if let Err(used) = take(&self.used, bytes, self.limit) {
            if for_sites {
                self.for_sites.fetch_sub(bytes, Ordering::AcqRel);
            }
            return Err(Full::Room(used));
        }
        match caller {
            Caller::Call => drop(self.of_calls.fetch_add(bytes, Ordering::AcqRel)),
            Caller::Stream => self.expecting.came(bytes),
        }
        Ok(Permit { admission: self.clone(), bytes, for_sites, caller, waits_for_sites: false })
    }

    /// Whether single calls are taken at all. To be asked before anything is done for one.
    pub(crate) fn calls_are_taken(&self) -> Result<(), Full> {
        let waiting = self.of_calls.load(Ordering::Acquire);
        let waiting = waiting.saturating_sub(self.waiting_for_sites.load(Ordering::Acquire));
        if waiting < CALLS_BYTES { Ok(()) } else { self.in_time() }
    }

    /// A place for a new stream, until its first frame is admitted.
    pub(crate) fn expect_stream(&self) -> Result<Expected, Full> {
        let coming = self.undecided().saturating_add(self.expecting.bytes());
        if coming >= STREAMS_BYTES {
            self.in_time()?;
        }
        Ok(self.expecting.expect())
    }

    /// Whether streams that are open should send less for now.
    pub(crate) fn holds_streams_back(&self) -> bool {
        let waiting = self.undecided();
        let (parts, of) = HELD_BACK;
        waiting >= STREAMS_BYTES && waiting >= self.pace.bytes_in_time() / of * parts
    }

    /// Whether what is there is answered soon enough.
    fn in_time(&self) -> Result<(), Full> {
        let waiting = self.undecided().saturating_add(self.expecting.bytes());
        if waiting < self.pace.bytes_in_time() { Ok(()) } else { Err(Full::Late(waiting)) }
    }

    /// A record was away for so long: what is in time hangs on it.
    pub(super) fn away(&self, away: Duration) {
        self.pace.away(away);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Admitted, and neither committed nor turned away.
    pub(crate) fn undecided(&self) -> usize {
        self.used().saturating_sub(self.waiting_for_sites.load(Ordering::Acquire))
    }

    /// Whoever waits only for sites is answered with those that are known, now and from now on.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Returns once nothing is admitted.
    pub(crate) async fn idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.used() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// Adds `bytes` unless that is more than `limit`, or says how many are there. Where none are, any number is taken.
fn take(used: &AtomicUsize, bytes: usize, limit: usize) -> Result<usize, usize> {
    let more = |used: usize| (used == 0 || used.saturating_add(bytes) <= limit).then(|| used.saturating_add(bytes));
    used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
}

/// Admitted bytes.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
    for_sites: bool,
    caller: Caller,
    waits_for_sites: bool,
}

impl Permit {
    /// All that is left to wait for are sites. Ends when even they are not waited for any more.
    pub(crate) async fn wait_for_sites(&mut self) {
        if !self.waits_for_sites {
            self.waits_for_sites = true;
            self.admission.waiting_for_sites.fetch_add(self.bytes, Ordering::AcqRel);
            self.admission.pace.done(self.bytes, self.admission.undecided());
        }
        self.admission.closing.cancelled().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.waits_for_sites {
            self.admission.waiting_for_sites.fetch_sub(self.bytes, Ordering::AcqRel);
        }
        if self.for_sites {
            self.admission.for_sites.fetch_sub(self.bytes, Ordering::AcqRel);
        }
        if self.caller == Caller::Call {
            self.admission.of_calls.fetch_sub(self.bytes, Ordering::AcqRel);
        }
        let used = self.admission.used.fetch_sub(self.bytes, Ordering::AcqRel);
        if !self.waits_for_sites {
            self.admission.pace.done(self.bytes, self.admission.undecided());
        }
        if used == self.bytes {
            self.admission.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A site was dark, and clients that asked for all sites filled the leader: those content with a quorum were turned
    /// away for as long as the others were willing to wait.
    #[test]
    fn what_asks_for_all_sites_leaves_room_for_what_does_not() {
        let admission = Admission::new(100);
        let first = admission.admit(30, true, Caller::Call).unwrap();
        assert_eq!(admission.admit(30, true, Caller::Call).unwrap_err(), Full::Sites(30));
        let second = admission.admit(20, true, Caller::Call).unwrap();
        let quorum = admission.admit(50, false, Caller::Call).unwrap();
        assert_eq!(admission.admit(1, false, Caller::Call).unwrap_err(), Full::Room(100));
        drop(quorum);
        drop(first);
        assert_eq!(admission.used(), 20);
        let again = admission.admit(30, true, Caller::Call).unwrap();
        drop((second, again));
        assert_eq!(admission.used(), 0);
        assert!(
            admission.admit(1_000, true, Caller::Call).is_ok(),
            "one is taken where nothing else is, however large"
        );
    }

    /// Five times as much as could be answered was asked. All of it was let in until 64 MiB waited, and every call was
    /// answered after many seconds.
    #[tokio::test(start_paused = true)]
    async fn what_would_wait_too_long_is_refused_and_open_streams_go_on() {
        const MIB: usize = 1 << 20;
        let admission = Admission::new(64 * MIB);
        // 8 MiB a second are answered, and five times as much is asked.
        let mut house = std::collections::VecDeque::new();
        let mut refused = 0;
        for _ in 0..1_000 {
            for _ in 0..20 {
                match admission.admit(20_972, false, Caller::Call) {
                    Ok(permit) => house.push_back(permit),
                    Err(Full::Late(_)) => refused += 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
            tokio::time::advance(std::time::Duration::from_millis(10)).await;
            house.drain(..house.len().min(4));
        }
        assert!((3 * MIB..5 * MIB).contains(&admission.used()), "half a second's worth: {}", admission.used());
        assert!(refused > 15_000, "the rest is refused: {refused}");
        assert!(!admission.holds_streams_back(), "streams have a little in any case");
        let stream = admission.admit(4 * MIB, false, Caller::Stream).unwrap();
        assert!(admission.holds_streams_back());
        assert!(admission.expect_stream().is_err(), "a new one would wait too");
        drop(stream);
        house.clear();
        assert!(admission.expect_stream().is_ok());
        let stream = admission.admit(3 * MIB, false, Caller::Stream).unwrap();
        assert!(!admission.holds_streams_back(), "one alone has its window");
        drop(stream);
        assert!(admission.admit(4 * MIB, false, Caller::Call).is_ok());
    }

    /// While the leader was busy, hundreds of streams were taken one after the other, each for the room that none of them had
    /// used yet: three times what could be answered in time came in with their first frames, and the leader lost its office over it.
    #[tokio::test(start_paused = true)]
    async fn streams_that_come_together_do_not_share_one_place() {
        const MIB: usize = 1 << 20;
        let admission = Admission::new(64 * MIB);
        // 8 MiB a second are answered, in frames of 64 KiB, while all that is in time waits.
        let mut house = std::collections::VecDeque::new();
        for _ in 0..200 {
            while admission.used() < 4 * MIB {
                house.push_back(admission.admit(MIB / 16, false, Caller::Stream).unwrap());
            }
            tokio::time::advance(std::time::Duration::from_millis(10)).await;
            house.pop_front();
        }
        house.drain(16..);
        let taken: Vec<_> = std::iter::from_fn(|| admission.expect_stream().ok()).take(1_000).collect();
        assert!((30..60).contains(&taken.len()), "three of four MiB are free: {}", taken.len());
        let first = taken.into_iter().map(|expected| {
            let frame = admission.admit(MIB / 16, false, Caller::Stream).unwrap();
            drop(expected);
            frame
        });
        house.extend(first.collect::<Vec<_>>());
        assert!(admission.expect_stream().is_err(), "now they wait themselves");
        house.drain(16..);
        assert!(admission.expect_stream().is_ok());
    }

    #[test]
    fn a_call_that_finds_no_room_leaves_the_share_of_all_sites_as_it_was() {
        let admission = Admission::new(100);
        let _quorum = admission.admit(90, false, Caller::Call).unwrap();
        assert_eq!(admission.admit(40, true, Caller::Call).unwrap_err(), Full::Room(90));
        assert!(admission.admit(10, true, Caller::Call).is_ok());
    }
}
