//! Who may call whom.

use sillok_wire::{
    errors,
    peer::{self, peer_client::PeerClient, raft_client::RaftClient},
    v1::Reason,
};
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

use super::harness::{Cluster, write};
use crate::{core::Core, network::cluster_hex};

async fn connect(core: &Core) -> Channel {
    let address = format!("http://{}", core.options.peer_address);
    Channel::from_shared(address).unwrap().connect().await.unwrap()
}

fn signed<T>(message: T, cluster: &str, from: &str, to: &str) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in [("sillok-cluster", cluster), ("sillok-from", from), ("sillok-to", to)] {
        request.metadata_mut().insert(key, MetadataValue::try_from(value).unwrap());
    }
    request
}

/// As the peer with this id would sign itself.
fn name(core: &Core) -> String {
    core.peers.local().node.to_string()
}

fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(errors::reason_of(status), Some(reason), "{status:?}");
}

/// Every call of consensus, and the answers it gets.
async fn call_everything(core: &Core, cluster: &str, from: &str, to: &str) -> Vec<Status> {
    let channel = connect(core).await;
    let mut raft = RaftClient::new(channel.clone());
    let mut peers = PeerClient::new(channel);
    let requests = tokio_stream::iter([peer::AppendRequest::default()]);
    let executes = tokio_stream::iter([peer::ExecuteRequest::default()]);
    let answers = [
        raft.append(signed(requests, cluster, from, to)).await.map(drop),
        raft.heartbeat(signed(peer::AppendRequest::default(), cluster, from, to)).await.map(drop),
        raft.vote(signed(peer::VoteRequest::default(), cluster, from, to)).await.map(drop),
        raft.pre_vote(signed(peer::VoteRequest::default(), cluster, from, to)).await.map(drop),
        raft.transfer_leader(signed(peer::TransferLeaderRequest::default(), cluster, from, to)).await.map(drop),
        peers.read_index(signed(peer::ReadIndexRequest {}, cluster, from, to)).await.map(drop),
        peers.execute(signed(executes, cluster, from, to)).await.map(drop),
        peers.forward_membership(signed(peer::ForwardMembershipRequest::default(), cluster, from, to)).await.map(drop),
        peers.progress(signed(peer::ProgressRequest {}, cluster, from, to)).await.map(drop),
    ];
    answers.into_iter().map(|answer| answer.unwrap_err()).collect()
}

/// Two test clusters on one machine had swapped a port, and one took the other's entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_of_another_cluster_is_refused_in_every_call() {
    let cluster = Cluster::formed().await;
    let (core, other) = (cluster.core(1), cluster.core(2));
    for status in call_everything(core, &"ab".repeat(16), &name(other), &name(core)).await {
        assert_reason(&status, Reason::ClusterMismatch);
        assert!(status.message().contains(&"ab".repeat(16)), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_known_id_with_another_incarnation_is_refused_in_every_call() {
    let cluster = Cluster::formed().await;
    let core = cluster.core(1);
    let ours = cluster_hex(&core.peers.local().cluster().unwrap());
    for status in call_everything(core, &ours, "2/00000000deadbeef", &name(core)).await {
        assert_reason(&status, Reason::NodeMismatch);
        assert!(status.message().contains("00000000deadbeef"), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_means_another_node_is_refused_in_every_call() {
    let cluster = Cluster::formed().await;
    let (core, other) = (cluster.core(1), cluster.core(2));
    let ours = cluster_hex(&core.peers.local().cluster().unwrap());
    for status in call_everything(core, &ours, &name(other), &name(other)).await {
        assert_reason(&status, Reason::NodeMismatch);
    }
    // Nothing of all that disturbed anybody.
    let leader = cluster.leader().await;
    write(cluster.core(leader), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_blank_node_answers_hello_and_nothing_else() {
    let mut cluster = Cluster::blank(&["chungju"]);
    cluster.boot(1).await;
    let core = cluster.core(1);
    for status in call_everything(core, &"00".repeat(16), "2/0000000000000001", &name(core)).await {
        assert_reason(&status, Reason::ClusterMismatch);
        assert!(status.message().contains("blank"), "{status:?}");
    }
    let hello = PeerClient::new(connect(core).await).hello(peer::HelloRequest {}).await.unwrap().into_inner();
    assert!(hello.blank && hello.cluster_id.is_empty());
    assert_eq!((hello.node_id, &*hello.site), (1, "chungju"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_of_a_cluster_is_not_adopted_by_another() {
    let cluster = Cluster::formed().await;
    let core = cluster.core(1);
    let request = peer::AdoptRequest { cluster_id: vec![7; 16].into(), ..Default::default() };
    let adopt = signed(request, &"07".repeat(16), "2/0000000000000001", &name(core));
    let status = PeerClient::new(connect(core).await).adopt(adopt).await.unwrap_err();
    assert_reason(&status, Reason::ClusterMismatch);
    assert_ne!(core.peers.local().cluster(), Some([7; 16]));
}

/// A site had been set up with other segments than the rest. All was well until segment digests were compared, a year later.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_cuts_its_segments_elsewhere_is_refused() {
    let cluster = Cluster::formed().await;
    let (core, other) = (cluster.core(1), cluster.core(2));
    let ours = cluster_hex(&core.peers.local().cluster().unwrap());
    let call = |segment: u64| {
        let mut request = signed(peer::ProgressRequest {}, &ours, &name(other), &name(core));
        request.metadata_mut().insert("sillok-segment", MetadataValue::from(segment));
        async move { PeerClient::new(connect(core).await).progress(request).await }
    };
    call(core.options.segment_bytes).await.unwrap();
    let status = call(core.options.segment_bytes + 1).await.unwrap_err();
    assert_reason(&status, Reason::NodeMismatch);
    assert!(status.message().contains("chronicle.segment_bytes must be the same"), "{status:?}");
}
