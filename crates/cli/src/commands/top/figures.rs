//! Where time goes in one node: the stages of an event's way, and what stands between them.

use serde::Serialize;

use super::exposition::{Between, Exposition};

/// In the order of the way. `who`: on the leader alone, or at every node.
pub(super) const STAGES: &[(&str, &str, &str)] = &[
    ("queue", "sillok_sequencer_wait_seconds", "the oldest of a batch waits to be decided"),
    ("decide", "sillok_sequencer_decide_seconds", "a batch is decided"),
    ("commit", "sillok_commit_seconds", "a record, from its proposal to a quorum"),
    ("fsync", "sillok_chronicle_fsync_seconds", "one sync of this node's disk"),
    ("fold", "sillok_views_fold_seconds", "an entry goes into the views"),
    ("answer", "sillok_sequencer_answer_seconds", "the answers of a record are handed out"),
];

/// One node between two looks.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeFigures {
    /// Where it was asked.
    pub(super) address: String,
    /// Its id; empty where it does not say.
    pub(super) node: String,
    pub(super) site: String,
    pub(super) leads: bool,
    /// Between the looks.
    pub(super) seconds: f64,
    /// Only those in which something happened.
    pub(super) stages: Vec<Stage>,
    pub(super) events_per_second: Option<f64>,
    pub(super) refused_per_second: Option<f64>,
    pub(super) fsyncs_per_second: Option<f64>,
    pub(super) chronicle_bytes_per_second: Option<f64>,
    /// Commands in a record, on average.
    pub(super) decisions_per_record: Option<f64>,
    /// Entries written with one sync, on average.
    pub(super) entries_per_fsync: Option<f64>,
    /// Admitted and not yet answered.
    pub(super) queue_bytes: Option<f64>,
    pub(super) records_in_flight: Option<f64>,
    /// Committed and not yet in the views.
    pub(super) apply_lag_entries: Option<f64>,
    /// Of one processor: 2.0 are two of them, busy all the time.
    pub(super) processors: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
}

/// One stage between two looks.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Stage {
    pub(super) stage: &'static str,
    pub(super) per_second: f64,
    pub(super) p50_seconds: f64,
    pub(super) p99_seconds: f64,
    /// Of all time: 0.25 is a quarter. More than 1 where several went on at once.
    pub(super) busy: f64,
    #[serde(skip)]
    pub(super) what: &'static str,
}

impl NodeFigures {
    /// Of a node that was looked at twice. `seconds` lie between.
    pub(super) fn between(address: &str, before: &Exposition, after: &Exposition, seconds: f64) -> NodeFigures {
        let between = Between { before, after, seconds };
        NodeFigures {
            address: address.to_owned(),
            node: after.info("node").to_owned(),
            site: after.info("site").to_owned(),
            leads: after.value("sillok_raft_is_leader") == Some(1.0),
            seconds,
            stages: STAGES.iter().filter_map(|stage| Stage::of(*stage, &between)).collect(),
            events_per_second: between.rate("sillok_views_folded_events_total"),
            refused_per_second: between.rate("sillok_refusals_total"),
            fsyncs_per_second: between.rate("sillok_chronicle_fsync_seconds_count"),
            chronicle_bytes_per_second: between.rate("sillok_chronicle_batch_bytes_sum"),
            decisions_per_record: between.mean("sillok_record_decisions"),
            entries_per_fsync: between.mean("sillok_chronicle_batch_entries"),
            queue_bytes: after.value("sillok_sequencer_queue_bytes"),
            records_in_flight: after.value("sillok_sequencer_records_in_flight"),
            apply_lag_entries: after.value("sillok_apply_lag_entries"),
            processors: between.rate("sillok_process_cpu_seconds"),
            resident_bytes: after.value("sillok_process_resident_bytes"),
        }
    }
}

impl Stage {
    fn of((stage, metric, what): (&'static str, &'static str, &'static str), between: &Between<'_>) -> Option<Stage> {
        Some(Stage {
            stage,
            per_second: between.rate(&format!("{metric}_count")).filter(|rate| *rate > 0.0)?,
            p50_seconds: between.quantile(metric, 0.5)?,
            p99_seconds: between.quantile(metric, 0.99)?,
            busy: between.rate(&format!("{metric}_sum"))?,
            what,
        })
    }
}
