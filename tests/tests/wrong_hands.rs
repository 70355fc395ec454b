//! Disks that come back in the wrong place: each start is refused with its own exit code and a reason, and nothing is lost.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on fails where it stands")]

use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Command, time::Duration};

use sillok_client::{Client, commands};
use sillok_tests::{Cluster, account, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");

async fn with_some_history() -> (Cluster, Client) {
    let cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel("archive", "사고")).await.unwrap();
    for n in 0..20 {
        client.execute(commands::add_friend("archive", format!("guest-{n}"))).await.unwrap();
    }
    (cluster, client)
}

fn first_segment(cluster: &Cluster, id: u64) -> fs::File {
    let path = cluster.site(id).data_dir().join("chronicle/0000000000.seg");
    fs::File::options().read(true).write(true).open(path).unwrap()
}

/// `sillok verify DIR`: its exit code, what it says to a script, and what it says to a person.
fn verify(dir: &Path) -> (Option<i32>, serde_json::Value, String) {
    let said = Command::new(BINARY).args(["verify", "--output", "json"]).arg(dir).output().unwrap();
    let json = serde_json::from_slice(&said.stdout).unwrap_or_default();
    (said.status.code(), json, String::from_utf8_lossy(&said.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_node_is_refused() {
    let (mut cluster, client) = with_some_history().await;
    cluster.stop(2).unwrap();
    cluster.stop(3).unwrap();
    // Someone swaps the disks of two sites.
    let (second, third, aside) = (cluster.site(2).data_dir(), cluster.site(3).data_dir(), cluster.dir().join("aside"));
    fs::rename(&second, &aside).unwrap();
    fs::rename(&third, &second).unwrap();
    fs::rename(&aside, &third).unwrap();
    for id in [2, 3] {
        cluster.spawn(id).unwrap();
        let ended = cluster.wait_exit(id).unwrap();
        assert_eq!(ended.code(), Some(66), "{}", cluster.site(id).log_tail());
    }
    fs::rename(&second, &aside).unwrap();
    fs::rename(&third, &second).unwrap();
    fs::rename(&aside, &third).unwrap();
    cluster.spawn(2).unwrap();
    cluster.spawn(3).unwrap();
    client.execute(commands::add_friend("archive", "after")).await.unwrap();
    cluster.settle().await;
    assert_eq!(account::events(cluster.site(2), "archive").await.unwrap().len(), 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_disk_under_an_old_id_never_takes_part_again() {
    let (mut cluster, client) = with_some_history().await;
    let victim = cluster.leader().await % 3 + 1;
    cluster.kill(victim).unwrap();
    fs::remove_dir_all(cluster.site(victim).data_dir()).unwrap();
    cluster.spawn(victim).unwrap();
    // It may wait or end, but it must never be counted: the others go on, and it never gets a log.
    for n in 0..20 {
        client.execute(commands::add_friend("archive", format!("later-{n}"))).await.unwrap();
    }
    let leader = cluster.site(cluster.sites.iter().map(|site| site.id).find(|id| *id != victim).unwrap());
    let status = leader.status().await.unwrap();
    let node = status.nodes.iter().find(|node| node.node.as_ref().is_some_and(|node| node.id == victim)).unwrap();
    assert!(node.flushed_index.unwrap_or(0) < status.committed_index, "the blank node was counted: {node:?}");
    if let Ok(own) = cluster.site(victim).status().await {
        assert_eq!(own.committed_index, 0, "the blank node took entries");
    }
}

/// A byte had rotted on one disk: the node ended with 65, and somebody had to put a blank one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_chronicle_is_repaired_from_a_peer() {
    let (mut cluster, client) = with_some_history().await;
    cluster.settle().await;
    let victim = cluster.leader().await % 3 + 1;
    cluster.stop(victim).unwrap();
    let file = first_segment(&cluster, victim);
    let mut byte = [0];
    // In the middle of the first entries: long committed.
    file.read_exact_at(&mut byte, 700).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 700).unwrap();
    // The others go on.
    client.execute(commands::add_friend("archive", "after")).await.unwrap();
    cluster.spawn(victim).unwrap();
    eventually("the repaired node to follow", Duration::from_secs(30), || async {
        let status = cluster.site(victim).status().await.ok()?;
        (status.leader_id != 0).then_some(())
    })
    .await;
    cluster.settle().await;
    let log = cluster.site(victim).log_tail();
    assert!(log.contains("is damaged at byte") && log.contains("repaired the chronicle"), "{log}");
    assert_eq!(account::events(cluster.site(victim), "archive").await.unwrap().len(), 22);
    // What it holds is byte for byte what its peers hold, and the damaged file is kept for whoever wants to know.
    let mut repaired = [0];
    first_segment(&cluster, victim).read_exact_at(&mut repaired, 700).unwrap();
    assert_eq!(repaired, byte);
    let chronicle = cluster.site(victim).data_dir().join("chronicle");
    let mut kept = [0];
    fs::File::open(chronicle.join("0000000000.seg.damaged")).unwrap().read_exact_at(&mut kept, 700).unwrap();
    assert_eq!(kept, [byte[0] ^ 0x10]);
    cluster.stop(victim).unwrap();
    assert_eq!(verify(&chronicle).0, Some(0));
}

/// Sealing reads a segment once more from the disk: a node that met damage there while it served ended with 65, in the middle of
/// the day. It stops at once, as it must, and the same process repairs the segment before it serves again.
#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_met_while_serving_is_repaired_by_the_same_process() {
    let mut cluster = Cluster::prepare(BINARY, &["chungju", "seongju", "jeonju"]).unwrap();
    for id in 1..=3 {
        let config = cluster.site(id).dir.join("node.toml");
        let smallest = fs::read_to_string(&config).unwrap() + "\n[chronicle]\nsegment_bytes = 1048576\n";
        fs::write(&config, smallest).unwrap();
        cluster.spawn(id).unwrap();
    }
    let victim = cluster.leader().await % 3 + 1;
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel("archive", "사고")).await.unwrap();
    client.execute(commands::add_friend("archive", "guest")).await.unwrap();
    cluster.settle().await;
    let file = first_segment(&cluster, victim);
    // Within the very first entry.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 100).unwrap();
    let process = cluster.site(victim).pid();
    // More than a segment, so that the first one is sealed.
    let text = "기록은 남는다. ".repeat(200);
    for _ in 0..260 {
        client.execute(commands::send_push("archive", "guest", commands::body(text.as_str(), 0))).await.unwrap();
    }
    eventually("the node to repair itself", Duration::from_secs(60), || async {
        let log = fs::read_to_string(cluster.site(victim).dir.join("log")).ok()?;
        (log.contains("starting again, to repair") && log.contains("repaired the chronicle")).then_some(())
    })
    .await;
    cluster.settle().await;
    assert_eq!(cluster.site(victim).pid(), process);
    let here = account::digests(cluster.site(victim), "archive").await.unwrap();
    assert_eq!(here, account::digests(cluster.site(victim % 3 + 1), "archive").await.unwrap());
    let ended = cluster.stop(victim).unwrap();
    assert_eq!(ended.code(), Some(0), "it is the process that was started, and it ends as asked");
    let (code, _, said) = verify(&cluster.site(victim).data_dir());
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_views_come_back_with_the_same_digests() {
    let (mut cluster, _client) = with_some_history().await;
    cluster.settle().await;
    let before = account::digests(cluster.site(2), "archive").await.unwrap();
    cluster.stop(2).unwrap();
    fs::remove_dir_all(cluster.site(2).data_dir().join("views")).unwrap();
    cluster.spawn(2).unwrap();
    eventually("the rebuilt node to answer", Duration::from_secs(20), || async {
        account::digests(cluster.site(2), "archive").await.ok().filter(|digests| digests.revision == before.revision)
    })
    .await;
    assert_eq!(account::digests(cluster.site(2), "archive").await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_a_sound_chronicle_from_a_damaged_one() {
    let (mut cluster, _client) = with_some_history().await;
    cluster.settle().await;
    let victim = cluster.leader().await % 3 + 1;
    let data = cluster.site(victim).data_dir();
    // A running node is left alone.
    let (code, json, said) = verify(&data);
    assert_eq!((code, json), (Some(2), serde_json::Value::Null), "{said}");
    assert!(said.contains("in use") && said.contains("stop the node first"), "{said}");
    cluster.stop(victim).unwrap();

    let (code, sound, said) = verify(&data);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&sound["tail"]["state"], &sound["damage"]), (&"clean".into(), &serde_json::Value::Null));
    assert_eq!(sound["nodeId"], victim.to_string());
    assert!(sound["entries"].as_str().unwrap().parse::<u64>().unwrap() > 20, "{sound}");
    // The data directory or the chronicle within it.
    assert_eq!(verify(&data.join("chronicle")), (Some(0), sound.clone(), String::new()));

    let file = first_segment(&cluster, victim);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 700).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 700).unwrap();
    let (code, json, said) = verify(&data);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("0000000000.seg is damaged at byte"), "{said}");
    assert_eq!(json["damage"]["segment"], "0000000000.seg");
    assert!(json["damage"]["offset"].as_str().unwrap().parse::<u64>().unwrap() <= 700, "{json}");
    assert_eq!(json["tail"], serde_json::Value::Null, "the tail was not reached");
    file.write_all_at(&byte, 700).unwrap();
    assert_eq!(verify(&data).1, sound);

    let (code, json, said) = verify(&data.join("views"));
    assert_eq!((code, json), (Some(2), serde_json::Value::Null), "{said}");
    assert!(said.contains("holds no chronicle"), "{said}");
}

/// A backup was restored without its meta file: the node asked for an empty directory, as if a year of records were nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_meta_file_beside_segments_is_damage() {
    let (mut cluster, _client) = with_some_history().await;
    let victim = cluster.leader().await % 3 + 1;
    cluster.stop(victim).unwrap();
    let chronicle = cluster.site(victim).data_dir().join("chronicle");
    fs::rename(chronicle.join("meta"), chronicle.join("meta.lost")).unwrap();
    let (code, _, said) = verify(&chronicle);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("the meta file is missing"), "{said}");
    cluster.spawn(victim).unwrap();
    let ended = cluster.wait_exit(victim).unwrap();
    assert_eq!(ended.code(), Some(65), "{}", cluster.site(victim).log_tail());
    fs::rename(chronicle.join("meta.lost"), chronicle.join("meta")).unwrap();
    assert_eq!(verify(&chronicle).0, Some(0));
}
