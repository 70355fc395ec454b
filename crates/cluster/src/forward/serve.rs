//! The other half, at the leader: frames of one follower into the sequencer, answers back as they come.

use std::sync::Arc;

use futures::{StreamExt as _, stream::FuturesUnordered};
use hashbrown::HashMap;
use sillok_wire::peer;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::PLACES;
use crate::{
    core::Core,
    execute::decide,
    sequencer::{Asked, Lane, Sequencer, refusing, unknown},
};

/// Frames of one follower in the leader's sequencer at once.
const FRAMES_AT_ONCE: usize = 4_096;

/// Commands that arrive where nobody leads any more are answered by the closed queue, never forwarded again.
pub(crate) fn serve(
    core: Arc<Core>,
    sequencer: Sequencer,
    requests: Streaming<peer::ExecuteRequest>,
) -> ReceiverStream<Result<peer::ExecuteResponse, Status>> {
    let (out, responses) = mpsc::channel(PLACES);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => {}
            () = serve_frames(&sequencer, requests, &out) => {}
        }
    });
    ReceiverStream::new(responses)
}

async fn serve_frames(
    sequencer: &Sequencer,
    mut requests: Streaming<peer::ExecuteRequest>,
    out: &mpsc::Sender<Result<peer::ExecuteResponse, Status>>,
) {
    let mut lanes: HashMap<u64, Arc<Lane>> = HashMap::new();
    let mut deciding = FuturesUnordered::new();
    let mut at_end = false;
    while !at_end || !deciding.is_empty() {
        tokio::select! {
            biased;
            Some((frame, count, answers)) = deciding.next() => {
                let answers = match answers {
                    Ok(answers) => answers,
                    Err(oneshot::error::RecvError { .. }) => vec![refusing(unknown("the leader is stopping")); count],
                };
                if out.send(Ok(peer::ExecuteResponse { answers, frame })).await.is_err() {
                    return;
                }
            }
            request = requests.message(), if !at_end && deciding.len() < FRAMES_AT_ONCE => match request {
                Ok(Some(request)) if request.lane_ended => {
                    lanes.remove(&request.lane);
                }
                Ok(Some(request)) => {
                    let (frame, count) = (request.frame, request.commands.len());
                    let lane = (request.lane != 0).then(|| lanes.entry(request.lane).or_default().clone());
                    let answers = decide(sequencer, Asked::Frame(request.commands), lane.as_ref());
                    deciding.push(async move { (frame, count, answers.await) });
                }
                // The follower is gone, or closed its half: what is being decided is still answered if it can be.
                Ok(None) | Err(_) => at_end = true,
            },
        }
    }
}
