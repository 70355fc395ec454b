//! How far a node is behind this one, in measures that mean something to a person.

use sillok_wire::v1;

use crate::{
    chain::{ChainFold, ChainState},
    core::Core,
};

/// What stands here behind the entry at `flushed`. `None` where this node's own end is not known.
pub(super) fn behind(core: &Core, flushed: u64) -> Option<v1::Lag> {
    let last = core.chronicle.last()?;
    if flushed >= last.index {
        return Some(v1::Lag::default());
    }
    let (_, _, end) = core.chain.link(last.index)?;
    let left = core.chronicle.left_behind(flushed);
    let at = match (core.chain.link(flushed), &left.within) {
        (Some((_, _, state)), _) => Some(state),
        (None, Some(within)) => between(within),
        (None, None) => None,
    }?;
    let (events, nanos) = (end.next_sequence.checked_sub(at.next_sequence), end.accepted_at - at.accepted_at);
    Some(v1::Lag {
        events: events.unwrap_or(0),
        bytes: left.bytes,
        // Before the first record there is no time.
        time_ms: if at.accepted_at == 0 { 0 } else { u64::try_from(nanos / 1_000_000).unwrap_or(0) },
    })
}

/// As if a segment's records were alike.
fn between(within: &sillok_chronicle::Within) -> Option<ChainState> {
    let after = ChainFold::state_in(&within.after)?;
    let before = match &within.before {
        Some(state) => ChainFold::state_in(state)?,
        None => ChainState { accepted_at: 0, ..ChainState::default() },
    };
    let of = |from: i128, to: i128| from + ((to - from) as f64 * within.share) as i128;
    let sequence = of(before.next_sequence.into(), after.next_sequence.into());
    let accepted_at = match before.accepted_at {
        0 => after.accepted_at,
        from => i64::try_from(of(from.into(), after.accepted_at.into())).ok()?,
    };
    Some(ChainState { next_sequence: u64::try_from(sequence).ok()?, accepted_at, ..after })
}

#[cfg(test)]
mod tests {
    use sillok_chronicle::{Fold as _, Within};

    use super::*;

    fn state(next_sequence: u64, accepted_at: i64) -> bytes::Bytes {
        ChainFold::at(ChainState { next_sequence, accepted_at, ..ChainState::default() }).state().into()
    }

    #[test]
    fn a_place_between_two_footers_is_as_far_as_its_share() {
        let within = Within { before: Some(state(101, 1_000)), after: state(301, 3_000), share: 0.25 };
        let at = between(&within).unwrap();
        assert_eq!((at.next_sequence, at.accepted_at), (151, 1_500));
        let first = Within { before: None, after: state(301, 3_000), share: 0.5 };
        let at = between(&first).unwrap();
        assert_eq!((at.next_sequence, at.accepted_at), (151, 3_000), "nobody knows when the first was accepted");
    }
}
