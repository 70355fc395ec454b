//! Forming a cluster and changing who belongs.

use sillok_chronicle::Epoch;
use sillok_wire::{errors, records, v1, v1::Reason};
use tonic::Status;

use super::harness::{Cluster, eventually, head, record, write};
use crate::{bootstrap, types::Applied};

fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(errors::reason_of(status), Some(reason), "{status:?}");
}

fn add(cluster: &Cluster, id: u64) -> v1::AddNodeRequest {
    v1::AddNodeRequest { node: Some(cluster.describe(id)), ..Default::default() }
}

/// Two of three nodes had been racked in one building, and it burned.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_at_one_site_are_refused_at_init_unless_the_operator_says_so() {
    let mut cluster = Cluster::blank(&["chungju", "seongju", "chungju"]);
    for id in 1..=3 {
        cluster.boot(id).await;
    }
    let status = cluster.node(1).initialize(cluster.initialize_request(false)).await.unwrap_err();
    assert_reason(&status, Reason::PlacementRefused);
    assert!(status.message().contains("chungju") && status.message().contains("--allow-single-site-quorum"));
    for (_, node) in cluster.up() {
        assert!(bootstrap::is_blank(node.core()), "a refusal left something behind");
        assert_eq!(node.core().peers.local().cluster(), None);
    }
    cluster.node(1).initialize(cluster.initialize_request(true)).await.unwrap();
    let leader = cluster.leader().await;
    write(cluster.core(leader), 1).await;
    let again = cluster.node(1).initialize(cluster.initialize_request(true)).await.unwrap_err();
    assert_reason(&again, Reason::AlreadyInitialized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_configured_initial_nodes_form_a_cluster_by_themselves() {
    let mut cluster = Cluster::blank(&["chungju", "seongju", "jeonju"]);
    let initial = cluster.initial();
    // Whoever comes last is waited for.
    for id in [1, 3, 2] {
        cluster.site(id).options.initial = initial.clone();
        cluster.boot(id).await;
    }
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 1).await;
    cluster.all_committed(last.index).await;
    let ids: Vec<_> = cluster.up().map(|(_, node)| node.core().peers.local().cluster()).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// The forming node crashed after it had stored the cluster's id and told one peer, before the first entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forming_goes_on_after_a_crash_in_the_middle() {
    let mut cluster = Cluster::blank(&["chungju", "seongju", "jeonju"]);
    for id in 1..=3 {
        cluster.boot(id).await;
    }
    bootstrap::adopt_here(cluster.core(1), [5; 16], Epoch::default()).await.unwrap();
    let second = cluster.core(2).peers.local().node;
    let address = cluster.core(2).options.peer_address.clone();
    bootstrap::adopt_there(cluster.core(1), second, &address, [5; 16]).await.unwrap();
    cluster.kill(1).await;

    cluster.site(1).options.initial = cluster.initial();
    cluster.boot(1).await;
    let leader = cluster.leader().await;
    write(cluster.core(leader), 1).await;
    for (_, node) in cluster.up() {
        assert_eq!(node.core().peers.local().cluster(), Some([5; 16]), "the id begun with is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_founder_that_belongs_elsewhere_or_is_another_node_is_refused_by_name() {
    let mut cluster = Cluster::blank(&["chungju", "seongju", "jeonju"]);
    for id in 1..=3 {
        cluster.boot(id).await;
    }
    let mut swapped = cluster.initialize_request(false);
    let (second, third) = (swapped.nodes[1].peer_address.clone(), swapped.nodes[2].peer_address.clone());
    swapped.nodes[1].peer_address = third;
    swapped.nodes[2].peer_address = second;
    let status = cluster.node(1).initialize(swapped).await.unwrap_err();
    assert_reason(&status, Reason::NodeMismatch);

    let mut mislabelled = cluster.initialize_request(false);
    mislabelled.nodes[1].site = "odaesan".to_owned();
    let status = cluster.node(1).initialize(mislabelled).await.unwrap_err();
    assert_reason(&status, Reason::NodeMismatch);
    assert!(status.message().contains("never change in place"), "{status:?}");

    bootstrap::adopt_here(cluster.core(3), [9; 16], Epoch::default()).await.unwrap();
    let status = cluster.node(1).initialize(cluster.initialize_request(false)).await.unwrap_err();
    assert_reason(&status, Reason::ClusterMismatch);
    assert!(status.message().contains("node 3"), "{status:?}");
}

/// Added, caught up, promoted, removed; every call through a node that does not lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fourth_archive_joins_and_leaves_through_a_follower() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let mut last = write(cluster.core(leader), 1).await;
    for marker in 2..200 {
        last = write(cluster.core(leader), marker).await;
    }
    let id = cluster.add_blank("odaesan");
    cluster.boot(id).await;
    let follower = cluster.follower().await;
    let nodes = cluster.node(follower).add_node(add(&cluster, id)).await.unwrap().nodes;
    let joined = nodes.iter().find(|node| node.node.as_ref().unwrap().id == id).unwrap();
    assert_eq!(joined.role(), v1::NodeRole::Voter);
    cluster.all_committed(last.index).await;
    cluster.assert_same_log(last.index);
    // A repeated call finds its work done.
    cluster.node(follower).add_node(add(&cluster, id)).await.unwrap();

    let follower = cluster.follower().await;
    let remove = v1::RemoveNodeRequest { node_id: id, ..Default::default() };
    let nodes = cluster.node(follower).remove_node(remove).await.unwrap().nodes;
    assert_eq!(nodes.len(), 3);
    cluster.node(follower).remove_node(remove).await.unwrap();
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 1_000).await;
    cluster.stop(id).await;
    cluster.all_committed(last.index).await;

    let unknown = v1::RemoveNodeRequest { node_id: 42, ..Default::default() };
    assert_reason(&cluster.node(leader).remove_node(unknown).await.unwrap_err(), Reason::NodeNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_lets_one_site_take_the_cluster_down_is_refused_before_anything_is_written() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let id = cluster.add_blank("chungju");
    cluster.boot(id).await;
    let before = cluster.core(leader).chronicle.last();
    let status = cluster.node(leader).add_node(add(&cluster, id)).await.unwrap_err();
    assert_reason(&status, Reason::PlacementRefused);
    assert!(status.message().contains("chungju"), "{status:?}");
    let removing = v1::RemoveNodeRequest { node_id: cluster.follower().await, ..Default::default() };
    let status = cluster.node(leader).remove_node(removing).await.unwrap_err();
    assert_reason(&status, Reason::PlacementRefused);
    assert_eq!(cluster.core(leader).chronicle.last(), before, "a refusal was written");

    // A learner does not vote, and may stand anywhere.
    let learner = v1::AddNodeRequest { learner_only: true, ..add(&cluster, id) };
    cluster.node(leader).add_node(learner).await.unwrap();
    let promote = v1::PromoteNodeRequest { node_id: id, ..Default::default() };
    assert_reason(&cluster.node(leader).promote_node(promote).await.unwrap_err(), Reason::PlacementRefused);
    let allowed = v1::PromoteNodeRequest { node_id: id, allow_single_site_quorum: true };
    let core = cluster.core(leader);
    eventually("the learner has the log", || (core.acks.flushed(id) >= before.map(|id| id.index)).then_some(())).await;
    cluster.node(leader).promote_node(allowed).await.unwrap();
    assert!(core.roster.view().is_voter(id));
}

/// A voter's disk was replaced and it was added again under its old id: it could vote without what it had acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_id_that_ever_belonged_is_refused_for_another_incarnation_even_after_it_was_removed() {
    let mut cluster = Cluster::formed().await;
    let id = cluster.add_blank("odaesan");
    cluster.boot(id).await;
    let leader = cluster.leader().await;
    cluster.node(leader).add_node(add(&cluster, id)).await.unwrap();
    cluster.stop(id).await;
    cluster.site(id).disk = sillok_chronicle::sim::SimDisk::new(55);
    cluster.boot(id).await;
    let leader = cluster.leader().await;
    let status = cluster.node(leader).add_node(add(&cluster, id)).await.unwrap_err();
    assert_reason(&status, Reason::NodeMismatch);

    let remove = v1::RemoveNodeRequest { node_id: id, ..Default::default() };
    cluster.node(leader).remove_node(remove).await.unwrap();
    let leader = cluster.leader().await;
    let status = cluster.node(leader).add_node(add(&cluster, id)).await.unwrap_err();
    assert_reason(&status, Reason::NodeMismatch);
    assert!(status.message().contains("never used again"), "{status:?}");
}

