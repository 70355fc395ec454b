//! What the node is told, from what this process was told; and what the process says when the node ends.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use sillok_chronicle::{Disk, FormatError, MendError, OpenError, RealDisk};
use sillok_cluster::{
    Clock, Failure, FailureKind, InitialNode, Limits, NodeOptions, ScrubOptions, StartError, SystemClock, Timings,
    ViewsOptions,
};

use crate::{config::NodeConfig, exit::ExitCode};

/// What the node finds itself on: the real machine, or one that is made worse on purpose.
#[derive(Clone)]
pub struct Machine {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The chronicle's files.
    pub disk: Arc<dyn Disk>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine { clock: Arc::new(SystemClock), disk: Arc::new(RealDisk) }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

/// `client` is where the client port really listens, should the configuration have left the port open.
pub(crate) fn node_options(config: &NodeConfig, client: SocketAddr, machine: &Machine) -> NodeOptions {
    let initial = config.cluster.initial.iter();
    let own = config.cluster.initial.iter().find(|node| node.id == config.node.id);
    // What the initial list says of this node is what the others know it by.
    let peer_address = own.map_or_else(|| config.peer_address(), |own| own.peer.clone());
    let client_address = match (&config.advertise.client, own) {
        (Some(address), _) => address.clone(),
        (None, Some(own)) => own.client.clone(),
        (None, None) => client.to_string(),
    };
    NodeOptions {
        peer_address,
        client_address,
        timings: Timings {
            heartbeat_ms: config.raft.heartbeat_ms,
            election_min_ms: config.raft.election_min_ms,
            election_max_ms: config.raft.election_max_ms,
            max_clock_offset_ms: config.raft.max_clock_offset_ms,
            ..Timings::default()
        },
        initial: initial
            .map(|node| InitialNode {
                id: node.id,
                site: node.site.clone(),
                peer_address: node.peer.clone(),
                client_address: node.client.clone(),
            })
            .collect(),
        allow_single_site_quorum: config.cluster.allow_single_site_quorum,
        limits: Limits { admission_bytes: config.limits.admission_bytes, ..Limits::default() },
        segment_bytes: config.chronicle.segment_bytes,
        views: ViewsOptions {
            cache_bytes: config.views.cache_bytes,
            memory_bytes: config.views.memory_bytes,
            spill_every: Duration::from_millis(config.views.spill_ms),
            ..ViewsOptions::default()
        },
        scrub: ScrubOptions {
            enabled: config.scrub.enabled,
            bytes_per_second: config.scrub.bytes_per_second,
            every: Duration::from_secs(config.scrub.every_s),
        },
        clock: machine.clock.clone(),
        disk: machine.disk.clone(),
        ..NodeOptions::new(config.node.id, &config.node.site, &config.data_dir, config.listen.peer)
    }
}

/// How a process ends whose node had to stop.
pub(crate) fn failure_exit_code(failure: &Failure) -> ExitCode {
    match failure.kind {
        FailureKind::Damage | FailureKind::ChainMismatch => ExitCode::Damaged,
        FailureKind::Superseded => ExitCode::WrongData,
        FailureKind::Disk => ExitCode::DiskIo,
        FailureKind::Consensus | FailureKind::Internal => ExitCode::Internal,
    }
}

/// How a process ends whose node could not start.
pub(crate) fn start_exit_code(error: &StartError) -> ExitCode {
    match error {
        StartError::Options { .. } | StartError::Listen { .. } => ExitCode::BadConfig,
        StartError::Superseded { .. } | StartError::Unfinished { .. } => ExitCode::WrongData,
        StartError::Damaged(_) | StartError::BeyondRepair { .. } | StartError::Chain { is_damage: true, .. } => {
            ExitCode::Damaged
        }
        StartError::Repair(MendError::Version { .. }) => ExitCode::WrongData,
        StartError::Repair(_) => ExitCode::DiskIo,
        StartError::Chronicle(error) => match error {
            OpenError::Damaged(_) => ExitCode::Damaged,
            // A newer build's files are not this build's either.
            OpenError::NotFormatted { .. }
            | OpenError::WrongNode { .. }
            | OpenError::WrongSite { .. }
            | OpenError::Version { .. } => ExitCode::WrongData,
            OpenError::SegmentBytes { .. } => ExitCode::BadConfig,
            // Another process has it open, which may be the one that this one is to replace: worth another try.
            OpenError::InUse { .. } => ExitCode::Internal,
            _ => ExitCode::DiskIo,
        },
        StartError::Format(error) => match error {
            FormatError::NotEmpty { .. } => ExitCode::WrongData,
            FormatError::Site { .. } => ExitCode::BadConfig,
            _ => ExitCode::DiskIo,
        },
        StartError::Chain { .. } | StartError::Thread { .. } | StartError::Consensus(_) => ExitCode::Internal,
    }
}
