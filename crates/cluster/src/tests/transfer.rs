//! Leadership where the operator wants it.

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use sillok_wire::{errors, records, v1, v1::Reason, v1::transfer_leadership_request::Target};
use tonic::Status;

use super::harness::{Cluster, eventually, head, record, write};
use crate::{NodeOptions, types::Applied};

fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(errors::reason_of(status), Some(reason), "{status:?}");
}

fn to(id: u64) -> v1::TransferLeadershipRequest {
    v1::TransferLeadershipRequest { target: Some(Target::NodeId(id)) }
}

fn away_from(site: &str) -> v1::TransferLeadershipRequest {
    v1::TransferLeadershipRequest { target: Some(Target::AwayFromSite(site.to_owned())) }
}

/// Without a handover nobody stands for election within these tests, once the first leader is there.
fn patient(options: &mut NodeOptions) {
    options.timings.election_min_ms = 4_000;
    options.timings.election_max_ms = 6_000;
}

fn leading(answer: &v1::MembershipResponse) -> Vec<u64> {
    let leaders = answer.nodes.iter().filter(|status| status.leader);
    leaders.map(|status| status.node.as_ref().unwrap().id).collect()
}

/// Every node the leader of which answers it.
async fn everybody_answers(cluster: &Cluster, leader: u64) {
    let core = cluster.core(leader);
    eventually("every voter answers the leader", || {
        let voters = core.roster.view().voters();
        let known = voters.iter().all(|id| core.acks.flushed(*id) >= core.commits.borrow().map(|now| now.log_id.index));
        (known && crate::status::reachable(core).is_superset(&voters)).then_some(())
    })
    .await;
}

/// A site was to be shut for maintenance, and the only way to move the leader was to stop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_goes_to_the_node_that_is_named_whoever_is_asked() {
    let cluster = Cluster::formed_with(patient).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        write(cluster.core(leader), round).await;
        everybody_answers(&cluster, leader).await;
        let target = leader % 3 + 1;
        let asked = target % 3 + 1;
        let answer = cluster.node(asked).transfer_leadership(to(target)).await.unwrap();
        // As consensus itself has it, which the rest of the node follows a moment later.
        let state = cluster.core(target).raft.server_metrics().borrow_watched().state;
        assert_eq!(state, ServerState::Leader, "it was answered before the target led");
        assert_eq!(cluster.leader().await, target);
        let term = cluster.core(target).leading_term();
        // A repeated call finds its work done.
        let again = cluster.node(asked).transfer_leadership(to(target)).await.unwrap();
        assert_eq!((leading(&again), cluster.core(target).leading_term()), (vec![target], term), "after {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_leaves_a_site_and_stays_where_it_stands_elsewhere() {
    let mut cluster = Cluster::formed_with(patient).await;
    let leader = cluster.leader().await;
    write(cluster.core(leader), 1).await;
    everybody_answers(&cluster, leader).await;
    let site = cluster.site(leader).options.site.clone();
    let follower = cluster.follower().await;
    cluster.node(follower).transfer_leadership(away_from(&site)).await.unwrap();
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    let term = cluster.core(next).leading_term();
    cluster.node(leader).transfer_leadership(away_from(&site)).await.unwrap();
    assert_eq!(cluster.core(next).leading_term(), term, "it moved without need");
    write(cluster.core(next), 2).await;
    let status = cluster.node(leader).transfer_leadership(away_from("odaesan")).await.unwrap_err();
    assert_reason(&status, Reason::NodeNotFound);
}

/// A leader that gives leadership to a node that cannot take it stops writes until an election: it is refused first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_target_that_cannot_lead_is_refused_and_the_leader_goes_on() {
    let mut cluster = Cluster::formed_with(patient).await;
    let leader = cluster.leader().await;
    write(cluster.core(leader), 1).await;
    everybody_answers(&cluster, leader).await;
    let term = cluster.core(leader).leading_term();
    let refused = async |cluster: &Cluster, request: v1::TransferLeadershipRequest, reason, says: &str| {
        let status = cluster.node(leader).transfer_leadership(request).await.unwrap_err();
        assert_reason(&status, reason);
        assert!(status.message().contains(says), "{status:?}");
        status
    };
    refused(&cluster, to(42), Reason::NodeNotFound, "node 42").await;
    refused(&cluster, v1::TransferLeadershipRequest::default(), Reason::InvalidCommand, "name a node").await;
    let learner = cluster.add_blank("odaesan");
    cluster.boot(learner).await;
    let add = v1::AddNodeRequest { node: Some(cluster.describe(learner)), learner_only: true, ..Default::default() };
    cluster.node(leader).add_node(add).await.unwrap();
    refused(&cluster, to(learner), Reason::NodeNotFound, "only a voter").await;

    let behind = cluster.follower().await;
    let gone = (1..=3).find(|id| *id != leader && *id != behind).unwrap();
    // A disk that stalls: the others are a quorum.
    cluster.disk(behind).hold_syncs();
    let core = cluster.core(leader).clone();
    let mut upon = head(&core);
    let mut proposals = Vec::new();
    for marker in 2..=302 {
        let record = record(upon, marker);
        upon = records::hash(&record);
        proposals.push(core.propose(term.unwrap(), record).await.unwrap());
    }
    for proposal in proposals {
        assert_eq!(proposal.await.unwrap().1, Applied::Recorded);
    }
    let status = refused(&cluster, to(behind), Reason::NotReady, "behind").await;
    let lag: u64 = errors::error_info(&status).unwrap().metadata["lag_entries"].parse().unwrap();
    assert!((257..=310).contains(&lag), "{status:?}");
    cluster.disk(behind).release_syncs();
    everybody_answers(&cluster, leader).await;

    cluster.stop(gone).await;
    eventually("its silence is noticed", || (!crate::status::reachable(&core).contains(&gone)).then_some(())).await;
    refused(&cluster, to(gone), Reason::NotReady, "does not answer").await;
    assert_eq!(core.leading_term(), term, "a refusal cost an election");
    write(&core, 1_000).await;
}
