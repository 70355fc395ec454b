//! A node in the place of a lost one.

use std::collections::BTreeSet;

use sillok_chronicle::sim::SimDisk;
use sillok_wire::{errors, v1, v1::Reason};
use tonic::Status;

use super::harness::{Cluster, eventually, write};
use crate::types::Membership;

fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(errors::reason_of(status), Some(reason), "{status:?}");
}

fn replace(cluster: &Cluster, old: u64, new: u64) -> v1::ReplaceNodeRequest {
    v1::ReplaceNodeRequest { node_id: old, node: Some(cluster.describe(new)), ..Default::default() }
}

/// Asks a node as an operator does: again, while a leader is elected or completes what another began.
async fn replaced(cluster: &Cluster, at: u64, request: v1::ReplaceNodeRequest) -> v1::MembershipResponse {
    loop {
        match cluster.node(at).replace_node(request.clone()).await {
            Ok(answer) => return answer,
            Err(status) => {
                let passing = [Some(Reason::NoLeader), Some(Reason::MembershipChangeInProgress)];
                assert!(passing.contains(&errors::reason_of(&status)), "{status:?}");
                tokio::task::yield_now().await;
            }
        }
    }
}

fn ids_and_roles(answer: &v1::MembershipResponse) -> Vec<(u64, v1::NodeRole)> {
    answer.nodes.iter().map(|status| (status.node.as_ref().unwrap().id, status.role())).collect()
}

/// Who leads, who follows, and a third that is lost, its disk too; a blank node stands at the site of the third.
async fn burnt() -> (Cluster, u64, u64, u64, u64) {
    let mut cluster = Cluster::formed().await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let lost = (1..=3).find(|id| *id != leader && *id != follower).unwrap();
    let last = write(cluster.core(leader), 1).await;
    cluster.all_committed(last.index).await;
    cluster.kill(lost).await;
    let site = cluster.site(lost).options.site.clone();
    let fresh = cluster.add_blank(&site);
    cluster.boot(fresh).await;
    (cluster, leader, follower, lost, fresh)
}

/// A burnt node could not be replaced at its own site: with the new one first, two of four voters stood there, and with the
/// old one gone first, two voters were left; the operator had to override the rule that had just saved everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burnt_node_is_replaced_at_its_own_site_without_an_override() {
    let (cluster, leader, follower, lost, fresh) = burnt().await;
    let expected: BTreeSet<u64> = [leader, follower, fresh].into();
    let answer = cluster.node(follower).replace_node(replace(&cluster, lost, fresh)).await.unwrap();
    let voters: Vec<_> = expected.iter().map(|id| (*id, v1::NodeRole::Voter)).collect();
    assert_eq!(ids_and_roles(&answer), voters);
    let last = write(cluster.core(cluster.leader().await), 2).await;
    cluster.all_committed(last.index).await;
    cluster.assert_same_log(last.index);

    // A repeated call finds its work done, wherever it is asked, and writes nothing.
    let before = cluster.core(cluster.leader().await).chronicle.last();
    for at in [leader, follower, fresh] {
        let again = cluster.node(at).replace_node(replace(&cluster, lost, fresh)).await.unwrap();
        assert_eq!(ids_and_roles(&again), voters);
    }
    assert_eq!(cluster.core(cluster.leader().await).chronicle.last(), before, "a repeated call wrote something");
}

/// The terminal was closed while the blank node caught up, and the learner stayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replacement_that_was_given_up_as_the_new_node_learned_goes_on_from_there() {
    let (cluster, leader, follower, lost, fresh) = burnt().await;
    let learner = v1::AddNodeRequest { node: Some(cluster.describe(fresh)), learner_only: true, ..Default::default() };
    cluster.node(leader).add_node(learner).await.unwrap();
    replaced(&cluster, follower, replace(&cluster, lost, fresh)).await;
    let now = cluster.leader().await;
    assert_eq!(cluster.core(now).roster.view().configs, [BTreeSet::from([leader, follower, fresh])]);
}

/// The joint membership of a replacement, as a leader leaves it behind that dies before it has completed the change.
async fn leave_joint(cluster: &Cluster, leader: u64, lost: u64, fresh: u64) -> BTreeSet<u64> {
    let core = cluster.core(leader);
    let roster = core.roster.view();
    let mut next = roster.configs[0].clone();
    next.remove(&lost);
    next.insert(fresh);
    let joint = Membership::new(vec![roster.configs[0].clone(), next.clone()], roster.members.clone()).unwrap();
    core.raft.append_membership(joint, openraft::EntryPayload::Blank, []).await.unwrap();
    next
}

