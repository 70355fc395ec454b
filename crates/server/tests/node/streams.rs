//! `Submit` and the tail of events.

use std::time::Duration;

use bytes::Bytes;
use sillok_wire::{
    errors::{self, Outcome},
    v1::{self, Reason, answer, read_item::Item},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    shop::{self, SHOP},
    support::{assert_status, single, single_with},
};

fn add(number: usize) -> v1::Command {
    shop::add(&format!("u{number}")).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_order_and_a_refusal_ends_nothing() {
    let single = single().await;
    let mut commands = single.node.commands();
    commands.open_channel(shop::open_request(SHOP, "open")).await.unwrap();
    // In every frame one friend is added who is one already.
    let frames: Vec<v1::SubmitRequest> = (0..50)
        .map(|frame| {
            let mut commands: Vec<v1::Command> = (0..20).map(|at| add(frame * 20 + at)).collect();
            let mut again = shop::add(&format!("u{}", frame * 20));
            again.context.as_mut().unwrap().retry_key = format!("again-{frame}");
            commands.push(again.into());
            v1::SubmitRequest::from_iter(commands)
        })
        .collect();
    let mut answers = commands.submit(futures::stream::iter(frames)).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(response) = answers.message().await.unwrap() {
        all.extend(response.answers);
    }
    assert_eq!(all.len(), 50 * 21);
    let mut revision = 1;
    for (at, answer) in all.into_iter().enumerate() {
        match answer.outcome.unwrap() {
            answer::Outcome::Receipt(receipt) => {
                revision += 1;
                assert_eq!(receipt.revision, revision, "answer {at}");
                assert_ne!(at % 21, 20);
            }
            answer::Outcome::Error(error) => {
                assert_eq!(at % 21, 20);
                let status = sillok_wire::errors::from_rpc(error);
                assert_status(&status, Code::AlreadyExists, Reason::AlreadyFriend, Some(Outcome::Refused));
            }
        }
    }
    assert_eq!(revision, 1_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_command_is_one_answer_and_a_bad_frame_ends_the_stream() {
    let single = single().await;
    let mut commands = single.node.commands();
    commands.open_channel(shop::open_request(SHOP, "open")).await.unwrap();
    let (frames, outgoing) = mpsc::channel(4);
    let mut answers = commands.submit(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let empty = v1::Command { command: None };
    let mut frame = v1::SubmitRequest::from_iter([add(1), empty, add(2), add(3)]);
    // What is no command at all takes nothing else along.
    frame.commands[2] = Bytes::from_static(b"\xff");
    frames.send(frame).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 4 {
        got.extend(answers.message().await.unwrap().unwrap().answers);
    }
    for (at, answer) in got.into_iter().enumerate() {
        match answer.outcome.unwrap() {
            answer::Outcome::Receipt(_) => assert!([0, 3].contains(&at), "{at}"),
            answer::Outcome::Error(error) => {
                assert!([1, 2].contains(&at), "{at}: {error:?}");
                let status = sillok_wire::errors::from_rpc(error);
                assert_status(&status, Code::InvalidArgument, Reason::InvalidCommand, Some(Outcome::NotRecorded));
            }
        }
    }

    frames.send(v1::SubmitRequest::from_iter((0..4_097).map(add))).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_status(&status, Code::InvalidArgument, Reason::BodyTooLarge, Some(Outcome::NotRecorded));
}

/// A shop's importer hung in its debugger; what it had submitted was recorded all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_dropped_and_loses_nothing_recorded() {
    let single = single_with(&["limits.slow_reader_ms=300"]).await;
    let mut commands = single.node.commands();
    commands.open_channel(shop::open_request(SHOP, "open")).await.unwrap();
    // A window of its own, as small as HTTP/2 has it: 64 KiB of answers fill it.
    let endpoint = format!("http://{}", single.node.server().client_address());
    let narrow = tonic::transport::Endpoint::from_shared(endpoint)
        .unwrap()
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await
        .unwrap();
    let mut narrow = v1::commands_client::CommandsClient::new(narrow);
    let (frames, outgoing) = mpsc::channel(1);
    let mut answers = narrow.submit(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        // Until the stream has ended and takes no more.
        while frames.send(v1::SubmitRequest::from_iter((sent..sent + 100).map(add))).await.is_ok() {
            sent += 100;
        }
        sent
    });
    // The node gives the client up while it reads nothing; it is told once it reads.
    let given_up = r#"sillok_slow_readers_total{call="Submit"} 1"#;
    while !single.node.http("/metrics").await.1.contains(given_up) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut receipts = 0;
    let status = loop {
        match answers.message().await {
            Ok(Some(response)) => {
                for answer in response.answers {
                    let Some(answer::Outcome::Receipt(receipt)) = answer.outcome else { panic!("refused") };
                    receipts += 1;
                    assert_eq!(receipt.revision, receipts + 1);
                }
            }
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_status(&status, Code::ResourceExhausted, Reason::SubscriberTooSlow, None);
    let sent = sending.await.unwrap();
    // Resent with the same keys, every command has its one answer.
    let again = (0..sent).step_by(100).map(|from| v1::SubmitRequest::from_iter((from..from + 100).map(add)));
    let frames: Vec<_> = again.collect();
    let mut answers = loop {
        match commands.submit(futures::stream::iter(frames.clone())).await {
            Ok(answers) => break answers.into_inner(),
            // A slow machine still works on what the first stream had on its way.
            Err(status) => {
                assert_eq!(errors::reason_of(&status), Some(Reason::Overloaded), "{status}");
                tokio::time::sleep(errors::retry_after(&status).expect("when to come again")).await;
            }
        }
    };
    let mut revisions = Vec::new();
    while let Some(response) = answers.message().await.unwrap() {
        for answer in response.answers {
            let Some(answer::Outcome::Receipt(receipt)) = answer.outcome else { panic!("refused") };
            revisions.push(receipt.revision);
        }
    }
    assert_eq!(revisions, (2..sent as u64 + 2).collect::<Vec<_>>());
    assert!(receipts <= sent as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_goes_on_from_a_cursor_without_gap_or_repetition() {
    let single = single().await;
    let mut commands = single.node.commands();
    shop::open(&mut commands).await;
    let mut queries = single.node.queries();
    let tail = v1::ReadEventsRequest { follow: true, ..Default::default() };
    let mut events = queries.read_events(tail.clone()).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut cursor = Default::default();
    let mut caught_up = 0;
    while caught_up == 0 || seen.len() < 4 {
        let response = events.message().await.unwrap().unwrap();
        caught_up += usize::from(response.caught_up);
        for item in response.items {
            let Some(Item::Event(event)) = item.item else { panic!("a refusal was not asked for") };
            seen.push(event.revision);
            cursor = item.cursor;
        }
    }
    assert_eq!(caught_up, 1);
    commands.send_broadcast(shop::broadcast("live", "live")).await.unwrap();
    while seen.len() < 5 {
        for item in events.message().await.unwrap().unwrap().items {
            let Some(Item::Event(event)) = item.item else { panic!("a refusal was not asked for") };
            seen.push(event.revision);
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    let after = v1::ReadEventsRequest {
        start: Some(v1::read_events_request::Start::AfterCursor(cursor)),
        follow: false,
        ..tail
    };
    let mut events = queries.read_events(after).await.unwrap().into_inner();
    let mut rest = Vec::new();
    while let Some(response) = events.message().await.unwrap() {
        rest.extend(response.items);
    }
    assert!(matches!(&rest[..], [v1::ReadItem { item: Some(Item::Event(event)), .. }] if event.revision == 5));
}
