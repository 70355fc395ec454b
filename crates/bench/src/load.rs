//! Load: so many commands in flight, or so many a second, and what they met.

mod calls;
pub(crate) mod feed;
mod pacer;
mod stream;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use sillok_client::{Client, WriteError};
use sillok_drill::page::thousands;
use tokio::task::JoinSet;

use self::pacer::Pacer;
use crate::{BenchError, Screen, Target, Work, latency::Recorder, meter::Snapshot};

/// Between two looks at how many were answered.
pub(crate) const MOMENT: Duration = Duration::from_millis(250);

/// How commands reach the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A call of the client for each; those that wait together travel together.
    Calls,
    /// A gRPC call for each, as clients in other languages make them.
    Unary,
    /// One stream a connection.
    Submit,
}

impl Via {
    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Via::Calls => "calls",
            Via::Unary => "unary",
            Via::Submit => "submit",
        }
    }
}

/// How a load is put on a cluster.
#[derive(Debug, Clone)]
pub struct How {
    /// The way.
    pub via: Via,
    /// Commands sent and not yet answered at most, over all connections; at least 1.
    pub in_flight: usize,
    /// Connections, each a client of its own; at least 1.
    pub connections: usize,
    /// Commands a second, sent when they are due whether or not earlier ones are answered, up to `in_flight`; latency counts from
    /// when each was due. `None`: as fast as answers come, and latency counts from when each was sent.
    pub rate: Option<f64>,
    /// Load before anything is measured.
    pub warm_up: Duration,
    /// What is measured.
    pub window: Window,
}

/// How long it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// For a time.
    Time(Duration),
    /// Until at least so many are answered.
    Events(u64),
}

impl From<Duration> for Window {
    fn from(time: Duration) -> Window {
        Window::Time(time)
    }
}

impl Window {
    fn is_over(self, open: Duration, timed: u64) -> bool {
        match self {
            Window::Time(time) => open >= time,
            Window::Events(events) => timed >= events,
        }
    }
}

/// What a load met within its window.
pub(crate) struct Measured {
    pub(crate) latency: Histogram<u64>,
    pub(crate) window: Duration,
    /// Answers a second, for each [`MOMENT`].
    pub(crate) moments: Vec<f64>,
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
    /// With the warm-up and what was still in flight at the end.
    pub(crate) answered: u64,
}

/// What the tasks of a load share.
pub(crate) struct Shared {
    pub(crate) recorder: Recorder,
    pub(crate) pacer: Option<Pacer>,
    over: AtomicBool,
    failure: Mutex<Option<BenchError>>,
}

impl Shared {
    /// A command without a receipt ends the load: what comes after it would be figures of something else.
    pub(crate) fn unwritten(&self, error: WriteError) {
        self.failed(BenchError::write("the load ended early", self.recorder.count(), error));
    }

    /// Nothing more is to be begun.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends the load.
    pub(crate) fn failed(&self, error: BenchError) {
        self.failure.lock().get_or_insert(error);
        self.end();
    }

    /// Nobody gets another turn.
    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(pacer) = &self.pacer {
            pacer.end();
        }
    }

    /// When the next command was to begin; `None` at the end.
    pub(crate) async fn turn(&self) -> Option<Instant> {
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        match &self.pacer {
            Some(pacer) => pacer.turn().await,
            None => Some(Instant::now()),
        }
    }
}

/// Writes for as long as the load says, and takes the figures of the window.
///
/// # Errors
/// A command without a receipt; a node that ended.
pub(crate) async fn run(
    target: &mut Target,
    work: &Work,
    how: &How,
    screen: &dyn Screen,
) -> Result<Measured, BenchError> {
    let clients: Vec<Client> = (0..how.connections).map(|_| target.client_for(how.via)).collect::<Result<_, _>>()?;
    let (share, rest) = (how.in_flight / how.connections, how.in_flight % how.connections);
    drive(target, how, screen, |tasks, shared| {
        for (connection, client) in clients.into_iter().enumerate() {
            let share = share + usize::from(connection < rest);
            match how.via {
                Via::Submit => {
                    let lane = work.lane(connection, how.connections);
                    tasks.spawn(stream::run(client, lane, share, connection, Arc::clone(shared)));
                }
                Via::Calls | Via::Unary => {
                    for lane in 0..share {
                        // Lanes of one connection stand beside those of the others.
                        let number = lane * how.connections + connection;
                        let (lane, shared) = (work.lane(number, how.in_flight), Arc::clone(shared));
                        tasks.spawn(calls::run(client.clone(), lane, number, shared));
                    }
                }
            }
        }
    })
    .await
}

/// Whatever these tasks do, until [`Shared::turn`] ends them.
///
/// # Errors
/// What a task told with [`Shared::failed`]; a node that ended.
pub(crate) async fn drive(
    target: &mut Target,
    how: &How,
    screen: &dyn Screen,
    spawn: impl FnOnce(&mut JoinSet<()>, &Arc<Shared>),
) -> Result<Measured, BenchError> {
    let shared = Arc::new(Shared {
        recorder: Recorder::new(),
        pacer: how.rate.map(Pacer::start),
        over: AtomicBool::new(false),
        failure: Mutex::new(None),
    });
    let mut tasks = JoinSet::new();
    spawn(&mut tasks, &shared);
    tokio::time::sleep(how.warm_up).await;
    let before = target.snapshot().await;
    let opened = Instant::now();
    shared.recorder.time(true);
    let moments = moments(&shared, how, screen).await;
    shared.recorder.time(false);
    let window = opened.elapsed();
    let after = target.snapshot().await;
    shared.end();
    while let Some(task) = tasks.join_next().await {
        task?;
    }
    target.all_running()?;
    if let Some(error) = shared.failure.lock().take() {
        return Err(error);
    }
    let answered = shared.recorder.count();
    Ok(Measured { latency: shared.recorder.total(), window, moments, before, after, answered })
}

/// Looks on until the end of the window.
async fn moments(shared: &Shared, how: &How, screen: &dyn Screen) -> Vec<f64> {
    let mut moments = Vec::new();
    let (mut seen, mut at) = (shared.recorder.timed(), Instant::now());
    let opened = at;
    while !how.window.is_over(opened.elapsed(), seen) && !shared.over.load(Ordering::Relaxed) {
        let next = match how.window {
            Window::Time(time) => (at + MOMENT).min(opened + time),
            Window::Events(_) => at + MOMENT,
        };
        tokio::time::sleep_until(next.into()).await;
        let (count, now) = (shared.recorder.timed(), Instant::now());
        let span = now.saturating_duration_since(at).as_secs_f64();
        let rate = (count - seen) as f64 / span.max(1e-6);
        // What is left of a moment at the end says little.
        if span > MOMENT.as_secs_f64() / 2.0 {
            moments.push(rate);
        }
        let far = match how.window {
            Window::Time(time) => {
                format!("{:.1} of {:.1} s", (now - opened).min(time).as_secs_f64(), time.as_secs_f64())
            }
            Window::Events(events) => format!("{} of {} events", thousands(count), thousands(events)),
        };
        screen.progress(&format!("{far}   {} a second", thousands(rate as u64)));
        (seen, at) = (count, now);
    }
    moments
}
