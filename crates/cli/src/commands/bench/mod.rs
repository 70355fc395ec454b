//! `sillok bench …`: how much, how fast, and at what cost.

mod args;
mod show;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use sillok_bench::{
    BenchError, Machine, Own, Report, Run, Screen, Target, audience, distance, failover, growth, lifecycle, overload,
    read, subscribe, write,
};

use crate::{
    api::Api,
    args::Global,
    endpoints::nobody_listens,
    failure::{Exit, Failure, typed},
    output::Out,
};

const AFTER_HELP: &str = "\
Without --endpoints each bench starts three nodes of its own on loopback and removes them at the end, also after Ctrl-C. The \
load generator shares the machine with them. With --endpoints it measures a cluster that runs, in channels of its own \
(bench-…), which stay.

Figures are of a closed loop: the next command is sent when an answer comes, so a stall delays what would have been sent \
meanwhile, and the tail of latencies looks better than it is. With --rate the loop is open: commands are due at a fixed rate, and \
latency counts from when each was due.";

/// A call goes on trying this long: longer than any failover, and than a queue on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
#[command(after_long_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

#[derive(Args)]
#[command(next_help_heading = "Every bench")]
struct Common {
    /// Write every figure to this file
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one page with tables and plots, which needs nothing else, to this file
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where the nodes' directory is made: on the disk that is to be measured [default: the system's temporary directory]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// With --endpoints: the nodes' http ports, for what their disks do
    #[arg(long, global = true, value_delimiter = ',', value_name = "HOST:PORT,…")]
    metrics: Vec<String>,
}

#[derive(Subcommand)]
enum What {
    /// Acknowledged events a second, and how long each took
    Write(args::WriteArgs),
    /// Reads a second: one friend, pages of the friend list, history; at the leader and at followers, linearizable and stale
    Read(args::ReadArgs),
    /// How long after an event is sent each of many subscribers has it
    Subscribe(args::SubscribeArgs),
    /// One message to every friend, at growing numbers of friends
    Broadcast(args::BroadcastArgs),
    /// Friends a second through one stream, and what they take in memory
    Import(args::ImportArgs),
    /// How long no write is acknowledged after kill -9 of the leader
    Failover(args::FailoverArgs),
    /// How long a node needs from its start until it is level with the leader
    Restart(args::StockArgs),
    /// How fast a node without views folds its chronicle again
    Rebuild(args::StockArgs),
    /// How fast a blank node copies and folds everything
    CatchUp(args::StockArgs),
    /// What is still recorded, and how the rest is refused, when up to five times as much is asked as the cluster takes
    Overload(args::OverloadArgs),
    /// What is lost by sites that are far from each other
    Distance(args::DistanceArgs),
    /// Write latency, disk, memory, restart and rebuild at growing numbers of recorded events
    Growth(args::GrowthArgs),
    /// A short form of everything, each on a fresh cluster: two minutes or three
    All,
}

/// What is measured, with everything it was told.
enum Plan {
    Write(write::Write),
    Read(read::Read),
    Subscribe(subscribe::Subscribe),
    Broadcast(audience::Broadcast),
    Import(audience::Import),
    Failover(failover::Failover),
    Lifecycle(lifecycle::Lifecycle),
    Growth(growth::Growth),
    Overload(overload::Overload),
    Distance(distance::Distance),
}

impl What {
    /// Each with a cluster of its own where it is not attached to one.
    fn plans(self, own: bool) -> Result<Vec<Plan>, Failure> {
        let lifecycle = |stock: args::StockArgs, kind| {
            Plan::Lifecycle(lifecycle::Lifecycle { events: stock.events, kinds: vec![kind] })
        };
        Ok(match self {
            What::Write(args) => vec![Plan::Write(args.plan()?)],
            What::Read(args) => vec![Plan::Read(args.plan()?)],
            What::Subscribe(args) => vec![Plan::Subscribe(args.plan()?)],
            What::Broadcast(args) => vec![Plan::Broadcast(args.plan()?)],
            What::Import(args) => vec![Plan::Import(audience::Import { friends: args.friends })],
            What::Failover(args) => vec![Plan::Failover(args.plan()?)],
            What::Restart(args) => vec![lifecycle(args, lifecycle::Kind::Restart)],
            What::Rebuild(args) => vec![lifecycle(args, lifecycle::Kind::Rebuild)],
            What::CatchUp(args) => vec![lifecycle(args, lifecycle::Kind::CatchUp)],
            What::Growth(args) => vec![Plan::Growth(args.plan()?)],
            What::Overload(args) => vec![Plan::Overload(args.plan()?)],
            What::Distance(args) => vec![Plan::Distance(args.plan()?)],
            What::All => args::short(own),
        })
    }
}

