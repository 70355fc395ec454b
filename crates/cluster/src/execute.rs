//! Commands from this node's callers: to the sequencer where this node leads, else to whoever does.

use std::{collections::BTreeSet, future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use sillok_views::Locator;
use sillok_wire::{
    errors::{self, Outcome, Problem},
    peer, v1,
};
use tokio::sync::{Semaphore, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    core::{Core, ReadIndexError},
    fold::{self, Folding},
    forward::{self, Forwarder},
    handover,
    node::Node,
    reads::Reads,
    records::{LoadError, Records},
    sequencer::{Asked, Expected, Lane, Sequencer, State, is_definite, no_leader, refusing, unknown},
    types::LogId,
};

/// Where every node's views have stopped, leadership would otherwise go round in circles.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(30);

/// Everything above consensus in one node: the sequencer, the folding thread, the way to the leader, reads. Made once by
/// `Node::start`.
pub(crate) struct Front {
    pub(crate) core: Arc<Core>,
    pub(crate) records: Arc<Records>,
    pub(crate) reads: Reads,
    /// Seats of subscribers to events.
    pub(crate) subscribers: Arc<Semaphore>,
    sequencer: Sequencer,
    forwarder: Forwarder,
    folding: Folding,
}

impl Front {
    /// Starts the folding thread and the sequencer. The peer port is opened afterwards.
    pub(crate) fn start(core: Arc<Core>) -> io::Result<Front> {
        let records = Records::new(core.chronicle.clone(), core.chain.clone(), core.options.execution.clone());
        let folding = fold::spawn(core.clone())?;
        let reads = Reads::spawn(core.clone(), folding.clone());
        let sequencer = Sequencer::spawn(core.clone(), records.clone(), folding.clone());
        let forwarder = Forwarder::spawn(core.clone());
        tokio::spawn(hand_over_when_stopped(core.clone(), folding.clone()));
        let subscribers = Arc::new(Semaphore::new(core.options.limits.subscribers));
        Ok(Front { core, records, reads, subscribers, sequencer, forwarder, folding })
    }

    /// Takes no more commands, and returns once those taken before are answered. Called while this node may still lead,
    /// before leadership is handed over.
    pub(crate) async fn drain(&self) {
        tokio::join!(self.sequencer.shut(), self.forwarder.shut());
    }

    /// Returns once the sequencer has ended. Called after `stopping` is cancelled and before consensus, the views and
    /// the chronicle are closed.
    pub(crate) async fn stop(&self) {
        let _ = self.sequencer.state().wait_for(|state| *state == State::Ended).await;
    }

    /// How far the views have folded.
    pub(crate) fn folding(&self) -> &Folding {
        &self.folding
    }

    /// Commands in the house of this node as the leader, in bytes.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.sequencer.queue_bytes()
    }

    /// What the sequencer is doing.
    #[cfg(test)]
    pub(crate) fn sequencer_state(&self) -> tokio::sync::watch::Receiver<State> {
        self.sequencer.state()
    }

    /// The views answer: they are loaded, and folding goes on.
    pub(crate) fn answers_stale_reads(&self) -> bool {
        self.folding.is_loaded() && self.folding.why_stopped().is_none()
    }

    /// Why the views are not as they should be, though their answers are right; `None` while all is well.
    pub(crate) fn views_trouble(&self) -> Option<String> {
        if !self.folding.is_loaded() {
            return Some("the views are being loaded; reads wait for them".to_owned());
        }
        self.core.views.trouble().map(|why| format!("the views cannot be written to disk: {why}"))
    }

    /// Why folding stopped or writes are not taken; `None` while all is well.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(stopped) = self.folding.why_stopped() {
            return Some(format!("the views have stopped: {stopped}"));
        }
        self.core.leader().is_none().then(|| leaderless(&self.core).message)
    }

    /// Commands that another node forwards to this one as the leader.
    pub(crate) fn serve_execute(
        &self,
        requests: Streaming<peer::ExecuteRequest>,
    ) -> ReceiverStream<Result<peer::ExecuteResponse, Status>> {
        forward::serve(self.core.clone(), self.sequencer.clone(), requests)
    }

    /// The read index that another node asks of this one as the leader; requests share a round trip.
    pub(crate) async fn serve_read_index(&self) -> Result<LogId, ReadIndexError> {
        if self.core.leading_term().is_none() {
            return Err(ReadIndexError::NoLeader);
        }
        let read = self.reads.shared().await;
        // Whoever asked waits to be told of all that is committed by now.
        self.core.departures.call();
        read
    }

    /// Queues commands; they are decided in the order of these calls.
    fn enqueue(&self, asked: Asked, lane: Option<&Arc<Lane>>) -> oneshot::Receiver<Vec<v1::Answer>> {
        match self.core.leader() {
            Some((leader, _)) if leader == self.core.id => decide(&self.sequencer, asked, lane),
            Some(_) => self.forwarder.enqueue(asked, lane),
            None => {
                if let Some(lane) = lane {
                    lane.close();
                }
                answered(vec![refusing(leaderless(&self.core)); asked.len()])
            }
        }
    }

    /// A place for a new stream, or why it is turned away.
    fn expect_stream(&self) -> Result<Option<Expected>, Problem> {
        match self.core.leader() {
            Some((leader, _)) if leader == self.core.id => self.sequencer.expect_stream(),
            Some(_) => self.forwarder.expect_stream().map(Some),
            // Each of its frames is told so.
            None => Ok(None),
        }
    }

    /// Whether open streams should send less for now.
    fn holds_streams_back(&self) -> bool {
        match self.core.leader() {
            Some((leader, _)) if leader == self.core.id => self.sequencer.holds_streams_back(),
            Some(_) => self.forwarder.holds_streams_back(),
            None => false,
        }
    }
}

