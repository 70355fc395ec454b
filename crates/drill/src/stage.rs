//! The verbs of a drill: what can be done to a cluster under load, and what can be asked of it meanwhile.

mod members;

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};
use sillok_wire::{
    errors,
    v1::{self, commands_client::CommandsClient},
};

use crate::{
    DrillError, Verdict,
    cluster::{Cluster, Setup},
    drills::Drill,
    history::{Answer, Recorder},
    mesh::Mesh,
    screen::{Broken, Observer, Progress},
    wait::within,
    watch::Watch,
    workload::{Channels, Load, Workload},
};

/// How a drill is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program to run as nodes.
    pub binary: PathBuf,
    /// Another program to begin with, for an upgrade to `binary`.
    pub from: Option<PathBuf>,
    /// A compose file whose cluster runs, to be drilled in place of one of the drill's own.
    pub compose: Option<PathBuf>,
    /// How long the load goes on, about.
    pub load_for: Duration,
    /// Clients that write; a quarter as many read.
    pub clients: usize,
    /// 3 or 5, on three sites.
    pub nodes: usize,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Leaves the cluster's directory behind.
    pub keep: bool,
}

/// A moment worth a word.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    /// Since the drill began.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// What was done or seen.
    pub text: String,
}

/// The time in which something was broken.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// Since the drill began.
    #[serde(rename = "from_seconds", serialize_with = "seconds")]
    pub from: Duration,
    /// `None` while it lasts.
    #[serde(rename = "until_seconds", serialize_with = "seconds_if_any")]
    pub until: Option<Duration>,
    /// What.
    pub text: String,
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

fn seconds_if_any<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(to)
}

/// Channels that the load is spread over.
const CHANNELS: u32 = 4;
/// Small, so that a drill has sealed segments: the smallest that a node takes.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Where a drill asks for it: the most often that a node takes.
const SCRUB_EVERY: Duration = Duration::from_secs(1);
/// Writes come back by themselves within this, also on a busy machine.
pub(crate) const WRITES_BACK: Duration = Duration::from_secs(10);
/// A node comes back, or a blank one catches up, within this.
const CAUGHT_UP: Duration = Duration::from_secs(60);
/// So many answers say that writes go on.
const SOME_WRITES: u64 = 20;

/// A cluster under load, and what was done to it.
pub struct Stage {
    /// The processes.
    pub cluster: Cluster,
    /// The clients.
    pub workload: Workload,
    /// A client of the drill's own, which is as patient as any.
    pub(crate) customer: sillok_client::Client,
    pub(crate) channels: Channels,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) watch: Watch,
    pub(crate) options: Options,
    pub(crate) notes: Vec<Note>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) promises: Vec<Verdict>,
    broken: Broken,
    observer: Arc<dyn Observer>,
    progress: tokio::task::JoinHandle<()>,
}

impl Stage {
    /// A cluster that has been under load for a while.
    pub(crate) async fn set(options: Options, drill: &Drill, observer: Arc<dyn Observer>) -> Result<Stage, DrillError> {
        let recorder = Arc::new(Recorder::new());
        let sites = crate::SITES.iter().cycle().take(options.nodes).map(|site| (*site).to_owned()).collect();
        let binary = options.from.as_ref().unwrap_or(&options.binary).clone();
        let seed = options.seed;
        let Drill { links, faults, scrubs, .. } = *drill;
        let scrub_every = scrubs.then_some(SCRUB_EVERY);
        let segment_bytes = SEGMENT_BYTES;
        let setup =
            Setup { binary, sites, links, faults, scrub_every, segment_bytes, heartbeat_ms: None, seed, dir: None };
        let mut channels = Channels { prefix: "drill".to_owned(), count: CHANNELS };
        let mut cluster = match &options.compose {
            Some(file) => {
                // It may have been drilled before.
                channels.prefix = format!("drill-{:x}", rand::random::<u32>());
                observer.note(recorder.now(), &format!("looking for the nodes of {}", file.display()));
                Cluster::attach(setup, file).await?
            }
            None => {
                let sites = crate::SITES.join(", ");
                observer.note(recorder.now(), &format!("starting {} nodes at {sites}", options.nodes));
                Cluster::start(setup).await?
            }
        };
        if options.keep {
            cluster.keep();
            observer.note(recorder.now(), &format!("everything of the nodes stays in {}", cluster.dir().display()));
        }
        let watch = Watch::start(Arc::clone(&recorder), crate::SITES.len());
        cluster.nodes().iter().for_each(|node| watch.add(node));
        let endpoints = cluster.nodes().iter().map(|node| node.client.to_string()).collect();
        // Containers know each other by names that nobody outside knows.
        let follow_leader = options.compose.is_none();
        let load = Load { endpoints, clients: options.clients, channels: channels.clone(), follow_leader, seed };
        let workload = Workload::start(load, Arc::clone(&recorder)).await?;
        let customer = workload.customer()?;
        let broken = Broken::default();
        let progress = Progress::tell(
            Arc::clone(&recorder),
            watch.handle(),
            Arc::clone(&broken),
            cluster.nodes(),
            Arc::clone(&observer),
        );
        let (notes, faults, promises) = (Vec::new(), Vec::new(), Vec::new());
        let mut stage = Stage {
            cluster,
            workload,
            channels,
            customer,
            recorder,
            watch,
            options,
            notes,
            faults,
            promises,
            broken,
            observer,
            progress,
        };
        let (clients, leader) = (stage.options.clients, stage.cluster.leader().await?);
        stage.note(format!("{clients} clients write; {} leads", stage.name(leader)));
        Ok(stage)
    }

