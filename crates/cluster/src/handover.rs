//! Leadership given away on purpose: at shutdown, by a leader whose own disk has fallen behind or whose clock is off, and on
//! request.

use std::{sync::Arc, time::Duration};

use crate::core::Core;

/// How often a leader looks at its own disk.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A leader that gave leadership away for its disk and got it back waits this long before it does so again.
const NOT_AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The voter at one of these sites to lead next: the most caught up, at another site where two are equal; `None`: no other
/// voter there answers, has a clock that is right and space on its disk.
pub(crate) fn successor(core: &Core, may_stand_at: impl Fn(&str) -> bool) -> Option<u64> {
    let roster = core.roster.view();
    let reachable = crate::status::reachable(core);
    let may_lead = |id: &u64| {
        *id != core.id
            && reachable.contains(id)
            && !core.clocks.is_off(*id)
            && !core.is_disk_full(*id)
            && roster.site_of(*id).is_some_and(&may_stand_at)
    };
    roster.voters().into_iter().filter(may_lead).max_by_key(|id| {
        let is_elsewhere = roster.site_of(*id).is_some_and(|site| site != core.site);
        (core.acks.flushed(*id), is_elsewhere, std::cmp::Reverse(*id))
    })
}

/// Gives leadership to another voter and waits until one leads, or `at_most` has passed. True where this node does not
/// lead any more.
pub(crate) async fn hand_over(core: &Core, at_most: Duration, why: &str) -> bool {
    if core.leading_term().is_none() {
        return true;
    }
    let Some(to) = successor(core, |_| true) else {
        tracing::info!("leadership is kept ({why}): no other voter that could lead answers");
        return false;
    };
    hand_over_to(core, to, at_most, why).await.is_some()
}

/// Gives leadership to this voter and waits until another node leads, which may be a third, or `at_most` has passed; who
/// leads then.
pub(crate) async fn hand_over_to(core: &Core, to: u64, at_most: Duration, why: &str) -> Option<u64> {
    tracing::info!(to, "handing leadership over: {why}");
    // An error: consensus has stopped, and with it this node.
    core.raft.trigger().transfer_leader(to).await.ok()?;
    let mut leadership = core.leadership.clone();
    let given = leadership.wait_for(|now| !now.is_local && now.leader.is_some_and(|leader| leader != core.id));
    tokio::time::timeout(at_most, given).await.ok()?.ok()?.leader
}

/// A leader with a stalled disk keeps acknowledging through its followers, one failure away from losing its place in every
/// quorum; it gives leadership to a voter whose disk keeps up. One whose disk is full gives it to one that has space. Runs as long as the node does.
pub(crate) async fn watch_own_disk(core: Arc<Core>) {
    let bound = Duration::from_millis(core.options.timings.flush_lag_ms);
    let mut given_at: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let (lag, is_full) = (core.chronicle.flush_lag(), core.chronicle.is_disk_full());
        if is_full {
            // Whether the others have space must be known now: what is left of the segment is all there is.
            core.clocks.compare_soon();
        }
        let is_recent = given_at.is_some_and(|at| at.elapsed() < NOT_AGAIN_WITHIN);
        if (lag <= bound && !is_full) || is_recent || core.leading_term().is_none() {
            continue;
        }
        let (label, why) = match is_full {
            true if successor(&core, |_| true).is_none() => continue,
            true => ("disk_full", "this node's disk is full".to_owned()),
            false => ("flush_lag", format!("this node's disk is {} ms behind", lag.as_millis())),
        };
        given_at = Some(tokio::time::Instant::now());
        metrics::counter!("sillok_leader_handovers_total", "why" => label).increment(1);
        hand_over(&core, Duration::from_millis(core.options.timings.election_max_ms * 2), &why).await;
    }
}
