//! When the views may answer a read, and what the answer says about itself.
//!
//! Linearizable: the leader confirms itself with a quorum and names its commit, then the views of this node fold up to
//! it. Reads that come while a confirmation is under way share the next one: one round trip serves any number of them.
//! Stale: at once, also where there is no leader.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sillok_domain::UnixNanos;
use sillok_views::{Applied, Views};
use sillok_wire::{
    LOG,
    errors::Problem,
    timestamp,
    v1::{self, ReadConsistency, Reason},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::Status;

use crate::{
    core::{Core, ReadIndexError},
    fold::{Folding, Unreached},
    node::Node,
    planted::{self, Planted},
    types::LogId,
};

/// The longest a read waits for the views to get there.
const READ_AT_MOST: Duration = Duration::from_secs(5);
/// Between two tries to find a leader that confirms itself.
const ASK_AGAIN: Duration = Duration::from_millis(20);

type Confirmed = Result<LogId, ReadIndexError>;

/// Lets reads through. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reads {
    core: Arc<Core>,
    folding: Folding,
    asks: mpsc::UnboundedSender<oneshot::Sender<Confirmed>>,
    newest: Arc<Mutex<Option<Confirmation>>>,
}

/// A leader said at `at` that nothing after `index` was committed.
#[derive(Debug, Clone, Copy)]
struct Confirmation {
    index: u64,
    at: UnixNanos,
}

impl Reads {
    /// Starts the task that asks for everyone.
    pub(crate) fn spawn(core: Arc<Core>, folding: Folding) -> Reads {
        let (asks, asked) = mpsc::unbounded_channel();
        let newest = Arc::new(Mutex::new(None));
        tokio::spawn(ask_for_everyone(core.clone(), asked, newest.clone()));
        Reads { core, folding, asks, newest }
    }

    /// Waits until the views may answer; what they answer then speaks for at least what is said here.
    ///
    /// # Errors
    /// NOT_READY, NO_LEADER, POSITION_NOT_REACHED, VIEWS_STOPPED; a position of another log is INVALID_ARGUMENT.
    pub(crate) async fn read(&self, options: Option<&v1::ReadOptions>) -> Result<v1::ReadInfo, Status> {
        let deadline = Instant::now() + READ_AT_MOST;
        let consistency = consistency_of(options)?;
        self.loaded(deadline).await?;
        if consistency == ReadConsistency::Linearizable && !planted::is(Planted::ReadWithoutIndex) {
            let index = self.confirm().await?;
            self.reach(deadline, |applied| applied.index >= index, || format!("entry {index}")).await?;
        }
        if let Some(at_least) = options.and_then(|options| options.at_least.as_ref()) {
            if at_least.log != LOG {
                let message = format!("positions of log {} are not positions of log {LOG}", at_least.log);
                let problem = Problem::new(Reason::InvalidCommand, message);
                return Err(problem.violation("options.at_least.log", "must be 1").into());
            }
            let sequence = at_least.sequence;
            self.reach(deadline, |applied| applied.sequence >= sequence, || format!("position {sequence}")).await?;
        }
        Ok(self.info(self.core.views.applied(), consistency))
    }

    /// What an answer says that speaks for `applied`.
    pub(crate) fn info(&self, applied: Option<Applied>, consistency: ReadConsistency) -> v1::ReadInfo {
        let (index, sequence, term) = applied.map_or((0, 0, 0), |a| (a.index, a.sequence, a.record_term));
        let asked = (*self.newest.lock()).filter(|confirmed| confirmed.index <= index).map(|confirmed| confirmed.at);
        let heard = self.core.confirmed_at(index);
        v1::ReadInfo {
            position: Some(v1::Position { log: LOG, sequence, term }),
            last_event_at: applied.and_then(|applied| applied.accepted_at).map(timestamp),
            current_as_of: asked.max(heard).map(timestamp),
            consistency: consistency.into(),
            node_id: self.core.id,
            site: self.core.site.clone(),
        }
    }

