//! `sillok serve`: one node, until it is asked to stop or must stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use sillok_server::{Flags, Machine, NodeConfig};

use crate::failure::{Exit, Failure};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// A TOML file. Above it stand SILLOK_* in the environment (SILLOK_NODE__ID is node.id, SILLOK_NODE__DATA_DIR is data_dir),
    /// and above them these flags
    #[arg(long, env = "SILLOK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which node this is, from 1
    #[arg(long, value_name = "N")]
    node_id: Option<u64>,
    /// The data centre
    #[arg(long)]
    site: Option<String>,
    /// The chronicle and the views
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen for clients
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_client: Option<String>,
    /// Where to listen for other nodes
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_peer: Option<String>,
    /// Where to answer /metrics and /health
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_http: Option<String>,
    /// Under which address clients reach this node
    #[arg(long, value_name = "HOST:PORT")]
    advertise_client: Option<String>,
    /// Under which address other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other key of the configuration, such as raft.heartbeat_ms=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Stop gracefully when standard input ends, because then the parent process has died
    #[arg(long)]
    supervised: bool,
    /// Where starting again cannot help, as with a damaged chronicle: stay, serve nothing, and say why on the http port
    #[arg(long)]
    stand_still_on_damage: bool,
    /// Also be killed by the system at once when the parent process dies (Linux)
    #[arg(long, hide = true)]
    die_with_parent: bool,
    /// Say what the configuration is, or what is wrong with it, and do not start
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    run_on(args, Machine::default())
}

pub(crate) fn run_on(args: ServeArgs, machine: Machine) -> Result<ExitCode, Failure> {
    let mut flags = Flags::new();
    let texts = [
        ("node.site", args.site),
        ("data_dir", args.data_dir.map(|path| path.to_string_lossy().into_owned())),
        ("listen.client", args.listen_client),
        ("listen.peer", args.listen_peer),
        ("listen.http", args.listen_http),
        ("advertise.client", args.advertise_client),
        ("advertise.peer", args.advertise_peer),
        ("log.format", args.log_format),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            flags = flags.with(key, value);
        }
    }
    if let Some(id) = args.node_id {
        flags = flags.with("node.id", id);
    }
    if args.supervised {
        flags = flags.with("supervised", true);
    }
    if args.stand_still_on_damage {
        flags = flags.with("stand_still_on_damage", true);
    }
    for assignment in &args.set {
        flags = flags.set(assignment).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    }
    let config = NodeConfig::load(args.config.as_deref(), &flags)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    if args.check {
        let shown = toml::to_string(&config).map_err(|error| Failure::usage(error.to_string()))?;
        print!("{shown}");
        return Ok(ExitCode::SUCCESS);
    }
    if args.die_with_parent {
        die_with_parent();
    }
    Ok(sillok_server::run_on(config, &machine).into())
}

/// The parent may have died before this is asked; the end of standard input tells of that.
#[cfg(target_os = "linux")]
fn die_with_parent() {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        eprintln!("sillok: the system cannot tie this process to its parent ({error}); standard input does");
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent() {}
