//! Answering a peer that repairs its chronicle.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use sillok_wire::peer;
use tonic::Status;

use crate::{
    chain::ChainError,
    core::Core,
    log_store::{chain_failure, read_failure},
    network::NodeIdentity,
};

/// One message, in bytes of payload; a larger entry has one to itself.
const MESSAGE_BYTES: usize = 1 << 20;

/// The frames that a peer asks for, read from the disk as it takes them.
pub(crate) async fn frames_here(
    core: &Arc<Core>,
    caller: NodeIdentity,
    request: peer::ReadFramesRequest,
) -> Result<impl Stream<Item = Result<peer::ReadFramesResponse, Status>> + use<>, Status> {
    let peer::ReadFramesRequest { from_index: from, to_index: to, head_at_index } = request;
    if from > to || head_at_index < from || head_at_index > to {
        return Err(Status::invalid_argument("the entries asked for are in no order"));
    }
    let flushed = core.chronicle.flushed().map(|id| id.index);
    if flushed.is_none_or(|flushed| flushed < to) {
        let end = flushed.map_or_else(|| "is empty".to_owned(), |index| format!("ends with entry {index}"));
        return Err(Status::out_of_range(format!(
            "the chronicle of node {} {end}, and entry {to} was asked for",
            core.id
        )));
    }
    tracing::info!(peer = %caller, from, to, "a peer repairs its chronicle with entries from here");
    let chain = core.chain.clone();
    let execution = &core.options.execution;
    let state = execution.blocking(move || chain.state_at(Some(head_at_index))).await;
    let state = state.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| match error {
        ChainError::Absent(_) => removed(),
        error => {
            core.failures.report(chain_failure(&error));
            Status::data_loss(error.to_string())
        }
    })?;
    let first = peer::ReadFramesResponse { frames: Bytes::new(), chain_head: Bytes::copy_from_slice(&state.head) };
    let core = core.clone();
    let rest = stream::try_unfold(from, move |at| {
        let core = core.clone();
        async move {
            if at > to {
                return Ok(None);
            }
            let chronicle = core.chronicle.clone();
            let execution = &core.options.execution;
            let read = execution.blocking(move || chronicle.read_frames(at, to + 1, MESSAGE_BYTES)).await;
            let read = read.map_err(|error| Status::internal(error.to_string()))?;
            let (frames, next) = read.map_err(|error| {
                core.failures.report(read_failure(&error));
                Status::data_loss(error.to_string())
            })?;
            if next == at {
                return Err(removed());
            }
            Ok(Some((peer::ReadFramesResponse { frames, chain_head: Bytes::new() }, next)))
        }
    });
    Ok(stream::once(async { Ok(first) }).chain(rest))
}

/// A new leader has others for them: worth asking again.
fn removed() -> Status {
    Status::aborted("the entries were removed from the tail meanwhile")
}
