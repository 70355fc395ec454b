//! What a channel holds at the end, for accounting.

use anyhow::{Context, Result, ensure};
use sillok_wire::v1;

use crate::Site;

/// Every event of a channel, in order, as one node reads it. Fails where a revision is missing or comes twice.
///
/// # Errors
/// The node does not answer, or the revisions are not 1, 2, 3 ….
pub async fn events(site: &Site, channel_id: &str) -> Result<Vec<v1::Event>> {
    let request = v1::ReadEventsRequest {
        channel_ids: vec![channel_id.to_owned()],
        start: Some(v1::read_events_request::Start::FromRevision(1)),
        ..Default::default()
    };
    let mut stream = site.queries().await?.read_events(request).await?.into_inner();
    let mut events: Vec<v1::Event> = Vec::new();
    while let Some(answer) = stream.message().await? {
        for item in answer.items {
            if let Some(v1::read_item::Item::Event(event)) = item.item {
                let expected = events.len() as u64 + 1;
                ensure!(
                    event.revision == expected,
                    "revision {} of {channel_id} where {expected} is due",
                    event.revision
                );
                events.push(event);
            }
        }
    }
    Ok(events)
}

/// The digests of a channel at its applied revision, as one node has them (stale).
///
/// # Errors
/// The node does not answer.
pub async fn digests(site: &Site, channel_id: &str) -> Result<v1::Digests> {
    let request = v1::GetDigestsRequest { options: stale(), channel_id: channel_id.to_owned(), revision: 0 };
    let answer = site.queries().await?.get_digests(request).await?.into_inner();
    answer.digests.context("digests are in every answer")
}

/// Read options for what the asked node knows.
pub fn stale() -> Option<v1::ReadOptions> {
    Some(v1::ReadOptions { consistency: v1::ReadConsistency::Stale as i32, at_least: None })
}
