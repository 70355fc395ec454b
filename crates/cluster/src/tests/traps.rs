//! The traps of openraft that are known, each as what would have happened to whom.

use std::time::Duration;

use openraft::{Membership, storage::RaftLogStorage as _};
use sillok_chronicle::{Identity, sim::SimDisk};
use sillok_wire::{records, v1};

use super::harness::{AT_MOST, Cluster, eventually, head, propose, record, write};
use crate::{
    FailureKind, NodeOptions, ViewsOptions,
    core::ProposalError,
    log_store::LogStore,
    types::{Applied, LogId, kind, to_raft_id},
};

/// A leader whose own fsync lagged had an event acknowledged through its two followers, lost power, came back within the
/// election timeout, went on in its old term and wrote another event under the same log id: two histories.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_lost_its_unflushed_tail_does_not_go_on_in_its_term() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let before = write(cluster.core(leader), 1).await;
    let term = before.term;

    cluster.disk(leader).hold_syncs();
    let acknowledged = write(cluster.core(leader), 2).await;
    assert!(cluster.core(leader).chronicle.flushed().unwrap() < acknowledged, "the leader's own disk must lag");
    cluster.cut_power(leader).await;
    cluster.disk(leader).release_syncs();
    cluster.boot(leader).await;

    let again = cluster.leader().await;
    let after = write(cluster.core(again), 3).await;
    assert!(after.term > term, "term {term} was led twice");
    assert!(after.index > acknowledged.index, "an acknowledged event was written over");
    cluster.all_committed(after.index).await;
    cluster.assert_same_log(after.index);
}

/// In one term, while the followers' disks stalled, record k was refused (the lease had run out) and record k+1, decided
/// upon k, was accepted once they had recovered: k's events never happened and k+1 stood upon them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_decided_upon_a_refused_one_is_skipped_by_every_node() {
    let cluster = Cluster::formed().await;
    // Whoever watches the stall may also be elected out of it; the trap is about those who are not.
    for attempt in 1.. {
        assert!(attempt < 20, "leadership was lost in every attempt");
        let leader = cluster.leader().await;
        let core = cluster.core(leader);
        let first = write(core, attempt * 100).await;
        let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();

        for id in &followers {
            cluster.disk(*id).hold_syncs();
        }
        // While this one waits for the followers' disks, nothing they are sent is answered.
        let waiting = record(head(core), attempt * 100 + 1);
        let Ok(pending) = core.propose(first.term, waiting.clone()).await else { continue };
        eventually("the lease runs out", || (!core.is_leader_confirmed()).then_some(())).await;
        let k = record(records::hash(&waiting), attempt * 100 + 2);
        let refused = match core.propose(first.term, k.clone()).await {
            // Refusals are answered at once, acceptances only after the disks go on.
            Ok(proposal) => tokio::time::timeout(Duration::from_millis(100), proposal).await.ok(),
            Err(error) => Some(Err(error)),
        };
        for id in &followers {
            cluster.disk(*id).release_syncs();
        }
        let first_came_through = tokio::time::timeout(AT_MOST, pending).await.unwrap().is_ok();
        if !matches!(refused, Some(Err(ProposalError::NotProposed(_)))) || !first_came_through {
            cluster.leader().await;
            continue;
        }
        // Accepted again in the same term, as soon as a quorum answers again.
        let upon_k = loop {
            match propose(core, record(records::hash(&k), attempt * 100 + 3)).await {
                Err(ProposalError::NotProposed(_)) if core.leading_term() == Some(first.term) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => break other,
            }
        };
        let Ok((id, applied)) = upon_k else { continue };
        if id.term != first.term {
            continue;
        }
        assert_eq!(applied, Applied::Skipped, "a record stands upon one that never happened");
        let last = write(core, attempt * 100 + 4).await;
        cluster.all_committed(last.index).await;
        cluster.assert_same_log(last.index);
        for (node, _) in cluster.up() {
            assert!(cluster.core(node).chain.is_skipped(id.index), "node {node} did not skip it");
            assert_eq!(head(cluster.core(node)), head(core), "node {node} has another head");
        }
        return;
    }
}

