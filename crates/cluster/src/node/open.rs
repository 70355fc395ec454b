//! Everything that happens before a node takes part.
//!
//! ```text
//! chronicle (recovered, synced) ─► chain of records ─► consensus
//!                                                   └─► views: loaded, or moved aside, by the thread that folds
//! ```

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use openraft::{Config, SnapshotPolicy};
use sillok_chronicle::{Chronicle, Epoch, Identity, OpenError};
use sillok_views::Views;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::follow;
use crate::{
    acks::Acks,
    chain::{Chain, ChainError, RunningFold, record_keys},
    clocks::Clocks,
    commit::CommitPointer,
    core::{Core, Leadership},
    execution::{self, ChronicleWork},
    failure::{self, Failure, FailureKind, FailureSink},
    log_store::LogStore,
    network::{
        AddressBook, Contact, Departures, Fence, Guard, LocalIdentity, NetworkFactory, NodeIdentity, Peers, Unanswered,
    },
    options::{NodeOptions, Timings},
    peer_service::PeerListener,
    planted::{self, Planted},
    repair::{self, Repaired},
    roster::{Roster, RosterView},
    scrub::Scrubbing,
    types::{LogId, Raft},
};

/// More segments than this are not mended in one start.
const REPAIRS_AT_ONCE: usize = 1_000;

/// A node did not start. Nothing of the chronicle was changed but what recovery cuts.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something that was configured cannot be.
    #[error("{key}: {reason}")]
    Options {
        /// Which option.
        key: &'static str,
        /// Why not.
        reason: String,
    },
    /// The chronicle is damaged, and there are no peers: a restart gives the same.
    #[error("the chronicle is damaged: {0}")]
    Damaged(sillok_chronicle::Damage),
    /// The chronicle is damaged, and no peer can help.
    #[error(
        "the chronicle is damaged and cannot be repaired: {damage}; {tried}; replace this node by a blank one under a new id"
    )]
    BeyondRepair {
        /// What was found.
        damage: sillok_chronicle::Damage,
        /// Why not, or what became of each peer's copy.
        tried: String,
    },
    /// A damaged chronicle could not be written to.
    #[error("the chronicle is damaged and its repair failed: {0}; it is tried again at the next start")]
    Repair(sillok_chronicle::MendError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Chronicle(OpenError),
    /// An empty data directory could not be formatted.
    #[error(transparent)]
    Format(#[from] sillok_chronicle::FormatError),
    /// The chronicle's records cannot be followed.
    #[error("the chain of records cannot be followed: {reason}")]
    Chain {
        /// What stands in the way.
        reason: String,
        /// The chronicle itself is at fault.
        is_damage: bool,
    },
    /// The cluster went on without this node; it must never take part again.
    #[error(
        "the cluster of this node went on in epoch {by}, after a lost quorum, and this node was left behind in epoch {epoch}: \
         it takes no part, for ever; its data are kept; erase them and let it join blank, under an id that was never used"
    )]
    Superseded {
        /// The number of the epoch in which the cluster went on.
        by: u64,
        /// The number of the epoch of this node.
        epoch: u64,
    },
    /// A recovery was interrupted.
    #[error(
        "the recovery of a lost quorum to epoch {epoch} was begun here and is not finished; this node takes no part until it \
         is: give the same `sillok cluster recover` again"
    )]
    Unfinished {
        /// The number of the epoch that was to begin.
        epoch: u64,
    },
    /// The peer port cannot be had.
    #[error("cannot listen for peers on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// Consensus did not start.
    #[error("consensus did not start: {0}")]
    Consensus(String),
}

impl StartError {
    /// 65 (`EX_DATAERR`) where the data itself is at fault and a restart would only repeat it, 66 where it is not the
    /// cluster's any more or not yet, otherwise 70.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Superseded { .. } | StartError::Unfinished { .. } => 66,
            StartError::Damaged(_) | StartError::BeyondRepair { .. } | StartError::Chain { is_damage: true, .. } => 65,
            _ => 70,
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> StartError {
        match error {
            OpenError::Damaged(damage) => StartError::Damaged(damage),
            other => StartError::Chronicle(other),
        }
    }
}

impl From<ChainError> for StartError {
    fn from(error: ChainError) -> StartError {
        let is_damage = matches!(error, ChainError::Read(sillok_chronicle::ReadError::Damaged(_)));
        StartError::Chain { reason: error.to_string(), is_damage }
    }
}

pub(super) struct Opened {
    pub(super) core: Arc<Core>,
    pub(super) listener: PeerListener,
    pub(super) peer_listen: SocketAddr,
}

