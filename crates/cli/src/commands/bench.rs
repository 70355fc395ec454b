//! `sillok bench …`: how many acknowledged events a second, and how long each took.

use std::{
    collections::VecDeque,
    sync::Mutex,
    sync::PoisonError,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use sillok_client::{Client, SubmitOptions, WriteError, commands};
use sillok_wire::v1;

use super::Session;
use crate::{
    failure::Failure,
    format::{parse_duration, thousands},
};

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Writes to a running cluster, into channels of its own (bench-…)
    Write(WriteBench),
}

#[derive(Args, Clone)]
pub(crate) struct WriteBench {
    /// One Submit stream a connection; default: a unary call for each command
    #[arg(long)]
    submit: bool,
    /// Commands sent and not yet answered, over all connections
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Connections, each a client of its own
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// What is recorded: a push to one friend, or a friend's attributes set anew
    #[arg(long, value_enum, default_value_t = BenchEvent::Push)]
    event: BenchEvent,
    /// Bytes of an event, about; 60 to 1,000
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// How long to measure, after the channels are made
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    seconds: Duration,
    /// Over how many channels the commands are spread
    #[arg(long, default_value_t = 8)]
    channels: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BenchEvent {
    /// The commonest event that costs money: its text is read from the chronicle, its place is kept by the views.
    Push,
    /// Costs the views most: a row of the friend list is changed, and the views stay small however long it runs.
    Attributes,
}

/// Friends in each channel, written to again and again.
const FRIENDS: usize = 1000;
/// What an event takes besides the text or the attributes' values.
const FIXED_BYTES: usize = 60;

/// What was measured.
struct Measured {
    /// Microseconds of acknowledged commands.
    latency: Histogram<u64>,
    /// Commands without a receipt, and the first reason.
    failed: u64,
    first_failure: Option<String>,
}

impl Measured {
    fn new() -> Result<Measured, Failure> {
        // 1 µs to 5 minutes, three digits.
        let latency = Histogram::new_with_bounds(1, 300_000_000, 3).map_err(|error| Failure::no(error.to_string()))?;
        Ok(Measured { latency, failed: 0, first_failure: None })
    }

