//! The graceful stop: not serving first, streams end with a status, nothing acknowledged is lost.

use std::time::Duration;

use sillok_wire::{
    errors::Outcome,
    v1::{self, Reason, answer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::{
    shop::{self, SHOP},
    support::{assert_status, configs, key, start},
};

#[tokio::test(flavor = "multi_thread")]
async fn health_says_so_first_and_every_stream_ends_with_a_status() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1, &[]).remove(0);
    let mut node = start(config.clone()).await;
    node.leader_confirmed().await;
    shop::open(&mut node.commands()).await;

    let request = HealthCheckRequest { service: "sillok.v1.Commands".to_owned() };
    let mut health = node.health().watch(request).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let (frames, outgoing) = mpsc::channel(4);
    let mut answers = node.commands().submit(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let command =
        v1::RenameChannelRequest { context: key("rename"), channel_id: SHOP.to_owned(), name: "새 이름".to_owned() };
    frames.send(v1::SubmitRequest::from_iter([command.into()])).await.unwrap();
    let answered = answers.message().await.unwrap().unwrap();
    assert!(matches!(answered.answers[0].outcome, Some(answer::Outcome::Receipt(_))));
    let tail = v1::ReadEventsRequest { follow: true, ..Default::default() };
    let mut events = node.queries().read_events(tail).await.unwrap().into_inner();
    let mut seen = 0;
    while seen < 5 {
        seen += events.message().await.unwrap().unwrap().items.len();
    }

    let server = node.server.take().unwrap();
    let stopped = tokio::spawn(server.stop());
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_status(&health.message().await.unwrap_err(), Code::Unavailable, Reason::ShuttingDown, None);
    let ended = answers.message().await.unwrap_err();
    assert_status(&ended, Code::Unavailable, Reason::ShuttingDown, Some(Outcome::NotRecorded));
    let ended = loop {
        // Progress may still come before.
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the tail ended without a status"),
            Err(status) => break status,
        }
    };
    assert_status(&ended, Code::Unavailable, Reason::ShuttingDown, None);
    drop(frames);
    let all = Duration::from_millis(config.limits.drain_ms);
    tokio::time::timeout(all, stopped).await.expect("it does not wait for anybody").unwrap();

    // Everything is there when it starts again, on the same ports and the same directory.
    let mut node = start(config).await;
    node.leader_confirmed().await;
    let request = v1::GetChannelRequest { options: None, channel_id: SHOP.to_owned() };
    let channel = node.queries().get_channel(request).await.unwrap().into_inner().channel.unwrap();
    assert_eq!((channel.revision, channel.name.as_str(), channel.friend_count), (5, "새 이름", 3));
    node.stop().await;
}

/// The leader was asked to stop while a call was open that waits for a dark site. It kept the leadership until the last
/// connection had drained, ten seconds later, and writes stood still at every site meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_a_dark_site_holds_up_no_handover() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3, &["limits.drain_ms=5000"]);
    let mut nodes = futures::future::join_all(configs.into_iter().map(start)).await;
    for node in &nodes {
        node.leader_confirmed().await;
    }
    let status = nodes[0].cluster().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    let leader = status.leader_id as usize - 1;
    let (dark, other) = ((leader + 1) % 3, (leader + 2) % 3);
    shop::open(&mut nodes[leader].commands()).await;
    nodes[dark].stop().await;

    let mut request = shop::add("patient");
    let context = request.context.as_mut().unwrap();
    context.wait = v1::Wait::AllSites.into();
    context.wait_at_most = Some(prost_types::Duration { seconds: 8, nanos: 0 });
    let mut commands = nodes[leader].commands();
    let open = tokio::spawn(async move { commands.add_friend(request).await });
    let listed = v1::GetChannelRequest { options: None, channel_id: SHOP.to_owned() };
    loop {
        let channel = nodes[other].queries().get_channel(listed.clone()).await.unwrap().into_inner().channel.unwrap();
        if channel.friend_count == 4 {
            break;
        }
    }

    let began = tokio::time::Instant::now();
    let stopped = tokio::spawn(nodes[leader].server.take().unwrap().stop());
    let successor = other as u64 + 1;
    while nodes[other].cluster().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().leader_id != successor
    {
        assert!(began.elapsed() < Duration::from_secs(30), "leadership is not handed over");
    }
    stopped.await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5 + 5), "the stop took {took:?}");
    let receipt = open.await.unwrap().expect("the event is recorded, and nothing more is waited for").into_inner();
    assert!(!receipt.durability.unwrap().all_sites);
    nodes[other].stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1, &[]).remove(0);
    let mut node = start(config.clone()).await;
    node.leader_confirmed().await;
    node.stop().await;
    for other in [&["node.id=2", "cluster.initial=[]"], &["node.site=jeonju", "cluster.initial=[]"]] {
        let mut wrong = configs(dir.path(), 1, other).remove(0);
        wrong.data_dir = config.data_dir.clone();
        let error = sillok_server::Server::start(&wrong).await.err().expect("refused");
        assert_eq!(error.exit_code(), sillok_server::ExitCode::WrongData, "{error}");
    }
    // And nothing was changed by it.
    let mut node = start(config).await;
    node.leader_confirmed().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1, &[]).remove(0);
    let _taken = std::net::TcpListener::bind(config.listen.client).unwrap();
    let error = sillok_server::Server::start(&config).await.err().expect("refused");
    assert_eq!(error.exit_code(), sillok_server::ExitCode::BadConfig);
    assert!(error.to_string().contains("`listen.client`"), "{error}");
    assert!(!config.data_dir.exists(), "nothing was formatted");
}