/// Queues commands at the leader.
pub(crate) fn decide(
    sequencer: &Sequencer,
    asked: Asked,
    lane: Option<&Arc<Lane>>,
) -> oneshot::Receiver<Vec<v1::Answer>> {
    // Before anything is spent on them: under overload most calls end here.
    if lane.is_none()
        && let Some(problem) = sequencer.refuses_calls()
    {
        return answered(vec![refusing(problem); asked.len()]);
    }
    sequencer.enqueue(asked, lane)
}

/// Answers that are there already.
fn answered(answers: Vec<v1::Answer>) -> oneshot::Receiver<Vec<v1::Answer>> {
    let (answer, receiver) = oneshot::channel();
    // The receiver is returned: it cannot be gone.
    let _ = answer.send(answers);
    receiver
}

/// A leader whose views have stopped can decide nothing; another node may have understood the entry.
async fn hand_over_when_stopped(core: Arc<Core>, mut folding: Folding) {
    tokio::select! {
        () = core.stopping.cancelled() => return,
        stopped = folding.stopped() => if stopped.is_none() { return },
    }
    let mut leadership = core.leadership.clone();
    loop {
        tokio::select! {
            () = core.stopping.cancelled() => return,
            leads = leadership.wait_for(|now| now.is_local) => if leads.is_err() { return },
        }
        let at_most = Duration::from_millis(core.options.timings.election_max_ms * 2);
        handover::hand_over(&core, at_most, "the views of this node have stopped").await;
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(HAND_OVER_AGAIN) => {}
        }
    }
}

/// No write can be taken here now, and why.
pub(crate) fn leaderless(core: &Core) -> Problem {
    let roster = core.roster.view();
    if roster.configs.is_empty() {
        return no_leader(format!("node {} at {} is not part of a cluster yet", core.id, core.site));
    }
    let others: BTreeSet<&str> = roster.voter_sites().into_iter().filter(|site| *site != core.site).collect();
    let others = others.into_iter().collect::<Vec<_>>().join(", ");
    no_leader(format!(
        "node {} at {} sees no leader: it hears from no quorum with {others}; nothing was recorded",
        core.id, core.site
    ))
}

/// Why a record could not be read back, for a caller.
pub(crate) fn unreadable(error: &LoadError) -> Status {
    Problem::new(v1::Reason::NotReady, error.to_string()).outcome(None).into()
}

/// A pipeline of frames whose order holds: once one of them is not answered definitely, those behind it are not decided.
/// For one `Submit` stream.
pub struct Submitter {
    front: Arc<Front>,
    lane: Arc<Lane>,
    /// Until the first frame.
    expected: Mutex<Option<Expected>>,
}

