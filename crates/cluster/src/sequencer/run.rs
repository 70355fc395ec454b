//! The task that owns the decision state.

mod turned_away;

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use sillok_wire::v1;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use self::turned_away::{answer_all, disks_full, not_ready};
use super::{
    State,
    desk::{Desk, Filled},
    flight::{Batch, Lost},
    flying::{self, Flying, Turned},
    frame::Sites,
    queue::{Queue, Queued, no_leader},
    window::{GATHER, Window},
};
use crate::{
    commit::Commit,
    core::{Core, Leadership, Proposal},
    fold::Folding,
    records::{LoadError, Records},
};

/// Commands decided between two looks at everything else: well under a millisecond.
const SLICE: usize = 256;
/// Records in flight, in bytes. An answer to one confirms the leader as of when it was sent, so they must come back well within an
/// election timeout also where a busy machine takes 20 MB a second; a line of 200 ms still holds as much a second.
const IN_FLIGHT_BYTES: usize = 4 << 20;
/// Positions decided and not yet folded, at most: they are held in memory twice.
const AHEAD_OF_FOLD: u64 = 400_000;
/// How long writes wait for a new leader to begin before they are told to come again.
const PREPARING: Duration = Duration::from_secs(2);
/// How often a leader that is waited for looks whether a quorum answers it: silence makes no sound.
const LOOK_FOR_QUORUM: Duration = Duration::from_millis(50);
/// How often to look again where nothing tells us.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An entry on its way from the disk, and how that went.
type Reading = Pin<Box<dyn Future<Output = (u64, Result<(), LoadError>)> + Send>>;

/// Why nothing more is decided for now.
#[derive(Default)]
struct Waits {
    /// An entry is being read back for a retry key.
    reading: Option<Reading>,
    needs_quiet: bool,
    /// The views must first have folded this position.
    fold_first: Option<u64>,
    no_room: bool,
    /// New commands are refused: for want of space on disks.
    disks_full: bool,
    /// Since when nothing may be stamped.
    clock: Option<Instant>,
    window_full: bool,
    /// When a small record may go although the window is full for it.
    gathered: Option<Instant>,
    /// How long the last record that came back was away.
    away: Duration,
}

enum Happened {
    Again,
    Stopping,
    Lost,
    /// The views stand still: what is decided on them would pile up over them.
    FoldStopped(Arc<str>),
    Turned(Turned),
    /// A record is lost before its turn has come.
    LostBehind(String),
    Read(u64, Result<(), LoadError>),
}

/// Why deciding ended.
enum Ended {
    /// A record was refused or skipped, or leadership was lost.
    Discard(String),
    Stopping,
}

pub(super) struct Run {
    core: Arc<Core>,
    records: Arc<Records>,
    folding: Folding,
    leadership: watch::Receiver<Leadership>,
    queue: Arc<Queue>,
    sites: Arc<dyn Sites>,
    state: watch::Sender<State>,
    /// Taken from the queue and not yet decided.
    backlog: VecDeque<Queued>,
    /// Proposed before a discard; the next beginning waits until each has turned out.
    leftovers: Vec<Proposal>,
}

impl Run {
    pub(super) fn new(
        core: Arc<Core>,
        records: Arc<Records>,
        folding: Folding,
        queue: Arc<Queue>,
        state: watch::Sender<State>,
    ) -> Run {
        let leadership = core.leadership.clone();
        let sites: Arc<dyn Sites> = Arc::new(CoreSites(core.clone()));
        let (backlog, leftovers) = (VecDeque::new(), Vec::new());
        Run { core, records, folding, leadership, queue, sites, state, backlog, leftovers }
    }