/// A follower applied entries before its own flush, remembered them as committed and lost power: its commit index was ahead
/// of its log, consensus would not start, or purged the log to match.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_applied_more_than_it_flushed_starts_again_and_catches_up() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let before = write(cluster.core(leader), 1).await;
    cluster.all_committed(before.index).await;

    cluster.disk(follower).hold_syncs();
    let mut last = before;
    for marker in 2..8 {
        last = write(cluster.core(leader), marker).await;
    }
    let core = cluster.core(follower);
    eventually("the follower applies", || {
        core.commits.borrow().is_some_and(|commit| commit.log_id == last).then_some(())
    })
    .await;
    assert!(core.chronicle.flushed().unwrap() < last, "applying must be ahead of flushing");
    cluster.cut_power(follower).await;
    cluster.disk(follower).release_syncs();

    cluster.boot(follower).await;
    let core = cluster.core(follower);
    let (committed, end) = (core.commits.borrow().map(|commit| commit.log_id), core.chronicle.last());
    assert!(committed <= end, "committed {committed:?} is beyond the log's end {end:?}");
    let leader = cluster.leader().await;
    let after = write(cluster.core(leader), 9).await;
    cluster.all_committed(after.index).await;
    cluster.assert_same_log(after.index);
}

/// Views that had been folded further than the chronicle reached after a power cut made consensus purge the chronicle empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn views_ahead_of_the_chronicle_are_moved_aside() {
    let mut cluster = Cluster::blank(&["chungju"]);
    let on_disk = ViewsOptions { spill_every: Duration::from_millis(20), ..ViewsOptions::default() };
    cluster.site(1).options.views = on_disk;
    cluster.boot(1).await;
    cluster.node(1).initialize(cluster.initialize_request(true)).await.unwrap();
    cluster.leader().await;
    write(cluster.core(1), 1).await;
    cluster.stop(1).await;
    let earlier = cluster.disk(1).fork(99);

    cluster.boot(1).await;
    cluster.leader().await;
    let last = write(cluster.core(1), 2).await;
    let views = cluster.node(1).views().clone();
    eventually("the views are on the disk", || {
        views.spill_now(false);
        views.durable_applied().is_some_and(|applied| applied.index >= last.index).then_some(())
    })
    .await;
    drop(views);
    cluster.stop(1).await;

    cluster.site(1).disk = earlier;
    cluster.boot(1).await;
    let data_dir = cluster.site(1).options.data_dir.clone();
    eventually("the views are moved aside", || {
        let names =
            std::fs::read_dir(&data_dir).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let asides: Vec<_> = names.filter(|name| name.starts_with("views.aside")).collect();
        (asides.len() == 1).then_some(())
    })
    .await;
    assert_eq!(cluster.core(1).chronicle.first_index(), 0);
    assert!(cluster.core(1).chronicle.read(0, 1, 1).unwrap()[0].id.index == 0, "the chronicle is whole");
    cluster.leader().await;
    write(cluster.core(1), 3).await;
}

/// Purging the log is purging the history.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn purging_is_refused_and_stops_the_node() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 1).await;
    let core = cluster.core(leader).clone();
    let mut log = LogStore::new(
        core.chronicle.clone(),
        core.chain.clone(),
        core.acks.clone(),
        core.failures.clone(),
        core.options.limits.append_bytes,
        core.options.execution.clone(),
        core.departures.clone(),
    );
    assert!(log.purge(to_raft_id(last)).await.is_err());
    let failure = tokio::time::timeout(AT_MOST, cluster.node(leader).failure()).await.unwrap();
    assert_eq!((failure.kind, failure.exit_code()), (FailureKind::Internal, 70));
    assert!(failure.message.contains("nothing was removed"), "{failure}");
    assert_eq!(core.chronicle.read(0, 1, 1).unwrap().len(), 1);
    cluster.stop(leader).await;
}

