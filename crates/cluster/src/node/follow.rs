//! What openraft says of itself, in our words.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use openraft::{ServerState, async_runtime::WatchReceiver as _, errors::Fatal};
use tokio::sync::watch;

use crate::{
    acks::Acks,
    core::{Core, Leadership},
    execute::Front,
    failure::{Failure, FailureKind, FailureSink},
    network::Contact,
    node::Health,
    roster::RosterView,
    types::{Raft, from_raft_id},
};

/// Confirmation runs out by itself, without an event.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs a task that must not panic; if it does, the node stops.
pub(super) fn guarded<F>(
    name: &'static str,
    failures: &FailureSink,
    task: F,
) -> impl Future<Output = ()> + Send + use<F>
where
    F: Future<Output = ()> + Send,
{
    let failures = failures.clone();
    async move {
        // Whatever the task held is dropped with it; the failure ends the node.
        if std::panic::AssertUnwindSafe(task).catch_unwind().await.is_err() {
            let message =
                format!("the task {name:?} has panicked, which is a bug; start this node again and report it");
            failures.report(Failure::new(FailureKind::Internal, message));
        }
    }
}

/// Follows openraft, and who was heard, into leadership, the roster and failures until it ends.
pub(super) async fn consensus(
    raft: Raft,
    id: u64,
    acks: Arc<Acks>,
    contact: Arc<Contact>,
    leadership: watch::Sender<Leadership>,
    roster: watch::Sender<Arc<RosterView>>,
    failures: FailureSink,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let heard_until = contact.lasts_until();
        let named = {
            let metrics = metrics.borrow_and_update();
            let is_local = metrics.current_leader == Some(id) && metrics.state == ServerState::Leader;
            let is_known = |leader: &u64| if *leader == id { is_local } else { heard_until.is_some() };
            let leader = metrics.current_leader.filter(is_known);
            let now = Leadership { term: metrics.vote.leader_id.term, leader, is_local };
            if is_local {
                // Before anybody learns of it and gives a receipt.
                acks.begin_term(now.term);
            }
            leadership.send_if_modified(|before| std::mem::replace(before, now) != now);
            let stored = &metrics.membership_config;
            let log_id = stored.log_id().as_ref().map(from_raft_id);
            roster.send_if_modified(|before| {
                // openraft knows of none before it has looked at the log; one that is there is only ever replaced by another.
                let is_new = log_id.is_some() && before.log_id != log_id;
                if is_new {
                    *before = Arc::new(RosterView::of(stored));
                }
                is_new
            });
            leader
        };
        let silence = async {
            match heard_until.filter(|_| named.is_some_and(|leader| leader != id)) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            () = contact.resumed() => {}
            () = silence => {}
        }
    }
    let term = leadership.borrow().term;
    leadership.send_replace(Leadership { term, leader: None, is_local: false });
    let ended = raft.metrics().borrow_watched().running_state.clone();
    if let Err(fatal) = ended
        && fatal != Fatal::Stopped
    {
        let message = format!("consensus has stopped: {fatal}; what was acknowledged is kept, start this node again");
        failures.report(Failure::new(FailureKind::Consensus, message));
    }
}

/// Follows what this node can answer.
pub(super) async fn health(core: Arc<Core>, front: Arc<Front>, health: watch::Sender<Health>) {
    loop {
        let now = Health { stale_reads: front.answers_stale_reads(), leader_confirmed: core.is_leader_confirmed() };
        health.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::select! {
            () = core.stopping.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    health.send_replace(Health::default());
}
