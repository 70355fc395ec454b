//! `sillok drill …`: burns a site under load, checks everything, and says whether every promise was kept.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sillok_drill::{DRILLS, Drill, DrillError, Observer, Options, Progress, Report};

use crate::{
    failure::{Exit, Failure},
    format::{duration, thousands},
    output::Out,
    table::Rows,
};

#[derive(Args)]
pub(crate) struct DrillArgs {
    /// Which: a name, `list` for what there is, or `all`
    #[arg(value_name = "NAME|list|all")]
    name: String,
    /// How long the load goes on, about
    #[arg(long, default_value_t = 0.4, value_parser = minutes)]
    minutes: f64,
    /// Clients that write; a quarter as many read
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Nodes, on three sites
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    nodes: usize,
    /// Draws the same load again [default: drawn, and said at the end]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where to write report.json and report.html; with `all`, a directory in it for each drill
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// For rolling-upgrade: the program to begin with, such as that of an earlier release [default: this one]
    #[arg(long, value_name = "BINARY")]
    from: Option<PathBuf>,
    /// Drill the running cluster of this compose file: leader-site-fire or partition
    #[arg(long, value_name = "FILE")]
    compose: Option<PathBuf>,
    /// Leave the nodes' directory behind
    #[arg(long)]
    keep: bool,
}

/// The one drill that begins with another program.
const UPGRADE: &str = "rolling-upgrade";

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.05..=1440.0).contains(&minutes) => Ok(minutes),
        _ => Err("minutes from 0.05 to 1440, such as 0.4 or 10".to_owned()),
    }
}

fn nodes(text: &str) -> Result<usize, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("3 or 5: an even number survives no more than one less".to_owned()),
    }
}

pub(crate) async fn run(args: DrillArgs, out: Out) -> Result<(), Failure> {
    let chosen: Vec<&Drill> = match args.name.as_str() {
        "list" => return list(out),
        "all" => DRILLS.iter().collect(),
        name => vec![sillok_drill::drill(name).map_err(|error| Failure::usage(error.to_string()))?],
    };
    let binary =
        std::env::current_exe().map_err(|error| Failure::usage(format!("this program cannot find itself: {error}")))?;
    if args.from.is_some() && !chosen.iter().any(|drill| drill.name == UPGRADE) {
        return Err(Failure::usage(format!("--from is for {UPGRADE}")));
    }
    let mut broken = Vec::new();
    for drill in &chosen {
        let options = Options {
            binary: binary.clone(),
            from: args.from.clone().filter(|_| drill.name == UPGRADE),
            compose: args.compose.clone(),
            load_for: Duration::from_secs_f64(args.minutes * 60.0),
            clients: usize::from(args.clients),
            nodes: args.nodes,
            // Short enough to be typed, and exact as a number in anybody's JSON.
            seed: args.seed.unwrap_or_else(|| rand::random::<u32>().into()),
            keep: args.keep,
        };
        let screen = Arc::new(Screen::new(out, drill));
        let observer: Arc<dyn Observer> = Arc::clone(&screen) as Arc<dyn Observer>;
        // What is dropped on the way ends its processes and removes its directory.
        let report = tokio::select! {
            report = sillok_drill::run(drill, options, observer) => report.map_err(|error| failure(&error))?,
            () = asked_to_stop() => return Err(Failure::no(format!("{} was stopped before its end", drill.name))),
        };
        screen.clear();
        show(&report, out)?;
        if let Some(dir) = &args.report {
            let dir = if chosen.len() > 1 { dir.join(drill.name) } else { dir.clone() };
            let page = report.write(&dir).map_err(|error| failure(&error))?;
            out.note(&format!("the whole story: {}", page.display()));
        }
        if !report.kept {
            broken.push(drill.name);
        }
    }
    match broken.as_slice() {
        [] => Ok(()),
        broken => Err(Failure::no(format!("promises were broken in {}", broken.join(", ")))),
    }
}

fn failure(error: &DrillError) -> Failure {
    Failure::new(Exit::No, format!("the drill could not be run: {error}"))
}

/// Ctrl-C, or SIGTERM.
pub(super) async fn asked_to_stop() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

fn list(out: Out) -> Result<(), Failure> {
    let mut rows = Rows::new(&["drill", "what it breaks", "what it promises besides"]);
    for drill in DRILLS {
        rows.push([drill.name.to_owned(), drill.breaks.to_owned(), drill.promises.to_owned()]);
    }
    let each = DRILLS
        .iter()
        .map(|drill| serde_json::json!({ "name": drill.name, "breaks": drill.breaks, "promises": drill.promises }));
    let text = format!(
        "{}\n\nEvery drill promises: no acknowledged event lost or doubled, no answer contradicted, no revision missing, \
         every node the same.",
        rows.render()
    );
    out.answer_text(&text, serde_json::Value::Array(each.collect()))
}

fn show(report: &Report, out: Out) -> Result<(), Failure> {
    match out.is_json() {
        true => out.line(&report.json().map_err(|error| failure(&error))?),
        false => out.line(&format!("\n{}", report.table())),
    }
}

/// A few lines that change where there is a terminal, and lines for good everywhere but in front of a script.
struct Screen {
    out: Out,
    bars: MultiProgress,
    broken: ProgressBar,
    nodes: ProgressBar,
    rates: ProgressBar,
}

impl Screen {
    fn new(out: Out, drill: &Drill) -> Screen {
        out.note(&format!("{}: {}", drill.name, drill.breaks));
        let bars = MultiProgress::new();
        let line = || {
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            bars.add(ProgressBar::new_spinner().with_style(style))
        };
        let (broken, nodes, rates) = (line(), line(), line());
        Screen { out, bars, broken, nodes, rates }
    }

    fn clear(&self) {
        self.broken.finish_and_clear();
        self.nodes.finish_and_clear();
        self.rates.finish_and_clear();
    }
}

impl Observer for Screen {
    fn note(&self, at: Duration, text: &str) {
        let line = format!("{:>6.1} s  {text}", at.as_secs_f64());
        self.bars.suspend(|| self.out.note(&line));
    }

    fn progress(&self, progress: &Progress) {
        self.broken.set_message(match &progress.broken {
            Some((since, what)) => format!("broken for {}: {what}", duration(progress.at.saturating_sub(*since))),
            None => "nothing is broken".to_owned(),
        });
        let nodes = progress.nodes.iter().map(|(site, id, up)| match (up, progress.leader == Some(*id)) {
            (true, true) => format!("★ {site} {id} leads"),
            (true, false) => format!("● {site} {id}"),
            (false, _) => format!("○ {site} {id} dark"),
        });
        self.nodes.set_message(nodes.collect::<Vec<_>>().join("   "));
        let silent = match progress.silent_for {
            silent if silent >= Duration::from_millis(400) => format!("NO WRITES for {}", duration(silent)),
            _ => format!("{} writes/s", thousands(progress.writes_per_second as u64)),
        };
        self.rates.set_message(format!(
            "{}   {silent}   {} reads/s   p50 {:.1} ms   p99 {:.1} ms   {} calls",
            duration(progress.at),
            thousands(progress.reads_per_second as u64),
            progress.p50_ms,
            progress.p99_ms,
            thousands(progress.acknowledged),
        ));
    }
}
