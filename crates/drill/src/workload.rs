//! What the shops and their customers do while something burns: the mix of a platform's day through the public API.
//!
//! Kinds that are not built yet are left out and the rest is scaled up. Each client calls, waits for the answer, thinks, and
//! calls again. Most are patient, as a client that retries as told; every fourth gives up early, comes back later with the same
//! key, and sometimes never does. A few repeat what was answered long ago, and must get the original answer.

mod client;
mod mix;
mod reader;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sillok_client::{
    Client,
    commands::{self, Conditions as _},
};
use sillok_wire::v1;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    DrillError,
    history::{Action, Answer, Call, Recorder, Serial},
};

/// Friends of each channel that nobody touches: the audience of every send, and the holders of every ticket.
const REGULARS: u32 = 60;
/// The coupon of each channel.
const COUPON: &str = "welcome";
/// A patient client goes on for so long, which is far longer than any failover.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of it.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Client addresses.
    pub endpoints: Vec<String>,
    /// Clients that write.
    pub clients: usize,
    /// Channels they write to.
    pub channels: Channels,
    /// The leader is asked at the address that it tells.
    pub follow_leader: bool,
    /// The same seed asks the same questions, as far as the answers' times allow.
    pub seed: u64,
}

/// What every client shares.
#[derive(Debug)]
struct Shared {
    load: Load,
    recorder: Arc<Recorder>,
    serials: AtomicU64,
    /// Calls so far in each channel: which friends and tickets are in the public's eye.
    turns: Vec<AtomicU64>,
    stop: watch::Sender<bool>,
    /// Everything in flight is given up at once, as when every client times out together.
    storm: watch::Sender<u64>,
    bodies: AtomicBool,
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// The channels that the load is spread over.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    /// Nobody else's channels begin so.
    pub prefix: String,
    /// How many.
    pub count: u32,
}

impl Channels {
    /// The id of a channel, from 0.
    pub(crate) fn id(&self, channel: u32) -> String {
        format!("{}-{channel}", self.prefix)
    }
}

/// The retry key of an intent.
pub(crate) fn retry_key(serial: Serial) -> String {
    format!("d{serial}")
}

/// The intent of a retry key; `None` where the drill did not make it.
pub(crate) fn serial_of(retry_key: &str) -> Option<Serial> {
    retry_key.strip_prefix('d')?.parse().ok()
}

impl Workload {
    /// Makes the channels, then lets the clients begin.
    ///
    /// # Errors
    /// A channel cannot be made.
    pub(crate) async fn start(load: Load, recorder: Arc<Recorder>) -> Result<Workload, DrillError> {
        let turns = (0..load.channels.count).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared {
            load,
            recorder,
            serials: AtomicU64::new(0),
            turns,
            stop: watch::Sender::new(false),
            storm: watch::Sender::new(0),
            bodies: AtomicBool::new(false),
        });
        let patient = shared.client(PATIENCE, 0)?;
        for channel in 0..shared.load.channels.count {
            prepare(&shared, &patient, channel).await?;
        }
        let mut tasks = JoinSet::new();
        for number in 0..shared.load.clients {
            // Every fourth gives up early.
            let deadline = if number % 4 == 3 { Duration::from_millis(150) } else { PATIENCE };
            let client = shared.client(deadline, number)?;
            tasks.spawn(client::run(Arc::clone(&shared), client, number, deadline == PATIENCE));
        }
        for number in 0..(shared.load.clients / 4).max(2) {
            tasks.spawn(reader::run(Arc::clone(&shared), shared.client(Duration::from_secs(2), number)?, number));
        }
        Ok(Workload { shared, tasks })
    }

    /// A patient client for calls of the drill's own.
    pub(crate) fn customer(&self) -> Result<Client, DrillError> {
        self.shared.client(PATIENCE, 0)
    }

    /// Sends get long texts and everyone as audience, until told otherwise: the middle of a broadcast.
    pub fn broadcasting(&self, on: bool) {
        self.shared.bodies.store(on, Ordering::Relaxed);
    }

    /// Every client gives up what it waits for, and asks again at once with the same key.
    pub fn storm(&self) {
        self.shared.storm.send_modify(|storm| *storm += 1);
    }

    /// One reader more, stuck with one node: it knows no other.
    pub(crate) fn stick_to(&mut self, endpoint: String) -> Result<(), DrillError> {
        let client = Client::builder().endpoint(endpoint).follow_leader(false);
        let client = client.connect_timeout(Duration::from_millis(500)).request_timeout(Duration::from_millis(500));
        let client = client.deadline(Duration::from_millis(600)).build();
        let client =
            client.map_err(|error| DrillError::call("a client", tonic::Status::invalid_argument(error.to_string())))?;
        self.tasks.spawn(reader::run(Arc::clone(&self.shared), client, self.tasks.len()));
        Ok(())
    }

    /// Lets every client finish what it has begun.
    pub(crate) async fn stop(&mut self) {
        self.shared.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    /// A client that asks the nodes in another order than its neighbour does.
    fn client(&self, deadline: Duration, number: usize) -> Result<Client, DrillError> {
        let mut endpoints = self.load.endpoints.clone();
        let first = number % endpoints.len().max(1);
        endpoints.rotate_left(first);
        let builder = Client::builder().endpoints(endpoints);
        let builder = builder.connect_timeout(Duration::from_millis(500)).request_timeout(Duration::from_secs(2));
        let client = builder.follow_leader(self.load.follow_leader).deadline(deadline).actor("drill").build();
        client.map_err(|error| DrillError::call("a client", tonic::Status::invalid_argument(error.to_string())))
    }

    fn next_serial(&self) -> Serial {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

async fn prepare(shared: &Shared, client: &Client, channel: u32) -> Result<(), DrillError> {
    let id = shared.load.channels.id(channel);
    let must = async |command: v1::Command| {
        let serial = shared.next_serial();
        let started = shared.recorder.now();
        let receipt = client.execute(command.with_key(retry_key(serial))).await;
        let receipt = receipt.map_err(|error| DrillError::call("preparing a channel", error.status().clone()))?;
        let sequence = receipt.position.map_or(0, |position| position.sequence);
        let answer = Answer::Recorded { revision: receipt.revision, sequence };
        let (action, ended) = (Action::Prepare, shared.recorder.now());
        shared.recorder.call(Call { serial, channel, action, started, ended, answer, patient: true });
        Ok::<_, DrillError>(())
    };
    must(commands::open_channel(&id, format!("훈련 {channel}")).into()).await?;
    let regulars = stream::iter(0..REGULARS).map(|n| must(commands::add_friend(&id, mix::regular(n)).into()));
    regulars.buffer_unordered(16).try_collect::<()>().await?;
    must(commands::define_coupon(&id, COUPON, "환영 쿠폰", 1_000_000_000).into()).await
}