impl Submitter {
    /// As [`Node::submit`]; each command is a `sillok.v1.Command`, encoded. What cannot be read as one is answered as malformed.
    pub fn submit(
        &self,
        commands: Vec<Bytes>,
    ) -> impl Future<Output = Result<Vec<v1::Answer>, Status>> + Send + 'static + use<> {
        let count = commands.len();
        let expected = self.expected.lock().take();
        let answers = self.front.enqueue(Asked::Frame(commands), Some(&self.lane));
        drop(expected);
        settled(count, answers)
    }

    /// What waits at the leader takes nearly as long as it may: pipelines should keep little on the way for now.
    pub fn holds_back(&self) -> bool {
        self.front.holds_streams_back()
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        if self.lane.was_forwarded() {
            self.front.forwarder.end(&self.lane);
        }
    }
}

async fn settled(count: usize, answers: oneshot::Receiver<Vec<v1::Answer>>) -> Result<Vec<v1::Answer>, Status> {
    match answers.await {
        Ok(answers) => all_definite(answers),
        Err(_) if count == 0 => Ok(Vec::new()),
        Err(_) => Err(unknown("this node is stopping").into()),
    }
}

/// The answers, unless one of them leaves the outcome open or turns its command away: then no more can be promised of the
/// frame than that it is safe to repeat it, or, where all of it was turned away, that nothing of it is recorded. Nor is
/// anything behind it then: its lane takes no more.
fn all_definite(answers: Vec<v1::Answer>) -> Result<Vec<v1::Answer>, Status> {
    let Some(open) = answers.iter().find(|answer| !is_definite(answer)) else { return Ok(answers) };
    let Some(status) = status_of(open) else {
        return Err(unknown("a command was not answered").into());
    };
    let reason = errors::reason_of(&status).unwrap_or(v1::Reason::OutcomeUnknown);
    let says_so =
        |answer| status_of(answer).is_some_and(|status| errors::outcome_of(&status) == Some(Outcome::NotRecorded));
    let outcome = answers.iter().all(says_so).then_some(Outcome::NotRecorded);
    let mut problem = Problem::new(reason, status.message().to_owned()).outcome(outcome);
    problem.retry_after = errors::retry_after(&status);
    Err(problem.into())
}

fn status_of(answer: &v1::Answer) -> Option<Status> {
    match &answer.outcome {
        Some(v1::answer::Outcome::Error(status)) => Some(errors::from_rpc(status.clone())),
        Some(v1::answer::Outcome::Receipt(_)) | None => None,
    }
}

impl Node {
    /// Decides commands in order and answers each; waits as each of them asks. A command that is turned away or whose
    /// outcome is unknown is answered with an error that says so.
    pub async fn execute(&self, commands: Vec<v1::Command>) -> Vec<v1::Answer> {
        let count = commands.len();
        let answers = self.front().enqueue(Asked::Calls(commands), None);
        match answers.await {
            Ok(answers) => answers,
            Err(_) => vec![refusing(unknown("this node is stopping")); count],
        }
    }

