//! Reads: how many are answered a second, by the leader and by followers, and how long each takes.

use std::{sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use sillok_client::{Client, Queries, v1, v1::read_events_request::Start};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    BenchError, Event, How, Run, Screen, Target, Work,
    load::{self, Shared, Via, feed::feed},
};

/// Answers larger than what HTTP/2 libraries take by default.
const LARGEST_ANSWER: usize = 64 << 20;
/// Events of one reading of history.
const HISTORY_EVENTS: u64 = 100;

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Read {
    /// Reads asked and not yet answered, over all nodes that are asked; at least 1.
    pub in_flight: usize,
    /// Load before anything is measured.
    pub warm_up: Duration,
    /// Of each kind of read.
    pub window: Duration,
    /// Of the one channel; at least 1.
    pub friends: usize,
    /// Messages of its history.
    pub messages: u64,
    /// Friends of a page, 1 to 1,000.
    pub page_size: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Friend,
    Page,
    History,
}

/// One row of the table.
struct Case {
    kind: Kind,
    at_leader: bool,
    stale: bool,
}

const fn case(kind: Kind, at_leader: bool, stale: bool) -> Case {
    Case { kind, at_leader, stale }
}

const CASES: &[Case] = &[
    case(Kind::Friend, true, false),
    case(Kind::Friend, false, false),
    case(Kind::Friend, false, true),
    case(Kind::Page, true, false),
    case(Kind::Page, false, true),
    case(Kind::History, true, false),
    case(Kind::History, false, true),
];

/// What a lane asks of one node.
#[derive(Clone)]
struct Asked {
    node: Queries,
    options: Option<v1::ReadOptions>,
    channel: String,
    friends: usize,
    revisions: u64,
    page_size: u32,
}

/// One run for each kind of read, at the leader and at followers.
///
/// # Errors
/// A read without an answer, or with one that cannot be; a node that ended.
pub async fn run(target: &mut Target, read: &Read, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    let work = Work::new(Event::Push, 200, 1, read.friends);
    let client = target.client()?;
    screen.progress("making a channel to read");
    let mut revisions = work.prepare(&client).await?;
    let mut lane = work.lane(0, 1);
    feed(&client, read.messages, "the history cannot be written", screen, |_| lane.next()).await?;
    revisions += read.messages;
    let channel = work.channels().next().unwrap_or_default().to_owned();
    let (leader, followers) = nodes(target, &client).await?;
    let mut runs = Vec::new();
    for case in CASES {
        let nodes = if case.at_leader { std::slice::from_ref(&leader) } else { followers.as_slice() };
        if nodes.is_empty() {
            continue;
        }
        let consistency =
            if case.stale { v1::ReadConsistency::Stale } else { v1::ReadConsistency::Linearizable } as i32;
        let asked = |node: &Channel| Asked {
            node: Queries::new(node.clone()).max_decoding_message_size(LARGEST_ANSWER),
            options: Some(v1::ReadOptions { consistency, at_least: None }),
            channel: channel.clone(),
            friends: read.friends,
            revisions,
            page_size: read.page_size,
        };
        let asked: Vec<Asked> = nodes.iter().map(asked).collect();
        let how = How {
            via: Via::Unary,
            in_flight: read.in_flight,
            connections: nodes.len(),
            rate: None,
            warm_up: read.warm_up,
            window: read.window.into(),
        };
        let kind = case.kind;
        let measured = load::drive(target, &how, screen, |tasks: &mut JoinSet<()>, shared| {
            for lane in 0..how.in_flight {
                tasks.spawn(reader(kind, asked[lane % asked.len()].clone(), lane, Arc::clone(shared)));
            }
        });
        let at = if case.at_leader { "leader" } else { "followers" };
        let consistency = if case.stale { "stale" } else { "linearizable" };
        let what = match kind {
            Kind::Friend => "one friend".to_owned(),
            Kind::Page => format!("page of {} friends", read.page_size),
            Kind::History => format!("{HISTORY_EVENTS} events of history"),
        };
        let run = Run::of("read", format!("{what}, {consistency}, {at}"), measured.await?);
        runs.push(
            run.asked("what", what)
                .asked("at", at)
                .asked("consistency", consistency)
                .asked("loop", "closed")
                .asked("in_flight", read.in_flight)
                .asked("friends", read.friends)
                .asked("messages", read.messages),
        );
    }
    Ok(runs)
}

