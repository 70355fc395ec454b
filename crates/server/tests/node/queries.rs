//! Every read, over a shop whose history is known.

use prost::Message as _;
use sillok_wire::{
    payload_to_proto,
    v1::{self, get_friend_request::Who, read_events_request::Start, read_item::Item},
};

use crate::{
    shop::{self, SHOP, attribute, body},
    support::{Single, key, single, stale},
};

/// After `shop::open` (revisions 1 to 4): 5 c is blocked, 6 push to a, 7 narrowcast to Seoul (a), 8 broadcast (a, b),
/// 9 coupon, 10 tickets to both, 11 one redeemed; and one refusal.
async fn furnished() -> Single {
    let single = single().await;
    let mut commands = single.node.commands();
    shop::open(&mut commands).await;
    let channel_id = || SHOP.to_owned();
    let user_key = || "c".to_owned();
    let block = v1::BlockFriendRequest { context: key("5"), channel_id: channel_id(), user_key: user_key() };
    commands.block_friend(block.clone()).await.unwrap();
    commands.block_friend(v1::BlockFriendRequest { context: key("refused"), ..block }).await.unwrap_err();
    commands
        .send_push(v1::SendPushRequest {
            context: key("6"),
            channel_id: channel_id(),
            user_key: "a".to_owned(),
            body: body("push"),
        })
        .await
        .unwrap();
    commands
        .send_narrowcast(v1::SendNarrowcastRequest {
            context: key("7"),
            channel_id: channel_id(),
            audience: shop::audience(shop::rule("region", "seoul")),
            body: body("narrow"),
        })
        .await
        .unwrap();
    commands.send_broadcast(shop::broadcast("8", "broad")).await.unwrap();
    let coupon_id = || "coupon".to_owned();
    commands
        .define_coupon(v1::DefineCouponRequest {
            context: key("9"),
            channel_id: channel_id(),
            coupon_id: coupon_id(),
            name: "10%".to_owned(),
            cap: 10,
            ..Default::default()
        })
        .await
        .unwrap();
    commands
        .issue_tickets(v1::IssueTicketsRequest {
            context: key("10"),
            channel_id: channel_id(),
            coupon_id: coupon_id(),
            audience: shop::audience(v1::Rule::default()),
        })
        .await
        .unwrap();
    commands
        .redeem_ticket(v1::RedeemTicketRequest {
            context: key("11"),
            channel_id: channel_id(),
            ticket_id: "coupon.10.1".to_owned(),
        })
        .await
        .unwrap();
    single
}

