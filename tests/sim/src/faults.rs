//! What goes wrong: drawn by the seed, one after another and several at once.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use sillok_chronicle::sim::Operation;

use crate::{
    plan::{Plan, stream},
    site::host,
    world::{FOUNDERS, World},
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
}

/// All of them.
pub const KINDS: [Kind; 17] = [
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
];

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
        }
    }
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
        let down: Vec<u64> = (1..=FOUNDERS).filter(|id| !world.shared.site(*id).is_up.get()).collect();
        for id in down {
            if !self.present.iter().any(|fault| fault.site == id || fault.kind == Kind::Blackout) {
                let until = now + self.draw_length();
                self.present.push(Present { kind: Kind::Crash, site: id, other: id, until });
            }
        }
        if now >= self.next {
            self.next = now + self.every.mul_f64(self.random.random_range(0.2..1.0));
            let kind = *KINDS.choose(&mut self.random).unwrap();
            self.begin(kind, world);
        }
    }

    fn draw_length(&mut self) -> Duration {
        self.lasts.mul_f64(self.random.random_range(0.05..1.0))
    }

    fn begin(&mut self, kind: Kind, world: &mut World<'_>) {
        let site = self.random.random_range(1..=FOUNDERS);
        let other = site % FOUNDERS + 1;
        let until = world.shared.now() + self.draw_length();
        let disk = world.shared.site(site).disk.clone();
        world.shared.say(format!("fault: {} at {site}, until {:.3}", kind.name(), until.as_secs_f64()));
        self.seen.push(kind.name());
        let sim = &mut world.sim;
        let others: Vec<String> = (1..=FOUNDERS).filter(|id| *id != site).map(host).collect();
        match kind {
            Kind::Crash => world.kill(site),
            Kind::PowerCut => world.cut_power(site),
            Kind::TornWrite => disk.cut_power_after(self.random.random_range(0..6)),
            Kind::UnsyncedTail => disk.cut_power_after(self.random.random_range(0..6)),
            Kind::Blackout => (1..=FOUNDERS).for_each(|id| world.cut_power(id)),
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
        }
        self.present.push(Present { kind, site, other, until });
    }

    fn end(&mut self, fault: &Present, world: &mut World<'_>) {
        let Present { kind, site, other, .. } = *fault;
        world.shared.say(format!("over: {} at {site}", kind.name()));
        let sim = &mut world.sim;
        let others: Vec<String> = (1..=FOUNDERS).filter(|id| *id != site).map(host).collect();
        match kind {
            Kind::Crash | Kind::PowerCut => world.start(site),
            Kind::Blackout => (1..=FOUNDERS).for_each(|id| world.start(id)),
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
                world.shared.site(site).disk.set_capacity(None);
                world.start(site);
            }
            Kind::Clock => world.shared.site(site).clock.set_error_millis(0),
        }
    }

    /// Nothing is wrong any more.
    pub fn end_all(&mut self, world: &mut World<'_>) {
        while let Some(fault) = self.present.pop() {
            self.end(&fault, world);
        }
        (1..=FOUNDERS).for_each(|id| world.start(id));
        for a in 1..=FOUNDERS {
            for b in a + 1..=FOUNDERS {
                world.sim.repair(host(a), host(b));
                world.sim.release(host(a), host(b));
            }
        }
    }
}
