//! Metrics: the recorder of this process, and what each name means.

use std::sync::OnceLock;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From 5 µs (folding one event) over 50 µs (an fsync on a good disk) to 10 s.
const SECONDS: &[f64] = &[
    5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
    1.0, 2.5, 5.0, 10.0,
];
/// Powers of four: counts in a batch, bytes in a record.
const SIZES: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// The recorder of this process; installed at the first call. Several nodes in one process, as in tests, share it.
pub(crate) fn install() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = builder().build_recorder();
            let handle = recorder.handle();
            match metrics::set_global_recorder(recorder) {
                Ok(()) => describe(),
                Err(_) => tracing::warn!("another recorder of metrics is installed; /metrics stays empty"),
            }
            handle
        })
        .clone()
}

fn builder() -> PrometheusBuilder {
    let suffixed = |builder: PrometheusBuilder, suffix: &str, buckets: &[f64]| {
        // Fails only without buckets; the builder is lost then, and a fresh one gives summaries in their place.
        builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets).unwrap_or_default()
    };
    let builder = suffixed(PrometheusBuilder::new(), "_seconds", SECONDS);
    ["_bytes", "_entries", "_decisions"].into_iter().fold(builder, |builder, suffix| suffixed(builder, suffix, SIZES))
}

/// Publishes what the process has used so far. To be called when it is about to be read.
pub(crate) fn process() {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    metrics::gauge!("sillok_process_cpu_seconds").set(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
    // The second number: pages in memory (proc_pid_statm(5)).
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    if let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()) {
        metrics::gauge!("sillok_process_resident_bytes").set((pages * rustix::param::page_size() as u64) as f64);
    }
}

/// What a name measures.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

fn describe() {
    for &(kind, name, unit, help) in METRICS {
        match kind {
            Kind::Counter => describe_counter!(name, unit, help),
            Kind::Gauge => describe_gauge!(name, unit, help),
            Kind::Histogram => describe_histogram!(name, unit, help),
        }
    }
}

