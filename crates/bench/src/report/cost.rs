//! What each event cost: two snapshots, and how many events lie between them.

use serde::Serialize;

use crate::meter::{Snapshot, Usage};

/// What a run used.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Of each process that was there at both ends; the load's own is the last.
    pub processes: Vec<Process>,
    /// What the disk under the nodes of the bench's own wrote: for all three, with zeros ahead of the chronicle, views and logs,
    /// and whatever else the machine did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes_per_event: Option<f64>,
}

/// What one process used. A figure is absent where nobody tells: a node of an attached cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Site and id, or `load generator`.
    pub name: String,
    /// It led at the end.
    pub leads: bool,
    /// User and system time, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_event: Option<f64>,
    /// Syncs of the chronicle's segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsyncs_per_event: Option<f64>,
    /// The same, all in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsyncs: Option<u64>,
    /// Frames handed to the chronicle's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chronicle_bytes_per_event: Option<f64>,
    /// Batches of view rows written and synced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_spills: Option<u64>,
    /// Memory at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
}

impl Cost {
    pub(crate) fn between(before: &Snapshot, after: &Snapshot, events: u64) -> Cost {
        let found =
            |usage: &Usage| before.processes.iter().find(|other| (&other.name, other.pid) == (&usage.name, usage.pid));
        let each = after.processes.iter().filter_map(|usage| Some(process(found(usage)?, usage, events)));
        let device = before.device_bytes.zip(after.device_bytes).filter(|_| events > 0);
        let device = device.map(|(before, after)| after.saturating_sub(before) as f64 / events as f64);
        Cost { processes: each.collect(), device_bytes_per_event: device }
    }

    /// CPU microseconds an event of all processes but the load generator.
    pub fn nodes_cpu_us(&self) -> Option<f64> {
        self.nodes().map(|node| node.cpu_us_per_event).sum::<Option<f64>>().filter(|_| self.nodes().count() > 0)
    }

    /// CPU microseconds an event of the load generator.
    pub fn load_cpu_us(&self) -> Option<f64> {
        self.processes.last()?.cpu_us_per_event
    }

    /// Syncs of all nodes for each event.
    pub fn fsyncs(&self) -> Option<f64> {
        self.nodes().map(|node| node.fsyncs_per_event).sum::<Option<f64>>().filter(|_| self.nodes().count() > 0)
    }

    /// Bytes that a node's chronicle grows by for each event: the mean over nodes.
    pub fn chronicle_bytes(&self) -> Option<f64> {
        mean(self.nodes().map(|node| node.chronicle_bytes_per_event))
    }

    /// Memory of the largest node, in bytes.
    pub fn largest_node(&self) -> Option<u64> {
        self.nodes().filter_map(|node| node.resident_bytes).max()
    }

    fn nodes(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().take(self.processes.len().saturating_sub(1))
    }
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn process(before: &Usage, after: &Usage, events: u64) -> Process {
    let per_event = |more: f64| (events > 0).then(|| more / events as f64);
    let counters = before.counters.zip(after.counters);
    let fsyncs = counters.map(|(before, after)| after.fsyncs - before.fsyncs);
    Process {
        name: after.name.clone(),
        leads: after.leads,
        cpu_us_per_event: before
            .cpu
            .zip(after.cpu)
            .and_then(|(before, after)| per_event(after.saturating_sub(before).as_secs_f64() * 1e6)),
        fsyncs_per_event: fsyncs.and_then(per_event),
        fsyncs: fsyncs.map(|fsyncs| fsyncs as u64),
        chronicle_bytes_per_event: counters
            .and_then(|(before, after)| per_event(after.chronicle_bytes - before.chronicle_bytes)),
        view_spills: counters.map(|(before, after)| (after.spills - before.spills) as u64),
        resident_bytes: after.resident_bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::meter::Counters;

    fn usage(name: &str, pid: u32, cpu_ms: u64, fsyncs: f64) -> Usage {
        let counters = Some(Counters { fsyncs, chronicle_bytes: fsyncs * 1000.0, spills: 0.0 });
        Usage {
            name: name.to_owned(),
            pid: Some(pid),
            cpu: Some(Duration::from_millis(cpu_ms)),
            counters,
            ..Usage::default()
        }
    }

    #[test]
    fn a_node_that_was_started_anew_in_between_has_no_cost() {
        let before = vec![usage("a", 1, 100, 10.0), usage("b", 2, 100, 10.0), usage("load", 9, 50, 0.0)];
        let after = vec![usage("a", 1, 300, 30.0), usage("b", 7, 5, 1.0), usage("load", 9, 150, 0.0)];
        let before = Snapshot { processes: before, device_bytes: Some(500) };
        let after = Snapshot { processes: after, device_bytes: Some(2500) };
        let cost = Cost::between(&before, &after, 1000);
        assert_eq!(cost.processes.len(), 2);
        assert_eq!((cost.nodes_cpu_us(), cost.load_cpu_us()), (Some(200.0), Some(100.0)));
        assert_eq!((cost.fsyncs(), cost.chronicle_bytes()), (Some(0.02), Some(20.0)));
        assert_eq!(cost.device_bytes_per_event, Some(2.0));
    }
}
