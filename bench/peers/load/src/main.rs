//! The load of `bench/peers`: one write after another on many lanes, or streamed, against one of four systems. Only the
//! client differs, and it is the usual Rust client of each. One line of JSON says what was acknowledged.

mod etcd;
mod failover;
mod measure;
mod nats;
mod postgres;
mod sillok;

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};

use crate::measure::Writer;

#[derive(Parser)]
#[command(about = "Writes 200-byte events to one system and prints what was acknowledged, as one line of JSON")]
pub(crate) struct Options {
    #[arg(value_enum)]
    system: System,
    /// host:port of its nodes; the first one is the leader's, where the system's client does not find the leader itself
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    #[arg(long, value_enum, default_value_t = Mode::Calls)]
    mode: Mode,
    /// Writes sent and not yet answered, over all connections
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Connections; PostgreSQL has one for each write in flight
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes of an event
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// How long to measure
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How long to write before that
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// With --mode count: so many acknowledged writes, one after the other
    #[arg(long, default_value_t = 200)]
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum System {
    Etcd,
    Postgres,
    Nats,
    Sillok,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Makes what the writes need, checks that the cluster is whole, and prints who leads: an endpoint, or NATS's name
    /// of the server
    Prepare,
    /// Each lane sends its next write when the last one is acknowledged
    Calls,
    /// The same, each write by a gRPC call of its own where Sillok's client would send those together that wait together
    Alone,
    /// As many unanswered as --in-flight, answers in order: Submit, or pipelined publishes
    Stream,
    /// Exactly --count acknowledged writes
    Count,
    /// Says "writing" once it does, reads a line when the leader is killed, and prints the longest gap between two
    /// acknowledgements once they go on
    Failover,
}

/// How long one try may take before another node is asked, in a failover: the same for every system.
const FAILOVER_TRY: Duration = Duration::from_millis(250);

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // It shares the processors with what it measures: a thread for every two of them, for every system's client.
    let threads = std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        runtime.worker_threads(threads);
    }
    runtime.enable_all().build()?.block_on(load(options))
}

async fn load(options: Options) -> anyhow::Result<()> {
    if options.in_flight == 0 || options.connections == 0 || options.in_flight < options.connections {
        bail!("--connections is at least 1, and --in-flight at least as many");
    }
    if options.mode == Mode::Prepare {
        let leader = match options.system {
            System::Etcd => etcd::prepare(&options).await?,
            System::Postgres => postgres::prepare(&options).await?,
            System::Nats => nats::prepare(&options).await?,
            System::Sillok => sillok::ready(&options).await?,
        };
        return print(&serde_json::json!({ "leader": leader }));
    }
    match options.system {
        System::Etcd => run(&options, etcd::writers(&options).await?).await,
        System::Postgres => run(&options, postgres::writers(&options).await?).await,
        System::Nats if options.mode == Mode::Stream => print(&nats::pipelined(&options).await?),
        System::Nats => run(&options, nats::writers(&options).await?).await,
        System::Sillok if options.mode == Mode::Stream => print(&sillok::submit(&options).await?),
        System::Sillok => run(&options, sillok::writers(&options).await?).await,
    }
}

async fn run<W: Writer>(options: &Options, writers: Vec<W>) -> anyhow::Result<()> {
    match options.mode {
        Mode::Calls | Mode::Alone => print(&measure::closed_loop(options, writers).await?),
        Mode::Count => {
            let writer = writers.into_iter().next().context("no writer")?;
            print(&measure::exactly(options.count, writer).await?)
        }
        Mode::Failover => print(&failover::longest_gap(writers).await?),
        Mode::Prepare | Mode::Stream => bail!("this system has no streamed writes here"),
    }
}

fn print(report: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
