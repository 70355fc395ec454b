//! One run: a cluster forms, faults come while clients work, all faults end, and everything is examined.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use sillok_cluster::Node;

use crate::{
    audit, clients,
    faults::Faults,
    history::History,
    invariants, operator,
    outside::{self, Outside},
    plan::{Plan, stream},
    site::{PLACES, Site, host},
    trace::Trace,
};

/// One tick of the simulation.
const TICK: Duration = Duration::from_millis(1);
/// Nodes that form the cluster.
pub const FOUNDERS: u64 = 3;
/// Simulated time in which a healed cluster must serve again and be examined.
const HEALED_WITHIN: Duration = Duration::from_secs(120);

/// Simulated time in which a node whose disk was harmed is repaired, if it can be.
const REPAIRED_WITHIN: Duration = Duration::from_secs(10);

/// What the hosts and the conductor share.
pub struct Shared {
    /// What the seed means.
    pub plan: Plan,
    /// Nodes that the cluster consists of, as the operator wants it.
    pub members: RefCell<Vec<u64>>,
    /// A replacement under way: whose place, and who takes it.
    pub replacing: Cell<Option<(u64, u64)>>,
    /// The one node whose disk was harmed and that was not replaced since: never two at a time.
    pub harmed: Cell<Option<u64>>,
    /// Nodes that stopped for what no fault explains.
    pub unexplained: RefCell<Vec<String>>,
    /// The sites, by id − 1.
    pub sites: RefCell<Vec<Rc<Site>>>,
    /// Where clients and operators live.
    pub outside: Outside,
    /// What was asked and told.
    pub history: History,
    /// Line by line.
    pub trace: Rc<Trace>,
    /// The clients are to stop.
    pub is_over: Cell<bool>,
    /// Clients that have stopped.
    pub clients_done: Cell<usize>,
    /// The channel is there.
    pub is_open: Cell<bool>,
    /// The last look is done.
    pub is_audited: Cell<bool>,
    elapsed: Cell<Duration>,
}

impl Shared {
    /// Simulated time.
    pub fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or(self.elapsed.get())
    }

    /// Takes a line down.
    pub fn say(&self, line: impl AsRef<str>) {
        self.trace.say(self.now(), line);
    }

    /// Nodes that run and can be reached.
    pub fn up(&self) -> Vec<u64> {
        self.which(|site| site.node.borrow().is_some() && !site.is_paused.get())
    }

    /// Nodes in whose place no other stands, running or not.
    pub fn standing(&self) -> Vec<u64> {
        self.which(|site| !site.is_gone.get())
    }

    /// Nodes that are to be started and are down.
    pub fn down(&self) -> Vec<u64> {
        self.which(|site| !site.is_up.get() && !site.is_gone.get() && !site.is_beyond_repair.get())
    }

    fn which(&self, is: impl Fn(&Site) -> bool) -> Vec<u64> {
        self.sites.borrow().iter().filter(|site| is(site)).map(|site| site.id).collect()
    }

    /// A node, if it runs and can be reached.
    pub fn node(&self, id: u64) -> Option<Node> {
        let sites = self.sites.borrow();
        sites.get(id as usize - 1).filter(|site| !site.is_paused.get())?.node.borrow().clone()
    }

    /// Node `new` stands in the place of node `old`.
    pub fn replaced(&self, old: u64, new: u64) {
        self.say(format!("node {new} stands in the place of node {old}"));
        self.members.borrow_mut().retain(|id| *id != old);
        self.members.borrow_mut().push(new);
        self.site(old).is_gone.set(true);
        self.replacing.set(None);
        if self.harmed.get() == Some(old) {
            self.harmed.set(None);
        }
    }

    /// A site.
    pub fn site(&self, id: u64) -> Rc<Site> {
        self.sites.borrow()[id as usize - 1].clone()
    }
}

/// What a run came to.
pub struct Outcome {
    /// The trace.
    pub trace: Rc<Trace>,
    /// What does not hold.
    pub violations: Vec<String>,
    /// How long it was, in the simulation.
    pub simulated: Duration,
    /// Kinds of faults that came.
    pub faults: Vec<&'static str>,
}

/// The simulation and its conductor.
pub struct World<'a> {
    /// Hosts, links and time.
    pub sim: turmoil::Sim<'a>,
    /// What the hosts see too.
    pub shared: Rc<Shared>,
    ticks: u64,
}

