//! Nodes in one process: real ports on loopback, disks in memory that stall, lose power and can be swapped.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sillok_chronicle::sim::SimDisk;
use sillok_wire::{record, records, v1};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    InitialNode, Node, NodeOptions, StartError, Timings, ViewsOptions,
    bootstrap::is_blank,
    core::{Core, ProposalError},
    front_tests::kit::free_address,
    types::{Applied, LogId},
};

/// Nothing here takes that long; a test that hangs says so.
pub(super) const AT_MOST: Duration = Duration::from_secs(60);

/// One node, up or down.
pub(super) struct Site {
    pub(super) options: NodeOptions,
    pub(super) disk: SimDisk,
    pub(super) node: Option<Node>,
}

/// Nodes 1, 2, 3 …, some of which may be down.
pub(super) struct Cluster {
    sites: Vec<Site>,
    dir: tempfile::TempDir,
}

/// Generous: many test threads share two cores.
pub(super) fn timings() -> Timings {
    Timings { heartbeat_ms: 60, election_min_ms: 500, election_max_ms: 900, flush_lag_ms: 60_000, ..Timings::default() }
}

impl Cluster {
    /// Blank nodes that are not started, one at each of `sites`; node 1 stands at the first.
    pub(super) fn blank(sites: &[&str]) -> Cluster {
        let mut cluster = Cluster { sites: Vec::new(), dir: tempfile::tempdir().unwrap() };
        for site in sites {
            cluster.add_blank(site);
        }
        cluster
    }

    /// One more, not started; its id.
    pub(super) fn add_blank(&mut self, site: &str) -> u64 {
        let id = self.sites.len() as u64 + 1;
        let mut options = NodeOptions::new(id, site, self.dir.path().join(format!("n{id}")), free_address());
        options.client_address = format!("client-{id}:1");
        options.views = ViewsOptions { in_memory: true, ..ViewsOptions::default() };
        options.timings = timings();
        self.sites.push(Site { options, disk: SimDisk::new(id), node: None });
        id
    }

    /// Three sites, formed by command, led by somebody.
    pub(super) async fn formed() -> Cluster {
        Cluster::formed_with(|_| {}).await
    }

    pub(super) async fn formed_with(change: impl Fn(&mut NodeOptions)) -> Cluster {
        let mut cluster = Cluster::blank(&["chungju", "seongju", "jeonju"]);
        for id in 1..=3 {
            change(&mut cluster.site(id).options);
            cluster.boot(id).await;
        }
        let request = cluster.initialize_request(false);
        cluster.node(1).initialize(request).await.unwrap();
        cluster.leader().await;
        cluster
    }

    pub(super) fn initialize_request(&self, allow_single_site_quorum: bool) -> v1::InitializeRequest {
        let nodes = (1..=self.sites.len() as u64).map(|id| self.describe(id)).collect();
        v1::InitializeRequest { nodes, allow_single_site_quorum }
    }

    pub(super) fn initial(&self) -> Vec<InitialNode> {
        let initial = self.sites.iter().map(|site| InitialNode {
            id: site.options.id,
            site: site.options.site.clone(),
            peer_address: site.options.peer_address.clone(),
            client_address: site.options.client_address.clone(),
        });
        initial.collect()
    }

    /// As an operator names it.
    pub(super) fn describe(&self, id: u64) -> v1::Node {
        let options = &self.sites[id as usize - 1].options;
        v1::Node {
            id,
            site: options.site.clone(),
            peer_address: options.peer_address.clone(),
            client_address: options.client_address.clone(),
            incarnation: String::new(),
        }
    }

    pub(super) fn site(&mut self, id: u64) -> &mut Site {
        &mut self.sites[id as usize - 1]
    }

    /// Gives a node that is down other ports.
    pub(super) fn move_away(&mut self, id: u64) {
        let address = free_address();
        let options = &mut self.site(id).options;
        options.peer_listen = address;
        options.peer_address = address.to_string();
        options.client_address = format!("client-{id}:2");
    }

    pub(super) fn disk(&self, id: u64) -> &SimDisk {
        &self.sites[id as usize - 1].disk
    }

    pub(super) fn node(&self, id: u64) -> &Node {
        self.sites[id as usize - 1].node.as_ref().unwrap()
    }

    pub(super) fn core(&self, id: u64) -> &Arc<Core> {
        self.node(id).core()
    }

    pub(super) fn up(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.sites.iter().filter_map(|site| Some((site.options.id, site.node.as_ref()?)))
    }

    pub(super) async fn boot(&mut self, id: u64) {
        self.try_boot(id).await.unwrap();
    }