    pub(super) async fn run(mut self) {
        let stopping = self.core.stopping.clone();
        let mut fresh_term = 0;
        loop {
            let led = tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                term = self.leads() => term,
            };
            let Some(term) = led else { break };
            self.state.send_replace(State::Preparing(term));
            // Writes that come while a new leader begins wait for it; a leader that discarded says so until it is well.
            let is_new = fresh_term != term;
            if is_new {
                fresh_term = term;
                self.queue.open();
            }
            let adopted = tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                adopted = self.adopt(term, is_new) => adopted,
            };
            let Some(commit) = adopted else {
                self.turn_away(&self.lost());
                self.state.send_replace(State::Following);
                continue;
            };
            tracing::info!(term, index = commit.log_id.index, "the sequencer begins");
            self.state.send_replace(State::Leading(term));
            self.queue.open();
            let views = self.core.views.clone();
            let record_bytes = self.core.options.limits.record_bytes;
            let desk = Desk::new(views, self.records.clone(), record_bytes, term, &commit);
            match self.lead(term, desk).await {
                Ended::Discard(why) => tracing::warn!(term, "the sequencer discards what it decided: {why}"),
                Ended::Stopping => break,
            }
            self.state.send_replace(State::Following);
        }
        self.queue.shut();
        self.turn_away(&no_leader("this node is stopping; nothing was recorded"));
        self.state.send_replace(State::Ended);
    }

    /// The term in which this node leads, once it does; `None` when the watch is gone with the node.
    async fn leads(&mut self) -> Option<u64> {
        let now = self.leadership.wait_for(|now| now.is_local).await;
        now.ok().map(|now| now.term)
    }

    /// Waits until the leader of `term` may decide: its first entry is committed, nothing of an earlier try is in
    /// flight, its clock is right, and the views have folded everything. `None`: leadership was lost.
    async fn adopt(&mut self, term: u64, is_new: bool) -> Option<Commit> {
        let mut preparing = std::pin::pin!(sleep(PREPARING));
        let mut told = !is_new;
        let leftovers = std::mem::take(&mut self.leftovers);
        let mut commits = self.core.commits.clone();
        let mut folding = self.folding.clone();
        let core = self.core.clone();
        let ready = async {
            for leftover in leftovers {
                // However it turned out, it is no longer on its way.
                let _ = leftover.await;
            }
            if !is_new {
                // After a refusal in mid-term: begin again only when a quorum is there again.
                while core.local_read_index().await.is_err() {
                    sleep(LOOK_AGAIN).await;
                }
            }
            while !core.is_leader_confirmed() || core.clocks.stamp().is_err() {
                sleep(LOOK_AGAIN).await;
            }
            loop {
                let commit = *commits.wait_for(|c| c.is_some_and(|c| c.log_id.term == term)).await.ok()?;
                let commit = commit?;
                folding.reach(|applied| applied.index >= commit.log_id.index).await.ok()?;
                // Membership entries may have moved the commit meanwhile; the chain is what counts.
                let now = (*commits.borrow())?;
                if now.log_id.term == term && now.head == commit.head {
                    return Some(commit);
                }
            }
        };
        let mut ready = std::pin::pin!(ready);
        let mut leadership = self.leadership.clone();
        loop {
            tokio::select! {
                biased;
                lost = leadership.wait_for(|now| !now.is_local || now.term != term) => {
                    drop(lost);
                    return None;
                }
                commit = &mut ready => return commit,
                () = &mut preparing, if !told => {
                    told = true;
                    let problem = not_ready(self.folding.why_stopped(), self.core.clocks.stamp().err());
                    let waiting = self.queue.close(problem.clone());
                    self.backlog.extend(waiting);
                    answer_all(&mut self.backlog, &problem, &self.sites);
                }
            }
        }
    }

    /// Decides until something ends it.
    async fn lead(&mut self, term: u64, mut desk: Desk) -> Ended {
        let mut flying: VecDeque<Flying> = VecDeque::new();
        // Hashes of retry keys that may yet turn out to be recorded, once anything is lost.
        let mut doubtful = HashSet::new();
        let mut waits = Waits::default();
        let ended = loop {
            self.queue.drain(&mut self.backlog);
            self.refuse_while_full(&mut waits);
            // Consensus does not step down for want of a quorum: what is proposed would hang, and what waits with it.
            let is_asked = !flying.is_empty() || !self.backlog.is_empty();
            if is_asked && !self.core.is_leader_confirmed() {
                break Ended::Discard("no quorum answers this leader".to_owned());
            }
            waits.needs_quiet &= !flying.is_empty() || desk.has_open();
            waits.fold_first = desk.ahead_of_fold(AHEAD_OF_FOLD);
            waits.no_room = !self.core.chronicle.has_room();
            if let Some(since) = waits.clock {
                match self.core.clocks.stamp() {
                    Ok(_) => waits.clock = None,
                    Err(doubt) if since.elapsed() > PREPARING => break Ended::Discard(doubt.to_string()),
                    Err(_) => {}
                }
            }
            let window = self.window(&flying, &desk, waits.away);
            let gathered = flying.back().map(|flown| flown.since + GATHER);
            waits.window_full = !window.is_open(gathered.is_none_or(|gathered| gathered <= Instant::now()));
            waits.gathered = gathered.filter(|_| waits.window_full && window.has_place);
            let more = self.decide(term, &mut desk, &mut flying, &mut waits).await;
            if more {
                // Let acknowledgements and heartbeats through between slices.
                tokio::task::yield_now().await;
            }
            match self.happens(term, &mut flying, &mut waits, more).await {
                Happened::Again => {}
                Happened::Stopping => break Ended::Stopping,
                Happened::FoldStopped(why) => {
                    break Ended::Discard(format!("the views of this node have stopped: {why}"));
                }
                Happened::Lost => break Ended::Discard("leadership was lost".to_owned()),
                Happened::LostBehind(why) => break Ended::Discard(why),
                Happened::Read(index, Ok(())) => tracing::trace!(index, "read back for a retry key"),
                Happened::Read(index, Err(error)) => {
                    tracing::error!(index, "a record that may hold a retry key cannot be read: {error}");
                    desk.give_up_on(index, error.to_string());
                }
                Happened::Turned(turned) => {
                    let flown = flying.pop_front();
                    metrics::gauge!("sillok_sequencer_records_in_flight").set(flying.len() as f64);
                    if let (Turned::Well(Some(_)), Some(flown)) = (&turned, &flown) {
                        waits.away = flown.since.elapsed();
                        self.queue.away(waits.away);
                        metrics::histogram!("sillok_commit_seconds").record(waits.away);
                    }
                    let lost = match &turned {
                        Turned::Well(_) => None,
                        Turned::Lost(_, why) => Some(why.clone()),
                    };
                    if let Some(batch) = desk.resolved() {
                        let begun = std::time::Instant::now();
                        self.resolve(batch, turned, &mut doubtful);
                        metrics::histogram!("sillok_sequencer_answer_seconds").record(begun.elapsed());
                    }
                    if let Some(why) = lost {
                        break Ended::Discard(why);
                    }
                }
            }
        };
        let why = match &ended {
            Ended::Discard(why) => why,
            Ended::Stopping => "this node is stopping",
        };
        self.wind_down(desk, flying, doubtful, why).await;
        ended
    }

    /// Turns new commands away while this node or a quorum has no space. What was taken before is still decided: there is
    /// space for that.
    fn refuse_while_full(&mut self, waits: &mut Waits) {
        let is_full = self.core.lacks_space();
        if is_full && !waits.disks_full {
            tracing::warn!("writes are refused: this node's disk is full, or too many others' are");
            let waiting = self.queue.close(disks_full());
            self.backlog.extend(waiting);
        } else if !is_full && waits.disks_full {
            tracing::info!("writes are taken again: there is space");
            self.queue.open();
        }
        waits.disks_full = is_full;
    }

    /// Decides a slice of what waits and sends a record once there is no more for it; true where there is more.
    async fn decide(&mut self, term: u64, desk: &mut Desk, flying: &mut VecDeque<Flying>, waits: &mut Waits) -> bool {
        if waits.window_full || waits.fold_first.is_some() || waits.no_room {
            return false;
        }
        if waits.reading.is_none() && !waits.needs_quiet && !self.backlog.is_empty() {
            let Ok(now) = self.core.clocks.stamp() else {
                waits.clock.get_or_insert_with(Instant::now);
                return false;
            };
            if let Some(oldest) = self.backlog.front() {
                metrics::histogram!("sillok_sequencer_wait_seconds").record(oldest.since.elapsed());
            }
            let begun = std::time::Instant::now();
            let committed = self.committed();
            let filled = desk.fill(&mut self.backlog, SLICE, now, committed);
            metrics::histogram!("sillok_sequencer_decide_seconds").record(begun.elapsed());
            match filled {
                Filled::Paused => return true,
                Filled::Drained | Filled::Full => {}
                Filled::NeedsEntry(index) => {
                    let records = self.records.clone();
                    waits.reading = Some(Box::pin(async move { (index, records.get(index).await.map(drop)) }));
                }
                Filled::NeedsQuiet => waits.needs_quiet = true,
            }
        }
        if !desk.has_open() {
            return false;
        }
        let (closed, decisions) = desk.close();
        if decisions > 0 {
            metrics::histogram!("sillok_record_decisions").record(decisions as f64);
        }
        flying.push_back(Flying::send(&self.core, term, closed).await);
        metrics::gauge!("sillok_sequencer_records_in_flight").set(flying.len() as f64);
        !self.backlog.is_empty() && waits.reading.is_none() && !waits.needs_quiet
    }

    /// The next thing that happens. With `more`, does not wait for it.
    async fn happens(&self, term: u64, flying: &mut VecDeque<Flying>, waits: &mut Waits, more: bool) -> Happened {
        let mut leadership = self.leadership.clone();
        let (mut folding, mut stopping_fold) = (self.folding.clone(), self.folding.clone());
        let waits_for_quorum = !flying.is_empty() || !self.backlog.is_empty();
        let listens = self.backlog.is_empty() || waits.window_full;
        let fold_first = waits.fold_first.unwrap_or_default();
        let folded = async {
            if folding.reach(|applied| applied.sequence >= fold_first).await.is_err() {
                // Which is seen above.
                std::future::pending::<()>().await;
            }
        };
        let reading = &mut waits.reading;
        let read = async {
            match reading {
                Some(read) => read.await,
                None => std::future::pending().await,
            }
        };
        let happened = tokio::select! {
            biased;
            () = self.core.stopping.cancelled() => Happened::Stopping,
            lost = leadership.wait_for(|now| !now.is_local || now.term != term) => {
                drop(lost);
                Happened::Lost
            }
            stopped = stopping_fold.stopped() => {
                Happened::FoldStopped(stopped.unwrap_or_else(|| "the folding thread has ended".into()))
            }
            next = flying::next(flying) => match next {
                Ok(turned) => Happened::Turned(turned),
                Err(why) => Happened::LostBehind(why),
            },
            (index, read) = read => Happened::Read(index, read),
            () = std::future::ready(()), if more => Happened::Again,
            () = self.queue.arrived.notified(), if listens => Happened::Again,
            () = folded, if waits.fold_first.is_some() => Happened::Again,
            () = sleep(LOOK_AGAIN), if waits.no_room || waits.clock.is_some() => Happened::Again,
            () = sleep_until(waits.gathered.unwrap_or_else(Instant::now)), if waits.gathered.is_some() && !self.backlog.is_empty() => {
                Happened::Again
            }
            () = sleep(LOOK_FOR_QUORUM), if waits_for_quorum || waits.disks_full => Happened::Again,
        };
        if let Happened::Read(..) = happened {
            waits.reading = None;
        }
        happened
    }

    fn committed(&self) -> u64 {
        (*self.core.commits.borrow()).map_or(0, |commit| commit.log_id.index)
    }

    fn window(&self, flying: &VecDeque<Flying>, desk: &Desk, away: Duration) -> Window {
        let in_flight_bytes = desk.in_flight_bytes();
        Window {
            records: flying.len(),
            away,
            has_place: flying.len() < self.core.options.limits.records_in_flight && in_flight_bytes < IN_FLIGHT_BYTES,
            waiting_bytes: self.queue.undecided_bytes().saturating_sub(in_flight_bytes),
        }
    }

    fn resolve(&self, batch: Batch, turned: Turned, doubtful: &mut HashSet<u64>) {
        match turned {
            Turned::Well(index) => {
                // Answers without a record speak of what is committed.
                batch.release(index.unwrap_or_else(|| self.committed()), &self.sites);
            }
            Turned::Lost(lost, why) => {
                if lost == Lost::Perhaps {
                    doubtful.extend(batch.keys.iter().copied());
                }
                batch.fail(lost, &why, &self.sites);
            }
        }
    }
}

/// The acknowledgements as the core knows them.
struct CoreSites(Arc<Core>);

impl Sites for CoreSites {
    fn durability(&self, index: u64) -> v1::Durability {
        self.0.acks.sites_with(index)
    }

    fn wait_all(&self, index: u64, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.acks.wait_all_sites(index, at_most).map(drop))
    }
}
