//! Three `sillok serve` processes on three sites.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use sillok_drill::ports;
use sillok_wire::v1::{self, cluster_client::ClusterClient, queries_client::QueriesClient};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{SITES, eventually};

/// One node: its place, its ports, and its process while it runs.
pub struct Site {
    /// Node id, from 1.
    pub id: u64,
    /// The site's label.
    pub name: String,
    /// `127.0.0.1:port` of the client API.
    pub client: String,
    /// `127.0.0.1:port` of the peer port.
    pub peer: String,
    /// `127.0.0.1:port` of metrics and health.
    pub http: String,
    /// Holds `node.toml`, `data/` and `log`.
    pub dir: PathBuf,
    process: Option<Child>,
}

impl Site {
    /// Where this node keeps its chronicle and views.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Whether its process was started and not yet ended by the test.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A fresh connection to this node alone.
    pub async fn connect(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.client))?
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(10));
        endpoint.connect().await.with_context(|| format!("connecting to {}", self.name))
    }

    /// Reads at this node alone.
    pub async fn queries(&self) -> Result<QueriesClient<Channel>> {
        Ok(QueriesClient::new(self.connect().await?).max_decoding_message_size(64 << 20))
    }

    /// Status as this node sees it.
    pub async fn status(&self) -> Result<v1::GetStatusResponse> {
        let mut cluster = ClusterClient::new(self.connect().await?);
        Ok(cluster.get_status(v1::GetStatusRequest {}).await?.into_inner())
    }

    /// The end of the node's own log, for a failing test's message.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A cluster in a temporary directory. Dropping it kills its processes.
pub struct Cluster {
    binary: PathBuf,
    /// The nodes, by id from 1.
    pub sites: Vec<Site>,
    dir: TempDir,
}

impl Cluster {
    /// Three nodes on three sites, formed and writable. `binary` is `env!("CARGO_BIN_EXE_sillok-under-test")`; another one
    /// is taken where `SILLOK_UNDER_TEST` names it, such as a release build.
    pub async fn start(binary: &str) -> Result<Self> {
        let mut cluster = Self::prepare(binary, &SITES)?;
        for id in 1..=cluster.sites.len() as u64 {
            cluster.spawn(id)?;
        }
        cluster.leader().await;
        Ok(cluster)
    }

    /// Writes the configuration of one node for each label; starts nothing. `binary` as for [`Cluster::start`].
    pub fn prepare(binary: &str, labels: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sillok-test-").tempdir()?;
        let ports = ports::free(labels.len() * 3)?;
        let sites: Vec<_> = labels
            .iter()
            .zip(ports.chunks(3))
            .zip(1..)
            .map(|((name, ports), id)| Site {
                id,
                name: (*name).to_owned(),
                client: format!("127.0.0.1:{}", ports[0]),
                peer: format!("127.0.0.1:{}", ports[1]),
                http: format!("127.0.0.1:{}", ports[2]),
                dir: dir.path().join(format!("node-{id}")),
                process: None,
            })
            .collect();
        let mut initial = String::new();
        for site in &sites {
            write!(
                initial,
                "[[cluster.initial]]\nid = {}\nsite = \"{}\"\npeer = \"{}\"\nclient = \"{}\"\n",
                site.id, site.name, site.peer, site.client
            )?;
        }
        for site in &sites {
            fs::create_dir_all(&site.dir)?;
            fs::write(site.dir.join("node.toml"), site.config(&initial))?;
        }
        let binary = std::env::var_os("SILLOK_UNDER_TEST").map_or_else(|| binary.into(), PathBuf::from);
        Ok(Self { binary, sites, dir })
    }

    /// A blank node under an id that was never used, not started; its id.
    pub fn add(&mut self, label: &str) -> Result<u64> {
        let id = self.sites.len() as u64 + 1;
        let ports = ports::free(3)?;
        let address = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let dir = self.dir.path().join(format!("node-{id}"));
        let (client, peer, http) = (address(0), address(1), address(2));
        let site = Site { id, name: label.to_owned(), client, peer, http, dir, process: None };
        fs::create_dir_all(&site.dir)?;
        fs::write(site.dir.join("node.toml"), site.config(""))?;
        self.sites.push(site);
        Ok(id)
    }

    /// Where everything of this cluster lies.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The node with this id.
    pub fn site(&self, id: u64) -> &Site {
        &self.sites[id as usize - 1]
    }