/// Every metric of every crate.
const METRICS: &[(Kind, &str, Unit, &str)] = &[
    (
        Kind::Gauge,
        "sillok_node_info",
        Unit::Count,
        "Always 1; which node this is and at which site stand in the labels.",
    ),
    // Consensus.
    (Kind::Gauge, "sillok_raft_term", Unit::Count, "The newest term this node knows."),
    (Kind::Gauge, "sillok_raft_is_leader", Unit::Count, "1 on the leader, else 0."),
    (Kind::Counter, "sillok_leader_changes_total", Unit::Count, "Changes of leader that this node saw."),
    (
        Kind::Counter,
        "sillok_leader_handovers_total",
        Unit::Count,
        "Times this node gave leadership away, by the reason why.",
    ),
    (
        Kind::Gauge,
        "sillok_clock_offset_seconds",
        Unit::Seconds,
        "How far this node's clock is ahead of the one in the middle of all voters' clocks.",
    ),
    (Kind::Gauge, "sillok_clock_is_off", Unit::Count, "1 while this node does not lead because of its clock, else 0."),
    (Kind::Gauge, "sillok_commit_index", Unit::Count, "Index of the newest committed entry known here."),
    (
        Kind::Gauge,
        "sillok_replication_lag_entries",
        Unit::Count,
        "On the leader: entries that a node has not flushed yet, by node and site.",
    ),
    (Kind::Histogram, "sillok_commit_seconds", Unit::Seconds, "From proposing a record to its commit."),
    // The sequencer.
    (Kind::Gauge, "sillok_sequencer_queue_bytes", Unit::Bytes, "Commands admitted and not yet answered."),
    (Kind::Gauge, "sillok_sequencer_records_in_flight", Unit::Count, "Records proposed and not yet committed."),
    (
        Kind::Histogram,
        "sillok_sequencer_wait_seconds",
        Unit::Seconds,
        "How long the oldest command of a batch waited until the batch was decided.",
    ),
    (Kind::Histogram, "sillok_sequencer_answer_seconds", Unit::Seconds, "Handing out the answers of one record."),
    (Kind::Histogram, "sillok_sequencer_decide_seconds", Unit::Seconds, "Deciding one batch of commands."),
    (Kind::Histogram, "sillok_record_decisions", Unit::Count, "Commands decided in one record: the batch size."),
    (Kind::Histogram, "sillok_record_bytes", Unit::Bytes, "Size of one record."),
    (Kind::Counter, "sillok_refusals_total", Unit::Count, "Commands that the domain refused."),
    // The chronicle.
    (Kind::Gauge, "sillok_chronicle_queue_bytes", Unit::Bytes, "Waiting for the writer thread."),
    (Kind::Histogram, "sillok_chronicle_fsync_seconds", Unit::Seconds, "One fdatasync of a segment."),
    (
        Kind::Counter,
        "sillok_chronicle_key_reads_total",
        Unit::Count,
        "Reads of a sealed segment's key table, for retry keys that are there or that its filter mistook for one that is.",
    ),
    (Kind::Histogram, "sillok_chronicle_batch_bytes", Unit::Bytes, "Written with one fdatasync."),
    (Kind::Histogram, "sillok_chronicle_batch_entries", Unit::Count, "Entries written with one fdatasync."),
    (
        Kind::Gauge,
        "sillok_chronicle_overview_bytes",
        Unit::Bytes,
        "The keys of sealed segments side by side in memory, where many are asked for.",
    ),
    (Kind::Gauge, "sillok_chronicle_segments", Unit::Count, "Segment files, by state."),
    (Kind::Gauge, "sillok_chronicle_disk_full", Unit::Count, "1 while no space is left for another segment, else 0."),
    (Kind::Gauge, "sillok_chronicle_unflushed_bytes", Unit::Bytes, "Appended and not yet flushed."),
    (Kind::Gauge, "sillok_chronicle_flush_lag_seconds", Unit::Seconds, "Age of the oldest append that is not flushed."),
    (Kind::Gauge, "sillok_repairing", Unit::Count, "1 while the chronicle is repaired from peers, else 0."),
    (Kind::Counter, "sillok_repairs_total", Unit::Count, "Damaged segments, by what became of their repair."),
    (Kind::Counter, "sillok_repaired_entries_total", Unit::Count, "Entries that came back from peers."),
    // The scrub.
    (
        Kind::Counter,
        "sillok_scrub_read_bytes_total",
        Unit::Bytes,
        "Read from the disk to check the chronicle in the background.",
    ),
    (Kind::Counter, "sillok_scrub_segments_total", Unit::Count, "Sealed segments that verified, over all passes."),
    (Kind::Counter, "sillok_scrub_passes_total", Unit::Count, "Whole passes over the chronicle."),
    (
        Kind::Gauge,
        "sillok_scrub_completed_timestamp_seconds",
        Unit::Seconds,
        "When the newest whole pass ended, in seconds since 1970; absent before the first since the start.",
    ),
    (Kind::Counter, "sillok_scrub_damage_total", Unit::Count, "Damage that the scrub met; it is repaired from peers."),
    (
        Kind::Gauge,
        "sillok_scrub_differences",
        Unit::Count,
        "Segments and channels that are not the same here and at another node, though neither is damaged; must be 0.",
    ),
    // The views.
    (Kind::Gauge, "sillok_apply_lag_entries", Unit::Count, "Committed entries that the views have not folded yet."),
    (Kind::Gauge, "sillok_views_applied_index", Unit::Count, "Index of the newest entry folded into the views."),
    (Kind::Histogram, "sillok_views_fold_seconds", Unit::Seconds, "Folding one entry into the views."),
    (Kind::Counter, "sillok_views_folded_events_total", Unit::Count, "Events folded since the start."),
    (Kind::Gauge, "sillok_views_dirty_rows", Unit::Count, "Rows changed in memory and not yet on disk."),
    (
        Kind::Gauge,
        "sillok_views_durable_lag_entries",
        Unit::Count,
        "Entries folded and not yet in the views' files: folded anew after a restart.",
    ),
    (
        Kind::Counter,
        "sillok_views_spill_failures_total",
        Unit::Count,
        "Batches of changed rows that could not be written; tried again later.",
    ),
    (Kind::Histogram, "sillok_views_spill_seconds", Unit::Seconds, "Writing and syncing one batch of changed rows."),
    (
        Kind::Gauge,
        "sillok_views_resident_bytes",
        Unit::Bytes,
        "What pages of friends, pushes and locators occupy in memory; kept near views.memory_bytes.",
    ),
    (
        Kind::Counter,
        "sillok_views_pages_evicted_total",
        Unit::Count,
        "Pages that left memory because they are on disk and were not used.",
    ),
    (
        Kind::Histogram,
        "sillok_views_page_read_seconds",
        Unit::Seconds,
        "Reading a page from disk that a read, a decision or the fold needed.",
    ),
    // The process, where the system tells.
    (Kind::Gauge, "sillok_process_cpu_seconds", Unit::Seconds, "Processor time used since the start."),
    (Kind::Gauge, "sillok_process_resident_bytes", Unit::Bytes, "Memory in use."),
    // The client port.
    (Kind::Gauge, "sillok_streams_open", Unit::Count, "Streams that this node sends, by call."),
    (
        Kind::Counter,
        "sillok_slow_readers_total",
        Unit::Count,
        "Streams ended because their client read nothing, by call.",
    ),
];

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }

    /// Whatever an operator sees has one line that says what it is, and nothing is described that is not there.
    #[test]
    fn every_metric_in_the_sources_is_described() {
        let mut files = Vec::new();
        for member in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
            sources(&member.unwrap().path().join("src"), &mut files);
        }
        let mut used = BTreeSet::new();
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            for call in ["gauge!(", "counter!(", "histogram!("] {
                for (at, _) in text.match_indices(call) {
                    let name = text[at + call.len()..].trim_start().strip_prefix('"');
                    let name = name.and_then(|rest| rest.split('"').next()).filter(|name| name.starts_with("sillok_"));
                    used.extend(name.map(str::to_owned));
                }
            }
        }
        let described: BTreeSet<String> = METRICS.iter().map(|(_, name, ..)| (*name).to_owned()).collect();
        assert_eq!(described.len(), METRICS.len(), "described twice");
        assert_eq!(used, described);
    }

    /// A panel that asks for what no node tells stays empty for ever, and nobody would know.
    #[test]
    fn the_dashboard_asks_for_metrics_that_are_there() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/observe/dashboards/sillok.json");
        let dashboard: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let mut asked = 0;
        for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
            for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                if !word.starts_with("sillok_") {
                    continue;
                }
                asked += 1;
                let there = METRICS.iter().any(|&(kind, name, ..)| match kind {
                    Kind::Histogram => ["_bucket", "_sum", "_count"].iter().any(|part| word == format!("{name}{part}")),
                    Kind::Counter | Kind::Gauge => word == name,
                });
                assert!(there, "{word} in {expression}");
            }
        }
        assert!(asked > 30, "{asked}");
    }
}
