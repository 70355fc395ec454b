//! The one binary, `sillok`: what a person or a script types.
//!
//! `args` is the command line, `commands` has one module for each group of commands, `import` and `dev` are larger groups of
//! their own; `api` is whom they talk to, `output`, `table` and `format` are how answers look, `failure` is how they fail.

mod api;
mod args;
mod commands;
mod dev;
mod endpoints;
mod failure;
mod format;
mod import;
mod output;
mod progress;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{
    api::Api,
    args::{Cli, Command},
    commands::{Session, cluster::ClusterCommand},
    failure::{Exit, Failure},
    output::Out,
};

/// Reads the command line, does what it asks and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let out = Out::new(cli.global.output);
    let global = cli.global;
    match cli.command {
        // A node builds a runtime of its own.
        Command::Serve(args) => commands::serve::run(args),
        Command::DrillNode(args) => commands::drill_node::run(args),
        Command::Verify(args) => commands::verify::run(&args, out).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => complete(shell, out),
        // Children are started from the thread that stays: this one.
        Command::Dev(args) => on_this_thread(dev::run(args)),
        Command::Drill(args) => on_threads(commands::drill::run(args, out)),
        // It shares the processors with what it measures.
        Command::Bench(args) => finish(sillok_server::runtime(0), commands::bench::run(args, &global, out)),
        Command::Top(args) => on_this_thread(commands::top::run(args, out)),
        Command::Health(args) => on_this_thread(commands::health::run(args, &global, out)),
        // It asks no running node, for there may be none.
        Command::Cluster(ClusterCommand::Recover(args)) => on_this_thread(commands::recover::run(args, out)),
        command => {
            let endpoints = endpoints::default_endpoints(&global.endpoints)?;
            let api = Api::new(&endpoints, global.timeout(), global.timeout)?;
            if global.timeout.is_none() && endpoints::nobody_listens(&endpoints) {
                return Err(api.nobody());
            }
            on_threads(ask(command, Session { api, out }))
        }
    }
}

fn complete(shell: clap_complete::Shell, out: Out) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sillok", &mut script);
    out.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(command: Command, session: Session) -> Result<(), Failure> {
    match command {
        Command::Channel(command) => commands::channel::run(command, &session).await,
        Command::Friend(command) => commands::friend::run(command, &session).await,
        Command::Message(command) => commands::message::run(command, &session).await,
        Command::Coupon(command) => commands::coupon::run(command, &session).await,
        Command::Events(command) => commands::events::run(command, &session).await,
        Command::Import(args) => import::run(args, &session).await,
        Command::Export(args) => commands::export::run(args, &session).await,
        Command::Cluster(command) => commands::cluster::run(command, &session).await,
        Command::Dev(_)
        | Command::Serve(_)
        | Command::Verify(_)
        | Command::Health(_)
        | Command::Top(_)
        | Command::Completions { .. }
        | Command::Bench(_)
        | Command::Drill(_)
        | Command::DrillNode(_) => Err(Failure::usage("this command asks no cluster")),
    }
}

fn on_this_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    finish(runtime.enable_all().build(), work)
}

fn on_threads(work: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    finish(runtime.enable_all().build(), work)
}

fn finish(
    runtime: std::io::Result<tokio::runtime::Runtime>,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<ExitCode, Failure> {
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unavailable, format!("no threads: {error}")))?;
    let result = runtime.block_on(work);
    // A reader of standard input may still be blocked; the process ends without it.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
