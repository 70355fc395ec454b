//! One site: a host, its disk, its clock, and the node that runs there while it runs.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use sillok_chronicle::{Damage, sim::SimDisk};
use sillok_cluster::{Execution, Failure, InitialNode, Node, NodeOptions, Timings, Transport as _, ViewsOptions};
use sillok_server::{Flags, LimitsSection, NodeConfig, serve_clients};
use sillok_wire::v1;

use crate::{clock::SimClock, network::SimNetwork, plan::Plan, planted, trace::Trace};

/// Where peers listen.
pub const PEER_PORT: u16 = 7501;
/// Where clients connect.
pub const CLIENT_PORT: u16 = 7401;
/// The archives, where the founders stand.
pub const PLACES: [&str; 3] = ["chungju", "seongju", "jeonju"];

/// One site.
pub struct Site {
    /// The node's id.
    pub id: u64,
    /// Its label; whoever replaces a node stands where that stood.
    pub place: &'static str,
    disk: RefCell<SimDisk>,
    /// Its wall clock.
    pub clock: SimClock,
    /// The running node.
    pub node: RefCell<Option<Node>>,
    /// How far its views were when they were last looked at: the index, and the head of the chain there.
    pub seen: Cell<Option<(u64, [u8; 32])>>,
    /// Why it stopped by itself.
    pub stopped: RefCell<Option<String>>,
    /// It is meant to run.
    pub is_up: Cell<bool>,
    /// Another node stands in its place: it never runs again.
    pub is_gone: Cell<bool>,
    /// Nobody reaches it for now.
    pub is_paused: Cell<bool>,
    /// It said that its data is at fault and that another start gives the same: it waits to be replaced.
    pub is_beyond_repair: Cell<bool>,
    /// What it met when it ran: repaired before anything else at the next start.
    suspect: RefCell<Option<Damage>>,
    /// What it met and had repaired; met again, the disk is at fault.
    met: RefCell<Vec<Damage>>,
    disk_pause: Arc<AtomicU64>,
    plan: Plan,
}

/// The host's name.
pub fn host(id: u64) -> String {
    format!("n{id}")
}

impl Site {
    /// A site with an empty disk.
    pub fn new(id: u64, place: &'static str, plan: &Plan) -> Rc<Site> {
        let disk_pause = Arc::new(AtomicU64::new(plan.disk.as_micros() as u64));
        Rc::new(Site {
            id,
            place,
            disk: RefCell::new(SimDisk::new(plan.seed.wrapping_mul(31).wrapping_add(id))),
            clock: SimClock::default(),
            node: RefCell::default(),
            seen: Cell::default(),
            stopped: RefCell::default(),
            is_up: Cell::new(true),
            is_gone: Cell::default(),
            is_paused: Cell::default(),
            is_beyond_repair: Cell::default(),
            suspect: RefCell::default(),
            met: RefCell::default(),
            disk_pause,
            plan: plan.clone(),
        })
    }

    /// What outlives the process.
    pub fn disk(&self) -> SimDisk {
        self.disk.borrow().clone()
    }

    /// Nothing outlives anything: an empty disk is put in.
    pub fn erase(&self) {
        *self.disk.borrow_mut() = SimDisk::new(self.plan.seed.wrapping_mul(37).wrapping_add(self.id));
        self.suspect.take();
        self.met.take();
        self.is_beyond_repair.set(false);
    }

