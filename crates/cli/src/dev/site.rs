//! One site: a child process that ends with its parent.

use std::{
    fmt,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::Serialize;
use tokio::process::{Child, ChildStdin, Command};

use crate::{
    endpoints::{DevEndpoints, DevSite},
    failure::{Exit, Failure},
};

/// A graceful stop hands leadership over and ends streams.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// A log longer than this is put aside at the next start.
const LOG_BYTES: u64 = 16 << 20;

/// One running node, or what is left of it.
pub(super) struct Site {
    name: String,
    log: PathBuf,
    child: Child,
    /// The child reads it; its end is the end of the child. Held open by this process, so that even its death by kill -9
    /// closes it.
    stdin: Option<ChildStdin>,
    running: bool,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End(ExitStatus);

impl End {
    pub(super) fn exit(self) -> Exit {
        match self.0.code() {
            Some(64) => Exit::Config,
            Some(65) => Exit::Damaged,
            _ => Exit::Unavailable,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt as _;
        match (self.0.code(), self.0.signal()) {
            (Some(64), _) => write!(f, "its configuration is wrong, or a port is busy"),
            (Some(65), _) => write!(f, "its chronicle is damaged (exit code 65)"),
            (Some(66), _) => write!(f, "its data directory is another node's (exit code 66)"),
            (Some(74), _) => write!(f, "its disk failed (exit code 74)"),
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "{}", self.0),
        }
    }
}

#[derive(Serialize)]
struct Config<'a> {
    data_dir: &'a Path,
    node: Node<'a>,
    listen: Listen<'a>,
    cluster: Cluster<'a>,
}

#[derive(Serialize)]
struct Node<'a> {
    id: u64,
    site: &'a str,
}

#[derive(Serialize)]
struct Listen<'a> {
    client: &'a str,
    peer: &'a str,
    http: &'a str,
}

#[derive(Serialize)]
struct Cluster<'a> {
    initial: Vec<Initial<'a>>,
}

#[derive(Serialize)]
struct Initial<'a> {
    id: u64,
    site: &'a str,
    peer: &'a str,
    client: &'a str,
}

impl Site {
    /// Starts the node; it finds what an earlier one left. Must run on a thread that lives as long as the process, because
    /// Linux ties the child to it.
    pub(super) fn start(site: &DevSite, cluster: &DevEndpoints, data_dir: &Path) -> Result<Site, Failure> {
        let dir = data_dir.join(&site.site);
        std::fs::create_dir_all(&dir).map_err(|error| Failure::file(&dir, "make", &error))?;
        let dir = dir.canonicalize().map_err(|error| Failure::file(&dir, "find", &error))?;
        let config = dir.join("node.toml");
        std::fs::write(&config, node_toml(site, cluster, &dir)?)
            .map_err(|error| Failure::file(&config, "write", &error))?;
        let log = dir.join("log");
        let out = open_log(&log)?;
        let err = out.try_clone().map_err(|error| Failure::file(&log, "open", &error))?;

        let program = std::env::current_exe()
            .map_err(|error| Failure::usage(format!("this program cannot find itself: {error}")))?;
        let mut command = Command::new(program);
        command.args(["serve", "--supervised", "--die-with-parent", "--config"]).arg(&config);
        // The nodes are told everything in their files. What they log may still be asked for.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SILLOK_") && !name.starts_with("SILLOK_LOG__") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(out).stderr(err).kill_on_drop(true);
        // Ctrl-C in the terminal is for the parent, which stops them in order.
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|error| Failure::usage(format!("cannot start {}: {error}", site.site)))?;
        let stdin = child.stdin.take();
        Ok(Site { name: site.site.clone(), log, child, stdin, running: true })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    /// How it ended, once, where it ended by itself.
    pub(super) fn ended(&mut self) -> Option<End> {
        if !self.running {
            return None;
        }
        let status = self.child.try_wait().ok()??;
        self.running = false;
        Some(End(status))
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        self.running = false;
        // It may have ended just now by itself, which is as good.
        let _ = self.child.start_kill();
    }

    /// The end of its standard input asks it to stop.
    pub(super) fn ask_to_stop(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end it was asked for; true where it had to be forced.
    pub(super) async fn wait_or_kill(&mut self) -> bool {
        self.running = false;
        if tokio::time::timeout(STOP_WITHIN, self.child.wait()).await.is_ok() {
            return false;
        }
        // Nothing is left to try.
        let _ = self.child.kill().await;
        true
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n        ")
    }
}

fn node_toml(site: &DevSite, cluster: &DevEndpoints, dir: &Path) -> Result<String, Failure> {
    let initial = cluster.sites.iter().map(|site| Initial {
        id: site.id,
        site: &site.site,
        peer: &site.peer,
        client: &site.client,
    });
    let config = Config {
        data_dir: dir,
        node: Node { id: site.id, site: &site.site },
        listen: Listen { client: &site.client, peer: &site.peer, http: &site.http },
        cluster: Cluster { initial: initial.collect() },
    };
    let text = toml::to_string(&config).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(format!("# Written by `sillok dev` at every start.\n{text}"))
}

fn open_log(path: &Path) -> Result<File, Failure> {
    if path.metadata().is_ok_and(|log| log.len() > LOG_BYTES) {
        std::fs::rename(path, path.with_extension("old")).map_err(|error| Failure::file(path, "put aside", &error))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| Failure::file(path, "write", &error))
}
