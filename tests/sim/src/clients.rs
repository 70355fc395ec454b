//! What is asked, as users' programs ask it: by the Rust client over the simulated network, at the nodes' client ports.
//! Friends are added, added by two clients at once, removed and read. What has no answer is repeated under its key; some of
//! what has one is repeated all the same, and some requests are sent twice at once by different ways.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures::future::join_all;
use rand::{Rng as _, rngs::StdRng};
use sillok_client::{Client, ClientBuilder, WriteError, commands};
use sillok_wire::{errors, v1};
use tokio::time::sleep;

use crate::{
    history::{Found, Intent, Read, Told},
    network::SimNetwork,
    plan::stream,
    site::{CLIENT_PORT, host},
    world::Shared,
};

/// The one channel.
pub const CHANNEL: &str = "shop";
/// For so long all clients that add a common friend add the same.
const COMMON_FOR: Duration = Duration::from_millis(300);

/// The ways by which one user asks.
pub struct Ways {
    /// As most programs do it: writes go to the leader once it is known, and a call is repeated until its deadline.
    patient: Client,
    /// As a program that knows one node and gives up soon: whatever arrives there is forwarded.
    hasty: Vec<Client>,
}

impl Ways {
    /// To these nodes, each user to another one first. Some clients send together what waits together, and some do not.
    pub fn to(mut nodes: Vec<u64>, first: usize) -> Ways {
        let by = first % nodes.len();
        nodes.rotate_left(by);
        let patient = connect(&nodes)
            .batch_calls(first % 3 != 2)
            .request_timeout(Duration::from_millis(1_000))
            .deadline(Duration::from_secs(4));
        let hasty = |id: &u64| {
            let client = connect(&[*id]).follow_leader(false).batch_calls((*id as usize + first).is_multiple_of(2));
            client.request_timeout(Duration::from_millis(400)).deadline(Duration::from_millis(450)).build().unwrap()
        };
        Ways { patient: patient.build().unwrap(), hasty: nodes.iter().map(hasty).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &Client> {
        std::iter::once(&self.patient).chain(&self.hasty)
    }

    fn any(&self, random: &mut StdRng) -> &Client {
        if random.random_bool(0.6) { &self.patient } else { &self.hasty[random.random_range(0..self.hasty.len())] }
    }
}

/// A client of these nodes over the simulated network.
pub fn connect(nodes: &[u64]) -> ClientBuilder {
    let endpoints = nodes.iter().map(|id| format!("{}:{CLIENT_PORT}", host(*id)));
    let builder = Client::builder().endpoints(endpoints).transport(Arc::new(SimNetwork));
    builder.connect_timeout(Duration::from_millis(300))
}

/// Opens the channel.
pub fn open() -> v1::Command {
    with_key(commands::open_channel(CHANNEL, "가게").into(), "open")
}

fn add(user_key: &str, retry_key: &str) -> v1::Command {
    with_key(commands::add_friend(CHANNEL, user_key).into(), retry_key)
}

fn remove(user_key: &str, retry_key: &str) -> v1::Command {
    with_key(commands::remove_friend(CHANNEL, user_key).into(), retry_key)
}

fn with_key(mut command: v1::Command, retry_key: &str) -> v1::Command {
    if let Some(context) = command.context_mut() {
        let context = context.get_or_insert_default();
        context.retry_key = retry_key.to_owned();
        context.actor = "sim".to_owned();
    }
    command
}

/// Asks once, by one way; what is never answered is unknown.
async fn ask(shared: &Shared, key: &str, command: v1::Command, by: &Client) -> Told {
    let from = shared.now();
    let told = match by.execute(command).await {
        Ok(receipt) => Told::receipt(receipt),
        Err(WriteError::Refused { reason, .. }) => Told::Refused(reason),
        Err(WriteError::NotRecorded { .. }) => Told::NotRecorded,
        Err(WriteError::Unknown { .. }) => Told::Unknown,
        Err(error @ WriteError::Invalid { .. }) => panic!("{key}: {error}"),
    };
    shared.history.told(key, from, shared.now(), told.clone());
    shared.say(format!("{key}: {}", told.short()));
    told
}

/// Repeats a command under its key until the answer is definite, or `tries` are over.
pub async fn insist(
    shared: &Shared,
    ways: &Ways,
    key: &str,
    command: v1::Command,
    tries: usize,
    random: &mut StdRng,
) -> Told {
    let intent = || Intent { command: command.clone(), answers: Vec::new() };
    shared.history.intents.borrow_mut().entry(key.to_owned()).or_insert_with(intent);
    for _ in 0..tries {
        let told = if random.random_bool(0.1) {
            let (one, other) = (ways.any(random), ways.any(random));
            let both = tokio::join!(ask(shared, key, command.clone(), one), ask(shared, key, command.clone(), other));
            if both.0.is_definite() { both.0 } else { both.1 }
        } else {
            ask(shared, key, command.clone(), ways.any(random)).await
        };
        if told.is_definite() {
            return told;
        }
        sleep(Duration::from_millis(random.random_range(10..200))).await;
    }
    Told::Unknown
}

/// Whether somebody is a friend, linearizably; nothing where no node says it in time.
async fn read(shared: &Shared, by: &Client, user_key: &str) {
    let from = shared.now();
    let answer = by
        .read(|mut queries| {
            let who = Some(v1::get_friend_request::Who::UserKey(user_key.to_owned()));
            let request = v1::GetFriendRequest { options: None, channel_id: CHANNEL.to_owned(), who };
            async move { queries.get_friend(request).await }
        })
        .await;
    let (found, node, sequence) = match &answer {
        Ok(answer) => {
            let info = answer.info.clone().unwrap_or_default();
            assert_eq!(info.consistency(), v1::ReadConsistency::Linearizable, "nobody asked for another");
            let is_friend = answer.friend.as_ref().is_some_and(|friend| friend.status() == v1::FriendStatus::Friend);
            let found = if is_friend { Found::Friend } else { Found::Removed };
            (found, info.node_id, info.position.map_or(0, |position| position.sequence))
        }
        // That there never was such a friend is an answer, which says what it speaks for.
        Err(status) if errors::reason_of(status) == Some(v1::Reason::FriendNotFound) => {
            let facts = errors::error_info(status).map(|info| info.metadata).unwrap_or_default();
            let number = |fact: &str| facts.get(fact).and_then(|fact| fact.parse().ok()).expect("the answer says it");
            (Found::Nobody, number("node_id"), number("sequence"))
        }
        Err(_) => return,
    };
    shared.say(format!("{user_key} read at node {node}: {found:?} at position {sequence}"));
    let read = Read { from, to: shared.now(), node, sequence, user: user_key.to_owned(), found };
    shared.history.reads.borrow_mut().push(read);
}

/// Adds whom other clients add at this moment too, under a key of its own. One of them is refused, and looks at once, by all
/// its ways: whoever is called a friend is one, wherever one looks.
async fn add_in_common(shared: &Shared, ways: &Ways, key: &str, random: &mut StdRng) {
    let user = format!("common{}", shared.now().as_millis() / COMMON_FOR.as_millis());
    let told = insist(shared, ways, key, add(&user, key), 4, random).await;
    if let Told::Refused(_) = told {
        join_all(ways.all().map(|way| read(shared, way, &user))).await;
    }
}

/// One client, until it is told to stop.
pub async fn client(shared: Rc<Shared>, number: usize) {
    let mut random = stream(shared.plan.seed, &format!("client {number}"));
    let ways = Ways::to(shared.members.borrow().clone(), number);
    let mut own: Vec<String> = Vec::new();
    let mut asked: Vec<String> = Vec::new();
    for n in 0.. {
        if shared.is_over.get() {
            break;
        }
        let key = format!("c{number}-{n}");
        let newest = own.len().saturating_sub(3)..own.len();
        match random.random_range(0..20) {
            0..7 => {
                insist(&shared, &ways, &key, add(&key, &key), 8, &mut random).await;
                own.push(key.clone());
                asked.push(key);
            }
            7..12 => {
                add_in_common(&shared, &ways, &key, &mut random).await;
                asked.push(key);
            }
            12..14 if !own.is_empty() => {
                // The same friend under another key: refused, for ever, if the first was recorded.
                let user = own[random.random_range(newest)].clone();
                insist(&shared, &ways, &key, add(&user, &key), 8, &mut random).await;
                asked.push(key);
            }
            14 if !own.is_empty() => {
                let user = own[random.random_range(newest)].clone();
                insist(&shared, &ways, &key, remove(&user, &key), 8, &mut random).await;
                asked.push(key);
            }
            15 if !asked.is_empty() => {
                // A program that was started again and has forgotten what it was told.
                let key = &asked[random.random_range(0..asked.len())];
                let command = shared.history.intents.borrow()[key].command.clone();
                insist(&shared, &ways, key, command, 1, &mut random).await;
            }
            _ if !own.is_empty() => {
                let user = own[random.random_range(newest)].clone();
                read(&shared, ways.any(&mut random), &user).await;
            }
            _ => {}
        }
        sleep(Duration::from_millis(random.random_range(0..60))).await;
    }
    shared.clients_done.set(shared.clients_done.get() + 1);
}
