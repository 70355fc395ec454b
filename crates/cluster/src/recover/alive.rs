//! Does one of those that are given up still answer?

use std::time::Duration;

use sillok_wire::peer;
use tonic::transport::Endpoint;

use super::plan::{LostNode, Plan};

/// One question.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// A member that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Its id.
    pub id: u64,
    /// Its site.
    pub site: String,
    /// Where it answered.
    pub peer_address: String,
}

/// The members given up that answer where the membership has them, as who they were. That none does is no proof that none
/// runs; that one does is proof that this is no time to recover.
pub async fn alive(plan: &Plan) -> Vec<Alive> {
    let asked = plan.lost.iter().map(|node| async move {
        let answered = tokio::time::timeout(ASK_WITHIN, answers(node, &plan.cluster_id)).await;
        answered.unwrap_or(false).then(|| Alive {
            id: node.id,
            site: node.site.clone(),
            peer_address: node.peer_address.clone(),
        })
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn answers(node: &LostNode, cluster_id: &str) -> bool {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", node.peer_address)) else { return false };
    let Ok(channel) = endpoint.connect_timeout(ASK_WITHIN).connect().await else { return false };
    let Ok(hello) = peer::peer_client::PeerClient::new(channel).hello(peer::HelloRequest {}).await else {
        return false;
    };
    let hello = hello.into_inner();
    let cluster: String = hello.cluster_id.iter().map(|byte| format!("{byte:02x}")).collect();
    cluster == cluster_id && (hello.node_id, hello.incarnation) == (node.id, node.incarnation)
}
