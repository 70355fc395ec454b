//! A cluster of real `sillok serve` processes on loopback, in a directory of its own.
//!
//! Ends only processes it started. Call it from the thread that lives as long as the cluster: Linux ties the children to it.

mod node;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

pub use self::node::Node;
use crate::{
    DrillError,
    compose::{Compose, Container, docker},
    faults::Faults,
    mesh::Mesh,
    wait::within,
};

/// Names of the sites, after the archives of the Veritable Records.
pub const SITES: [&str; 3] = ["chungju", "seongju", "jeonju"];
/// How the processes are run and what stands between them.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program, which is `sillok` or has its command line.
    pub binary: PathBuf,
    /// The site of each node, by id from 1.
    pub sites: Vec<String>,
    /// Peers reach each other through links that can be broken.
    pub links: bool,
    /// Clocks and disks of nodes can be made wrong.
    pub faults: bool,
    /// How often nodes read their whole chronicles, in whole seconds; `None`: once a day, as is usual.
    pub scrub_every: Option<Duration>,
    /// Entries are rolled into a new segment near this size, in bytes.
    pub segment_bytes: u64,
    /// How often a leader speaks, in milliseconds, where sites are far from each other; elections take four to seven times as
    /// long. `None`: what a node does by itself.
    pub heartbeat_ms: Option<u64>,
    /// Decides which packets are lost.
    pub seed: u64,
    /// In which directory the cluster's own is made; `None`: where the system has temporary files.
    pub dir: Option<PathBuf>,
}

/// The nodes, and all that is theirs. Dropping it kills the processes and removes the directory.
#[derive(Debug)]
pub struct Cluster {
    setup: Setup,
    nodes: Vec<Node>,
    mesh: Option<Mesh>,
    compose: Option<Compose>,
    dir: TempDir,
}

impl Cluster {
    /// Writes the configuration of every node; starts none.
    ///
    /// # Errors
    /// The directory, or a port.
    pub async fn prepare(setup: Setup) -> Result<Cluster, DrillError> {
        let parent = setup.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new().prefix("sillok-drill-").tempdir_in(&parent);
        let dir = dir.map_err(DrillError::file("make a directory in", parent))?;
        let mut nodes = Vec::new();
        for (id, site) in (1..).zip(&setup.sites) {
            nodes.push(Node::new(id, site, dir.path())?);
        }
        let mesh = match setup.links {
            true => {
                Some(Mesh::open(&nodes.iter().map(|node| (node.id, node.peer)).collect::<Vec<_>>(), setup.seed).await?)
            }
            false => None,
        };
        let cluster = Cluster { setup, nodes, mesh, compose: None, dir };
        for node in &cluster.nodes {
            cluster.configure(node, true)?;
        }
        Ok(cluster)
    }

