//! Figures for a terminal.

use sillok_bench::{Cost, Report, Run, number, span};

use crate::{format, table::Rows};

/// One table for each bench, and what it cost below.
pub(super) fn tables(report: &Report) -> String {
    let mut parts = Vec::new();
    let mut rest = report.runs.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|run| run.bench == first.bench).count();
        let (runs, later) = rest.split_at(same);
        parts.push(paces(runs));
        parts.push(costs(runs));
        parts.push(figures(runs));
        rest = later;
    }
    parts.push(footing(report));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn paces(runs: &[Run]) -> String {
    let mut rows = Rows::new(&["run", ">events", ">events/s", ">p50", ">p99", ">p99.9", ">longest"]);
    let mut any = false;
    for (run, pace) in runs.iter().filter_map(|run| Some((run, run.pace.as_ref()?))) {
        any = true;
        rows.push([
            format!("{} {}", run.bench, run.title),
            format::thousands(pace.events),
            format::thousands(pace.events_per_second as u64),
            span(pace.p50_us),
            span(pace.p99_us),
            span(pace.p999_us),
            span(pace.max_us),
        ]);
    }
    if any { rows.render() } else { String::new() }
}

fn costs(runs: &[Run]) -> String {
    let costs: Vec<(&Run, &Cost)> = runs.iter().filter_map(|run| Some((run, run.cost.as_ref()?))).collect();
    match costs.as_slice() {
        [] => String::new(),
        [(_, cost)] => processes(cost),
        many => {
            let mut rows = Rows::new(&[
                "cost",
                ">CPU of nodes/event",
                ">of the load",
                ">fsyncs/event",
                ">chronicle/event",
                ">disk/event",
                ">largest node",
            ]);
            for (run, cost) in many {
                rows.push([
                    format!("{} {}", run.bench, run.title),
                    or_dash(cost.nodes_cpu_us(), |us| format!("{us:.1} µs")),
                    or_dash(cost.load_cpu_us(), |us| format!("{us:.1} µs")),
                    or_dash(cost.fsyncs(), |syncs| format!("{syncs:.3}")),
                    or_dash(cost.chronicle_bytes(), |bytes| format!("{bytes:.0} B")),
                    or_dash(cost.device_bytes_per_event, |bytes| format!("{bytes:.0} B")),
                    or_dash(cost.largest_node(), format::bytes),
                ]);
            }
            rows.render()
        }
    }
}

fn processes(cost: &Cost) -> String {
    let mut rows = Rows::new(&["process", ">CPU/event", ">fsyncs/event", ">chronicle/event", ">memory"]);
    for process in &cost.processes {
        rows.push([
            if process.leads { format!("{}, leader", process.name) } else { process.name.clone() },
            or_dash(process.cpu_us_per_event, |us| format!("{us:.1} µs")),
            or_dash(process.fsyncs_per_event, |syncs| format!("{syncs:.4}")),
            or_dash(process.chronicle_bytes_per_event, |bytes| format!("{bytes:.0} B")),
            or_dash(process.resident_bytes, format::bytes),
        ]);
    }
    let device = or_dash(cost.device_bytes_per_event, |bytes| format!("{bytes:.0} B"));
    format!("{}\nthe disk wrote {device} an event, for all nodes and whatever else the machine did", rows.render())
}

fn figures(runs: &[Run]) -> String {
    let mut rows = Rows::new(&["run", "figure", ">value", "unit"]);
    let mut any = false;
    for run in runs {
        for figure in &run.figures {
            any = true;
            rows.push([
                format!("{} {}", run.bench, run.title),
                figure.name.clone(),
                number(figure.value),
                figure.unit.to_owned(),
            ]);
        }
    }
    if any { rows.render() } else { String::new() }
}

fn footing(report: &Report) -> String {
    let machine = &report.machine;
    let open = report.runs.iter().any(|run| run.asked.get("loop").is_some_and(|kind| kind == "open"));
    let closed = report.runs.iter().any(|run| run.asked.get("loop").is_some_and(|kind| kind == "closed"));
    let mut lines = vec![format!(
        "{}, {}{}, {}",
        machine.model.as_deref().unwrap_or("unknown processor"),
        format::count(machine.processors as u64, "processor", "processors"),
        machine.memory_bytes.map_or_else(String::new, |bytes| format!(", {}", format::bytes(bytes))),
        machine.kernel
    )];
    if open {
        lines.push("open loop: latency counts from when a command was due".to_owned());
    }
    if closed {
        lines.push("closed loop: the next is sent when an answer comes; --rate measures without that".to_owned());
    }
    if report.runs.iter().any(is_behind) {
        lines.push("the cluster did not keep up with --rate: the figures are of a queue that grew".to_owned());
    }
    lines.join("\n")
}

/// Whether less was acknowledged than was due.
fn is_behind(run: &Run) -> bool {
    let rate = run.asked.get("rate_per_second").and_then(serde_json::Value::as_f64);
    let pace = run.pace.as_ref().filter(|_| run.bench == "write");
    rate.zip(pace).is_some_and(|(rate, pace)| pace.events_per_second < rate * 0.98)
}

fn or_dash<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}
