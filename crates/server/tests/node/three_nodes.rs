//! Three nodes at three sites: any node takes any call, and one may go.

use sillok_wire::{
    errors::LEADER,
    v1::{self, get_friend_request::Who},
};

use crate::{
    shop::{self, SHOP},
    support::{SITES, key, stale, three},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_takes_every_call_and_says_who_leads() {
    let (mut nodes, _dir) = three().await;
    let status = nodes[0].cluster().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.nodes.len(), 3);
    let leader = status.leader_id;
    let leader_address = nodes[leader as usize - 1].config.listen.client.to_string();

    // Opened at one, friends added at each, with all sites asked for.
    shop::open(&mut nodes[0].commands()).await;
    let mut last = None;
    for (at, node) in nodes.iter().enumerate() {
        let mut request = shop::add(&format!("at-{at}"));
        request.context = key(&format!("at-{at}"));
        request.context.as_mut().unwrap().wait = v1::Wait::AllSites.into();
        let response = node.commands().add_friend(request).await.unwrap();
        assert_eq!(response.metadata().get(LEADER).unwrap(), leader_address.as_str());
        let receipt = response.into_inner();
        let durability = receipt.durability.unwrap();
        let mut sites: Vec<&str> = durability.sites.iter().map(|site| site.site.as_str()).collect();
        sites.sort_unstable();
        assert_eq!(sites, {
            let mut all = SITES;
            all.sort_unstable();
            all
        });
        assert!(durability.all_sites);
        last = receipt.position;
    }
    // Read at each, linearizable and stale.
    let mut digests = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let who = Some(Who::UserKey("at-2".to_owned()));
        let request = v1::GetFriendRequest { options: None, channel_id: SHOP.to_owned(), who };
        let answer = node.queries().get_friend(request).await.unwrap().into_inner();
        assert_eq!(answer.info.unwrap().site, SITES[at]);
        let options = v1::ReadOptions { at_least: last, ..stale().unwrap() };
        let request = v1::GetDigestsRequest { options: Some(options), channel_id: SHOP.to_owned(), revision: 0 };
        digests.push(node.queries().get_digests(request).await.unwrap().into_inner().digests.unwrap());
    }
    assert!(digests.iter().all(|one| *one == digests[0]), "{digests:?}");
    let what_if = nodes[0].cluster().what_if(v1::WhatIfRequest {}).await.unwrap().into_inner();
    assert_eq!(what_if.sites.len(), 3);
    assert!(what_if.sites.iter().all(|site| site.writes_continue && !site.summary.is_empty()), "{what_if:?}");

    // The leader stops gracefully; the others go on.
    let stopped = leader as usize - 1;
    nodes[stopped].stop().await;
    let other = &nodes[(stopped + 1) % 3];
    let mut commands = other.commands();
    let mut request = shop::broadcast("after", "한 곳이 없어도");
    let receipt = loop {
        match commands.send_broadcast(request.clone()).await {
            Ok(receipt) => break receipt.into_inner(),
            // The same key is safe to repeat until there is a leader again.
            Err(status) if status.code() == tonic::Code::Unavailable => request.context = key("after"),
            Err(status) => panic!("{status:?}"),
        }
    };
    assert_eq!(receipt.durability.unwrap().sites.len(), 2);
    for node in nodes.iter_mut().filter(|node| node.server.is_some()) {
        node.stop().await;
    }
}