    /// As [`Cluster::prepare`], then starts every node and waits for a leader.
    ///
    /// # Errors
    /// As [`Cluster::prepare`]; a node that does not start; no leader.
    pub async fn start(setup: Setup) -> Result<Cluster, DrillError> {
        let mut cluster = Cluster::prepare(setup).await?;
        for id in cluster.ids() {
            cluster.spawn(id)?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    /// The nodes of a compose project that runs. They are left running when this is dropped.
    ///
    /// # Errors
    /// There is no docker, or no such cluster.
    pub(crate) async fn attach(setup: Setup, file: &Path) -> Result<Cluster, DrillError> {
        let dir = tempfile::Builder::new().prefix("sillok-drill-").tempdir();
        let dir = dir.map_err(DrillError::file("make a directory in", std::env::temp_dir()))?;
        let (compose, containers) = Compose::attach(file, dir.path())?;
        let nodes = containers.into_iter().map(|container| Node::in_container(container, dir.path())).collect();
        let cluster = Cluster { setup, nodes, mesh: None, compose: Some(compose), dir };
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Nothing passes between this node and the others, and clients still reach it.
    ///
    /// # Errors
    /// The setup asked for no links, or docker does not do it.
    pub(crate) fn cut_off(&mut self, id: u64) -> Result<(), DrillError> {
        let at = self.at(id);
        if let (Some(compose), Some(container)) = (&mut self.compose, &self.nodes[at].container) {
            return compose.cut_off(container);
        }
        let mesh = self.mesh.as_ref().ok_or(DrillError::NodeState { node: id, state: "has no links" })?;
        for other in self.nodes.iter().map(|node| node.id).filter(|other| *other != id) {
            mesh.silence(id, other);
            mesh.silence(other, id);
        }
        Ok(())
    }

    /// Everything passes again, whatever was cut off.
    ///
    /// # Errors
    /// Docker does not do it.
    pub(crate) fn heal(&mut self) -> Result<(), DrillError> {
        if let Some(mesh) = &self.mesh {
            mesh.heal();
        }
        self.compose.as_mut().map_or(Ok(()), Compose::heal)
    }

    /// A compose project whose nodes were replaced is described by one file more.
    pub(crate) fn file_of_replacements(&self) -> Option<&Path> {
        self.compose.as_ref().and_then(Compose::file_of_replacements)
    }

    fn at(&self, id: u64) -> usize {
        self.nodes.iter().position(|node| node.id == id).unwrap_or(self.nodes.len())
    }

    /// Every node there ever was, the replaced ones too.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ids of all of them.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Nodes whose process runs.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_up())
    }

    /// The node with this id, which must be one that [`Cluster::ids`] gave.
    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[self.at(id)]
    }

    /// The links between the nodes, where the setup asked for them.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// Where everything of this cluster lies.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory stays when the cluster is dropped.
    pub fn keep(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// A blank node at a site, under an id that was never used, not yet started.
    ///
    /// # Errors
    /// The directory, or a port.
    pub fn add(&mut self, site: &str) -> Result<u64, DrillError> {
        let id = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
        let burnt = self.nodes.iter().rfind(|node| node.site == site).and_then(|node| node.container.clone());
        if let Some(container) = burnt {
            let container = Container { node_id: id, is_up: false, ..container };
            self.nodes.push(Node { is_new: true, ..Node::in_container(container, self.dir.path()) });
            return Ok(id);
        }
        let node = Node::new(id, site, self.dir.path())?;
        self.configure(&node, false)?;
        self.nodes.push(node);
        Ok(id)
    }

    fn configure(&self, node: &Node, initial: bool) -> Result<(), DrillError> {
        let mut text = format!(
            "data_dir = \"{data}\"\n\n[node]\nid = {id}\nsite = \"{site}\"\n\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n\
             http = \"{http}\"\n\n[advertise]\nclient = \"{client}\"\npeer = \"{peer}\"\n\n[chronicle]\nsegment_bytes = {segment}\n",
            data = node.data_dir().display(),
            id = node.id,
            site = node.site,
            client = node.client,
            peer = node.peer,
            http = node.http,
            segment = self.setup.segment_bytes,
        );
        if let Some(every) = self.setup.scrub_every {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n[scrub]\nevery_s = {}\n", every.as_secs());
        }
        if let Some(heartbeat) = self.setup.heartbeat_ms {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n[raft]\nheartbeat_ms = {heartbeat}\nelection_min_ms = {}\nelection_max_ms = {}\n",
                heartbeat * 4,
                heartbeat * 7
            );
        }
        for other in self.nodes.iter().filter(|_| initial) {
            let peer = self.mesh.as_ref().and_then(|mesh| mesh.address(node.id, other.id)).unwrap_or(other.peer);
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n[[cluster.initial]]\nid = {}\nsite = \"{}\"\npeer = \"{peer}\"\nclient = \"{}\"\n",
                other.id, other.site, other.client
            );
        }
        fs::create_dir_all(&node.dir).map_err(DrillError::file("make", &node.dir))?;
        if self.setup.faults {
            let path = node.faults();
            Faults::default().write(&path).map_err(DrillError::file("write", path))?;
        }
        let path = node.dir.join("node.toml");
        fs::write(&path, text).map_err(DrillError::file("write", path))
    }

    /// Another program is run where a node is started from now on.
    pub fn start_from_now_on(&mut self, binary: PathBuf) {
        self.setup.binary = binary;
    }

    /// Starts a node's process; it finds what an earlier one left.
    ///
    /// # Errors
    /// The program does not start.
    pub fn spawn(&mut self, id: u64) -> Result<(), DrillError> {
        let at = self.at(id);
        let node = &mut self.nodes[at];
        if let (Some(compose), Some(container)) = (&mut self.compose, &mut node.container) {
            compose.start(container, std::mem::take(&mut node.is_new))?;
            container.is_up = true;
            return Ok(());
        }
        let mut command = Command::new(&self.setup.binary);
        let path = node.dir.join("log");
        let log = File::options().create(true).append(true).open(&path);
        let log = log.and_then(|log| Ok((log.try_clone()?, log))).map_err(DrillError::file("open", path))?;
        if self.setup.faults {
            command.arg("drill-node").arg("--faults").arg(node.faults());
        } else {
            command.arg("serve");
        }
        command.args(["--die-with-parent", "--config"]).arg(node.dir.join("node.toml"));
        // The nodes are told everything in their files.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SILLOK_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(log.0).stderr(log.1);
        // Ctrl-C in the terminal is for the drill, which ends them in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|source| DrillError::Process { doing: "start", node: id, source })?;
        node.process = Some(child);
        Ok(())
    }

