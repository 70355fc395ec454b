//! Reads this node's whole chronicle over and over, slowly, and compares what it comes to with the other nodes' copies.
//!
//! ```text
//! compare ─► pass: piece, pause, piece, pause … ─► compare ─► wait
//!    │          │ damage: as when a reader meets it: the node stops, is repaired from peers, and goes on
//!    │          └ the chain of records over each sealed segment is what its footer says
//!    └ digests of sealed segments, and of channels at one revision: a difference is told, and nothing is overwritten
//! ```
//! Every node does this by itself, leader or not, and tells the others how it stands ([`Scrubbing::status`], with its vitals).

mod compare;
mod findings;
mod memory;
mod pass;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sillok_domain::UnixNanos;
use sillok_wire::{timestamp, v1};
use tokio::time::{Instant, sleep_until};

pub(crate) use compare::digests_here;
use findings::Finding;
use memory::{Memory, Remembered};

use crate::{core::Core, repair::Repaired, roster::RosterView};

/// After a start others have more to do.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// Between two tries of a pass that could not be ended.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What this node knows of its own copy, and heard of the others'.
pub(crate) struct Scrubbing {
    enabled: bool,
    repaired: Repaired,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the pass under way: bytes that verify, and that there are.
    running: Option<(u64, u64)>,
    completed_at: Option<UnixNanos>,
    /// By the other node.
    findings: BTreeMap<u64, Vec<Finding>>,
    others: BTreeMap<u64, v1::ScrubStatus>,
}

impl Scrubbing {
    pub(crate) fn new(enabled: bool, repaired: Repaired) -> Scrubbing {
        Scrubbing { enabled, repaired, state: Mutex::default() }
    }

    /// How this node stands.
    pub(crate) fn status(&self) -> v1::ScrubStatus {
        let state = self.state.lock();
        let (done, total) = state.running.unwrap_or_default();
        v1::ScrubStatus {
            disabled: !self.enabled,
            running: state.running.is_some(),
            done_bytes: done.min(total),
            total_bytes: total,
            completed_at: state.completed_at.map(timestamp),
            repaired_entries: self.repaired.entries,
            differences: state.findings.values().flatten().map(Finding::to_proto).collect(),
        }
    }

    /// How each node stands: this one, and of the others what was heard last.
    pub(crate) fn statuses(&self, own: u64) -> BTreeMap<u64, v1::ScrubStatus> {
        let mut all = self.state.lock().others.clone();
        all.insert(own, self.status());
        all
    }

    /// What other members said of themselves; of those that said nothing now the last word stands.
    pub(crate) fn heard(&self, said: BTreeMap<u64, v1::ScrubStatus>, roster: &RosterView) {
        let mut state = self.state.lock();
        state.others.extend(said);
        state.others.retain(|id, _| roster.members.contains_key(id));
        state.findings.retain(|id, _| roster.members.contains_key(id));
    }

    /// Nodes whose copies do not count, as far as is known here.
    pub(crate) fn doubted(&self, own: u64) -> BTreeSet<u64> {
        let all = self.statuses(own);
        let differs = all.iter().flat_map(|(&id, status)| status.differences.iter().map(move |it| (id, it.node_id)));
        findings::doubted(differs)
    }

    /// Replaces what was found to differ from another node.
    fn found(&self, other: u64, findings: Vec<Finding>) {
        let mut state = self.state.lock();
        match findings.is_empty() {
            true => drop(state.findings.remove(&other)),
            false => drop(state.findings.insert(other, findings)),
        }
        let differences: usize = state.findings.values().map(Vec::len).sum();
        metrics::gauge!("sillok_scrub_differences").set(differences as f64);
    }
}

/// Scrubs for as long as the node runs, where that is not switched off; goes on where an earlier run of this node was.
pub(crate) async fn keep_scrubbing(core: Arc<Core>) {
    let options = core.options.scrub;
    if !options.enabled {
        return;
    }
    let loaded = {
        let options = core.options.clone();
        core.options.execution.blocking(move || Memory::load(&options)).await
    };
    // An error only where the runtime is ending.
    let Ok(memory) = loaded.map(Arc::new) else { return };
    core.scrub.state.lock().completed_at = memory.now().completed_at;
    let mut due = Instant::now() + first_after(&memory.now(), options.every, core.clock.now());
    loop {
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = sleep_until(due) => {}
        }
        let begun = Instant::now();
        let whole = tokio::select! {
            () = core.stopping.cancelled() => return,
            whole = round(&core, &memory) => whole,
        };
        core.scrub.state.lock().running = None;
        due = match whole {
            Ok(()) => begun + options.every,
            Err(pass::Broken::Later) => Instant::now() + AGAIN_AFTER.min(options.every),
            // The node is stopping for it.
            Err(pass::Broken::Damaged) => return,
        };
    }
}

/// How long after its start a node that remembers this begins, or goes on with, a pass.
fn first_after(remembered: &Remembered, every: Duration, now: UnixNanos) -> Duration {
    let soon = FIRST_AFTER.min(every);
    match (remembered.next_segment, remembered.begun_at) {
        (None, Some(begun)) => {
            // Whatever the clock did meanwhile, it is at most as long as between any two passes.
            let since = Duration::from_nanos(u64::try_from(now.saturating_sub(begun)).unwrap_or(0));
            every.saturating_sub(since).max(soon)
        }
        _ => soon,
    }
}

/// One pass, or the rest of one, with a comparison before it and one behind it.
async fn round(core: &Arc<Core>, memory: &Arc<Memory>) -> Result<(), pass::Broken> {
    if memory.now().next_segment.is_none() {
        let begun = core.clock.now();
        note(core, memory, move |now| (now.begun_at, now.next_segment) = (Some(begun), Some(0))).await;
    }
    // At once as well: a pass may take days, and this takes a moment.
    compare::compare(core).await;
    pass::pass(core, memory).await?;
    compare::compare(core).await;
    let now = core.clock.now();
    core.scrub.state.lock().completed_at = Some(now);
    note(core, memory, move |remembered| (remembered.completed_at, remembered.next_segment) = (Some(now), None)).await;
    metrics::counter!("sillok_scrub_passes_total").increment(1);
    metrics::gauge!("sillok_scrub_completed_timestamp_seconds").set(now as f64 / 1e9);
    Ok(())
}

async fn note(core: &Core, memory: &Arc<Memory>, change: impl FnOnce(&mut Remembered) + Send + 'static) {
    let memory = memory.clone();
    // It fails only where the runtime is ending, and then the next run begins a little earlier.
    let _ = core.options.execution.blocking(move || memory.note(change)).await;
}
