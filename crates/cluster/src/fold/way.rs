//! Whether folding gives way to the log.
//!
//! A node that is far behind is of no use to the others before its log is level: only then does what is acknowledged stand at
//! its site too, and only then can it vote. Folding the same entries costs more than taking them in, so on a machine with few
//! processors both at once take nearly twice as long as the log alone. There the log comes first, and folding goes on once it
//! is level, or where it does not get any closer.

use std::time::{Duration, Instant};

use crate::execution::Execution;

/// With more than that, folding has one to itself.
const FEW_PROCESSORS: usize = 3;
/// Entries; a node that is closer is as good as level.
const FAR: u64 = 256;
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where the log came no closer in this time, waiting for it longer would only make answers older.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of one thread that folds.
pub(super) struct Way {
    gives: bool,
    /// The least that the log was behind since it was level, and when it came to that.
    closest: Option<(u64, Instant)>,
}

impl Way {
    pub(super) fn new(execution: &Execution) -> Way {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // A simulation has one thread for everything, which must not wait for itself.
        Way { gives: matches!(execution, Execution::Threads) && processors <= FEW_PROCESSORS, closest: None }
    }

    /// Whether the log was given way to for a moment, on this thread; else the next entries may be folded.
    pub(super) fn gives(&mut self, behind: impl Fn() -> u64) -> bool {
        let gives = self.gives && self.is_for_the_log(behind(), Instant::now());
        if gives {
            std::thread::sleep(LOOK_EVERY);
        }
        gives
    }

    fn is_for_the_log(&mut self, behind: u64, now: Instant) -> bool {
        if behind <= FAR {
            self.closest = None;
            return false;
        }
        match self.closest {
            Some((least, since)) if behind >= least => now.duration_since(since) < PATIENCE,
            _ => {
                self.closest = Some((behind, now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_comes_first_for_as_long_as_it_comes_closer() {
        let mut way = Way { gives: true, closest: None };
        let begun = Instant::now();
        let after = |seconds: u64| begun + Duration::from_secs(seconds);
        assert!(!way.is_for_the_log(FAR, begun), "it is level");
        assert!(way.is_for_the_log(10_000, begun));
        assert!(way.is_for_the_log(9_000, after(10)), "closer, however slowly");
        assert!(way.is_for_the_log(9_000, after(12)));
        // The leader is gone, or the disk cannot keep up with what is written: answers must not grow old for that.
        assert!(!way.is_for_the_log(9_500, after(13)));
        assert!(!way.is_for_the_log(9_400, after(60)));
        assert!(way.is_for_the_log(8_000, after(61)), "it goes on");
        assert!(!way.is_for_the_log(3, after(62)));
        assert!(way.is_for_the_log(50_000, after(63)), "another time");
    }

    #[test]
    fn where_there_are_processors_enough_nothing_waits() {
        let mut way = Way { gives: false, closest: None };
        assert!(!way.gives(|| u64::MAX));
    }
}