/// The leader died between the two entries of a replacement. Whoever leads next must complete it, and the operator who asks
/// again must hear that it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replacement_left_joint_by_a_leader_that_died_is_completed_and_answered() {
    let (mut cluster, leader, follower, lost, fresh) = burnt().await;
    let learner = v1::AddNodeRequest { node: Some(cluster.describe(fresh)), learner_only: true, ..Default::default() };
    cluster.node(leader).add_node(learner).await.unwrap();
    let core = cluster.core(leader).clone();
    // The lock of a change under way keeps this leader from completing it, as if it died in between.
    let held = core.changing.lock().await;
    let next = leave_joint(&cluster, leader, lost, fresh).await;
    for (node, _) in cluster.up() {
        let core = cluster.core(node);
        eventually("every node is joint", || core.roster.view().is_joint().then_some(())).await;
    }
    cluster.kill(leader).await;
    drop(held);
    // Two of three voters of the old configuration are needed, and one is lost for good.
    cluster.boot(leader).await;

    replaced(&cluster, follower, replace(&cluster, lost, fresh)).await;
    for (node, _) in cluster.up() {
        let core = cluster.core(node);
        eventually("the replacement is complete", || {
            let roster = core.roster.view();
            (roster.configs == [next.clone()] && roster.member(lost).is_none()).then_some(())
        })
        .await;
    }
    write(cluster.core(cluster.leader().await), 2).await;
}

/// The blank node had been racked where another voter stands, and the next fire there would have taken a quorum.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replacement_at_a_site_that_would_hold_a_quorum_is_refused_before_anything_is_written() {
    let (mut cluster, leader, follower, lost, _) = burnt().await;
    let site = cluster.site(follower).options.site.clone();
    let misplaced = cluster.add_blank(&site);
    cluster.boot(misplaced).await;
    let before = cluster.core(leader).chronicle.last();
    let status = cluster.node(leader).replace_node(replace(&cluster, lost, misplaced)).await.unwrap_err();
    assert_reason(&status, Reason::PlacementRefused);
    assert!(status.message().contains(&site), "{status:?}");
    assert_eq!(cluster.core(leader).chronicle.last(), before, "a refusal was written");
    assert_eq!(cluster.core(misplaced).peers.local().cluster(), None, "a refusal left something behind");
    let allowed = v1::ReplaceNodeRequest { allow_single_site_quorum: true, ..replace(&cluster, lost, misplaced) };
    cluster.node(leader).replace_node(allowed).await.unwrap();
}

/// The disk that was thought lost turned up again, and somebody put it back; or a blank one, under the id on the label.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replaced_node_is_never_let_in_again_with_its_old_disk_nor_with_a_blank_one() {
    let (mut cluster, leader, _, lost, fresh) = burnt().await;
    cluster.node(leader).replace_node(replace(&cluster, lost, fresh)).await.unwrap();
    cluster.boot(lost).await;
    for (disk, says) in [(None, "was removed"), (Some(SimDisk::new(77)), "never used again")] {
        if let Some(disk) = disk {
            cluster.stop(lost).await;
            cluster.site(lost).disk = disk;
            cluster.boot(lost).await;
        }
        let leader = cluster.leader().await;
        let before = cluster.core(leader).roster.view();
        let status = cluster.node(leader).replace_node(replace(&cluster, fresh, lost)).await.unwrap_err();
        assert_reason(&status, Reason::NodeMismatch);
        assert!(status.message().contains(says), "{status:?}");
        assert_eq!(cluster.core(leader).roster.view(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_replaced_is_refused_by_name() {
    let (mut cluster, leader, follower, lost, fresh) = burnt().await;
    let node = cluster.node(leader);
    let asked = async |old, new| node.replace_node(replace(&cluster, old, new)).await.unwrap_err();
    assert_reason(&asked(42, fresh).await, Reason::NodeNotFound);
    assert_reason(&asked(lost, lost).await, Reason::NodeMismatch);
    let voter = asked(lost, follower).await;
    assert_reason(&voter, Reason::NodeMismatch);
    assert!(voter.message().contains("votes already"), "{voter:?}");
    let nobody = node.replace_node(v1::ReplaceNodeRequest { node_id: lost, ..Default::default() }).await.unwrap_err();
    assert_reason(&nobody, Reason::InvalidCommand);

    let learner = v1::AddNodeRequest { node: Some(cluster.describe(fresh)), learner_only: true, ..Default::default() };
    node.add_node(learner).await.unwrap();
    let other = cluster.add_blank("odaesan");
    let status = cluster.node(leader).replace_node(replace(&cluster, fresh, other)).await.unwrap_err();
    assert_reason(&status, Reason::NodeNotFound);
    assert!(status.message().contains("learner"), "{status:?}");
}

/// The node to be replaced led: it was to be taken out before its disk died.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_is_replaced_and_another_leads() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 1).await;
    let site = cluster.site(leader).options.site.clone();
    let fresh = cluster.add_blank(&site);
    cluster.boot(fresh).await;
    cluster.node(leader).replace_node(replace(&cluster, leader, fresh)).await.unwrap();
    eventually("another node leads without it", || {
        cluster
            .up()
            .find(|(id, node)| {
                let roster = node.core().roster.view();
                *id != leader && node.core().leading_term().is_some() && roster.member(leader).is_none()
            })
            .map(drop)
    })
    .await;
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    let end = write(cluster.core(next), 2).await;
    assert!(end.index > last.index);
    cluster.all_committed(end.index).await;
    cluster.assert_same_log(end.index);
}
