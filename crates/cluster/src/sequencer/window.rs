//! Whether one more record may be proposed, or what waits should gather into a larger one.
//!
//! Few records at a time make large ones, which cost less for each command. Where a quorum is near they come back within a
//! millisecond or two, and whoever waits for a place waits for no longer than that. Where it is far, a place comes free once a
//! round trip, and a command that just missed one would wait for nearly another: so a small record may go all the same some
//! milliseconds after the one before.

use std::time::Duration;

/// Small records in flight at most: while so many are, commands gather into larger ones.
const SMALL_IN_FLIGHT: usize = 4;
/// Commands waiting, in bytes, that are worth a record although several are in flight.
const LARGE_BYTES: usize = 64 << 10;
/// However few wait, they go this long after the record before: longer than a near quorum takes, and little of a far one's round
/// trip.
pub(super) const GATHER: Duration = Duration::from_millis(4);

/// What is in flight, and what waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// In flight.
    pub(super) records: usize,
    /// There may be another, by number and by bytes.
    pub(super) has_place: bool,
    /// Of commands.
    pub(super) waiting_bytes: usize,
}

impl Window {
    /// `gathered`: it is [`GATHER`] since the newest record.
    pub(super) fn is_open(self, gathered: bool) -> bool {
        self.records < SMALL_IN_FLIGHT || (self.has_place && (gathered || self.waiting_bytes >= LARGE_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sites were 60 ms apart, and a thousand clients wrote one command after the other: each waited for one of four records
    /// to come back before its own could go, and half as much was recorded as the distance allowed.
    #[test]
    fn what_waits_goes_at_once_or_when_it_is_much_or_after_a_moment() {
        let window = |records, waiting_bytes| Window { records, has_place: records < 64, waiting_bytes };
        assert!(window(3, 1).is_open(false), "nearly nothing is in flight");
        assert!(!window(4, 1000).is_open(false), "it gathers");
        assert!(window(4, LARGE_BYTES).is_open(false), "it is worth a record");
        assert!(window(40, 1000).is_open(true), "a place may be long in coming");
        assert!(!window(64, LARGE_BYTES).is_open(true), "there is no place");
    }
}
