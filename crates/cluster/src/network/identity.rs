//! Who calls, and whom they mean.
//!
//! Every call between peers carries these values; what does not match is refused before it is read:
//!
//! ```text
//! sillok-cluster  32 hex digits                     the cluster's id
//! sillok-from     <node id>/<16 hex digits>         the caller's id and incarnation
//! sillok-to       <node id>/<16 hex digits>         whom the caller means
//! sillok-segment  bytes                             where the caller cuts its segments
//! sillok-epoch    <number>/<16 hex digits>          the caller's epoch; absent where no quorum was ever recovered
//! ```
//! Nobody of an older epoch is listened to, and whoever hears of a newer one takes no part any more, for ever: the cluster
//! went on without it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use sillok_chronicle::Epoch;
use sillok_wire::{
    errors::{self, Problem},
    v1::Reason,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::Interceptor,
};

use super::fence::{EPOCH_FACT, Fence};
use crate::{
    chain::Chain,
    planted::{self, Planted},
    roster::Roster,
};

const CLUSTER: &str = "sillok-cluster";
const FROM: &str = "sillok-from";
const TO: &str = "sillok-to";
const SEGMENT: &str = "sillok-segment";
const EPOCH: &str = "sillok-epoch";
/// Refused callers are logged once each; more than this many are not remembered.
const REMEMBERED_REFUSALS: usize = 64;

/// A node as its peers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeIdentity {
    pub(crate) id: u64,
    pub(crate) incarnation: u64,
}

impl std::fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:016x}", self.id, self.incarnation)
    }
}

impl NodeIdentity {
    fn parse(text: &str) -> Option<NodeIdentity> {
        let (id, incarnation) = text.split_once('/')?;
        Some(NodeIdentity { id: id.parse().ok()?, incarnation: u64::from_str_radix(incarnation, 16).ok()? })
    }
}

/// 32 hex digits.
pub(crate) fn cluster_hex(cluster_id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*cluster_id))
}

/// This node, and its cluster once it belongs to one.
#[derive(Debug)]
pub(crate) struct LocalIdentity {
    pub(crate) node: NodeIdentity,
    segment_bytes: u64,
    cluster: RwLock<Option<[u8; 16]>>,
    epoch: RwLock<Epoch>,
}

impl LocalIdentity {
    pub(crate) fn new(
        node: NodeIdentity,
        cluster: Option<[u8; 16]>,
        epoch: Epoch,
        segment_bytes: u64,
    ) -> LocalIdentity {
        LocalIdentity { node, segment_bytes, cluster: RwLock::new(cluster), epoch: RwLock::new(epoch) }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        *self.epoch.read()
    }

    pub(crate) fn cluster(&self) -> Option<[u8; 16]> {
        *self.cluster.read()
    }

    /// Only after the chronicle has adopted it durably.
    pub(crate) fn set_cluster(&self, cluster_id: [u8; 16], epoch: Epoch) {
        *self.epoch.write() = epoch;
        *self.cluster.write() = Some(cluster_id);
    }
}

/// Puts our identity, theirs and a deadline on every call.
#[derive(Debug, Clone)]
pub(crate) struct Identify {
    cluster: Option<MetadataValue<Ascii>>,
    from: Option<MetadataValue<Ascii>>,
    to: Option<MetadataValue<Ascii>>,
    segment: MetadataValue<Ascii>,
    epoch: Option<MetadataValue<Ascii>>,
    deadline: Duration,
}

impl Identify {
    pub(crate) fn new(local: &LocalIdentity, to: Option<NodeIdentity>, deadline: Duration) -> Identify {
        let value = |text: String| MetadataValue::try_from(text).ok();
        Identify {
            cluster: local.cluster().and_then(|id| value(cluster_hex(&id))),
            from: value(local.node.to_string()),
            to: to.and_then(|to| value(to.to_string())),
            segment: MetadataValue::from(local.segment_bytes),
            epoch: Some(local.epoch())
                .filter(|epoch| *epoch != Epoch::default())
                .and_then(|epoch| value(epoch.to_string())),
            deadline,
        }
    }
}

