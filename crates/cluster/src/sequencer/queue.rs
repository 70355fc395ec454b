//! Where calls wait for the sequencer: bounded in bytes, first come first decided.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sillok_wire::{
    errors::{Outcome, Problem},
    v1,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    admission::{Admission, Caller, Full},
    asked::{Asked, Undecided},
    expecting::Expected,
    frame::{Frame, refusing},
    lane::{Lane, Route},
};

/// Calls in the order in which they came.
pub(crate) struct Queue {
    inside: Mutex<Inside>,
    pub(super) arrived: Notify,
    admission: Arc<Admission>,
}

struct Inside {
    frames: VecDeque<Queued>,
    gate: Gate,
    /// Rises whenever answers are discarded: the route of a lane.
    epoch: u64,
    /// The gate never opens again.
    is_shut: bool,
}

/// Whether calls are taken.
#[derive(Clone)]
pub(crate) enum Gate {
    /// They wait to be decided.
    Open,
    /// They are answered at once with this.
    Closed(Problem),
}

/// One call that waits.
pub(super) struct Queued {
    pub(super) commands: Undecided,
    /// When it came.
    pub(super) since: Instant,
    pub(super) frame: Arc<Frame>,
}

/// When a node without a leader is worth asking again: about an election.
pub(crate) const LEADERLESS_RETRY: Duration = Duration::from_millis(200);

impl Queue {
    /// Takes at most `limit` bytes of commands at a time, answered ones not counted.
    pub(crate) fn new(limit: usize) -> Arc<Queue> {
        let gate = Gate::Closed(no_leader("this node does not lead yet"));
        Arc::new(Queue {
            inside: Mutex::new(Inside { frames: VecDeque::new(), gate, epoch: 1, is_shut: false }),
            arrived: Notify::new(),
            admission: Admission::new(limit),
        })
    }

    /// Queues a call; the order of calls is the order of decisions. What is turned away is answered at once.
    pub(crate) fn enqueue(&self, asked: Asked, lane: Option<&Arc<Lane>>) -> oneshot::Receiver<Vec<v1::Answer>> {
        let (count, bytes) = (asked.len(), asked.size_bytes());
        if count == 0 {
            let (answer, answers) = oneshot::channel();
            let _ = answer.send(Vec::new());
            return answers;
        }
        let permit = self.admission.admit(bytes, asked.asks_for_all_sites(), Caller::on(lane));
        metrics::gauge!("sillok_sequencer_queue_bytes").set(self.admission.used() as f64);
        // Checked before the lock is taken: a call may have much to be checked.
        let admitted = permit.map(|permit| (permit, Undecided::new(asked)));
        let mut inside = self.inside.lock();
        let problem = match (&inside.gate, admitted) {
            (Gate::Closed(problem), _) => problem.clone(),
            (Gate::Open, Err(full)) => overloaded(bytes, full),
            (Gate::Open, Ok((permit, commands))) => {
                if lane.is_none_or(|lane| lane.enter(Route::Here(inside.epoch))) {
                    let (frame, answers) = Frame::new(count, lane.cloned(), Some(permit));
                    inside.frames.push_back(Queued { commands, since: Instant::now(), frame });
                    drop(inside);
                    self.arrived.notify_one();
                    return answers;
                }
                out_of_order()
            }
        };
        drop(inside);
        if let Some(lane) = lane {
            lane.close();
        }
        let (answer, answers) = oneshot::channel();
        // The receiver is returned below: it cannot be gone.
        let _ = answer.send(vec![refusing(problem); count]);
        answers
    }

    /// Why a single call would be turned away now for what waits before it; to be asked before anything is done for one.
    pub(super) fn refuses_calls(&self) -> Option<Problem> {
        self.unless_closed(self.admission.calls_are_taken().err()?)
    }

    /// A place for a new stream, or why it is turned away. A closed gate has no places, and turns nobody away: it has its own
    /// answer to each frame.
    pub(super) fn expect_stream(&self) -> Result<Option<Expected>, Problem> {
        match self.admission.expect_stream() {
            Ok(expected) => Ok(Some(expected)),
            Err(full) => self.unless_closed(full).map_or(Ok(None), Err),
        }
    }

    /// A record was away for so long, from its proposal until it was committed.
    pub(super) fn away(&self, away: Duration) {
        self.admission.away(away);
    }

    /// Whether open streams should send less for now.
    pub(super) fn holds_streams_back(&self) -> bool {
        self.admission.holds_streams_back()
    }

    /// A closed gate has its own answer.
    fn unless_closed(&self, full: Full) -> Option<Problem> {
        matches!(self.inside.lock().gate, Gate::Open).then(|| overloaded(0, full))
    }