/// A node was taken out of the cluster, and months later its old disk was put back: what the documents call impossible.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_node_does_not_come_back_under_its_id_with_its_old_disk_either() {
    let mut cluster = Cluster::formed().await;
    let id = cluster.add_blank("odaesan");
    cluster.boot(id).await;
    let leader = cluster.leader().await;
    let learner = v1::AddNodeRequest { learner_only: true, ..add(&cluster, id) };
    cluster.node(leader).add_node(learner.clone()).await.unwrap();
    cluster.node(leader).add_node(learner.clone()).await.unwrap();
    cluster.node(leader).remove_node(v1::RemoveNodeRequest { node_id: id, ..Default::default() }).await.unwrap();
    let status = cluster.node(leader).add_node(learner).await.unwrap_err();
    assert_reason(&status, Reason::NodeMismatch);
    assert!(status.message().contains("removed") && status.message().contains("never used again"), "{status:?}");
}

/// A learner that had hardly begun to copy the chronicle was promoted, another site went dark, and writes stopped for the
/// hour that the copying took.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_learner_that_is_behind_is_not_promoted() {
    // A new leader would not know how far the learner is.
    let patient = |options: &mut crate::NodeOptions| {
        options.timings.election_min_ms = 4_000;
        options.timings.election_max_ms = 6_000;
    };
    let mut cluster = Cluster::formed_with(patient).await;
    let id = cluster.add_blank("odaesan");
    cluster.boot(id).await;
    let leader = cluster.leader().await;
    let learner = v1::AddNodeRequest { learner_only: true, ..add(&cluster, id) };
    cluster.node(leader).add_node(learner).await.unwrap();
    let core = cluster.core(leader);
    eventually("the learner is heard of", || core.acks.flushed(id)).await;
    let core = core.clone();
    cluster.stop(id).await;
    let (term, mut upon) = (core.leading_term().unwrap(), head(&core));
    let mut proposals = Vec::new();
    for marker in 1..=300 {
        let record = record(upon, marker);
        upon = records::hash(&record);
        proposals.push(core.propose(term, record).await.unwrap());
    }
    for proposal in proposals {
        assert_eq!(proposal.await.unwrap().1, Applied::Recorded);
    }
    let promote = v1::PromoteNodeRequest { node_id: id, ..Default::default() };
    let status = cluster.node(leader).promote_node(promote).await.unwrap_err();
    assert_reason(&status, Reason::NotReady);
    let info = errors::error_info(&status).unwrap();
    let lag: u64 = info.metadata["lag_entries"].parse().unwrap();
    assert!((257..=310).contains(&lag), "{status:?}");
    assert!(!core.roster.view().is_voter(id));

    cluster.boot(id).await;
    eventually("the learner has caught up", || {
        (core.acks.flushed(id) >= Some((*core.commits.borrow())?.log_id.index)).then_some(())
    })
    .await;
    cluster.node(leader).promote_node(promote).await.unwrap();
    assert!(core.roster.view().is_voter(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn status_and_what_if_say_who_leads_how_far_each_is_and_what_a_fire_would_take() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 1).await;
    cluster.all_committed(last.index).await;
    let follower = cluster.follower().await;
    for asked in [leader, follower] {
        let node = cluster.node(asked);
        let status = loop {
            let status = node.status().await;
            if status.nodes.iter().all(|node| node.reachable && node.flushed_index >= Some(last.index)) {
                break status;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((status.leader_id, status.nodes.len()), (leader, 3));
        assert_eq!(status.trouble, "");
        let what_if = node.what_if().await;
        assert_eq!(what_if.sites.len(), 3);
        for site in what_if.sites {
            assert!(site.data_safe && site.writes_continue && site.reads_continue, "{site:?}");
        }
    }

    let gone = (1..=3).find(|id| *id != leader && *id != follower).unwrap();
    cluster.stop(gone).await;
    let core = cluster.core(leader);
    eventually("its silence is noticed", || (!crate::status::reachable(core).contains(&gone)).then_some(())).await;
    let last = write(core, 2).await;
    let what_if = cluster.node(leader).what_if().await;
    for site in what_if.sites {
        let is_gone = site.nodes == [gone];
        assert_eq!(site.writes_continue, is_gone, "{site:?}");
    }
    cluster.disk(follower).hold_syncs();
    let core = cluster.core(leader);
    let term = core.leading_term().unwrap();
    let pending = core.propose(term, super::harness::record(super::harness::head(core), 3)).await.unwrap();
    // Not acknowledged, so nothing is at risk yet.
    let what_if = cluster.node(leader).what_if().await;
    assert!(what_if.sites.iter().all(|site| site.data_safe), "{what_if:?} after {last}");
    cluster.disk(follower).release_syncs();
    drop(pending);
}

/// The ports of all three had been taken by somebody else at the second start, and the membership knew only the old ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_moved_to_other_ports_find_each_other_by_the_configuration() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let before = write(cluster.core(leader), 1).await;
    cluster.all_committed(before.index).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.move_away(id);
    }
    for id in 1..=3 {
        cluster.site(id).options.initial = cluster.initial();
        cluster.boot(id).await;
    }
    let leader = cluster.leader().await;
    let last = write(cluster.core(leader), 2).await;
    cluster.all_committed(last.index).await;
    for (id, node) in cluster.up() {
        let expected = cluster.describe(id);
        eventually("the membership has followed", || {
            let roster = node.core().roster.view();
            let member = roster.member(id)?;
            (member.peer_address == expected.peer_address && member.client_address == expected.client_address)
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_is_removed_hands_over_and_takes_no_part_any_more() {
    let mut cluster = Cluster::formed().await;
    let id = cluster.add_blank("odaesan");
    cluster.boot(id).await;
    let leader = cluster.leader().await;
    cluster.node(leader).add_node(add(&cluster, id)).await.unwrap();
    let leader = cluster.leader().await;
    let remove = v1::RemoveNodeRequest { node_id: leader, ..Default::default() };
    cluster.node(leader).remove_node(remove).await.unwrap();
    let next = eventually("another node leads", || {
        cluster.up().find(|(id, node)| *id != leader && node.core().leading_term().is_some()).map(|(id, _)| id)
    })
    .await;
    eventually("it has forgotten the removed one", || {
        cluster.core(next).roster.view().member(leader).is_none().then_some(())
    })
    .await;
    let next = cluster.leader().await;
    write(cluster.core(next), 1).await;
}