/// A node came back with a blank disk under its old id. The leader panicked, or the node stayed empty, and it could have
/// voted for a leader without what it had acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_blank_disk_under_an_old_id_takes_no_part_and_says_why() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    write(cluster.core(leader), 1).await;
    cluster.stop(follower).await;
    cluster.site(follower).disk = SimDisk::new(77);
    cluster.site(follower).options.initial = cluster.initial();
    cluster.boot(follower).await;

    eventually("the node says what is wrong", || {
        let trouble = cluster.core(follower).guard.trouble()?;
        (trouble.contains("takes no part") && trouble.contains("never used")).then_some(())
    })
    .await;
    let status = cluster.node(follower).status().await;
    assert!(status.trouble.contains("takes no part"), "{}", status.trouble);
    let last = write(cluster.core(leader), 2).await;
    let other = (1..=3).find(|id| *id != leader && *id != follower).unwrap();
    eventually("the other follower has it", || {
        cluster.core(other).commits.borrow().is_some_and(|commit| commit.log_id >= last).then_some(())
    })
    .await;
    let core = cluster.core(follower);
    assert_eq!((core.chronicle.last(), core.chronicle.vote()), (None, None), "it neither took entries nor voted");
}

/// A leader died between the two entries of a membership change, and the cluster stayed joint: two majorities for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_leader_completes_a_membership_change_left_half_done() {
    let mut cluster = Cluster::formed().await;
    let id = cluster.add_blank("odaesan");
    cluster.boot(id).await;
    let leader = cluster.leader().await;
    let add = v1::AddNodeRequest { node: Some(cluster.describe(id)), learner_only: true, ..Default::default() };
    cluster.node(leader).add_node(add).await.unwrap();

    let core = cluster.core(leader).clone();
    // The lock of a change under way keeps this leader from completing it, as if it died in between.
    let held = core.changing.lock().await;
    let roster = core.roster.view();
    let mut next = roster.configs[0].clone();
    next.insert(id);
    let joint = Membership::new(vec![roster.configs[0].clone(), next.clone()], roster.members.clone()).unwrap();
    core.raft.append_membership(joint, openraft::EntryPayload::Blank, []).await.unwrap();
    for (node, _) in cluster.up() {
        let core = cluster.core(node);
        eventually("every node is joint", || core.roster.view().is_joint().then_some(())).await;
    }
    cluster.kill(leader).await;
    drop(held);

    for (node, _) in cluster.up() {
        let core = cluster.core(node);
        eventually("the change is complete", || (core.roster.view().configs == [next.clone()]).then_some(())).await;
    }
}

/// Two nodes with another record under one log id went on for weeks before somebody compared their digests.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_record_under_the_same_log_id_stops_the_node() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let mut last = LogId::default();
    for marker in 1..5 {
        last = write(cluster.core(leader), marker).await;
    }
    cluster.all_committed(last.index).await;
    cluster.stop(follower).await;
    let options = cluster.site(follower).options.clone();
    let forged = forge(&options, cluster.disk(follower));
    cluster.site(follower).disk = forged;
    cluster.boot(follower).await;

    let failure = tokio::time::timeout(AT_MOST, cluster.node(follower).failure()).await.unwrap();
    assert_eq!((failure.kind, failure.exit_code()), (FailureKind::ChainMismatch, 65), "{failure}");
    cluster.stop(follower).await;
    let leader = cluster.leader().await;
    write(cluster.core(leader), 9).await;
}

