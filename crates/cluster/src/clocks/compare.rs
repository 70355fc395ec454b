//! Asking for the time, and for the disk and the scrub along with it; and what a node does whose clock is off.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sillok_wire::{peer, v1};
use tokio::time::{Instant, sleep};

use super::{Reading, off};
use crate::{core::Core, handover};

/// Between two comparisons while all is well.
const EVERY: Duration = Duration::from_secs(1);
/// And where somebody waits for one.
const AT_LEAST: Duration = Duration::from_millis(20);
/// A peer that does not say its time within this says nothing; half of it is the largest error.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// Compares this node's clock with its peers' for as long as the node runs. While it is off, this node stands for no election
/// and gives away any leadership it has.
pub(crate) async fn keep_comparing(core: Arc<Core>) {
    let mut was_off = false;
    loop {
        compare(&core).await;
        let now_off = core.clocks.off();
        core.raft.runtime_config().elect(now_off.is_none());
        match now_off {
            Some(by) if !was_off => {
                tracing::warn!("this node's clock is {}: it does not lead until it is set right", off(by));
            }
            None if was_off => tracing::info!("this node's clock is right again"),
            _ => {}
        }
        was_off = now_off.is_some();
        publish(&core);
        if let Some(by) = now_off
            && core.leading_term().is_some()
        {
            metrics::counter!("sillok_leader_handovers_total", "why" => "clock").increment(1);
            let at_most = Duration::from_millis(core.options.timings.election_max_ms * 2);
            handover::hand_over(&core, at_most, &format!("this node's clock is {}", off(by))).await;
        }
        let asked_for = async {
            core.clocks.doubted.notified().await;
            sleep(AT_LEAST).await;
        };
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = sleep(EVERY) => {}
            () = asked_for => {}
        }
    }
}

/// Asks every member for its time, all at once.
async fn compare(core: &Core) {
    let roster = core.roster.view();
    let (mut round, mut full, mut scrubs) = (core.clocks.round(), BTreeSet::new(), BTreeMap::new());
    round.voters = roster.voters();
    let others = roster.members.keys().copied().filter(|id| *id != core.id);
    let answers = others.map(|id| {
        let (roster, round) = (&roster, &round);
        async move { (id, ask(core, id, roster, round).await) }
    });
    for (id, answer) in futures::future::join_all(answers).await {
        match answer {
            Answer::Vitals { reading, disk_full, scrub } => {
                round.readings.insert(id, reading);
                scrubs.extend(scrub.map(|scrub| (id, scrub)));
                if disk_full {
                    full.insert(id);
                }
            }
            Answer::NothingToSay => drop(round.silent.insert(id)),
            Answer::None => {}
        }
    }
    core.clocks.judge(round);
    *core.full.lock() = full;
    core.scrub.heard(scrubs, &roster);
}

enum Answer {
    Vitals {
        reading: Reading,
        disk_full: bool,
        scrub: Option<v1::ScrubStatus>,
    },
    /// An older version, which knows no such question.
    NothingToSay,
    None,
}

async fn ask(core: &Core, id: u64, roster: &crate::roster::RosterView, round: &super::Round) -> Answer {
    let Ok(mut client) = core.peers.quick_client(id, roster, ASK_WITHIN) else { return Answer::None };
    let asked = Instant::now();
    match tokio::time::timeout(ASK_WITHIN, client.vitals(peer::VitalsRequest {})).await {
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            let reading = round.read(answer.clock_unix_nanos, asked, Instant::now());
            Answer::Vitals { reading, disk_full: answer.disk_full, scrub: answer.scrub }
        }
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => Answer::NothingToSay,
        Ok(Err(_)) | Err(_) => Answer::None,
    }
}

fn publish(core: &Core) {
    let own = core.clocks.offsets().get(&core.id).copied().unwrap_or(0);
    metrics::gauge!("sillok_clock_offset_seconds").set(own as f64 / 1e9);
    metrics::gauge!("sillok_clock_is_off").set(f64::from(u8::from(core.clocks.off().is_some())));
}
