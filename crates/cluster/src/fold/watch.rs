//! How far the views are and whether they go on, for those who look and for those who wait.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use sillok_views::Applied;
use tokio::sync::watch;

/// Whether the views go on. Changes a few times in the life of a node, so that it costs nothing to listen all the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The rows on disk are in memory, or are known to be of no use. Until then the views are empty and answer nothing.
    pub(crate) is_loaded: bool,
    /// Why folding stopped, for a person; `None`: it goes on.
    pub(crate) stopped: Option<Arc<str>>,
}

/// Why the views will not get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreached {
    /// They have stopped, for this.
    Stopped(Arc<str>),
    /// The node is stopping.
    Ending,
}

/// Looks at folding, and waits for it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Folding {
    condition: watch::Receiver<Condition>,
    applied: watch::Receiver<Option<Applied>>,
    breather: Arc<Breather>,
}

/// Tells those who look.
pub(super) struct Folder {
    condition: watch::Sender<Condition>,
    applied: watch::Sender<Option<Applied>>,
    pub(super) breather: Arc<Breather>,
}

/// One who folds, and who can be watched.
pub(super) fn watched() -> (Folder, Folding) {
    let breather = Arc::new(Breather::default());
    let (condition, conditions) = watch::channel(Condition::default());
    let (applied, all_applied) = watch::channel(None);
    let folding = Folding { condition: conditions, applied: all_applied, breather: breather.clone() };
    (Folder { condition, applied, breather }, folding)
}

impl Folder {
    pub(super) fn loaded(&self, applied: Option<Applied>) {
        self.applied.send_replace(applied);
        self.condition.send_modify(|now| now.is_loaded = true);
    }

    pub(super) fn applied(&self, applied: Option<Applied>) {
        self.applied.send_replace(applied);
    }

    pub(super) fn stopped(&self, why: Arc<str>) {
        self.condition.send_modify(|now| now.stopped = Some(why));
    }
}

impl Folding {
    pub(crate) fn is_loaded(&self) -> bool {
        self.condition.borrow().is_loaded
    }

    /// Why folding stopped; `None`: it goes on.
    pub(crate) fn why_stopped(&self) -> Option<Arc<str>> {
        self.condition.borrow().stopped.clone()
    }

    /// Everything up to here is in the views.
    pub(crate) fn applied(&self) -> Option<Applied> {
        *self.applied.borrow()
    }

    /// Waits until there is anything to answer from.
    ///
    /// # Errors
    /// The node is stopping.
    pub(crate) async fn loaded(&mut self) -> Result<(), Unreached> {
        self.condition.wait_for(|now| now.is_loaded).await.map(drop).map_err(|_| Unreached::Ending)
    }

    /// Waits until folding stops for good; `None`: the node did first.
    pub(crate) async fn stopped(&mut self) -> Option<Arc<str>> {
        self.condition.wait_for(|now| now.stopped.is_some()).await.ok().and_then(|now| now.stopped.clone())
    }

    /// Waits until the views are there, and wakes whoever folds if it is taking breath.
    ///
    /// # Errors
    /// They will not get there.
    pub(crate) async fn reach(&mut self, there: impl Fn(&Applied) -> bool) -> Result<(), Unreached> {
        let there = |now: &Option<Applied>| now.as_ref().is_some_and(&there);
        if there(&self.applied.borrow()) {
            return Ok(());
        }
        let _hurry = self.breather.hurry();
        tokio::select! {
            biased;
            reached = self.applied.wait_for(there) => reached.map(drop).map_err(|_| Unreached::Ending),
            stopped = self.condition.wait_for(|now| now.stopped.is_some()) => {
                let why = stopped.ok().and_then(|now| now.stopped.clone());
                Err(why.map_or(Unreached::Ending, Unreached::Stopped))
            }
        }
    }
}

/// What folding does once it is level: nothing for a moment, so that one look does for several records.
///
/// A thread that is woken for each record costs two switches a record in each node, on the processors that the next record
/// needs. Whoever waits for the views says so, and then nothing is waited for.
#[derive(Default)]
pub(super) struct Breather {
    hurried: Mutex<usize>,
    called: Condvar,
}

/// Somebody waits for the views, until this is dropped.
struct Hurry(Arc<Breather>);

impl Breather {
    fn hurry(self: &Arc<Breather>) -> Hurry {
        *self.hurried.lock() += 1;
        self.called.notify_all();
        Hurry(self.clone())
    }

    /// Returns after `at_most`, or as soon as somebody waits for the views.
    pub(super) fn breathe(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let mut hurried = self.hurried.lock();
        while *hurried == 0 && !self.called.wait_until(&mut hurried, until).timed_out() {}
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        *self.0.hurried.lock() -= 1;
    }
}

impl fmt::Debug for Breather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breather").field("hurried", &*self.hurried.lock()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Option<Applied> {
        Some(Applied { index, term: 1, record_term: 1, sequence: index, head: [7; 32], accepted_at: None })
    }

    #[tokio::test]
    async fn whoever_waits_is_told_when_the_views_are_there_or_never_will_be() {
        let (folder, mut folding) = watched();
        folder.loaded(at(3));
        assert!(folding.is_loaded());
        assert_eq!(folding.reach(|applied| applied.index >= 3).await, Ok(()));
        let mut waits = folding.clone();
        let reached = tokio::spawn(async move { waits.reach(|applied| applied.index >= 4).await });
        tokio::task::yield_now().await;
        assert!(!reached.is_finished());
        folder.applied(at(4));
        assert_eq!(reached.await.unwrap(), Ok(()));
        folder.stopped("a planted reason".into());
        let never = folding.reach(|applied| applied.index >= 5).await;
        assert_eq!(never, Err(Unreached::Stopped("a planted reason".into())));
        assert_eq!(folding.reach(|applied| applied.index >= 4).await, Ok(()), "what is there is there");
        drop(folder);
        assert_eq!(folding.clone().stopped().await.as_deref(), Some("a planted reason"));
    }

    #[test]
    fn nobody_takes_breath_while_somebody_waits() {
        let breather = Arc::new(Breather::default());
        let long = Duration::from_secs(600);
        let hurry = breather.hurry();
        breather.breathe(long);
        drop(hurry);
        std::thread::scope(|scope| {
            let breathing = scope.spawn(|| breather.breathe(long));
            let _hurry = breather.hurry();
            breathing.join().unwrap();
        });
        breather.breathe(Duration::ZERO);
    }
}
