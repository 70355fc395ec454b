//! Every command once, through its unary call.

use prost_types::Timestamp;
use sillok_wire::{
    errors::{LEADER, Outcome},
    v1::{self, Reason, receipt::Detail},
};
use tonic::Code;

use crate::{
    shop::{self, SHOP, attribute, body},
    support::{assert_status, key, single},
};

fn at(year_seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: year_seconds, nanos: 0 })
}

const Y2020: i64 = 1_577_836_800;
const Y2021: i64 = 1_609_459_200;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_once() {
    let single = single().await;
    let mut commands = single.node.commands();
    let added = shop::open(&mut commands).await;
    assert_eq!(added.revision, 4);
    assert_eq!(added.detail, Some(Detail::Friend(v1::FriendDetail { friend_number: 3 })));
    let durability = added.durability.unwrap();
    assert!(durability.all_sites);
    assert_eq!(*durability.sites, [v1::SiteDurability { site: "chungju".to_owned(), nodes: vec![1] }]);

    macro_rules! accepted {
        ($call:ident, $retry_key:literal, $request:ident { $($field:ident: $value:expr),* $(,)? }) => {{
            let request =
                v1::$request { context: key($retry_key), channel_id: SHOP.to_owned(), $($field: $value),* };
            let response = commands.$call(request).await.unwrap_or_else(|status| panic!("{}: {status:?}", $retry_key));
            assert_eq!(response.metadata().get(LEADER).unwrap(), single.node.config.listen.client.to_string().as_str());
            response.into_inner()
        }};
    }

    let renamed = accepted!(rename_channel, "rename", RenameChannelRequest { name: "큰 가게".to_owned() });
    assert_eq!(renamed.revision, 5);
    accepted!(suspend_channel, "suspend", SuspendChannelRequest { reason: "holiday".to_owned() });
    let refused = commands.send_broadcast(shop::broadcast("while-suspended", "no")).await.unwrap_err();
    assert_status(&refused, Code::FailedPrecondition, Reason::ChannelSuspended, Some(Outcome::Refused));
    accepted!(resume_channel, "resume", ResumeChannelRequest {});

    let b = || "b".to_owned();
    accepted!(block_friend, "block", BlockFriendRequest { user_key: b() });
    accepted!(unblock_friend, "unblock", UnblockFriendRequest { user_key: b() });
    accepted!(remove_friend, "remove", RemoveFriendRequest { user_key: b() });
    let again = commands.add_friend(v1::AddFriendRequest { context: key("again"), ..shop::add("b") }).await;
    let number = Detail::Friend(v1::FriendDetail { friend_number: 2 });
    assert_eq!(again.unwrap().into_inner().detail, Some(number), "the number is kept");
    accepted!(
        set_attributes,
        "attributes",
        SetAttributesRequest { user_key: b(), set: vec![attribute("grade", "gold")], clear: vec![] }
    );
    let consent = v1::Consent::Night.into();
    accepted!(grant_consent, "grant", GrantConsentRequest { user_key: b(), consent: consent });
    accepted!(withdraw_consent, "withdraw", WithdrawConsentRequest { user_key: b(), consent: consent });

    let push = accepted!(send_push, "push", SendPushRequest { user_key: b(), body: body("한 사람에게") });
    let Some(Detail::Send(sent)) = push.detail else { panic!("{push:?}") };
    assert_eq!((sent.message_id, sent.audience_count, sent.cost_won), (push.revision, 1, 15));
    let narrow = accepted!(
        send_narrowcast,
        "narrow",
        SendNarrowcastRequest { audience: shop::audience(shop::rule("region", "seoul")), body: body("서울에게") }
    );
    let Some(Detail::Send(sent)) = narrow.detail else { panic!("{narrow:?}") };
    assert_eq!((sent.audience_count, sent.cost_won), (2, 30));
    let broad = accepted!(send_broadcast, "broad", SendBroadcastRequest { body: body("모두에게") });
    let Some(Detail::Send(sent)) = broad.detail else { panic!("{broad:?}") };
    assert_eq!((sent.audience_count, sent.cost_won), (3, 45));

    let coupon = accepted!(
        define_coupon,
        "coupon",
        DefineCouponRequest {
            coupon_id: "c".to_owned(),
            name: "10%".to_owned(),
            cap: 10,
            per_friend_limit: 2,
            window: None,
        }
    );
    assert_eq!(coupon.detail, Some(Detail::Coupon(v1::CouponDetail { coupon_id: "c".to_owned() })));
    let (c, t) = (|| "c".to_owned(), || "t".to_owned());
    accepted!(issue_ticket, "issue", IssueTicketRequest { coupon_id: c(), user_key: b(), ticket_id: t() });
    let many = accepted!(
        issue_tickets,
        "issues",
        IssueTicketsRequest { coupon_id: c(), audience: shop::audience(v1::Rule::default()) }
    );
    let Some(Detail::Ticket(issued)) = &many.detail else { panic!("{many:?}") };
    assert_eq!(issued.issued_count, 3);
    accepted!(redeem_ticket, "redeem", RedeemTicketRequest { ticket_id: t() });
    let reason = || "mistake".to_owned();
    accepted!(reverse_redemption, "reverse", ReverseRedemptionRequest { ticket_id: t(), reason: reason() });
    accepted!(void_ticket, "void", VoidTicketRequest { ticket_id: t(), reason: reason() });
    accepted!(close_coupon, "close-coupon", CloseCouponRequest { coupon_id: c(), reason: reason() });

    // A coupon of 2020, issued then and expired now.
    accepted!(
        define_coupon,
        "coupon-2020",
        DefineCouponRequest {
            coupon_id: "old".to_owned(),
            name: "2020".to_owned(),
            cap: 1,
            per_friend_limit: 0,
            window: Some(v1::TimeWindow { from: at(Y2020), until: at(Y2021) }),
        }
    );
    let mut context = key("issue-2020").unwrap();
    (context.occurred_at, context.backfill) = (at(Y2020 + 60), true);
    let issue = v1::IssueTicketRequest {
        context: Some(context),
        channel_id: SHOP.to_owned(),
        coupon_id: "old".to_owned(),
        user_key: "a".to_owned(),
        ticket_id: "old-1".to_owned(),
    };
    commands.issue_ticket(issue).await.unwrap();
    accepted!(expire_ticket, "expire", ExpireTicketRequest { ticket_id: "old-1".to_owned() });

    let payload = v1::payload::Event::ChannelOpened(v1::ChannelOpened { name: "copy".to_owned() });
    let imported = v1::ImportEventsRequest {
        context: key("import"),
        channel_id: "copy".to_owned(),
        first_revision: 1,
        events: vec![v1::ImportedEvent { payload: Some(v1::Payload { event: Some(payload) }), ..Default::default() }],
    };
    let imported = commands.import_events(imported).await.unwrap().into_inner();
    assert_eq!(imported.detail, Some(Detail::Import(v1::ImportDetail { imported_count: 1 })));

    accepted!(close_channel, "close", CloseChannelRequest { reason: reason() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_original_answer_and_another_body_is_refused() {
    let single = single().await;
    let mut commands = single.node.commands();
    let opened = commands.open_channel(shop::open_request(SHOP, "open")).await.unwrap().into_inner();
    assert!(!opened.is_retry());
    let again = commands.open_channel(shop::open_request(SHOP, "open")).await.unwrap().into_inner();
    assert!(again.is_retry());
    assert_eq!(v1::Receipt { durability: opened.durability.clone(), ..again }, opened);

    let refused = commands.open_channel(shop::open_request(SHOP, "open-2")).await.unwrap_err();
    assert_status(&refused, Code::AlreadyExists, Reason::ChannelAlreadyOpen, Some(Outcome::Refused));
    let same = commands.open_channel(shop::open_request(SHOP, "open-2")).await.unwrap_err();
    assert_eq!((same.message(), same.details()), (refused.message(), refused.details()));

    let mut other = shop::open_request(SHOP, "open");
    other.name = "another".to_owned();
    let reused = commands.open_channel(other).await.unwrap_err();
    assert_status(&reused, Code::FailedPrecondition, Reason::RetryKeyReused, Some(Outcome::NotRecorded));
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_only_decides_and_records_nothing() {
    let single = single().await;
    let mut commands = single.node.commands();
    shop::open(&mut commands).await;
    let mut request = shop::broadcast("dry", "안녕");
    request.context.as_mut().unwrap().validate_only = true;
    let receipt = commands.send_broadcast(request.clone()).await.unwrap().into_inner();
    assert_eq!(receipt.position, None);
    let Some(Detail::Send(sent)) = receipt.detail else { panic!("{receipt:?}") };
    assert_eq!((sent.audience_count, sent.cost_won), (3, 45));
    // The key is still free.
    request.context.as_mut().unwrap().validate_only = false;
    let receipt = commands.send_broadcast(request).await.unwrap().into_inner();
    assert!(!receipt.is_retry() && receipt.revision == 5);
}
