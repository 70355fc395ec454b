//! `Submit`: frames of commands in, frames of answers out, in the same order.
//!
//! ```text
//! client ══ frames ══► read ─► node.submit(frame), called in order ─► [answers pending, in order] ─► outbox ══► client
//!                       ▲                                               │
//!                       └─── reads on while fewer than N bytes pend ────┘
//! ```
//! N is smaller while the leader is behind: what is not read waits at the client and not here.
//!
//! One task a stream, nothing per command. A refusal is an answer like any other. The stream ends early in three ways, always
//! after the answers that were known: an outcome is unknown (`UNAVAILABLE`), a frame is no frame (`INVALID_ARGUMENT`; neither
//! it nor anything after it is recorded), or the node stops (`UNAVAILABLE / SHUTTING_DOWN`, likewise).

use std::{future::Future, pin::pin, time::Duration};

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
    S: Fn(Vec<v1::Command>) -> F + Send + 'static,
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
    S: Fn(Vec<v1::Command>) -> F,
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
                                Ok(answers) => frame.extend(answers),
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use sillok_wire::errors::{Outcome, outcome_of, reason_of};
    use tokio::sync::{Semaphore, mpsc};
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::Code;

    use super::*;

    const LIMITS: Limits =
        Limits { in_flight_bytes: 1 << 20, patience: Duration::from_secs(30), drain: Duration::from_secs(5) };

    fn command(key: usize) -> v1::Command {
        v1::ResumeChannelRequest {
            context: Some(v1::CommandContext { retry_key: key.to_string(), ..Default::default() }),
            channel_id: "shop".to_owned(),
        }
        .into()
    }

    fn frame(keys: std::ops::Range<usize>) -> Result<v1::SubmitRequest, Status> {
        Ok(v1::SubmitRequest { commands: keys.map(command).collect() })
    }

    /// Answers each command with its retry key as the revision; key 13 is refused.
    fn answer(commands: &[v1::Command]) -> Vec<v1::Answer> {
        let one = |command: &v1::Command| {
            let key: u64 = command.context().unwrap().retry_key.parse().unwrap();
            let outcome = match key {
                13 => v1::answer::Outcome::Error(Problem::new(Reason::ChannelNotFound, "no such channel").into()),
                revision => v1::answer::Outcome::Receipt(v1::Receipt { revision, ..Default::default() }),
            };
            v1::Answer { outcome: Some(outcome) }
        };
        commands.iter().map(one).collect()
    }

    fn revisions(response: v1::SubmitResponse) -> Vec<u64> {
        let one = |answer: v1::Answer| match answer.outcome.unwrap() {
            v1::answer::Outcome::Receipt(receipt) => receipt.revision,
            v1::answer::Outcome::Error(_) => 0,
        };
        response.answers.into_iter().map(one).collect()
    }

    async fn all(mut outgoing: Outgoing<v1::SubmitResponse>) -> (Vec<u64>, Option<Status>) {
        let mut answers = Vec::new();
        while let Some(item) = outgoing.next().await {
            match item {
                Ok(response) => answers.extend(revisions(response)),
                Err(status) => return (answers, Some(status)),
            }
        }
        (answers, None)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_keep_the_order_and_a_refusal_ends_nothing() {
        let called = Arc::new(Mutex::new(Vec::new()));
        let order = called.clone();
        let submit = move |commands: Vec<v1::Command>| {
            order.lock().unwrap().push(commands.len());
            // Later frames are ready earlier.
            let wait = Duration::from_millis(100 - commands.len() as u64);
            async move {
                tokio::time::sleep(wait).await;
                Ok(answer(&commands))
            }
        };
        let frames = futures::stream::iter([frame(10..11), frame(11..20), frame(20..22)]);
        let (answers, status) = all(start(frames, submit, || false, LIMITS, CancellationToken::new())).await;
        assert!(status.is_none(), "{status:?}");
        assert_eq!(answers, [10, 11, 12, 0, 14, 15, 16, 17, 18, 19, 20, 21]);
        assert_eq!(*called.lock().unwrap(), [1, 9, 2]);
    }

    /// At a follower a frame without commands was taken for the end of the stream's lane: it was never answered, and nothing
    /// behind it either.
    #[tokio::test]
    async fn an_empty_frame_is_skipped_and_holds_up_nothing() {
        let submit = |commands: Vec<v1::Command>| async move {
            match commands.len() {
                0 => std::future::pending().await,
                _ => Ok(answer(&commands)),
            }
        };
        let frames = futures::stream::iter([frame(1..1), frame(1..2), frame(2..2), frame(2..3), frame(3..3)]);
        let answers = all(start(frames, submit, || false, LIMITS, CancellationToken::new()));
        let (answers, status) = tokio::time::timeout(Duration::from_secs(10), answers).await.unwrap();
        assert!(status.is_none(), "{status:?}");
        assert_eq!(answers, [1, 2]);
    }

    #[tokio::test]
    async fn an_unknown_outcome_ends_the_stream_after_the_known_answers() {
        let submit = |commands: Vec<v1::Command>| async move {
            match commands.len() {
                1 => Ok(answer(&commands)),
                _ => Err(Status::unavailable("the leader was lost")),
            }
        };
        let frames = futures::stream::iter([frame(1..2), frame(2..4), frame(4..5)]);
        let (answers, status) = all(start(frames, submit, || false, LIMITS, CancellationToken::new())).await;
        assert_eq!(answers, [1]);
        let status = status.unwrap();
        assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(Reason::OutcomeUnknown)));
        assert_eq!(outcome_of(&status), None);
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_ends_the_stream_after_the_answers_before_it() {
        let large = v1::RenameChannelRequest { name: "가".repeat(FRAME_BYTES / 3), ..Default::default() };
        let large = v1::SubmitRequest { commands: vec![large.into(), command(1)] };
        for (bad, reason) in [
            (frame(0..FRAME_COMMANDS + 1), Reason::BodyTooLarge),
            (Ok(large), Reason::BodyTooLarge),
            (Err(Status::internal("not protobuf")), Reason::InvalidCommand),
        ] {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = calls.clone();
            let submit = move |commands: Vec<v1::Command>| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move { Ok(answer(&commands)) }
            };
            let frames = futures::stream::iter([frame(1..3), bad, frame(3..4)]);
            let (answers, status) = all(start(frames, submit, || false, LIMITS, CancellationToken::new())).await;
            assert_eq!(answers, [1, 2]);
            let status = status.unwrap();
            assert_eq!((status.code(), reason_of(&status)), (Code::InvalidArgument, Some(reason)));
            assert_eq!(outcome_of(&status), Some(Outcome::NotRecorded));
            assert_eq!(calls.load(Ordering::Relaxed), 1, "nothing after the bad frame is submitted");
        }
    }

    #[tokio::test]
    async fn no_more_than_the_bound_is_in_flight() {
        let gate = Arc::new(Semaphore::new(0));
        let (open, submitted) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = submitted.clone();
        let submit = move |commands: Vec<v1::Command>| {
            counted.fetch_add(commands.len(), Ordering::Relaxed);
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(answer(&commands))
            }
        };
        // Each is smaller than what a frame counts for at least.
        let limits = Limits { in_flight_bytes: FRAME_MIN_BYTES * 3, ..LIMITS };
        let (frames, incoming) = mpsc::channel(100);
        for key in 0..9 {
            frames.try_send(frame(key..key + 1)).unwrap();
        }
        let mut outgoing = start(ReceiverStream::new(incoming), submit, || false, limits, CancellationToken::new());
        while frames.capacity() < 94 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(submitted.load(Ordering::Relaxed), 3, "and the rest waits unread");
        drop(frames);
        open.add_permits(9);
        let mut answers = Vec::new();
        while let Some(response) = outgoing.next().await {
            answers.extend(revisions(response.unwrap()));
        }
        assert_eq!(answers, (0..9).collect::<Vec<_>>());
    }

    /// Eight imports kept their whole windows at a leader that was seconds behind, and nobody else was let in.
    #[tokio::test]
    async fn a_stream_keeps_little_on_the_way_while_the_leader_is_behind() {
        let behind = Arc::new(AtomicBool::new(true));
        let (told, submitted) = (behind.clone(), Arc::new(AtomicUsize::new(0)));
        let (counted, gate) = (submitted.clone(), Arc::new(Semaphore::new(0)));
        let open = gate.clone();
        let submit = move |commands: Vec<v1::Command>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(answer(&commands))
            }
        };
        let large = |key: usize| {
            let name = "x".repeat(HELD_BACK_BYTES / 2);
            let context = Some(v1::CommandContext { retry_key: key.to_string(), ..Default::default() });
            Ok(v1::SubmitRequest {
                commands: vec![v1::RenameChannelRequest { context, name, ..Default::default() }.into()],
            })
        };
        let (frames, incoming) = mpsc::channel(16);
        (20..28).for_each(|key| frames.try_send(large(key)).unwrap());
        let is_behind = move || told.load(Ordering::Relaxed);
        let mut outgoing = start(ReceiverStream::new(incoming), submit, is_behind, LIMITS, CancellationToken::new());
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(submitted.load(Ordering::Relaxed), 2, "and the rest waits unread");
        behind.store(false, Ordering::Relaxed);
        open.add_permits(1);
        let first = outgoing.next().await.unwrap().unwrap();
        assert_eq!(revisions(first), [20]);
        while submitted.load(Ordering::Relaxed) < 8 {
            tokio::task::yield_now().await;
        }
        drop(frames);
        open.add_permits(7);
        let (answers, status) = all(outgoing).await;
        assert!(status.is_none(), "{status:?}");
        assert_eq!(answers, (21..28).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_dropped_and_nothing_submitted_is_lost() {
        let submitted = Arc::new(AtomicUsize::new(0));
        let counted = submitted.clone();
        let submit = move |commands: Vec<v1::Command>| {
            counted.fetch_add(commands.len(), Ordering::Relaxed);
            async move { Ok(answer(&commands)) }
        };
        // Endless: only the reader's stop ends it.
        let frames = futures::stream::iter((14..).map(|key| frame(key..key + 1))).then(|frame| async {
            tokio::task::yield_now().await;
            frame
        });
        let outgoing = start(frames, submit, || false, LIMITS, CancellationToken::new());
        // Paused time moves on only when the task waits for its reader.
        tokio::time::sleep(LIMITS.patience + Duration::from_secs(1)).await;
        let before = submitted.load(Ordering::Relaxed);
        tokio::time::sleep(LIMITS.patience).await;
        assert_eq!(submitted.load(Ordering::Relaxed), before, "the task has ended");
        let (answers, status) = all(outgoing).await;
        assert!(!answers.is_empty() && answers.len() <= before);
        assert_eq!(answers, (14..14 + answers.len() as u64).collect::<Vec<_>>());
        let status = status.unwrap();
        assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some(Reason::SubscriberTooSlow)));
        assert_eq!(outcome_of(&status), None);
    }

    #[tokio::test]
    async fn a_stop_answers_what_was_read_and_says_so() {
        let gate = Arc::new(Semaphore::new(0));
        let (open, stopping) = (gate.clone(), CancellationToken::new());
        let submit = move |commands: Vec<v1::Command>| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(answer(&commands))
            }
        };
        let (frames, incoming) = mpsc::channel(4);
        frames.send(frame(1..3)).await.unwrap();
        let outgoing = start(ReceiverStream::new(incoming), submit, || false, LIMITS, stopping.clone());
        while frames.capacity() < 4 {
            tokio::task::yield_now().await;
        }
        stopping.cancel();
        open.add_permits(1);
        let (answers, status) = all(outgoing).await;
        assert_eq!(answers, [1, 2]);
        let status = status.unwrap();
        assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(Reason::ShuttingDown)));
        assert_eq!(outcome_of(&status), Some(Outcome::NotRecorded));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_ever() {
        let stopping = CancellationToken::new();
        let submit = |_| std::future::pending();
        let (frames, incoming) = mpsc::channel(4);
        frames.send(frame(1..3)).await.unwrap();
        let outgoing = start(ReceiverStream::new(incoming), submit, || false, LIMITS, stopping.clone());
        while frames.capacity() < 4 {
            tokio::task::yield_now().await;
        }
        stopping.cancel();
        let (answers, status) = all(outgoing).await;
        assert!(answers.is_empty());
        assert_eq!(reason_of(&status.unwrap()), Some(Reason::OutcomeUnknown));
    }
}
