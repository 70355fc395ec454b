//! The figures for a person.

use super::figures::NodeFigures;
use crate::{
    format::{bytes, thousands},
    table::Rows,
};

/// A block for each node, the leader first; those that did not answer below.
pub(super) fn screen(nodes: &[NodeFigures], silent: &[String]) -> String {
    let mut order: Vec<&NodeFigures> = nodes.iter().collect();
    order.sort_by_key(|node| (!node.leads, node.node.clone()));
    let mut parts: Vec<String> = order.into_iter().map(node).collect();
    parts.extend(silent.iter().map(|address| format!("{address}  tells nothing")));
    parts.join("\n\n")
}

fn node(node: &NodeFigures) -> String {
    let leads = if node.leads { ", leads" } else { "" };
    let name = match node.node.is_empty() {
        true => node.address.clone(),
        false => format!("{} {}{leads}", node.site, node.node),
    };
    let number = |value: Option<f64>| value.map(|value| thousands(value.round() as u64));
    let mut facts = vec![name];
    let mut fact = |value: Option<String>, after: &str| facts.extend(value.map(|value| format!("{value}{after}")));
    fact(number(node.events_per_second), " events/s");
    fact(number(node.refused_per_second.filter(|rate| *rate >= 0.5)), " refused/s");
    fact(number(node.processors.map(|share| share * 100.0)), " % CPU");
    fact(node.resident_bytes.map(|size| bytes(size as u64)), " memory");
    if node.leads {
        fact(node.queue_bytes.map(|size| bytes(size as u64)), " queued");
        fact(number(node.records_in_flight), " records in flight");
        fact(node.decisions_per_record.map(|mean| format!("{mean:.1}")), " commands a record");
    }
    fact(node.chronicle_bytes_per_second.map(|rate| bytes(rate as u64)), "/s to the chronicle");
    fact(node.entries_per_fsync.map(|mean| format!("{mean:.1}")), " entries a sync");
    fact(number(node.apply_lag_entries), " entries to fold");
    if node.stages.is_empty() {
        return format!("{}\n(nothing is under way)", facts.join("  "));
    }
    let mut rows = Rows::new(&["stage", ">a second", ">p50", ">p99", ">busy", "what"]);
    for stage in &node.stages {
        rows.push([
            stage.stage.to_owned(),
            thousands(stage.per_second.round() as u64),
            span(stage.p50_seconds),
            span(stage.p99_seconds),
            format!("{:.0} %", stage.busy * 100.0),
            stage.what.to_owned(),
        ]);
    }
    format!("{}\n{}", facts.join("  "), rows.render())
}

/// `85 µs`, `1.2 ms`, `3.4 s`.
fn span(seconds: f64) -> String {
    match seconds * 1e6 {
        small if small < 1e3 => format!("{small:.0} µs"),
        middle if middle < 1e6 => format!("{:.1} ms", middle / 1e3),
        large => format!("{:.1} s", large / 1e6),
    }
}