/// Runs one seed.
pub fn run(seed: u64) -> Outcome {
    let plan = Plan::of(seed);
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(plan.latency)
        .tcp_capacity(4_096);
    let mut world = World {
        sim: builder.build(),
        shared: Rc::new(Shared {
            plan: plan.clone(),
            members: RefCell::new((1..=FOUNDERS).collect()),
            replacing: Cell::new(None),
            harmed: Cell::new(None),
            unexplained: RefCell::default(),
            sites: RefCell::default(),
            outside: Outside::default(),
            history: History::default(),
            trace: Rc::new(Trace::new()),
            is_over: Cell::new(false),
            clients_done: Cell::new(0),
            is_open: Cell::new(false),
            is_audited: Cell::new(false),
            elapsed: Cell::default(),
        }),
        ticks: 0,
    };
    world.shared.say(format!("{plan:?}"));
    PLACES.into_iter().for_each(|place| _ = world.add_site(place));
    let mut faults = Faults::new(&plan);
    let violation = world.play(&mut faults).err();
    let mut violations: Vec<String> = violation.into_iter().chain(world.shared.unexplained.take()).collect();
    if violations.is_empty() {
        world.read_disks();
    }
    violations.extend(invariants::check(&world.shared.history));
    let simulated = world.shared.elapsed.get();
    let trace = world.shared.trace.clone();
    // Hosts that end outside of the simulation find neither time nor network there.
    std::mem::forget(world);
    Outcome { trace, violations, simulated, faults: faults.seen() }
}