pub(super) async fn open(mut options: NodeOptions) -> Result<Opened, StartError> {
    let config = Arc::new(config(&options.timings)?);
    if options.id == 0 {
        return Err(StartError::Options { key: "node.id", reason: "ids begin at 1".to_owned() });
    }
    let address = options.peer_listen;
    let bound = PeerListener::bind(&options).await;
    let (listener, peer_listen) = bound.map_err(|source| StartError::Listen { address, source })?;
    if options.peer_address.ends_with(":0") {
        options.peer_address = peer_listen.to_string();
    }
    let options = Arc::new(options);

    let mut repaired = Repaired::default();
    let opened = open_or_repair(&options, &mut repaired).await?;
    let Files { chronicle, chain, views, identity, epoch, work } = opened;
    if let Some(work) = work {
        work.start(chronicle.clone());
    }

    let failures = FailureSink::new();
    chronicle.on_failure({
        let failures = failures.clone();
        move |failure| failures.report(chronicle_failure(&failure))
    });
    let node = NodeIdentity { id: identity.node_id, incarnation: identity.incarnation };
    let local = Arc::new(LocalIdentity::new(node, identity.cluster_id, epoch, options.segment_bytes));
    let peers = Arc::new(Peers::new(local.clone(), AddressBook::new(&options), options.transport.clone()));

    let last = chronicle.last();
    let committed = committed(&chronicle, last);
    let pointer = CommitPointer::new(chain.clone(), committed)?;
    let commits = pointer.subscribe();
    let membership = chain.membership_at(last.map(|id| id.index));
    let (roster_sender, roster) = watch::channel(Arc::new(RosterView::of(&membership)));
    let roster = Roster::new(roster);
    let acks = Arc::new(Acks::new(options.id, chronicle.flushed().map(|id| id.index), roster.clone()));
    let (leadership_sender, leadership) = watch::channel(Leadership::default());

    let departures = Arc::new(Departures::default());
    let log = LogStore::new(
        chronicle.clone(),
        chain.clone(),
        acks.clone(),
        failures.clone(),
        options.limits.append_bytes,
        options.execution.clone(),
        departures.clone(),
    );
    let fence = Arc::new(Fence::new(local.clone(), chronicle.clone(), failures.clone(), options.execution.clone()));
    let (stopping, senders) = (CancellationToken::new(), TaskTracker::new());
    let network = NetworkFactory {
        peers: peers.clone(),
        chain: chain.clone(),
        acks: acks.clone(),
        timings: options.timings,
        clock: options.clock.clone(),
        execution: options.execution.clone(),
        fence: fence.clone(),
        unanswered: Arc::new(Unanswered::new(Duration::from_millis(options.timings.election_max_ms))),
        departures: departures.clone(),
        stopping: stopping.clone(),
        senders: senders.clone(),
    };
    let raft = Raft::new(options.id, config, network, log, pointer)
        .await
        .map_err(|fatal| StartError::Consensus(fatal.to_string()))?;
    // By then this node itself stands for election.
    let contact = Arc::new(Contact::new(Duration::from_millis(2 * options.timings.election_max_ms)));
    let following = follow::consensus(
        raft.clone(),
        options.id,
        acks.clone(),
        contact.clone(),
        leadership_sender,
        roster_sender,
        failures.clone(),
    );
    tokio::spawn(follow::guarded("consensus", &failures, following));

    let guard = Arc::new(Guard::new(local, roster.clone(), chain.clone(), fence));
    let bound = Duration::from_millis(options.timings.max_clock_offset_ms);
    let clocks = Clocks::new(options.id, options.clock.clone(), bound);
    let core = Core {
        id: options.id,
        site: identity.site,
        clock: options.clock.clone(),
        clocks,
        full: parking_lot::Mutex::default(),
        scrub: Scrubbing::new(options.scrub.enabled, repaired),
        options,
        raft,
        chronicle,
        chain,
        views,
        commits,
        acks,
        departures,
        roster,
        leadership,
        peers,
        failures,
        stopping,
        senders,
        contact,
        guard,
        changing: tokio::sync::Mutex::new(()),
    };
    Ok(Opened { core: Arc::new(core), listener, peer_listen })
}

/// What the chronicle remembers as committed, never beyond its end: a commit index ahead of the log would stop consensus.
fn committed(chronicle: &Chronicle, last: Option<LogId>) -> Option<LogId> {
    chronicle.committed().min(last)
}

struct Files {
    chronicle: Chronicle,
    chain: Arc<Chain>,
    views: Views,
    identity: Identity,
    epoch: Epoch,
    work: Option<ChronicleWork>,
}

