//! A node with a damaged chronicle gets back from its peers what it lost, and takes no part before.

use std::path::PathBuf;

use sillok_chronicle::{Damage, verify};
use sillok_wire::v1;
use tokio::time::timeout;

use super::harness::*;
use crate::{FailureKind, StartError, types::LogId};

/// Three nodes with sealed segments, and what the first two of them hold; everything is committed everywhere.
async fn with_history() -> (Cluster, LogId) {
    let cluster = Cluster::formed_with(|options| {
        options.segment_bytes = 8 << 10;
        options.tail_cache_bytes = 0;
    })
    .await;
    let leader = cluster.leader().await;
    let mut last = LogId::default();
    for marker in 1..260 {
        last = write(cluster.core(leader), marker).await;
    }
    cluster.all_committed(last.index).await;
    for (_, node) in cluster.up() {
        let chronicle = &node.core().chronicle;
        eventually("two segments are sealed", || (chronicle.sealed().len() >= 2).then_some(())).await;
    }
    (cluster, last)
}

fn segment(cluster: &mut Cluster, id: u64, ordinal: u64) -> PathBuf {
    cluster.site(id).options.data_dir.join(format!("chronicle/{ordinal:010}.seg"))
}

fn damage(cluster: &mut Cluster, id: u64) -> Option<Damage> {
    let dir = cluster.site(id).options.data_dir.join("chronicle");
    verify(&cluster.disk(id).boot(), &dir, |_| {}).unwrap().damage
}

/// One byte of the history had rotted. The node said so and stopped, and somebody had to replace it at night.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_node_repairs_itself_when_it_starts() {
    let (mut cluster, last) = with_history().await;
    let follower = cluster.follower().await;
    // A footer, a head of the open segment, and a whole file.
    for harm in 0..3 {
        cluster.stop(follower).await;
        let (first, second) = (segment(&mut cluster, follower, 0), segment(&mut cluster, follower, 1));
        let open = segment(&mut cluster, follower, 2);
        let disk = cluster.disk(follower);
        match harm {
            0 => drop(disk.edit(&first, |bytes| *bytes.last_mut().unwrap() ^= 1)),
            1 => assert!(disk.flip(&open, 40, 1)),
            _ => disk.boot().remove(&second).unwrap(),
        }
        let found = damage(&mut cluster, follower);
        assert!(found.is_some(), "harm {harm}");
        cluster.boot(follower).await;
        cluster.all_committed(last.index).await;
        cluster.assert_same_log(last.index);
        cluster.stop(follower).await;
        assert_eq!(damage(&mut cluster, follower), None, "harm {harm}");
        for ordinal in 0..2 {
            let other = cluster.up().next().unwrap().0;
            let (ours, theirs) = (segment(&mut cluster, follower, ordinal), segment(&mut cluster, other, ordinal));
            let (ours, theirs) = (cluster.disk(follower).bytes(&ours), cluster.disk(other).bytes(&theirs));
            assert!(ours.is_some() && ours == theirs, "harm {harm}: segment {ordinal} is not byte for byte the same");
        }
        cluster.boot(follower).await;
    }
    // And it takes part again.
    let other = cluster.up().map(|(id, _)| id).find(|id| *id != follower).unwrap();
    cluster.stop(other).await;
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 999).await;
    cluster.all_committed(last.index).await;
}

/// Opening reads no body of a sealed segment: the byte was met by a reader, and the node opened again as if nothing were.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_reader_met_is_repaired_at_the_next_start() {
    let (mut cluster, last) = with_history().await;
    let follower = cluster.follower().await;
    let path = segment(&mut cluster, follower, 0);
    assert!(cluster.disk(follower).flip(&path, 3_000, 0x10));
    let chronicle = cluster.core(follower).chronicle.clone();
    tokio::task::spawn_blocking(move || chronicle.read(0, u64::MAX, usize::MAX).unwrap_err()).await.unwrap();
    let failure = timeout(AT_MOST, cluster.node(follower).failure()).await.unwrap();
    assert_eq!((failure.kind, failure.exit_code()), (FailureKind::Damage, 65), "{failure}");
    let found = failure.damage.expect("it says where");
    assert_eq!(found.segment, "0000000000.seg");
    cluster.stop(follower).await;

    cluster.site(follower).options.suspect = Some(found);
    cluster.boot(follower).await;
    cluster.all_committed(last.index).await;
    cluster.assert_same_log(last.index);
}

