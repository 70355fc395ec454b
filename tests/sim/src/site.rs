//! One site: a host, its disk, its clock, and the node that runs there while it runs.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sillok_chronicle::sim::SimDisk;
use sillok_cluster::{Execution, InitialNode, Node, NodeOptions, Timings, ViewsOptions};

use crate::{clock::SimClock, network::SimNetwork, plan::Plan, planted, trace::Trace};

/// Where peers listen.
pub const PEER_PORT: u16 = 7501;
/// The archives, and two in reserve for replacements.
pub const SITES: [&str; 5] = ["chungju", "seongju", "jeonju", "jeonju", "chungju"];

/// One site.
pub struct Site {
    /// The node's id.
    pub id: u64,
    /// What outlives the process.
    pub disk: SimDisk,
    /// Its wall clock.
    pub clock: SimClock,
    /// The running node.
    pub node: RefCell<Option<Node>>,
    /// Why it stopped by itself.
    pub stopped: RefCell<Option<String>>,
    /// It is meant to run.
    pub is_up: Cell<bool>,
    disk_pause: Arc<AtomicU64>,
    plan: Plan,
}

/// The host's name.
pub fn host(id: u64) -> String {
    format!("n{id}")
}

impl Site {
    /// A site with an empty disk.
    pub fn new(id: u64, plan: &Plan) -> Rc<Site> {
        let disk_pause = Arc::new(AtomicU64::new(plan.disk.as_micros() as u64));
        Rc::new(Site {
            id,
            disk: SimDisk::new(plan.seed.wrapping_mul(31).wrapping_add(id)),
            clock: SimClock::default(),
            node: RefCell::default(),
            stopped: RefCell::default(),
            is_up: Cell::new(true),
            disk_pause,
            plan: plan.clone(),
        })
    }

    /// How long one visit to the disk takes from now on.
    pub fn set_disk_pause(&self, pause: Duration) {
        self.disk_pause.store(pause.as_micros() as u64, Ordering::Relaxed);
    }

    fn options(&self, founders: u64) -> NodeOptions {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PEER_PORT);
        let site = |id: u64| SITES[id as usize - 1].to_owned();
        let address = |id| format!("{}:{PEER_PORT}", host(id));
        let mut options = NodeOptions::new(self.id, site(self.id), format!("/site{}", self.id), listen);
        options.peer_address = address(self.id);
        options.client_address = format!("{}:7401", host(self.id));
        if self.id <= founders {
            let founder = |id| InitialNode {
                id,
                site: site(id),
                peer_address: address(id),
                client_address: format!("{}:7401", host(id)),
            };
            options.initial = (1..=founders).map(founder).collect();
        }
        options.timings = Timings { heartbeat_ms: 50, ..Timings::default() };
        options.segment_bytes = self.plan.segment_bytes;
        options.tail_cache_bytes = self.plan.tail_cache_bytes;
        options.views = ViewsOptions { in_memory: true, ..ViewsOptions::default() };
        options.disk = planted::disk(self.disk.boot());
        options.clock = Arc::new(self.clock.clone());
        let pause = self.disk_pause.clone();
        options.execution = Execution::Tasks(Arc::new(move || Duration::from_micros(pause.load(Ordering::Relaxed))));
        options.transport = Some(Arc::new(SimNetwork));
        options
    }

    /// The process: it runs until the host is crashed, or says why it stopped and stays down.
    pub async fn live(self: Rc<Site>, founders: u64, trace: Rc<Trace>) -> turmoil::Result {
        let now = || turmoil::sim_elapsed().unwrap_or_default();
        self.stopped.take();
        let why = match Node::start(self.options(founders)).await {
            Ok(node) => {
                trace.say(now(), format!("node {} is up", self.id));
                let failure = node.failure();
                *self.node.borrow_mut() = Some(node);
                failure.await.to_string()
            }
            Err(error) => error.to_string(),
        };
        trace.say(now(), format!("node {} has stopped: {why}", self.id));
        self.node.take();
        *self.stopped.borrow_mut() = Some(why);
        std::future::pending().await
    }
}
