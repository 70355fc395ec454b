//! Sillok: pushes to one friend, the commonest event that costs money, by calls of the client, by a gRPC call each, or through `Submit`.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sillok_client::{Client, SubmitOptions, commands, v1};

use crate::{
    FAILOVER_TRY, Mode, Options,
    measure::{Report, Samples, Window, Writer},
};

const CHANNELS: usize = 8;
/// Friends in each channel, written to again and again.
const FRIENDS: usize = 1000;
/// What an event takes besides its text, as in `sillok bench write`.
const FIXED_BYTES: usize = 60;

#[derive(Clone)]
struct Work {
    prefix: String,
    text: String,
    next: Arc<AtomicUsize>,
}

impl Work {
    fn new(options: &Options) -> Work {
        let prefix = sillok_client::retry_key().chars().take(8).collect();
        Work { prefix, text: "x".repeat(options.size.saturating_sub(FIXED_BYTES)), next: Arc::default() }
    }

    fn channel(&self, index: usize) -> String {
        format!("bench-{}-{index}", self.prefix)
    }

    fn push(&self) -> v1::SendPushRequest {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let body = v1::MessageBody { text: self.text.clone(), is_ad: false, unit_price_won: 15 };
        commands::send_push(self.channel(number % CHANNELS), format!("u{}", number / CHANNELS % FRIENDS), body)
    }
}

pub(crate) struct Push {
    client: Client,
    work: Work,
}

fn clients(options: &Options) -> anyhow::Result<Vec<Client>> {
    let one = |_| {
        let mut builder = Client::builder().endpoints(&options.endpoints).batch_calls(options.mode != Mode::Alone);
        if options.mode == Mode::Failover {
            builder =
                builder.request_timeout(FAILOVER_TRY).connect_timeout(FAILOVER_TRY).deadline(Duration::from_secs(40));
        }
        Ok(builder.build()?)
    };
    (0..options.connections).map(one).collect()
}

pub(crate) async fn writers(options: &Options) -> anyhow::Result<Vec<Push>> {
    let (clients, work) = (clients(options)?, Work::new(options));
    prepare(&clients[0], &work).await?;
    let lane = |lane: usize| Push { client: clients[lane % clients.len()].clone(), work: work.clone() };
    Ok((0..options.in_flight).map(lane).collect())
}

/// The endpoint of the leader; fails while writes do.
pub(crate) async fn ready(options: &Options) -> anyhow::Result<String> {
    let client = Client::builder().endpoints(&options.endpoints).deadline(Duration::from_secs(1)).build()?;
    client.execute(commands::open_channel(Work::new(options).channel(0), "ready")).await?;
    client.leader().context("no leader is known")
}

impl Writer for Push {
    async fn write(&mut self) -> anyhow::Result<()> {
        self.client.execute(self.work.push()).await?;
        Ok(())
    }
}

/// The channels and their friends.
async fn prepare(client: &Client, work: &Work) -> anyhow::Result<()> {
    let mut stream = client.submit();
    for index in 0..CHANNELS {
        let channel = work.channel(index);
        stream.send(commands::open_channel(&channel, "bench")).await?;
        for friend in 0..FRIENDS {
            stream.send(commands::add_friend(&channel, format!("u{friend}"))).await?;
        }
    }
    stream.close();
    while let Some(answer) = stream.next().await {
        answer.outcome.context("cannot make the channels")?;
    }
    Ok(())
}

pub(crate) async fn submit(options: &Options) -> anyhow::Result<Report> {
    let (clients, work) = (clients(options)?, Work::new(options));
    prepare(&clients[0], &work).await?;
    let share = options.in_flight.div_ceil(options.connections);
    let window = Window::of(options);
    let streams: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(one_stream(client, work.clone(), share, window))).collect();
    let mut all = Vec::new();
    for stream in streams {
        all.push(stream.await.context("a stream failed")?);
    }
    Report::of(all, options.seconds)
}

async fn one_stream(client: Client, work: Work, share: usize, window: Window) -> Samples {
    let settings = SubmitOptions { window_commands: share, ..SubmitOptions::default() };
    let (mut sender, mut answers) = client.submit_with(settings).split();
    // When each unanswered command was handed over: answers come in order.
    let sent: Arc<Mutex<VecDeque<Instant>>> = Arc::default();
    let times = Arc::clone(&sent);
    let send = tokio::spawn(async move {
        while Instant::now() < window.end {
            let command = work.push();
            let handed = Instant::now();
            times.lock().unwrap_or_else(PoisonError::into_inner).push_back(handed);
            if sender.send(command).await.is_err() {
                break;
            }
        }
        sender.close();
    });
    let mut samples = Samples::default();
    let mut batch = Vec::new();
    while answers.next_batch(&mut batch).await {
        for answer in batch.drain(..) {
            let handed = sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let outcome = answer.outcome.map(|_| ()).map_err(anyhow::Error::from);
            samples.answer(&window, handed.unwrap_or_else(Instant::now), outcome);
        }
    }
    if let Err(error) = send.await {
        samples.answer(&window, Instant::now(), Err(error.into()));
    }
    samples
}
