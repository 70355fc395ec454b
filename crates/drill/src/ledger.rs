//! Everything a node has recorded, read back through the public API after the drill.

use std::collections::HashMap;

use prost::Message as _;
use sillok_wire::v1::{self, Reason, payload::Event, read_item::Item};

use crate::{
    DrillError,
    cluster::Node,
    history::{Action, Serial},
    workload::{Channels, serial_of},
};

/// One recorded decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the chronicle.
    pub sequence: u64,
    /// What it is stamped with, in nanoseconds since 1970 UTC.
    pub accepted_at: i64,
    /// Which channel, from 0.
    pub channel: u32,
    /// Of the intent that asked for it; `None` where the drill did not.
    pub serial: Option<Serial>,
    /// What was decided.
    pub decision: Decision,
    /// Of every byte that a reader gets.
    pub fingerprint: u64,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// An event, at this revision of its channel, of this kind (field number in `Payload`).
    Event {
        /// Of the channel.
        revision: u64,
        /// Which kind.
        kind: Kind,
    },
    /// The domain said no.
    Refusal(Reason),
}

/// What kind of event, as far as the drill tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the events")]
pub(crate) enum Kind {
    Added,
    Blocked,
    Unblocked,
    Removed,
    Attributes,
    Push,
    Narrowcast,
    Broadcast,
    Issued,
    Redeemed,
    Reversed,
    Other,
}

impl Kind {
    fn of(event: Option<&Event>) -> Kind {
        match event {
            Some(Event::FriendAdded(_)) => Kind::Added,
            Some(Event::FriendBlocked(_)) => Kind::Blocked,
            Some(Event::FriendUnblocked(_)) => Kind::Unblocked,
            Some(Event::FriendRemoved(_)) => Kind::Removed,
            Some(Event::AttributesSet(_)) => Kind::Attributes,
            Some(Event::PushAccepted(_)) => Kind::Push,
            Some(Event::NarrowcastAccepted(_)) => Kind::Narrowcast,
            Some(Event::BroadcastAccepted(_)) => Kind::Broadcast,
            Some(Event::TicketIssued(_)) => Kind::Issued,
            Some(Event::TicketRedeemed(_)) => Kind::Redeemed,
            Some(Event::RedemptionReversed(_)) => Kind::Reversed,
            _ => Kind::Other,
        }
    }

    /// What an action makes where it is accepted; `None` for preparations, which make several.
    pub(crate) fn made_by(action: Action) -> Option<Kind> {
        Some(match action {
            Action::Add(_) => Kind::Added,
            Action::Block(_) => Kind::Blocked,
            Action::Unblock(_) => Kind::Unblocked,
            Action::Remove(_) => Kind::Removed,
            Action::Attribute(_) => Kind::Attributes,
            Action::Push(_) => Kind::Push,
            Action::Narrowcast => Kind::Narrowcast,
            Action::Broadcast => Kind::Broadcast,
            Action::Issue(_) => Kind::Issued,
            Action::Redeem(_) => Kind::Redeemed,
            Action::Reverse(_) => Kind::Reversed,
            Action::Prepare => return None,
        })
    }
}

/// Everything one node has recorded in the drill's channels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    /// Who was asked.
    pub site: String,
    /// In the order of the chronicle.
    pub entries: Vec<Entry>,
    /// Of each channel, at the end.
    pub digests: Vec<v1::Digests>,
}

/// Reads everything back from one node, stale: what it knows itself.
///
/// # Errors
/// The node does not answer.
pub(crate) async fn read_back(node: &Node, channels: &Channels) -> Result<Ledger, DrillError> {
    let failed = |status| DrillError::call(format!("reading everything back from node {}", node.id), status);
    let options = Some(v1::ReadOptions { consistency: v1::ReadConsistency::Stale as i32, at_least: None });
    let numbers: HashMap<String, u32> = (0..channels.count).map(|channel| (channels.id(channel), channel)).collect();
    let mut queries = node.queries();
    let channel_ids = numbers.keys().cloned().collect();
    let request = v1::ReadEventsRequest { options, channel_ids, include_refusals: true, ..Default::default() };
    let mut stream = queries.read_events(request).await.map_err(failed)?.into_inner();
    let mut ledger = Ledger { site: format!("{} (node {})", node.site, node.id), ..Default::default() };
    while let Some(answer) = stream.message().await.map_err(failed)? {
        let items = answer.items.into_iter().filter_map(|item| item.item);
        ledger.entries.extend(items.filter_map(|item| entry(&numbers, item)));
    }
    for channel in 0..channels.count {
        let request = v1::GetDigestsRequest { options, channel_id: channels.id(channel), revision: 0 };
        let digests = queries.get_digests(request).await.map_err(failed)?.into_inner().digests;
        ledger.digests.extend(digests);
    }
    Ok(ledger)
}

fn entry(numbers: &HashMap<String, u32>, item: Item) -> Option<Entry> {
    let (channel_id, position, accepted_at, retry_key, decision, bytes) = match &item {
        Item::Event(event) => {
            let kind = Kind::of(event.payload.as_ref().and_then(|payload| payload.event.as_ref()));
            let decision = Decision::Event { revision: event.revision, kind };
            (&event.channel_id, &event.position, event.accepted_at, &event.retry_key, decision, event.encode_to_vec())
        }
        Item::Refusal(refusal) => {
            let decision = Decision::Refusal(refusal.reason());
            (
                &refusal.channel_id,
                &refusal.position,
                refusal.accepted_at,
                &refusal.retry_key,
                decision,
                refusal.encode_to_vec(),
            )
        }
        // Not asked for.
        Item::Recovery(_) => return None,
    };
    let hash = blake3::hash(&bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    Some(Entry {
        sequence: position.as_ref().map_or(0, |position| position.sequence),
        accepted_at: accepted_at.map_or(0, |at| at.seconds * 1_000_000_000 + i64::from(at.nanos)),
        channel: *numbers.get(channel_id)?,
        serial: serial_of(retry_key),
        decision,
        fingerprint: u64::from_le_bytes(first),
    })
}
