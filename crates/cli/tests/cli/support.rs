//! A dev cluster of its own for each test, and what a person would type at it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Everything here waits for a condition, this long at most.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn sillok() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillok"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SILLOK_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Waits until there is something, or fails saying what for.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `sillok dev` on a directory.
pub(crate) struct Dev {
    child: Child,
    dir: PathBuf,
}

impl Dev {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Dev {
        let out = dir.join("dev.out");
        let file = fs::File::create(&out).unwrap();
        let errors = file.try_clone().unwrap();
        let mut command = sillok();
        let child = command.current_dir(dir).arg("dev").args(more).stdout(file).stderr(errors).spawn().unwrap();
        let mut dev = Dev { child, dir: dir.to_owned() };
        eventually("three sites to be ready", || {
            let said = dev.said();
            if let Some(status) = dev.child.try_wait().unwrap() {
                panic!("sillok dev ended with {status}: {said}");
            }
            said.contains("stops").then_some(())
        });
        dev
    }

    /// All it has printed.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.join("dev.out")).unwrap_or_default()
    }

    /// Process ids of the three nodes.
    pub(crate) fn nodes(&self) -> Vec<u32> {
        let parent = self.child.id();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
            // After the name in parentheses: state, then the parent.
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
            if fields.get(1).and_then(|field| field.parse::<u32>().ok()) == Some(parent) && fields[0] != "Z" {
                found.push(id);
            }
        }
        found
    }

    /// The node of a site.
    pub(crate) fn node(&self, site: &str) -> u32 {
        let told = format!("{site}/node.toml");
        let is_it = |id: &u32| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains(&told));
        self.nodes().into_iter().find(is_it).unwrap_or_else(|| panic!("no process of {site}"))
    }

    /// As Ctrl-C and the like do; gives all it has printed.
    pub(crate) fn stop(mut self) -> String {
        signal(self.child.id(), Signal::TERM);
        let status = eventually("sillok dev to stop", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.said());
        self.said()
    }

    /// kill -9 of the parent alone; gives the children it had.
    pub(crate) fn kill(mut self) -> Vec<u32> {
        let nodes = self.nodes();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        nodes
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// One signal to one process.
pub(crate) fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

pub(crate) fn is_alive(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    fn of(output: Output) -> Answer {
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Of `--output json`.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Types a command in the directory of a dev cluster.
pub(crate) fn run(dir: &Path, line: &[&str]) -> Answer {
    Answer::of(sillok().current_dir(dir).args(line).output().unwrap())
}

/// The same, and it must succeed.
pub(crate) fn ok(dir: &Path, line: &[&str]) -> Answer {
    let answer = run(dir, line);
    assert_eq!(answer.code, 0, "{line:?}: {answer:?}");
    answer
}

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}