    pub(super) async fn try_boot(&mut self, id: u64) -> Result<(), StartError> {
        let site = self.site(id);
        let mut options = site.options.clone();
        options.disk = site.disk.boot();
        site.node = Some(Node::start(options).await?);
        Ok(())
    }

    /// Stops a node in good order.
    pub(super) async fn stop(&mut self, id: u64) {
        if let Some(node) = self.site(id).node.take() {
            timeout(AT_MOST, node.shutdown()).await.unwrap();
        }
    }

    /// The process ends at once: nothing more is written, nothing is handed over.
    pub(super) async fn kill(&mut self, id: u64) {
        self.site(id).disk.kill();
        self.bury(id).await;
    }

    /// The machine loses power: what was not synced may be gone.
    pub(super) async fn cut_power(&mut self, id: u64) {
        self.site(id).disk.power_cut();
        self.bury(id).await;
    }

    async fn bury(&mut self, id: u64) {
        if let Some(node) = self.site(id).node.take() {
            node.core().stopping.cancel();
            let _ = node.core().raft.shutdown().await;
            // Its port must be free before it starts again.
            timeout(AT_MOST, node.shutdown()).await.unwrap();
        }
    }

    /// Who leads, once its term's first entry is committed and every voter that is up knows it.
    pub(super) async fn leader(&self) -> u64 {
        eventually("somebody leads", || {
            self.up().find_map(|(id, node)| {
                let term = node.core().leading_term()?;
                let committed = node.core().commits.borrow().is_some_and(|commit| commit.log_id.term == term);
                let known = self.up().all(|(other, follower)| {
                    let takes_part = node.core().roster.view().is_voter(other) && !is_blank(follower.core());
                    !takes_part || follower.core().leader() == Some((id, term))
                });
                (committed && known).then_some(id)
            })
        })
        .await
    }

    /// Somebody that is up, votes and does not lead.
    pub(super) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        let roster = self.core(leader).roster.view();
        self.up().map(|(id, _)| id).find(|id| *id != leader && roster.is_voter(*id)).unwrap()
    }

    /// Every node that is up has committed at least this.
    pub(super) async fn all_committed(&self, index: u64) {
        eventually("every node has committed", || {
            let all = self
                .up()
                .all(|(_, node)| node.core().commits.borrow().is_some_and(|commit| commit.log_id.index >= index));
            all.then_some(())
        })
        .await;
    }

    /// The committed entries up to `index` are byte for byte the same everywhere.
    pub(super) fn assert_same_log(&self, index: u64) {
        let mut logs = self.up().map(|(id, node)| {
            let entries = node.core().chronicle.read(0, index + 1, usize::MAX).unwrap();
            assert_eq!(entries.len() as u64, index + 1, "node {id} has not everything");
            (id, entries)
        });
        let (first, expected) = logs.next().unwrap();
        for (id, entries) in logs {
            assert_eq!(entries, expected, "nodes {first} and {id} hold different logs");
        }
    }
}

/// Waits for a condition, never for a time.
pub(super) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < AT_MOST, "waited in vain until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A record without decisions, told apart by its time.
pub(super) fn record(predecessor: [u8; 32], marker: u64) -> Bytes {
    records::encode(&record::Record {
        predecessor: Bytes::copy_from_slice(&predecessor),
        feature_level: 1,
        first_sequence: 1,
        accepted_at_unix_nanos: marker,
        ..Default::default()
    })
}

/// The head at the newest commit.
pub(super) fn head(core: &Core) -> [u8; 32] {
    core.commits.borrow().map_or(records::GENESIS, |commit| commit.head)
}

/// Puts a record decided upon the head into the log and waits for it. On a busy machine a lease may run out for a moment:
/// what was not proposed for it is proposed again.
pub(super) async fn write(core: &Core, marker: u64) -> LogId {
    let begun = Instant::now();
    let (id, applied) = loop {
        match propose(core, record(head(core), marker)).await {
            Err(ProposalError::NotProposed(_)) if begun.elapsed() < AT_MOST => sleep(Duration::from_millis(5)).await,
            done => break done.unwrap(),
        }
    };
    assert_eq!(applied, Applied::Recorded);
    id
}

pub(super) async fn propose(core: &Core, record: Bytes) -> Result<(LogId, Applied), ProposalError> {
    let term = core.leading_term().ok_or_else(|| ProposalError::NotProposed("it does not lead".to_owned()))?;
    timeout(AT_MOST, core.propose(term, record).await?).await.unwrap()
}
