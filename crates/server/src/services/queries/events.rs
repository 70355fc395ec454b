//! The chronicle as readers see it: history and tail, one retry key, digests.

use futures::StreamExt as _;
use sillok_wire::{
    errors::Problem,
    v1::{self, Reason},
};
use tonic::Status;

use super::{Queries, ask};
use crate::grpc::outbox::{Outbox, Outgoing, outbox};

/// Responses between the task and the connection.
const PLACES: usize = 4;

impl Queries {
    pub(super) async fn read_events(
        &self,
        request: v1::ReadEventsRequest,
    ) -> Result<Outgoing<v1::ReadEventsResponse>, Status> {
        ask::options(request.options.as_ref())?;
        let (outbox, outgoing) = outbox("ReadEvents", PLACES, self.patience);
        tokio::spawn(pump(self.clone(), request, outbox));
        Ok(outgoing)
    }

    pub(super) async fn find_by_retry_key(
        &self,
        request: v1::FindByRetryKeyRequest,
    ) -> Result<v1::FindByRetryKeyResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        ask::retry_key(&request.retry_key)?;
        ask::options(request.options.as_ref())?;
        self.node.find_by_retry_key(request).await
    }

    pub(super) async fn get_digests(&self, request: v1::GetDigestsRequest) -> Result<v1::GetDigestsResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, digests) = self.channel(info, &request.channel_id, |table| {
            let applied = super::channels::revision(table);
            let revision = if request.revision == 0 { applied } else { request.revision };
            table.digests(revision).ok_or_else(|| not_answerable(revision, applied))
        })?;
        let digests = v1::Digests {
            revision: digests.revision,
            friend_count: digests.friend_count,
            friend_list_digest: digests.friend_list.to_vec().into(),
            content_digest: digests.content.to_vec().into(),
            history_digest: digests.history.to_vec().into(),
        };
        Ok(v1::GetDigestsResponse { info: Some(info), digests: Some(digests) })
    }
}

fn not_answerable(revision: u64, applied: u64) -> Problem {
    let oldest = applied.saturating_sub(sillok_views::DIGEST_REVISIONS).max(1);
    let message = format!("digests at revision {revision} cannot be given; ask for one of {oldest} to {applied}");
    ask::failed(Reason::RevisionNotAnswerable, message)
        .with("oldest_revision", oldest)
        .with("applied_revision", applied)
}

async fn pump(queries: Queries, request: v1::ReadEventsRequest, outbox: Outbox<v1::ReadEventsResponse>) {
    let mut events = std::pin::pin!(queries.node.read_events(request));
    loop {
        tokio::select! {
            biased;
            () = queries.stopping.cancelled() => {
                let message = "the node stops; go on after the last cursor, at another node";
                return outbox.end(Problem::new(Reason::ShuttingDown, message).outcome(None).into());
            }
            () = outbox.gone() => return,
            next = events.next() => match next {
                Some(Ok(response)) => if let Err(stuck) = outbox.put(response).await {
                    return outbox.end_stuck(stuck, "nothing is lost: go on after the last cursor");
                },
                Some(Err(status)) => return outbox.end(status),
                None => return,
            },
        }
    }
}
