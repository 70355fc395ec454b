//! NATS JetStream: publishes to a stream of three replicas, each with its acknowledgement.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::{
    ConnectOptions,
    jetstream::{
        Context,
        context::{ContextBuilder, PublishAckFuture},
        stream,
    },
};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    FAILOVER_TRY, Mode, Options,
    measure::{Report, Samples, Window, Writer},
};

/// The stream takes `events.>`.
const SUBJECT: &str = "events.bench";

pub(crate) struct Publish {
    context: Context,
    payload: Bytes,
    failover: bool,
}

async fn connect(options: &Options, connection: usize) -> anyhow::Result<Context> {
    let failover = options.mode == Mode::Failover;
    let mut endpoints: Vec<String> = options.endpoints.iter().map(|endpoint| format!("nats://{endpoint}")).collect();
    if failover {
        let first = connection % endpoints.len();
        endpoints.rotate_left(first);
    } else {
        // The stream leader's, given first.
        endpoints.truncate(1);
    }
    let client = ConnectOptions::new()
        .retain_servers_order()
        .ignore_discovered_servers()
        .reconnect_delay_callback(|_| Duration::from_millis(5))
        .connect(endpoints)
        .await?;
    let patience = if failover { FAILOVER_TRY } else { Duration::from_secs(30) };
    Ok(ContextBuilder::new().timeout(patience).max_ack_inflight(options.in_flight.max(1)).build(client))
}

pub(crate) async fn writers(options: &Options) -> anyhow::Result<Vec<Publish>> {
    let failover = options.mode == Mode::Failover;
    let payload = Bytes::from(vec![b'x'; options.size]);
    let mut contexts = Vec::new();
    for connection in 0..options.connections {
        contexts.push(connect(options, connection).await?);
    }
    let lane = |lane: usize| {
        let context = contexts[lane % contexts.len()].clone();
        Publish { context, payload: payload.clone(), failover }
    };
    Ok((0..options.in_flight).map(lane).collect())
}

/// Makes the stream where there is none, and names the server that leads it; fails while none does.
pub(crate) async fn prepare(options: &Options) -> anyhow::Result<String> {
    let client = async_nats::connect(options.endpoints.clone()).await?;
    let wanted = stream::Config {
        name: "events".into(),
        subjects: vec!["events.>".into()],
        num_replicas: 3,
        storage: stream::StorageType::File,
        ..Default::default()
    };
    let mut stream = async_nats::jetstream::new(client).get_or_create_stream(wanted).await?;
    let cluster = stream.info().await?.cluster.clone().context("the stream is in no cluster")?;
    if cluster.replicas.iter().filter(|replica| replica.current).count() < 2 {
        bail!("a replica of the stream lags behind");
    }
    cluster.leader.context("no server leads the stream")
}

impl Writer for Publish {
    async fn write(&mut self) -> anyhow::Result<()> {
        let publish = async { self.context.publish(SUBJECT, self.payload.clone()).await?.await };
        if self.failover {
            tokio::time::timeout(FAILOVER_TRY, publish).await??;
        } else {
            publish.await?;
        }
        Ok(())
    }
}

/// Publishes go out while there is room in the window; acknowledgements are taken in order.
pub(crate) async fn pipelined(options: &Options) -> anyhow::Result<Report> {
    let payload = Bytes::from(vec![b'x'; options.size]);
    let share = options.in_flight.div_ceil(options.connections);
    let mut contexts = Vec::new();
    for connection in 0..options.connections {
        contexts.push(connect(options, connection).await?);
    }
    let window = Window::of(options);
    let streams: Vec<_> =
        contexts.into_iter().map(|context| tokio::spawn(one_stream(context, payload.clone(), share, window))).collect();
    let mut all = Vec::new();
    for stream in streams {
        all.push(stream.await.context("a stream failed")?);
    }
    Report::of(all, options.seconds)
}

async fn one_stream(context: Context, payload: Bytes, share: usize, window: Window) -> Samples {
    // The last handle's end is the connection's, and with it that of every acknowledgement still on the way.
    let _connection = context.clone();
    let (sender, mut receiver) = mpsc::channel::<(Instant, PublishAckFuture)>(share);
    let send = async move {
        let mut failure = None;
        while Instant::now() < window.end {
            let sent = Instant::now();
            match context.publish(SUBJECT, payload.clone()).await {
                Ok(acknowledgement) => {
                    if sender.send((sent, acknowledgement)).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        failure
    };
    let receive = async move {
        let mut samples = Samples::default();
        while let Some((sent, acknowledgement)) = receiver.recv().await {
            let outcome = acknowledgement.await.map(|_| ()).map_err(anyhow::Error::from);
            samples.answer(&window, sent, outcome);
        }
        samples
    };
    // Two tasks: sending and taking may use both cores.
    let send = tokio::spawn(send);
    let mut samples = receive.await;
    match send.await {
        Ok(None) => {}
        Ok(Some(error)) => samples.answer(&window, Instant::now(), Err(error.into())),
        Err(error) => samples.answer(&window, Instant::now(), Err(error.into())),
    }
    samples
}
