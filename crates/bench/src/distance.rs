//! Distance: sites that are far from each other, by links that give every byte on late.
//!
//! The load stands beside the leader, as a platform stands beside one of its data centres; what is far are the other sites. The
//! links are proxies within the load's process, at no distance too, so that all figures carry the same burden.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use sillok_drill::{Cluster, link::Way};

use crate::{
    BenchError, Event, Figure, How, Run, Screen, Target, Work,
    load::{self, Via},
    nodes,
};

/// How far, and which loads.
#[derive(Debug, Clone)]
pub struct Distance {
    /// Round trips between any two sites, in milliseconds, ascending; the first is what the others are compared with.
    pub round_trips_ms: Vec<u64>,
    /// Round trip to one site, in milliseconds, while the other two are as near as the first of `round_trips_ms`.
    pub one_site_ms: Option<u64>,
    /// Calls in flight, one run for each.
    pub in_flight: Vec<usize>,
    /// How long each is measured.
    pub window: Duration,
}

const EVENT_BYTES: usize = 200;
const SUBMIT_IN_FLIGHT: usize = 8_192;
const SUBMIT_CONNECTIONS: usize = 4;

/// How far the sites are from each other.
#[derive(Debug, Clone, Copy)]
struct Ways {
    all_ms: u64,
    one_ms: Option<u64>,
}

/// Every load at every distance.
///
/// # Errors
/// Only on a cluster of the bench's own, with links; a command without a receipt; a node that ended.
pub async fn run(target: &mut Target, distance: &Distance, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    target.cluster("distance")?;
    let work = Work::new(Event::Push, EVENT_BYTES, 8, 1000);
    let mut recorded = work.prepare(&target.client()?).await?;
    let near = distance.round_trips_ms.first().copied().unwrap_or(0);
    let alike = distance.round_trips_ms.iter().map(|&all_ms| Ways { all_ms, one_ms: None });
    let one_far = distance.one_site_ms.map(|one_ms| Ways { all_ms: near, one_ms: Some(one_ms) });
    let mut runs = Vec::new();
    for ways in alike.chain(one_far) {
        lay(target.cluster("distance")?, ways).await?;
        screen.note(&ways.describe());
        for how in loads(distance) {
            let measured = load::run(target, &work, &how, screen).await?;
            recorded += measured.answered;
            runs.push(describe(Run::of("distance", title(&how, ways), measured), &how, ways));
        }
    }
    compare(&mut runs);
    target.holds(&work, recorded).await?;
    Ok(runs)
}

impl Ways {
    fn describe(self) -> String {
        match self.one_ms {
            Some(one) => format!("one site is {one} ms away, and the others {} ms from each other", self.all_ms),
            None => format!("every site is {} ms from the others", self.all_ms),
        }
    }
}

/// Makes the links so long; half of a round trip each way.
async fn lay(cluster: &mut Cluster, ways: Ways) -> Result<(), BenchError> {
    let far = nodes::follower(cluster).await?;
    let ids = cluster.ids();
    let mesh = cluster.mesh().ok_or(BenchError::NeedsOwn("distance"))?;
    for &from in &ids {
        for &to in ids.iter().filter(|to| **to != from) {
            let round_trip = ways.one_ms.filter(|_| from == far || to == far).unwrap_or(ways.all_ms);
            mesh.slow(from, to, Way { delay: Duration::from_millis(round_trip) / 2, ..Way::default() });
        }
    }
    cluster.leader().await?;
    Ok(())
}

fn loads(distance: &Distance) -> Vec<How> {
    let how = |via, in_flight, connections| How {
        via,
        in_flight,
        connections,
        rate: None,
        warm_up: distance.window / 2,
        window: distance.window.into(),
    };
    let mut loads: Vec<How> = distance.in_flight.iter().map(|&in_flight| how(Via::Calls, in_flight, 1)).collect();
    loads.push(how(Via::Submit, SUBMIT_IN_FLIGHT, SUBMIT_CONNECTIONS));
    loads
}

fn title(how: &How, ways: Ways) -> String {
    let load = format!("{}, {} in flight", how.via.name(), how.in_flight);
    match ways.one_ms {
        Some(one) => format!("{load}, one site at {one} ms"),
        None => format!("{load}, {} ms", ways.all_ms),
    }
}

fn describe(run: Run, how: &How, ways: Ways) -> Run {
    let run = run
        .asked("mode", how.via.name())
        .asked("loop", "closed")
        .asked("in_flight", how.in_flight)
        .asked("connections", how.connections)
        .asked("round_trip_ms", ways.all_ms);
    match ways.one_ms {
        Some(one) => run.asked("one_site_ms", one),
        None => run,
    }
}

/// Each beside the same load at the first distance.
fn compare(runs: &mut [Run]) {
    let load = |run: &Run| (run.asked["mode"].to_string(), run.asked["in_flight"].to_string());
    let mut first = BTreeMap::new();
    for run in runs {
        let Some(rate) = run.pace.as_ref().map(|pace| pace.events_per_second) else { continue };
        let near: f64 = *first.entry(load(run)).or_insert(rate);
        let share = rate / near.max(1e-9);
        run.asked.insert("share_of_first", Value::from(share));
        run.figures.push(Figure::new("of what is recorded at the first distance", share * 100.0, "%"));
    }
}
