//! An export, into a channel of any name: facts in order, no rule evaluated again, the content digest compared at the end.

use std::io::{BufRead as _, BufReader, Read};

use prost::Message as _;
use serde::{Deserialize, Serialize};
use sillok_client::WriteError;
use sillok_wire::{json, v1};
use tokio::sync::mpsc;

use super::{
    engine::Tally,
    keys::{self, Keys},
};
use crate::{
    commands::{Session, ask, missing},
    failure::Failure,
    format::thousands,
    progress,
};

/// The contract's limit.
const BATCH_EVENTS: usize = 1000;
/// Well below what a node takes in one message.
const BATCH_BYTES: usize = 1 << 20;

/// The first line of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    /// 1.
    pub(crate) sillok_export: u32,
    pub(crate) channel_id: String,
    /// Canonical JSON of `sillok.v1.Digests`, at the last revision of the export.
    pub(crate) digests: serde_json::Value,
}

impl Header {
    pub(crate) fn digests(&self) -> Result<v1::Digests, Failure> {
        json::from_str("sillok.v1.Digests", &self.digests.to_string())
            .map_err(|error| Failure::usage(format!("the first line of the export is damaged: {error}")))
    }
}

/// The header, where this is the first line of an export.
pub(super) fn header(first_line: &str) -> Option<Header> {
    serde_json::from_str(first_line.trim_start_matches('\u{feff}')).ok()
}

/// One line after the header, and its revision.
fn parse_fact(line: &str) -> Result<(u64, v1::ImportedEvent), String> {
    let mut value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let revision = value.as_object_mut().and_then(|fields| fields.remove("revision"));
    let revision = match &revision {
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        _ => None,
    };
    let revision = revision.ok_or("the revision is missing")?;
    let event = json::from_str("sillok.v1.ImportedEvent", &value.to_string()).map_err(|error| error.to_string())?;
    Ok((revision, event))
}

/// One fact as its line.
pub(crate) fn fact_line(event: v1::Event) -> Result<String, Failure> {
    let imported = v1::ImportedEvent {
        payload: event.payload,
        occurred_at: event.occurred_at,
        backfill: event.backfill,
        // A channel that was itself imported passes on when its facts were first accepted.
        accepted_at: event.original_accepted_at.or(event.accepted_at),
    };
    let mut value = crate::output::to_json("ImportedEvent", &imported)?;
    value["revision"] = event.revision.to_string().into();
    Ok(value.to_string())
}

struct Batch {
    first_revision: u64,
    events: Vec<v1::ImportedEvent>,
    bytes: usize,
}

