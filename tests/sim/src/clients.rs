//! What is asked: friends are added, added twice and removed, under keys that are repeated until there is an answer; and
//! linearizable reads. Some requests are sent twice at once, to different nodes.

use std::{rc::Rc, time::Duration};

use rand::{Rng as _, rngs::StdRng};
use sillok_wire::v1;
use tokio::time::{sleep, timeout};

use crate::{
    history::{Intent, Read, Told},
    plan::stream,
    world::Shared,
};

/// The one channel.
pub const CHANNEL: &str = "shop";
/// A client asks again after this long.
const PATIENCE: Duration = Duration::from_secs(3);

fn context(retry_key: &str) -> Option<v1::CommandContext> {
    Some(v1::CommandContext { retry_key: retry_key.to_owned(), actor: "sim".to_owned(), ..Default::default() })
}

/// Opens the channel.
pub fn open() -> v1::Command {
    v1::OpenChannelRequest { context: context("open"), channel_id: CHANNEL.to_owned(), name: "가게".to_owned() }.into()
}

fn add(user_key: &str, retry_key: &str) -> v1::Command {
    v1::AddFriendRequest {
        context: context(retry_key),
        channel_id: CHANNEL.to_owned(),
        user_key: user_key.to_owned(),
        source: v1::FriendSource::Search.into(),
        attributes: Vec::new(),
        consents: Vec::new(),
    }
    .into()
}

/// Asks once, at one node; what is never answered is unknown.
async fn ask(shared: &Shared, key: &str, command: v1::Command, at: u64) -> Told {
    let from = shared.now();
    let Some(node) = shared.node(at) else { return Told::NotRecorded };
    let answers = timeout(PATIENCE, node.execute(vec![command])).await;
    drop(node);
    let told = answers.ok().and_then(|answers| answers.first().map(Told::of)).unwrap_or(Told::Unknown);
    shared.history.told(key, from, shared.now(), told.clone());
    shared.say(format!("{key} at node {at}: {}", told.short()));
    told
}

/// Repeats a command under its key until the answer is definite, or `tries` are over.
pub async fn insist(shared: &Shared, key: &str, command: v1::Command, tries: usize, random: &mut StdRng) -> Told {
    shared
        .history
        .intents
        .borrow_mut()
        .entry(key.to_owned())
        .or_insert_with(|| Intent { command: command.clone(), answers: Vec::new() });
    for _ in 0..tries {
        let up = shared.up();
        if !up.is_empty() {
            let at = up[random.random_range(0..up.len())];
            let told = if random.random_bool(0.1) {
                let other = up[random.random_range(0..up.len())];
                let both =
                    tokio::join!(ask(shared, key, command.clone(), at), ask(shared, key, command.clone(), other));
                if both.0.is_definite() { both.0 } else { both.1 }
            } else {
                ask(shared, key, command.clone(), at).await
            };
            if told.is_definite() {
                return told;
            }
        }
        sleep(Duration::from_millis(random.random_range(10..200))).await;
    }
    Told::Unknown
}

async fn read(shared: &Shared, at: u64) {
    let from = shared.now();
    let Some(node) = shared.node(at) else { return };
    let Ok(Ok(_)) = timeout(PATIENCE, node.read(None)).await else { return };
    // As a query does: what is read is at least what was confirmed.
    let sequence = node.views().read_channel(CHANNEL, |_, applied| applied.map_or(0, |applied| applied.sequence));
    shared.say(format!("read at node {at}: position {sequence}"));
    shared.history.reads.borrow_mut().push(Read { from, to: shared.now(), node: at, sequence });
}

/// One client, until it is told to stop.
pub async fn client(shared: Rc<Shared>, number: usize) -> turmoil::Result {
    let mut random = stream(shared.plan.seed, &format!("client {number}"));
    let mut added: Vec<String> = Vec::new();
    for n in 0.. {
        if shared.is_over.get() {
            break;
        }
        let key = format!("c{number}-{n}");
        match random.random_range(0..10) {
            0..6 => {
                insist(&shared, &key, add(&key, &key), 8, &mut random).await;
                added.push(key);
            }
            6..8 if !added.is_empty() => {
                // The same friend under another key: refused, for ever, if the first was recorded.
                let user = added[random.random_range(added.len().saturating_sub(3)..added.len())].clone();
                insist(&shared, &key, add(&user, &key), 8, &mut random).await;
            }
            _ => {
                let up = shared.up();
                if !up.is_empty() {
                    read(&shared, up[random.random_range(0..up.len())]).await;
                }
            }
        }
        sleep(Duration::from_millis(random.random_range(0..60))).await;
    }
    shared.clients_done.set(shared.clients_done.get() + 1);
    std::future::pending().await
}

/// After the healing: every key is repeated once more, then every node is asked for all it has.
pub async fn audit(shared: Rc<Shared>) -> turmoil::Result {
    use futures::StreamExt as _;
    let mut random = stream(shared.plan.seed, "audit");
    let asked: Vec<(String, v1::Command)> =
        shared.history.intents.borrow().iter().map(|(key, intent)| (key.clone(), intent.command.clone())).collect();
    for (key, command) in asked {
        let told = insist(&shared, &key, command, 200, &mut random).await;
        assert!(told.is_definite(), "after the healing {key} is not answered");
    }
    let members = shared.members.borrow().clone();
    for at in members {
        let Some(node) = shared.node(at) else { continue };
        while node.read(None).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        let request = v1::ReadEventsRequest { channel_ids: vec![CHANNEL.to_owned()], ..Default::default() };
        let mut stream = std::pin::pin!(node.read_events(request));
        let mut events = Vec::new();
        while let Some(page) = stream.next().await {
            for item in page.expect("events are read after the healing").items {
                let Some(v1::read_item::Item::Event(event)) = item.item else { continue };
                let accepted_at = event.accepted_at.as_ref().map_or((0, 0), |at| (at.seconds, at.nanos));
                events.push(crate::history::Event {
                    retry_key: event.retry_key,
                    revision: event.revision,
                    sequence: event.position.as_ref().map_or(0, |position| position.sequence),
                    accepted_at,
                });
            }
        }
        shared.say(format!("node {at} tells {} events", events.len()));
        let newest = events.last().map_or(0, |event| event.revision);
        shared.history.events.borrow_mut().insert(at, events);
        let digests =
            node.views().read_channel(CHANNEL, |table, _| table.map(|table| format!("{:?}", table.digests(newest))));
        shared.history.digests.borrow_mut().insert(at, format!("{digests:?}"));
    }
    shared.is_audited.set(true);
    std::future::pending().await
}
