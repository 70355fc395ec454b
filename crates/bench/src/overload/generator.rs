//! Batches that are due whether or not earlier ones are answered, and never tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use prost::Message as _;
use sillok_client::{Client, v1};
use sillok_wire::{RawCodec, errors};
use tokio::sync::{Semaphore, oneshot};
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use super::Overload;
use crate::{
    BenchError, Figure, Run, Target, Work,
    latency::{histogram, microseconds},
    load::Shared,
    work::Lane,
};

/// Batches on the way at most: many more than the cluster lets in.
const AT_ONCE: usize = 16_384;
/// What is due and cannot be sent within this is left out: the load has no processor left, and says so.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// Everything that the loads of one bench share.
pub(super) struct Generator {
    /// To the leader, each a connection of its own.
    channels: Vec<Channel>,
    batch: usize,
    lane: Mutex<Lane>,
    /// Batches that were not acknowledged, to be sent again under the same keys.
    spare: Mutex<Vec<Bytes>>,
    /// The newest stream to end was refused. As the client does then, the next is sent nothing before it is taken.
    asks_first: AtomicBool,
    /// Commands of batches of which it is not known whether they are recorded.
    in_doubt: AtomicU64,
}

/// What a load met besides acknowledgements, within its window.
#[derive(Debug)]
pub(super) struct Met {
    sent: AtomicU64,
    left_out: AtomicU64,
    turned_away: AtomicU64,
    refused: Mutex<Histogram<u64>>,
}

impl Default for Met {
    fn default() -> Met {
        let zero = || AtomicU64::new(0);
        Met { sent: zero(), left_out: zero(), turned_away: zero(), refused: Mutex::new(histogram()) }
    }
}

/// How a batch ended.
enum Outcome {
    Recorded,
    /// At once, with when to come again.
    Refused,
    /// By a leader that a quorum did not answer in time, or for want of one: so much load can cost the leader its office.
    TurnedAway,
}

impl Generator {
    pub(super) async fn new(target: &Target, work: &Work, overload: &Overload) -> Result<Arc<Generator>, BenchError> {
        let status = target.status().await?;
        let leads = status.nodes.into_iter().filter_map(|status| status.node).find(|node| node.id == status.leader_id);
        let leader = leads.ok_or_else(|| BenchError::Asked("nobody leads the cluster".to_owned()))?.client_address;
        let connect = |_| {
            let client = Client::builder().endpoint(&leader).build()?;
            client.channel(&leader).ok_or_else(|| BenchError::Asked(format!("{leader} is no endpoint")))
        };
        let channels = (0..overload.connections).map(connect).collect::<Result<_, _>>()?;
        let (batch, lane, spare) = (overload.batch, Mutex::new(work.lane(0, 1)), Mutex::default());
        Ok(Arc::new(Generator {
            channels,
            batch,
            lane,
            spare,
            asks_first: AtomicBool::default(),
            in_doubt: AtomicU64::default(),
        }))
    }

    /// So many commands may be recorded beside those that were acknowledged: of batches whose outcome was not known.
    pub(super) fn in_doubt(&self) -> u64 {
        self.in_doubt.load(Ordering::Relaxed)
    }

    /// The bytes of one: of a call, or of a frame.
    fn next(&self) -> Bytes {
        if let Some(spare) = self.spare.lock().pop() {
            return spare;
        }
        let mut lane = self.lane.lock();
        let mut commands: Vec<v1::Command> = (0..self.batch).map(|_| lane.next()).collect();
        drop(lane);
        for command in &mut commands {
            if let Some(context) = command.context_mut() {
                context.get_or_insert_default().retry_key = sillok_client::retry_key();
            }
        }
        match commands.as_slice() {
            [v1::Command { command: Some(v1::command::Command::SendPush(push)), .. }] => push.encode_to_vec().into(),
            _ => v1::SubmitRequest::from_iter(commands).encode_to_vec().into(),
        }
    }

    async fn send(&self, number: usize, bytes: Bytes) -> Result<Outcome, BenchError> {
        let mut grpc = Grpc::new(self.channels[number % self.channels.len()].clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| failed(Status::from_error(error.into())))?;
        let ended = match self.batch {
            1 => call(grpc, bytes).await,
            commands => stream(grpc, bytes, commands, self.asks_first.load(Ordering::Relaxed)).await,
        };
        self.asks_first.store(ended.is_err(), Ordering::Relaxed);
        match ended {
            Ok(()) => Ok(Outcome::Recorded),
            Err(status) => match errors::reason_of(&status) {
                Some(v1::Reason::NoLeader | v1::Reason::OutcomeUnknown) => {
                    if errors::outcome_of(&status) != Some(errors::Outcome::NotRecorded) {
                        self.in_doubt.fetch_add(self.batch as u64, Ordering::Relaxed);
                    }
                    Ok(Outcome::TurnedAway)
                }
                Some(v1::Reason::Overloaded) if errors::retry_after(&status).is_some() => Ok(Outcome::Refused),
                Some(v1::Reason::Overloaded) => {
                    Err(BenchError::Wrong("a batch was refused without being told when to come again".to_owned()))
                }
                _ => Err(failed(status)),
            },
        }
    }