fn feed(text: impl Read, last: u64, batches: &mpsc::Sender<Batch>) -> Result<(), Failure> {
    let mut batch = Batch { first_revision: 1, events: Vec::new(), bytes: 0 };
    let mut next = 1;
    for (index, line) in BufReader::new(text).lines().enumerate().skip(1) {
        let line = line.map_err(|error| Failure::usage(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let at = |what: String| Failure::usage(format!("line {}: {what}", index + 1));
        let (revision, event) = parse_fact(&line).map_err(at)?;
        if revision != next {
            return Err(at(format!("revision {revision} stands where {next} belongs; the export is damaged")));
        }
        next += 1;
        let bytes = event.encoded_len();
        if batch.events.len() == BATCH_EVENTS || (!batch.events.is_empty() && batch.bytes + bytes > BATCH_BYTES) {
            let full = std::mem::replace(&mut batch, Batch { first_revision: revision, events: Vec::new(), bytes: 0 });
            if batches.blocking_send(full).is_err() {
                return Ok(());
            }
        }
        batch.bytes += bytes;
        batch.events.push(event);
    }
    if next <= last {
        let found = thousands(next - 1);
        return Err(Failure::usage(format!("the export ends at revision {found} and should at {}", thousands(last))));
    }
    if !batch.events.is_empty() {
        // The end of the import is told by the receiver itself.
        let _ = batches.blocking_send(batch);
    }
    Ok(())
}

/// What came of it, and whether the content digests agree (`None`: they can no longer be compared).
pub(super) struct Done {
    pub(super) tally: Tally,
    pub(super) agree: Option<bool>,
}

pub(super) async fn run(
    session: &Session,
    header: &Header,
    channel: &str,
    start: u64,
    text: impl Read + Send + 'static,
) -> Result<Done, Failure> {
    let digests = header.digests()?;
    let last = digests.revision;
    let bar = progress::rows("importing", last);
    let (sender, mut batches) = mpsc::channel(2);
    let feeder = tokio::task::spawn_blocking(move || feed(text, last, &sender));
    let mut tally = Tally::default();
    while let Some(batch) = batches.recv().await {
        let events = batch.events.len() as u64;
        let request = v1::ImportEventsRequest {
            context: None,
            channel_id: channel.to_owned(),
            first_revision: batch.first_revision,
            events: batch.events,
        };
        let receipt = send(session, request.into(), start).await.inspect_err(|_| bar.abandon())?;
        match receipt.position.is_some_and(|position| position.sequence > start) {
            true => tally.new += events,
            false => tally.already += events,
        }
        tally.revision = receipt.revision;
        bar.set_position(tally.new + tally.already);
    }
    bar.finish_and_clear();
    feeder.await.map_err(|error| Failure::no(format!("reading the export failed: {error}")))??;
    let agree = compare(session, channel, &digests).await?;
    Ok(Done { tally, agree })
}

/// One batch; where it was refused in an earlier import, under its next key.
async fn send(session: &Session, mut command: v1::Command, start: u64) -> Result<v1::Receipt, Failure> {
    Keys::default().complete(&mut command);
    loop {
        let error = match session.api.client().execute(command.clone()).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) => error,
        };
        let earlier = error.fact("sequence").and_then(|text| text.parse::<u64>().ok()).is_some_and(|at| at <= start);
        match &error {
            WriteError::Refused { .. } if earlier => keys::next_try(&mut command),
            WriteError::Refused { .. } => {
                return Err(session
                    .api
                    .write_failure(&error)
                    .advise("an export is imported into a channel that does not exist yet: --channel names another"));
            }
            WriteError::Unknown { status, .. } => {
                return Err(Failure::new(crate::failure::Exit::Unknown, format!("stopped: {}", status.message()))
                    .advise("this is safe to repeat, and goes on where it stopped:")
                    .advise(format!("  {}", crate::failure::typed())));
            }
            _ => return Err(session.api.write_failure(&error)),
        }
    }
}

async fn compare(session: &Session, channel: &str, exported: &v1::Digests) -> Result<Option<bool>, Failure> {
    let request = v1::GetDigestsRequest { options: None, channel_id: channel.to_owned(), revision: exported.revision };
    let answer = async { Ok::<_, Failure>(ask!(session, get_digests, request)) }.await;
    match answer {
        Ok(answer) => {
            let digests = answer.digests.ok_or_else(|| missing("the digests"))?;
            Ok(Some(digests.content_digest == exported.content_digest))
        }
        Err(failure) if failure.reason == Some(v1::Reason::RevisionNotAnswerable) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, name: &str) -> v1::Event {
        let opened = v1::ChannelOpened { name: name.to_owned() };
        v1::Event {
            revision,
            payload: Some(v1::Payload { event: Some(v1::payload::Event::ChannelOpened(opened)) }),
            occurred_at: Some(prost_types::Timestamp { seconds: 1_488_499_200, nanos: 0 }),
            backfill: true,
            ..Default::default()
        }
    }

    #[test]
    fn a_fact_comes_back_from_its_line() {
        let line = fact_line(event(7, "찻집")).unwrap();
        let (revision, imported) = parse_fact(&line).unwrap();
        assert_eq!(revision, 7);
        assert_eq!(imported.payload, event(7, "찻집").payload);
        assert!(imported.backfill && imported.occurred_at.is_some());
    }

    #[test]
    fn a_gap_or_an_early_end_is_noticed() {
        let lines = |revisions: &[u64]| {
            let facts = revisions.iter().map(|revision| fact_line(event(*revision, "x")).unwrap());
            std::iter::once("{}".to_owned()).chain(facts).collect::<Vec<_>>().join("\n")
        };
        let (sender, _keep) = mpsc::channel(4);
        assert!(feed(lines(&[1, 2]).as_bytes(), 2, &sender).is_ok());
        let gap = feed(lines(&[1, 3]).as_bytes(), 3, &sender).unwrap_err();
        assert!(gap.message.contains("line 3: revision 3 stands where 2 belongs"), "{}", gap.message);
        let short = feed(lines(&[1, 2]).as_bytes(), 3, &sender).unwrap_err();
        assert!(short.message.contains("ends at revision 2"), "{}", short.message);
    }

    #[test]
    fn only_an_export_has_the_header() {
        assert!(header(r#"{"sillokExport":1,"channelId":"shop","digests":{"revision":"3"}}"#).is_some());
        assert!(header(r#"{"addFriend":{"channelId":"shop"}}"#).is_none());
    }
}
