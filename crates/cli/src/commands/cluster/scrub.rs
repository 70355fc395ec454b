//! How the nodes' copies are checked, for a person.

use std::collections::BTreeSet;

use sillok_wire::{v1, v1::copy_difference::What};

use crate::format::{ago, thousands};

/// `3h ago, clean`, `scrubbing 41 %`, `3h ago, 12 records repaired`, `3h ago, DIFFERS from node 2`.
pub(super) fn short(status: &v1::ScrubStatus) -> String {
    if status.disabled {
        return "off".to_owned();
    }
    let when = match (status.running, &status.completed_at) {
        (true, _) => {
            let percent = status.done_bytes.saturating_mul(100).checked_div(status.total_bytes).unwrap_or(0);
            format!("scrubbing {} %", percent.min(100))
        }
        (false, Some(at)) => ago(Some(at)),
        (false, None) => "not yet".to_owned(),
    };
    let repaired = match status.repaired_entries {
        0 => None,
        1 => Some("1 record repaired".to_owned()),
        many => Some(format!("{} records repaired", thousands(many))),
    };
    let from: BTreeSet<u64> = status.differences.iter().map(|it| it.node_id).collect();
    let differs = (!from.is_empty()).then(|| {
        let from: Vec<String> = from.iter().map(u64::to_string).collect();
        format!("DIFFERS from node {}", from.join(", "))
    });
    let clean = (repaired.is_none() && differs.is_none() && !status.running && status.completed_at.is_some())
        .then(|| "clean".to_owned());
    [Some(when), clean, repaired, differs].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Every difference once, whoever tells it: two nodes see the same one from both sides.
pub(super) fn differences(nodes: &[v1::NodeStatus]) -> Vec<&str> {
    let mut told = BTreeSet::new();
    let mut all = Vec::new();
    for status in nodes {
        let id = status.node.as_ref().map_or(0, |node| node.id);
        for difference in status.scrub.iter().flat_map(|scrub| &scrub.differences) {
            let what = match &difference.what {
                Some(What::Segment(ordinal)) => format!("segment {ordinal}"),
                Some(What::ChannelId(channel)) => format!("channel {channel}"),
                None => String::new(),
            };
            let pair = (id.min(difference.node_id), id.max(difference.node_id));
            if told.insert((pair, what)) {
                all.push(&*difference.summary);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(hours_ago: i64) -> Option<prost_types::Timestamp> {
        let seconds = jiff::Timestamp::now().as_second() - hours_ago * 3_600;
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn differs(node_id: u64, what: What) -> v1::CopyDifference {
        v1::CopyDifference {
            node_id,
            summary: format!("{what:?} of {node_id}"),
            what: Some(what),
            ..Default::default()
        }
    }

    #[test]
    fn the_state_of_a_copy_fits_a_cell() {
        let fresh = v1::ScrubStatus::default();
        let running = v1::ScrubStatus { running: true, done_bytes: 417, total_bytes: 1_000, ..fresh.clone() };
        let nothing_yet = v1::ScrubStatus { running: true, ..fresh.clone() };
        let clean = v1::ScrubStatus { completed_at: completed(3), ..fresh.clone() };
        let repaired = v1::ScrubStatus { repaired_entries: 12, ..clean.clone() };
        let differing = v1::ScrubStatus {
            differences: vec![differs(2, What::Segment(0)), differs(2, What::Segment(1)), differs(3, What::Segment(1))],
            ..clean.clone()
        };
        let off = v1::ScrubStatus { disabled: true, ..fresh.clone() };
        let of = |status: &v1::ScrubStatus| short(status);
        assert_eq!(of(&fresh), "not yet");
        assert_eq!(of(&running), "scrubbing 41 %");
        assert_eq!(of(&nothing_yet), "scrubbing 0 %");
        assert_eq!(of(&clean), format!("{}, clean", ago(clean.completed_at.as_ref())));
        assert_eq!(of(&repaired), format!("{}, 12 records repaired", ago(clean.completed_at.as_ref())));
        assert_eq!(of(&differing), format!("{}, DIFFERS from node 2, 3", ago(clean.completed_at.as_ref())));
        assert_eq!(of(&off), "off");
    }

    #[test]
    fn a_difference_that_both_nodes_tell_is_told_once() {
        let node = |id, differences| v1::NodeStatus {
            node: Some(v1::Node { id, ..Default::default() }),
            scrub: Some(v1::ScrubStatus { differences, ..Default::default() }),
            ..Default::default()
        };
        let nodes = [
            node(1, vec![differs(2, What::Segment(4)), differs(2, What::ChannelId("shop".to_owned()))]),
            node(2, vec![differs(1, What::Segment(4)), differs(3, What::Segment(4))]),
            v1::NodeStatus::default(),
        ];
        assert_eq!(differences(&nodes).len(), 3);
    }
}
