//! `google.protobuf.Timestamp` and `Duration` to and from what the domain counts in.

use std::time::Duration;

use sillok_domain::UnixNanos;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A time that this system cannot hold: outside 1677-09-21 to 2262-04-11, or malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the time is malformed or outside 1677-09-21 to 2262-04-11; give seconds since 1970 UTC and nanos from 0 to 999,999,999"
)]
pub struct OutOfRange;

/// Every `UnixNanos` has a timestamp.
pub fn timestamp(nanos: UnixNanos) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: nanos.div_euclid(NANOS_PER_SECOND),
        // 0..1e9 fits.
        nanos: nanos.rem_euclid(NANOS_PER_SECOND) as i32,
    }
}

/// The same moment as nanoseconds.
///
/// # Errors
/// Where `nanos` is not within 0..1e9 or the moment does not fit 64 bits of nanoseconds.
pub fn unix_nanos(timestamp: &prost_types::Timestamp) -> Result<UnixNanos, OutOfRange> {
    let nanos = i64::from(timestamp.nanos);
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err(OutOfRange);
    }
    // Through 128 bits: the earliest seconds do not fit alone, but do together with their nanos.
    let all = i128::from(timestamp.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    i64::try_from(all).map_err(|_| OutOfRange)
}

/// A length of time, 0 or more.
///
/// # Errors
/// Where it is negative or malformed.
pub fn duration(duration: &prost_types::Duration) -> Result<Duration, OutOfRange> {
    let seconds = u64::try_from(duration.seconds).map_err(|_| OutOfRange)?;
    let nanos = u32::try_from(duration.nanos).map_err(|_| OutOfRange)?;
    if i64::from(nanos) >= NANOS_PER_SECOND {
        return Err(OutOfRange);
    }
    Ok(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_moment_comes_back(nanos: i64) {
            prop_assert_eq!(unix_nanos(&timestamp(nanos)), Ok(nanos));
        }
    }

    #[test]
    fn the_ends_come_back() {
        for nanos in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(unix_nanos(&timestamp(nanos)), Ok(nanos));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let over = prost_types::Timestamp { seconds: 9_223_372_037, nanos: 0 };
        assert_eq!(unix_nanos(&over), Err(OutOfRange));
        assert_eq!(unix_nanos(&prost_types::Timestamp { seconds: 0, nanos: -1 }), Err(OutOfRange));
        assert_eq!(unix_nanos(&prost_types::Timestamp { seconds: 0, nanos: 1_000_000_000 }), Err(OutOfRange));
        assert_eq!(duration(&prost_types::Duration { seconds: -1, nanos: 0 }), Err(OutOfRange));
        assert_eq!(duration(&prost_types::Duration { seconds: 1, nanos: 5 }), Ok(Duration::new(1, 5)));
    }
}
