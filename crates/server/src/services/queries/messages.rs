//! What a channel sent, to whom, and what one friend got. The index is in the views, the text in the chronicle.

use std::sync::Arc;

use prost::Message as _;
use roaring::RoaringBitmap;
use sillok_views::{ChannelTable, Locator, SendKind, SendRow};
use sillok_wire::{
    errors::Problem,
    v1::{self, Reason, payload::Event as Kind, personal::Form},
};
use tonic::Status;

use super::{Queries, ask, friends, reading};
use crate::grpc::{
    outbox::{Outbox, Outgoing, outbox},
    page::{self, Scope},
};

/// A page of messages ends early here, so that clients with the usual limit of 4 MiB can take it.
const PAGE_BYTES: usize = 2 << 20;
/// Recipients in one chunk of a stream: about 100 KiB.
const CHUNK: usize = 4_096;
/// Chunks between the task and the connection.
const PLACES: usize = 2;

impl Queries {
    pub(super) async fn get_message(&self, request: v1::GetMessageRequest) -> Result<v1::GetMessageResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, (row, locator)) = self.channel(info, &request.channel_id, |table| {
            let row = table.send(request.message_id).ok_or_else(|| not_found(request.message_id))?;
            Ok((row, locate(table, &row)?))
        })?;
        let message = self.message(row, locator).await?;
        Ok(v1::GetMessageResponse { info: Some(info), message: Some(message) })
    }

    pub(super) async fn list_messages(
        &self,
        request: v1::ListMessagesRequest,
    ) -> Result<v1::ListMessagesResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let of_friend = (!request.user_key.is_empty()).then_some(request.user_key.as_str());
        of_friend.map_or(Ok(()), ask::user_key)?;
        let size = page::size(request.page_size)?;
        let scope = Scope::of("ListMessages").and(request.channel_id.as_bytes()).and(request.user_key.as_bytes());
        let before = scope.last_number(&request.page_token)?.unwrap_or(u64::MAX);

        let info = self.ready(request.options.as_ref()).await?;
        let (info, mut rows) = self.channel(info, &request.channel_id, |table| {
            let friend = of_friend.map(|key| friends::number(table, key)).transpose()?;
            let rows = table.sends(before, size + 1, friend);
            rows.into_iter().map(|row| Ok((row, locate(table, &row)?))).collect::<Result<Vec<_>, Problem>>()
        })?;
        let mut more = rows.len() > size;
        rows.truncate(size);

        let mut messages: Vec<v1::Message> = Vec::with_capacity(rows.len());
        let mut bytes = 0;
        for (row, locator) in rows {
            if bytes > PAGE_BYTES {
                more = true;
                break;
            }
            let message = self.message(row, locator).await?;
            bytes += message.encoded_len();
            messages.push(message);
        }
        let next = messages.last().filter(|_| more).map(|last| scope.token_after_number(last.message_id));
        Ok(v1::ListMessagesResponse { info: Some(info), messages, next_page_token: next.unwrap_or_default() })
    }

    pub(super) async fn stream_recipients(
        &self,
        request: v1::StreamRecipientsRequest,
    ) -> Result<Outgoing<v1::StreamRecipientsResponse>, Status> {
        ask::channel_id(&request.channel_id)?;
        let info = self.ready(request.options.as_ref()).await?;
        // The audience is frozen: it is the same at every later position.
        let (info, audience) = self.channel(info, &request.channel_id, |table| {
            table.audience(request.message_id).ok_or_else(|| not_found(request.message_id))
        })?;
        let (outbox, outgoing) = outbox("StreamRecipients", PLACES, self.patience);
        let queries = self.clone();
        tokio::spawn(async move {
            let chunks = Recipients { queries, info, channel_id: request.channel_id, audience };
            chunks.send(outbox).await;
        });
        Ok(outgoing)
    }

    async fn message(&self, row: SendRow, locator: Locator) -> Result<v1::Message, Status> {
        Ok(message(&row, self.node.event_at(locator).await?))
    }
}

fn not_found(message_id: u64) -> Problem {
    ask::failed(Reason::MessageNotFound, format!("revision {message_id} is no message of this channel"))
}

fn locate(table: &ChannelTable, row: &SendRow) -> Result<Locator, Problem> {
    // Every folded revision has its locator; without one the tables contradict themselves.
    let missing = || ask::failed(Reason::ViewsStopped, format!("revision {} has no locator", row.revision));
    table.locate(row.revision).ok_or_else(missing)
}

/// The index row and the event make one message.
fn message(row: &SendRow, event: v1::Event) -> v1::Message {
    let mut message = v1::Message {
        message_id: row.revision,
        kind: match row.kind {
            SendKind::Push => v1::MessageKind::Push,
            SendKind::Narrowcast => v1::MessageKind::Narrowcast,
            SendKind::Broadcast => v1::MessageKind::Broadcast,
        }
        .into(),
        position: event.position,
        accepted_at: event.accepted_at,
        occurred_at: event.occurred_at,
        unit_price_won: row.unit_price_won,
        audience_count: row.audience_count,
        cost_won: row.cost_won,
        excluded_without_consent: row.excluded_without_consent,
        excluded_blocked: row.excluded_blocked,
        friend_number: row.friend_number.unwrap_or_default(),
        ..v1::Message::default()
    };
    let (personal, audience) = match event.payload.and_then(|payload| payload.event) {
        Some(Kind::PushAccepted(push)) => {
            message.is_ad = push.is_ad;
            (push.personal, None)
        }
        Some(Kind::NarrowcastAccepted(cast)) => {
            message.is_ad = cast.is_ad;
            message.rule = cast.rule;
            (cast.personal, cast.audience)
        }
        Some(Kind::BroadcastAccepted(cast)) => {
            message.is_ad = cast.is_ad;
            (cast.personal, cast.audience)
        }
        _ => (None, None),
    };
    if let Some(Form::Plain(plain)) = personal.and_then(|personal| personal.form) {
        message.text = plain.text;
    }
    if let Some(audience) = audience {
        message.audience_digest = audience.digest;
    }
    message
}

/// The recipients of one send, chunk by chunk.
struct Recipients {
    queries: Queries,
    info: v1::ReadInfo,
    channel_id: String,
    audience: Arc<RoaringBitmap>,
}

impl Recipients {
    async fn send(self, outbox: Outbox<v1::StreamRecipientsResponse>) {
        let mut from = 0;
        loop {
            let numbers: Vec<u32> = self.audience.range(from..).take(CHUNK).collect();
            let last = numbers.last().copied();
            // An audience is never empty, so the first chunk tells the position in any case.
            let response = match self.chunk(numbers) {
                Ok(response) => response,
                Err(status) => return outbox.end(status),
            };
            if let Err(stuck) = outbox.put(response).await {
                return outbox.end_stuck(stuck, "ask again");
            }
            if self.queries.stopping.is_cancelled() {
                return outbox.end(reading::shutting_down());
            }
            match last.and_then(|last| last.checked_add(1)).filter(|from| self.audience.range(*from..).next().is_some())
            {
                Some(next) => from = next,
                None => return,
            }
        }
    }

    fn chunk(&self, numbers: Vec<u32>) -> Result<v1::StreamRecipientsResponse, Status> {
        let (info, recipients) = self.queries.channel(self.info.clone(), &self.channel_id, |table| {
            let recipient = |friend_number| v1::Recipient {
                friend_number,
                user_key: friends::user_key(table, friend_number).unwrap_or_default(),
            };
            Ok(numbers.into_iter().map(recipient).collect())
        })?;
        Ok(v1::StreamRecipientsResponse { info: Some(info), recipients })
    }
}
