//! `sillok drill-node`, which `sillok drill` starts and no person: `sillok serve` with a clock and a disk that get wrong what a
//! file says.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use sillok_drill::faults::{FaultyClock, FaultyDisk, Followed};
use sillok_server::Machine;

use super::serve::{self, ServeArgs};
use crate::failure::{Exit, Failure};

#[derive(Args)]
pub(crate) struct DrillNodeArgs {
    /// What the node gets wrong, as JSON
    #[arg(long, value_name = "FILE")]
    faults: PathBuf,
    #[command(flatten)]
    serve: ServeArgs,
}

pub(crate) fn run(args: DrillNodeArgs) -> Result<ExitCode, Failure> {
    let path = args.faults.display().to_string();
    let faults = Followed::follow(args.faults)
        .map_err(|error| Failure::new(Exit::Config, format!("the faults in {path} cannot be read: {error}")))?;
    eprintln!("sillok: THIS NODE GETS THINGS WRONG ON PURPOSE, for a drill, as {path} says");
    let machine = Machine { clock: Arc::new(FaultyClock(Arc::clone(&faults))), disk: Arc::new(FaultyDisk(faults)) };
    serve::run_on(args.serve, machine)
}
