//! What supervisors, load balancers and tools see.

use sillok_wire::v1::{self, Reason};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha,
};

use crate::{
    shop::{self, SHOP},
    support::{SITES, assert_status, configs, single, stale, start, three},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_cluster_answers_stale_reads_and_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    // Formed by nobody: it waits for `initialize`.
    let config = configs(dir.path(), 1, &["cluster.initial=[]"]).remove(0);
    let mut node = start(config).await;
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        node.health().check(request).await.unwrap().into_inner().status()
    };
    assert_eq!(check("sillok.v1.Commands").await, ServingStatus::NotServing);
    // Once the rows of the views are read.
    while check("").await != ServingStatus::Serving {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.http("/health/live").await.0, 200);
    assert_eq!(node.http("/health/ready").await.0, 200);
    let (status, body) = node.http("/health/leader").await;
    assert_eq!(status, 503);
    assert!(body.contains(r#""writes":false"#) && body.contains(r#""site":"chungju""#), "{body}");

    let refused = node.commands().open_channel(shop::open_request(SHOP, "open")).await.unwrap_err();
    let outcome = sillok_wire::errors::outcome_of(&refused);
    assert_eq!((refused.code(), outcome), (Code::Unavailable, Some(sillok_wire::errors::Outcome::NotRecorded)));
    let listed = node.queries().list_channels(v1::ListChannelsRequest { options: stale(), ..Default::default() }).await;
    assert_eq!(listed.unwrap().into_inner().channels, []);

    // And then it is.
    let itself = v1::Node {
        id: 1,
        site: "chungju".to_owned(),
        peer_address: node.config.listen.peer.to_string(),
        client_address: node.config.listen.client.to_string(),
        incarnation: String::new(),
    };
    let request = v1::InitializeRequest { nodes: vec![itself], allow_single_site_quorum: false };
    let refused = node.cluster().initialize(request.clone()).await.unwrap_err();
    assert_status(
        &refused,
        Code::FailedPrecondition,
        Reason::PlacementRefused,
        sillok_wire::errors::outcome_of(&refused),
    );
    let request = v1::InitializeRequest { allow_single_site_quorum: true, ..request };
    let formed = node.cluster().initialize(request).await.unwrap().into_inner();
    assert!(!formed.cluster_id.is_empty());
    node.leader_confirmed().await;
    assert_eq!(node.http("/health/leader").await.0, 200);
    let status = node.cluster().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader_id, status.cluster_id), (1, formed.cluster_id));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_rendered_with_their_meaning() {
    let single = single().await;
    shop::open(&mut single.node.commands()).await;
    let (status, body) = single.node.http("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("# HELP sillok_"), "{body}");
    assert!(body.contains("# TYPE sillok_"), "{body}");
    assert_eq!(single.node.http("/other").await.0, 404);
}

/// Queue depth, batch size, fsync time, replication lag by site, apply lag and leader changes: what operating.md says to look
/// at first is there, with a value, on a cluster that has written something.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_looks_at_first_is_measured() {
    let (mut nodes, _dir) = three().await;
    shop::open(&mut nodes[0].commands()).await;
    let leader = nodes[0].cluster().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().leader_id;
    let (status, body) = nodes[leader as usize - 1].http("/metrics").await;
    assert_eq!(status, 200);
    let values = |series: &str| -> Vec<f64> {
        let lines = body.lines().filter(|line| {
            line.strip_prefix(series).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    };
    for present in ["sillok_sequencer_queue_bytes", "sillok_chronicle_queue_bytes", "sillok_apply_lag_entries"] {
        assert!(!values(present).is_empty(), "{present} is missing:\n{body}");
    }
    for counted in [
        "sillok_record_decisions_count",
        "sillok_chronicle_batch_entries_count",
        "sillok_chronicle_fsync_seconds_count",
        "sillok_leader_changes_total",
    ] {
        assert!(values(counted).iter().any(|value| *value >= 1.0), "{counted} counts nothing:\n{body}");
    }
    for (at, site) in SITES.iter().enumerate().filter(|(at, _)| at + 1 != leader as usize) {
        let line = |line: &&str| {
            line.starts_with("sillok_replication_lag_entries{")
                && line.contains(&format!("site=\"{site}\""))
                && line.contains(&format!("node=\"{}\"", at + 1))
        };
        assert!(body.lines().any(|one| line(&one)), "no replication lag of {site}:\n{body}");
    }
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_shows_the_public_contract_only() {
    let single = single().await;
    let ask = || {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        futures::stream::iter([request])
    };
    let mut answers = ServerReflectionClient::new(single.node.channel.clone())
        .server_reflection_info(ask())
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.retain(|name| !name.starts_with("grpc.reflection"));
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", "sillok.v1.Cluster", "sillok.v1.Commands", "sillok.v1.Queries"]);

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "sillok.v1.Commands".to_owned(),
        )),
    };
    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(single.node.channel.clone())
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(
        old.message().await.unwrap().unwrap().message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}
