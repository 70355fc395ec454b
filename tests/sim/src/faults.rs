//! What goes wrong: drawn by the seed, one after another and several at once.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use sillok_chronicle::sim::Operation;

use crate::{
    outside,
    plan::{Plan, stream},
    site::{PLACES, host},
    world::World,
};

/// Every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The process ends and starts again.
    Crash,
    /// The machine loses power: its unsynced tail may be gone, sector by sector.
    PowerCut,
    /// Power fails in the midst of a write or sync soon to come.
    TornWrite,
    /// The process ends between a write and its sync; the machine loses power after it has started again.
    UnsyncedTail,
    /// Every site loses power at once.
    Blackout,
    /// Nobody is heard from one site, nor does it hear anybody.
    Partition,
    /// One site is heard, and hears nobody; or the other way round.
    OneWay,
    /// Two sites do not hear each other, and both hear the third.
    Partial,
    /// A link holds everything back and lets it go later.
    Hold,
    /// Messages are lost on every link now and then.
    Loss,
    /// Messages of one link take long.
    Delay,
    /// A disk takes very long.
    SlowDisk,
    /// A write fails.
    WriteError,
    /// A sync fails.
    SyncError,
    /// A read fails.
    ReadError,
    /// A disk is full.
    FullDisk,
    /// A clock is wrong, either way, and jumps back in the end.
    Clock,
    /// A byte of a segment changes where it lies, of a node that is down or runs on.
    BitRot,
    /// A site burns, and a blank node takes its place.
    Fire,
    /// A disk is exchanged for an empty one and the node starts under its old id, until another takes its place.
    Blank,
    /// A node that is well is replaced by another, while everything goes on.
    Membership,
    /// No client reaches a site, or hears from it; the other sites do.
    Unreachable,
    /// A process stands still as seen from outside: nothing reaches it or its disk, or leaves it.
    Pause,
}

/// All of them.
pub const KINDS: [Kind; 23] = [
    Kind::Crash,
    Kind::PowerCut,
    Kind::TornWrite,
    Kind::UnsyncedTail,
    Kind::Blackout,
    Kind::Partition,
    Kind::OneWay,
    Kind::Partial,
    Kind::Hold,
    Kind::Loss,
    Kind::Delay,
    Kind::SlowDisk,
    Kind::WriteError,
    Kind::SyncError,
    Kind::ReadError,
    Kind::FullDisk,
    Kind::Clock,
    Kind::BitRot,
    Kind::Fire,
    Kind::Blank,
    Kind::Membership,
    Kind::Unreachable,
    Kind::Pause,
];
/// Replacements in one run, at most.
const REPLACEMENTS: usize = 2;

impl Kind {
    /// Its name in the docs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Crash => "crash",
            Kind::PowerCut => "power cut",
            Kind::TornWrite => "torn write",
            Kind::UnsyncedTail => "unsynced tail",
            Kind::Blackout => "power cut of all sites",
            Kind::Partition => "partition",
            Kind::OneWay => "one-way partition",
            Kind::Partial => "partial partition",
            Kind::Hold => "clogged link",
            Kind::Loss => "message loss",
            Kind::Delay => "delay",
            Kind::SlowDisk => "slow disk",
            Kind::WriteError => "write error",
            Kind::SyncError => "sync error",
            Kind::ReadError => "read error",
            Kind::FullDisk => "full disk",
            Kind::Clock => "clock jump",
            Kind::BitRot => "bit rot",
            Kind::Fire => "blank replacement",
            Kind::Blank => "blank disk under its old id",
            Kind::Membership => "membership change",
            Kind::Unreachable => "unreachable for clients",
            Kind::Pause => "pause",
        }
    }
}

/// Names the kinds that may come, divided by commas; all where it names none.
pub const FAULTS: &str = "SILLOK_SIM_FAULTS";

fn drawn() -> Vec<Kind> {
    let names = std::env::var(FAULTS).unwrap_or_default();
    let named: Vec<Kind> =
        KINDS.into_iter().filter(|kind| names.split(',').any(|name| name.trim() == kind.name())).collect();
    if named.is_empty() { KINDS.to_vec() } else { named }
}

/// A fault that is there now.
struct Present {
    kind: Kind,
    site: u64,
    other: u64,
    until: Duration,
}

/// Draws faults and ends them.
pub struct Faults {
    random: StdRng,
    every: Duration,
    lasts: Duration,
    next: Duration,
    present: Vec<Present>,
    seen: Vec<&'static str>,
    kinds: Vec<Kind>,
}

