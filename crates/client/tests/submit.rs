//! Many commands over streams that break: every one answered, in order, and recorded once.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sillok_client::{Answered, Client, Closed, SubmitOptions, WriteError, commands, commands::Conditions as _, v1};
use support::{Ledger, Node, Reply, broken, no_leader, nowhere, refusal};

fn key(number: u64) -> String {
    format!("key-{number:05}")
}

fn command(number: u64) -> v1::Command {
    commands::add_friend("chungju", format!("u-{number}")).with_key(key(number))
}

/// Sends so many commands from one task and takes their answers in this one.
async fn submit(client: &Client, count: u64, options: SubmitOptions) -> Vec<Answered> {
    let (mut sender, mut answers) = client.submit_with(options).split();
    let sending = tokio::spawn(async move {
        for number in 0..count {
            assert_eq!(sender.send(command(number)).await, Ok(number));
        }
    });
    let mut all = Vec::new();
    while answers.next_batch(&mut all).await {}
    sending.await.unwrap();
    assert_eq!(all.len() as u64, count);
    for (number, answer) in all.iter().enumerate() {
        assert_eq!(answer.index, number as u64);
    }
    all
}

fn each_once_in_order(ledger: &Ledger, count: u64) {
    let keys = ledger.keys();
    for (at, recorded) in keys.iter().enumerate() {
        assert_eq!(*recorded, key(at as u64), "at place {at} of {}", keys.len());
    }
    assert_eq!(keys.len() as u64, count);
}

fn small_frames() -> SubmitOptions {
    SubmitOptions { frame_commands: 16, window_commands: 200, ..Default::default() }
}

#[tokio::test]
async fn answers_come_in_order() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |at| if at % 10 == 3 { Reply::Say(refusal()) } else { Reply::Answer });
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let answers = submit(&client, 2_000, SubmitOptions::default()).await;
    let mut revision = 0;
    for (at, answer) in answers.into_iter().enumerate() {
        if at % 10 == 3 {
            assert!(matches!(answer.outcome, Err(WriteError::Refused { .. })));
        } else {
            revision += 1;
            assert_eq!(answer.outcome.unwrap().revision, revision);
        }
    }
    assert_eq!(node.calls().len(), 2_000, "nothing was sent twice");
}

/// A stream breaks in the middle, after a command was recorded whose answer never came.
#[tokio::test]
async fn a_broken_stream_goes_on_from_the_first_unanswered() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |at| match at {
        137 => Reply::RecordAndBreak(broken()),
        138.. => Reply::Break(broken()),
        _ => Reply::Answer,
    });
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = Client::builder().endpoints([&one.address, &two.address]).build().unwrap();
    let answers = submit(&client, 1_000, small_frames()).await;
    each_once_in_order(&ledger, 1_000);
    for (at, answer) in answers.into_iter().enumerate() {
        let receipt = answer.outcome.unwrap();
        assert_eq!(receipt.revision, at as u64 + 1);
        assert_eq!(receipt.is_retry(), at == 137, "command {at}");
    }
    assert_eq!(two.calls().first(), Some(&key(137)));
}

#[tokio::test]
async fn streams_that_break_all_the_time_still_finish() {
    let ledger = Arc::new(Ledger::default());
    let flaky = |at: u64| match at % 97 {
        31 => Reply::Break(broken()),
        62 => Reply::RecordAndBreak(broken()),
        93 => Reply::Break(no_leader().into()),
        _ => Reply::Answer,
    };
    let one = Node::start(&ledger, flaky);
    let two = Node::start(&ledger, flaky);
    let client = Client::builder().endpoints([&one.address, &two.address]).build().unwrap();
    let answers = submit(&client, 500, small_frames()).await;
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    each_once_in_order(&ledger, 500);
}

/// A shop imported a list in which one row was 3 MiB: the node ended the stream at it, the client began again there until its
/// deadline, and no later row ever got through.
#[tokio::test]
async fn a_command_that_is_too_large_is_answered_and_the_stream_goes_on() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    node.takes_frames_of(64 << 10);
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let mut stream = client.submit_with(small_frames());
    for number in 0..100 {
        let large = commands::add_friend("chungju", "u".repeat(100 << 10)).with_key(key(number));
        stream.send(if number % 40 == 20 { large } else { command(number) }).await.unwrap();
    }
    stream.close();
    for number in 0..100 {
        let answer = stream.next().await.unwrap();
        assert_eq!(answer.index, number);
        match answer.outcome {
            Ok(_) => assert_ne!(number % 40, 20),
            Err(error) => {
                assert!(number % 40 == 20 && matches!(error, WriteError::Invalid { .. }), "{number}: {error:?}");
            }
        }
    }
    assert!(stream.next().await.is_none());
    assert_eq!(ledger.keys().len(), 98);
}

/// Commands that only together are too much for a node are not to blame.
#[tokio::test]
async fn a_frame_that_is_too_large_is_sent_in_smaller_ones() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    node.takes_frames_of(1 << 10);
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let answers = submit(&client, 200, SubmitOptions::default()).await;
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    each_once_in_order(&ledger, 200);
}