    /// An index that everything acknowledged before this call is at or before. A leader that is just being elected is
    /// waited for.
    pub(crate) async fn confirm(&self) -> Result<u64, Status> {
        let patience = Duration::from_millis(self.core.options.timings.election_max_ms * 3);
        let give_up = Instant::now() + patience;
        loop {
            let error = match timeout_at(give_up, self.shared()).await {
                Ok(Ok(id)) => return Ok(id.index),
                Ok(Err(error)) => error,
                Err(_) => ReadIndexError::NotConfirmed(format!("nothing was heard within {patience:?}")),
            };
            if Instant::now() + ASK_AGAIN >= give_up {
                return Err(not_confirmed(&self.core, &error));
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// One confirmation that begins after this call, shared with everyone who asks meanwhile.
    pub(crate) async fn shared(&self) -> Confirmed {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(answer).is_err() {
            return Err(ReadIndexError::NoLeader);
        }
        answered.await.unwrap_or(Err(ReadIndexError::NoLeader))
    }

    /// Waits until there is anything to answer from.
    async fn loaded(&self, deadline: Instant) -> Result<(), Status> {
        match timeout_at(deadline, self.folding.clone().loaded()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Problem::new(Reason::ShuttingDown, "this node is stopping").outcome(None).into()),
            Err(_) => {
                let message = "this node is still loading its views; ask again, or another node";
                Err(Problem::new(Reason::NotReady, message).outcome(None).into())
            }
        }
    }

    /// Waits for the views.
    async fn reach(
        &self,
        deadline: Instant,
        there: impl Fn(&Applied) -> bool,
        what: impl Fn() -> String,
    ) -> Result<(), Status> {
        match timeout_at(deadline, self.folding.clone().reach(there)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Unreached::Stopped(why))) => {
                let message =
                    format!("the views of this node have stopped before {}: {why}; read another node or stale", what());
                Err(Problem::new(Reason::ViewsStopped, message).into())
            }
            Ok(Err(Unreached::Ending)) => Err(Problem::new(Reason::ShuttingDown, "this node is stopping").into()),
            Err(_) => {
                let at = self.folding.applied().map_or(0, |applied| applied.sequence);
                let message = format!("{} is not reached here in time; this node is at position {at}", what());
                let problem = Problem::new(Reason::PositionNotReached, message);
                Err(problem.retry_after(Duration::from_millis(100)).into())
            }
        }
    }
}

impl Node {
    /// Waits until the views may answer as asked; then read [`Node::views`] and say what the answer speaks for with
    /// [`Node::read_info`].
    ///
    /// # Errors
    /// NO_LEADER, POSITION_NOT_REACHED, VIEWS_STOPPED; options that are none are INVALID_ARGUMENT.
    pub async fn read(&self, options: Option<&v1::ReadOptions>) -> Result<v1::ReadInfo, Status> {
        self.front().reads.read(options).await
    }

    /// Every table of this node, as far as it has folded.
    pub fn views(&self) -> &Views {
        &self.core().views
    }

    /// What an answer says about itself that speaks for everything up to `applied`, and nothing after.
    pub fn read_info(&self, applied: Option<Applied>, consistency: ReadConsistency) -> v1::ReadInfo {
        self.front().reads.info(applied, consistency)
    }
}

/// What is asked for; linearizable where nothing is said.
pub(crate) fn consistency_of(options: Option<&v1::ReadOptions>) -> Result<ReadConsistency, Status> {
    match ReadConsistency::try_from(options.map_or(0, |options| options.consistency)) {
        Ok(ReadConsistency::Stale) => Ok(ReadConsistency::Stale),
        Ok(ReadConsistency::Linearizable | ReadConsistency::Unspecified) => Ok(ReadConsistency::Linearizable),
        Err(unknown) => {
            let problem = Problem::new(Reason::InvalidCommand, format!("{unknown}"));
            Err(problem.violation("options.consistency", "is no ReadConsistency this version knows").into())
        }
    }
}

async fn ask_for_everyone(
    core: Arc<Core>,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Confirmed>>,
    newest: Arc<Mutex<Option<Confirmation>>>,
) {
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            count = asked.recv_many(&mut waiting, 4_096) => {
                if count == 0 {
                    return;
                }
            }
        }
        let at = core.clock.now();
        let at_most = Duration::from_millis(core.options.timings.election_max_ms);
        let confirmed = timeout(at_most, core.read_index(at_most))
            .await
            .unwrap_or_else(|_| Err(ReadIndexError::NotConfirmed(format!("nothing was heard within {at_most:?}"))));
        if let Ok(id) = &confirmed {
            *newest.lock() = Some(Confirmation { index: id.index, at });
        }
        for answer in waiting.drain(..) {
            // Whoever asked may have given up.
            let _ = answer.send(confirmed.clone());
        }
    }
}

fn not_confirmed(core: &Core, error: &ReadIndexError) -> Status {
    let message =
        format!("node {} at {} cannot answer linearizably: {error}; ask again, or read stale", core.id, core.site);
    Problem::new(Reason::NoLeader, message).outcome(None).retry_after(crate::sequencer::LEADERLESS_RETRY).into()
}
