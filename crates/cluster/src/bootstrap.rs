//! Forming a cluster of blank nodes, by command or by the configured initial nodes.
//!
//! ```text
//! hello to every node ─► all blank, or already part of this very attempt ─► placement ─► cluster id, stored here
//!   ─► adopted, durably, by every node ─► one membership entry, here ─► election
//! ```
//! Every step can be taken again: a crash leaves a cluster id without entries, and the next attempt goes on with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::errors::{InitializeError, RaftError};
use sillok_chronicle::Epoch;
use sillok_wire::{errors::Problem, peer, v1::Reason};

use crate::{
    core::Core,
    network::{NodeIdentity, cluster_hex},
    placement,
    types::Member,
};

/// One question to a peer while forming.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to find every initial node.
const RETRY_EVERY: Duration = Duration::from_millis(300);
/// Peers that are still starting are mentioned again only after this long.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// A node that is to be a first voter.
#[derive(Debug, Clone)]
pub(crate) struct Founder {
    pub(crate) id: u64,
    pub(crate) site: String,
    pub(crate) peer_address: String,
    pub(crate) client_address: String,
}

/// A cluster was not formed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FormError {
    #[error("this node, {0}, is not among the nodes of the new cluster; ask one that is, or name it too")]
    NotAFounder(u64),
    #[error("node id {0} is not usable: ids begin at 1 and each names one node")]
    BadId(u64),
    #[error("node {id} at {address} does not answer ({reason}); nothing was changed, start it and try again")]
    Unreachable { id: u64, address: String, reason: String },
    #[error("{address} is node {found} and not node {expected}; check the addresses")]
    OtherNode { address: String, expected: u64, found: u64 },
    #[error("node {id} was formatted for site {found:?} and not {expected:?}; site labels never change in place")]
    OtherSite { id: u64, expected: String, found: String },
    #[error("node {id} already holds a chronicle of cluster {cluster}; {advice}")]
    NotBlank { id: u64, cluster: String, advice: &'static str },
    #[error(
        "node {id} belongs to cluster {cluster}, which was begun elsewhere; give it a fresh data directory to use it here"
    )]
    OtherCluster { id: u64, cluster: String },
    #[error(transparent)]
    Placement(#[from] placement::PlacementError),
    #[error("this node is already part of a cluster")]
    AlreadyFormed,
    #[error("the cluster's id could not be stored at node {id}: {reason}; try again")]
    NotAdopted { id: u64, reason: String },
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

impl From<FormError> for Problem {
    fn from(error: FormError) -> Problem {
        let message = error.to_string();
        match error {
            FormError::Placement(error) => error.into(),
            FormError::AlreadyFormed | FormError::NotBlank { .. } => Problem::new(Reason::AlreadyInitialized, message),
            FormError::OtherCluster { .. } => Problem::new(Reason::ClusterMismatch, message),
            FormError::OtherNode { .. } | FormError::OtherSite { .. } => Problem::new(Reason::NodeMismatch, message),
            FormError::NotAFounder(_) | FormError::BadId(_) => Problem::new(Reason::InvalidCommand, message),
            FormError::Unreachable { .. } | FormError::NotAdopted { .. } | FormError::Stopped(_) => {
                Problem::new(Reason::NotReady, message).retry_after(RETRY_EVERY)
            }
        }
    }
}

/// Nothing was ever appended or voted here.
pub(crate) fn is_blank(core: &Core) -> bool {
    core.chronicle.last().is_none() && core.chronicle.vote().is_none()
}

/// What a node says of itself.
pub(crate) fn hello(core: &Core) -> peer::HelloResponse {
    let local = core.peers.local();
    peer::HelloResponse {
        node_id: local.node.id,
        incarnation: local.node.incarnation,
        site: core.site.clone(),
        cluster_id: local.cluster().map(|id| bytes::Bytes::copy_from_slice(&id)).unwrap_or_default(),
        blank: is_blank(core),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: sillok_wire::records::FEATURE_LEVEL,
        epoch: local.epoch().number,
        epoch_token: local.epoch().token,
    }
}

/// Asks who listens at an address.
pub(crate) async fn ask(core: &Core, id: u64, address: &str) -> Result<peer::HelloResponse, FormError> {
    let unreachable = |reason: String| FormError::Unreachable { id, address: address.to_owned(), reason };
    let mut client = core.peers.client_at(None, address, ASK_WITHIN).map_err(|error| unreachable(error.to_string()))?;
    let answer = tokio::time::timeout(ASK_WITHIN, client.hello(peer::HelloRequest {}))
        .await
        .map_err(|_| unreachable(format!("no answer within {ASK_WITHIN:?}")))?
        .map_err(|status| unreachable(status.message().to_owned()))?;
    Ok(answer.into_inner())
}

/// Makes this node part of a cluster, durably. Only a blank node comes to another epoch so: what stands in the chronicle of
/// any other is not of that epoch.
pub(crate) async fn adopt_here(core: &Arc<Core>, cluster_id: [u8; 16], epoch: Epoch) -> Result<(), FormError> {
    let failed = |reason: String| FormError::NotAdopted { id: core.id, reason };
    let held = core.peers.local().epoch();
    if epoch != held && !is_blank(core) {
        return Err(failed(format!("it holds a chronicle of epoch {} and not of epoch {}", held.number, epoch.number)));
    }
    let chronicle = core.chronicle.clone();
    let adopted = core.options.execution.blocking(move || {
        // In this order: a node that has the cluster's id is of the epoch that it says.
        if epoch != held {
            chronicle.begin_epoch(epoch)?;
        }
        chronicle.adopt_cluster(cluster_id)
    });
    adopted.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    core.peers.local().set_cluster(cluster_id, epoch);
    core.views.adopt_cluster(cluster_id);
    Ok(())
}

/// Makes a blank node part of this node's cluster, durably.
pub(crate) async fn adopt_there(
    core: &Core,
    to: NodeIdentity,
    address: &str,
    cluster_id: [u8; 16],
) -> Result<(), FormError> {
    let failed = |reason: String| FormError::NotAdopted { id: to.id, reason };
    let mut client = core.peers.client_at(Some(to), address, ASK_WITHIN).map_err(|error| failed(error.to_string()))?;
    let Epoch { number: epoch, token: epoch_token } = core.peers.local().epoch();
    let cluster_id = bytes::Bytes::copy_from_slice(&cluster_id);
    let request = peer::AdoptRequest { cluster_id, epoch, epoch_token };
    client.adopt(request).await.map_err(|status| failed(status.message().to_owned()))?;
    Ok(())
}

/// Forms the cluster. Each node keeps its id, site and incarnation for ever.
pub(crate) async fn form(
    core: &Arc<Core>,
    founders: &[Founder],
    allow_single_site_quorum: bool,
) -> Result<[u8; 16], FormError> {
    if !is_blank(core) {
        return Err(FormError::AlreadyFormed);
    }
    if !founders.iter().any(|founder| founder.id == core.id) {
        return Err(FormError::NotAFounder(core.id));
    }
    let mut members: BTreeMap<u64, Member> = BTreeMap::new();
    for founder in founders {
        let answer =
            if founder.id == core.id { hello(core) } else { ask(core, founder.id, &founder.peer_address).await? };
        check_founder(core, founder, &answer)?;
        let member = Member {
            site: answer.site,
            peer_address: founder.peer_address.clone(),
            client_address: founder.client_address.clone(),
            incarnation: answer.incarnation,
        };
        if founder.id == 0 || members.insert(founder.id, member).is_some() {
            return Err(FormError::BadId(founder.id));
        }
    }
    if !allow_single_site_quorum {
        placement::check(&members.keys().copied().collect(), &members)?;
    }

    let cluster_id = core.peers.local().cluster().unwrap_or_else(rand::random);
    adopt_here(core, cluster_id, core.peers.local().epoch()).await?;
    for (&id, member) in &members {
        if id != core.id {
            let to = NodeIdentity { id, incarnation: member.incarnation };
            adopt_there(core, to, &member.peer_address, cluster_id).await?;
        }
    }
    match core.raft.initialize(members).await {
        Ok(()) => {}
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => return Err(FormError::AlreadyFormed),
        Err(error) => return Err(FormError::Stopped(error.to_string())),
    }
    tracing::info!(cluster = cluster_hex(&cluster_id), voters = founders.len(), "formed a cluster");
    Ok(cluster_id)
}

fn check_founder(core: &Core, founder: &Founder, answer: &peer::HelloResponse) -> Result<(), FormError> {
    if answer.node_id != founder.id {
        let address = founder.peer_address.clone();
        return Err(FormError::OtherNode { address, expected: founder.id, found: answer.node_id });
    }
    if !founder.site.is_empty() && answer.site != founder.site {
        let (expected, found) = (founder.site.clone(), answer.site.clone());
        return Err(FormError::OtherSite { id: founder.id, expected, found });
    }
    let cluster = hex(&answer.cluster_id);
    if !answer.blank {
        let advice = "a cluster is formed once; add this node to it under an id that was never used";
        return Err(FormError::NotBlank { id: founder.id, cluster, advice });
    }
    let ours = core.peers.local().cluster();
    if !answer.cluster_id.is_empty() && ours.is_none_or(|ours| ours[..] != answer.cluster_id[..]) {
        return Err(FormError::OtherCluster { id: founder.id, cluster });
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Forms the configured initial cluster where this node is its lowest id and all are blank; tries until it is formed. Ends
/// at once on every other node, and on one that has taken part before.
pub(crate) async fn form_initial(core: Arc<Core>) {
    let founders: Vec<Founder> = core
        .options
        .initial
        .iter()
        .map(|node| Founder {
            id: node.id,
            site: node.site.clone(),
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
        })
        .collect();
    let lowest = founders.iter().map(|founder| founder.id).min();
    if founders.is_empty() || !is_blank(&core) {
        return;
    }
    let mut last_said: Option<(String, tokio::time::Instant)> = None;
    while is_blank(&core) {
        let attempt = if lowest == Some(core.id) {
            form(&core, &founders, core.options.allow_single_site_quorum).await.map(drop)
        } else {
            refuse_if_lost(&core, &founders).await
        };
        match attempt {
            Ok(()) if lowest == Some(core.id) => return,
            Ok(()) => {}
            Err(error) => {
                let text = error.to_string();
                let again = last_said.as_ref().is_none_or(|(said, at)| *said != text || at.elapsed() > REMIND_EVERY);
                if again {
                    tracing::warn!("the initial cluster is not formed yet: {text}");
                    last_said = Some((text.clone(), tokio::time::Instant::now()));
                }
                if matches!(error, FormError::NotBlank { .. }) {
                    core.guard.note_trouble(lost(core.id));
                }
            }
        }
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    }
}

/// A blank node among peers that already have a chronicle has lost its own.
async fn refuse_if_lost(core: &Core, founders: &[Founder]) -> Result<(), FormError> {
    for founder in founders.iter().filter(|founder| founder.id != core.id) {
        let Ok(answer) = ask(core, founder.id, &founder.peer_address).await else { continue };
        // Between adopting an id here and the first entry from there, a peer is rightly ahead of us.
        if !answer.blank && core.peers.local().cluster().is_none() {
            let advice = "this node's chronicle is blank: it was lost, or the node is new and must be added";
            return Err(FormError::NotBlank { id: founder.id, cluster: hex(&answer.cluster_id), advice });
        }
    }
    Ok(())
}

fn lost(id: u64) -> String {
    format!(
        "the initial nodes already form a cluster and the chronicle of node {id} is blank: it was lost or never joined; this \
         node takes no part; remove node {id} from the cluster and add this one under an id that was never used"
    )
}