impl Faults {
    /// Those of a plan.
    pub fn new(plan: &Plan) -> Faults {
        let random = stream(plan.seed, "faults");
        Faults {
            random,
            every: plan.fault_every,
            lasts: plan.fault_lasts,
            next: Duration::ZERO,
            present: Vec::new(),
            seen: Vec::new(),
            kinds: drawn(),
        }
    }

    /// Kinds that came, each once.
    pub fn seen(&self) -> Vec<&'static str> {
        let mut seen = self.seen.clone();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Ends what is over and begins what is due.
    pub fn come_and_go(&mut self, world: &mut World<'_>) {
        let now = world.shared.now();
        while let Some(at) = self.present.iter().position(|fault| fault.until <= now) {
            let fault = self.present.remove(at);
            self.end(&fault, world);
        }
        // What stopped by itself, or was torn down by a fault that has no end of its own.
        for id in world.shared.down() {
            if !self.present.iter().any(|fault| fault.site == id || fault.kind == Kind::Blackout) {
                let until = now + self.draw_length();
                self.present.push(Present { kind: Kind::Crash, site: id, other: id, until });
            }
        }
        if now >= self.next {
            self.next = now + self.every.mul_f64(self.random.random_range(0.2..1.0));
            let kind = *self.kinds.choose(&mut self.random).unwrap();
            self.begin(kind, world);
        }
    }

    fn draw_length(&mut self) -> Duration {
        self.lasts.mul_f64(self.random.random_range(0.05..1.0))
    }

    fn begin(&mut self, kind: Kind, world: &mut World<'_>) {
        let standing = world.shared.standing();
        let at = self.random.random_range(0..standing.len());
        let (site, other) = (standing[at], standing[(at + 1) % standing.len()]);
        let until = world.shared.now() + self.draw_length();
        if !may_come(kind, site, world) {
            return;
        }
        let disk = world.shared.site(site).disk();
        world.shared.say(format!("fault: {} at {site}, until {:.3}", kind.name(), until.as_secs_f64()));
        self.seen.push(kind.name());
        let sim = &mut world.sim;
        let others: Vec<String> = standing.iter().filter(|id| **id != site).map(|id| host(*id)).collect();
        match kind {
            Kind::Crash => world.kill(site),
            Kind::PowerCut => world.cut_power(site),
            Kind::TornWrite => disk.cut_power_after(self.random.random_range(0..6)),
            Kind::UnsyncedTail => disk.cut_power_after(self.random.random_range(0..6)),
            Kind::Blackout => standing.into_iter().for_each(|id| world.cut_power(id)),
            Kind::Partition => others.iter().for_each(|other| sim.partition(host(site), other.as_str())),
            Kind::OneWay if self.random.random_bool(0.5) => {
                others.iter().for_each(|other| sim.partition_oneway(host(site), other.as_str()));
            }
            Kind::OneWay => others.iter().for_each(|other| sim.partition_oneway(other.as_str(), host(site))),
            Kind::Partial => sim.partition(host(site), host(other)),
            Kind::Hold => sim.hold(host(site), host(other)),
            Kind::Loss => sim.set_fail_rate(self.random.random_range(0.001..0.02)),
            Kind::Delay => {
                let slow = Duration::from_millis(self.random.random_range(30..400));
                sim.set_link_max_message_latency(host(site), host(other), slow);
            }
            Kind::SlowDisk => {
                let pause = Duration::from_millis(self.random.random_range(20..1_500));
                world.shared.site(site).set_disk_pause(pause);
            }
            Kind::WriteError => disk.fail(Operation::Write, "", self.random.random_range(0..4)),
            Kind::SyncError => disk.fail(Operation::Sync, "", self.random.random_range(0..4)),
            Kind::ReadError => disk.fail(Operation::Read, "", 0),
            Kind::FullDisk => disk.set_capacity(Some(0)),
            Kind::Clock => {
                let error = self.random.random_range(-20_000..20_000);
                world.shared.site(site).clock.set_error_millis(error);
            }
            Kind::BitRot => {
                let before = world.shared.harmed.replace(Some(site));
                if self.random.random_bool(0.7) {
                    world.kill(site);
                }
                // A blank node that has not taken in anything yet has nothing that could rot.
                if !world.shared.site(site).rot(&mut self.random) {
                    world.shared.harmed.set(before);
                }
            }
            Kind::Fire | Kind::Blank => {
                world.shared.harmed.set(Some(site));
                world.kill(site);
                world.shared.site(site).erase();
                if kind == Kind::Blank {
                    world.start(site);
                } else {
                    // It stays dark, and is replaced at once.
                    world.shared.site(site).is_beyond_repair.set(true);
                }
            }
            Kind::Membership => world.replace(site),
            Kind::Unreachable => sim.partition(host(site), outside::HOST),
            Kind::Pause => {
                others.iter().for_each(|other| sim.hold(host(site), other.as_str()));
                sim.hold(host(site), outside::HOST);
                let paused = world.shared.site(site);
                paused.is_paused.set(true);
                paused.set_disk_pause(until.saturating_sub(world.shared.now()));
            }
        }
        self.present.push(Present { kind, site, other, until });
    }

