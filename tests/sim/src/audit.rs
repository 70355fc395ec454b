//! The last look, after the healing: every command is repeated once more under its key, then every node is asked for all it has.

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use sillok_client::Client;
use sillok_wire::v1;

use crate::{
    clients::{self, CHANNEL, Ways},
    history::Event,
    plan::stream,
    world::Shared,
};

/// A healed cluster may still be electing.
const TRIES: usize = 200;
/// Commands repeated at once.
const AT_ONCE: usize = 8;

/// Asks all of it and writes it into the history.
pub async fn audit(shared: Rc<Shared>) {
    let members = shared.members.borrow().clone();
    repeat(&shared, &Ways::to(members.clone(), 0)).await;
    for node in members {
        let client = clients::connect(&[node]).follow_leader(false).deadline(Duration::from_secs(60));
        ask(&shared, node, &client.build().unwrap()).await;
    }
    shared.is_audited.set(true);
}

async fn repeat(shared: &Shared, ways: &Ways) {
    let asked: Vec<(String, v1::Command)> =
        shared.history.intents.borrow().iter().map(|(key, intent)| (key.clone(), intent.command.clone())).collect();
    // Some at once, as clients do: one after the other would be the longest part of a run.
    let some = asked.chunks(asked.len().div_ceil(AT_ONCE).max(1)).enumerate().map(|(n, some)| async move {
        let mut random = stream(shared.plan.seed, &format!("audit {n}"));
        for (key, command) in some {
            let told = clients::insist(shared, ways, key, command.clone(), TRIES, &mut random).await;
            assert!(told.is_definite(), "after the healing {key} is not answered");
        }
    });
    join_all(some).await;
}

/// Everything that one node tells, once it has all of it: linearizable digests first, which wait for that.
async fn ask(shared: &Shared, node: u64, client: &Client) {
    let answer = client
        .read(|mut queries| async move {
            let request = v1::GetDigestsRequest { channel_id: CHANNEL.to_owned(), ..Default::default() };
            queries.get_digests(request).await
        })
        .await
        .unwrap_or_else(|status| panic!("after the healing node {node} tells no digests: {status}"));
    let digests = answer.digests.unwrap_or_default();
    let request = v1::ReadEventsRequest { channel_ids: vec![CHANNEL.to_owned()], ..Default::default() };
    let mut stream = client.events(request);
    let mut events = Vec::new();
    loop {
        let page = stream.next().await;
        let page = page.unwrap_or_else(|status| panic!("after the healing node {node} tells no events: {status}"));
        let Some(page) = page else { break };
        for item in page.items {
            let Some(v1::read_item::Item::Event(event)) = item.item else { continue };
            let accepted_at = event.accepted_at.as_ref().map_or((0, 0), |at| (at.seconds, at.nanos));
            events.push(Event {
                retry_key: event.retry_key,
                revision: event.revision,
                sequence: event.position.as_ref().map_or(0, |position| position.sequence),
                accepted_at,
            });
        }
    }
    shared.say(format!("node {node} tells {} events", events.len()));
    shared.history.events.borrow_mut().insert(node, events);
    shared.history.digests.borrow_mut().insert(node, format!("{digests:?}"));
}