    /// Runs the program as an operator does, on the data of stopped nodes: whether it succeeded, and what it printed.
    ///
    /// # Errors
    /// It does not start.
    pub async fn sillok(&self, arguments: &[String]) -> Result<(bool, String), DrillError> {
        let mut command = tokio::process::Command::new(&self.setup.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SILLOK_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| DrillError::Command {
            command: arguments.join(" "),
            ended: "does not start".to_owned(),
            printed: error.to_string(),
        })?;
        let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.success(), printed.concat()))
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn kill(&mut self, id: u64) -> Result<(), DrillError> {
        let at = self.at(id);
        if let Some(container) = self.nodes[at].container.as_mut().filter(|container| container.is_up) {
            container.is_up = false;
            return docker(&["kill", &container.name]).map(drop);
        }
        let Some(mut child) = self.nodes[at].process.take() else { return Ok(()) };
        let ended = child.kill().and_then(|()| child.wait());
        ended.map(drop).map_err(|source| DrillError::Process { doing: "kill", node: id, source })
    }

    /// SIGTERM, then waits for the process to end by itself.
    ///
    /// # Errors
    /// It was not running.
    pub async fn stop(&mut self, id: u64, limit: Duration) -> Result<ExitStatus, DrillError> {
        self.node(id).signal("stop", Signal::TERM)?;
        self.ended(id, limit).await
    }

    /// Waits for a process that ends by itself.
    ///
    /// # Errors
    /// It does not end, or was not running.
    pub async fn ended(&mut self, id: u64, limit: Duration) -> Result<ExitStatus, DrillError> {
        let at = self.at(id);
        let node = &mut self.nodes[at];
        let Some(child) = &mut node.process else {
            return Err(DrillError::NodeState { node: id, state: "is not running" });
        };
        let started = std::time::Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    node.process = None;
                    return Ok(status);
                }
                Ok(None) if started.elapsed() < limit => tokio::time::sleep(Duration::from_millis(10)).await,
                Ok(None) => return Err(DrillError::NotWithin { what: format!("node {id} ends"), limit }),
                Err(source) => return Err(DrillError::Process { doing: "wait for", node: id, source }),
            }
        }
    }

    /// Nodes that were not ended from here, and have ended all the same.
    pub fn ended_by_themselves(&mut self) -> Vec<u64> {
        let ended = |node: &mut Node| node.process.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        self.nodes.iter_mut().filter_map(|node| ended(node).then_some(node.id)).collect()
    }

    /// SIGSTOP: the process lives and does nothing.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self, id: u64) -> Result<(), DrillError> {
        self.node(id).signal("pause", Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self, id: u64) -> Result<(), DrillError> {
        self.node(id).signal("resume", Signal::CONT)
    }

    /// From now on, and until it is called again, a node gets this wrong; the setup must have asked for faults.
    ///
    /// # Errors
    /// The file.
    pub fn make_wrong(&self, id: u64, faults: Faults) -> Result<(), DrillError> {
        let path = self.node(id).faults();
        faults.write(&path).map_err(DrillError::file("write", path))
    }

    /// Removes everything a node has on disk but its log; its process must not run.
    ///
    /// # Errors
    /// The files.
    pub fn erase(&self, id: u64) -> Result<(), DrillError> {
        let node = self.node(id);
        if node.is_up() {
            return Err(DrillError::NodeState { node: id, state: "runs; its disk cannot burn under it" });
        }
        if let (Some(compose), Some(container)) = (&self.compose, &node.container) {
            return compose.erase(container);
        }
        match fs::remove_dir_all(node.data_dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DrillError::file("erase", node.data_dir())(error))
            }
            _ => Ok(()),
        }
    }

    /// Who leads, where the running nodes that know of a leader agree on one that runs.
    pub async fn leader_now(&self) -> Option<u64> {
        let statuses = futures::future::join_all(self.running().map(Node::status)).await;
        let newest = statuses.into_iter().flatten().filter(|status| status.leader_id != 0);
        let leader = newest.max_by_key(|status| status.term)?.leader_id;
        self.nodes.iter().any(|node| node.id == leader && node.is_up()).then_some(leader)
    }

    /// Waits until every running node names the same running leader; its id.
    ///
    /// # Errors
    /// Not within 20 s.
    pub async fn leader(&self) -> Result<u64, DrillError> {
        within("a leader that every running node names", Duration::from_secs(20), || async {
            let mut named = None;
            for status in futures::future::join_all(self.running().map(Node::status)).await {
                let leader = status?.leader_id;
                let is_up = self.running().any(|node| node.id == leader);
                if !is_up || named.is_some_and(|other| other != leader) {
                    return None;
                }
                named = Some(leader);
            }
            named
        })
        .await
    }

    /// Waits until every running node has folded up to the same position as the furthest; that sequence.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn settle(&self, limit: Duration) -> Result<u64, DrillError> {
        within("the same position at every running node", limit, || async {
            let mut seen = None;
            for status in futures::future::join_all(self.running().map(Node::status)).await {
                let status = status?;
                let here = (status.info?.position.map_or(0, |position| position.sequence), status.applied_index);
                if status.applied_index != status.committed_index || seen.is_some_and(|other| other != here) {
                    return None;
                }
                seen = Some(here);
            }
            seen.map(|(sequence, _)| sequence)
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(compose) = &mut self.compose {
            // It is somebody else's cluster, and left whole as far as that goes.
            if let Err(error) = compose.heal() {
                tracing::error!(%error, "the networks of the compose cluster are not joined again");
            }
            if compose.file_of_replacements().is_some() {
                self.dir.disable_cleanup(true);
            }
            return;
        }
        for id in self.ids() {
            // The directory goes next; a process that is already gone is what we want.
            let _ = self.kill(id);
        }
    }
}