    /// Changes a byte of a segment where it lies: of one in which anything is written; false where there is none.
    pub fn rot(&self, random: &mut StdRng) -> bool {
        let disk = self.disk();
        let segments = disk.paths().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "seg"));
        let written = |path: PathBuf| {
            let end = disk.bytes(&path)?.iter().rposition(|byte| *byte != 0)?;
            Some((path, end as u64))
        };
        let written: Vec<_> = segments.filter_map(written).collect();
        let Some((path, end)) = written.choose(random) else { return false };
        disk.flip(path, random.random_range(0..=*end), 1 << random.random_range(0..8))
    }

    /// How it is named in the membership.
    pub fn described(&self) -> v1::Node {
        v1::Node {
            id: self.id,
            site: self.place.to_owned(),
            peer_address: format!("{}:{PEER_PORT}", host(self.id)),
            client_address: format!("{}:{CLIENT_PORT}", host(self.id)),
            ..Default::default()
        }
    }

    /// How long one visit to the disk takes from now on.
    pub fn set_disk_pause(&self, pause: Duration) {
        self.disk_pause.store(pause.as_micros() as u64, Ordering::Relaxed);
    }

    fn options(&self, founders: u64) -> NodeOptions {
        let site = |id: u64| PLACES[id as usize - 1].to_owned();
        let address = |id| format!("{}:{PEER_PORT}", host(id));
        let mut options = NodeOptions::new(self.id, self.place, format!("/site{}", self.id), everywhere(PEER_PORT));
        options.peer_address = address(self.id);
        options.client_address = format!("{}:{CLIENT_PORT}", host(self.id));
        if self.id <= founders {
            let founder = |id| InitialNode {
                id,
                site: site(id),
                peer_address: address(id),
                client_address: format!("{}:{CLIENT_PORT}", host(id)),
            };
            options.initial = (1..=founders).map(founder).collect();
        }
        options.timings = Timings { heartbeat_ms: 50, ..Timings::default() };
        options.segment_bytes = self.plan.segment_bytes;
        options.tail_cache_bytes = self.plan.tail_cache_bytes;
        options.views = ViewsOptions { in_memory: true, ..ViewsOptions::default() };
        options.disk = planted::disk(self.disk().boot());
        options.clock = Arc::new(self.clock.clone());
        let pause = self.disk_pause.clone();
        options.execution = Execution::Tasks(Arc::new(move || Duration::from_micros(pause.load(Ordering::Relaxed))));
        options.transport = Some(Arc::new(SimNetwork));
        options.suspect = self.suspect.take();
        options
    }

    /// The process: it runs until the host is crashed, or says why it stopped and stays down.
    pub async fn live(self: Rc<Site>, founders: u64, trace: Rc<Trace>) -> turmoil::Result {
        let now = || turmoil::sim_elapsed().unwrap_or_default();
        self.stopped.take();
        let why = match Node::start(self.options(founders)).await {
            Ok(node) => {
                trace.say(now(), format!("node {} is up", self.id));
                let failure = self.serve(node).await;
                self.remember(&failure);
                failure.to_string()
            }
            Err(error) => {
                self.is_beyond_repair.set(error.exit_code() == 65);
                error.to_string()
            }
        };
        trace.say(now(), format!("node {} has stopped: {why}", self.id));
        self.node.take();
        *self.stopped.borrow_mut() = Some(why);
        std::future::pending().await
    }

    /// Serves clients until the node must stop.
    async fn serve(&self, node: Node) -> Failure {
        let incoming = SimNetwork.listen(everywhere(CLIENT_PORT)).await.expect("nobody else listens on this host");
        let (serving, limits) = (node.clone(), limits());
        tokio::spawn(async move {
            let served = serve_clients(serving, &limits, incoming).await;
            panic!("the client port is no longer served: {served:?}");
        });
        *self.node.borrow_mut() = Some(node.clone());
        node.failure().await
    }

    /// As the program does: what was met is repaired at the next start, once; anything else that is for good stays.
    fn remember(&self, failure: &Failure) {
        match failure.damage.clone().filter(|damage| !self.met.borrow().contains(damage)) {
            Some(damage) => {
                self.met.borrow_mut().push(damage.clone());
                *self.suspect.borrow_mut() = Some(damage);
            }
            None => self.is_beyond_repair.set(failure.exit_code() == 65),
        }
    }
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// What a node allows its clients where nobody says otherwise.
fn limits() -> LimitsSection {
    let needed = Flags::new().with("node.id", 1).with("node.site", PLACES[0]).with("data_dir", "/site1");
    NodeConfig::load(None, &needed).expect("the defaults are sound").limits
}
