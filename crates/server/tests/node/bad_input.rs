//! Bad input: each gets its code, its reason and its outcome, and nothing is recorded by it.

use bytes::Bytes;
use prost_types::Timestamp;
use sillok_wire::{
    errors::{Outcome, outcome_of, reason_of, violations},
    v1::{self, Reason, get_friend_request::Who, read_events_request::Start},
};
use tonic::{Code, Status};

use crate::{
    shop::{self, SHOP},
    support::{key, single},
};

const NOT_RECORDED: Option<Outcome> = Some(Outcome::NotRecorded);
const REFUSED: Option<Outcome> = Some(Outcome::Refused);

fn channel_id() -> String {
    SHOP.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands() {
    let single = single().await;
    let mut commands = single.node.commands();
    shop::open(&mut commands).await;
    let mut wrong: Vec<String> = Vec::new();
    let mut check =
        |what: &str, got: Result<tonic::Response<v1::Receipt>, Status>, code, reason, outcome, field: &str| {
            let status = match got {
                Ok(receipt) => return wrong.push(format!("{what}: accepted with {receipt:?}")),
                Err(status) => status,
            };
            let said = (status.code(), reason_of(&status), outcome_of(&status));
            if said != (code, Some(reason), outcome) {
                wrong.push(format!("{what}: {said:?}, message {:?}", status.message()));
            }
            let fields: Vec<String> = violations(&status).into_iter().map(|violation| violation.field).collect();
            if !field.is_empty() && !fields.iter().any(|named| named.contains(field)) {
                wrong.push(format!("{what}: names {fields:?} and not {field}"));
            }
        };
    use Code::{FailedPrecondition as Precondition, InvalidArgument as Invalid};

    let open = |id: &str, retry_key: &str| shop::open_request(id, retry_key);
    for id in ["", "UPPER", "with space", "한글", &"x".repeat(65)] {
        let got = commands.open_channel(open(id, "k")).await;
        check(&format!("channel id {id:?}"), got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "channel_id");
    }
    for retry_key in ["", "키", &"k".repeat(65)] {
        let got = commands.open_channel(open("other", retry_key)).await;
        check(&format!("retry key {retry_key:?}"), got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "retry_key");
    }
    let mut request = open("other", "k");
    request.context = None;
    let got = commands.open_channel(request).await;
    check("no context", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "retry_key");
    for name in ["", &"이".repeat(101)] {
        let got = commands.open_channel(v1::OpenChannelRequest { name: name.to_owned(), ..open("other", "k") }).await;
        check(&format!("name of {} bytes", name.len()), got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "name");
    }
    let mut request = open("other", "k");
    request.context.as_mut().unwrap().wait = 77;
    let got = commands.open_channel(request).await;
    check("wait 77", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "wait");
    let mut request = open("other", "k");
    request.context.as_mut().unwrap().backfill = true;
    let got = commands.open_channel(request).await;
    check("backfill without a time", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "occurred_at");
    let mut request = open("other", "k");
    request.context.as_mut().unwrap().occurred_at = Some(Timestamp { seconds: 0, nanos: -1 });
    let got = commands.open_channel(request).await;
    check("a malformed time", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "occurred_at");

    for user_key in ["", "한글", &"u".repeat(129)] {
        let mut request = shop::add(user_key);
        request.context = key("k");
        let got = commands.add_friend(request).await;
        check(&format!("user key {user_key:?}"), got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "user_key");
    }
    let got = commands.add_friend(v1::AddFriendRequest { source: 99, ..shop::add("new") }).await;
    check("source 99", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "source");
    let got = commands.add_friend(v1::AddFriendRequest { consents: vec![0, 9], ..shop::add("new") }).await;
    check("consents 0 and 9", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "consents[1]");
    let attributes = vec![shop::attribute("Region!", "seoul")];
    let got = commands.add_friend(v1::AddFriendRequest { attributes, ..shop::add("new") }).await;
    check("an attribute's key", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "attributes");

    let got = commands.send_broadcast(v1::SendBroadcastRequest { body: None, ..shop::broadcast("k", "") }).await;
    check("no body", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "body");
    let got = commands.send_broadcast(shop::broadcast("k", &"가".repeat(2_001))).await;
    check("2,001 characters", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "text");
    let mut request = shop::broadcast("k", "x");
    request.body.as_mut().unwrap().unit_price_won = -1;
    let got = commands.send_broadcast(request).await;
    check("-1 won", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "unit_price_won");
    let got = commands.send_broadcast(shop::broadcast("k", &"x".repeat(5 << 20))).await;
    check("5 MiB", got, Invalid, Reason::BodyTooLarge, NOT_RECORDED, "");

    // A bitmap of all numbers is a few hundred kilobytes; walking it once to hash its members is minutes of a node's thread.
    let mut members = roaring::RoaringBitmap::new();
    members.insert_range(1..=u32::MAX);
    let mut bytes = Vec::new();
    members.serialize_into(&mut bytes).unwrap();
    let audience = v1::FrozenAudience {
        members: bytes.into(),
        count: members.len(),
        digest: vec![0; 32].into(),
        as_of_revision: 4,
        ..Default::default()
    };
    let plain = v1::PersonalPlain { text: "x".to_owned(), ..Default::default() };
    let personal = Some(v1::Personal { form: Some(v1::personal::Form::Plain(plain)) });
    let broadcast = v1::BroadcastAccepted { audience: Some(audience), personal, ..Default::default() };
    let payload = v1::Payload { event: Some(v1::payload::Event::BroadcastAccepted(broadcast)) };
    let import = v1::ImportEventsRequest {
        context: key("k"),
        channel_id: channel_id(),
        first_revision: 5,
        events: vec![v1::ImportedEvent { payload: Some(payload), ..Default::default() }],
    };
    let got = commands.import_events(import).await;
    check("an audience of billions", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "events[0].payload.audience");
    // A client takes 16 KiB of trailers; beyond that it sees no `outcome`.
    let keys = v1::UserKeys { user_keys: vec!["한글".to_owned(); 10_000] };
    let request = v1::SendNarrowcastRequest {
        context: key("k"),
        channel_id: channel_id(),
        audience: Some(v1::Audience { kind: Some(v1::audience::Kind::UserKeys(keys)) }),
        body: shop::body("x"),
    };
    let got = commands.send_narrowcast(request).await;
    check("10,000 malformed keys", got, Invalid, Reason::InvalidCommand, NOT_RECORDED, "user_keys[0]");

    // What the domain refuses is recorded.
    let elsewhere = v1::SendBroadcastRequest { channel_id: "nowhere".to_owned(), ..shop::broadcast("r1", "x") };
    let got = commands.send_broadcast(elsewhere).await;
    check("an unknown channel", got, Code::NotFound, Reason::ChannelNotFound, REFUSED, "");
    let ticket = v1::RedeemTicketRequest { context: key("r2"), channel_id: channel_id(), ticket_id: "none".to_owned() };
    check(
        "an unknown ticket",
        commands.redeem_ticket(ticket).await,
        Code::NotFound,
        Reason::TicketNotFound,
        REFUSED,
        "",
    );
    let mut request = shop::broadcast("r3", "x");
    request.context.as_mut().unwrap().expected_revision = 99;
    let got = commands.send_broadcast(request).await;
    check("another revision", got, Code::Aborted, Reason::RevisionMismatch, REFUSED, "");
    let mut request = shop::broadcast("r4", "no label");
    request.body.as_mut().unwrap().is_ad = true;
    let got = commands.send_broadcast(request).await;
    check("an ad without its label", got, Precondition, Reason::AdLabelMissing, REFUSED, "");

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let request = v1::GetChannelRequest { options: None, channel_id: channel_id() };
    let channel = single.node.queries().get_channel(request).await.unwrap().into_inner().channel.unwrap();
    assert_eq!((channel.revision, channel.refused_count), (4, 3), "nothing else was recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries() {
    let single = single().await;
    shop::open(&mut single.node.commands()).await;
    let mut queries = single.node.queries();
    let mut wrong: Vec<String> = Vec::new();
    let mut check = |what: &str, status: Option<Status>, code: Code, reason: Reason| {
        let Some(status) = status else { return wrong.push(format!("{what}: answered")) };
        let said = (status.code(), reason_of(&status), outcome_of(&status));
        if said != (code, Some(reason), None) {
            wrong.push(format!("{what}: {said:?}, message {:?}", status.message()));
        }
        // "Nobody of that name" is an answer like any other: worth nothing unless it says what it speaks for.
        let facts = sillok_wire::errors::error_info(&status).map(|info| info.metadata).unwrap_or_default();
        let said = |fact: &str| facts.get(fact).map(String::as_str);
        let place = (said("sequence"), said("log"), said("consistency"), said("node_id"), said("site"));
        let is_placed = place == (Some("4"), Some("1"), Some("LINEARIZABLE"), Some("1"), Some("chungju"));
        let is_dated = said("last_event_at").is_some() && said("current_as_of").is_some();
        if code == NotFound && !(is_placed && is_dated) {
            wrong.push(format!("{what}: does not say what it speaks for: {facts:?}"));
        }
    };
    use Code::{InvalidArgument as Invalid, NotFound, OutOfRange};

    let channel = |id: &str| v1::GetChannelRequest { options: None, channel_id: id.to_owned() };
    check("an unknown channel", queries.get_channel(channel("nowhere")).await.err(), NotFound, Reason::ChannelNotFound);
    for id in ["", "UPPER", &"x".repeat(65)] {
        let got = queries.get_channel(channel(id)).await.err();
        check(&format!("channel id {id:?}"), got, Invalid, Reason::InvalidCommand);
    }
    let options = Some(v1::ReadOptions { consistency: 9, at_least: None });
    let got = queries.get_channel(v1::GetChannelRequest { options, ..channel(SHOP) }).await.err();
    check("consistency 9", got, Invalid, Reason::InvalidCommand);
    let at_least = Some(v1::Position { log: 2, sequence: 1, term: 0 });
    let options = Some(v1::ReadOptions { consistency: 0, at_least });
    let got = queries.get_channel(v1::GetChannelRequest { options, ..channel(SHOP) }).await.err();
    check("log 2", got, Invalid, Reason::InvalidCommand);

    let friend = |who| v1::GetFriendRequest { options: None, channel_id: channel_id(), who };
    check("nobody", queries.get_friend(friend(None)).await.err(), Invalid, Reason::InvalidCommand);
    let unknown = Some(Who::UserKey("nobody".to_owned()));
    check("an unknown key", queries.get_friend(friend(unknown)).await.err(), NotFound, Reason::FriendNotFound);
    let unknown = Some(Who::FriendNumber(99));
    check("an unknown number", queries.get_friend(friend(unknown)).await.err(), NotFound, Reason::FriendNotFound);
    let long = Some(Who::UserKey("u".repeat(129)));
    check("an overlong key", queries.get_friend(friend(long)).await.err(), Invalid, Reason::InvalidCommand);

    let list = |page_size, page_token: &str| v1::ListFriendsRequest {
        options: None,
        channel_id: channel_id(),
        filter: None,
        page_size,
        page_token: page_token.to_owned(),
    };
    let got = queries.list_friends(list(1_001, "")).await.err();
    check("a page of 1,001", got, Invalid, Reason::InvalidCommand);
    check("no page token", queries.list_friends(list(0, "zz")).await.err(), Invalid, Reason::PageTokenInvalid);
    let token = queries.list_friends(list(1, "")).await.unwrap().into_inner().next_page_token;
    let filter = Some(v1::FriendFilter { statuses: vec![v1::FriendStatus::Friend.into()], rule: None });
    let got = queries.list_friends(v1::ListFriendsRequest { filter, ..list(1, &token) }).await.err();
    check("a token of another filter", got, Invalid, Reason::PageTokenInvalid);
    let filter = Some(v1::FriendFilter { statuses: vec![42], rule: None });
    let got = queries.list_friends(v1::ListFriendsRequest { filter, ..list(1, "") }).await.err();
    check("status 42", got, Invalid, Reason::InvalidCommand);
    let rule = v1::Rule { all_of: vec![v1::Condition { key: "region".to_owned(), any_of: vec![], negate: false }] };
    let filter = Some(v1::FriendFilter { statuses: vec![], rule: Some(rule) });
    let request = v1::StreamFriendsRequest { options: None, channel_id: channel_id(), filter };
    check("a condition without values", queries.stream_friends(request).await.err(), Invalid, Reason::InvalidCommand);

    let request = v1::GetMessageRequest { options: None, channel_id: channel_id(), message_id: 2 };
    check("no message", queries.get_message(request).await.err(), NotFound, Reason::MessageNotFound);
    let request = v1::StreamRecipientsRequest { options: None, channel_id: channel_id(), message_id: 2 };
    check("recipients of none", queries.stream_recipients(request).await.err(), NotFound, Reason::MessageNotFound);
    let request =
        v1::ListMessagesRequest { channel_id: channel_id(), user_key: "nobody".to_owned(), ..Default::default() };
    check("messages of nobody", queries.list_messages(request).await.err(), NotFound, Reason::FriendNotFound);
    let coupon = |id: &str| v1::GetCouponRequest { options: None, channel_id: channel_id(), coupon_id: id.to_owned() };
    check("an unknown coupon", queries.get_coupon(coupon("none")).await.err(), NotFound, Reason::CouponNotFound);
    check("an empty coupon id", queries.get_coupon(coupon("")).await.err(), Invalid, Reason::InvalidCommand);
    let ticket = |id: &str| v1::GetTicketRequest { options: None, channel_id: channel_id(), ticket_id: id.to_owned() };
    check("an unknown ticket", queries.get_ticket(ticket("none")).await.err(), NotFound, Reason::TicketNotFound);
    check("a bad ticket id", queries.get_ticket(ticket("a b")).await.err(), Invalid, Reason::InvalidCommand);
    let request = v1::GetDigestsRequest { options: None, channel_id: channel_id(), revision: 99 };
    check("revision 99", queries.get_digests(request).await.err(), OutOfRange, Reason::RevisionNotAnswerable);
    let request = v1::FindByRetryKeyRequest { options: None, channel_id: channel_id(), retry_key: "k".repeat(65) };
    check("an overlong retry key", queries.find_by_retry_key(request).await.err(), Invalid, Reason::InvalidCommand);

    for (what, request, reason) in [
        (
            "a bad cursor",
            v1::ReadEventsRequest {
                start: Some(Start::AfterCursor(Bytes::from_static(b"not a cursor"))),
                ..Default::default()
            },
            Reason::CursorInvalid,
        ),
        (
            "a revision without a channel",
            v1::ReadEventsRequest { start: Some(Start::FromRevision(1)), ..Default::default() },
            Reason::InvalidCommand,
        ),
        (
            "1,001 channels",
            v1::ReadEventsRequest {
                channel_ids: (0..1_001).map(|number| format!("c{number}")).collect(),
                ..Default::default()
            },
            Reason::InvalidCommand,
        ),
    ] {
        let status = match queries.read_events(request).await {
            Err(status) => Some(status),
            Ok(stream) => stream.into_inner().message().await.err(),
        };
        check(what, status, Invalid, reason);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
