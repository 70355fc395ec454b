//! How much stands behind an index: for whoever must say how far a copy is behind this one.

use bytes::Bytes;

use crate::log::Log;

/// What is known, without reading, of the log behind an index.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Bytes of the entries behind it; within a sealed segment as if all its entries were alike.
    pub bytes: u64,
    /// Where the entry stands in a sealed segment.
    pub within: Option<Within>,
}

/// A place in a sealed segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Within {
    /// The fold's state before the segment; `None`: it is the first.
    pub before: Option<Bytes>,
    /// The state after it.
    pub after: Bytes,
    /// The share of its entries that stand at the index or before it, from just above 0 to 1.
    pub share: f64,
}

pub(crate) fn left(log: &Log, index: u64) -> Left {
    let n = log.sealed.partition_point(|sealed| sealed.info.last.index < index);
    let mut bytes: u64 = log.sealed[n..].iter().map(|sealed| sealed.info.bytes).sum();
    let within = log.sealed.get(n).map(|sealed| {
        let info = &sealed.info;
        let entries = (info.last.index - info.first.index + 1) as f64;
        let share = ((index + 1).saturating_sub(info.first.index)) as f64 / entries;
        bytes -= ((info.bytes as f64 * share) as u64).min(info.bytes);
        let before = n.checked_sub(1).map(|n| log.sealed[n].info.state.clone());
        Within { before, after: info.state.clone(), share }
    });
    for segment in &log.open {
        bytes += segment.end - segment.offset_of((index + 1).max(segment.first)).min(segment.end);
    }
    Left { bytes, within }
}
