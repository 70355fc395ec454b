//! What a node needs to know before it starts.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sillok_chronicle::{Disk, RealDisk};
use sillok_domain::UnixNanos;
use tokio::sync::watch;

use crate::{execution::Execution, network::Transport};

/// One node, before it starts.
#[derive(Clone)]
pub struct NodeOptions {
    /// From 1; never given to another node, not even after this one is removed.
    pub id: u64,
    /// The data centre this node stands in. Never changes in place.
    pub site: String,
    /// Holds `chronicle/` and `views/`; made and formatted if absent.
    pub data_dir: PathBuf,
    /// Where peers connect. Port 0 takes a free one.
    pub peer_listen: SocketAddr,
    /// host:port under which peers find this node.
    pub peer_address: String,
    /// host:port under which clients find this node.
    pub client_address: String,
    /// Elections and heartbeats.
    pub timings: Timings,
    /// Nodes that form the cluster by themselves when all are blank; empty: wait for `initialize`. Later their addresses
    /// here win over those that the membership remembers, and the leader's replace them there.
    pub initial: Vec<InitialNode>,
    /// Says in so many words that the initial cluster may let one site hold a quorum.
    pub allow_single_site_quorum: bool,
    /// Bounds in bytes and numbers.
    pub limits: Limits,
    /// A segment of the chronicle is sealed at about this size, in bytes.
    pub segment_bytes: u64,
    /// Newest entries kept in memory for replication and reads, in bytes.
    pub tail_cache_bytes: u64,
    /// The views' part.
    pub views: ViewsOptions,
    /// How the chronicle is checked in the background.
    pub scrub: ScrubOptions,
    /// Files; a simulation gives its own.
    pub disk: Arc<dyn Disk>,
    /// Wall time; a simulation gives its own.
    pub clock: Arc<dyn Clock>,
    /// Where what blocks is done; a simulation has one thread.
    pub execution: Execution,
    /// The way to peers; `None`: the machine's TCP.
    pub transport: Option<Arc<dyn Transport>>,
    /// What stopped this node when it ran before: its segment is looked through, and repaired, before anything else.
    pub suspect: Option<sillok_chronicle::Damage>,
    /// Told why the start takes long; `None` when that is over.
    pub trouble: Option<watch::Sender<Option<Arc<str>>>>,
}

impl NodeOptions {
    /// Everything not named here at its default; addresses are `peer_listen` and empty.
    pub fn new(id: u64, site: impl Into<String>, data_dir: impl Into<PathBuf>, peer_listen: SocketAddr) -> NodeOptions {
        NodeOptions {
            id,
            site: site.into(),
            data_dir: data_dir.into(),
            peer_listen,
            peer_address: peer_listen.to_string(),
            client_address: String::new(),
            timings: Timings::default(),
            initial: Vec::new(),
            allow_single_site_quorum: false,
            limits: Limits::default(),
            segment_bytes: 64 << 20,
            tail_cache_bytes: 64 << 20,
            views: ViewsOptions::default(),
            scrub: ScrubOptions::default(),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            execution: Execution::Threads,
            transport: None,
            suspect: None,
            trouble: None,
        }
    }
}

impl fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeOptions")
            .field("id", &self.id)
            .field("site", &self.site)
            .field("data_dir", &self.data_dir)
            .field("peer_listen", &self.peer_listen)
            .finish_non_exhaustive()
    }
}

/// A node of the first membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialNode {
    /// From 1.
    pub id: u64,
    /// Its data centre.
    pub site: String,
    /// host:port of its peer port.
    pub peer_address: String,
    /// host:port of its client port.
    pub client_address: String,
}

/// Elections and heartbeats, in milliseconds. The defaults are for sites a few milliseconds apart; a WAN needs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// A leader speaks to each follower about this often. Also the deadline of one heartbeat, so more than the longest
    /// round trip between two sites.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing waits at least this long before it stands for election; more than `heartbeat_ms`.
    pub election_min_ms: u64,
    /// And at most this long; also the leader's lease. More than `election_min_ms`.
    pub election_max_ms: u64,
    /// First pause after a peer could not be reached; doubles up to the election timeout.
    pub backoff_ms: u64,
    /// A leader whose own disk is behind by more than this hands over.
    pub flush_lag_ms: u64,
    /// A node whose clock is further than this from most voters' clocks does not lead: the most by which one wrong clock can
    /// push the history into the future.
    pub max_clock_offset_ms: u64,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 350,
            backoff_ms: 10,
            flush_lag_ms: 1_000,
            max_clock_offset_ms: 5_000,
        }
    }
}

impl Timings {
    /// The deadline of a vote: shorter than the shortest election, so that a slow peer cannot outlast it.
    pub(crate) fn rpc_deadline(&self) -> Duration {
        Duration::from_millis((self.election_min_ms * 3 / 4).max(1))
    }

    /// After this much silence on a stream with requests in flight it is opened anew.
    pub(crate) fn append_deadline(&self) -> Duration {
        // A follower answers after its fsync; a stalling disk must not tear the stream down at every hiccup.
        Duration::from_millis(self.election_max_ms * 8)
    }
}

/// Bounds. Admission is bounded in bytes, never in hope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Commands admitted and not yet answered, in bytes; at most half of them may ask for all sites. Fewer are let in where they
    /// would wait too long.
    pub admission_bytes: usize,
    /// One record is closed at about this size, in bytes.
    pub record_bytes: usize,
    /// Records proposed and not yet committed.
    pub records_in_flight: usize,
    /// One append request is closed at about this size, in bytes.
    pub append_bytes: usize,
    /// Appended and not yet flushed, in bytes; the leader's sequencer waits above it.
    pub unflushed_bytes: u64,
    /// Subscribers of events at once.
    pub subscribers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            admission_bytes: 64 << 20,
            record_bytes: 1 << 20,
            records_in_flight: 64,
            append_bytes: 1 << 20,
            unflushed_bytes: 256 << 20,
            subscribers: 1_024,
        }
    }
}

/// The views' part of [`NodeOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewsOptions {
    /// Bound of the disk half's cache, in bytes.
    pub cache_bytes: u64,
    /// What pages of friends, pushes and locators may occupy in memory, in bytes; the others are read from disk when they are
    /// needed. A page that does not come back as it was written ends the process, with 74.
    pub memory_bytes: usize,
    /// Changed rows are written about this often.
    pub spill_every: Duration,
    /// Keep nothing on disk: everything is folded anew at each start.
    pub in_memory: bool,
}

impl Default for ViewsOptions {
    fn default() -> ViewsOptions {
        ViewsOptions {
            cache_bytes: 32 << 20,
            memory_bytes: 256 << 20,
            spill_every: Duration::from_secs(1),
            in_memory: false,
        }
    }
}

/// How the chronicle is checked in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Whether it is.
    pub enabled: bool,
    /// It reads at most so many bytes a second; from 1.
    pub bytes_per_second: u64,
    /// From the beginning of one pass to that of the next. The first one begins a minute after the start, or sooner where
    /// this is less.
    pub every: Duration,
}

impl Default for ScrubOptions {
    fn default() -> ScrubOptions {
        ScrubOptions { enabled: true, bytes_per_second: 8 << 20, every: Duration::from_secs(24 * 3_600) }
    }
}

/// Wall time comes from outside.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970 UTC.
    fn now(&self) -> UnixNanos;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixNanos {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixNanos::try_from(since_epoch.as_nanos()).unwrap_or(UnixNanos::MAX)
    }
}
