//! One command across nodes that fail: recorded once, and the caller is told the truth.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use sillok_client::{
    Client, ClientBuilder, WriteError, commands,
    commands::Conditions as _,
    v1::{self, Reason},
};
use sillok_wire::errors::Problem;
use support::{Ledger, Node, Reply, broken, no_leader, nowhere, refusal};
use tonic::Status;

/// Commands travel in frames of a stream, or each by a call of its own.
const BATCHED: bool = true;
const ALONE: bool = false;

fn client<'a>(batch: bool, nodes: impl IntoIterator<Item = &'a Node>) -> ClientBuilder {
    Client::builder().endpoints(nodes.into_iter().map(|node| node.address.clone())).batch_calls(batch)
}

/// What a caller is told does not depend on how the command travels.
macro_rules! both_ways {
    ($($test:ident)*) => {
        mod batched {
            $(#[tokio::test] async fn $test() { super::$test(super::BATCHED).await; })*
        }
        mod alone {
            $(#[tokio::test] async fn $test() { super::$test(super::ALONE).await; })*
        }
    };
}

both_ways! {
    another_node_is_asked_under_the_same_key
    what_was_recorded_without_an_answer_is_recorded_once
    an_election_is_waited_for_as_the_server_says
    a_full_leader_is_waited_for_where_it_is
    a_refusal_is_an_answer
    what_is_malformed_is_not_repeated
    a_reused_key_is_certainly_not_recorded
    after_the_deadline_the_caller_knows_what_is_known
    where_nobody_listens_nothing_is_recorded
    a_node_that_hangs_is_left_after_a_while
    writes_follow_the_leader_and_come_back_when_it_dies
    a_leader_that_cannot_be_reached_from_here_costs_nothing
    the_client_can_be_told_to_stay_where_it_is
}

fn command(key: &str) -> v1::Command {
    commands::add_friend("chungju", "u-1").with_key(key)
}

async fn another_node_is_asked_under_the_same_key(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::Break(broken()));
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = client(batch, [&one, &two]).build().unwrap();
    let receipt = client.execute(commands::add_friend("chungju", "u-1")).await.unwrap();
    assert_eq!((receipt.revision, receipt.is_retry()), (1, false));
    assert_eq!(one.calls().len(), 1);
    assert_eq!(one.calls(), two.calls());
    assert_eq!(one.calls()[0].len(), 26, "a fresh key was made");
    // What answered is asked first from now on.
    client.execute(command("next")).await.unwrap();
    assert_eq!((one.calls().len(), two.calls().len()), (1, 2));
}

/// The leader records and dies before it answers. The client must not add the friend twice, nor report a failure.
async fn what_was_recorded_without_an_answer_is_recorded_once(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::RecordAndBreak(broken()));
    let two = Node::start(&ledger, |_| Reply::Answer);
    let receipt = client(batch, [&one, &two]).build().unwrap().execute(command("once")).await.unwrap();
    assert!(receipt.is_retry());
    assert_eq!(ledger.keys(), ["once"]);
}

async fn an_election_is_waited_for_as_the_server_says(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let said = Duration::from_millis(60);
    let node = Node::start(&ledger, move |call| match call {
        0..3 => Reply::Say(no_leader().retry_after(said).into()),
        _ => Reply::Answer,
    });
    let begun = Instant::now();
    client(batch, [&node]).build().unwrap().execute(command("k")).await.unwrap();
    assert!(begun.elapsed() >= said * 3);
    assert_eq!(node.calls(), ["k", "k", "k", "k"]);
}

/// Followers would only forward to the leader that is full, which would then do the work twice.
async fn a_full_leader_is_waited_for_where_it_is(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let full = || Problem::new(Reason::Overloaded, "full").retry_after(Duration::from_millis(5)).into();
    let one = Node::start(&ledger, move |call| if call < 3 { Reply::Say(full()) } else { Reply::Answer });
    let two = Node::start(&ledger, |_| Reply::Answer);
    client(batch, [&one, &two]).build().unwrap().execute(command("k")).await.unwrap();
    assert_eq!((one.calls().len(), two.calls().len()), (4, 0));
}

async fn a_refusal_is_an_answer(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Say(refusal()));
    let error = client(batch, [&node]).build().unwrap().execute(command("k")).await.unwrap_err();
    assert!(matches!(error, WriteError::Refused { reason: Reason::AlreadyFriend, .. }), "{error:?}");
    assert_eq!(error.fact("friend_number").as_deref(), Some("1"));
    assert_eq!(error.to_string(), "refused: u-1 is a friend already");
    assert_eq!(node.calls().len(), 1);
}

