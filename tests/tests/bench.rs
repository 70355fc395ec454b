//! `sillok bench` in a very short form, on clusters of its own: counts that must be so, and no speeds.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be run fails where it stands")]

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{process::Command, sync::Semaphore};

/// Each has a cluster of its own, and waits more than it works.
static SOME_AT_A_TIME: Semaphore = Semaphore::const_new(2);

/// Runs it; its JSON, which must be what is printed too.
async fn bench(arguments: &[&str]) -> Value {
    let _turn = SOME_AT_A_TIME.acquire().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (json, html) = (dir.path().join("figures.json"), dir.path().join("page.html"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillok-under-test"));
    command.args(["bench", "--output", "json", "--dir"]).arg(dir.path());
    command.arg("--json").arg(&json).arg("--html").arg(&html).args(arguments);
    command.env_remove("SILLOK_ENDPOINTS").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(printed, written);
    assert!(std::fs::read_to_string(&html).unwrap().contains("</html>"), "the page has no end");
    assert_eq!(left(dir.path()), ["figures.json", "page.html"], "the nodes' directory stays");
    written
}

fn left(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn number(run: &Value, name: &str) -> f64 {
    run[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {run:#}"))
}

/// The bench itself compares what was acknowledged with what is recorded, and fails where they differ.
#[tokio::test]
async fn writes_are_counted_and_what_they_cost_is_known() {
    let report =
        bench(&["write", "--in-flight", "1,8", "--events", "50", "--warm-up", "100ms", "--friends", "20"]).await;
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, in_flight) in runs.iter().zip([1.0, 8.0]) {
        assert_eq!(number(run, "in_flight"), in_flight);
        assert!(number(run, "events") >= 50.0, "{run:#}");
        let rate = number(run, "events") / number(run, "seconds");
        assert!((number(run, "events_per_second") - rate).abs() < 0.01 * rate.max(1.0));
        let [p50, p99, p999] = ["p50_us", "p99_us", "p999_us"].map(|name| number(run, name));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= number(run, "max_us"), "{run:#}");
        let processes = run["cost"]["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 4, "three nodes and the load: {run:#}");
        assert!(processes[..3].iter().all(|node| node["resident_bytes"].as_u64() > Some(1 << 20)), "{run:#}");
        // Whoever has acknowledged has synced, and an event takes more than its text.
        let synced = processes[..3].iter().filter(|node| number(node, "fsyncs") > 0.0).count();
        assert!(synced >= 2, "{run:#}");
    }
}

#[tokio::test]
async fn an_open_loop_sends_what_is_due_and_a_mix_is_never_refused() {
    let report = bench(&[
        "write",
        "--submit",
        "--event",
        "mix",
        "--in-flight",
        "64",
        "--connections",
        "2",
        "--rate",
        "100",
        "--events",
        "50",
        "--warm-up",
        "100ms",
        "--friends",
        "30",
    ])
    .await;
    let run = &report["runs"][0];
    assert_eq!((run["loop"].as_str(), run["mode"].as_str()), (Some("open"), Some("submit")));
    assert_eq!(number(run, "rate_per_second"), 100.0);
    assert!(number(run, "events") >= 50.0, "{run:#}");
}

#[tokio::test]
async fn every_subscriber_gets_every_event() {
    let report = bench(&["subscribe", "--subscribers", "3", "--rate", "50", "--seconds", "500ms"]).await;
    let run = &report["runs"][0];
    assert!(number(run, "written_events") > 0.0);
    assert_eq!(number(run, "delivered_events"), 3.0 * number(run, "written_events"));
}

#[tokio::test]
async fn a_node_comes_back_from_nothing() {
    let report = bench(&["catch-up", "--events", "9000"]).await;
    let run = &report["runs"][0];
    assert_eq!(number(run, "stored_events"), 9000.0);
    let figures = run["figures"].as_array().unwrap();
    assert!(figures.iter().all(|figure| number(figure, "value") > 0.0), "{run:#}");
}

/// A figure that nobody can measure is refused before anything is started.
#[tokio::test]
async fn what_cannot_be_measured_is_refused_at_once() {
    for (arguments, says) in [
        (["write", "--in-flight", "0"], "--in-flight must be at least 1"),
        (["write", "--seconds", "0"], "--seconds must be more than none"),
        (["broadcast", "--audiences", "10,5"], "ascending"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sillok-under-test"));
        command.arg("bench").args(arguments).env_remove("SILLOK_ENDPOINTS").stdin(Stdio::null());
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
