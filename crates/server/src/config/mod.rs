//! What one node is told before it starts.
//!
//! Four layers, the later wins: the defaults below, a TOML file, `SILLOK_*` in the environment (nesting is written with two
//! underscores: `SILLOK_NODE__ID` is `node.id`; what is not of that form is not the node's), and [`Flags`] of the command
//! line. A key that is not known is refused wherever it stands; every error names the key, where its value came from and what
//! is wrong with it.

mod environment;
mod load;
#[cfg(test)]
mod tests;
mod validate;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use load::{ConfigError, ConfigProblem, Flags};

/// Everything a node is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The chronicle and the views. Formatted at the first start.
    pub data_dir: PathBuf,
    /// Stop gracefully when standard input ends, because then the parent process has died.
    pub supervised: bool,
    /// Do not end the process where starting it again cannot help (damage, data of another node), but serve nothing and say why
    /// on the http port until asked to stop: for supervisors that know only to start again.
    pub stand_still_on_damage: bool,
    /// Which node this is.
    pub node: NodeSection,
    /// Where it listens.
    pub listen: ListenSection,
    /// Under which addresses others reach it.
    pub advertise: AdvertiseSection,
    /// How the cluster is formed at the very first start.
    pub cluster: ClusterSection,
    /// Timings of consensus.
    pub raft: RaftSection,
    /// Bounds on what clients may ask for.
    pub limits: LimitsSection,
    /// The segment files.
    pub chronicle: ChronicleSection,
    /// The views beside the chronicle.
    pub views: ViewsSection,
    /// How the chronicle is checked in the background.
    pub scrub: ScrubSection,
    /// What is logged, and how.
    pub log: LogSection,
    /// Threads.
    pub runtime: RuntimeSection,
}

/// Which node this is. Neither ever changes for a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// From 1.
    pub id: u64,
    /// The data centre: `[a-z0-9-]{1,64}`.
    pub site: String,
}

/// Where the node listens. Port 0 asks the system for a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenSection {
    /// The public API.
    pub client: SocketAddr,
    /// Other nodes.
    pub peer: SocketAddr,
    /// `/metrics` and `/health`.
    pub http: SocketAddr,
}

/// `host:port` under which others reach this node; absent: the address it listens on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvertiseSection {
    /// For clients, and for nodes that tell clients who leads.
    pub client: Option<String>,
    /// For other nodes.
    pub peer: Option<String>,
}

/// How the cluster is formed at the very first start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    /// Every initial voter, this node among them. Empty: the cluster is formed by `sillok cluster init`, or this node is added
    /// to one. Without meaning once the node belongs to a cluster.
    #[serde(default)]
    pub initial: Vec<InitialSection>,
    /// Says in so many words that one site may hold a quorum.
    pub allow_single_site_quorum: bool,
}

/// One initial voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialSection {
    /// From 1.
    pub id: u64,
    /// The data centre.
    pub site: String,
    /// `host:port` of the peer port.
    pub peer: String,
    /// `host:port` of the client port.
    pub client: String,
}

/// Timings of consensus, in milliseconds. A failover takes about `2 × election_max_ms`; the defaults suit one metropolitan
/// area (round trips under 20 ms).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaftSection {
    /// Between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// The least a follower waits before it asks for votes; more than twice the heartbeat.
    pub election_min_ms: u64,
    /// The most it waits; more than the least.
    pub election_max_ms: u64,
    /// A node whose clock is further than this from most voters' clocks does not lead: the most by which one wrong clock can
    /// push the history into the future.
    pub max_clock_offset_ms: u64,
}

/// Bounds on what clients may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    /// The largest request message, in bytes; 64 KiB to 64 MiB.
    pub message_bytes: usize,
    /// What one `Submit` stream may have unanswered, in bytes, before the node stops reading from it.
    pub submit_in_flight_bytes: usize,
    /// Calls open at once on one connection.
    pub concurrent_streams: u32,
    /// The HTTP/2 window of one stream, in bytes; 64 KiB to 1 GiB. On a line with a long round trip it bounds throughput.
    pub stream_window_bytes: u32,
    /// The HTTP/2 window of one connection, in bytes; at least that of a stream.
    pub connection_window_bytes: u32,
    /// How long a call is worked on at most where the client gives no shorter deadline, in milliseconds; longer than the longest
    /// `wait_at_most` (60 s).
    pub request_timeout_ms: u64,
    /// How long a stream waits for a client that does not read, in milliseconds.
    pub slow_reader_ms: u64,
    /// A silent connection is asked after this long whether it still lives, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// And closed where no answer comes within this long, in milliseconds.
    pub keepalive_timeout_ms: u64,
    /// How long calls in flight may take to end at a graceful stop, in milliseconds.
    pub drain_ms: u64,
    /// Commands admitted and not yet answered, in bytes, over the whole node; more are refused with `OVERLOADED`.
    pub admission_bytes: usize,
}

/// The segment files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChronicleSection {
    /// Entries are rolled into a new segment near this size, in bytes; the same on every node of a cluster; 1 MiB to 1 GiB.
    pub segment_bytes: u64,
}

/// The views beside the chronicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsSection {
    /// What the views' store may cache in memory, in bytes.
    pub cache_bytes: u64,
    /// What friends, pushes and locators may occupy in memory, in bytes; beyond it they are read from disk when they are
    /// needed; from 1 MiB.
    pub memory_bytes: usize,
    /// Changed rows are written about this often, in milliseconds; a restart folds what came after the last time.
    pub spill_ms: u64,
}

/// How the chronicle is checked in the background.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubSection {
    /// Whether it is.
    pub enabled: bool,
    /// It reads at most so many bytes a second; 64 KiB to 1 GiB.
    pub bytes_per_second: u64,
    /// From the beginning of one pass to that of the next, in seconds; 1 to 31,536,000 (a year).
    pub every_s: u64,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// For people or for programs.
    pub format: LogFormat,
    /// A level, or directives such as `info,sillok_cluster=debug`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSection {
    /// Threads that run the calls; 0: one for every two processors.
    pub worker_threads: usize,
}

impl NodeConfig {
    /// The advertised address of the public API; as configured, or where it listens.
    pub fn client_address(&self) -> String {
        self.advertise.client.clone().unwrap_or_else(|| self.listen.client.to_string())
    }

    /// The advertised address for other nodes; as configured, or where it listens.
    pub fn peer_address(&self) -> String {
        self.advertise.peer.clone().unwrap_or_else(|| self.listen.peer.to_string())
    }
}