/// Nothing takes part in consensus before this returns: a node with a damaged chronicle neither votes nor acknowledges.
async fn open_or_repair(options: &Arc<NodeOptions>, repaired: &mut Repaired) -> Result<Files, StartError> {
    if let Some(suspect) = &options.suspect {
        repair::repair(options, Some(suspect), repaired).await?;
    }
    loop {
        let opening = {
            let options = options.clone();
            let execution = options.execution.clone();
            execution.blocking(move || open_files(&options)).await
        };
        match opening.map_err(|error| StartError::Thread { source: io::Error::other(error) })? {
            // Each round mends a segment; one that does not stay mended lies on a disk that cannot be trusted.
            Err(StartError::Damaged(_)) if repaired.segments < REPAIRS_AT_ONCE => {
                repair::repair(options, None, repaired).await?;
            }
            opened => return opened,
        }
    }
}

fn open_files(options: &NodeOptions) -> Result<Files, StartError> {
    let dir = options.data_dir.join("chronicle");
    if let Err(OpenError::NotFormatted { .. }) = sillok_chronicle::read_identity(&options.disk, &dir) {
        let incarnation = if planted::is(Planted::BlankVotes) { options.id } else { rand::random() };
        let identity = Identity { node_id: options.id, incarnation, site: options.site.clone(), cluster_id: None };
        sillok_chronicle::format(&options.disk, &dir, &identity)?;
        tracing::info!(dir = %dir.display(), "formatted an empty data directory");
    }
    let mut opening = sillok_chronicle::Options::new(dir);
    opening.disk = options.disk.clone();
    opening.segment_bytes = options.segment_bytes;
    opening.tail_cache_bytes = options.tail_cache_bytes;
    opening.max_unflushed_bytes = options.limits.unflushed_bytes;
    let followed = Arc::new(OnceLock::new());
    opening.fold = Box::new(RunningFold::new(followed.clone()));
    opening.keys = record_keys;
    opening.expect_node_id = Some(options.id);
    opening.expect_site = Some(options.site.clone());
    let work = options.execution.chronicle_work(&mut opening);
    let chronicle = Chronicle::open(opening)?;
    let identity = chronicle.identity();
    let chain = Arc::new(Chain::load(chronicle.clone())?);
    let _ = followed.set(Arc::downgrade(&chain));
    let epoch = epoch(&chronicle, &chain).inspect_err(|_| chronicle.close())?;
    // Loaded by the thread that folds: voting and replicating wait for no view.
    let views = Views::new(views_options(options, &identity, &chronicle));
    Ok(Files { chronicle, chain, views, identity, epoch, work })
}

/// The epoch that this node is of, where it may take part in it.
fn epoch(chronicle: &Chronicle, chain: &Chain) -> Result<Epoch, StartError> {
    let mut epoch = chronicle.epoch();
    if let Some(recovered) = chain.recovery() {
        let (here, recovery) = (chronicle.identity(), &recovered.recovery);
        let is_survivor = (here.node_id, here.incarnation) == (recovery.node_id, recovery.incarnation);
        let membership = chain.membership_at(chronicle.last().map(|id| id.index));
        // A node that joined later may well have one without the other for a moment.
        if is_survivor && membership.log_id().as_ref().is_none_or(|id| id.index() < recovered.at.index) {
            return Err(StartError::Unfinished { epoch: recovery.epoch });
        }
        // The act's last step may be missing: then the log says it.
        if recovery.epoch > epoch.number {
            epoch = recovered.epoch();
        }
    }
    let by = chronicle.superseded_by();
    if by > epoch.number {
        return Err(StartError::Superseded { by, epoch: epoch.number });
    }
    Ok(epoch)
}

fn views_options(options: &NodeOptions, identity: &Identity, chronicle: &Chronicle) -> sillok_views::Options {
    let dir: Option<PathBuf> = (!options.views.in_memory).then(|| options.data_dir.join("views"));
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let (chronicle, disk) = (chronicle.clone(), options.disk.clone());
    sillok_views::Options {
        dir,
        cache_bytes: options.views.cache_bytes,
        memory_bytes: options.views.memory_bytes,
        spill_every: options.views.spill_every,
        cluster_id: identity.cluster_id,
        boot_id: boot_id.trim().to_owned(),
        // Asked when a spill is due, so that the fold never waits for the next telling.
        spillable: Some(Arc::new(move || chronicle.flushed().map(|flushed| flushed.index))),
        free_bytes: Arc::new(move |dir| disk.free_bytes(dir)),
        blocking: execution::in_place,
        on_lost: failure::lost_page,
        ..sillok_views::Options::in_memory()
    }
}

fn chronicle_failure(failure: &sillok_chronicle::Failure) -> Failure {
    let kind = match failure {
        sillok_chronicle::Failure::Damaged(_) => FailureKind::Damage,
        sillok_chronicle::Failure::Panicked { .. } => FailureKind::Internal,
        _ => FailureKind::Disk,
    };
    let damage = match failure {
        sillok_chronicle::Failure::Damaged(damage) => Some(damage.clone()),
        _ => None,
    };
    Failure { damage, ..Failure::new(kind, failure.to_string()) }
}

