//! What differs, in words; and whose copy is in doubt for it.

use std::collections::{BTreeMap, BTreeSet};

use sillok_wire::{v1, v1::copy_difference::What};

/// Two nodes hold something else under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// This node and the other one; the same where its chain of records is not what its own footer says.
    pub(super) nodes: (u64, u64),
    pub(super) what: Thing,
    pub(super) here: String,
    pub(super) there: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thing {
    /// A sealed segment and its last index.
    Segment { ordinal: u64, last: u64 },
    /// A channel at a revision.
    Channel { channel_id: String, revision: u64 },
}

impl Finding {
    /// What it is, and what to do.
    pub(super) fn summary(&self) -> String {
        let ((own, other), here, there) = (self.nodes, &self.here, &self.there);
        match &self.what {
            Thing::Segment { ordinal, last } if own == other => format!(
                "segment {ordinal} of node {own}, up to entry {last}: the chain of records over its entries ends in {here}, and its footer \
                 says {there}; nothing was changed; compare with `sillok verify`, and replace the node if it differs from the others"
            ),
            Thing::Segment { ordinal, last } => format!(
                "segment {ordinal}, up to entry {last}, is another one at node {own} ({here}) and at node {other} ({there}), and neither is \
                 damaged; nothing was changed; compare with `sillok verify` at each node, and replace the one that differs from the \
                 others"
            ),
            Thing::Channel { channel_id, revision } => format!(
                "channel {channel_id} at revision {revision} comes to {here} at node {own} and to {there} at node {other}; nothing was \
                 changed; if their segments are the same, stop the node that differs from the others and remove its views/: they \
                 are folded anew"
            ),
        }
    }

    pub(super) fn to_proto(&self) -> v1::CopyDifference {
        let (what, at) = match &self.what {
            Thing::Segment { ordinal, last } => (What::Segment(*ordinal), *last),
            Thing::Channel { channel_id, revision } => (What::ChannelId(channel_id.clone()), *revision),
        };
        v1::CopyDifference {
            node_id: self.nodes.1,
            what: Some(what),
            at,
            here: self.here.clone(),
            there: self.there.clone(),
            summary: self.summary(),
        }
    }
}

/// Nodes whose copies are in doubt, of the pairs that differ. A node that differs from fewer others than everyone it differs
/// from is not: the others are the odd ones out. Where that does not tell, both are.
pub(super) fn doubted(pairs: impl Iterator<Item = (u64, u64)>) -> BTreeSet<u64> {
    let mut differs: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (one, other) in pairs {
        differs.entry(one).or_default().insert(other);
        differs.entry(other).or_default().insert(one);
    }
    let is_doubted = |(id, from): &(&u64, &BTreeSet<u64>)| {
        from.iter().any(|other| other == *id || differs.get(other).is_none_or(|theirs| theirs.len() <= from.len()))
    };
    differs.iter().filter(is_doubted).map(|(&id, _)| id).collect()
}