    fn answer(&mut self, sent: Instant, outcome: Result<v1::Receipt, WriteError>) {
        match outcome {
            Ok(_) => self.latency.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }

    fn add(&mut self, other: Measured) {
        // Bounds are the same.
        let _ = self.latency.add(other.latency);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// The n-th command of a worker.
#[derive(Clone)]
struct Work {
    prefix: String,
    channels: usize,
    event: BenchEvent,
    filler: String,
}

impl Work {
    fn command(&self, number: usize) -> v1::Command {
        let (channel, friend) = (self.channel(number % self.channels), self.friend(number / self.channels % FRIENDS));
        match self.event {
            BenchEvent::Push => {
                let body = v1::MessageBody { text: self.filler.clone(), is_ad: false, unit_price_won: 15 };
                commands::send_push(channel, friend, body).into()
            }
            BenchEvent::Attributes => self.attributes(channel, friend).into(),
        }
    }

    /// A value has 56 bytes at most here.
    fn attributes(&self, channel_id: String, user_key: String) -> v1::SetAttributesRequest {
        let values = self.filler.as_bytes().chunks(56).map(String::from_utf8_lossy);
        let set = values
            .enumerate()
            .map(|(index, value)| v1::Attribute { key: format!("bench_{index}"), value: value.into_owned() });
        v1::SetAttributesRequest { channel_id, user_key, set: set.collect(), ..Default::default() }
    }

    fn friend(&self, index: usize) -> String {
        format!("u{index}")
    }

    fn channel(&self, index: usize) -> String {
        format!("bench-{}-{index}", self.prefix)
    }
}

pub(crate) async fn run(command: BenchCommand, session: &Session) -> Result<(), Failure> {
    let BenchCommand::Write(bench) = command;
    if bench.in_flight == 0 || bench.connections == 0 || bench.channels == 0 {
        return Err(Failure::usage("--in-flight, --connections and --channels are at least 1"));
    }
    let filler = bench.size.clamp(FIXED_BYTES, 1000) - FIXED_BYTES;
    let prefix: String = sillok_client::retry_key().chars().take(8).collect();
    let work = Work { prefix, channels: bench.channels, event: bench.event, filler: "x".repeat(filler) };

    session.out.note(&format!("making {} channels of {} friends", bench.channels, thousands(FRIENDS as u64)));
    prepare(session.api.client(), &work).await?;
    session.out.note(&format!("measuring for {}", crate::format::duration(bench.seconds)));

    let until = Instant::now() + bench.seconds;
    let begun = Instant::now();
    let share = bench.in_flight.div_ceil(bench.connections);
    let mut workers = Vec::new();
    for connection in 0..bench.connections {
        let client = Client::builder()
            .endpoints(session.api.endpoints())
            .deadline(session.api.timeout())
            .build()
            .map_err(|error| Failure::usage(error.to_string()))?;
        let (work, submit, stride) = (work.clone(), bench.submit, bench.connections);
        let worker = async move {
            if submit {
                stream(client, work, share, connection, stride, until).await
            } else {
                unary(client, work, share, connection, stride, until).await
            }
        };
        workers.push(tokio::spawn(worker));
    }
    let mut measured = Measured::new()?;
    for worker in workers {
        let part = worker.await.map_err(|error| Failure::no(format!("a worker failed: {error}")))??;
        measured.add(part);
    }
    report(session, &bench, &measured, begun.elapsed())
}

async fn prepare(client: &Client, work: &Work) -> Result<(), Failure> {
    let (mut sender, mut answers) = client.submit().split();
    let send = async {
        for index in 0..work.channels {
            let channel = work.channel(index);
            let mut open = sender.send(commands::open_channel(&channel, "bench")).await.is_ok();
            for friend in 0..FRIENDS {
                open = open && sender.send(commands::add_friend(&channel, work.friend(friend))).await.is_ok();
            }
            if !open {
                break;
            }
        }
        sender.close();
    };
    let receive = async {
        while let Some(answer) = answers.next().await {
            answer.outcome.map_err(|error| Failure::no(format!("cannot make the channels: {error}")))?;
        }
        Ok(())
    };
    let ((), made) = tokio::join!(send, receive);
    made
}

async fn unary(
    client: Client,
    work: Work,
    in_flight: usize,
    first: usize,
    stride: usize,
    until: Instant,
) -> Result<Measured, Failure> {
    let mut tasks = Vec::with_capacity(in_flight);
    for lane in 0..in_flight {
        let (client, work) = (client.clone(), work.clone());
        tasks.push(tokio::spawn(async move {
            let mut measured = Measured::new()?;
            let mut number = first + stride * lane;
            while Instant::now() < until {
                let sent = Instant::now();
                let outcome = client.execute(work.command(number)).await;
                measured.answer(sent, outcome);
                number += stride * in_flight;
            }
            Ok::<_, Failure>(measured)
        }));
    }
    let mut all = Measured::new()?;
    for task in tasks {
        all.add(task.await.map_err(|error| Failure::no(format!("a lane failed: {error}")))??);
    }
    Ok(all)
}

async fn stream(
    client: Client,
    work: Work,
    in_flight: usize,
    first: usize,
    stride: usize,
    until: Instant,
) -> Result<Measured, Failure> {
    let options = SubmitOptions { window_commands: in_flight, ..SubmitOptions::default() };
    let (mut sender, mut answers) = client.submit_with(options).split();
    // When each unanswered command was sent: answers come in order.
    let sent: Mutex<VecDeque<Instant>> = Mutex::default();
    let times = || sent.lock().unwrap_or_else(PoisonError::into_inner);
    let send = async {
        let mut number = first;
        while Instant::now() < until {
            // Waits while the window is full; the clock starts when the command is handed over.
            let command = work.command(number);
            let handed = Instant::now();
            if sender.send(command).await.is_err() {
                break;
            }
            times().push_back(handed);
            number += stride;
        }
        sender.close();
    };
    let receive = async {
        let mut measured = Measured::new()?;
        let mut batch = Vec::new();
        while answers.next_batch(&mut batch).await {
            for answer in batch.drain(..) {
                // The answer can be here before the sender has noted the time of its command.
                let handed = loop {
                    if let Some(handed) = times().pop_front() {
                        break handed;
                    }
                    tokio::task::yield_now().await;
                };
                measured.answer(handed, answer.outcome);
            }
        }
        Ok(measured)
    };
    let ((), measured) = tokio::join!(send, receive);
    measured
}

fn report(session: &Session, bench: &WriteBench, measured: &Measured, took: Duration) -> Result<(), Failure> {
    let acknowledged = measured.latency.len();
    let rate = acknowledged as f64 / took.as_secs_f64();
    let ms = |quantile: f64| measured.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let (p50, p99, p999, max) = (ms(0.5), ms(0.99), ms(0.999), measured.latency.max() as f64 / 1000.0);
    let how = if bench.submit { "Submit" } else { "unary" };
    let text = format!(
        "{how}, {} in flight, {}, about {} bytes an event\n{} acknowledged in {:.1} s: {} events/s\np50 {p50:.1} ms · p99 {p99:.1} ms · p99.9 {p999:.1} ms · max {max:.1} ms{}",
        thousands(bench.in_flight as u64),
        crate::format::count(bench.connections as u64, "connection", "connections"),
        bench.size,
        thousands(acknowledged),
        took.as_secs_f64(),
        thousands(rate as u64),
        match &measured.first_failure {
            Some(first) => format!("\n{} without a receipt, the first: {first}", thousands(measured.failed)),
            None => String::new(),
        }
    );
    session.out.answer_text(
        &text,
        serde_json::json!({
            "mode": how.to_lowercase(), "inFlight": bench.in_flight, "connections": bench.connections,
            "sizeBytes": bench.size, "seconds": took.as_secs_f64(), "acknowledged": acknowledged,
            "eventsPerSecond": rate, "failed": measured.failed,
            "latencyMs": { "p50": p50, "p99": p99, "p999": p999, "max": max },
        }),
    )?;
    match measured.failed {
        0 => Ok(()),
        failed => Err(Failure::no(format!("{} commands have no receipt", thousands(failed)))),
    }
}
