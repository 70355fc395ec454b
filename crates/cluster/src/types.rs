//! What openraft is told about us, and the way between its types and ours.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use openraft::{
    EntryPayload, RaftTypeConfig,
    alias::{DefaultEntryOf, LogIdOf, StoredMembershipOf},
    impls::{InlineBatch, ProgressResponder, TokioRuntime, leader_id_std},
};
use prost::Message as _;
pub(crate) use sillok_chronicle::{Entry, LogId};
use sillok_wire::record;

use crate::commit::CommitPointer;

/// The consensus of this node.
pub(crate) type Raft = openraft::Raft<TypeConfig, CommitPointer>;
/// Openraft's entry.
pub(crate) type RaftEntry = DefaultEntryOf<TypeConfig>;
/// Openraft's log id; ours is [`LogId`].
pub(crate) type RaftLogId = LogIdOf<TypeConfig>;
/// Openraft's vote.
pub(crate) type RaftVote = openraft::Vote<LeaderId>;
/// Openraft's membership and the entry it stands in.
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
/// Openraft's membership.
pub(crate) type Membership = openraft::Membership<u64, Member>;
/// Standard Raft: at most one leader a term.
pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;

/// The types openraft works on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = RecordBytes;
    type R = Applied;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = RaftVote;
    type Payload = EntryPayload<RecordBytes, u64, Member>;
    type Entry = RaftEntry;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::AnyError;
}

/// The stored bytes of one record; cloning shares them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RecordBytes(pub(crate) Bytes);

impl fmt::Display for RecordBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record of {} bytes", self.0.len())
    }
}

impl fmt::Debug for RecordBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the proposer of an entry learns once it is committed and applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The record extends the chain: what it holds has happened.
    Recorded,
    /// The record was decided upon another head: every node skips it.
    Skipped,
    /// Blank or membership.
    NotARecord,
}

/// What the membership says about a node. The site never changes in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Member {
    pub(crate) site: String,
    /// host:port of the peer port.
    pub(crate) peer_address: String,
    /// host:port of the client port.
    pub(crate) client_address: String,
    /// Random, given when the data directory was formatted.
    pub(crate) incarnation: u64,
}

/// Kinds of entries. Append only: numbers reach the disk.
pub(crate) mod kind {
    /// A new leader's first entry, or a barrier.
    pub(crate) const BLANK: u8 = 0;
    /// `sillok.record.v1.Record`.
    pub(crate) const RECORD: u8 = 1;
    /// `sillok.record.v1.Membership`.
    pub(crate) const MEMBERSHIP: u8 = 2;
}

pub(crate) fn to_raft_id(id: LogId) -> RaftLogId {
    RaftLogId::new(id.term.into(), id.index)
}

pub(crate) fn from_raft_id(id: &RaftLogId) -> LogId {
    LogId { term: id.committed_leader_id().term, index: id.index() }
}

/// An entry that is none of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("entry {} of term {} has the unknown kind {kind}: a newer version wrote it; upgrade this node", id.index, id.term)]
    UnknownKind { id: LogId, kind: u32 },
    #[error("the membership in entry {} of term {} cannot be read: {source}", id.index, id.term)]
    Membership { id: LogId, source: prost::DecodeError },
    #[error("the membership in entry {} of term {} names voter {voter} and does not describe it", id.index, id.term)]
    VoterMissing { id: LogId, voter: u64 },
}

/// The entry as the chronicle holds it. The bytes of a record are shared, not copied.
pub(crate) fn to_stored(entry: &RaftEntry) -> Entry {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (kind::BLANK, Bytes::new()),
        EntryPayload::Normal(record) => (kind::RECORD, record.0.clone()),
        EntryPayload::Membership(membership) => (kind::MEMBERSHIP, encode_membership(membership)),
    };
    Entry { id: from_raft_id(&entry.log_id), kind, payload }
}

