//! Asking one peer.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use sillok_chronicle::{Mending, Wanted};
use sillok_wire::peer;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    network::{AddressBook, LocalIdentity, NodeIdentity, Peers},
    options::NodeOptions,
};

/// A peer has this long to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// And this long for each message.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What a peer gave for one wound.
pub(super) struct Given {
    pub(super) frames: Bytes,
    /// Of the chain of records, after the last entry that is missing here.
    pub(super) head: [u8; 32],
}

/// Why a peer gave nothing.
pub(super) enum AskError {
    /// It may yet.
    Silent(String),
    /// It answered, and asking again would not change that.
    Refused(String),
}

/// Asks as this node, which is not open.
pub(super) struct Inquiry {
    peers: Peers,
    cluster: [u8; 16],
}

impl Inquiry {
    /// `None` where this node belongs to no cluster yet.
    pub(super) fn new(options: &NodeOptions, mending: &Mending) -> Option<Inquiry> {
        let identity = mending.identity();
        let cluster = identity.cluster_id?;
        let node = NodeIdentity { id: identity.node_id, incarnation: identity.incarnation };
        // Peers refuse another one.
        let segment_bytes = mending.segment_bytes().unwrap_or(options.segment_bytes);
        let local = Arc::new(LocalIdentity::new(node, Some(cluster), mending.epoch(), segment_bytes));
        Some(Inquiry { peers: Peers::new(local, AddressBook::new(options), options.transport.clone()), cluster })
    }

    /// Everything that is wanted, from this peer.
    pub(super) async fn ask(&self, id: u64, address: &str, wanted: &[Wanted]) -> Result<Vec<Given>, AskError> {
        let who = self.hello(id, address).await?;
        let mut given = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            given.push(self.read_frames(who, address, *wanted).await?);
        }
        Ok(given)
    }

    async fn hello(&self, id: u64, address: &str) -> Result<NodeIdentity, AskError> {
        let silent = |why: String| AskError::Silent(why);
        let mut client =
            self.peers.client_at(None, address, HELLO_WITHIN).map_err(|error| silent(error.to_string()))?;
        let hello = timeout(HELLO_WITHIN, client.hello(peer::HelloRequest {}))
            .await
            .map_err(|_| silent(format!("no answer within {HELLO_WITHIN:?}")))?
            .map_err(|status| silent(status.message().to_owned()))?
            .into_inner();
        // Addresses move; who answers here may be right again later.
        if hello.node_id != id {
            return Err(silent(format!("node {} answers there", hello.node_id)));
        }
        if hello.cluster_id[..] != self.cluster {
            return Err(AskError::Refused("it belongs to another cluster, or to none".to_owned()));
        }
        Ok(NodeIdentity { id, incarnation: hello.incarnation })
    }

    async fn read_frames(&self, who: NodeIdentity, address: &str, wanted: Wanted) -> Result<Given, AskError> {
        let mut client = self
            .peers
            .client_at(Some(who), address, ANSWER_WITHIN)
            .map_err(|error| AskError::Silent(error.to_string()))?;
        let request =
            peer::ReadFramesRequest { from_index: wanted.from, to_index: wanted.to, head_at_index: wanted.last };
        let late = |_| AskError::Silent(format!("no answer within {ANSWER_WITHIN:?}"));
        let mut stream =
            timeout(ANSWER_WITHIN, client.read_frames(request)).await.map_err(late)?.map_err(refusal)?.into_inner();
        let mut frames = BytesMut::new();
        let mut head = None;
        while let Some(part) = timeout(ANSWER_WITHIN, stream.message()).await.map_err(late)?.map_err(refusal)? {
            head = head.or_else(|| <[u8; 32]>::try_from(&part.chain_head[..]).ok());
            frames.extend_from_slice(&part.frames);
        }
        let head = head.ok_or_else(|| AskError::Refused("it names no head of the chain of records".to_owned()))?;
        Ok(Given { frames: frames.freeze(), head })
    }
}

fn refusal(status: tonic::Status) -> AskError {
    let why = status.message().to_owned();
    match status.code() {
        // It does not hold the entries, or does not take this node for one of its cluster.
        Code::OutOfRange | Code::FailedPrecondition | Code::PermissionDenied | Code::Unimplemented => {
            AskError::Refused(why)
        }
        _ => AskError::Silent(why),
    }
}