pub(crate) async fn run(args: BenchArgs, global: &Global, out: Out) -> Result<(), Failure> {
    let plans = args.what.plans(global.endpoints.is_empty())?;
    if !global.endpoints.is_empty() && global.timeout.is_none() && nobody_listens(&global.endpoints) {
        return Err(Api::new(&global.endpoints, PATIENCE, None)?.nobody());
    }
    let screen = Lines::new(out);
    // What is dropped on the way ends its processes and removes its directory.
    let report = tokio::select! {
        report = measure(&plans, &args.common, global, &screen) => report.map_err(|error| failure(&error))?,
        () = super::drill::asked_to_stop() => return Err(Failure::no("the bench was stopped before its end")),
    };
    screen.bar.finish_and_clear();
    match out.is_json() {
        true => out.line(&report.json().map_err(|error| failure(&error))?)?,
        false => out.line(&show::tables(&report))?,
    }
    if let Some(path) = &args.common.json {
        report.write_json(path).map_err(|error| failure(&error))?;
        out.note(&format!("every figure: {}", path.display()));
    }
    if let Some(path) = &args.common.html {
        report.write_html(path).map_err(|error| failure(&error))?;
        out.note(&format!("the page: {}", path.display()));
    }
    Ok(())
}

async fn measure(plans: &[Plan], common: &Common, global: &Global, screen: &Lines) -> Result<Report, BenchError> {
    if cfg!(debug_assertions) {
        screen.note("this program was built without optimizations: figures say little");
    }
    let mut report: Option<Report> = None;
    for plan in plans {
        let mut target = target(plan, common, global, screen).await?;
        let report = report.get_or_insert_with(|| Report::new(typed(), Machine::here(&target)));
        report.runs.extend(runs(plan, &mut target, screen).await?);
    }
    report.ok_or_else(|| BenchError::Asked("nothing was to be measured".to_owned()))
}

async fn target(plan: &Plan, common: &Common, global: &Global, screen: &Lines) -> Result<Target, BenchError> {
    let deadline = global.timeout.unwrap_or(PATIENCE);
    if !global.endpoints.is_empty() {
        return Ok(Target::attached(global.endpoints.clone(), common.metrics.clone(), deadline));
    }
    let binary = std::env::current_exe();
    let binary = binary.map_err(|error| BenchError::Asked(format!("this program cannot find itself: {error}")))?;
    let far = matches!(plan, Plan::Distance(_));
    Target::own(Own { binary, dir: common.dir.clone(), far }, deadline, screen).await
}

async fn runs(plan: &Plan, target: &mut Target, screen: &Lines) -> Result<Vec<Run>, BenchError> {
    match plan {
        Plan::Write(write) => write::run(target, write, screen).await,
        Plan::Read(read) => read::run(target, read, screen).await,
        Plan::Subscribe(subscribe) => subscribe::run(target, subscribe, screen).await,
        Plan::Broadcast(broadcast) => audience::broadcast(target, broadcast, screen).await,
        Plan::Import(import) => audience::import(target, import, screen).await,
        Plan::Failover(failover) => failover::run(target, failover, screen).await,
        Plan::Lifecycle(lifecycle) => lifecycle::run(target, lifecycle, screen).await,
        Plan::Growth(growth) => growth::run(target, growth, screen).await,
        Plan::Overload(overload) => overload::run(target, overload, screen).await,
        Plan::Distance(distance) => distance::run(target, distance, screen).await,
    }
}

fn failure(error: &BenchError) -> Failure {
    match error {
        BenchError::Asked(_) | BenchError::NeedsOwn(_) | BenchError::Endpoint(_) => Failure::usage(error.to_string()),
        BenchError::Write { source, .. } => match source.reason() {
            Some(sillok_wire::v1::Reason::DiskFull) => Failure::no(error.to_string())
                .advise("the nodes' disk is full; --dir names another place, or ask for less"),
            _ => Failure::new(Exit::No, error.to_string()),
        },
        _ => Failure::no(error.to_string()),
    }
}

/// One line that changes where there is a terminal, and lines that stay.
struct Lines {
    out: Out,
    bar: ProgressBar,
}

impl Lines {
    fn new(out: Out) -> Lines {
        Lines { out, bar: crate::progress::waiting("measuring") }
    }
}

impl Screen for Lines {
    fn note(&self, text: &str) {
        self.bar.suspend(|| self.out.note(text));
    }

    fn progress(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}
