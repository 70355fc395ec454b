//! Subscribers: how long after an event is sent each of many readers has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sillok_client::{Client, commands, v1, v1::payload::Event as Kind, v1::read_events_request::Start};
use sillok_drill::within;
use tokio::task::JoinSet;

use crate::{
    BenchError, Event, How, Run, Screen, Target, Work,
    latency::Recorder,
    load::{self, Via},
};

/// Who reads, and what is written meanwhile.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// One run for each of these numbers of subscribers.
    pub subscribers: Vec<usize>,
    /// Events written a second.
    pub rate: f64,
    /// Load before anything is measured.
    pub warm_up: Duration,
    /// What is measured.
    pub window: Duration,
}

/// Calls under way at most.
const IN_FLIGHT: usize = 64;
/// Subscribers have everything this long after it was acknowledged, also a hundred of them on a small machine.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// Events are about as long as elsewhere.
const TEXT_WIDTH: usize = 140;

/// What the subscribers of one run share.
struct Audience {
    recorder: Recorder,
    /// What times in texts count from.
    epoch: Instant,
    /// Subscribers that have read to the end of what was there before.
    ready: AtomicU64,
    delivered: AtomicU64,
}

/// One run for each number of subscribers, in a channel of its own; every subscriber must get every event once.
///
/// # Errors
/// A command without a receipt; a stream that ends; an event that is missing or comes twice.
pub async fn run(target: &mut Target, subscribe: &Subscribe, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    let mut runs = Vec::new();
    for &count in &subscribe.subscribers {
        runs.push(one(target, subscribe, count, screen).await?);
    }
    Ok(runs)
}

async fn one(target: &mut Target, subscribe: &Subscribe, count: usize, screen: &dyn Screen) -> Result<Run, BenchError> {
    let work = Work::new(Event::Push, 200, 1, 100);
    screen.progress("making a channel to follow");
    let first = work.prepare(&target.client()?).await? + 1;
    let channel = work.channels().next().unwrap_or_default().to_owned();
    let begun = Instant::now();
    let how = How {
        via: Via::Calls,
        in_flight: IN_FLIGHT,
        connections: 1,
        rate: Some(subscribe.rate),
        warm_up: subscribe.warm_up,
        window: subscribe.window.into(),
    };
    let audience = Arc::new(Audience {
        recorder: Recorder::new(),
        epoch: begun,
        ready: AtomicU64::new(0),
        delivered: AtomicU64::new(0),
    });
    audience.recorder.time(true);
    let mut subscribers = JoinSet::new();
    for number in 0..count {
        let (client, channel, audience) = (target.client()?, channel.clone(), Arc::clone(&audience));
        subscribers.spawn(follow(client, channel, first, number, audience));
    }
    screen.progress(&format!("{count} subscribers begin to follow"));
    let ready = || async { (audience.ready.load(Ordering::Relaxed) == count as u64).then_some(()) };
    within("subscribers that follow", DELIVERED_WITHIN, ready).await?;
    let client = target.client()?;
    let epoch = audience.epoch;
    let started = Instant::now();
    let written = load::drive(target, &how, screen, |tasks, shared| {
        for lane in 0..IN_FLIGHT {
            let (client, channel, shared) = (client.clone(), channel.clone(), Arc::clone(shared));
            tasks.spawn(async move {
                while let Some(due) = shared.turn().await {
                    let text = format!("{:>TEXT_WIDTH$}", due.saturating_duration_since(epoch).as_micros());
                    let push = commands::send_push(&channel, format!("u{lane}"), commands::body(text, 15));
                    match client.execute(push).await {
                        Ok(_) => shared.recorder.answered(lane, due),
                        Err(error) => return shared.unwritten(error),
                    }
                }
            });
        }
    })
    .await?;
    let expected = written.answered * count as u64;
    let all = || async { (audience.delivered.load(Ordering::Relaxed) >= expected).then_some(()) };
    let delivered = within("every event at every subscriber", DELIVERED_WITHIN, all).await;
    // A subscriber that met what cannot be has ended, and says why.
    while let Some(ended) = subscribers.try_join_next() {
        ended??;
    }
    delivered?;
    subscribers.abort_all();
    let (events, seconds) = (written.answered, started.elapsed().as_secs_f64());
    let run = describe(count, subscribe, &audience, written, seconds);
    Ok(run.asked("written_events", events).asked("delivered_events", audience.delivered.load(Ordering::Relaxed)))
}

fn describe(count: usize, subscribe: &Subscribe, audience: &Audience, written: load::Measured, seconds: f64) -> Run {
    let acknowledged = written.latency.value_at_quantile(0.5) as f64 / 1000.0;
    let mut run = Run::of("subscribe", title(count, subscribe.rate), written);
    // Costs are for each event written; the pace is of what reached subscribers.
    run.pace = Some(crate::Pace::new(&audience.recorder.total(), seconds, Vec::new()));
    run.figures = vec![crate::Figure::new("a write is acknowledged, half within", acknowledged, "ms")];
    run.asked("subscribers", count).asked("rate_per_second", subscribe.rate).asked("loop", "open")
}

fn title(count: usize, rate: f64) -> String {
    let subscribers = if count == 1 { "subscriber" } else { "subscribers" };
    format!("{count} {subscribers}, {rate} events/s written")
}

/// Reads on until it is dropped; every revision must come once, in order.
async fn follow(
    client: Client,
    channel: String,
    first: u64,
    number: usize,
    audience: Arc<Audience>,
) -> Result<(), BenchError> {
    let request = v1::ReadEventsRequest {
        start: Some(Start::FromRevision(first)),
        channel_ids: vec![channel],
        follow: true,
        ..Default::default()
    };
    let mut events = client.events(request);
    let mut next = first;
    loop {
        let answer = events.next().await.map_err(BenchError::read("a subscriber's stream ended"))?;
        let Some(answer) = answer else { return Ok(()) };
        for item in answer.items {
            let Some(v1::read_item::Item::Event(event)) = item.item else { continue };
            if event.revision != next {
                let revision = event.revision;
                return Err(BenchError::Wrong(format!("a subscriber waited for revision {next} and got {revision}")));
            }
            next += 1;
            if let Some(due) = sent(&event).and_then(|micros| audience.epoch.checked_add(Duration::from_micros(micros)))
            {
                audience.recorder.answered(number, due);
                audience.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
        if answer.caught_up {
            audience.ready.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// When this push was due, in microseconds, as its text says.
fn sent(event: &v1::Event) -> Option<u64> {
    let Kind::PushAccepted(push) = event.payload.as_ref()?.event.as_ref()? else { return None };
    let v1::personal::Form::Plain(personal) = push.personal.as_ref()?.form.as_ref()? else { return None };
    personal.text.trim().parse().ok()
}