impl Interceptor for Identify {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        for (key, value) in [(CLUSTER, &self.cluster), (FROM, &self.from), (TO, &self.to), (EPOCH, &self.epoch)] {
            if let Some(value) = value {
                metadata.insert(key, value.clone());
            }
        }
        metadata.insert(SEGMENT, self.segment.clone());
        request.set_timeout(self.deadline);
        Ok(request)
    }
}

/// Refuses callers that are not of this cluster, mean another node, or are not who the membership says.
pub(crate) struct Guard {
    local: Arc<LocalIdentity>,
    roster: Roster,
    chain: Arc<Chain>,
    fence: Arc<Fence>,
    refused: Mutex<HashSet<String>>,
    trouble: Mutex<Option<String>>,
}

impl Guard {
    pub(crate) fn new(local: Arc<LocalIdentity>, roster: Roster, chain: Arc<Chain>, fence: Arc<Fence>) -> Guard {
        Guard { local, roster, chain, fence, refused: Mutex::default(), trouble: Mutex::default() }
    }

    /// What the operator should know: the cluster speaks to another incarnation of this node.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Remembers what the operator should know.
    pub(crate) fn note_trouble(&self, trouble: String) {
        *self.trouble.lock() = Some(trouble);
    }

    /// The caller, where it is who it says and means this node of this cluster.
    pub(crate) fn verify(&self, metadata: &MetadataMap) -> Result<NodeIdentity, Status> {
        let from = self.verify_addressee(metadata)?;
        let cluster = text(metadata, CLUSTER);
        let Some(ours) = self.local.cluster() else {
            if planted::is(Planted::BlankVotes) {
                return Ok(from);
            }
            return Err(self.refuse(
                Reason::ClusterMismatch,
                from,
                format!(
                    "node {} is blank and belongs to no cluster yet; form one or add this node to one",
                    self.local.node.id
                ),
            ));
        };
        let ours = cluster_hex(&ours);
        if cluster != Some(&ours) {
            let theirs = cluster.unwrap_or("none");
            let message = format!(
                "node {} belongs to cluster {ours}, the caller, node {from}, to cluster {theirs}; \
                 check the addresses in the configuration of both",
                self.local.node.id
            );
            return Err(self.refuse(Reason::ClusterMismatch, from, message));
        }
        self.verify_epoch(metadata, from)?;
        self.verify_caller(from)?;
        self.verify_segment(metadata, from)?;
        Ok(from)
    }

    /// An operator went on from one survivor: whoever was left behind may hold another history.
    fn verify_epoch(&self, metadata: &MetadataMap, from: NodeIdentity) -> Result<(), Status> {
        let ours = self.local.epoch();
        let theirs = text(metadata, EPOCH).map_or(Some(Epoch::default()), parse_epoch);
        if theirs == Some(ours) {
            return Ok(());
        }
        let (us, named) = (self.local.node.id, theirs.map_or_else(|| "?".to_owned(), |theirs| theirs.to_string()));
        let message = match theirs {
            Some(theirs) if theirs.number > ours.number => {
                let message = format!(
                    "node {from} is of epoch {}, in which the cluster went on after a lost quorum, and node {us} is of epoch \
                     {}: it was left behind and takes no part any more; erase it and let it join blank, under an id that was \
                     never used",
                    theirs.number, ours.number
                );
                self.fence.superseded(theirs.number, &message);
                message
            }
            Some(theirs) if theirs.number < ours.number => {
                let what = self.chain.recovery().map_or_else(
                    || format!("this cluster was recovered at epoch {}", ours.number),
                    |recovered| recovered.to_string(),
                );
                format!(
                    "{what}; node {from} is of epoch {} and was left behind: it is not listened to; erase it and let it join \
                     blank, under an id that was never used",
                    theirs.number
                )
            }
            _ => format!(
                "node {us} is of epoch {ours} and node {from} of epoch {named}: a lost quorum was recovered twice, from \
                 different survivors, whose histories exclude each other; keep one, and erase every node of the other"
            ),
        };
        let refused = Problem::new(Reason::EpochSuperseded, message.clone()).with(EPOCH_FACT, ours.number);
        self.say_once(Reason::EpochSuperseded, from, &message);
        Err(refused.into())
    }

