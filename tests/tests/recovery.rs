//! Two of three buildings are gone, and so is the quorum. What one disk holds can be gone on from, by an operator who says so;
//! what it lacks is lost, and nobody is told otherwise; and no disk that turns up later begins a second history.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on fails where it stands")]

use std::{fs, path::Path, time::Duration};

use sillok_client::{Client, commands};
use sillok_tests::{Cluster, account, eventually};
use sillok_wire::v1::{self, cluster_client::ClusterClient};

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
const SHOP: &str = "recovered";
const KEPT: u64 = 40;
const LOST: u64 = 5;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

async fn add_friends(client: &Client, from: u64, count: u64) {
    for n in from..from + count {
        client.execute(commands::add_friend(SHOP, format!("guest-{n}"))).await.unwrap();
    }
}

/// What is printed by a command that asks no node.
fn offline(cluster: &Cluster, arguments: &[&str]) -> String {
    cluster.sillok(&cluster.endpoints(), arguments).unwrap()
}

/// `cluster recover` on this data directory, and what more is said.
fn recover<'a>(dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["cluster", "recover", "--data-dir", dir], more].concat()
}

/// A follower that is a little behind is all that is left: its id, that of a node of which a copy lies in a drawer, and where
/// the survivor keeps its data.
async fn burn_two_of_three(cluster: &mut Cluster, client: &Client) -> (u64, u64, String) {
    let leader = cluster.leader().await;
    let (survivor, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.stop(survivor).unwrap();
    // Acknowledged by two sites of three, of which none will be left.
    add_friends(client, KEPT, LOST).await;
    let data = cluster.site(survivor).data_dir().display().to_string();

    // While the others run this must not be done, however much the operator means it.
    let (code, said) = cluster.sillok_fails(&recover(&data, &[])).unwrap();
    assert!(code == 1 && said.contains("still run") && said.contains("nothing was changed"), "{code}: {said}");
    for id in [leader, other] {
        cluster.kill(id).unwrap();
    }
    // The three of them hold a quorum, and so do any two.
    let both = [cluster.site(leader).data_dir(), cluster.site(other).data_dir()].map(|dir| dir.display().to_string());
    let (code, said) = cluster.sillok_fails(&recover(&data, &["--data-dir", &both[0]])).unwrap();
    assert!(code == 1 && said.contains("start them"), "{code}: {said}");
    // One disk is carried out of the fire, and forgotten in a drawer.
    copy(&cluster.site(other).data_dir(), &cluster.dir().join("drawer"));
    both.iter().for_each(|dir| fs::remove_dir_all(dir).unwrap());
    (survivor, other, data)
}

fn confirm(cluster: &Cluster, data: &str) {
    let dry = offline(cluster, &recover(data, &[]));
    assert!(dry.contains("whatever they acknowledged since 20") && dry.contains("can not be known"), "{dry}");
    assert!(dry.contains("nothing was changed"), "{dry}");
    let seen = offline(cluster, &["verify", data, "--output", "json"]);
    let said = ["--actor", "kim", "--reason", "fire in two buildings", "--allow-single-site-quorum", "--confirm"];
    let wrong = [&said[..], &["recovered"]].concat();
    let (code, refused) = cluster.sillok_fails(&recover(data, &wrong)).unwrap();
    assert!(code == 2 && refused.contains("was confirmed; nothing was changed"), "{code}: {refused}");
    assert_eq!(offline(cluster, &["verify", data, "--output", "json"]), seen, "nothing was changed");

    let json: serde_json::Value =
        serde_json::from_str(&offline(cluster, &recover(data, &["--output", "json"]))).unwrap();
    let id = json["clusterId"].as_str().unwrap();
    let done = offline(cluster, &recover(data, &[&said[..], &[id]].concat()));
    assert!(done.contains("epoch 1 of cluster") && done.contains("next: start node"), "{done}");
    // Done is done.
    let (code, again) = cluster.sillok_fails(&recover(data, &[])).unwrap();
    assert!(code == 1 && again.contains("start them"), "{code}: {again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_quorum_is_recovered_from_one_survivor_and_nobody_left_behind_comes_back() {
    let mut cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel(SHOP, "불탄 가게")).await.unwrap();
    add_friends(&client, 0, KEPT).await;
    cluster.settle().await;
    let before = account::digests(cluster.site(1), SHOP).await.unwrap();
    let (survivor, old, data) = burn_two_of_three(&mut cluster, &client).await;
    confirm(&cluster, &data);

    cluster.spawn(survivor).unwrap();
    cluster.leader().await;
    // What every site had is there, byte for byte; what only the burnt ones had is not.
    let after = account::digests(cluster.site(survivor), SHOP).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(account::events(cluster.site(survivor), SHOP).await.unwrap().len() as u64, KEPT + 1);
    let endpoints = vec![cluster.site(survivor).client.clone()];
    let client = Client::builder().endpoints(endpoints.clone()).build().unwrap();
    add_friends(&client, 100, 3).await;

    let names: Vec<String> =
        cluster.sites.iter().filter(|site| site.id != survivor).map(|site| site.name.clone()).collect();
    for (place, name) in names.iter().enumerate() {
        let id = cluster.add(name).unwrap();
        cluster.spawn(id).unwrap();
        eventually("a blank node that answers", Duration::from_secs(20), || async {
            cluster.site(id).status().await.ok()
        })
        .await;
        let site = cluster.site(id);
        let node = v1::Node {
            id,
            site: site.name.clone(),
            peer_address: site.peer.clone(),
            client_address: site.client.clone(),
            incarnation: String::new(),
        };
        let request =
            v1::AddNodeRequest { node: Some(node), allow_single_site_quorum: place == 0, ..Default::default() };
        let mut operator = ClusterClient::new(cluster.site(survivor).connect().await.unwrap());
        operator.add_node(request).await.unwrap();
    }
    cluster.settle().await;
    let digests = account::digests(cluster.site(survivor), SHOP).await.unwrap();
    for id in [4, 5] {
        assert_eq!(account::digests(cluster.site(id), SHOP).await.unwrap(), digests);
    }
    let status = cluster.sillok(&endpoints, &["cluster", "status"]).unwrap();
    assert!(status.contains("epoch 1 since") && status.contains("by kim: fire in two buildings"), "{status}");
    let events = cluster.sillok(&endpoints, &["events", "read"]).unwrap();
    assert_eq!(events.matches("epoch 1 begins from node").count(), 1, "{events}");

    // The drawer is opened. Its disk takes no part, and not the second time either.
    let drawer = cluster.dir().join("drawer");
    copy(&drawer, &cluster.site(old).data_dir());
    for _ in 0..2 {
        cluster.spawn(old).unwrap();
        let status = cluster.wait_exit(old).unwrap();
        assert_eq!(status.code(), Some(66), "{}", cluster.site(old).log_tail());
    }
    let log = cluster.site(old).log_tail();
    assert!(log.contains("went on in epoch 1") && log.contains("takes no part, for ever"), "{log}");
    add_friends(&client, 200, 3).await;
}
