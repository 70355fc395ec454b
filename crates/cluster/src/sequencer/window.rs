//! Whether one more record may be proposed, or what waits should gather into a larger one.
//!
//! Few records at a time make large ones, which cost less for each command. Where a quorum is near, one comes back within a
//! millisecond or two, and whoever waits for it waits for no longer than that. Where it is far, a place comes free once a
//! round trip, and a command that just missed one would wait for nearly another: so several are on the way, and a small one may
//! go all the same some milliseconds after the one before.

use std::time::Duration;

/// Small records in flight at most, where the last one was away for less than [`NEAR`]: while so many are, commands gather into
/// larger ones. A second would be half as large and wait behind the first at the same disks.
const SMALL_IN_FLIGHT: usize = 1;
/// The same, where it was away for longer.
const SMALL_IN_FLIGHT_FAR: usize = 4;
/// A quorum that is about as near as another building: a round trip, a sync, and the queues of a busy machine.
const NEAR: Duration = Duration::from_millis(10);
/// Commands waiting, in bytes, that are worth a record although several are in flight: some sixty, which share what a record
/// costs, while a processor would be idle until the one before is back.
const LARGE_BYTES: usize = 16 << 10;
/// However few wait, they go this long after the record before: longer than a near quorum takes, and little of a far one's round
/// trip.
pub(super) const GATHER: Duration = Duration::from_millis(4);

/// What is in flight, and what waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// In flight.
    pub(super) records: usize,
    /// How long the last one that came back was away; zero before the first.
    pub(super) away: Duration,
    /// There may be another, by number and by bytes.
    pub(super) has_place: bool,
    /// Of commands.
    pub(super) waiting_bytes: usize,
}

impl Window {
    /// `gathered`: it is [`GATHER`] since the newest record.
    pub(super) fn is_open(self, gathered: bool) -> bool {
        let small = if self.away < NEAR { SMALL_IN_FLIGHT } else { SMALL_IN_FLIGHT_FAR };
        self.records < small || (self.has_place && (gathered || self.waiting_bytes >= LARGE_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sites were 60 ms apart, and a thousand clients wrote one command after the other: each waited for one of four records
    /// to come back before its own could go, and half as much was recorded as the distance allowed.
    #[test]
    fn what_waits_goes_at_once_or_when_it_is_much_or_after_a_moment() {
        let far = |records, waiting_bytes| Window {
            records,
            away: Duration::from_millis(60),
            has_place: records < 64,
            waiting_bytes,
        };
        assert!(far(3, 1).is_open(false), "nearly nothing is in flight");
        assert!(!far(4, 1000).is_open(false), "it gathers");
        assert!(far(4, LARGE_BYTES).is_open(false), "it is worth a record");
        assert!(far(40, 1000).is_open(true), "a place may be long in coming");
        assert!(!far(64, LARGE_BYTES).is_open(true), "there is no place");
    }

    /// Sixty-four clients at one site were cut into records of seventeen commands, where thirty waited.
    #[test]
    fn a_near_quorum_gets_one_small_record_at_a_time() {
        let near = |records, waiting_bytes| Window {
            records,
            away: Duration::from_millis(1),
            has_place: records < 64,
            waiting_bytes,
        };
        assert!(near(0, 1).is_open(false), "nobody waits for company");
        assert!(!near(1, 1000).is_open(false), "it is back in a moment");
        assert!(near(1, LARGE_BYTES).is_open(false), "it is worth a record");
        assert!(near(1, 1000).is_open(true), "it was not back in a moment");
    }
}
