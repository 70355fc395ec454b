//! Compares this node's sealed segments and channels with those of every member that answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sillok_chronicle::SegmentInfo;
use sillok_wire::peer;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::findings::{Finding, Thing};
use crate::{chain::ChainFold, core::Core, network::PeerClient, roster::RosterView, types::LogId};

/// Segments and channels of one call.
const SEGMENTS: usize = 1_024;
const CHANNELS: usize = 64;
/// Differences from one node that are kept and told; the rest is counted.
const KEPT: usize = 8;
/// Between two calls: a cluster of a hundred thousand channels must not feel it.
const PAUSE: Duration = Duration::from_millis(20);
/// A peer that does not answer within this is compared with next time.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Compares with every member, one after the other.
pub(super) async fn compare(core: &Arc<Core>) {
    let roster = core.roster.view();
    for &other in roster.members.keys().filter(|id| **id != core.id) {
        match compare_with(core, other, &roster).await {
            Ok(Compared { differences, segments, channels }) => {
                tracing::debug!(other, segments, channels, differences = differences.len(), "compared copies");
                for finding in differences.iter().take(KEPT) {
                    tracing::error!(other, "two nodes differ: {}", finding.summary());
                }
                if differences.len() > KEPT {
                    tracing::error!(other, "and {} more differences from the same node", differences.len() - KEPT);
                }
                core.scrub.found(other, differences.into_iter().take(KEPT).collect());
            }
            Err(Unanswered(why)) => tracing::debug!(other, "a copy was not compared: {why}"),
        }
    }
}

struct Compared {
    differences: Vec<Finding>,
    segments: usize,
    channels: usize,
}

/// What was found before still stands.
struct Unanswered(String);

async fn compare_with(core: &Arc<Core>, other: u64, roster: &RosterView) -> Result<Compared, Unanswered> {
    let client = core.peers.quick_client(other, roster, ASK_WITHIN);
    let mut client = client.map_err(|error| Unanswered(error.to_string()))?;
    let mut all = Compared { differences: Vec::new(), segments: 0, channels: 0 };
    let own = core.chronicle.sealed();
    for page in own.chunks(SEGMENTS) {
        let from_ordinal = page.first().map_or(0, |info| info.ordinal);
        let segments = page.len() as u32;
        let request = peer::DigestsRequest { from_ordinal, segments, channels: Vec::new() };
        let theirs = ask(&mut client, request).await?.segments;
        for (ours, theirs) in page.iter().map(|info| (info, segment_digest(info))).zip(&theirs) {
            let (info, ours) = ours;
            if ours != *theirs {
                all.differences.push(Finding {
                    nodes: (core.id, other),
                    what: Thing::Segment { ordinal: info.ordinal, last: info.last.index },
                    here: in_words(&ours),
                    there: in_words(theirs),
                });
            }
            all.segments += 1;
        }
        if theirs.len() < page.len() {
            break;
        }
        sleep(PAUSE).await;
    }
    let mut after = None;
    loop {
        let page = channels_here(core, after.as_deref());
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = Some(last.channel_id.clone());
        let channels = page.iter().map(|(at, _)| at.clone()).collect();
        let request = peer::DigestsRequest { from_ordinal: 0, segments: 0, channels };
        let theirs = ask(&mut client, request).await?.channels;
        for ((at, ours), theirs) in page.iter().zip(&theirs) {
            // The other one is not there yet, or far beyond: another time.
            if theirs.history.is_empty() {
                continue;
            }
            if ours != theirs {
                all.differences.push(Finding {
                    nodes: (core.id, other),
                    what: Thing::Channel { channel_id: at.channel_id.clone(), revision: at.revision },
                    here: channel_in_words(ours),
                    there: channel_in_words(theirs),
                });
            }
            all.channels += 1;
        }
        sleep(PAUSE).await;
    }
}

async fn ask(client: &mut PeerClient, request: peer::DigestsRequest) -> Result<peer::DigestsResponse, Unanswered> {
    match timeout(ASK_WITHIN, client.digests(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            Err(Unanswered("it is of an older version".to_owned()))
        }
        Ok(Err(status)) => Err(Unanswered(status.message().to_owned())),
        Err(_) => Err(Unanswered(format!("no answer within {ASK_WITHIN:?}"))),
    }
}

/// For a peer that compares.
pub(crate) fn digests_here(core: &Core, request: peer::DigestsRequest) -> Result<peer::DigestsResponse, Status> {
    let peer::DigestsRequest { from_ordinal, segments, channels } = request;
    if channels.len() > CHANNELS {
        return Err(Status::invalid_argument(format!("at most {CHANNELS} channels are answered at once")));
    }
    let from = usize::try_from(from_ordinal).unwrap_or(usize::MAX);
    let segments = (segments as usize).min(SEGMENTS);
    let segments = match segments {
        0 => Vec::new(),
        _ => core.chronicle.sealed().iter().skip(from).take(segments).map(segment_digest).collect(),
    };
    let channels = channels.iter().map(|at| channel_digest(core, at)).collect();
    Ok(peer::DigestsResponse { segments, channels })
}

/// The next channels, each at its newest revision.
fn channels_here(core: &Core, after: Option<&str>) -> Vec<(peer::ChannelAt, peer::ChannelDigest)> {
    let ids = core.views.channel_ids_after(after, CHANNELS).into_iter();
    let newest = ids.map(|channel_id| {
        let revision = core.views.with_channel(&channel_id, |table| table.map_or(0, |table| table.revision()));
        let at = peer::ChannelAt { channel_id, revision };
        let digest = channel_digest(core, &at);
        (at, digest)
    });
    newest.collect()
}

fn channel_digest(core: &Core, at: &peer::ChannelAt) -> peer::ChannelDigest {
    let digests = core.views.with_channel(&at.channel_id, |table| table?.digests(at.revision));
    digests.map_or_else(peer::ChannelDigest::default, |digests| peer::ChannelDigest {
        friend_list: Bytes::copy_from_slice(&digests.friend_list),
        history: Bytes::copy_from_slice(&digests.history),
    })
}

fn segment_digest(info: &SegmentInfo) -> peer::SegmentDigest {
    let id = |id: LogId| peer::LogId { term: id.term, index: id.index };
    peer::SegmentDigest {
        first: Some(id(info.first)),
        last: Some(id(info.last)),
        digest: Bytes::copy_from_slice(&info.digest),
        chain_head: ChainFold::head_in(&info.state).map(|head| Bytes::copy_from_slice(&head)).unwrap_or_default(),
    }
}

fn in_words(segment: &peer::SegmentDigest) -> String {
    let id = |id: &Option<peer::LogId>| id.as_ref().map_or(0, |id| id.index);
    let (first, last) = (id(&segment.first), id(&segment.last));
    format!("entries {first} to {last}, {}, chain {}", hex(&segment.digest), hex(&segment.chain_head))
}

fn channel_in_words(channel: &peer::ChannelDigest) -> String {
    format!("friend list {}, history {}", hex(&channel.friend_list), hex(&channel.history))
}

/// The first eight bytes: enough to tell two apart, and to be read aloud.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
