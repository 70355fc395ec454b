//! `sillok top`: where time goes, node by node, from what each tells at `/metrics`.

mod exposition;
mod figures;
mod show;

use std::{
    io::IsTerminal as _,
    path::Path,
    time::{Duration, Instant},
};

use clap::Args;
use futures::future::join_all;

use self::{exposition::Exposition, figures::NodeFigures};
use crate::{
    endpoints::{self, DEV_DIR, DEV_FILE},
    failure::{Exit, Failure},
    format::{list_and, parse_duration},
    output::Out,
};

const AFTER_HELP: &str = "\
Figures are of the time between two looks. p50 and p99 are taken from the buckets of histograms, so they are as fine as those. \
busy is the share of all time that a stage was under way: near 100 % it is what bounds a node, and commits and queues, several of \
which go on at once, pass it.";

#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct TopArgs {
    /// The nodes' http ports; default: the local dev cluster's, else 127.0.0.1:7601 to 7603
    #[arg(long, env = "SILLOK_METRICS", value_delimiter = ',', value_name = "HOST:PORT,…")]
    metrics: Vec<String>,
    /// Between two looks
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    every: Duration,
    /// Print once and end
    #[arg(long)]
    once: bool,
}

/// A node that tells nothing for so long is shown as silent.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Home, and everything below is gone: no flicker, and nothing is left of a longer screen.
const REPAINT: &str = "\x1b[H\x1b[J";

/// What one node told, and when.
struct Look {
    at: Instant,
    told: Exposition,
}

pub(crate) async fn run(args: TopArgs, out: Out) -> Result<(), Failure> {
    if args.every.is_zero() {
        return Err(Failure::usage("--every must be more than none"));
    }
    let addresses = addresses(&args.metrics)?;
    let is_screen = std::io::stdout().is_terminal() && !out.is_json() && !args.once;
    let mut every = tokio::time::interval(args.every);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every.tick().await;
    let mut before = look(&addresses).await;
    if before.iter().all(Option::is_none) {
        return Err(nobody(&addresses));
    }
    loop {
        every.tick().await;
        let after = look(&addresses).await;
        let (nodes, silent) = figures(&addresses, &before, &after);
        let text = match out.is_json() {
            true => serde_json::json!({ "nodes": nodes, "silent": silent }).to_string(),
            false => show::screen(&nodes, &silent),
        };
        out.line(&if is_screen { format!("{REPAINT}{text}") } else { text })?;
        if args.once {
            return if nodes.is_empty() { Err(nobody(&addresses)) } else { Ok(()) };
        }
        // A node that is silent now is compared with what it told last.
        for (before, after) in before.iter_mut().zip(after) {
            if after.is_some() {
                *before = after;
            }
        }
    }
}

fn nobody(addresses: &[String]) -> Failure {
    Failure::new(Exit::Unavailable, format!("nobody tells metrics at {}", list_and(addresses)))
        .advise("is the cluster running? --metrics names the nodes' http ports, HOST:PORT[,HOST:PORT…]")
}

/// Where to ask, when the command line and the environment name nobody too.
fn addresses(named: &[String]) -> Result<Vec<String>, Failure> {
    if !named.is_empty() {
        return Ok(named.iter().map(|address| address.trim().trim_start_matches("http://").to_owned()).collect());
    }
    Ok(match endpoints::read(&Path::new(DEV_DIR).join(DEV_FILE))? {
        Some(dev) => dev.sites.into_iter().map(|site| site.http).collect(),
        None => ["127.0.0.1:7601", "127.0.0.1:7602", "127.0.0.1:7603"].map(str::to_owned).to_vec(),
    })
}

async fn look(addresses: &[String]) -> Vec<Option<Look>> {
    join_all(addresses.iter().map(|address| async move {
        let text = tokio::time::timeout(TOLD_WITHIN, sillok_bench::scrape(address)).await.ok()?.ok()?;
        Some(Look { at: Instant::now(), told: Exposition::parse(&text) })
    }))
    .await
}

/// Of the nodes that told something both times, and who did not now.
fn figures(addresses: &[String], before: &[Option<Look>], after: &[Option<Look>]) -> (Vec<NodeFigures>, Vec<String>) {
    let (mut nodes, mut silent) = (Vec::new(), Vec::new());
    for ((address, before), after) in addresses.iter().zip(before).zip(after) {
        match (before, after) {
            (Some(before), Some(after)) => {
                let seconds = after.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
                nodes.push(NodeFigures::between(address, &before.told, &after.told, seconds));
            }
            (None, Some(_)) => {}
            (_, None) => silent.push(address.clone()),
        }
    }
    (nodes, silent)
}