    /// Says what happens, on the screen and in the report.
    pub fn note(&mut self, text: impl Into<String>) {
        let note = Note { at: self.recorder.now(), text: text.into() };
        self.observer.note(note.at, &note.text);
        self.notes.push(note);
    }

    /// From now on something is broken.
    pub fn breaks(&mut self, text: impl Into<String>) {
        let text = text.into();
        let from = self.recorder.now();
        self.faults.push(Fault { from, until: None, text: text.clone() });
        self.broken.lock().replace((from, text.clone()));
        self.note(text);
    }

    /// Nothing is broken any more.
    pub fn mended(&mut self, text: impl Into<String>) {
        let now = self.recorder.now();
        self.broken.lock().take();
        self.faults.iter_mut().for_each(|fault| fault.until = fault.until.or(Some(now)));
        self.note(text);
    }

    /// One promise more, of this drill alone.
    pub fn promise(&mut self, name: &'static str, promise: impl Into<String>, kept: Result<(), String>) {
        let promise = promise.into();
        if let Err(why) = &kept {
            self.note(format!("BROKEN: {promise}: {why}"));
        }
        // A promise that is made several times stands once.
        let known = self.promises.iter().position(|verdict| verdict.name == name);
        let place = known.unwrap_or_else(|| {
            self.promises.push(Verdict::new(name, promise));
            self.promises.len() - 1
        });
        let verdict = &mut self.promises[place];
        verdict.examined += 1;
        if let Err(why) = kept {
            verdict.broken(|| why);
        }
    }

    /// `chungju (node 1)`.
    pub fn name(&self, id: u64) -> String {
        format!("{} (node {id})", self.cluster.node(id).site)
    }

    /// Who leads.
    ///
    /// # Errors
    /// Nobody for 20 s.
    pub async fn leader(&self) -> Result<u64, DrillError> {
        within("a leader", Duration::from_secs(20), || self.cluster.leader_now()).await
    }

    /// The running nodes but this one, by id.
    pub fn others(&self, than: u64) -> Vec<u64> {
        self.cluster.running().map(|node| node.id).filter(|id| *id != than).collect()
    }

    /// Running nodes at a site.
    pub fn nodes_at(&self, site: &str) -> Vec<u64> {
        self.cluster.running().filter(|node| node.site == site).map(|node| node.id).collect()
    }

    /// A site without the leader.
    ///
    /// # Errors
    /// Nobody leads, or there is no other site.
    pub async fn site_that_follows(&self) -> Result<String, DrillError> {
        let leader = self.leader().await?;
        let site = &self.cluster.node(leader).site;
        let other = self.cluster.running().map(|node| &node.site).find(|other| *other != site);
        other.cloned().ok_or(DrillError::NodeState { node: leader, state: "stands at the only site" })
    }

    /// The term of the leader, 0 where nobody leads.
    pub async fn term(&self) -> u64 {
        match self.cluster.leader_now().await {
            Some(leader) => self.cluster.node(leader).status().await.map_or(0, |status| status.term),
            None => 0,
        }
    }

    /// Links between the nodes, which this drill must have asked for.
    pub fn mesh(&self) -> Result<&Mesh, DrillError> {
        self.cluster
            .mesh()
            .ok_or(DrillError::NodeState { node: 0, state: "has no links; the drill did not ask for them" })
    }

    /// Lets the load go on for a share of the drill's time.
    pub async fn go_on_for(&self, share: f64) {
        tokio::time::sleep(self.options.load_for.mul_f64(share)).await;
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        let acknowledged = |answer| matches!(answer, Answer::Recorded { .. });
        self.recorder.look(|history| history.calls.iter().filter(|call| acknowledged(call.answer)).count() as u64)
    }

