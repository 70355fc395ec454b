//! One node as one process.

use std::io::{self, Write as _};

use sillok_chronicle::Damage;
use tokio::{
    io::AsyncReadExt as _,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    config::NodeConfig,
    exit::ExitCode,
    logging::init_logging,
    options::{self, Machine},
    server::Server,
    standstill,
};

/// Builds the runtime and runs one node until it is asked to stop (SIGTERM, SIGINT, or the end of standard input where
/// `supervised`) or must stop; where `stand_still_on_damage`, it stays then, and serves nothing. Damage that is met while it serves is repaired
/// from peers before it serves again. Prints one line to standard output when the node listens; logs go to standard error.
pub fn run(config: NodeConfig) -> ExitCode {
    run_on(config, &Machine::default())
}

/// As [`run`], on a machine of the caller's.
pub fn run_on(config: NodeConfig, machine: &Machine) -> ExitCode {
    init_logging(&config.log);
    match runtime(config.runtime.worker_threads) {
        Ok(runtime) => {
            let code = runtime.block_on(run_until_stopped_on(config, machine));
            // The blocking read of standard input may never return.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "the runtime's threads cannot be started");
            ExitCode::Internal
        }
    }
}

/// The runtime of a node, of so many threads; 0: one for every two processors, and what loads a node on the same machine gets as
/// many. One thread is enough for most of what two processors can do, because what blocks (the disk, folding, sealing) has threads
/// of its own; and where there is no second one, none is woken in vain.
///
/// # Errors
/// The threads cannot be started.
pub fn runtime(worker_threads: usize) -> io::Result<Runtime> {
    let threads = match worker_threads {
        0 => std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2)),
        configured => configured,
    };
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    // One thread takes no number.
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().thread_name("sillok").build()
}

/// The same inside a runtime of the caller's.
pub async fn run_until_stopped(config: NodeConfig) -> ExitCode {
    run_until_stopped_on(config, &Machine::default()).await
}

async fn run_until_stopped_on(config: NodeConfig, machine: &Machine) -> ExitCode {
    // Listened for before anything is opened, so that no moment of the start is ended hard.
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be listened for");
            return ExitCode::Internal;
        }
    };
    let supervised = config.supervised;
    let asked = async move {
        let parent = async { if supervised { parent_gone().await } else { std::future::pending().await } };
        tokio::select! {
            _ = Signal::recv(&mut terminate) => "SIGTERM",
            _ = Signal::recv(&mut interrupt) => "SIGINT",
            () = parent => "the parent process ended",
        }
    };
    tokio::pin!(asked);

    // Damage that was met while serving, and is repaired before this process serves again.
    let mut met: Vec<Damage> = Vec::new();
    loop {
        let server = tokio::select! {
            started = Server::start_after(&config, machine, met.last().cloned()) => match started {
                Ok(server) => server,
                Err(error) => {
                    tracing::error!(node = config.node.id, site = config.node.site, "cannot start: {error}");
                    let code = error.exit_code();
                    if config.stand_still_on_damage && code.is_for_good() {
                        standstill::until(&config, &error.to_string(), asked).await;
                    }
                    return code;
                }
            },
            // Nothing was served yet; what the start had written is as good as after a kill.
            why = &mut asked => {
                tracing::info!(why, "asked to stop while starting");
                return ExitCode::Graceful;
            }
        };
        announce(&config, &server);

        let failure = tokio::select! {
            why = &mut asked => {
                tracing::info!(why, "stopping");
                server.stop().await;
                tracing::info!("stopped");
                return ExitCode::Graceful;
            }
            failure = server.node().failure() => failure,
        };
        tracing::error!("the node must stop: {failure}");
        // Met again where it was repaired, it is the disk that cannot be trusted.
        if let Some(damage) = failure.damage.clone().filter(|damage| !met.contains(damage)) {
            server.stop_at_once().await;
            tracing::warn!("starting again, to repair what was met before anything else");
            met.push(damage);
            continue;
        }
        let code = options::failure_exit_code(&failure);
        if config.stand_still_on_damage && code.is_for_good() {
            server.stop().await;
            standstill::until(&config, &failure.to_string(), asked).await;
        }
        return code;
    }
}

/// The one line on standard output: the node listens.
fn announce(config: &NodeConfig, server: &Server) {
    let (id, site) = (config.node.id, &config.node.site);
    let (client, http) = (server.client_address(), server.http_address());
    let peer = server.node().peer_listen();
    // A closed standard output is nobody's loss.
    let _ = writeln!(
        std::io::stdout(),
        "sillok: node {id} at {site} is ready: client {client}, peers {peer}, metrics and health http://{http}"
    );
}

/// Resolves when standard input ends: whoever held the other end is gone.
async fn parent_gone() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 256];
    loop {
        match input.read(&mut ignored).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
