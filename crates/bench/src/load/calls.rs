//! A call for each command.

use std::sync::Arc;

use sillok_client::Client;

use super::Shared;
use crate::work::Lane;

/// One after the other, until the end.
pub(super) async fn run(client: Client, mut lane: Lane, shard: usize, shared: Arc<Shared>) {
    while let Some(begun) = shared.turn().await {
        match client.execute(lane.next()).await {
            Ok(_) => shared.recorder.answered(shard, begun),
            Err(error) => return shared.unwritten(error),
        }
    }
}