    /// Kills every node of a site and erases its disks, all at once.
    ///
    /// # Errors
    /// A process or a disk that does not go.
    pub fn burn(&mut self, site: &str) -> Result<Vec<u64>, DrillError> {
        let lost = self.nodes_at(site);
        for id in &lost {
            self.cluster.kill(*id)?;
        }
        for id in &lost {
            self.cluster.erase(*id)?;
        }
        Ok(lost)
    }

    /// One reader more that knows only this node, whatever becomes of it.
    ///
    /// # Errors
    /// Never, as far as can be seen: the address is good.
    pub fn stick_a_reader_to(&mut self, id: u64) -> Result<(), DrillError> {
        let address = self.cluster.node(id).client.to_string();
        self.note(format!("a reader is stuck with {}", self.name(id)));
        self.workload.stick_to(address)
    }

    /// Waits until another node than this one leads.
    ///
    /// # Errors
    /// Never; the old leader leading on is a broken promise.
    pub async fn another_leads(&mut self, than: u64) -> Result<(), DrillError> {
        let since = self.recorder.now();
        let other = within("another leader", WRITES_BACK, || async {
            self.watch.now().leader.filter(|leader| *leader != than)
        })
        .await;
        if let Ok(leader) = other {
            let took = (self.recorder.now() - since).as_secs_f64();
            self.note(format!("{} leads, {took:.1} s later", self.name(leader)));
        }
        let promise = "Another node leads where the leader cannot";
        self.promise("another-leads", promise, other.map(drop).map_err(|error| error.to_string()));
        Ok(())
    }

    /// A command of the drill's own that must be recorded, in a channel that the load does not know.
    ///
    /// # Errors
    /// It is not.
    pub(crate) async fn ask(&self, what: &str, command: v1::Command) -> Result<v1::Receipt, DrillError> {
        let receipt = self.customer.execute(command).await;
        receipt.map_err(|error| DrillError::call(what, error.status().clone()))
    }

    /// Promises that every patient client was answered so far.
    pub fn nobody_failed(&mut self) {
        let failed =
            |call: &&crate::history::Call| call.patient && matches!(call.answer, Answer::Unknown | Answer::NotRecorded);
        let failed = self.recorder.look(|history| history.calls.iter().filter(failed).count());
        let kept = if failed == 0 { Ok(()) } else { Err(format!("{failed} calls of patient clients have no answer")) };
        self.promise("nobody-failed", "A client that retries as told sees no failed call", kept);
    }

    /// Promises that a node that was not let in holds nothing of the history.
    pub async fn holds_nothing(&mut self, id: u64) {
        let kept = match self.cluster.node(id).status().await {
            Some(status) if status.committed_index > 0 => Err(format!("it has {} entries", status.committed_index)),
            Some(_) => Ok(()),
            None => Err("it does not answer".to_owned()),
        };
        self.promise("ghost-holds-nothing", "A blank node under an old id is given nothing", kept);
    }

    /// The last entry that the leader knows to be committed, 0 where nobody leads.
    pub async fn committed(&self) -> u64 {
        match self.cluster.leader_now().await {
            Some(leader) => self.cluster.node(leader).status().await.map_or(0, |status| status.committed_index),
            None => 0,
        }
    }

    /// Promises that a removed node that came back gets nothing that was recorded since: it stays behind what was committed
    /// before it came.
    pub async fn holds_nothing_new(&mut self, id: u64, committed: u64) {
        let kept = match self.cluster.node(id).status().await {
            Some(here) if here.committed_index >= committed => {
                Err(format!("it has {} entries, and there were {committed} before it came", here.committed_index))
            }
            // Where it has ended by itself, that is as good.
            _ => Ok(()),
        };
        self.promise("removed-stays-out", "A removed node that comes back is given nothing new", kept);
    }