    /// Everything that waits.
    pub(super) fn drain(&self, into: &mut VecDeque<Queued>) {
        into.append(&mut self.inside.lock().frames);
    }

    /// Calls are taken from now on.
    pub(super) fn open(&self) {
        let mut inside = self.inside.lock();
        if !inside.is_shut {
            inside.gate = Gate::Open;
        }
    }

    /// Nothing more is taken, for good; what waits is still decided, and no longer waits for sites.
    pub(super) fn shut(&self) {
        self.admission.close();
        let problem = Problem::new(v1::Reason::ShuttingDown, "this node is stopping; nothing was recorded")
            .outcome(Some(Outcome::NotRecorded))
            .retry_after(LEADERLESS_RETRY);
        let mut inside = self.inside.lock();
        inside.is_shut = true;
        inside.gate = Gate::Closed(problem);
    }

    /// Returns once everything that was taken is answered.
    pub(super) async fn idle(&self) {
        self.admission.idle().await;
    }

    /// Calls are answered with this from now on; those that wait are given back. A new epoch begins: whoever has
    /// frames unanswered will not slip one in behind them.
    pub(super) fn close(&self, problem: Problem) -> VecDeque<Queued> {
        let mut inside = self.inside.lock();
        if !inside.is_shut {
            inside.gate = Gate::Closed(problem);
        }
        inside.epoch += 1;
        std::mem::take(&mut inside.frames)
    }

    /// Bytes admitted and not yet answered.
    pub(crate) fn bytes(&self) -> usize {
        self.admission.used()
    }

    /// Bytes that wait to be decided or are in flight.
    pub(super) fn undecided_bytes(&self) -> usize {
        self.admission.undecided()
    }
}

/// UNAVAILABLE, certainly not recorded.
pub(crate) fn no_leader(message: impl Into<String>) -> Problem {
    Problem::new(v1::Reason::NoLeader, message).outcome(Some(Outcome::NotRecorded)).retry_after(LEADERLESS_RETRY)
}

/// Of a leader.
fn overloaded(bytes: usize, full: Full) -> Problem {
    full.problem(bytes, |used| {
        format!("the leader holds {used} bytes of unanswered commands and takes no {bytes} more; try again")
    })
}

/// A frame behind one that was turned away.
pub(crate) fn out_of_order() -> Problem {
    no_leader("an earlier command of this stream was not answered by this leader; resend from the first unanswered one")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of commands of `bytes` bytes each.
    fn frame(commands: usize, bytes: usize) -> Asked {
        Asked::Frame(vec![vec![0; bytes].into(); commands])
    }

    fn reason(answer: &v1::Answer) -> Option<v1::Reason> {
        let Some(v1::answer::Outcome::Error(status)) = &answer.outcome else { return None };
        sillok_wire::errors::reason_of(&sillok_wire::errors::from_rpc(status.clone()))
    }

    #[tokio::test]
    async fn a_full_queue_answers_overloaded_and_keeps_what_it_has() {
        let queue = Queue::new(100);
        queue.open();
        let _first = queue.enqueue(frame(1, 80), None);
        let refused = queue.enqueue(frame(2, 15), None).await.unwrap();
        assert_eq!(refused.len(), 2);
        assert_eq!(reason(&refused[0]), Some(v1::Reason::Overloaded));
        assert_eq!(queue.bytes(), 80);
        let mut waiting = VecDeque::new();
        queue.drain(&mut waiting);
        assert_eq!(waiting.len(), 1);
        drop(waiting);
        assert_eq!(queue.bytes(), 0, "dropping a frame gives its bytes back");
    }

    #[tokio::test]
    async fn one_frame_above_the_limit_is_taken_when_nothing_else_waits() {
        let queue = Queue::new(10);
        queue.open();
        let _answers = queue.enqueue(frame(1, 1_000), None);
        let mut waiting = VecDeque::new();
        queue.drain(&mut waiting);
        assert_eq!(waiting.len(), 1);
    }

    #[tokio::test]
    async fn a_closed_queue_answers_at_once_and_breaks_the_lane() {
        let queue = Queue::new(100);
        let lane = Arc::new(Lane::default());
        let refused = queue.enqueue(frame(1, 1), Some(&lane)).await.unwrap();
        assert_eq!(reason(&refused[0]), Some(v1::Reason::NoLeader));
        queue.open();
        let refused = queue.enqueue(frame(1, 1), Some(&lane)).await.unwrap();
        assert_eq!(reason(&refused[0]), Some(v1::Reason::NoLeader), "what came behind must not overtake");
    }
}
