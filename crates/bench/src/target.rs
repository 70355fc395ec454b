//! What is measured: a cluster of the bench's own, or one that runs.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use sillok_client::{Client, v1};
use sillok_drill::{Cluster, SITES, Setup};

use crate::{
    BenchError, Screen, Via, Work, meter,
    meter::{Snapshot, Usage},
};

/// Entries are rolled into a new segment near this size, as a node does by default.
const SEGMENT_BYTES: u64 = 64 << 20;

/// How a cluster of the bench's own is started.
#[derive(Debug, Clone)]
pub struct Own {
    /// The program, which is `sillok` or has its command line.
    pub binary: PathBuf,
    /// In which directory the nodes' directory is made; `None`: where the system has temporary files.
    pub dir: Option<PathBuf>,
    /// Between the nodes stand links that can be made long, and elections take their time.
    pub far: bool,
}

/// Longer than the longest round trip that is measured.
const FAR_HEARTBEAT_MS: u64 = 300;

/// The nodes under measurement.
pub struct Target {
    own: Option<Cluster>,
    endpoints: Vec<String>,
    metrics: Vec<String>,
    deadline: Duration,
}

impl Target {
    /// Starts three nodes at three sites. Must be called from the thread that lives as long as they should.
    ///
    /// # Errors
    /// A node that does not start; no leader.
    pub async fn own(own: Own, deadline: Duration, screen: &dyn Screen) -> Result<Target, BenchError> {
        let sites = SITES.map(str::to_owned).to_vec();
        let setup = Setup {
            binary: own.binary,
            sites,
            links: own.far,
            faults: false,
            scrub_every: None,
            segment_bytes: SEGMENT_BYTES,
            heartbeat_ms: own.far.then_some(FAR_HEARTBEAT_MS),
            seed: 0,
            dir: own.dir,
        };
        screen.progress("starting three nodes");
        let cluster = Cluster::start(setup).await?;
        let endpoints = cluster.nodes().iter().map(|node| node.client.to_string()).collect();
        screen.note(&format!(
            "three nodes on loopback, in {} ({}) until the end",
            cluster.dir().display(),
            file_system(cluster.dir())
        ));
        Ok(Target { own: Some(cluster), endpoints, metrics: Vec::new(), deadline })
    }

    /// A cluster that runs. `metrics`: where its nodes tell their counters, `host:port`.
    pub fn attached(endpoints: Vec<String>, metrics: Vec<String>, deadline: Duration) -> Target {
        Target { own: None, endpoints, metrics, deadline }
    }

    /// Where the nodes' disks are of the bench's own: which kind of file system.
    pub fn file_system(&self) -> Option<String> {
        self.own.as_ref().map(|cluster| file_system(cluster.dir()))
    }

    /// It was started here.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> Result<Client, BenchError> {
        self.client_for(Via::Calls)
    }

    /// As [`Target::client`], for commands that go this way.
    pub(crate) fn client_for(&self, via: Via) -> Result<Client, BenchError> {
        let client = Client::builder().endpoints(self.endpoints.iter().cloned()).deadline(self.deadline);
        Ok(client.batch_calls(via != Via::Unary).build()?)
    }

    /// The processes, to be stopped and started.
    pub(crate) fn cluster(&mut self, bench: &'static str) -> Result<&mut Cluster, BenchError> {
        self.own.as_mut().ok_or(BenchError::NeedsOwn(bench))
    }

    /// Nobody ended that was not stopped from here.
    pub(crate) fn all_running(&mut self) -> Result<(), BenchError> {
        let Some(cluster) = &mut self.own else { return Ok(()) };
        match cluster.ended_by_themselves().first() {
            Some(&node) => Err(BenchError::NodeEnded { node, log: cluster.node(node).log_tail() }),
            None => Ok(()),
        }
    }

    /// What is about to be written fits on the disk of the nodes.
    pub(crate) fn has_room(&self, bytes: u64) -> Result<(), BenchError> {
        let Some(cluster) = &self.own else { return Ok(()) };
        // Where the system does not tell, the nodes will.
        let Ok(disk) = rustix::fs::statvfs(cluster.dir()) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let (dir, needed_mb, free_mb) = (cluster.dir().to_owned(), bytes / 1_000_000, free / 1_000_000);
        if free < bytes { Err(BenchError::Room { dir, needed_mb, free_mb }) } else { Ok(()) }
    }

    /// Whom the leader knows as nodes, with their client addresses.
    pub(crate) async fn status(&self) -> Result<v1::GetStatusResponse, BenchError> {
        let ask = |mut node: sillok_client::Cluster| async move { node.get_status(v1::GetStatusRequest {}).await };
        self.client()?.cluster(ask).await.map_err(BenchError::read("the cluster does not say who leads it"))
    }

    /// Every acknowledged event is recorded, once.
    pub(crate) async fn holds(&self, work: &Work, acknowledged: u64) -> Result<(), BenchError> {
        self.holds_within(work, acknowledged..=acknowledged).await
    }

    /// The same where the outcome of some is in doubt: at most all of these are recorded too.
    pub(crate) async fn holds_within(&self, work: &Work, acknowledged: RangeInclusive<u64>) -> Result<(), BenchError> {
        let client = self.client()?;
        let mut recorded = 0;
        for channel in work.channels() {
            let request = v1::GetChannelRequest { options: None, channel_id: channel.to_owned() };
            let ask = |mut node: sillok_client::Queries| {
                let request = request.clone();
                async move { node.get_channel(request).await }
            };
            let answer = client.read(ask).await.map_err(BenchError::read("a channel of the bench cannot be read"))?;
            recorded += answer.channel.map_or(0, |channel| channel.revision);
        }
        if acknowledged.contains(&recorded) {
            return Ok(());
        }
        let (least, most) = acknowledged.into_inner();
        let in_doubt = if most > least { format!(", {} are in doubt,", most - least) } else { String::new() };
        Err(BenchError::Wrong(format!("{least} events were acknowledged{in_doubt} and {recorded} are recorded")))
    }

    /// What every process used so far; the load's own is the last.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let mut processes = Vec::new();
        if let Some(cluster) = &self.own {
            let leader = cluster.leader_now().await;
            for node in cluster.running() {
                let name = format!("{} {}", node.site, node.id);
                let usage = node.pid().map_or_else(Usage::default, |pid| Usage::of(name, pid));
                let counters = meter::counters(&node.http.to_string()).await;
                processes.push(Usage { leads: leader == Some(node.id), counters, ..usage });
            }
        }
        for address in &self.metrics {
            let counters = meter::counters(address).await;
            processes.push(Usage { name: address.clone(), counters, ..Usage::default() });
        }
        processes.push(Usage::of("load generator", std::process::id()));
        let device_bytes = self.own.as_ref().and_then(|cluster| meter::device_bytes(cluster.dir()));
        Snapshot { processes, device_bytes }
    }
}

/// Which kind of file system holds this directory: on some a sync is cheap because it does nothing.
fn file_system(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let holding = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        real.starts_with(point).then_some((point.len(), kind))
    });
    match holding.max_by_key(|(length, _)| *length) {
        Some((_, "tmpfs" | "ramfs")) => {
            "tmpfs: in memory, so that no sync costs anything; --dir names a disk".to_owned()
        }
        Some((_, kind)) => kind.to_owned(),
        None => "unknown file system".to_owned(),
    }
}
