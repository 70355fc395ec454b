//! One caller's pipeline of frames, whose order must hold.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// A pipeline: frames sent one after another without waiting for answers.
///
/// Order per channel would break if a frame were turned away (no leader, overloaded, leadership lost) and the one behind
/// it, already on its way, were taken. So a lane is bound to one *route*: the sequencer of one leadership here, or one
/// stream to one leader. A frame whose route is another one while frames are still unanswered is turned away, and so is
/// everything after the first frame that was not answered definitely. The caller then opens a new lane and resends from
/// the first unanswered command with the same keys.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Unlike any other of this process; never 0.
    pub(crate) id: u64,
    route: Mutex<Route>,
    broken: AtomicBool,
    unanswered: AtomicU64,
}

/// Where a lane's frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Route {
    /// Nowhere yet.
    #[default]
    Unbound,
    /// The sequencer of this node, in this epoch of it.
    Here(u64),
    /// A stream to the leader, by number.
    There(u64),
}

impl Default for Lane {
    fn default() -> Lane {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Lane {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            route: Mutex::default(),
            broken: AtomicBool::new(false),
            unanswered: AtomicU64::new(0),
        }
    }
}

impl Lane {
    /// Takes one more frame for `route`; `false`: the lane is broken, or bound elsewhere with frames unanswered.
    pub(crate) fn enter(&self, route: Route) -> bool {
        let mut bound = self.route.lock();
        if self.broken.load(Ordering::Acquire) {
            return false;
        }
        if *bound != route {
            if self.unanswered.load(Ordering::Acquire) > 0 {
                self.broken.store(true, Ordering::Release);
                return false;
            }
            *bound = route;
        }
        self.unanswered.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// One frame has all its answers; `definite`: each is a receipt, a refusal or a fault of the command itself.
    pub(crate) fn answered(&self, definite: bool) {
        if !definite {
            self.broken.store(true, Ordering::Release);
        }
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    /// Its last frame went this way.
    pub(crate) fn is_on(&self, route: Route) -> bool {
        *self.route.lock() == route
    }

    /// Its last frame went to another node.
    pub(crate) fn was_forwarded(&self) -> bool {
        matches!(*self.route.lock(), Route::There(_))
    }

    /// Nothing more is taken.
    pub(crate) fn close(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_behind_one_that_was_turned_away_is_turned_away_too() {
        let lane = Lane::default();
        assert!(lane.enter(Route::Here(1)));
        assert!(lane.enter(Route::Here(1)));
        lane.answered(false);
        assert!(!lane.enter(Route::Here(2)), "the second frame is still unanswered");
        lane.answered(false);
        assert!(!lane.enter(Route::Here(2)), "and the lane stays broken");
    }

    #[test]
    fn an_idle_lane_follows_the_leader() {
        let lane = Lane::default();
        assert!(lane.enter(Route::Here(1)));
        lane.answered(true);
        assert!(lane.enter(Route::There(7)));
        assert!(!lane.enter(Route::Here(2)), "unanswered at the other leader");
    }
}
