//! Between openraft's messages and the contract between peers. Bytes of records are shared, never copied.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use sillok_domain::UnixNanos;
use sillok_wire::peer;
use tonic::Status;

use crate::{
    log_store::{vote_from_raft, vote_to_raft},
    types::{
        Entry, LogId, RaftEntry, RaftLogId, RaftVote, TypeConfig, from_raft_id, from_stored, to_raft_id, to_stored,
    },
};

/// A message that lacks what every such message has.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadMessage {
    #[error("the message carries no {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Entry(#[from] crate::types::EntryError),
    #[error("an entry has the unknown kind {0}")]
    Kind(u32),
}

impl From<BadMessage> for Status {
    fn from(bad: BadMessage) -> Status {
        Status::invalid_argument(bad.to_string())
    }
}

pub(crate) fn log_id_to(id: &RaftLogId) -> peer::LogId {
    let id = from_raft_id(id);
    peer::LogId { term: id.term, index: id.index }
}

pub(crate) fn log_id_from(id: &peer::LogId) -> RaftLogId {
    to_raft_id(LogId { term: id.term, index: id.index })
}

pub(crate) fn vote_to(vote: &RaftVote) -> peer::Vote {
    let vote = vote_from_raft(vote);
    peer::Vote { term: vote.term, node_id: vote.node_id, committed: vote.committed }
}

pub(crate) fn vote_from(vote: Option<peer::Vote>) -> Result<RaftVote, BadMessage> {
    let vote = vote.ok_or(BadMessage::Missing("vote"))?;
    Ok(vote_to_raft(sillok_chronicle::Vote { term: vote.term, node_id: vote.node_id, committed: vote.committed }))
}

/// `head`: of the chain at `prev_log_id`, where the sender knows it. `sent_at`: not later than the request was made.
pub(crate) fn append_to(
    request: &AppendEntriesRequest<TypeConfig>,
    head: Option<[u8; 32]>,
    sent_at: UnixNanos,
) -> peer::AppendRequest {
    let entries = request
        .entries
        .iter()
        .map(|entry| {
            let Entry { id, kind, payload } = to_stored(entry);
            peer::Entry { term: id.term, index: id.index, kind: kind.into(), payload }
        })
        .collect();
    peer::AppendRequest {
        vote: Some(vote_to(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_to),
        prev_chain_head: head.map(|head| bytes::Bytes::copy_from_slice(&head)).unwrap_or_default(),
        entries,
        leader_commit: request.leader_commit.as_ref().map(log_id_to),
        sent_at_unix_nanos: sent_at,
    }
}

pub(crate) fn append_from(request: peer::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, BadMessage> {
    let entries = request
        .entries
        .into_iter()
        .map(|entry| {
            let kind = u8::try_from(entry.kind).map_err(|_| BadMessage::Kind(entry.kind))?;
            let id = LogId { term: entry.term, index: entry.index };
            Ok(from_stored(Entry { id, kind, payload: entry.payload })?)
        })
        .collect::<Result<Vec<RaftEntry>, BadMessage>>()?;
    Ok(AppendEntriesRequest {
        vote: vote_from(request.vote)?,
        prev_log_id: request.prev_log_id.as_ref().map(log_id_from),
        entries,
        leader_commit: request.leader_commit.as_ref().map(log_id_from),
    })
}

pub(crate) fn appended_to(result: StreamAppendResult<TypeConfig>) -> peer::AppendResponse {
    use peer::append_response::Result as R;
    let result = match result {
        Ok(matched) => R::Matched(peer::Matched { log_id: matched.as_ref().map(log_id_to) }),
        Err(StreamAppendError::Conflict(at)) => R::Conflict(log_id_to(&at)),
        Err(StreamAppendError::HigherVote(vote)) => R::HigherVote(vote_to(&vote)),
    };
    peer::AppendResponse { result: Some(result) }
}

pub(crate) fn appended_from(response: peer::AppendResponse) -> Result<StreamAppendResult<TypeConfig>, BadMessage> {
    use peer::append_response::Result as R;
    match response.result.ok_or(BadMessage::Missing("result"))? {
        R::Matched(matched) => Ok(Ok(matched.log_id.as_ref().map(log_id_from))),
        R::Conflict(at) => Ok(Err(StreamAppendError::Conflict(log_id_from(&at)))),
        R::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote_from(Some(vote))?))),
    }
}

pub(crate) fn vote_request_to(request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote_to(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_to),
        leader_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from(request: peer::VoteRequest) -> Result<VoteRequest<TypeConfig>, BadMessage> {
    let last_log_id = request.last_log_id.as_ref().map(log_id_from);
    let mut vote = VoteRequest::new(vote_from(request.vote)?, last_log_id);
    vote.leadership_transfer = request.leader_transfer;
    Ok(vote)
}

pub(crate) fn vote_response_to(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote_to(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_to),
    }
}

pub(crate) fn vote_response_from(response: peer::VoteResponse) -> Result<VoteResponse<TypeConfig>, BadMessage> {
    let last_log_id = response.last_log_id.as_ref().map(log_id_from);
    Ok(VoteResponse::new(vote_from(response.vote)?, last_log_id, response.granted))
}

pub(crate) fn transfer_to(request: &TransferLeaderRequest<TypeConfig>) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        from_leader: Some(vote_to(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_to),
    }
}

pub(crate) fn transfer_from(
    request: peer::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, BadMessage> {
    let last_log_id = request.last_log_id.as_ref().map(log_id_from);
    Ok(TransferLeaderRequest::new(vote_from(request.from_leader)?, request.to_node_id, last_log_id))
}
