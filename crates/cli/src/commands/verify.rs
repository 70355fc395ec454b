//! `sillok verify DIR`: every byte of a data directory, offline and read-only.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use sillok_chronicle::{Disk, RealDisk, Report, TailState, VerifyError};

use crate::{
    failure::{Exit, Failure},
    format::{bytes, count, hex, thousands},
    output::Out,
    progress,
    table::{Card, Rows},
};

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// A node's data directory, or the chronicle within it
    dir: PathBuf,
    /// Also show each segment
    #[arg(long)]
    segments: bool,
}

pub(crate) fn run(args: &VerifyArgs, out: Out) -> Result<(), Failure> {
    let dir = chronicle_dir(&args.dir);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let bar = progress::bytes("verifying");
    let report = sillok_chronicle::verify(&disk, &dir, |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        bar.set_message(count(progress.entries, "entry", "entries"));
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| {
        let exit = match error {
            VerifyError::Damaged(_) => Exit::Damaged,
            VerifyError::Io { .. } => Exit::No,
            _ => Exit::Usage,
        };
        Failure::new(exit, error.to_string())
    })?;
    out.answer_text(&text(&report, args.segments), json(&report))?;
    match &report.damage {
        None => Ok(()),
        Some(damage) => Err(Failure::new(Exit::Damaged, damage.to_string())),
    }
}

/// A node keeps its chronicle in a folder of that name.
fn chronicle_dir(dir: &Path) -> PathBuf {
    let inner = dir.join("chronicle");
    if inner.is_dir() { inner } else { dir.to_owned() }
}

fn text(report: &Report, segments: bool) -> String {
    let mut card = Card::new();
    let id = |id: Option<sillok_chronicle::LogId>| {
        id.map_or_else(|| "none".to_owned(), |id| format!("index {}, term {}", thousands(id.index), id.term))
    };
    let size: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    let tail = match report.tail {
        None => "not reached".to_owned(),
        Some(TailState::Clean) => "clean".to_owned(),
        Some(TailState::Torn { bytes: torn }) => {
            format!("torn by a crash: {} that were never durable will be cut when the node starts", bytes(torn))
        }
        Some(TailState::TruncationPending { from_index }) => {
            format!("a truncation from index {} will be finished when the node starts", thousands(from_index))
        }
    };
    card.push("node", format!("{} at {}", report.identity.node_id, report.identity.site))
        .push("cluster", report.identity.cluster_id.map_or_else(|| "none yet".to_owned(), |id| hex(&id)))
        .push("epoch", epoch(report))
        .push(
            "entries",
            format!("{} in {}", thousands(report.entries), count(report.segments.len() as u64, "segment", "segments")),
        )
        .push("size", bytes(size))
        .push("last entry", id(report.last))
        .push("committed", id(report.committed))
        .push("end", tail)
        .push("damage", if report.damage.is_some() { "YES" } else { "none" });
    let mut text = card.render();
    if segments {
        let mut rows = Rows::new(&["segment", ">entries", ">first", ">last", ">size", "state", "digest"]);
        for segment in &report.segments {
            rows.push([
                segment.name.clone(),
                thousands(segment.entries),
                thousands(segment.first.index),
                thousands(segment.last.index),
                bytes(segment.bytes),
                if segment.sealed { "sealed" } else { "open" }.to_owned(),
                hex(&segment.digest[..8]),
            ]);
        }
        text = format!("{text}\n\n{}", rows.render());
    }
    text
}

fn epoch(report: &Report) -> String {
    match report.superseded_by {
        0 => report.epoch.number.to_string(),
        by => format!("{}, left behind: the cluster went on in epoch {by}", report.epoch.number),
    }
}

fn json(report: &Report) -> serde_json::Value {
    let id = |id: Option<sillok_chronicle::LogId>| {
        id.map(|id| serde_json::json!({ "index": id.index.to_string(), "term": id.term.to_string() }))
    };
    let segments: Vec<serde_json::Value> = report
        .segments
        .iter()
        .map(|segment| {
            serde_json::json!({
                "name": segment.name, "first": id(Some(segment.first)), "last": id(Some(segment.last)),
                "entries": segment.entries.to_string(), "bytes": segment.bytes.to_string(),
                "digest": hex(&segment.digest), "sealed": segment.sealed,
            })
        })
        .collect();
    let tail = report.tail.map(|tail| match tail {
        TailState::Clean => serde_json::json!({ "state": "clean" }),
        TailState::Torn { bytes } => serde_json::json!({ "state": "torn", "bytes": bytes.to_string() }),
        TailState::TruncationPending { from_index } => {
            serde_json::json!({ "state": "truncationPending", "fromIndex": from_index.to_string() })
        }
    });
    let damage = report.damage.as_ref().map(|damage| {
        serde_json::json!({
            "segment": damage.segment, "offset": damage.offset.to_string(), "lastGood": id(damage.last_good),
            "reason": damage.reason.to_string(),
        })
    });
    serde_json::json!({
        "nodeId": report.identity.node_id.to_string(), "site": report.identity.site,
        "clusterId": report.identity.cluster_id.map(|id| hex(&id)),
        "epoch": report.epoch.number.to_string(), "supersededBy": report.superseded_by.to_string(),
        "entries": report.entries.to_string(), "last": id(report.last), "committed": id(report.committed),
        "tail": tail, "damage": damage, "segments": segments,
    })
}
