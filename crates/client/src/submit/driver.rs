//! The task behind a stream of commands: sends, takes answers, and begins again where a stream broke.

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use sillok_wire::{RawCodec, errors, v1};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use super::{Answered, Shared};
use crate::{
    Client, WriteError,
    backoff::Backoff,
    error::{Verdict, judge, never_sent, worth_leaving},
    pool::Node,
    read::LARGEST_ANSWER,
};

/// Frames between the driver and the connection.
const OUTGOING: usize = 4;

pub(super) async fn run(client: Client, shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    // Since when nothing has been answered although something was asked.
    let mut stalled: Option<Instant> = None;
    let mut asks_first = false;
    while shared.work().await {
        let node = client.pool.for_write();
        let Err(Broken { status, progress, since }) = stream(&client, &shared, &node, asks_first).await else {
            continue;
        };
        asks_first = errors::reason_of(&status) == Some(v1::Reason::Overloaded);
        if progress {
            backoff.reset();
            stalled = None;
        }
        if judge(&status) == Verdict::Invalid && shared.set_apart(&status) {
            backoff.reset();
            stalled = None;
            continue;
        }
        let since = *stalled.get_or_insert(since);
        if worth_leaving(&status) {
            client.pool.failed(&node);
        }
        client.pool.hint(status.metadata());
        let wait = backoff.next(errors::retry_after(&status));
        let hopeless = matches!(judge(&status), Verdict::Unknown { again: false });
        if hopeless || Instant::now() + wait >= since + client.settings.deadline {
            shared.give_up(&status);
            return;
        }
        tracing::debug!(node = %node.address, %status, ?wait, "a stream of commands goes on from its first unanswered one");
        sleep(wait).await;
        shared.state.lock().frames.rewind();
    }
    shared.finish();
}

/// Why a stream ended before everything was answered.
struct Broken {
    status: Status,
    /// It had answers.
    progress: bool,
    /// Since when something was asked and nothing answered.
    since: Instant,
}

/// One stream to one node, until nothing more will come or the next frame is for another node (Ok), or it breaks.
/// `asks_first`: a node that had too much to do is not sent frames that it would only throw away.
async fn stream(client: &Client, shared: &Shared, node: &Node, asks_first: bool) -> Result<(), Broken> {
    let mut since = Instant::now();
    let (outgoing, receiver) = mpsc::channel::<Bytes>(OUTGOING);
    // A server may look at the first frame before it answers at all, so some are there beforehand.
    let mut permits = if asks_first { 0 } else { OUTGOING };
    while permits > 0
        && let Some(frame) = shared.state.lock().frames.take()
    {
        permits -= 1;
        // There is room for each, and the receiver is in scope.
        let _ = outgoing.try_send(frame);
    }
    let opened = match timeout(client.settings.try_timeout, open(node.channel(), ReceiverStream::new(receiver))).await {
        Ok(opened) => opened,
        Err(_) => Err(Status::deadline_exceeded(format!("{} did not take the stream", node.address))),
    };
    if !opened.as_ref().is_err_and(never_sent) {
        shared.state.lock().frames.mark_sent();
    }
    let response = opened.map_err(|status| Broken { status, progress: false, since })?;
    client.pool.hint(response.metadata());
    let mut incoming = response.into_inner();
    let mut progress = false;
    let broken = |status, progress, since| Err(Broken { status, progress, since });

    since = Instant::now();
    loop {
        // Another node leads and can be reached: what is on its way is awaited here, the rest goes there.
        let moving = client.pool.leader().is_some_and(|leader| leader != node.address);
        let (has_next, awaits, ended, longest_wait) = {
            let state = shared.state.lock();
            let ended = state.closed && (state.frames.is_empty() || state.abandoned);
            (state.frames.has_next() && !moving, state.frames.awaits_answers(), ended, state.longest_wait)
        };
        if ended || (moving && !awaits) {
            return Ok(());
        }
        if !awaits {
            since = Instant::now();
        }
        let overdue = since + client.settings.try_timeout + longest_wait;
        tokio::select! {
            biased;
            message = timeout_at(overdue, incoming.message()) => match message {
                Ok(Ok(Some(response))) => {
                    since = Instant::now();
                    progress |= !response.answers.is_empty();
                    if let Err(status) = shared.take_answers(response) {
                        return broken(status, progress, since);
                    }
                }
                Ok(Ok(None)) => {
                    let ended = Status::unavailable(format!("{} ended the stream", node.address));
                    return broken(ended, progress, since);
                }
                Ok(Err(status)) => return broken(status, progress, since),
                Err(_) if awaits => {
                    let late = Status::deadline_exceeded(format!("{} gave no answer in time", node.address));
                    return broken(late, progress, since);
                }
                // Nothing was asked: nothing is late.
                Err(_) => {}
            },
            permit = outgoing.reserve(), if has_next => match permit {
                Ok(permit) => {
                    let mut state = shared.state.lock();
                    if let Some(frame) = state.frames.take() {
                        state.frames.mark_sent();
                        drop(state);
                        permit.send(frame);
                    }
                }
                // The connection took the receiver away: its status comes in.
                Err(_) => match timeout_at(overdue, incoming.message()).await {
                    Ok(Ok(Some(response))) => {
                        progress |= !response.answers.is_empty();
                        if let Err(status) = shared.take_answers(response) {
                            return broken(status, progress, since);
                        }
                    }
                    Ok(Err(status)) => return broken(status, progress, since),
                    Ok(Ok(None)) | Err(_) => {
                        let gone = Status::unavailable(format!("{} stopped reading the stream", node.address));
                        return broken(gone, progress, since);
                    }
                },
            },
            () = shared.work.notified() => {}
        }
    }
}

