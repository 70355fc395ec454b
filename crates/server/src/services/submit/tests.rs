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
    Ok(v1::SubmitRequest::from_iter(keys.map(command)))
}

/// Answers each command with its retry key as the revision; key 13 is refused.
fn answer(commands: &[Bytes]) -> Vec<v1::Answer> {
    let one = |command: &Bytes| {
        let command = v1::Command::decode(command.clone()).unwrap();
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
    let submit = move |commands: Vec<Bytes>| {
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
    let submit = |commands: Vec<Bytes>| async move {
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
    let submit = |commands: Vec<Bytes>| async move {
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
    let large = v1::SubmitRequest::from_iter([large.into(), command(1)]);
    for (bad, reason) in [
        (frame(0..FRAME_COMMANDS + 1), Reason::BodyTooLarge),
        (Ok(large), Reason::BodyTooLarge),
        (Err(Status::internal("not protobuf")), Reason::InvalidCommand),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let submit = move |commands: Vec<Bytes>| {
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
    let submit = move |commands: Vec<Bytes>| {
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
    let submit = move |commands: Vec<Bytes>| {
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
        Ok(v1::SubmitRequest::from_iter([v1::RenameChannelRequest { context, name, ..Default::default() }.into()]))
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
    let submit = move |commands: Vec<Bytes>| {
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
    let submit = move |commands: Vec<Bytes>| {
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