    /// Segments are byte for byte the same on every node only if all cut them alike.
    fn verify_segment(&self, metadata: &MetadataMap, from: NodeIdentity) -> Result<(), Status> {
        let ours = self.local.segment_bytes;
        let Some(theirs) = text(metadata, SEGMENT).filter(|theirs| *theirs != ours.to_string()) else { return Ok(()) };
        let message = format!(
            "node {} cuts its segments at {ours} bytes and the caller, node {from}, at {theirs}; chronicle.segment_bytes must \
             be the same at every node, and is fixed when a node first starts: format the one that is wrong anew, under an \
             id that was never used",
            self.local.node.id
        );
        Err(self.refuse(Reason::NodeMismatch, from, message))
    }

    /// For the one call that makes a blank node part of a cluster: the caller must mean this very node.
    pub(crate) fn verify_addressee(&self, metadata: &MetadataMap) -> Result<NodeIdentity, Status> {
        let identity = |key| text(metadata, key).and_then(NodeIdentity::parse);
        let (Some(from), Some(to)) = (identity(FROM), identity(TO)) else {
            return Err(errors::status(
                Reason::NodeMismatch,
                format!("calls between peers carry {FROM} and {TO} as id/incarnation"),
                &[],
                None,
            ));
        };
        let ours = self.local.node;
        if to == ours {
            return Ok(from);
        }
        let message = if to.id == ours.id {
            let message = format!(
                "node {} is known to the cluster as incarnation {:016x}, and the chronicle here was formatted as {:016x}: \
                 it is not the one that was acknowledged into, so this node takes no part; remove node {} from the cluster \
                 and add this one under an id that was never used",
                ours.id, to.incarnation, ours.incarnation, ours.id
            );
            self.note_trouble(message.clone());
            message
        } else {
            format!("this is node {}, the caller, node {from}, means node {to}; check the peer addresses", ours.id)
        };
        Err(self.refuse(Reason::NodeMismatch, from, message))
    }

    /// An id that is, or ever was, in the membership belongs to one incarnation.
    fn verify_caller(&self, from: NodeIdentity) -> Result<(), Status> {
        let known = match self.roster.view().member(from.id) {
            Some(member) => Some(member.incarnation),
            None => self.chain.seen().get(&from.id).copied(),
        };
        match known {
            Some(incarnation) if incarnation != from.incarnation => {
                let message = format!(
                    "node {} is known as incarnation {incarnation:016x} and calls as {:016x}: it lost its chronicle or is an \
                     impostor, and is not listened to; remove it and add it under an id that was never used",
                    from.id, from.incarnation
                );
                Err(self.refuse(Reason::NodeMismatch, from, message))
            }
            // A node we have not heard of may lead a cluster that is only now adding us.
            _ => Ok(()),
        }
    }

    fn refuse(&self, reason: Reason, from: NodeIdentity, message: String) -> Status {
        self.say_once(reason, from, &message);
        errors::status(reason, message, &[], None)
    }

    fn say_once(&self, reason: Reason, from: NodeIdentity, message: &str) {
        let mut refused = self.refused.lock();
        if refused.len() < REMEMBERED_REFUSALS && refused.insert(format!("{from} {reason:?}")) {
            tracing::warn!(%from, reason = errors::reason_name(reason), "refused a peer: {message}");
        }
    }
}

fn parse_epoch(text: &str) -> Option<Epoch> {
    let (number, token) = text.split_once('/')?;
    Some(Epoch { number: number.parse().ok()?, token: u64::from_str_radix(token, 16).ok()? })
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    metadata.get(key)?.to_str().ok()
}