/// The same node with the same log ids, and another last record.
fn forge(options: &NodeOptions, disk: &SimDisk) -> SimDisk {
    let dir = options.data_dir.join("chronicle");
    let open = |disk| {
        let mut opening = sillok_chronicle::Options::new(&dir);
        opening.disk = disk;
        sillok_chronicle::Chronicle::open(opening).unwrap()
    };
    let original = open(disk.boot());
    let mut entries = original.read(0, original.last().unwrap().index + 1, usize::MAX).unwrap();
    let record_entry = entries.iter_mut().rev().find(|entry| entry.kind == kind::RECORD).unwrap();
    let predecessor = records::peek_predecessor(&record_entry.payload).unwrap();
    record_entry.payload = record(predecessor, 666);
    let (identity, vote): (Identity, _) = (original.identity(), original.vote().unwrap());
    original.close();

    let forged = SimDisk::new(666);
    sillok_chronicle::format(&forged.boot(), &dir, &identity).unwrap();
    let chronicle = open(forged.boot());
    let (done, wait) = std::sync::mpsc::channel();
    let last = entries.last().unwrap().id;
    chronicle.append(entries, move |result| result.unwrap());
    chronicle.save_vote(vote, move |result| done.send(result).unwrap());
    wait.recv().unwrap().unwrap();
    chronicle.set_committed(last);
    chronicle.close();
    forged
}

/// A leader with a dead disk kept acknowledging through its followers, one failure away from losing what it acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_whose_own_disk_stalls_hands_over() {
    let cluster = Cluster::formed_with(|options| options.timings.flush_lag_ms = 300).await;
    let leader = cluster.leader().await;
    let term = write(cluster.core(leader), 1).await.term;
    cluster.disk(leader).hold_syncs();
    write(cluster.core(leader), 2).await;
    eventually("another node leads", || {
        cluster
            .up()
            .find(|(id, node)| *id != leader && node.core().leading_term().is_some_and(|now| now > term))
            .map(drop)
    })
    .await;
    cluster.disk(leader).release_syncs();
    let now = cluster.leader().await;
    let last = write(cluster.core(now), 3).await;
    cluster.all_committed(last.index).await;
    cluster.assert_same_log(last.index);
}

/// A leader that was stopped for an upgrade left its cluster without one for an election timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_is_stopped_hands_over_first() {
    // Without a handover nobody would stand for election within this test.
    let mut cluster = Cluster::formed_with(|options| {
        options.timings.election_min_ms = 20_000;
        options.timings.election_max_ms = 30_000;
    })
    .await;
    let leader = cluster.leader().await;
    write(cluster.core(leader), 1).await;
    let begun = tokio::time::Instant::now();
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    assert!(begun.elapsed() < Duration::from_secs(19), "it was an election and no handover");
    write(cluster.core(next), 2).await;
}

/// A node far behind is served from the log; no snapshot is asked for, and none exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_away_for_segments_catches_up_from_the_log() {
    let mut cluster = Cluster::formed_with(|options| options.segment_bytes = 64 << 10).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.stop(follower).await;
    let mut last = write(cluster.core(leader), 1).await;
    for marker in 2..1_500 {
        last = write(cluster.core(leader), marker).await;
    }
    let core = cluster.core(leader);
    eventually("segments are sealed", || (core.chronicle.sealed().len() >= 2).then_some(())).await;
    cluster.boot(follower).await;
    cluster.all_committed(last.index).await;
    cluster.assert_same_log(last.index);
    let (ours, theirs) = (cluster.core(follower), cluster.core(leader));
    eventually("it has sealed the same segments", || {
        let (ours, theirs) = (ours.chronicle.sealed(), theirs.chronicle.sealed());
        (ours.len() == theirs.len()).then(|| assert_eq!(ours, theirs, "segments differ"))
    })
    .await;
}

/// Everything committed was replayed before a node voted again: minutes without it after every restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restarted_node_knows_at_once_what_was_committed_and_replays_nothing() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let mut last = write(cluster.core(leader), 1).await;
    for marker in 2..50 {
        last = write(cluster.core(leader), marker).await;
    }
    cluster.all_committed(last.index).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    // Alone, so nobody can tell it anything.
    cluster.boot(leader).await;
    let core = cluster.core(leader);
    let commit = core.commits.borrow().unwrap();
    assert!(commit.log_id >= last, "{} was committed, {} is known", last, commit.log_id);
    assert_eq!(commit.head, core.chain.state_at(Some(commit.log_id.index)).unwrap().head);
    eventually("the voters are known", || (core.roster.view().voters() == [1, 2, 3].into()).then_some(())).await;
    assert_eq!(core.leading_term(), None);
}
