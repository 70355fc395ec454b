//! The read index, from whoever leads.

use std::time::Duration;

use sillok_wire::peer;

use crate::{
    core::{Core, ReadIndexError},
    types::LogId,
};

/// Asked of the leader, here or there.
pub(crate) async fn read_index(core: &Core, at_most: Duration) -> Result<LogId, ReadIndexError> {
    let Some((leader, _)) = core.leader() else { return Err(ReadIndexError::NoLeader) };
    if leader == core.id {
        return tokio::time::timeout(at_most, core.local_read_index())
            .await
            .unwrap_or_else(|_| Err(ReadIndexError::NotConfirmed(format!("no quorum answered within {at_most:?}"))));
    }
    let unreachable = |reason: String| ReadIndexError::Unreachable { leader, reason };
    let mut client = core
        .peers
        .quick_client(leader, &core.roster.view(), at_most)
        .map_err(|error| unreachable(error.to_string()))?;
    let answer = client
        .read_index(peer::ReadIndexRequest {})
        .await
        .map_err(|status| unreachable(status.message().to_owned()))?
        .into_inner();
    let id = answer.read_log_id.ok_or_else(|| unreachable("it named no index".to_owned()))?;
    Ok(LogId { term: id.term, index: id.index })
}
