//! Commands on their way to the leader: one stream a node, shared by every call.
//!
//! ```text
//! calls ─► outbox (bounded in bytes, in order) ─► Execute stream ─► leader's sequencer
//!                                                  │ by frame number
//!               answers ◄── waiting ◄──────────────┘
//! ```
//! A frame is *sent* once it is given to the stream: if the stream then breaks or the leader changes, what became of it is
//! unknown. What was not sent is certainly not recorded.
//!
//! `outbox` is what waits to be sent, `serve` the other half, at the leader.

mod outbox;
mod serve;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use parking_lot::Mutex;
use sillok_wire::{
    errors::{Outcome, Problem},
    peer, v1,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use self::outbox::{Call, Next, Outbox, Waiting};
pub(crate) use self::serve::serve;
use crate::{
    core::Core,
    execute::leaderless,
    sequencer::{Admission, Asked, Caller, Expected, Full, Lane, Route, no_leader, out_of_order, refusing, unknown},
};

/// Frames between this task and the connection.
const PLACES: usize = 16;
/// A call counts as at least this many bytes: so much is kept for one that is nothing but its head.
const CALL_BYTES: usize = 256;
/// The leader must take the stream within this time.
const CONNECT_AT_MOST: Duration = Duration::from_secs(1);
/// How long a former leader may still answer what it was sent.
const GRACE: Duration = Duration::from_millis(300);

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forwarder(Arc<Inner>);

struct Inner {
    outbox: Mutex<Outbox>,
    arrived: Notify,
    admission: Arc<Admission>,
}

impl Forwarder {
    /// Starts the task that keeps the stream.
    pub(crate) fn spawn(core: Arc<Core>) -> Forwarder {
        let inner = Arc::new(Inner {
            outbox: Mutex::default(),
            arrived: Notify::new(),
            admission: Admission::new(core.options.limits.admission_bytes),
        });
        tokio::spawn(keep_forwarding(core, inner.clone()));
        Forwarder(inner)
    }

    /// Queues a call for the leader; the order of calls is the order of decisions. A call without commands is answered
    /// here.
    pub(crate) fn enqueue(&self, asked: Asked, lane: Option<&Arc<Lane>>) -> oneshot::Receiver<Vec<v1::Answer>> {
        let (answer, answers) = oneshot::channel();
        let count = asked.len();
        if count == 0 {
            // The receiver is returned below: it cannot be gone.
            let _ = answer.send(Vec::new());
            return answers;
        }
        let (bytes, for_sites) = (asked.size_bytes().max(CALL_BYTES), asked.asks_for_all_sites());
        let problem = match self.0.admission.admit(bytes, for_sites, Caller::on(lane)) {
            Err(full) => overloaded(bytes, full),
            Ok(permit) => {
                let mut outbox = self.0.outbox.lock();
                if outbox.is_shut {
                    stopping()
                } else if lane.is_none_or(|lane| lane.enter(Route::There(outbox.stream))) {
                    let waiting = Waiting { count, answer, lane: lane.cloned(), _permit: permit };
                    outbox.push(Call { commands: asked.into_frame(), bytes, for_sites, lane: lane.cloned(), waiting });
                    drop(outbox);
                    self.0.arrived.notify_one();
                    return answers;
                } else {
                    out_of_order()
                }
            }
        };
        if let Some(lane) = lane {
            lane.close();
        }
        let _ = answer.send(vec![refusing(problem); count]);
        answers
    }

    /// A place for a new stream, or why it is turned away: too much is on its way already.
    pub(crate) fn expect_stream(&self) -> Result<Expected, Problem> {
        self.0.admission.expect_stream().map_err(|full| overloaded(0, full))
    }

    /// Whether open streams should send less for now.
    pub(crate) fn holds_streams_back(&self) -> bool {
        self.0.admission.holds_streams_back()
    }

    /// A lane is of no use any more: the leader may forget it once it has what was queued before.
    pub(crate) fn end(&self, lane: &Lane) {
        if self.0.outbox.lock().end(lane) {
            self.0.arrived.notify_one();
        }
    }

    /// Takes nothing more; returns once everything taken before is answered.
    pub(crate) async fn shut(&self) {
        self.0.outbox.lock().is_shut = true;
        self.0.admission.idle().await;
    }
}

async fn keep_forwarding(core: Arc<Core>, inner: Arc<Inner>) {
    loop {
        if inner.outbox.lock().is_empty() {
            tokio::select! {
                biased;
                () = core.stopping.cancelled() => break,
                // What arrived may have been sent already.
                () = inner.arrived.notified() => continue,
            }
        }
        let ended = match core.leader() {
            None => leaderless(&core),
            Some((leader, _)) if leader == core.id => no_leader("this node has just become the leader; try again"),
            Some((leader, term)) => tokio::select! {
                biased;
                () = core.stopping.cancelled() => break,
                ended = one_stream(&core, &inner, leader, term) => match ended {
                    // What was not sent may go to the next leader, if there is one by now.
                    Ended::AfterSending(problem) => {
                        let refused = inner.outbox.lock().next_stream();
                        refused.into_iter().for_each(|waiting| waiting.refuse(problem.clone()));
                        continue;
                    }
                    Ended::NeverOpened(problem) => problem,
                },
            },
        };
        refuse_all(&inner, &ended);
    }
    inner.outbox.lock().is_shut = true;
    refuse_all(&inner, &stopping());
}

fn refuse_all(inner: &Inner, problem: &Problem) {
    let calls = inner.outbox.lock().give_up();
    calls.into_iter().for_each(|waiting| waiting.refuse(problem.clone()));
}

enum Ended {
    NeverOpened(Problem),
    AfterSending(Problem),
}

/// One stream to one leader, until it breaks or the leader is another one.
async fn one_stream(core: &Core, inner: &Inner, leader: u64, term: u64) -> Ended {
    let (frames, sending) = mpsc::channel(PLACES);
    let opened = async {
        let mut client = core.peer(leader, CONNECT_AT_MOST)?;
        client.execute(ReceiverStream::new(sending)).await
    };
    let mut answers = match timeout(CONNECT_AT_MOST, opened).await {
        Ok(Ok(response)) => response.into_inner(),
        failed => {
            let why = match failed {
                Ok(Err(status)) => status.message().to_owned(),
                _ => format!("no answer within {CONNECT_AT_MOST:?}"),
            };
            let message = format!("the leader, node {leader}, is not reachable from node {}: {why}", core.id);
            return Ended::NeverOpened(no_leader(message));
        }
    };
    let mut sent = Sent::default();
    let mut leadership = core.leadership.clone();
    let mut until: Option<Instant> = None;
    let why = loop {
        let has_more = !inner.outbox.lock().is_empty();
        tokio::select! {
            biased;
            changed = leadership.wait_for(|now| now.leader != Some(leader) || now.term != term), if until.is_none() => {
                drop(changed);
                until = Some(Instant::now() + GRACE);
            }
            answer = answers.message() => match answer {
                Ok(Some(answer)) => sent.answer(answer),
                Ok(None) => break format!("the leader, node {leader}, ended the stream"),
                Err(status) => break format!("the stream to the leader, node {leader}, broke: {}", status.message()),
            },
            () = async { sleep_until(until.unwrap_or_else(Instant::now)).await }, if until.is_some() => {
                break format!("node {leader} no longer leads");
            }
            place = frames.reserve(), if has_more && until.is_none() => {
                let Ok(place) = place else { break format!("the stream to node {leader} is closed") };
                if let Some(request) = next_request(inner, &mut sent) {
                    place.send(request);
                }
            }
            () = inner.arrived.notified(), if !has_more && until.is_none() => {}
        }
        if until.is_some() && sent.is_empty() {
            break format!("node {leader} no longer leads");
        }
    };
    sent.lose(&why);
    Ended::AfterSending(no_leader(format!("{why}; nothing was recorded")))
}

fn next_request(inner: &Inner, sent: &mut Sent) -> Option<peer::ExecuteRequest> {
    let next = inner.outbox.lock().next()?;
    Some(match next {
        Next::Frame { commands, lane, waiting } => {
            peer::ExecuteRequest { frame: sent.expect(waiting), commands, lane, lane_ended: false }
        }
        Next::LaneEnded(lane) => peer::ExecuteRequest { commands: Vec::new(), frame: 0, lane, lane_ended: true },
    })
}

/// Frames given to the stream and not answered.
#[derive(Default)]
struct Sent {
    newest: u64,
    frames: HashMap<u64, Vec<Waiting>>,
}

impl Sent {
    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn expect(&mut self, waiting: Vec<Waiting>) -> u64 {
        self.newest += 1;
        self.frames.insert(self.newest, waiting);
        self.newest
    }

    fn answer(&mut self, response: peer::ExecuteResponse) {
        let Some(waiting) = self.frames.remove(&response.frame) else { return };
        let mut answers = response.answers.into_iter();
        for call in waiting {
            let mine: Vec<v1::Answer> = answers.by_ref().take(call.count).collect();
            if mine.len() == call.count {
                call.answer(mine);
            } else {
                call.refuse(unknown("the leader answered fewer commands than it was sent"));
            }
        }
    }

    fn lose(&mut self, why: &str) {
        for (_, waiting) in self.frames.drain() {
            waiting.into_iter().for_each(|call| call.refuse(unknown(why)));
        }
    }
}

/// Of a node that forwards.
fn overloaded(bytes: usize, full: Full) -> Problem {
    full.problem(bytes, |used| {
        format!("{used} bytes of commands are on their way to the leader and {bytes} more are too many; try again")
    })
}

fn stopping() -> Problem {
    Problem::new(v1::Reason::ShuttingDown, "this node is stopping; nothing was recorded")
        .outcome(Some(Outcome::NotRecorded))
}