    /// One batch, and all that is to be noted of it.
    async fn one(&self, number: usize, due: Instant, shared: &Shared, met: &Met) {
        let bytes = self.next();
        if shared.recorder.is_timing() {
            met.sent.fetch_add(1, Ordering::Relaxed);
        }
        match self.send(number, bytes.clone()).await {
            Ok(Outcome::Recorded) => shared.recorder.answered_together(number, due, self.batch as u64),
            Ok(Outcome::Refused) => {
                self.spare.lock().push(bytes);
                if shared.recorder.is_timing() {
                    met.refused.lock().saturating_record(microseconds(due.elapsed()));
                }
            }
            Ok(Outcome::TurnedAway) => {
                // Under its keys nothing of it is recorded twice, even where its outcome was not known.
                self.spare.lock().push(bytes);
                if shared.recorder.is_timing() {
                    met.turned_away.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => shared.failed(error),
        }
    }
}

fn failed(source: Status) -> BenchError {
    BenchError::read("a batch was neither recorded nor refused for overload")(source)
}

async fn call(mut grpc: Grpc<Channel>, bytes: Bytes) -> Result<(), Status> {
    let path = PathAndQuery::from_static("/sillok.v1.Commands/SendPush");
    grpc.unary(Request::new(bytes), path, RawCodec::<v1::Receipt>::default()).await.map(drop)
}

/// A stream of one frame, which is sent once the stream is taken where it `asks_first`.
async fn stream(mut grpc: Grpc<Channel>, bytes: Bytes, commands: usize, asks_first: bool) -> Result<(), Status> {
    let path = PathAndQuery::from_static("/sillok.v1.Commands/Submit");
    let (taken, is_taken) = oneshot::channel::<()>();
    let frame = futures::stream::once(async move {
        if asks_first {
            // Gone with the stream where it is refused.
            let _ = is_taken.await;
        }
        bytes
    });
    let answers = grpc.streaming(Request::new(frame), path, RawCodec::<v1::SubmitResponse>::default()).await?;
    let _ = taken.send(());
    let mut answers = answers.into_inner();
    let mut recorded = 0;
    while let Some(response) = answers.message().await? {
        for answer in response.answers {
            match answer.outcome {
                Some(v1::answer::Outcome::Receipt(_)) => recorded += 1,
                Some(v1::answer::Outcome::Error(error)) => return Err(errors::from_rpc(error)),
                None => return Err(Status::internal("an answer came empty")),
            }
        }
    }
    match recorded == commands {
        true => Ok(()),
        false => Err(Status::internal(format!("{recorded} of {commands} commands were answered"))),
    }
}

/// Sends when it is due, until the end, and waits for what is on the way.
pub(super) async fn due(generator: Arc<Generator>, shared: Arc<Shared>, met: Arc<Met>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut number = 0;
    while let Some(due) = shared.turn().await {
        let place = if due.elapsed() < SENT_WITHIN { Arc::clone(&places).try_acquire_owned().ok() } else { None };
        let Some(place) = place else {
            if shared.recorder.is_timing() {
                met.left_out.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        };
        number += 1;
        let (generator, shared, met) = (Arc::clone(&generator), Arc::clone(&shared), Arc::clone(&met));
        tokio::spawn(async move {
            generator.one(number, due, &shared, &met).await;
            drop(place);
        });
    }
    // Never closed, and there are so many.
    let _ = places.acquire_many(AT_ONCE as u32).await;
}

/// The next one when an answer comes; what is refused for once comes again after a moment.
pub(super) async fn one_after_the_other(generator: Arc<Generator>, lane: usize, shared: Arc<Shared>, met: Arc<Met>) {
    while let Some(begun) = shared.turn().await {
        generator.one(lane, begun, &shared, &met).await;
        if shared.is_over() {
            return;
        }
    }
}

impl Met {
    /// The load of a run, and what was refused of it.
    pub(super) fn describe(&self, mut run: Run, due: f64, batch: usize, seconds: f64) -> Run {
        let a_second = |batches: u64| batches as f64 * batch as f64 / seconds;
        let refused = self.refused.lock();
        let (sent, left_out) = (self.sent.load(Ordering::Relaxed), self.left_out.load(Ordering::Relaxed));
        let share = refused.len() as f64 / (sent as f64).max(1.0);
        let milliseconds = |quantile: f64| refused.value_at_quantile(quantile) as f64 / 1e3;
        run.figures = vec![
            Figure::new("due a second", due, "commands/s"),
            Figure::new("sent a second", a_second(sent), "commands/s"),
            Figure::new("refused, of those sent", share * 100.0, "%"),
        ];
        if !refused.is_empty() {
            run.figures.extend([
                Figure::new("a refusal, p50", milliseconds(0.5), "ms"),
                Figure::new("a refusal, p99", milliseconds(0.99), "ms"),
            ]);
        }
        let turned_away = self.turned_away.load(Ordering::Relaxed);
        if turned_away > 0 {
            run.figures.push(Figure::new("turned away without a leader", a_second(turned_away), "commands/s"));
        }
        if left_out > 0 {
            run.figures.push(Figure::new("not sent, for want of processor time", a_second(left_out), "commands/s"));
        }
        run.asked("due_per_second", due)
            .asked("sent_per_second", a_second(sent))
            .asked("refused_per_second", a_second(refused.len()))
            .asked("turned_away_per_second", a_second(turned_away))
            .asked("refused_share", share)
            .asked("refusal_p50_us", refused.value_at_quantile(0.5))
            .asked("refusal_p99_us", refused.value_at_quantile(0.99))
    }
}