    /// Queues commands at once, so that the order of these calls is the order of decision, and answers them together.
    /// For a pipeline of frames take a [`Node::submitter`], which keeps the order across failures too.
    ///
    /// # Errors
    /// Where the outcome of a command is unknown, or it was turned away (`NO_LEADER`, `OVERLOADED`, `SHUTTING_DOWN`): the
    /// frame may be recorded in part, and is safe to repeat with the same keys.
    pub fn submit(
        &self,
        commands: Vec<v1::Command>,
    ) -> impl Future<Output = Result<Vec<v1::Answer>, Status>> + Send + 'static + use<> {
        let count = commands.len();
        settled(count, self.front().enqueue(Asked::Calls(commands), None))
    }

    /// A pipeline of frames. One that is begun is never turned away for what waits before it, and should keep less on the way
    /// while [`Submitter::holds_back`].
    ///
    /// # Errors
    /// `OVERLOADED`, with when to come again: what waits already, or is expected of pipelines begun just now, takes longer
    /// than it should: half a second at most, less where a quorum is near.
    pub fn submitter(&self) -> Result<Submitter, Status> {
        let expected = Mutex::new(self.front().expect_stream()?);
        Ok(Submitter { front: self.front().clone(), lane: Arc::default(), expected })
    }

    /// One event by its place.
    ///
    /// # Errors
    /// Where the record cannot be read back, or holds no event there.
    pub async fn event_at(&self, locator: Locator) -> Result<v1::Event, Status> {
        let record = self.front().records.get(locator.index).await.map_err(|error| unreadable(&error))?;
        let missing = || {
            let message = format!("entry {} holds no event at place {}", locator.index, locator.item);
            Status::from(Problem::new(v1::Reason::NotReady, message).outcome(None))
        };
        let (decision, event) = record.by_item(locator.item).ok_or_else(missing)?;
        let decision = record.decision(decision).ok_or_else(missing)?;
        let decision = decision.map_err(|source| unreadable(&LoadError::Decode { index: locator.index, source }))?;
        sillok_wire::event_to_proto(record.id.term, &record.header, &decision, event)
            .map_err(|error| Status::from(Problem::new(v1::Reason::ViewsStopped, error.to_string()).outcome(None)))?
            .ok_or_else(missing)
    }

    /// What is recorded under a retry key up to the position in the answer.
    ///
    /// # Errors
    /// As [`Node::read`]; INVALID_ARGUMENT where an id is empty.
    pub async fn find_by_retry_key(
        &self,
        request: v1::FindByRetryKeyRequest,
    ) -> Result<v1::FindByRetryKeyResponse, Status> {
        let front = self.front();
        for (field, value) in [("channel_id", &request.channel_id), ("retry_key", &request.retry_key)] {
            if value.is_empty() {
                let problem = Problem::new(v1::Reason::InvalidCommand, format!("{field} is empty"));
                return Err(problem.violation(field, "must be given").into());
            }
        }
        let mut info = front.reads.read(request.options.as_ref()).await?;
        let consistency = info.consistency();
        let applied = front.core.views.applied();
        info = front.reads.info(applied, consistency);
        let Some(applied) = applied else { return Ok(v1::FindByRetryKeyResponse { info: Some(info), outcome: None }) };
        let found = front.records.find(&request.channel_id, &request.retry_key, applied.index).await;
        let outcome = match found.map_err(|error| unreadable(&error))? {
            None => None,
            Some((record, n)) => Some(outcome_of(&record, n)?),
        };
        Ok(v1::FindByRetryKeyResponse { info: Some(info), outcome })
    }
}

fn outcome_of(record: &crate::records::Decoded, n: usize) -> Result<v1::find_by_retry_key_response::Outcome, Status> {
    use v1::find_by_retry_key_response::Outcome as Found;
    let index = record.id.index;
    let decision = match record.decision(n) {
        Some(Ok(decision)) => decision,
        Some(Err(source)) => return Err(unreadable(&LoadError::Decode { index, source })),
        None => return Err(unreadable(&LoadError::Missing { index })),
    };
    if let Some(refusal) = sillok_wire::refusal_to_proto(record.id.term, &record.header, &decision) {
        return Ok(Found::Refused(refusal));
    }
    let mut events = Vec::with_capacity(decision.events.len());
    for event in 0..decision.events.len() {
        let event = sillok_wire::event_to_proto(record.id.term, &record.header, &decision, event)
            .map_err(|error| Status::from(Problem::new(v1::Reason::ViewsStopped, error.to_string()).outcome(None)))?;
        events.extend(event);
    }
    Ok(Found::Recorded(v1::RecordedEvents { events }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> v1::Answer {
        v1::Answer { outcome: Some(v1::answer::Outcome::Receipt(v1::Receipt::default())) }
    }

    fn said(answers: Vec<v1::Answer>) -> (Option<v1::Reason>, Option<Outcome>) {
        let status = all_definite(answers).unwrap_err();
        (errors::reason_of(&status), errors::outcome_of(&status))
    }

    /// The command line said of a friend that no leader had taken that it was unknown whether she is recorded.
    #[test]
    fn a_frame_that_was_turned_away_whole_is_certainly_not_recorded() {
        let no_leader = || refusing(no_leader("no quorum"));
        let malformed = || {
            let problem = Problem::new(v1::Reason::InvalidCommand, "malformed");
            refusing(problem.outcome(Some(Outcome::NotRecorded)))
        };
        let turned_away = (Some(v1::Reason::NoLeader), Some(Outcome::NotRecorded));
        assert_eq!(said(vec![no_leader(), malformed(), no_leader()]), turned_away);
        assert_eq!(said(vec![receipt(), no_leader()]), (Some(v1::Reason::NoLeader), None), "the first is recorded");
        let lost = (Some(v1::Reason::NoLeader), None);
        assert_eq!(said(vec![no_leader(), refusing(unknown("lost"))]), lost, "the second may be");
        assert_eq!(all_definite(vec![receipt(), malformed()]).unwrap().len(), 2);
    }
}