/// Connections to the leader and to the others.
async fn nodes(target: &Target, client: &Client) -> Result<(Channel, Vec<Channel>), BenchError> {
    let status = target.status().await?;
    let (mut leader, mut followers) = (None, Vec::new());
    for node in status.nodes.iter().filter_map(|status| status.node.as_ref()) {
        let address = &node.client_address;
        let channel = match client.channel(address) {
            Some(channel) => Some(channel),
            None => Client::builder().endpoint(address).build()?.channel(address),
        };
        let Some(channel) = channel else { continue };
        if node.id == status.leader_id { leader = Some(channel) } else { followers.push(channel) }
    }
    let nobody = || BenchError::Asked("nobody leads the cluster now; try again".to_owned());
    Ok((leader.ok_or_else(nobody)?, followers))
}

async fn reader(kind: Kind, mut asked: Asked, lane: usize, shared: Arc<Shared>) {
    let mut random = SmallRng::from_os_rng();
    let mut token = String::new();
    while let Some(begun) = shared.turn().await {
        let answer = match kind {
            Kind::Friend => asked.friend(&mut random).await,
            Kind::Page => asked.page(&mut token).await,
            Kind::History => asked.history(&mut random).await,
        };
        match answer {
            Ok(()) => shared.recorder.answered(lane, begun),
            Err(error) => return shared.failed(error),
        }
    }
}

impl Asked {
    async fn friend(&mut self, random: &mut SmallRng) -> Result<(), BenchError> {
        let user_key = format!("u{}", random.random_range(0..self.friends));
        let who = Some(v1::get_friend_request::Who::UserKey(user_key.clone()));
        let request = v1::GetFriendRequest { options: self.options, channel_id: self.channel.clone(), who };
        let answer = self.node.get_friend(request).await.map_err(BenchError::read("a friend cannot be read"))?;
        let found = answer.into_inner().friend.map(|friend| friend.user_key);
        if found.as_deref() != Some(user_key.as_str()) {
            return Err(BenchError::Wrong(format!("asked for friend {user_key}, answered {found:?}")));
        }
        Ok(())
    }

    /// The page after the last one, and the first after the list's end.
    async fn page(&mut self, token: &mut String) -> Result<(), BenchError> {
        let request = v1::ListFriendsRequest {
            options: self.options,
            channel_id: self.channel.clone(),
            filter: None,
            page_size: self.page_size,
            page_token: std::mem::take(token),
        };
        let answer =
            self.node.list_friends(request).await.map_err(BenchError::read("a page cannot be read"))?.into_inner();
        let full = answer.friends.len() == self.page_size as usize;
        if !full && !answer.next_page_token.is_empty() {
            return Err(BenchError::Wrong(format!(
                "a page in the middle of a list has {} friends",
                answer.friends.len()
            )));
        }
        *token = answer.next_page_token;
        Ok(())
    }

    async fn history(&mut self, random: &mut SmallRng) -> Result<(), BenchError> {
        let unread = BenchError::read("history cannot be read");
        let count = HISTORY_EVENTS.min(self.revisions);
        let from = random.random_range(1..=self.revisions - count + 1);
        let request = v1::ReadEventsRequest {
            options: self.options,
            start: Some(Start::FromRevision(from)),
            channel_ids: vec![self.channel.clone()],
            limit: count,
            ..Default::default()
        };
        let read = async {
            let mut stream = self.node.read_events(request).await?.into_inner();
            let mut seen = 0;
            while let Some(answer) = stream.message().await? {
                seen += answer.items.len() as u64;
            }
            Ok(seen)
        };
        let seen = read.await.map_err(unread)?;
        if seen != count {
            return Err(BenchError::Wrong(format!("asked for {count} events from revision {from}, answered {seen}")));
        }
        Ok(())
    }
}
