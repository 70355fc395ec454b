//! What readers see: an event or a refusal with everything around it.

use prost::Message as _;

use crate::{
    LOG,
    payload::PayloadError,
    record,
    records::{DecisionView, RecordHeader},
    time::timestamp,
    v1,
};

/// The n-th event of a decision (from 0) as readers see it; `None` where it has fewer. `term` is that of the entry.
///
/// # Errors
/// Where the stored bytes are no payload, or of a kind this version does not know.
pub fn event_to_proto(
    term: u64,
    record: &RecordHeader,
    decision: &DecisionView<'_>,
    event: usize,
) -> Result<Option<v1::Event>, PayloadError> {
    let Some(bytes) = decision.events.get(event) else { return Ok(None) };
    let payload = v1::Payload::decode(*bytes)?;
    if payload.event.is_none() {
        return Err(PayloadError::UnknownKind);
    }
    let (occurred_at, backfill) = decision.times(event);
    let original_accepted_at = decision.original_accepted_at(event).map(timestamp);
    let event = event as u64;
    Ok(Some(v1::Event {
        channel_id: decision.channel_id.to_owned(),
        revision: decision.first_revision + event,
        position: Some(v1::Position { log: LOG, sequence: record.first_sequence + decision.offset + event, term }),
        accepted_at: Some(timestamp(record.accepted_at)),
        occurred_at: occurred_at.map(timestamp),
        actor: decision.actor.to_owned(),
        retry_key: decision.retry_key.to_owned(),
        backfill,
        payload: Some(payload),
        schema_version: record.feature_level,
        imported: decision.is_import(),
        original_accepted_at,
    }))
}

/// The refusal of a decision as readers see it; `None` where it holds events.
pub fn refusal_to_proto(term: u64, record: &RecordHeader, decision: &DecisionView<'_>) -> Option<v1::Refusal> {
    let refused = decision.refused.as_ref()?;
    Some(v1::Refusal {
        channel_id: decision.channel_id.to_owned(),
        position: Some(v1::Position { log: LOG, sequence: record.first_sequence + decision.offset, term }),
        accepted_at: Some(timestamp(record.accepted_at)),
        occurred_at: decision.occurred_at.map(timestamp),
        actor: decision.actor.to_owned(),
        retry_key: decision.retry_key.to_owned(),
        command_kind: decision.command_kind,
        reason: refused.reason,
        message: refused.message.clone(),
        metadata: refused.metadata.iter().map(|fact| (fact.key.clone(), fact.value.clone())).collect(),
        backfill: decision.backfill,
        schema_version: record.feature_level,
    })
}

/// A recovery as readers see it.
pub fn recovery_to_proto(recovery: &record::Recovery) -> v1::Recovery {
    v1::Recovery {
        epoch: recovery.epoch,
        actor: recovery.actor.clone(),
        reason: recovery.reason.clone(),
        recovered_at: Some(timestamp(recovery.recovered_at_unix_nanos)),
        node_id: recovery.node_id,
        site: recovery.site.clone(),
        kept: Some(v1::Position { log: LOG, sequence: recovery.kept_sequence, term: recovery.kept_sequence_term }),
        certain_sequence: recovery.certain_sequence,
        lost_node_ids: recovery.lost_node_ids.clone(),
        allowed_single_site_quorum: recovery.allowed_single_site_quorum,
    }
}