    fn end(&mut self, fault: &Present, world: &mut World<'_>) {
        let Present { kind, site, other, .. } = *fault;
        world.shared.say(format!("over: {} at {site}", kind.name()));
        let sim = &mut world.sim;
        let standing = world.shared.standing();
        let others: Vec<String> = standing.iter().filter(|id| **id != site).map(|id| host(*id)).collect();
        match kind {
            Kind::Crash | Kind::PowerCut | Kind::BitRot => world.start(site),
            Kind::Blackout => standing.into_iter().for_each(|id| world.start(id)),
            // What was cut in its midst: what survives is decided now.
            Kind::TornWrite => {
                world.cut_power(site);
                world.start(site);
            }
            // The process has ended and its pages are still readable; the power cut that takes them comes later.
            Kind::UnsyncedTail => {
                world.kill(site);
                world.start(site);
                let until = world.shared.now() + Duration::from_millis(self.random.random_range(50..800));
                self.present.push(Present { kind: Kind::TornWrite, site, other, until });
            }
            Kind::Partition => others.iter().for_each(|other| sim.repair(host(site), other.as_str())),
            Kind::OneWay => others.iter().for_each(|other| {
                sim.repair_oneway(host(site), other.as_str());
                sim.repair_oneway(other.as_str(), host(site));
            }),
            Kind::Partial => sim.repair(host(site), host(other)),
            Kind::Hold => sim.release(host(site), host(other)),
            Kind::Loss => sim.set_fail_rate(0.0),
            Kind::Delay => {
                let latency = world.shared.plan.latency;
                sim.set_link_max_message_latency(host(site), host(other), latency);
            }
            Kind::SlowDisk => {
                let pause = world.shared.plan.disk;
                world.shared.site(site).set_disk_pause(pause);
            }
            Kind::ReadError | Kind::WriteError | Kind::SyncError => {
                // One that never came is taken away with the process.
                world.kill(site);
                world.start(site);
            }
            Kind::FullDisk => {
                world.shared.site(site).disk().set_capacity(None);
                world.start(site);
            }
            Kind::Clock => world.shared.site(site).clock.set_error_millis(0),
            Kind::Blank => world.replace(site),
            Kind::Fire | Kind::Membership => {}
            Kind::Unreachable => sim.repair(host(site), outside::HOST),
            Kind::Pause => {
                others.iter().for_each(|other| sim.release(host(site), other.as_str()));
                sim.release(host(site), outside::HOST);
                let site = world.shared.site(site);
                site.is_paused.set(false);
                site.set_disk_pause(world.shared.plan.disk);
            }
        }
    }

    /// Nothing is wrong any more.
    pub fn end_all(&mut self, world: &mut World<'_>) {
        while let Some(fault) = self.present.pop() {
            self.end(&fault, world);
        }
        let standing = world.shared.standing();
        for (n, &a) in standing.iter().enumerate() {
            world.start(a);
            world.sim.repair(host(a), outside::HOST);
            world.sim.release(host(a), outside::HOST);
            for &b in &standing[n + 1..] {
                world.sim.repair(host(a), host(b));
                world.sim.release(host(a), host(b));
            }
        }
    }
}

/// No more than a cluster of three can stand: only one disk is ever harmed until its node is replaced, and nobody is replaced
/// while another is, nor anybody but whose disk is harmed.
fn may_come(kind: Kind, site: u64, world: &World<'_>) -> bool {
    let shared = &world.shared;
    let is_free = shared.replacing.get().is_none() && shared.harmed.get().is_none_or(|harmed| harmed == site);
    match kind {
        Kind::BitRot => is_free && shared.site(site).node.borrow().is_some(),
        Kind::Fire | Kind::Blank | Kind::Membership => {
            is_free && shared.sites.borrow().len() < PLACES.len() + REPLACEMENTS
        }
        _ => true,
    }
}