    /// Promises what the last site owes its callers: a clear refusal of writes, and what it knows.
    pub async fn refuses_writes_and_answers_stale_reads(&mut self, id: u64) {
        let refused = within("a refusal that says NO_LEADER and not_recorded", WRITES_BACK, || async {
            let mut node = CommandsClient::new(self.cluster.node(id).channel());
            let key = format!("last-site-{}", self.recorder.now().as_nanos());
            // Only decided: a write whose outcome is unknown may be recorded once the others are back.
            let context = Some(v1::CommandContext { retry_key: key, validate_only: true, ..Default::default() });
            let channel_id = self.channels.id(0);
            let add = v1::AddFriendRequest { context, channel_id, user_key: "nobody".into(), ..Default::default() };
            let answer = tokio::time::timeout(Duration::from_secs(2), node.add_friend(add)).await.ok()?;
            let status = answer.err()?;
            let no_leader = errors::reason_of(&status) == Some(v1::Reason::NoLeader);
            (no_leader && errors::outcome_of(&status) == Some(errors::Outcome::NotRecorded)).then_some(())
        })
        .await;
        let promise = "Without a majority a write is refused with the reason, and is certainly not recorded";
        self.promise("refused-with-reason", promise, refused.map_err(|error| error.to_string()));
        let options = Some(v1::ReadOptions { consistency: v1::ReadConsistency::Stale as i32, at_least: None });
        let request = v1::GetChannelRequest { options, channel_id: self.channels.id(0) };
        let mut queries = self.cluster.node(id).queries();
        let kept = match tokio::time::timeout(Duration::from_secs(2), queries.get_channel(request)).await {
            Ok(Ok(answer)) if answer.get_ref().channel.as_ref().is_some_and(|channel| channel.revision > 0) => Ok(()),
            Ok(Ok(_)) => Err("it knows nothing".to_owned()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("no answer within 2 s".to_owned()),
        };
        self.promise("stale-reads", "The last site answers stale reads at once", kept);
    }

    /// Waits for linearizable reads begun from now on, and promises that they come.
    pub async fn reads_go_on(&mut self) {
        let since = self.recorder.now();
        let fresh = || {
            self.recorder.look(|history| history.reads.iter().rev().take_while(|read| read.started >= since).count())
        };
        let went = within("reads", WRITES_BACK, || async { (fresh() as u64 >= SOME_WRITES).then_some(()) }).await;
        let promise = "Linearizable reads go on while writes are refused";
        self.promise("reads-go-on", promise, went.map_err(|error| error.to_string()));
    }

    /// Waits for writes begun from now on, and promises that they come.
    ///
    /// # Errors
    /// Never; a silence is a broken promise.
    pub async fn writes_go_on(&mut self, limit: Duration) -> Result<(), DrillError> {
        let since = self.recorder.now();
        let acknowledged = || {
            let fresh = |call: &&crate::history::Call| {
                call.started >= since && matches!(call.answer, Answer::Recorded { .. } | Answer::Refused(_))
            };
            self.recorder.look(|history| history.calls.iter().rev().take(4096).filter(fresh).count() as u64)
        };
        let went = within("writes", limit, || async { (acknowledged() >= SOME_WRITES).then_some(()) }).await;
        let took = (self.recorder.now() - since).as_secs_f64();
        if went.is_ok() {
            self.note(format!("writes go on, {took:.1} s later"));
        }
        let promise = format!("Writes go on by themselves within {} s", limit.as_secs());
        self.promise("writes-go-on", promise, went.map_err(|error| error.to_string()));
        Ok(())
    }

    /// Lets every client finish what it has begun.
    pub(crate) async fn stop_load(&mut self) {
        self.workload.stop().await;
    }

    /// Waits until a node has nearly everything that the leader has.
    ///
    /// # Errors
    /// Not within a minute.
    pub async fn caught_up(&self, id: u64) -> Result<(), DrillError> {
        within("the node has caught up", CAUGHT_UP, || self.lag(id, 64)).await
    }

    /// The node is at most so many entries behind, as the leader knows.
    pub(crate) async fn lag(&self, id: u64, at_most: u64) -> Option<()> {
        let leader = self.cluster.leader_now().await?;
        let status = self.cluster.node(leader).status().await?;
        let node = status.nodes.iter().find(|node| node.node.as_ref().is_some_and(|node| node.id == id))?;
        (node.lag_entries? <= at_most).then_some(())
    }

    /// The longest time without an acknowledged write of the clients from then until now.
    pub(crate) fn silence_since(&self, since: Duration) -> Duration {
        let now = self.recorder.now();
        let mut moments: Vec<Duration> = self.recorder.look(|history| {
            let acknowledged = history.calls.iter().filter(|call| matches!(call.answer, Answer::Recorded { .. }));
            acknowledged.map(|call| call.ended).filter(|at| *at > since).collect()
        });
        moments.extend([since, now]);
        moments.sort_unstable();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Waits until any one site may burn again.
    ///
    /// # Errors
    /// Never; not within a minute is a broken promise.
    pub async fn redundant_again(&mut self) -> Result<(), DrillError> {
        let since = self.recorder.now();
        let again = within("full redundancy", CAUGHT_UP, || async {
            let look = self.watch.now();
            (look.redundant && look.at >= since).then_some(())
        })
        .await;
        let took = (self.recorder.now() - since).as_secs_f64();
        if again.is_ok() {
            self.note(format!("fully redundant, {took:.1} s later: any one site may burn"));
        }
        let promise = "The cluster is fully redundant again within a minute";
        self.promise("redundant-again", promise, again.map_err(|error| error.to_string()));
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.progress.abort();
    }
}