/// A list was imported for longer than the client's deadline when the leader changed: what was on its way was given up at once, as
/// if nothing had been answered since the beginning.
#[tokio::test]
async fn a_stream_goes_on_however_long_it_has_lasted() {
    const DEADLINE: Duration = Duration::from_millis(500);
    let ledger = Arc::new(Ledger::default());
    let breaks = Arc::new(AtomicBool::new(false));
    let broken_once = Arc::clone(&breaks);
    let node = Node::start(&ledger, move |_| match broken_once.swap(false, Ordering::Relaxed) {
        true => Reply::Break(broken()),
        false => Reply::Answer,
    });
    let client = Client::builder().endpoint(&node.address).deadline(DEADLINE).build().unwrap();
    let mut stream = client.submit_with(small_frames());
    let (begun, mut sent) = (Instant::now(), 0);
    for lasted in [2 * DEADLINE, 4 * DEADLINE] {
        while begun.elapsed() < lasted {
            stream.send(command(sent)).await.unwrap();
            stream.next().await.unwrap().outcome.unwrap();
            sent += 1;
        }
        breaks.store(true, Ordering::Relaxed);
    }
    stream.send(command(sent)).await.unwrap();
    stream.next().await.unwrap().outcome.unwrap();
    each_once_in_order(&ledger, sent + 1);
}

/// An answer that says "not now" is no outcome: the command is sent again, and those after it get what they got.
#[tokio::test]
async fn not_now_is_no_answer() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |at| if at == 7 { Reply::Say(no_leader().into()) } else { Reply::Answer });
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let answers = submit(&client, 40, small_frames()).await;
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    let mut keys = ledger.keys();
    keys.sort_unstable();
    assert_eq!(keys, (0..40).map(key).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_killed_node_is_replaced() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |at| if at < 300 { Reply::Answer } else { Reply::Hang });
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = Client::builder().endpoints([&one.address, &two.address]).build().unwrap();
    let running = tokio::spawn(async move { submit(&client, 1_000, small_frames()).await });
    one.has_calls(301).await;
    drop(one);
    let answers = running.await.unwrap();
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    each_once_in_order(&ledger, 1_000);
}

#[tokio::test]
async fn a_stream_moves_to_the_leader() {
    let ledger = Arc::new(Ledger::default());
    let given = Node::start(&ledger, |_| Reply::Answer);
    let leader = Node::start(&ledger, |_| Reply::Answer);
    given.names_leader(&leader.address);
    let client = Client::builder().endpoint(&given.address).build().unwrap();
    let mut stream = client.submit_with(small_frames());
    let mut sent = 0;
    while leader.calls().is_empty() {
        stream.send(command(sent)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().outcome.unwrap().revision, sent + 1);
        sent += 1;
        assert!(sent < 10_000, "the leader was never asked");
    }
    assert!(given.calls().iter().all(|call| !leader.calls().contains(call)), "nothing was sent twice");
    each_once_in_order(&ledger, sent);
}

#[tokio::test]
async fn an_overdue_answer_moves_the_stream() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |at| if at < 20 { Reply::Answer } else { Reply::Hang });
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = Client::builder()
        .endpoints([&one.address, &two.address])
        .request_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let answers = submit(&client, 100, small_frames()).await;
    assert!(answers.iter().all(|answer| answer.outcome.is_ok()));
    each_once_in_order(&ledger, 100);
}

#[tokio::test]
async fn an_idle_stream_stays() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    let client = Client::builder().endpoint(&node.address).request_timeout(Duration::from_millis(500)).build().unwrap();
    let mut stream = client.submit();
    for number in 0..3 {
        stream.send(command(number)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().index, number);
        // Longer than an answer may take: nothing is asked, so nothing is overdue.
        assert!(tokio::time::timeout(Duration::from_millis(700), stream.next()).await.is_err());
    }
    stream.close();
    assert!(stream.next().await.is_none());
    assert_eq!(node.calls().len(), 3);
}

#[tokio::test]
async fn the_window_bounds_what_is_unanswered() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Hang);
    let client = Client::builder().endpoint(&node.address).build().unwrap();
    let options = SubmitOptions { window_commands: 10, ..Default::default() };
    let mut stream = client.submit_with(options);
    for number in 0..10 {
        stream.send(command(number)).await.unwrap();
    }
    node.has_calls(1).await;
    let eleventh = tokio::time::timeout(Duration::from_millis(100), stream.send(command(10))).await;
    assert!(eleventh.is_err(), "the window is full");
}

#[tokio::test]
async fn without_progress_it_gives_up_and_says_what_is_known() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |at| if at == 0 { Reply::Answer } else { Reply::RecordAndBreak(broken()) });
    let client = Client::builder().endpoint(&node.address).deadline(Duration::from_millis(1_500)).build().unwrap();
    let mut stream = client.submit();
    for number in 0..3 {
        stream.send(command(number)).await.unwrap();
    }
    assert!(stream.next().await.unwrap().outcome.is_ok());
    for number in 1..3 {
        let answer = stream.next().await.unwrap();
        assert_eq!(answer.index, number);
        let error = answer.outcome.unwrap_err();
        assert!(matches!(&error, WriteError::Unknown { retry_key, .. } if *retry_key == key(number)), "{error:?}");
    }
    assert!(stream.next().await.is_none());
    assert_eq!(stream.send(command(3)).await, Err(Closed));
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_recorded() {
    let client = Client::builder().endpoint(nowhere()).deadline(Duration::from_millis(200)).build().unwrap();
    let mut stream = client.submit();
    stream.send(command(0)).await.unwrap();
    let error = stream.next().await.unwrap().outcome.unwrap_err();
    assert!(matches!(&error, WriteError::NotRecorded { retry_key, .. } if *retry_key == key(0)), "{error:?}");
}

#[tokio::test]
async fn an_empty_stream_ends() {
    let client = Client::builder().endpoint(nowhere()).build().unwrap();
    let (sender, mut answers) = client.submit().split();
    drop(sender);
    assert!(answers.next().await.is_none());
}