impl World<'_> {
    /// One more site, whose host starts at once.
    pub fn add_site(&mut self, place: &'static str) -> u64 {
        let id = self.shared.sites.borrow().len() as u64 + 1;
        let site = Site::new(id, place, &self.shared.plan);
        self.shared.sites.borrow_mut().push(site.clone());
        let trace = self.shared.trace.clone();
        self.sim.host(host(id), move || site.clone().live(FOUNDERS, trace.clone()));
        id
    }

    /// Time goes on by one tick.
    pub fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("a host failed: {error}"))?;
        self.ticks += 1;
        self.shared.elapsed.set(self.sim.elapsed());
        self.observe();
        // A process that stopped by itself is started again by its supervisor, unless its data is at fault for good.
        for id in self.shared.which(|site| site.stopped.borrow().is_some()) {
            self.explain(id);
            self.kill(id);
        }
        for id in self.shared.which(|site| site.is_gone.get() && site.is_up.get()) {
            self.kill(id);
        }
        for id in self.shared.which(|site| site.is_beyond_repair.get()) {
            self.replace(id);
        }
        Ok(())
    }

    /// Data is at fault for good only where a disk was harmed.
    fn explain(&self, id: u64) {
        let site = self.shared.site(id);
        if site.is_beyond_repair.get() && self.shared.harmed.get() != Some(id) {
            let why = site.stopped.borrow().clone().unwrap_or_default();
            self.shared.unexplained.borrow_mut().push(format!("unharmed: node {id} stopped for good: {why}"));
        }
    }

    /// A blank node is to stand in the place of node `old`, unless one does, or is about to.
    pub fn replace(&mut self, old: u64) {
        if self.shared.site(old).is_gone.get() || self.shared.replacing.get().is_some() {
            return;
        }
        let new = self.add_site(self.shared.site(old).place);
        self.shared.say(format!("the operator replaces node {old} by node {new}"));
        self.shared.replacing.set(Some((old, new)));
        let shared = self.shared.clone();
        self.shared.outside.begin(async move || operator::replace(shared, old, new).await);
    }

    fn observe(&self) {
        for site in self.shared.sites.borrow().iter() {
            let Some(applied) = site.node.borrow().as_ref().and_then(|node| node.views().applied()) else { continue };
            let now = Some((applied.index, applied.head));
            if site.seen.replace(now) == now {
                continue;
            }
            let mut heads = self.shared.history.heads.borrow_mut();
            let is_first = heads.entry(applied.index).or_default().entry(applied.head).or_default().insert(site.id);
            if is_first {
                let line = format!("node {} has {} of term {}", site.id, applied.index, applied.term);
                drop(heads);
                self.shared.say(line);
            }
        }
    }

    /// The process ends at once.
    pub fn kill(&mut self, id: u64) {
        let site = self.shared.site(id);
        site.disk().kill();
        self.end(&site);
    }

    /// The machine ends at once, and what it had not synced may be gone.
    pub fn cut_power(&mut self, id: u64) {
        let site = self.shared.site(id);
        site.disk().power_cut();
        self.end(&site);
    }

    fn end(&mut self, site: &Site) {
        site.node.take();
        site.stopped.take();
        site.is_up.set(false);
        self.sim.crash(host(site.id));
    }

    /// Starts what is down.
    pub fn start(&mut self, id: u64) {
        let site = self.shared.site(id);
        if !site.is_gone.get() && !site.is_beyond_repair.get() && !site.is_up.replace(true) {
            self.sim.bounce(host(id));
        }
    }

    /// Time goes on until something holds.
    fn until(&mut self, what: &str, within: Duration, holds: impl Fn(&Shared) -> bool) -> Result<(), String> {
        let end = self.shared.elapsed.get() + within;
        while !holds(&self.shared) {
            self.step()?;
            self.shared.down().into_iter().for_each(|id| self.start(id));
            if self.shared.elapsed.get() > end {
                return Err(format!("converges: within {within:?} it did not come to this: {what}"));
            }
        }
        Ok(())
    }

    fn play(&mut self, faults: &mut Faults) -> Result<(), String> {
        let shared = self.shared.clone();
        self.sim.host(outside::HOST, shared.outside.live());
        shared.outside.begin({
            let shared = shared.clone();
            async move || {
                let mut random = stream(shared.plan.seed, "opener");
                let ways = clients::Ways::to(shared.members.borrow().clone(), 0);
                clients::insist(&shared, &ways, "open", clients::open(), usize::MAX, &mut random).await;
                shared.is_open.set(true);
            }
        });
        self.until("the channel is open", Duration::from_secs(60), |shared| shared.is_open.get())?;

        for number in 0..self.shared.plan.clients {
            let shared = self.shared.clone();
            self.shared.outside.begin(async move || clients::client(shared, number).await);
        }
        let end = self.shared.elapsed.get() + self.shared.plan.faults_for;
        while self.shared.elapsed.get() < end {
            faults.come_and_go(self);
            self.step()?;
        }

        self.shared.say("all faults end");
        faults.end_all(self);
        self.shared.is_over.set(true);
        let clients = self.shared.plan.clients;
        self.until("the clients have stopped", HEALED_WITHIN, |shared| shared.clients_done.get() == clients)?;
        self.until("nobody is being replaced", HEALED_WITHIN, |shared| shared.replacing.get().is_none())?;
        self.replace_what_does_not_come_back()?;
        let shared = self.shared.clone();
        self.shared.outside.begin(async move || audit::audit(shared).await);
        self.until("everything is examined", HEALED_WITHIN, |shared| shared.is_audited.get())?;
        let same = |shared: &Shared| {
            let members = shared.members.borrow();
            let at = |id: &u64| shared.node(*id)?.views().applied().map(|applied| applied.index);
            let first = members.first().and_then(at);
            first.is_some() && members.iter().all(|id| at(id) == first)
        };
        self.until("all nodes have the same", HEALED_WITHIN, same)
    }

    /// A harmed node may wait for ever for a peer that is no more: a person sees that, and replaces it.
    fn replace_what_does_not_come_back(&mut self) -> Result<(), String> {
        let Some(harmed) = self.shared.harmed.get() else { return Ok(()) };
        let is_there = |shared: &Shared| shared.harmed.get().is_none_or(|id| shared.up().contains(&id));
        if self.until("the harmed node is there", REPAIRED_WITHIN, is_there).is_err() {
            self.replace(harmed);
        }
        self.until("nobody is being replaced", HEALED_WITHIN, |shared| shared.replacing.get().is_none())
    }

    /// What stands on the disks, once nothing runs any more.
    fn read_disks(&self) {
        use sillok_chronicle::{Chronicle, Options, Workers};
        for site in self.shared.sites.borrow().iter() {
            let dir = format!("/site{}/chronicle", site.id);
            let copy = site.disk().fork(0);
            let mut options = Options::new(dir);
            options.disk = copy.boot();
            options.segment_bytes = self.shared.plan.segment_bytes;
            options.workers = Workers::Opener(std::sync::Arc::new(|| {}));
            let Ok(chronicle) = Chronicle::open(options) else { continue };
            let end = chronicle.committed().map_or(0, |committed| committed.index + 1);
            let entries = chronicle.read(0, end, usize::MAX).unwrap_or_default();
            self.shared.history.entries.borrow_mut().insert(site.id, entries);
        }
    }
}