/// The entry as openraft takes it.
pub(crate) fn from_stored(entry: Entry) -> Result<RaftEntry, EntryError> {
    let payload = match entry.kind {
        kind::BLANK => EntryPayload::Blank,
        kind::RECORD => EntryPayload::Normal(RecordBytes(entry.payload)),
        kind::MEMBERSHIP => EntryPayload::Membership(decode_membership(entry.id, &entry.payload)?),
        kind => return Err(EntryError::UnknownKind { id: entry.id, kind: kind.into() }),
    };
    Ok(RaftEntry { log_id: to_raft_id(entry.id), payload })
}

/// `sillok.record.v1.Membership`, everything ascending: the same membership gives the same bytes.
pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|voters| record::VoterSet { node_ids: voters.iter().copied().collect() })
        .collect();
    let members = membership
        .nodes()
        .map(|(&id, member)| record::Member {
            id,
            site: member.site.clone(),
            peer_address: member.peer_address.clone(),
            client_address: member.client_address.clone(),
            incarnation: member.incarnation,
        })
        .collect();
    record::Membership { configs, members }.encode_to_vec().into()
}

/// The way back from [`encode_membership`].
pub(crate) fn decode_membership(id: LogId, bytes: &[u8]) -> Result<Membership, EntryError> {
    let stored = record::Membership::decode(bytes).map_err(|source| EntryError::Membership { id, source })?;
    let configs: Vec<BTreeSet<u64>> =
        stored.configs.into_iter().map(|voters| voters.node_ids.into_iter().collect()).collect();
    let members: std::collections::BTreeMap<u64, Member> = stored
        .members
        .into_iter()
        .map(|member| {
            let described = Member {
                site: member.site,
                peer_address: member.peer_address,
                client_address: member.client_address,
                incarnation: member.incarnation,
            };
            (member.id, described)
        })
        .collect();
    if let Some(&voter) = configs.iter().flatten().find(|voter| !members.contains_key(voter)) {
        return Err(EntryError::VoterMissing { id, voter });
    }
    // An empty membership is openraft's for an uninitialised node; `new` refuses it.
    if configs.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, members).map_err(|_| EntryError::VoterMissing { id, voter: 0 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn joint() -> Membership {
        let member = |site: &str, incarnation| Member {
            site: site.to_owned(),
            peer_address: format!("{site}:7501"),
            client_address: format!("{site}:7401"),
            incarnation,
        };
        let members =
            BTreeMap::from([(1, member("chungju", 11)), (2, member("seongju", 22)), (3, member("jeonju", 33))]);
        Membership::new(vec![[1, 2].into(), [2, 3].into()], members).unwrap()
    }

    #[test]
    fn every_kind_of_entry_comes_back_from_the_chronicle() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(RecordBytes(Bytes::from_static(b"a record"))),
            EntryPayload::Membership(joint()),
            EntryPayload::Membership(Membership::default()),
        ];
        for payload in payloads {
            let entry = RaftEntry { log_id: to_raft_id(LogId { term: 3, index: 7 }), payload };
            assert_eq!(from_stored(to_stored(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn the_bytes_of_a_membership_are_those_of_the_first_release() {
        let digest = blake3::hash(&encode_membership(&joint())).to_hex();
        assert_eq!(&digest[..16], "86cbfac83a66bdd8");
    }

    #[test]
    fn an_unknown_kind_and_a_voter_without_description_are_refused() {
        let id = LogId { term: 1, index: 2 };
        let unknown = Entry { id, kind: 9, payload: Bytes::new() };
        assert!(matches!(from_stored(unknown), Err(EntryError::UnknownKind { kind: 9, .. })));
        let stored = record::Membership { configs: vec![record::VoterSet { node_ids: vec![4] }], members: vec![] };
        assert!(matches!(
            decode_membership(id, &stored.encode_to_vec()),
            Err(EntryError::VoterMissing { voter: 4, .. })
        ));
    }
}
