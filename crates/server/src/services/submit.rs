//! `Submit`: frames of commands in, frames of answers out, in the same order.
//!
//! ```text
//! client ══ frames ══► read ─► node.submit(frame), called in order ─► [answers pending, in order] ─► outbox ══► client
//!                       ▲                                               │
//!                       └─── reads on while fewer than N bytes pend ────┘
//! ```
//! N is smaller while the leader is behind: what is not read waits at the client and not here.
//!
//! One task a stream, nothing per command: commands pass as bytes, and are decoded where they are decided. A refusal is an answer
//! like any other, and so is that a command is malformed. The stream ends early in three ways, always after the answers that were
//! known: an outcome is unknown (`UNAVAILABLE`), a frame is no frame (`INVALID_ARGUMENT`; neither it nor anything after it is
//! recorded), or the node stops (`UNAVAILABLE / SHUTTING_DOWN`, likewise).

#[cfg(test)]
mod tests;

use std::{future::Future, pin::pin, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, stream::FuturesOrdered};
use prost::Message as _;
use sillok_wire::{
    errors::{self, Problem},
    v1::{self, Reason},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::grpc::{
    front::too_large,
    outbox::{Outbox, Outgoing, outbox},
};

/// Commands in one frame, and bytes in one frame, as the contract has it.
const FRAME_COMMANDS: usize = 4_096;
const FRAME_BYTES: usize = 2 << 20;
/// A frame counts as at least this many bytes: so much is kept for one that is nothing but its head.
const FRAME_MIN_BYTES: usize = 256;
/// Unanswered at once, in bytes, while the leader is behind: enough for what is on its way over a short distance.
const HELD_BACK_BYTES: usize = 256 << 10;
/// Answers that are ready go out together, up to about this many; one frame's more at most.
const ANSWERS_TOGETHER: usize = 1_024;
/// Frames of answers between the task and the connection.
const PLACES: usize = 8;

/// Bounds on one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Unanswered at once, in bytes; nothing more is read from the client before it is less.
    pub(crate) in_flight_bytes: usize,
    /// How long to wait for a client that does not read.
    pub(crate) patience: Duration,
    /// How long answers may still take once the node stops.
    pub(crate) drain: Duration,
}

/// The answers of one frame, or why they are unknown.
type Answers = Result<Vec<v1::Answer>, Status>;

/// Runs a stream until either side ends it. `submit` is called frame by frame, in order; that order is the order of decision.
/// `is_behind` says that the leader has nearly more than it should.
pub(crate) fn start<I, F, S, B>(
    frames: I,
    submit: S,
    is_behind: B,
    limits: Limits,
    stopping: CancellationToken,
) -> Outgoing<v1::SubmitResponse>
where
    I: Stream<Item = Result<v1::SubmitRequest, Status>> + Send + 'static,
    F: Future<Output = Answers> + Send + 'static,
    S: Fn(Vec<Bytes>) -> F + Send + 'static,
    B: Fn() -> bool + Send + 'static,
{
    let (answers, outgoing) = outbox("Submit", PLACES, limits.patience);
    tokio::spawn(pump(frames, submit, is_behind, limits, stopping, answers));
    outgoing
}

