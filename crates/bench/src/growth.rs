//! Cost against size: the same figures at growing numbers of recorded events.

use std::time::Duration;

use sillok_drill::page::thousands;

use crate::{
    BenchError, Figure, How, Run, Screen, Target, lifecycle,
    lifecycle::Kind,
    load::{self, Via},
    nodes,
    stock::Stock,
};

/// At which sizes.
#[derive(Debug, Clone)]
pub struct Growth {
    /// Recorded events, ascending.
    pub events: Vec<u64>,
    /// Of an event, about.
    pub event_bytes: usize,
    /// Of each write latency.
    pub window: Duration,
}

/// At each size: write latency, disk and memory, restart, rebuild, a blank node at the last.
///
/// # Errors
/// Only on a cluster of the bench's own; too little room; a command without a receipt; a node that does not come back.
pub async fn run(target: &mut Target, growth: &Growth, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    target.cluster("growth")?;
    let mut stock = Stock::new(target, growth.event_bytes).await?;
    let mut runs = Vec::new();
    for (number, &events) in growth.events.iter().enumerate() {
        stock.fill(target, events, screen).await?;
        screen.note(&format!("{} events are recorded", thousands(stock.events)));
        for in_flight in [1, 64] {
            let how = How {
                via: Via::Calls,
                in_flight,
                connections: 1,
                rate: None,
                warm_up: growth.window / 4,
                window: growth.window.into(),
            };
            let measured = load::run(target, stock.work(), &how, screen).await?;
            let before = stock.events;
            stock.events += measured.answered;
            let run = Run::of("write", format!("at {} events, {in_flight} in flight", thousands(before)), measured);
            runs.push(
                run.asked("mode", how.via.name())
                    .asked("loop", "closed")
                    .asked("in_flight", in_flight)
                    .asked("stored_events", before),
            );
        }
        runs.push(sizes(target, &stock).await?);
        let mut kinds = vec![Kind::Restart, Kind::Rebuild];
        if number + 1 == growth.events.len() {
            kinds.push(Kind::CatchUp);
        }
        runs.extend(lifecycle::measure(target, &stock, &kinds, screen).await?);
    }
    // Beside each other in the tables.
    runs.sort_by_key(|run| {
        ["write", "size", "restart", "rebuild", "catch-up"].iter().position(|name| *name == run.bench)
    });
    Ok(runs)
}

/// What a node holds on disk and in memory.
async fn sizes(target: &mut Target, stock: &Stock) -> Result<Run, BenchError> {
    let memory = target.snapshot().await.processes;
    let cluster = target.cluster("growth")?;
    let id = nodes::follower(cluster).await?;
    let data = cluster.node(id).data_dir();
    let chronicle = nodes::disk_bytes(&data.join("chronicle")) as f64;
    let views = nodes::disk_bytes(&data.join("views")) as f64;
    let events = stock.events as f64;
    let largest = memory.iter().filter(|usage| usage.counters.is_some()).filter_map(|usage| usage.resident_bytes).max();
    let run = Run {
        bench: "size",
        title: format!("a node, {} events", thousands(stock.events)),
        figures: vec![
            Figure::new("chronicle, with the segment prepared ahead", chronicle / 1e6, "MB"),
            Figure::new("chronicle for each event", chronicle / events, "bytes"),
            Figure::new("views", views / 1e6, "MB"),
            Figure::new("views for each byte of chronicle", views / chronicle, ""),
            Figure::new("memory of the largest node", largest.unwrap_or_default() as f64 / 1e6, "MB"),
        ],
        ..Run::default()
    };
    Ok(run.asked("stored_events", stock.events).asked("event_bytes", stock.event_bytes))
}
