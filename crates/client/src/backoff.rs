//! How long to wait before the next try.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(20);
/// Short: what is waited for is mostly a new leader, which takes about a second.
const LONGEST: Duration = Duration::from_millis(250);

/// With less time than this left, no try is begun: it would say nothing, and leave a write's outcome unknown.
pub(crate) const SHORTEST_TRY: Duration = Duration::from_millis(20);

/// Doubling waits with jitter, unless the server says when.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The wait before the next try. `said` is the server's `RetryInfo`: never earlier than that.
    pub(crate) fn next(&mut self, said: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries += 1;
        let mut random = rand::rng();
        match said {
            // Later by up to a quarter, so that a crowd told the same does not come back at once.
            Some(said) => said + said.mul_f64(random.random_range(0.0..0.25)),
            None => full.mul_f64(random.random_range(0.5..1.0)),
        }
    }

    /// Something went well: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        let first = backoff.next(None);
        assert!(first >= FIRST / 2 && first <= FIRST);
        for _ in 0..20 {
            assert!(backoff.next(None) <= LONGEST);
        }
        assert!(backoff.next(None) >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn what_the_server_says_is_kept() {
        let said = Duration::from_millis(300);
        let wait = Backoff::default().next(Some(said));
        assert!(wait >= said && wait < said * 5 / 4);
    }
}