/// A stream to a node, whose frames are encoded already.
pub(crate) async fn open(
    channel: Channel,
    frames: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Response<Streaming<v1::SubmitResponse>>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/sillok.v1.Commands/Submit");
    grpc.streaming(Request::new(frames), path, RawCodec::default()).await
}

impl Shared {
    /// Waits until there is something to send; false once there never will be.
    async fn work(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if state.closed && (state.frames.is_empty() || state.abandoned) {
                    return false;
                }
                if !state.frames.is_empty() {
                    return true;
                }
            }
            self.work.notified().await;
        }
    }

    /// Hands answers on; an error where one says that its command must be sent again, which ends the stream: those after
    /// it are asked for again too, and get what they got.
    fn take_answers(&self, response: v1::SubmitResponse) -> Result<(), Status> {
        let mut state = self.state.lock();
        let mut result = Ok(());
        for answer in response.answers {
            let outcome = match answer.outcome {
                Some(v1::answer::Outcome::Receipt(receipt)) => Ok(receipt),
                Some(v1::answer::Outcome::Error(error)) => {
                    let status = errors::from_rpc(error);
                    let verdict = judge(&status);
                    if verdict.again() {
                        result = Err(status);
                        break;
                    }
                    let key = state.frames.first_unanswered().map(|command| command.retry_key);
                    Err(verdict.into_error(status, key.unwrap_or_default(), false))
                }
                None => {
                    result = Err(Status::internal("an answer came empty"));
                    break;
                }
            };
            let Some(index) = state.frames.answer() else {
                result = Err(Status::internal("more answers came than commands were sent"));
                break;
            };
            if !state.abandoned {
                state.answers.push_back(Answered { index, outcome });
            }
        }
        drop(state);
        self.room.notify_one();
        self.answered.notify_one();
        result
    }

    /// A node ended the stream because it takes no frame like the first unanswered one: everything before it is answered, and
    /// nothing of it is recorded, nor will be. Alone in its frame the command is invalid; else each gets a frame of its own, so
    /// that the one at fault takes no other with it. False where nothing was asked.
    fn set_apart(&self, status: &Status) -> bool {
        let mut state = self.state.lock();
        if !state.frames.awaits_answers() {
            return false;
        }
        if state.frames.first_is_alone() {
            let Some(index) = state.frames.answer() else { return false };
            if !state.abandoned {
                state
                    .answers
                    .push_back(Answered { index, outcome: Err(WriteError::Invalid { status: status.clone() }) });
            }
            state.frames.rewind();
        } else {
            state.frames.split_first();
        }
        drop(state);
        self.room.notify_one();
        self.answered.notify_one();
        true
    }

    /// No progress until the deadline: everything unanswered gets what is known about it.
    fn give_up(&self, status: &Status) {
        let mut state = self.state.lock();
        for command in state.frames.give_up() {
            let (retry_key, status) = (command.retry_key, status.clone());
            let error = if command.was_sent {
                WriteError::Unknown { retry_key, status }
            } else {
                WriteError::NotRecorded { retry_key, status }
            };
            state.answers.push_back(Answered { index: command.index, outcome: Err(error) });
        }
        drop(state);
        self.finish();
    }

    fn finish(&self) {
        self.state.lock().done = true;
        self.room.notify_one();
        self.answered.notify_one();
    }
}
