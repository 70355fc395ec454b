//! One client that reads what must be current.

use std::{sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sillok_client::Client;
use sillok_wire::v1::{self, FriendStatus, TicketStatus};
use tonic::{Code, Status};

use super::{Shared, mix};
use crate::history::{Read, Seen, Subject};

/// Between an answer and the next question.
const THINK: std::ops::Range<u64> = 4..16;

pub(super) async fn run(shared: Arc<Shared>, client: Client, number: usize) {
    let mut random = StdRng::seed_from_u64(shared.load.seed.wrapping_mul(31).wrapping_add(number as u64));
    let mut stop = shared.stop.subscribe();
    // Each reader stays with another node for as long as it answers.
    while !shared.is_stopping() {
        let (channel, subject) = shared.next_subject(&mut random);
        let started = shared.recorder.now();
        match ask(&client, shared.load.channels.id(channel), subject).await {
            Ok((info, seen)) => {
                let sequence = info.position.map_or(0, |position| position.sequence);
                let (ended, node) = (shared.recorder.now(), info.node_id);
                shared.recorder.read(Read { channel, subject, started, ended, sequence, node, seen });
            }
            Err(_) => shared.recorder.failed_read(shared.recorder.now()),
        }
        let think = Duration::from_millis(random.random_range(THINK));
        tokio::select! {
            () = tokio::time::sleep(think) => {}
            _ = stop.changed() => {}
        }
    }
}

/// One linearizable read. `NOT_FOUND` carries no position, so it stands for none and is checked by time alone.
async fn ask(client: &Client, channel_id: String, subject: Subject) -> Result<(v1::ReadInfo, Seen), Status> {
    let answer = match subject {
        Subject::Channel => {
            let request = v1::GetChannelRequest { options: None, channel_id };
            let ask = client.read(|mut node| {
                let request = request.clone();
                async move { node.get_channel(request).await }
            });
            ask.await.map(|answer| {
                let revision = answer.channel.map_or(0, |channel| channel.revision);
                (answer.info.unwrap_or_default(), Seen::Revision(revision))
            })
        }
        Subject::Friend(number) => {
            let who = Some(v1::get_friend_request::Who::UserKey(mix::friend(number)));
            let request = v1::GetFriendRequest { options: None, channel_id, who };
            let ask = client.read(|mut node| {
                let request = request.clone();
                async move { node.get_friend(request).await }
            });
            ask.await.map(|answer| {
                let seen = match answer.friend.unwrap_or_default().status() {
                    FriendStatus::Friend => Seen::Friend,
                    FriendStatus::Blocked => Seen::Blocked,
                    FriendStatus::Removed => Seen::Removed,
                    FriendStatus::Unspecified => Seen::Nothing,
                };
                (answer.info.unwrap_or_default(), seen)
            })
        }
        Subject::Ticket(number) => {
            let request = v1::GetTicketRequest { options: None, channel_id, ticket_id: mix::ticket(number) };
            let ask = client.read(|mut node| {
                let request = request.clone();
                async move { node.get_ticket(request).await }
            });
            ask.await.map(|answer| {
                let seen = match answer.ticket.unwrap_or_default().status() {
                    TicketStatus::Redeemed => Seen::Redeemed,
                    TicketStatus::Issued => Seen::Issued,
                    // The load makes no others.
                    TicketStatus::Unspecified | TicketStatus::Voided | TicketStatus::Expired => Seen::Nothing,
                };
                (answer.info.unwrap_or_default(), seen)
            })
        }
    };
    match answer {
        Err(status) if status.code() == Code::NotFound => Ok((v1::ReadInfo::default(), Seen::Nothing)),
        other => other,
    }
}