/// openraft's configuration. What must hold is asserted, not hoped for.
fn config(timings: &Timings) -> Result<Config, StartError> {
    let Timings { heartbeat_ms, election_min_ms, election_max_ms, backoff_ms, .. } = *timings;
    // Under load append answers prove what heartbeats prove.
    let spared = if 2 * heartbeat_ms + heartbeat_ms * 13 / 64 < election_min_ms { heartbeat_ms } else { 0 };
    let config = Config {
        cluster_name: "sillok".to_owned(),
        heartbeat_interval: heartbeat_ms,
        heartbeat_min_interval: Some(spared),
        election_timeout_min: election_min_ms,
        election_timeout_max: election_max_ms,
        enable_pre_vote: Some(true),
        // A restarted leader would resume its term and could write another entry under a log id that was acknowledged.
        enable_leader_restore: Some(planted::is(Planted::LeaderRestore)),
        quorum_loss_probe_interval: Some(2 * election_max_ms),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        // Append requests are bounded in bytes by the log store.
        max_payload_entries: 4_096,
        backoff: format!("{backoff_ms}ms {}ms ...{election_max_ms}ms", 2 * backoff_ms),
        ..Config::default()
    };
    let refused = |reason: String| StartError::Options { key: "raft", reason };
    if backoff_ms == 0 || 2 * backoff_ms > election_max_ms {
        return Err(refused("backoff_ms must be from 1 to half of election_max_ms".to_owned()));
    }
    let config = config.validate().map_err(|error| refused(error.to_string()))?;
    if timings.rpc_deadline().as_millis() >= u128::from(election_min_ms) {
        return Err(refused("the deadline of a vote must be shorter than election_min_ms".to_owned()));
    }
    assert_eq!(
        config.enable_leader_restore,
        Some(planted::is(Planted::LeaderRestore)),
        "a restarted leader must be elected anew"
    );
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_leader_must_always_be_elected_anew() {
        let config = config(&Timings::default()).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert_eq!((config.max_in_snapshot_log_to_keep, config.replication_lag_threshold), (u64::MAX, u64::MAX));
    }

    /// With the first pause of 200 ms that is openraft's own, a follower that had been away for a moment missed the leader's
    /// next word and stood for election; with a vote's deadline above the election timeout one slow peer outlasted it.
    #[test]
    fn a_failover_takes_well_under_a_second_by_default() {
        let timings = Timings::default();
        let config = config(&timings).unwrap();
        assert_eq!((config.election_timeout_min, config.election_timeout_max), (200, 350));
        let mut pauses = config.build_backoff();
        let first: Vec<u128> = pauses.by_ref().take(3).map(|pause| pause.as_millis()).collect();
        assert_eq!(first, [10, 20, 40]);
        assert!(pauses.take(20).all(|pause| pause.as_millis() <= 350), "an election's time is the longest pause");
        assert!(timings.rpc_deadline().as_millis() < u128::from(config.election_timeout_min));
        assert_eq!(config.quorum_loss_probe_interval, Some(2 * config.election_timeout_max));
        // Four heartbeats may be lost, and append answers may stand for one, before an election is due.
        assert_eq!((config.heartbeat_interval, config.heartbeat_min_interval), (50, Some(50)));
        assert_eq!(config.max_payload_entries, 4_096, "append requests are bounded in bytes");
    }

    #[test]
    fn timings_for_a_wan_keep_what_must_hold() {
        let wan = Timings {
            heartbeat_ms: 300,
            election_min_ms: 1_500,
            election_max_ms: 3_000,
            backoff_ms: 50,
            ..Timings::default()
        };
        let config = config(&wan).unwrap();
        assert!(wan.rpc_deadline().as_millis() < 1_500);
        assert_eq!(config.quorum_loss_probe_interval, Some(6_000));
        assert_eq!(config.build_backoff().next().unwrap().as_millis(), 50);
        assert_eq!((config.heartbeat_interval, config.enable_leader_restore), (300, Some(false)));
        // Sparing heartbeats would leave too little time: none is spared.
        let tight = Timings { heartbeat_ms: 700, ..wan };
        assert_eq!(super::config(&tight).unwrap().heartbeat_min_interval, Some(0));
        let slow = Timings { backoff_ms: 1_600, ..wan };
        assert!(super::config(&slow).is_err());
    }

    #[test]
    fn timings_that_cannot_work_are_refused_with_the_reason() {
        let upside_down = Timings { election_min_ms: 400, election_max_ms: 300, ..Timings::default() };
        let error = config(&upside_down).unwrap_err();
        assert!(matches!(&error, StartError::Options { key: "raft", .. }), "{error}");
    }
}
