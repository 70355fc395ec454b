//! How much may be in the house: commands that are queued, in flight or not yet answered, counted in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes admitted, at most so many at a time; at most half of them may wait for all sites.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    used: AtomicUsize,
    /// Of these, bytes of calls that ask for all sites: where one is dark they stay as long as they are willing to wait.
    for_sites: AtomicUsize,
    /// Of these, bytes of calls that are committed and wait for sites alone.
    waiting_for_sites: AtomicUsize,
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
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Arc<Admission> {
        Arc::new(Admission {
            limit,
            used: AtomicUsize::new(0),
            for_sites: AtomicUsize::new(0),
            waiting_for_sites: AtomicUsize::new(0),
            emptied: Notify::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Room for `bytes`, given back when the permit is dropped. One call is always taken where nothing else is there, so
    /// that a call larger than the limit is not refused for ever.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize, for_sites: bool) -> Result<Permit, Full> {
        if for_sites {
            take(&self.for_sites, bytes, self.limit / 2).map_err(Full::Sites)?;
        }
        if let Err(used) = take(&self.used, bytes, self.limit) {
            if for_sites {
                self.for_sites.fetch_sub(bytes, Ordering::AcqRel);
            }
            return Err(Full::Room(used));
        }
        Ok(Permit { admission: self.clone(), bytes, for_sites, waits_for_sites: false })
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
    waits_for_sites: bool,
}

impl Permit {
    /// All that is left to wait for are sites. Ends when even they are not waited for any more.
    pub(crate) async fn wait_for_sites(&mut self) {
        if !self.waits_for_sites {
            self.waits_for_sites = true;
            self.admission.waiting_for_sites.fetch_add(self.bytes, Ordering::AcqRel);
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
        if self.admission.used.fetch_sub(self.bytes, Ordering::AcqRel) == self.bytes {
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
        let first = admission.admit(30, true).unwrap();
        assert_eq!(admission.admit(30, true).unwrap_err(), Full::Sites(30));
        let second = admission.admit(20, true).unwrap();
        let quorum = admission.admit(50, false).unwrap();
        assert_eq!(admission.admit(1, false).unwrap_err(), Full::Room(100));
        drop(quorum);
        drop(first);
        assert_eq!(admission.used(), 20);
        let again = admission.admit(30, true).unwrap();
        drop((second, again));
        assert_eq!(admission.used(), 0);
        assert!(admission.admit(1_000, true).is_ok(), "one is taken where nothing else is, however large");
    }

    #[test]
    fn a_call_that_finds_no_room_leaves_the_share_of_all_sites_as_it_was() {
        let admission = Admission::new(100);
        let _quorum = admission.admit(90, false).unwrap();
        assert_eq!(admission.admit(40, true).unwrap_err(), Full::Room(90));
        assert!(admission.admit(10, true).is_ok());
    }
}
