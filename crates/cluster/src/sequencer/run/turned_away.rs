//! What is told to those whose commands are not decided, and how deciding ends: every call gets an answer.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use sillok_wire::{
    Submission,
    errors::{Outcome, Problem},
    v1,
};
use tokio::time::{Instant, timeout};

use super::Run;
use crate::{
    clocks::Doubt,
    sequencer::{
        State,
        desk::Desk,
        flight::{Lost, unknown},
        flying::{Flying, Turned},
        frame::{Sites, refusing},
        queue::{Queued, no_leader},
    },
};

/// How long an answer in flight may still turn out after the leadership is lost.
const GRACE: Duration = Duration::from_millis(200);
/// When to ask again where something must be mended first.
const TROUBLED_RETRY: Duration = Duration::from_secs(1);
/// And where the leader only reads what it has not read yet: clients that all wait for a second longer are an outage made longer.
const READING_RETRY: Duration = Duration::from_millis(250);

impl Run {
    /// Everything decided is discarded. What was never proposed is certainly not recorded; of what is in flight, answers
    /// are given as it turns out, or as unknown where it does not in time.
    pub(super) async fn wind_down(
        &mut self,
        desk: Desk,
        flying: VecDeque<Flying>,
        mut doubtful: HashSet<u64>,
        why: &str,
    ) {
        let problem = no_leader(format!("{why}; nothing was recorded, try again"));
        let waiting = self.queue.close(problem.clone());
        self.backlog.extend(waiting);
        let deadline = Instant::now() + GRACE;
        self.state.send_replace(State::Following);
        let (closed, open) = desk.into_unresolved();
        // Batches and what they wait for are in step.
        for (batch, mut flown) in closed.into_iter().zip(flying) {
            let turned = timeout(deadline.saturating_duration_since(Instant::now()), flown.turn_out()).await;
            let turned = turned.unwrap_or_else(|_| Turned::Lost(Lost::Perhaps, why.to_owned()));
            self.leftovers.extend(flown.into_unsettled());
            self.resolve(batch, turned, &mut doubtful);
        }
        // In this order: a frame whose first commands are in flight gets its answers in order.
        open.fail(Lost::Certainly, why, &self.sites);
        // A repeat of what may be recorded yet is in doubt like its original, though nobody has looked at it.
        let in_doubt = unknown(why);
        for queued in self.backlog.drain(..) {
            let problem_of = |key_hash| if doubtful.contains(&key_hash) { &in_doubt } else { &problem };
            answer(queued, problem_of, &self.sites);
        }
        metrics::gauge!("sillok_sequencer_records_in_flight").set(0.0);
    }

    /// Answers all that waits, and all that will come, with this.
    pub(super) fn turn_away(&mut self, problem: &Problem) {
        let waiting = self.queue.close(problem.clone());
        self.backlog.extend(waiting);
        answer_all(&mut self.backlog, problem, &self.sites);
    }

    pub(super) fn lost(&self) -> Problem {
        no_leader("this node lost its leadership before it decided; nothing was recorded, try again")
    }
}

pub(super) fn disks_full() -> Problem {
    let message = "the leader's disk is full, or too many others' are; nothing was recorded, and writes go on by themselves where there is space";
    Problem::new(v1::Reason::DiskFull, message).outcome(Some(Outcome::NotRecorded)).retry_after(TROUBLED_RETRY)
}

pub(super) fn answer_all(backlog: &mut VecDeque<Queued>, problem: &Problem, sites: &Arc<dyn Sites>) {
    for queued in backlog.drain(..) {
        answer(queued, |_| problem, sites);
    }
}

/// Answers without a decision: with the problem of each key.
fn answer<'a>(queued: Queued, problem_of: impl Fn(u64) -> &'a Problem, sites: &Arc<dyn Sites>) {
    let refused = |submission: Submission| refusing(problem_of(submission.key_hash).clone());
    let answers = queued.commands.map(|item| item.map_or_else(|malformed| *malformed, refused));
    queued.frame.deliver(answers.map(|answer| (answer, None)), sites);
}

pub(super) fn not_ready(stopped: Option<Arc<str>>, doubt: Option<Doubt>) -> Problem {
    let (message, retry) = match (stopped, doubt) {
        (Some(stopped), _) => {
            (format!("this leader's views have stopped, so it cannot decide: {stopped}"), TROUBLED_RETRY)
        }
        (None, Some(doubt)) => (format!("{doubt}; nothing was recorded, try again"), TROUBLED_RETRY),
        (None, None) => {
            let reading = "this leader is still reading the chronicle into its views; nothing was recorded, try again";
            (reading.to_owned(), READING_RETRY)
        }
    };
    Problem::new(v1::Reason::NotReady, message).outcome(Some(Outcome::NotRecorded)).retry_after(retry)
}
