//! Restart, rebuild and catch-up: how long a node needs to be a full one again, by what it has lost.

use std::time::Instant;

use sillok_client::commands;

use crate::{
    BenchError, Figure, Run, Screen, Target, meter, nodes,
    stock::{EVENT_BYTES, Stock},
};

/// Which of them, of how many events.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// In the cluster when it is measured.
    pub events: u64,
    /// Which, in this order.
    pub kinds: Vec<Kind>,
}

/// What a node has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its process.
    Restart,
    /// Its views.
    Rebuild,
    /// Everything: it is a blank one.
    CatchUp,
}

/// Fills the cluster, and then measures each.
///
/// # Errors
/// Only on a cluster of the bench's own; too little room; a node that does not come back.
pub async fn run(target: &mut Target, lifecycle: &Lifecycle, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    target.cluster("this bench")?;
    let mut stock = Stock::new(target, EVENT_BYTES).await?;
    if stock.fill(target, lifecycle.events, screen).await?.is_some() {
        screen.note(&format!("{} events are recorded", sillok_drill::page::thousands(stock.events)));
    }
    measure(target, &stock, &lifecycle.kinds, screen).await
}

/// On what there is.
pub(crate) async fn measure(
    target: &mut Target,
    stock: &Stock,
    kinds: &[Kind],
    screen: &dyn Screen,
) -> Result<Vec<Run>, BenchError> {
    let mut runs = Vec::new();
    for kind in kinds {
        let run = match kind {
            Kind::Restart => restart(target, stock, screen).await?,
            Kind::Rebuild => rebuild(target, stock, screen).await?,
            Kind::CatchUp => catch_up(target, stock, screen).await?,
        };
        runs.push(run.asked("stored_events", stock.events));
    }
    Ok(runs)
}

fn of(bench: &'static str, what: &str, stock: &Stock, figures: Vec<Figure>) -> Run {
    let title = format!("{what}, {} events", sillok_drill::page::thousands(stock.events));
    Run { bench, title, figures, ..Run::default() }
}

async fn restart(target: &mut Target, stock: &Stock, screen: &dyn Screen) -> Result<Run, BenchError> {
    let client = target.client()?;
    let channel = stock.work().channels().next().unwrap_or_default().to_owned();
    let cluster = target.cluster("restart")?;
    let id = nodes::follower(cluster).await?;
    screen.progress("stopping and starting a node");
    let stopping = nodes::stop(cluster, id).await?;
    let stopped = nodes::start(cluster, id).await?;
    screen.progress("killing and starting a node");
    let id = nodes::follower(cluster).await?;
    cluster.kill(id)?;
    let killed = nodes::start(cluster, id).await?;
    screen.progress("killing and starting all nodes");
    cluster.settle(std::time::Duration::from_secs(600)).await?;
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    let begun = Instant::now();
    for id in cluster.ids() {
        cluster.spawn(id)?;
    }
    let push = commands::send_push(channel, "u0", commands::body("문을 열었습니다.", 15));
    let client = client.with_deadline(std::time::Duration::from_secs(600));
    client.execute(push).await.map_err(|error| BenchError::write("no write after a cold start", 0, error))?;
    let cold = begun.elapsed();
    for id in cluster.ids() {
        nodes::level(cluster, id).await?;
    }
    let level = begun.elapsed();
    let seconds = |name: &str, span: std::time::Duration| Figure::new(name, span.as_secs_f64(), "s");
    Ok(of(
        "restart",
        "process",
        stock,
        vec![
            seconds("SIGTERM to end", stopping),
            seconds("start after a stop, until it answers", stopped.answers),
            seconds("start after a stop, until it is level with the leader", stopped.level),
            seconds("start after kill -9, until it answers", killed.answers),
            seconds("start after kill -9, until it is level with the leader", killed.level),
            seconds("all three after kill -9, until a write is acknowledged", cold),
            seconds("all three after kill -9, until all views are level", level),
        ],
    ))
}

async fn rebuild(target: &mut Target, stock: &Stock, screen: &dyn Screen) -> Result<Run, BenchError> {
    let cluster = target.cluster("rebuild")?;
    let id = nodes::follower(cluster).await?;
    screen.progress("rebuilding the views of a node from its chronicle");
    nodes::stop(cluster, id).await?;
    let views = cluster.node(id).data_dir().join("views");
    std::fs::remove_dir_all(&views).map_err(BenchError::file("remove", views))?;
    let started = nodes::start(cluster, id).await?;
    let folding = (started.level - started.answers).as_secs_f64();
    let whole = started.level.as_secs_f64();
    Ok(of(
        "rebuild",
        "views",
        stock,
        vec![
            Figure::new("from the start of the process until all is folded", whole, "s"),
            Figure::new("of that, after it answered", folding, "s"),
            Figure::new("events folded a second", stock.events as f64 / whole, "events/s"),
        ],
    ))
}

async fn catch_up(target: &mut Target, stock: &Stock, screen: &dyn Screen) -> Result<Run, BenchError> {
    let cluster = target.cluster("catch-up")?;
    let id = nodes::follower(cluster).await?;
    screen.progress("a blank node joins");
    let site = cluster.node(id).site.clone();
    let joined = nodes::join(cluster, &site).await?;
    let copied = meter::counters(&cluster.node(joined.id).http.to_string()).await;
    let bytes = copied.map_or(0.0, |counters| counters.chronicle_bytes);
    let (holds, folded) = (joined.holds.as_secs_f64(), joined.folded.as_secs_f64());
    Ok(of(
        "catch-up",
        "blank node",
        stock,
        vec![
            Figure::new("until it holds everything", holds, "s"),
            Figure::new("chronicle copied until then", bytes / 1e6 / holds, "MB/s"),
            Figure::new("until it has folded everything", folded, "s"),
            Figure::new("events folded until then", stock.events as f64 / folded, "events/s"),
        ],
    ))
}
