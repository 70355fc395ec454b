//! One node as one process: how it is asked to stop, and what its exit code says.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sillok_server::{ExitCode, Flags, NodeConfig, run};

use crate::{
    shop,
    support::{TestNode, configs, start},
};

/// Where the child finds its configuration. No `SILLOK_` name: those are taken from it.
const CONFIG: &str = "NODE_TEST_CONFIG";

/// Not a test: the process that the tests below start, which is this very binary.
#[test]
#[ignore = "started by the other tests"]
fn serve() {
    let Some(path) = std::env::var_os(CONFIG) else { return };
    let config = NodeConfig::load(Some(Path::new(&path)), &Flags::new()).unwrap();
    std::process::exit(run(config).code().into());
}

fn spawn(config: &NodeConfig) -> Child {
    let path = config.data_dir.with_extension("toml");
    fs::write(&path, toml::to_string(config).unwrap()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SILLOK_") {
            command.env_remove(name);
        }
    }
    command
        .args(["--ignored", "--exact", "process::serve", "--nocapture"])
        .env(CONFIG, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the one line that says so.
fn ready(child: &mut Child) {
    let stdout = child.stdout.as_mut().unwrap();
    let said =
        BufReader::new(stdout).lines().any(|line| line.unwrap().contains("sillok: node 1 at chungju is ready: client"));
    assert!(said, "the process ended before it was ready");
}

#[track_caller]
fn assert_exit(mut child: Child, code: ExitCode) {
    // Waiting would close it, and that asks a supervised node to stop.
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(code.code().into()));
    drop(stdin);
}

fn config(dir: &tempfile::TempDir) -> NodeConfig {
    configs(dir.path(), 1, &["supervised=true"]).remove(0)
}

#[test]
fn the_end_of_the_parent_stops_a_supervised_node_gracefully() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn(&config(&dir));
    ready(&mut child);
    drop(child.stdin.take());
    assert_exit(child, ExitCode::Graceful);
}

#[test]
fn signals_stop_it_gracefully() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = spawn(&config(&dir));
        ready(&mut child);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_exit(child, ExitCode::Graceful);
    }
}

/// The `nice` of the threads of a process, by their names as the system shortens them.
fn priorities(child: &Child) -> BTreeMap<String, i32> {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let of = |thread: PathBuf| {
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), rest.split(' ').nth(16)?.parse().ok()?))
    };
    threads.filter_map(|thread| of(thread.ok()?.path())).collect()
}

/// Three nodes sealed 64 MiB at the same moment on two processors, and their clients waited for a tenth of a second.
#[test]
fn sealing_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn(&config(&dir));
    ready(&mut child);
    let begun = Instant::now();
    let found = loop {
        let found = priorities(&child);
        // It says so itself, once it has begun.
        if found.get("chronicle-seal-").is_some_and(|nice| *nice >= 10) {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{found:?}");
        std::thread::yield_now();
    };
    for name in ["chronicle-write", "chronicle-ahead", "fold-1"] {
        assert!(found.get(name).is_some_and(|nice| *nice < 10), "{name} of {found:?}");
    }
    drop(child.stdin.take());
    assert_exit(child, ExitCode::Graceful);
}

#[test]
fn what_cannot_start_says_why_in_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let good = config(&dir);
    let _taken = std::net::TcpListener::bind(good.listen.http).unwrap();
    assert_exit(spawn(&good), ExitCode::BadConfig);

    let dir = tempfile::tempdir().unwrap();
    let good = config(&dir);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut node: TestNode = start(good.clone()).await;
        node.leader_confirmed().await;
        shop::open(&mut node.commands()).await;
        node.stop().await;
    });
    let mut moved = good.clone();
    moved.node.site = "jeonju".to_owned();
    moved.cluster.initial.clear();
    assert_exit(spawn(&moved), ExitCode::WrongData);

    let segment = first_segment(&good.data_dir.join("chronicle"));
    let bytes = flip_a_byte(&segment);
    assert_exit(spawn(&good), ExitCode::Damaged);
    assert_eq!(fs::read(&segment).unwrap(), bytes, "and it repaired nothing by itself");
}

/// A container whose supervisor restarts whatever ends would open a damaged chronicle again and again, for a year.
#[test]
fn a_damaged_node_may_stand_still_instead_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let standing = configs(dir.path(), 1, &["stand_still_on_damage=true"]).remove(0);
    let mut child = spawn(&standing);
    ready(&mut child);
    // It has written something once it leads.
    while !page_is(standing.listen.http, "/health/leader", 200) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    flip_a_byte(&first_segment(&standing.data_dir.join("chronicle")));

    let mut child = spawn(&standing);
    let page = loop {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        if let Some(page) = page(standing.listen.http, "/health").filter(|page| page.contains("503")) {
            break page;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(page.contains("\"trouble\":\"") && page.contains("damage"), "{page}");
    assert!(page.contains("\"reads\":false"), "{page}");
    assert!(page_is(standing.listen.http, "/health/ready", 503) && page_is(standing.listen.http, "/health/live", 200));
    assert!(TcpStream::connect(standing.listen.client).is_err(), "nobody is let in");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_exit(child, ExitCode::Damaged);
}

fn page(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn page_is(address: SocketAddr, path: &str, status: u16) -> bool {
    page(address, path).is_some_and(|page| page.starts_with(&format!("HTTP/1.1 {status}")))
}

/// In the middle of what was written; gives what stands there now.
fn flip_a_byte(segment: &Path) -> Vec<u8> {
    let mut bytes = fs::read(segment).unwrap();
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    bytes[written[written.len() / 2]] ^= 1;
    fs::write(segment, &bytes).unwrap();
    bytes
}

fn first_segment(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "seg")).collect();
    segments.sort();
    segments.swap_remove(0)
}
