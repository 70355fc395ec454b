//! Two of three sites are dark. The third, restarted, still answers the shop owner's first question, and says plainly that
//! it cannot take writes.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on fails where it stands")]

use std::time::{Duration, Instant};

use sillok_client::{Client, commands};
use sillok_tests::{Cluster, Site, account, eventually};
use sillok_wire::v1::{self, commands_client::CommandsClient};
use tonic::Code;
use tonic_types::StatusExt as _;

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
const SHOP: &str = "survivor";

/// A stale answer of the survivor, with its position and its times. It was started while nobody led: no leader has told this
/// process that it is current, and it does not claim so.
fn speaks_for(info: Option<v1::ReadInfo>, sequence: u64) {
    let info = info.unwrap();
    assert_eq!(info.position.as_ref().unwrap().sequence, sequence, "{info:?}");
    assert!(info.last_event_at.is_some(), "{info:?}");
    assert_eq!(info.current_as_of, None, "{info:?}");
    assert_eq!((info.consistency(), info.node_id, info.site.as_str()), (v1::ReadConsistency::Stale, 3, "jeonju"));
}

/// What the shop owner types there.
fn in_the_terminal(cluster: &Cluster, survivor: &Site, sequence: u64) {
    let endpoints = [survivor.client.clone()];
    let as_of = format!("as of position {sequence}");
    let check = cluster.sillok(&endpoints, &["friend", "check", SHOP]).unwrap();
    assert!(check.contains("Are my friends still there? Yes: 50, at jeonju, revision 52"), "{check}");
    assert!(check.contains("only jeonju answers") && check.contains(&as_of), "{check}");
    let list = cluster.sillok(&endpoints, &["friend", "list", SHOP, "--stale"]).unwrap();
    assert!(list.contains("guest-0") && list.contains("guest-49"), "{list}");
    assert!(list.contains(&as_of) && list.contains("stale: not confirmed current"), "{list}");
    let history = cluster.sillok(&endpoints, &["message", "history", SHOP, "--stale"]).unwrap();
    assert!(history.contains("정상 영업합니다") && history.contains(&as_of), "{history}");
    let status = cluster.sillok(&endpoints, &["cluster", "status"]).unwrap();
    assert!(status.contains("jeonju") && status.contains("sees no leader"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_site_answers_reads_and_refuses_writes_at_once() {
    let mut cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel(SHOP, "남은 가게")).await.unwrap();
    for n in 0..50 {
        client.execute(commands::add_friend(SHOP, format!("guest-{n}"))).await.unwrap();
    }
    let body = v1::MessageBody { text: "정상 영업합니다".into(), is_ad: false, unit_price_won: 15 };
    let broadcast = v1::SendBroadcastRequest { channel_id: SHOP.into(), body: Some(body), ..Default::default() };
    let sent = client.execute(broadcast).await.unwrap();
    let sequence = cluster.settle().await;
    let before = account::digests(cluster.site(3), SHOP).await.unwrap();

    cluster.kill(1).unwrap();
    cluster.kill(2).unwrap();
    cluster.stop(3).unwrap();
    cluster.spawn(3).unwrap();
    let survivor = cluster.site(3);
    // It answers as soon as it runs and says for which position; what it knew before comes back within moments.
    let channel = eventually("the survivor to know what it knew", Duration::from_secs(10), || async {
        let request = v1::GetChannelRequest { options: account::stale(), channel_id: SHOP.into() };
        let answer = survivor.queries().await.ok()?.get_channel(request).await.ok()?.into_inner();
        let position = answer.info.as_ref()?.position.as_ref()?.sequence;
        assert!(position <= sequence, "more than was ever committed");
        (position == sequence).then_some(answer)
    })
    .await;
    let info = channel.info.unwrap();
    assert_eq!(info.consistency, v1::ReadConsistency::Stale as i32);
    assert!(info.last_event_at.is_some());
    assert_eq!(channel.channel.unwrap().friend_count, 50);

    let mut queries = survivor.queries().await.unwrap();
    let list = v1::ListFriendsRequest {
        options: account::stale(),
        channel_id: SHOP.into(),
        page_size: 1000,
        ..Default::default()
    };
    let list = queries.list_friends(list).await.unwrap().into_inner();
    assert_eq!(list.friends.len(), 50);
    speaks_for(list.info, sequence);
    let history = v1::ListMessagesRequest { options: account::stale(), channel_id: SHOP.into(), ..Default::default() };
    let history = queries.list_messages(history).await.unwrap().into_inner();
    assert_eq!(history.messages.len(), 1);
    speaks_for(history.info, sequence);
    assert_eq!(history.messages[0].message_id, sent.revision);
    assert_eq!(history.messages[0].text, "정상 영업합니다");
    let digests = v1::GetDigestsRequest { options: account::stale(), channel_id: SHOP.into(), revision: 0 };
    let digests = queries.get_digests(digests).await.unwrap().into_inner();
    assert_eq!(digests.digests.unwrap(), before);
    speaks_for(digests.info, sequence);
    let status = survivor.status().await.unwrap();
    assert_eq!(status.leader_id, 0);
    speaks_for(status.info, sequence);
    in_the_terminal(&cluster, survivor, sequence);

    // A linearizable read is refused rather than answered from what may be old.
    let strict = v1::GetChannelRequest { options: None, channel_id: SHOP.into() };
    let refused = queries.get_channel(strict).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    let began = Instant::now();
    let mut writes = CommandsClient::new(survivor.connect().await.unwrap());
    let add = v1::AddFriendRequest {
        context: Some(v1::CommandContext { retry_key: "late".into(), ..Default::default() }),
        channel_id: SHOP.into(),
        user_key: "late".into(),
        ..Default::default()
    };
    let refused = writes.add_friend(add).await.unwrap_err();
    // At once: it does not hang until somebody comes back.
    assert!(began.elapsed() < Duration::from_secs(10), "refused only after {:?}", began.elapsed());
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "NO_LEADER");
    assert_eq!(refused.metadata().get("outcome").unwrap(), "not_recorded");

    // The others come back, and so do writes.
    cluster.spawn(1).unwrap();
    cluster.spawn(2).unwrap();
    client.execute(commands::add_friend(SHOP, "after")).await.unwrap();
}
