//! Overload: what becomes of a cluster that is asked for more than it can record.
//!
//! First as much as the cluster takes is measured in a closed loop; then multiples of it are due in an open one, and whatever is
//! refused is not tried again. Half a second's worth may wait at the leader at most, the rest must be refused at once with `RetryInfo`,
//! and what is recorded a second must stay what it was.
//!
//! Commands go out in batches, each a `Submit` stream of its own, as a service sends that gathers what it has; or one by one, as
//! calls ([`Overload::batch`] of 1). Everything shares one machine, so what a refusal costs both sides is taken from the cluster:
//! a call is some thirty microseconds of HTTP/2 on either side however it is answered, and only batches leave the cluster its
//! processors. Bytes are encoded once, and those that were refused are sent again, which their retry keys allow.

mod generator;

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use self::generator::{Generator, Met};
use crate::{
    BenchError, Event, Figure, How, Run, Screen, Target, Work,
    load::{self, Via},
};

/// What is asked for, and how often.
#[derive(Debug, Clone)]
pub struct Overload {
    /// Multiples of what the cluster takes, ascending; each above 0.
    pub factors: Vec<f64>,
    /// Commands that go out together; at least 1.
    pub batch: usize,
    /// Connections that batches share; at least 1.
    pub connections: usize,
    /// How long each is measured.
    pub window: Duration,
}

/// Unanswered commands that find out what the cluster takes: enough for large records, and far from half a second.
const CLOSED_COMMANDS: usize = 8_192;
/// And calls, each of which costs much more.
const CLOSED_CALLS: usize = 256;
const EVENT_BYTES: usize = 200;

/// What the cluster takes, and then each multiple of it.
///
/// # Errors
/// A batch that is refused for another reason or without `RetryInfo`; a batch that was refused and
/// is recorded all the same; a node that ended.
pub async fn run(target: &mut Target, overload: &Overload, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    screen.progress("making the channels");
    let work = Work::new(Event::Push, EVENT_BYTES, 8, 1000);
    let mut recorded = work.prepare(&target.client()?).await?;
    let generator = Generator::new(target, &work, overload).await?;
    let mut runs = Vec::new();
    let closed = one(target, overload, &generator, None, screen).await?;
    recorded += closed.answered;
    let takes = closed.run.pace.as_ref().map_or(0.0, |pace| pace.events_per_second);
    if takes <= 0.0 {
        return Err(BenchError::Wrong("the cluster recorded nothing in a closed loop".to_owned()));
    }
    runs.push(closed.run);
    for &factor in &overload.factors {
        let measured = one(target, overload, &generator, Some((factor, takes)), screen).await?;
        recorded += measured.answered;
        runs.push(measured.run);
    }
    compare(&mut runs);
    target.holds_within(&work, recorded..=recorded + generator.in_doubt()).await?;
    Ok(runs)
}

/// One load, and how much of it is recorded for good.
struct Measured {
    run: Run,
    answered: u64,
}

async fn one(
    target: &mut Target,
    overload: &Overload,
    generator: &Arc<Generator>,
    asked: Option<(f64, f64)>,
    screen: &dyn Screen,
) -> Result<Measured, BenchError> {
    let batch = overload.batch;
    let at_once = if batch == 1 { CLOSED_CALLS } else { (CLOSED_COMMANDS / batch).max(1) };
    let rate = asked.map(|(factor, takes)| factor * takes / batch as f64);
    let how = How {
        via: if batch == 1 { Via::Unary } else { Via::Submit },
        in_flight: at_once,
        connections: overload.connections,
        rate,
        // Until what may wait does, and the cluster knows its pace.
        warm_up: overload.window / 2,
        window: overload.window.into(),
    };
    let met = Arc::new(Met::default());
    let measured = load::drive(target, &how, screen, |tasks, shared| {
        let (generator, met, shared) = (Arc::clone(generator), Arc::clone(&met), Arc::clone(shared));
        match rate {
            Some(_) => drop(tasks.spawn(generator::due(generator, shared, met))),
            None => (0..at_once).for_each(|lane| {
                let (generator, shared, met) = (Arc::clone(&generator), Arc::clone(&shared), Arc::clone(&met));
                tasks.spawn(generator::one_after_the_other(generator, lane, shared, met));
            }),
        }
    })
    .await?;
    let answered = measured.answered;
    let seconds = measured.window.as_secs_f64();
    let title = match asked {
        Some((factor, _)) => format!("{factor} times what it takes"),
        None => "what it takes, closed loop".to_owned(),
    };
    let run = Run::of("overload", title, measured)
        .asked("mode", how.via.name())
        .asked("loop", if rate.is_some() { "open" } else { "closed" })
        .asked("batch", batch)
        .asked("connections", overload.connections);
    let run = match asked {
        Some((factor, takes)) => met.describe(run.asked("factor", factor), factor * takes, batch, seconds),
        None => run,
    };
    Ok(Measured { run, answered })
}

/// Each beside the best of them.
fn compare(runs: &mut [Run]) {
    let rate = |run: &Run| run.pace.as_ref().map_or(0.0, |pace| pace.events_per_second);
    // A load below what the cluster takes is no measure of what it could.
    let best = runs.iter().map(rate).fold(0.0, f64::max);
    for run in runs.iter_mut().filter(|run| run.asked.contains_key("factor")) {
        let share = rate(run) / best;
        run.asked.insert("share_of_best", Value::from(share));
        run.figures.push(Figure::new("recorded a second, of the most", share * 100.0, "%"));
    }
}