async fn what_is_malformed_is_not_repeated(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let malformed = || Problem::new(Reason::InvalidCommand, "malformed").violation("user_key", "is empty");
    let node = Node::start(&ledger, move |_| Reply::Say(malformed().into()));
    let client = client(batch, [&node]).build().unwrap();
    let error = client.execute(command("k")).await.unwrap_err();
    assert!(matches!(error, WriteError::Invalid { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the command is invalid: user_key: is empty");
    assert_eq!(node.calls().len(), 1);

    let error = client.execute(v1::Command::default()).await.unwrap_err();
    assert!(matches!(error, WriteError::Invalid { .. }), "{error:?}");
    assert_eq!(node.calls().len(), 1, "a command of no kind is not sent");
}

async fn a_reused_key_is_certainly_not_recorded(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Say(Problem::new(Reason::RetryKeyReused, "another body").into()));
    let error = client(batch, [&node]).build().unwrap().execute(command("k")).await.unwrap_err();
    assert!(matches!(error, WriteError::NotRecorded { .. }), "{error:?}");
    assert_eq!(node.calls().len(), 1);
}

async fn after_the_deadline_the_caller_knows_what_is_known(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let told = |script: fn(u64) -> Reply| {
        let node = Node::start(&ledger, script);
        async move {
            let client = client(batch, [&node]).deadline(Duration::from_millis(800)).build().unwrap();
            let begun = Instant::now();
            let error = client.execute(command("k")).await.unwrap_err();
            assert!(begun.elapsed() < Duration::from_secs(20));
            assert!(node.calls().len() > 1, "it was tried again");
            error
        }
    };

    let error = told(|_| Reply::Break(broken())).await;
    assert!(matches!(&error, WriteError::Unknown { retry_key, .. } if retry_key == "k"), "{error:?}");
    assert!(error.to_string().contains("repeating it with the retry key k is safe"), "{error}");

    let error = told(|_| Reply::Say(no_leader().into())).await;
    assert!(matches!(error, WriteError::NotRecorded { .. }), "{error:?}");
    assert_eq!(error.reason(), Some(Reason::NoLeader));

    // The first try may have been recorded, whatever the later ones say of themselves.
    let error = told(|call| if call == 0 { Reply::Break(broken()) } else { Reply::Say(no_leader().into()) }).await;
    assert!(matches!(error, WriteError::Unknown { .. }), "{error:?}");
}

async fn where_nobody_listens_nothing_is_recorded(batch: bool) {
    let client =
        Client::builder().endpoint(nowhere()).batch_calls(batch).deadline(Duration::from_millis(200)).build().unwrap();
    let error = client.execute(command("k")).await.unwrap_err();
    assert!(matches!(error, WriteError::NotRecorded { .. }), "{error:?}");
}

async fn a_node_that_hangs_is_left_after_a_while(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::Hang);
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = client(batch, [&one, &two]).request_timeout(Duration::from_millis(100)).build().unwrap();
    client.execute(command("k")).await.unwrap();
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
}

async fn writes_follow_the_leader_and_come_back_when_it_dies(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let given = Node::start(&ledger, |_| Reply::Answer);
    let leader = Node::start(&ledger, |_| Reply::Answer);
    given.names_leader(&leader.address);
    let client = client(batch, [&given]).build().unwrap();
    // The leader is not among the given endpoints: it is relied upon once a connection stands.
    let mut sent = 0;
    while leader.calls().is_empty() {
        client.execute(command(&format!("k-{sent}"))).await.unwrap();
        sent += 1;
        assert!(sent < 10_000, "the leader was never asked");
    }
    assert_eq!(client.leader().as_deref(), Some(&*leader.address));
    let before = given.calls().len();
    client.execute(command("direct")).await.unwrap();
    assert_eq!(given.calls().len(), before);

    drop(leader);
    client.execute(command("after")).await.unwrap();
    assert_eq!(given.calls().last().unwrap(), "after");
    assert_eq!(ledger.keys().len(), sent + 2);
}

async fn a_leader_that_cannot_be_reached_from_here_costs_nothing(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    node.names_leader(&nowhere());
    let client = client(batch, [&node]).build().unwrap();
    for call in 0..50 {
        client.execute(command(&format!("k-{call}"))).await.unwrap();
    }
    assert_eq!(node.calls().len(), 50, "every write went through at the first try");
    assert_eq!(client.leader(), None);
}

async fn the_client_can_be_told_to_stay_where_it_is(batch: bool) {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::Answer);
    let two = Node::start(&ledger, |_| Reply::Answer);
    one.names_leader(&two.address);
    let client = client(batch, [&one, &two]).follow_leader(false).build().unwrap();
    for call in 0..5 {
        client.execute(command(&format!("k-{call}"))).await.unwrap();
    }
    assert_eq!((one.calls().len(), two.calls().len()), (5, 0));
}

#[tokio::test]
async fn reads_go_to_whoever_answers() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::Break(broken()));
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = client(BATCHED, [&one, &two]).build().unwrap();
    let request = v1::GetChannelRequest { channel_id: "chungju".into(), options: None };
    let answer = client
        .read(|mut queries| {
            let request = request.clone();
            async move { queries.get_channel(request).await }
        })
        .await
        .unwrap();
    assert_eq!(answer.channel.unwrap().channel_id, "chungju");
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
}