fn channel_id() -> String {
    SHOP.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_and_digests() {
    let single = furnished().await;
    let mut queries = single.node.queries();
    let request = v1::GetChannelRequest { options: None, channel_id: channel_id() };
    let answer = queries.get_channel(request).await.unwrap().into_inner();
    let info = answer.info.unwrap();
    let channel = answer.channel.unwrap();
    assert_eq!((channel.revision, channel.friend_count, channel.blocked_count), (11, 2, 1));
    assert_eq!((channel.message_count, channel.send_cost_won, channel.refused_count), (3, 60, 1));
    assert_eq!((channel.coupon_count, channel.ticket_count), (1, 2));
    assert_eq!(channel.status(), v1::ChannelStatus::Open);
    // Eleven events and a refusal.
    assert_eq!(info.position.unwrap().sequence, 12);
    assert_eq!(
        (info.node_id, info.site.as_str(), info.consistency()),
        (1, "chungju", v1::ReadConsistency::Linearizable)
    );
    assert!(info.current_as_of.is_some() && info.last_event_at.is_some());

    for id in ["shop-1", "shop-2"] {
        single.node.commands().open_channel(shop::open_request(id, "open")).await.unwrap();
    }
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListChannelsRequest { options: stale(), page_size: 1, page_token };
        let page = queries.list_channels(request).await.unwrap().into_inner();
        assert_eq!(page.info.unwrap().consistency(), v1::ReadConsistency::Stale);
        ids.extend(page.channels.into_iter().map(|channel| channel.channel_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, ["shop", "shop-1", "shop-2"]);

    let mut digests = async |revision| {
        let request = v1::GetDigestsRequest { options: None, channel_id: channel_id(), revision };
        queries.get_digests(request).await.unwrap().into_inner().digests.unwrap()
    };
    let now = digests(0).await;
    assert_eq!((now.revision, now.friend_count, now.friend_list_digest.len()), (11, 3, 32));
    let before = digests(10).await;
    assert_eq!(before.friend_list_digest, now.friend_list_digest, "a redemption changes no friend");
    assert_ne!(before.history_digest, now.history_digest);
    assert_eq!(digests(11).await, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_one_by_one_in_pages_in_streams_and_counted() {
    let single = furnished().await;
    let mut queries = single.node.queries();
    for who in [Who::UserKey("a".to_owned()), Who::FriendNumber(1)] {
        let request = v1::GetFriendRequest { options: None, channel_id: channel_id(), who: Some(who) };
        let friend = queries.get_friend(request).await.unwrap().into_inner().friend.unwrap();
        assert_eq!((friend.friend_number, friend.user_key.as_str(), friend.added_revision), (1, "a", 2));
        assert_eq!((friend.status(), friend.source()), (v1::FriendStatus::Friend, v1::FriendSource::OfflineEvent));
        assert_eq!(friend.attributes, [attribute("region", "seoul")]);
        assert_eq!(friend.consents().collect::<Vec<_>>(), [v1::Consent::Advertising]);
        assert!(friend.added_at.is_some());
    }
    let blocked = v1::FriendFilter { statuses: vec![v1::FriendStatus::Blocked.into()], rule: None };
    let seoul = v1::FriendFilter { statuses: vec![], rule: Some(shop::rule("region", "seoul")) };
    for (filter, expected) in [(None, vec!["a", "b", "c"]), (Some(blocked), vec!["c"]), (Some(seoul), vec!["a", "c"])] {
        let mut keys = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListFriendsRequest {
                options: None,
                channel_id: channel_id(),
                filter: filter.clone(),
                page_size: 1,
                page_token,
            };
            let page = queries.list_friends(request).await.unwrap().into_inner();
            assert!(page.info.unwrap().position.is_some() && page.friends.len() <= 1);
            keys.extend(page.friends.into_iter().map(|friend| friend.user_key));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(keys, expected);

        let request = v1::StreamFriendsRequest { options: None, channel_id: channel_id(), filter: filter.clone() };
        let mut stream = queries.stream_friends(request).await.unwrap().into_inner();
        let mut keys = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            assert!(chunk.info.is_some());
            keys.extend(chunk.friends.into_iter().map(|friend| friend.user_key));
        }
        assert_eq!(keys, expected);

        let request = v1::CountFriendsRequest {
            options: None,
            channel_id: channel_id(),
            filter,
            by_attribute: "region".to_owned(),
        };
        let counted = queries.count_friends(request).await.unwrap().into_inner();
        assert_eq!(counted.count, expected.len() as u64);
        assert_eq!(counted.by_value.iter().map(|value| value.count).sum::<u64>(), counted.count);
    }
    let request = v1::CountFriendsRequest {
        options: stale(),
        channel_id: channel_id(),
        filter: None,
        by_attribute: "grade".to_owned(),
    };
    let counted = queries.count_friends(request).await.unwrap().into_inner();
    assert_eq!(counted.by_value, [v1::ValueCount { value: String::new(), count: 3 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_channel_and_of_one_friend() {
    let single = furnished().await;
    let mut queries = single.node.queries();
    let request = v1::GetMessageRequest { options: None, channel_id: channel_id(), message_id: 7 };
    let message = queries.get_message(request).await.unwrap().into_inner().message.unwrap();
    assert_eq!((message.text.as_str(), message.kind()), ("narrow", v1::MessageKind::Narrowcast));
    assert_eq!((message.audience_count, message.cost_won, message.excluded_blocked), (1, 15, 1));
    assert_eq!(message.rule, Some(shop::rule("region", "seoul")));
    assert_eq!(message.audience_digest.len(), 32);
    assert!(message.accepted_at.is_some() && message.position.is_some());

    for (user_key, expected) in [
        ("", vec!["broad", "narrow", "push"]),
        ("a", vec!["broad", "narrow", "push"]),
        ("b", vec!["broad"]),
        ("c", vec![]),
    ] {
        let mut texts = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListMessagesRequest {
                options: None,
                channel_id: channel_id(),
                user_key: user_key.to_owned(),
                page_size: 2,
                page_token,
            };
            let page = queries.list_messages(request).await.unwrap().into_inner();
            texts.extend(page.messages.into_iter().map(|message| message.text));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(texts, expected, "of {user_key:?}");
    }
    for (message_id, expected) in [(6, vec![(1, "a")]), (8, vec![(1, "a"), (2, "b")])] {
        let request = v1::StreamRecipientsRequest { options: None, channel_id: channel_id(), message_id };
        let mut stream = queries.stream_recipients(request).await.unwrap().into_inner();
        let mut recipients = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            assert!(chunk.info.is_some());
            recipients.extend(chunk.recipients.into_iter().map(|one| (one.friend_number, one.user_key)));
        }
        let expected: Vec<_> = expected.into_iter().map(|(number, key)| (number, key.to_owned())).collect();
        assert_eq!(recipients, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coupons_and_tickets() {
    let single = furnished().await;
    let mut queries = single.node.queries();
    let request = v1::GetCouponRequest { options: None, channel_id: channel_id(), coupon_id: "coupon".to_owned() };
    let coupon = queries.get_coupon(request).await.unwrap().into_inner().coupon.unwrap();
    assert_eq!((coupon.cap, coupon.issued_count, coupon.redeemed_count, coupon.defined_revision), (10, 2, 1, 9));
    assert_eq!(coupon.window, None);
    let request = v1::ListCouponsRequest { options: None, channel_id: channel_id(), ..Default::default() };
    assert_eq!(queries.list_coupons(request).await.unwrap().into_inner().coupons, [coupon]);

    let request = v1::GetTicketRequest { options: None, channel_id: channel_id(), ticket_id: "coupon.10.1".to_owned() };
    let ticket = queries.get_ticket(request).await.unwrap().into_inner().ticket.unwrap();
    assert_eq!((ticket.user_key.as_str(), ticket.status()), ("a", v1::TicketStatus::Redeemed));
    assert_eq!((ticket.issued_revision, ticket.redeemed_revision), (10, 11));
    for (coupon_id, user_key, expected) in [
        ("", "", vec!["coupon.10.1", "coupon.10.2"]),
        ("coupon", "", vec!["coupon.10.1", "coupon.10.2"]),
        ("", "b", vec!["coupon.10.2"]),
        ("coupon", "c", vec![]),
    ] {
        let mut ids = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListTicketsRequest {
                options: None,
                channel_id: channel_id(),
                coupon_id: coupon_id.to_owned(),
                user_key: user_key.to_owned(),
                page_size: 1,
                page_token,
            };
            let page = queries.list_tickets(request).await.unwrap().into_inner();
            ids.extend(page.tickets.into_iter().map(|ticket| ticket.ticket_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ids, expected, "of {coupon_id:?} held by {user_key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_from_a_revision_and_by_retry_key() {
    let single = furnished().await;
    let mut queries = single.node.queries();
    let request = v1::ReadEventsRequest {
        start: Some(Start::FromRevision(9)),
        channel_ids: vec![channel_id()],
        ..Default::default()
    };
    let mut stream = queries.read_events(request).await.unwrap().into_inner();
    let mut revisions = Vec::new();
    let mut caught_up = false;
    while let Some(response) = stream.message().await.unwrap() {
        for item in response.items {
            let Some(Item::Event(event)) = item.item else { panic!("a refusal was not asked for") };
            assert!(!item.cursor.is_empty());
            revisions.push(event.revision);
        }
        caught_up |= response.caught_up;
    }
    assert_eq!(revisions, [9, 10, 11]);
    assert!(caught_up);

    let ask = |retry_key: &str| v1::FindByRetryKeyRequest {
        options: None,
        channel_id: channel_id(),
        retry_key: retry_key.to_owned(),
    };
    use v1::find_by_retry_key_response::Outcome;
    let found = queries.find_by_retry_key(ask("add-b")).await.unwrap().into_inner();
    let Some(Outcome::Recorded(recorded)) = found.outcome else { panic!("{found:?}") };
    assert_eq!(recorded.events.len(), 1);
    let payload = recorded.events[0].payload.clone().unwrap();
    let event = sillok_wire::payload_from_proto(payload.clone()).unwrap();
    assert!(matches!(&event, sillok_domain::Event::FriendAdded { user_key, .. } if user_key == "b"));
    assert_eq!(payload_to_proto(&event), payload);
    let found = queries.find_by_retry_key(ask("refused")).await.unwrap().into_inner();
    let Some(Outcome::Refused(refused)) = found.outcome else { panic!("{found:?}") };
    assert_eq!(refused.reason(), v1::Reason::FriendBlocked);
    let found = queries.find_by_retry_key(ask("never")).await.unwrap().into_inner();
    assert!(found.outcome.is_none() && found.info.is_some());
}

/// Friends with all the attributes they may have: a page of 1,000 was over the 4 MiB that clients take, and failed there.
#[tokio::test(flavor = "multi_thread")]
async fn pages_and_chunks_of_large_friends_end_early_and_nobody_is_left_out() {
    let single = single().await;
    let mut commands = single.node.commands();
    commands.open_channel(shop::open_request(SHOP, "open")).await.unwrap();
    let personal = |number: u32| {
        let attributes = (0..16).map(|nth| attribute(&format!("own_{nth:028}"), &"😀".repeat(64))).collect();
        let plain = v1::PersonalPlain { user_key: format!("u{number}"), attributes, ..Default::default() };
        Some(v1::Personal { form: Some(v1::personal::Form::Plain(plain)) })
    };
    const FRIENDS: u32 = 900;
    for first in (1..=FRIENDS).step_by(300) {
        let events = (first..first + 300).map(|friend_number| {
            let added = v1::FriendAdded { friend_number, personal: personal(friend_number), ..Default::default() };
            let payload = v1::Payload { event: Some(v1::payload::Event::FriendAdded(added)) };
            v1::ImportedEvent { payload: Some(payload), ..Default::default() }
        });
        let request = v1::ImportEventsRequest {
            context: key(&format!("import-{first}")),
            channel_id: channel_id(),
            first_revision: u64::from(first) + 1,
            events: events.collect(),
        };
        commands.import_events(request).await.unwrap();
    }
    let mut queries = single.node.queries();
    let (mut numbers, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request =
            v1::ListFriendsRequest { channel_id: channel_id(), page_size: 1_000, page_token, ..Default::default() };
        // The client's own limit is the usual one of 4 MiB.
        let page = queries.list_friends(request).await.unwrap().into_inner();
        numbers.extend(page.friends.into_iter().map(|friend| friend.friend_number));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(numbers, (1..=FRIENDS).collect::<Vec<_>>());
    assert!(pages > 1);
    let request = v1::StreamFriendsRequest { channel_id: channel_id(), ..Default::default() };
    let mut stream = queries.stream_friends(request).await.unwrap().into_inner();
    let mut numbers = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        assert!(chunk.encoded_len() < 3 << 20);
        numbers.extend(chunk.friends.into_iter().map(|friend| friend.friend_number));
    }
    assert_eq!(numbers, (1..=FRIENDS).collect::<Vec<_>>());
}

/// An auditor trusts no digest that cannot be computed from what is shown. The formulas are those of `queries.proto`.
#[tokio::test(flavor = "multi_thread")]
async fn digests_can_be_computed_from_the_events() {
    let single = furnished().await;
    let mut queries = single.node.queries();
    let request = v1::ReadEventsRequest { channel_ids: vec![channel_id()], ..Default::default() };
    let mut stream = queries.read_events(request).await.unwrap().into_inner();
    let time = |time: &Option<prost_types::Timestamp>| match time {
        None => vec![0],
        Some(time) => [&[1][..], &(time.seconds * 1_000_000_000 + i64::from(time.nanos)).to_le_bytes()].concat(),
    };
    let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let (mut content, mut history) = ([0; 32], [0; 32]);
    while let Some(response) = stream.message().await.unwrap() {
        for item in response.items {
            let Some(Item::Event(event)) = item.item else { panic!("a refusal was not asked for") };
            let payload = event.payload.as_ref().unwrap().encode_to_vec();
            let kind = sillok_wire::peek_event_kind(&payload).unwrap();
            let flag = |is: bool| vec![u8::from(is)];
            let (occurred_at, backfill) = (time(&event.occurred_at), flag(event.backfill));
            let parts = [content.to_vec(), kind.to_le_bytes().to_vec(), occurred_at, backfill, payload];
            content = *blake3::hash(&parts.concat()).as_bytes();
            let parts = [
                history.to_vec(),
                content.to_vec(),
                event.revision.to_le_bytes().to_vec(),
                event.position.as_ref().unwrap().sequence.to_le_bytes().to_vec(),
                time(&event.accepted_at)[1..].to_vec(),
                flag(event.imported),
                time(&event.original_accepted_at),
                text(&event.actor),
                text(&event.retry_key),
            ];
            history = *blake3::hash(&parts.concat()).as_bytes();
        }
    }
    let request = v1::StreamFriendsRequest { channel_id: channel_id(), ..Default::default() };
    let mut stream = queries.stream_friends(request).await.unwrap().into_inner();
    // Adding 32-byte numbers with their carry, little endian.
    let mut list = [0_u8; 32];
    while let Some(chunk) = stream.message().await.unwrap() {
        for friend in chunk.friends {
            let consents = friend.consents().map(|consent| 1_u8 << (consent as u8 - 1)).sum::<u8>();
            let mut row = [&friend.friend_number.to_le_bytes()[..], &[friend.status as u8, consents]].concat();
            row.extend(text(&friend.user_key));
            for attribute in &friend.attributes {
                row.extend([text(&attribute.key), text(&attribute.value)].concat());
            }
            let mut carry = 0;
            for (byte, term) in list.iter_mut().zip(blake3::hash(&row).as_bytes()) {
                let sum = u16::from(*byte) + u16::from(*term) + carry;
                (*byte, carry) = (sum as u8, sum >> 8);
            }
        }
    }
    let request = v1::GetDigestsRequest { options: None, channel_id: channel_id(), revision: 0 };
    let digests = queries.get_digests(request).await.unwrap().into_inner().digests.unwrap();
    assert_eq!(digests.content_digest[..], content);
    assert_eq!(digests.history_digest[..], history);
    assert_eq!(digests.friend_list_digest[..], list);
}