async fn pump<I, F, S, B>(
    frames: I,
    submit: S,
    is_behind: B,
    limits: Limits,
    stopping: CancellationToken,
    outbox: Outbox<v1::SubmitResponse>,
) where
    I: Stream<Item = Result<v1::SubmitRequest, Status>>,
    F: Future<Output = Answers> + Send,
    S: Fn(Vec<Bytes>) -> F,
    B: Fn() -> bool,
{
    let mut frames = pin!(frames);
    let mut pending = FuturesOrdered::new();
    let mut in_flight_bytes = 0;
    // Why nothing more is read; the stream ends with it once the pending answers are out.
    let mut ending: Option<Result<(), Status>> = None;

    loop {
        if ending.is_some() && pending.is_empty() {
            break;
        }
        // Looked at again with the next answer, which is never far while anything pends.
        let window = if in_flight_bytes >= HELD_BACK_BYTES && is_behind() { 0 } else { limits.in_flight_bytes };
        let room = ending.is_none() && (in_flight_bytes < window || pending.is_empty());
        tokio::select! {
            biased;
            Some((size_bytes, answers)) = pending.next() => {
                in_flight_bytes -= size_bytes;
                let mut frame: Vec<v1::Answer> = match answers {
                    Ok(answers) => answers,
                    Err(status) => return outbox.end(unknown(status)),
                };
                let mut failed = None;
                while frame.len() < ANSWERS_TOGETHER && failed.is_none() {
                    match pending.next().now_or_never() {
                        Some(Some((size_bytes, answers))) => {
                            in_flight_bytes -= size_bytes;
                            match answers {
                                Ok(answers) => {
                                    // Once, and not again with each that is ready.
                                    frame.reserve(answers.len().max(ANSWERS_TOGETHER.saturating_sub(frame.len())));
                                    frame.extend(answers);
                                }
                                Err(status) => failed = Some(status),
                            }
                        }
                        // None is ready, or none is pending.
                        Some(None) | None => break,
                    }
                }
                if !frame.is_empty() && let Err(stuck) = outbox.put(v1::SubmitResponse { answers: frame }).await {
                    return outbox.end_stuck(stuck, ADVICE);
                }
                if let Some(status) = failed {
                    return outbox.end(unknown(status));
                }
            }
            () = stopping.cancelled(), if ending.is_none() => {
                ending = Some(Err(shutting_down()));
                // What is pending has this long; the client takes what is left over for unknown.
                let outstanding = pending.len();
                let drained = tokio::time::timeout(limits.drain, drain(&mut pending, &outbox)).await;
                match drained {
                    Ok(Ok(())) => {}
                    Ok(Err(end)) => return end_with(outbox, end),
                    Err(_) => {
                        tracing::warn!(outstanding, "a Submit stream ended with answers outstanding");
                        let message = format!("the node stops and the outcome of some commands is unknown; {ADVICE}");
                        return outbox.end(Problem::new(Reason::OutcomeUnknown, message).into());
                    }
                }
            }
            frame = frames.next(), if room => match frame {
                // Its answers, none, are given.
                Some(Ok(frame)) if frame.commands.is_empty() => {}
                Some(Ok(frame)) => match check(&frame) {
                    Ok(size_bytes) => {
                        in_flight_bytes += size_bytes;
                        // Called here and now: the order of the calls is the order of decision.
                        let answers = submit(frame.commands);
                        pending.push_back(answers.map(move |answers| (size_bytes, answers)));
                    }
                    Err(status) => ending = Some(Err(status)),
                },
                // A frame that cannot be read is a client that sends no frames; what went before is answered.
                Some(Err(status)) => ending = Some(Err(unreadable(status))),
                None => ending = Some(Ok(())),
            },
            () = outbox.gone() => return,
        }
    }
    if let Some(Err(status)) = ending {
        outbox.end(status);
    }
}

/// Why a drain stopped short.
enum Cut {
    Unknown(Status),
    Stuck(crate::grpc::outbox::Stuck),
}

fn end_with(outbox: Outbox<v1::SubmitResponse>, cut: Cut) {
    match cut {
        Cut::Unknown(status) => outbox.end(unknown(status)),
        Cut::Stuck(stuck) => outbox.end_stuck(stuck, ADVICE),
    }
}

async fn drain<F>(pending: &mut FuturesOrdered<F>, outbox: &Outbox<v1::SubmitResponse>) -> Result<(), Cut>
where
    F: Future<Output = (usize, Answers)>,
{
    while let Some((_, answers)) = pending.next().await {
        let answers = answers.map_err(Cut::Unknown)?;
        outbox.put(v1::SubmitResponse { answers }).await.map_err(Cut::Stuck)?;
    }
    Ok(())
}

const ADVICE: &str = "resend from the first unanswered command with the same retry keys, which is always safe";

/// What a frame that keeps to the contract counts for, in bytes.
fn check(frame: &v1::SubmitRequest) -> Result<usize, Status> {
    let commands = frame.commands.len();
    if commands > FRAME_COMMANDS {
        let message = format!("a frame of {commands} commands is over the limit of {FRAME_COMMANDS}; split it");
        return Err(Problem::new(Reason::BodyTooLarge, message)
            .with("commands", commands)
            .with("limit_commands", FRAME_COMMANDS)
            .into());
    }
    let size_bytes = frame.encoded_len();
    if size_bytes > FRAME_BYTES {
        return Err(too_large(size_bytes, FRAME_BYTES));
    }
    Ok(size_bytes.max(FRAME_MIN_BYTES))
}

/// The status of a stream whose client does not know what became of its commands.
fn unknown(status: Status) -> Status {
    if errors::error_info(&status).is_some() {
        return status;
    }
    Problem::new(Reason::OutcomeUnknown, format!("{}; {ADVICE}", status.message())).into()
}

fn unreadable(status: Status) -> Status {
    if errors::error_info(&status).is_some() {
        return status;
    }
    Problem::new(Reason::InvalidCommand, format!("a frame cannot be read: {}", status.message())).into()
}

fn shutting_down() -> Status {
    let message = format!("the node stops; everything it had read is answered; {ADVICE}, to another node");
    Problem::new(Reason::ShuttingDown, message).into()
}