    /// Client addresses of every node.
    pub fn endpoints(&self) -> Vec<String> {
        self.sites.iter().map(|site| site.client.clone()).collect()
    }

    /// Starts a node's process.
    pub fn spawn(&mut self, id: u64) -> Result<()> {
        let binary = self.binary.clone();
        let site = &mut self.sites[id as usize - 1];
        let log = File::options().create(true).append(true).open(site.dir.join("log"))?;
        let mut command = Command::new(binary);
        // What the shell that runs the tests exports is not for the nodes: one data directory for all of them, say.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SILLOK_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["serve", "--config"])
            .arg(site.dir.join("node.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", site.name))?;
        site.process = Some(child);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        if let Some(mut child) = self.sites[id as usize - 1].process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, then waits for the process to end by itself.
    pub fn stop(&mut self, id: u64) -> Result<ExitStatus> {
        let mut child = self.sites[id as usize - 1].process.take().context("not running")?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        Ok(child.wait()?)
    }

    /// SIGSTOP: the process stands still, its connections stay open, and it knows nothing of the time that passes.
    pub fn freeze(&self, id: u64) -> Result<()> {
        self.signal(id, rustix::process::Signal::STOP)
    }

    /// SIGCONT: it goes on where it was.
    pub fn thaw(&self, id: u64) -> Result<()> {
        self.signal(id, rustix::process::Signal::CONT)
    }

    fn signal(&self, id: u64, signal: rustix::process::Signal) -> Result<()> {
        let child = self.site(id).process.as_ref().context("not running")?;
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(child), signal)?)
    }

    /// Runs `sillok` against these endpoints with these arguments; what it printed, if it succeeded.
    pub fn sillok(&self, endpoints: &[String], arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(["--endpoints", &endpoints.join(",")])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let printed = String::from_utf8(output.stdout)?;
        anyhow::ensure!(
            output.status.success(),
            "sillok {arguments:?} ended with {}: {printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(printed)
    }

    /// Runs `sillok` with these arguments, which is to fail: its exit code, and what it printed.
    pub fn sillok_fails(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = Command::new(&self.binary).args(arguments).stdin(Stdio::null()).output()?;
        let printed = format!("{}{}", String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(!output.status.success(), "sillok {arguments:?} did not fail: {printed}");
        Ok((output.status.code().context("ended by a signal")?, printed))
    }

    /// Waits for a process that ends by itself.
    pub fn wait_exit(&mut self, id: u64) -> Result<ExitStatus> {
        let mut child = self.sites[id as usize - 1].process.take().context("not running")?;
        Ok(child.wait()?)
    }

    /// Waits until a running node leads with the others' consent, as the others see it too; its id.
    pub async fn leader(&self) -> u64 {
        eventually("a leader that every running node names", Duration::from_secs(20), || async {
            let mut named = None;
            for site in self.sites.iter().filter(|site| site.is_up()) {
                let leader = site.status().await.ok()?.leader_id;
                if leader == 0 || !self.site(leader).is_up() || named.is_some_and(|other| other != leader) {
                    return None;
                }
                named = Some(leader);
            }
            named
        })
        .await
    }

    /// Waits until every running node has folded up to the same position as the furthest; that sequence.
    pub async fn settle(&self) -> u64 {
        eventually("the same position at every running node", Duration::from_secs(60), || async {
            let mut seen = None;
            for site in self.sites.iter().filter(|site| site.is_up()) {
                let status = site.status().await.ok()?;
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
        if std::thread::panicking() {
            for site in &self.sites {
                eprintln!("--- log of {}\n{}", site.name, site.log_tail());
            }
        }
        for id in 1..=self.sites.len() as u64 {
            // The directory goes next; a process that is already gone is what we want.
            let _ = self.kill(id);
        }
    }
}

impl Site {
    fn config(&self, initial: &str) -> String {
        format!(
            "data_dir = \"{data}\"\n\n[node]\nid = {id}\nsite = \"{site}\"\n\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\nhttp = \"{http}\"\n\n\
             [advertise]\nclient = \"{client}\"\npeer = \"{peer}\"\n\n{initial}",
            data = self.data_dir().display(),
            id = self.id,
            site = self.name,
            client = self.client,
            peer = self.peer,
            http = self.http,
        )
    }
}
