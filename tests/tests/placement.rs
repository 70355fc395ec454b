//! "They did not even spread their servers": a cluster in which one site holds a quorum is refused, and what a fire would
//! mean is always answered.

use std::time::Duration;

use sillok_client::{Client, commands};
use sillok_tests::{Cluster, eventually};
use sillok_wire::v1::{self, cluster_client::ClusterClient};
use tonic_types::StatusExt as _;

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_nodes_at_one_site_are_refused_at_init() {
    let mut cluster = Cluster::prepare(BINARY, &["chungju", "chungju", "jeonju"]).unwrap();
    for site in &cluster.sites {
        // Without `cluster.initial`: the operator forms this one by hand.
        let config = std::fs::read_to_string(site.dir.join("node.toml")).unwrap();
        let config = config.split("[[cluster.initial]]").next().unwrap();
        std::fs::write(site.dir.join("node.toml"), config).unwrap();
    }
    for id in 1..=3 {
        cluster.spawn(id).unwrap();
    }
    for site in &cluster.sites {
        eventually("a blank node that answers", Duration::from_secs(10), || async { site.status().await.ok() }).await;
    }
    let nodes = cluster.sites.iter().map(|site| v1::Node {
        id: site.id,
        site: site.name.clone(),
        peer_address: site.peer.clone(),
        client_address: site.client.clone(),
        incarnation: String::new(),
    });
    let request = v1::InitializeRequest { nodes: nodes.collect(), allow_single_site_quorum: false };
    let mut operator = ClusterClient::new(cluster.site(1).connect().await.unwrap());
    let refused = operator.initialize(request.clone()).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().reason, "PLACEMENT_REFUSED");
    assert!(refused.message().contains("chungju"), "{}", refused.message());
    assert!(cluster.site(1).status().await.unwrap().cluster_id.is_empty(), "nothing was formed");

    // In so many words, it is the operator's choice.
    operator.initialize(v1::InitializeRequest { allow_single_site_quorum: true, ..request }).await.unwrap();
    cluster.leader().await;
    let losses = operator.what_if(v1::WhatIfRequest {}).await.unwrap().into_inner().sites;
    let chungju = losses.iter().find(|loss| loss.site == "chungju").unwrap();
    assert!(!chungju.writes_continue, "{}", chungju.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_if_names_each_site_and_changes_its_mind_when_one_is_dark() {
    let mut cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel("what-if", "만약에")).await.unwrap();
    let asked = cluster.leader().await;
    let mut operator = ClusterClient::new(cluster.site(asked).connect().await.unwrap());
    let losses = eventually("every site caught up", Duration::from_secs(10), || {
        let mut operator = operator.clone();
        async move {
            let losses = operator.what_if(v1::WhatIfRequest {}).await.ok()?.into_inner().sites;
            losses.iter().all(|loss| loss.data_safe && loss.writes_continue).then_some(losses)
        }
    })
    .await;
    let names: Vec<_> = losses.iter().map(|loss| loss.site.as_str()).collect();
    assert_eq!(names, ["chungju", "jeonju", "seongju"], "in alphabetical order");

    let dark = asked % 3 + 1;
    cluster.kill(dark).unwrap();
    let third = 6 - asked - dark;
    eventually("what-if notices the dark site", Duration::from_secs(10), || {
        let mut operator = operator.clone();
        let third = cluster.site(third).name.clone();
        async move {
            let losses = operator.what_if(v1::WhatIfRequest {}).await.ok()?.into_inner().sites;
            let third = losses.into_iter().find(|loss| loss.site == third)?;
            (!third.writes_continue).then_some(())
        }
    })
    .await;
    operator.what_if(v1::WhatIfRequest {}).await.unwrap();
}