#[tokio::test]
async fn what_every_node_would_say_of_a_read_is_said_at_once() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::Say(Status::not_found("no such channel")));
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = client(BATCHED, [&one, &two]).build().unwrap();
    let request = v1::GetChannelRequest::default();
    let status = client
        .read(|mut queries| {
            let request = request.clone();
            async move { queries.get_channel(request).await }
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(two.calls().is_empty());
}

#[test]
fn endpoints_are_checked() {
    use sillok_client::BuildError;
    assert!(matches!(Client::builder().build(), Err(BuildError::NoEndpoint)));
    for bad in ["", "localhost", "local host:1", "127.0.0.1:99999"] {
        let error = Client::builder().endpoint(bad).build().unwrap_err();
        assert!(matches!(&error, BuildError::BadEndpoint { endpoint } if endpoint == bad), "{error}");
    }
    let client = Client::builder().endpoints(["127.0.0.1:7401", "http://127.0.0.1:7401/", "[::1]:7402"]).build();
    assert_eq!(client.unwrap().endpoints().collect::<Vec<_>>(), ["127.0.0.1:7401", "[::1]:7402"]);
}

/// A thousand callers cost as many HTTP/2 exchanges on either side, several times what recording their commands costs.
#[tokio::test]
async fn those_that_wait_together_travel_together_and_each_gets_its_own_answer() {
    let ledger = Arc::new(Ledger::default());
    // The fake refuses by place, and they arrive in the order in which they were called.
    let node = Node::start(&ledger, |call| if call % 10 == 3 { Reply::Say(refusal()) } else { Reply::Answer });
    let client = client(BATCHED, [&node]).build().unwrap();
    let keys: Vec<String> = (0..1_000).map(|call| format!("k-{call}")).collect();
    let calls = keys.iter().map(|key| client.execute(command(key)));
    let outcomes = futures::future::join_all(calls).await;
    assert_eq!(node.calls(), keys);
    for (at, (key, outcome)) in keys.iter().zip(outcomes).enumerate() {
        match outcome {
            Ok(receipt) => assert_eq!(ledger.keys()[receipt.revision as usize - 1], *key),
            Err(error) => assert!(at % 10 == 3 && matches!(error, WriteError::Refused { .. }), "{key}: {error}"),
        }
    }
    assert!(node.frames().len() <= 10, "{:?}", node.frames());
}

#[tokio::test]
async fn a_frame_that_no_node_takes_takes_nobody_with_it() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    node.takes_frames_of(400);
    let client = client(BATCHED, [&node]).build().unwrap();
    let keys: Vec<String> = (0..20).map(|call| format!("k-{call}")).collect();
    let calls = keys.iter().map(|key| client.execute(command(key)));
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(ledger.keys().len(), 20, "each by a call of its own");
}

/// A large one would hold up those behind it for its whole length, and a wait for all sites for seconds.
#[tokio::test]
async fn what_others_should_not_wait_behind_goes_alone() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    let client = client(BATCHED, [&node]).build().unwrap();
    client.execute(commands::rename_channel("chungju", "x".repeat(70 << 10)).with_key("large")).await.unwrap();
    client.execute(command("waits").at_all_sites(Duration::from_secs(1))).await.unwrap();
    assert_eq!(node.frames(), [0; 0]);
    client.execute(command("small")).await.unwrap();
    assert_eq!(node.frames(), [1]);
    assert_eq!(node.calls(), ["large", "waits", "small"]);
}

/// The next call must not be caught in the stream that the one before it waited for in vain.
#[tokio::test]
async fn a_silent_stream_is_left() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |call| if call == 0 { Reply::Hang } else { Reply::Answer });
    let client = client(BATCHED, [&node]).request_timeout(Duration::from_millis(100)).build().unwrap();
    client.execute(command("first")).await.unwrap();
    client.execute(command("second")).await.unwrap();
    assert_eq!(node.calls(), ["first", "first", "second"]);
    assert_eq!(ledger.keys(), ["first", "second"]);
}

#[tokio::test]
async fn a_caller_that_is_gone_before_its_command_was_sent_records_nothing() {
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&ledger, |_| Reply::Answer);
    let client = client(BATCHED, [&node]).build().unwrap();
    // Polled once: it stands in line, and nothing has been sent.
    assert!(client.execute(command("gone")).now_or_never().is_none());
    client.execute(command("stays")).await.unwrap();
    assert_eq!(ledger.keys(), ["stays"]);
}

/// A node that has handed leadership on goes on forwarding, and nothing on an open stream tells.
#[tokio::test]
async fn a_stream_grows_old_and_the_next_one_finds_the_leader() {
    let ledger = Arc::new(Ledger::default());
    let one = Node::start(&ledger, |_| Reply::Answer);
    let two = Node::start(&ledger, |_| Reply::Answer);
    let client = client(BATCHED, [&one, &two]).build().unwrap();
    client.execute(command("first")).await.unwrap();
    one.names_leader(&two.address);
    let begun = Instant::now();
    let mut sent = 0;
    while two.calls().is_empty() {
        client.execute(command(&format!("k-{sent}"))).await.unwrap();
        sent += 1;
        assert!(begun.elapsed() < Duration::from_secs(60), "the leader was never asked");
    }
    assert_eq!(ledger.keys().len(), sent + 1);
}