/// After a power cut of all sites a damaged one may be the first that is up. It waits, and votes for nobody meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_no_peer_answers_a_damaged_node_waits_and_takes_no_part() {
    let (mut cluster, last) = with_history().await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    let path = segment(&mut cluster, 1, 2);
    assert!(cluster.disk(1).flip(&path, 40, 1));
    let mut options = cluster.site(1).options.clone();
    let (trouble, mut said) = tokio::sync::watch::channel(None);
    options.disk = cluster.disk(1).boot();
    options.trouble = Some(trouble);
    let before = cluster.disk(1).bytes(&path);
    let starting = tokio::spawn(crate::Node::start(options));
    let waits = said.wait_for(|said| said.as_ref().is_some_and(|why| why.contains("waiting for a peer")));
    timeout(AT_MOST, waits).await.unwrap().unwrap();
    assert!(!starting.is_finished());
    assert!(cluster.disk(1).bytes(&path) == before, "nothing is changed before a peer answers");

    // One peer is enough, and it needs no leader for this: there is none without node 1.
    cluster.boot(2).await;
    let node = timeout(AT_MOST, starting).await.unwrap().unwrap().unwrap();
    cluster.site(1).node = Some(node);
    timeout(AT_MOST, said.wait_for(Option::is_none)).await.unwrap().unwrap();
    let leader = cluster.leader().await;
    let newest = write(cluster.core(leader), 999).await;
    assert!(newest.index > last.index);
    cluster.all_committed(newest.index).await;
    cluster.assert_same_log(newest.index);
}

/// What stood at the end of the log only the node itself knew: it must not fill up with what others have, nor go on shorter.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_whose_end_is_lost_stays_stopped() {
    let (mut cluster, _) = with_history().await;
    let follower = cluster.follower().await;
    cluster.stop(follower).await;
    let path = segment(&mut cluster, follower, 2);
    let disk = cluster.disk(follower);
    disk.edit(&path, |bytes| {
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        let begin = (32..end).rev().find(|&at| at % 8 == 0 && bytes[at..at + 2] == [0xE5, b'K']).unwrap();
        bytes[begin..=end].fill(0);
    });
    let before = disk.bytes(&path);
    let error = cluster.try_boot(follower).await.unwrap_err();
    assert!(matches!(error, StartError::BeyondRepair { .. }), "{error}");
    assert_eq!(error.exit_code(), 65, "{error}");
    assert!(cluster.disk(follower).bytes(&path) == before);
    // The others go on.
    let leader = cluster.leader().await;
    write(cluster.core(leader), 999).await;
}

/// Every peer answers, and none has what was lost: an operator hears it, instead of a node that waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_every_peer_has_refused_the_node_says_what_was_tried() {
    let (mut cluster, _) = with_history().await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    let path = segment(&mut cluster, 1, 2);
    assert!(cluster.disk(1).flip(&path, 40, 1));
    // They belong to another cluster by now.
    for id in 2..=3 {
        let site = cluster.site(id);
        site.disk = sillok_chronicle::sim::SimDisk::new(40 + id);
        cluster.boot(id).await;
    }
    let error = timeout(AT_MOST, cluster.try_boot(1)).await.unwrap().unwrap_err();
    let StartError::BeyondRepair { damage, tried } = &error else { panic!("{error}") };
    assert_eq!(damage.segment, "0000000002.seg");
    assert!(tried.contains("node 2: ") && tried.contains("node 3: "), "{tried}");
}

/// A founder had been replaced long ago and its name stayed in the configuration of the others. When one of them could not be
/// repaired by anybody, it waited for that name for ever and told no operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_founder_that_was_removed_is_not_waited_for() {
    let (mut cluster, _) = with_history().await;
    let founders = cluster.initial();
    cluster.kill(3).await;
    let leader = cluster.leader().await;
    let site = cluster.site(3).options.site.clone();
    let fresh = cluster.add_blank(&site);
    let segment_bytes = cluster.site(leader).options.segment_bytes;
    cluster.site(fresh).options.segment_bytes = segment_bytes;
    cluster.boot(fresh).await;
    let request = v1::ReplaceNodeRequest { node_id: 3, node: Some(cluster.describe(fresh)), ..Default::default() };
    cluster.node(leader).replace_node(request).await.unwrap();
    let core = cluster.core(1);
    eventually("node 1 knows that node 3 is gone", || core.roster.view().member(3).is_none().then_some(())).await;
    for id in [1, 2, fresh] {
        cluster.stop(id).await;
    }
    let path = segment(&mut cluster, 1, 1);
    assert!(cluster.disk(1).flip(&path, 3_000, 1));
    cluster.disk(1).edit(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    for id in [2, fresh] {
        cluster.site(id).disk = sillok_chronicle::sim::SimDisk::new(40 + id);
        cluster.boot(id).await;
    }
    cluster.site(1).options.initial = founders;
    let error = timeout(AT_MOST, cluster.try_boot(1)).await.unwrap().unwrap_err();
    let StartError::BeyondRepair { tried, .. } = &error else { panic!("{error}") };
    let names = |id: u64| tried.contains(&format!("node {id}: "));
    assert!(names(2) && names(fresh) && !names(3), "{tried}");
}
