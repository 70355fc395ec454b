//! What rots where nobody reads is found all the same; and copies that differ are told, not overwritten.

use std::{path::PathBuf, time::Duration};

use sillok_chronicle::{Chronicle, Entry, Options, sim::SimDisk, verify};
use sillok_wire::{v1, v1::copy_difference::What};
use tokio::time::timeout;

use super::harness::*;
use crate::{
    FailureKind, ScrubOptions,
    chain::{ChainFold, record_keys},
    types::{LogId, kind},
};

const SEGMENT_BYTES: u64 = 8 << 10;

/// Three nodes with at least two sealed segments each, scrubbed all the time.
async fn with_history() -> (Cluster, LogId) {
    let cluster = Cluster::formed_with(|options| {
        options.segment_bytes = SEGMENT_BYTES;
        options.tail_cache_bytes = 0;
        options.scrub = ScrubOptions { every: Duration::from_millis(100), bytes_per_second: 1 << 30, enabled: true };
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

/// How node `id` stands, as `asked` has heard.
async fn scrub_of(cluster: &Cluster, asked: u64, id: u64) -> v1::ScrubStatus {
    let status = cluster.node(asked).status().await;
    let of = status.nodes.into_iter().find(|status| status.node.as_ref().is_some_and(|node| node.id == id));
    of.unwrap().scrub.unwrap_or_default()
}

/// Waits until `asked` has heard that of node `id`.
async fn until_scrub(cluster: &Cluster, asked: u64, id: u64, what: &str, is: impl Fn(&v1::ScrubStatus) -> bool) {
    let heard = async {
        while !is(&scrub_of(cluster, asked, id).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(AT_MOST, heard).await.is_ok(), "waited in vain until {what}");
}

/// A byte had rotted at one site in a year that nobody asked about. The other two sites burned before anybody read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_rots_unread_is_found_and_repaired() {
    let (mut cluster, last) = with_history().await;
    let follower = cluster.follower().await;
    let other = cluster.up().map(|(id, _)| id).find(|id| *id != follower).unwrap();
    until_scrub(&cluster, other, follower, "it is clean", |status| status.completed_at.is_some()).await;
    assert_eq!(scrub_of(&cluster, other, follower).await.repaired_entries, 0);

    let path = segment(&mut cluster, follower, 0);
    assert!(cluster.disk(follower).flip(&path, 3_000, 0x10));
    let failure = timeout(AT_MOST, cluster.node(follower).failure()).await.unwrap();
    assert_eq!(failure.kind, FailureKind::Damage, "{failure}");
    let found = failure.damage.expect("it says where");
    assert!(found.segment == "0000000000.seg" && (2_000..=3_000).contains(&found.offset), "{found}");

    cluster.stop(follower).await;
    cluster.site(follower).options.suspect = Some(found);
    cluster.boot(follower).await;
    cluster.all_committed(last.index).await;
    let theirs = segment(&mut cluster, other, 0);
    let (ours, theirs) = (cluster.disk(follower).bytes(&path), cluster.disk(other).bytes(&theirs));
    assert!(ours.is_some() && ours == theirs, "it is not byte for byte the same again");
    for asked in [follower, other] {
        let repaired = |status: &v1::ScrubStatus| {
            status.repaired_entries == 1 && status.completed_at.is_some() && status.differences.is_empty()
        };
        until_scrub(&cluster, asked, follower, "it is repaired and clean", repaired).await;
    }
}

/// The same entries with one that is another, in files that verify: a disk from another history, say, or a bug.
fn another_history(cluster: &Cluster, id: u64) -> Vec<u8> {
    let mut entries = cluster.core(id).chronicle.read(0, u64::MAX, usize::MAX).unwrap();
    let blank = entries.iter_mut().find(|entry| entry.kind == kind::BLANK).unwrap();
    assert!(cluster.core(id).chronicle.sealed()[0].last.index > blank.id.index);
    *blank = Entry { payload: vec![1].into(), ..blank.clone() };
    let last = entries.last().unwrap().id;
    let (disk, dir) = (SimDisk::new(9), PathBuf::from("/other"));
    sillok_chronicle::format(&disk.boot(), &dir, &cluster.core(id).chronicle.identity()).unwrap();
    let chronicle = Chronicle::open(Options {
        disk: disk.boot(),
        segment_bytes: SEGMENT_BYTES,
        fold: Box::new(ChainFold::default()),
        keys: record_keys,
        ..Options::new(&dir)
    });
    let chronicle = chronicle.unwrap();
    let (done, written) = std::sync::mpsc::channel();
    chronicle.append(entries, move |result| drop(done.send(result)));
    written.recv().unwrap().unwrap();
    chronicle.set_committed(last);
    let begun = std::time::Instant::now();
    while chronicle.sealed().is_empty() {
        assert!(begun.elapsed() < AT_MOST, "waited in vain until a segment is sealed");
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.bytes(&dir.join("0000000000.seg")).unwrap()
}

/// Two archives held different books under one title, each of them whole. Nobody had ever laid them side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_that_differ_are_told_by_both_sides_and_nothing_is_overwritten() {
    let (mut cluster, last) = with_history().await;
    let odd = cluster.follower().await;
    let others: Vec<u64> = cluster.up().map(|(id, _)| id).filter(|id| *id != odd).collect();
    let other = another_history(&cluster, odd);
    cluster.stop(odd).await;
    let path = segment(&mut cluster, odd, 0);
    let length = cluster.disk(odd).bytes(&path).unwrap().len();
    assert_eq!(other.len(), length);
    cluster.disk(odd).edit(&path, |bytes| bytes.clone_from(&other));
    let dir = cluster.site(odd).options.data_dir.join("chronicle");
    assert_eq!(verify(&cluster.disk(odd).boot(), &dir, |_| {}).unwrap().damage, None, "each copy by itself is sound");
    cluster.boot(odd).await;
    cluster.all_committed(last.index).await;

    let names = |status: &v1::ScrubStatus, from: &[u64]| {
        let told: Vec<(u64, Option<What>)> =
            status.differences.iter().map(|it| (it.node_id, it.what.clone())).collect();
        told == from.iter().map(|id| (*id, Some(What::Segment(0)))).collect::<Vec<_>>()
    };
    for asked in 1..=3 {
        until_scrub(&cluster, asked, odd, "it differs from both", |status| names(status, &others)).await;
        for &other in &others {
            until_scrub(&cluster, asked, other, "they differ from it", |status| names(status, &[odd])).await;
        }
    }
    let told = scrub_of(&cluster, odd, odd).await.differences.swap_remove(0);
    assert!(told.here != told.there && told.at > 0, "{told:?}");
    assert!(told.summary.contains("segment 0") && told.summary.contains("nothing was changed"), "{told:?}");
    for (id, node) in cluster.up() {
        assert_eq!(node.core().failures.reported(), None, "node {id}");
    }
    assert!(cluster.disk(odd).bytes(&path).as_ref() == Some(&other), "nothing is overwritten by guess");

    // Two agree, so the third is the odd one out: its copy is not counted on.
    let site = cluster.site(odd).options.site.clone();
    let asked = cluster.node(others[0]);
    let sites = timeout(AT_MOST, async {
        loop {
            let sites = asked.what_if().await.sites;
            // An election may be under way on a busy machine, and nobody then knows who has what.
            if sites.iter().all(|loss| loss.data_safe) {
                break sites;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for loss in sites.await.expect("two whole copies are enough") {
        assert_eq!(loss.summary.contains(&format!("the copy of node {odd}")), loss.site != site, "{loss:?}");
    }
}
