//! What the tests of this crate share: one sample and one strategy of every event kind, and golden files.

// Each test binary uses its own part.
#![allow(dead_code, unreachable_pub)]

use std::{fs, path::PathBuf};

use proptest::{collection::vec, option, prelude::*};
use roaring::RoaringBitmap;
use sillok_domain::{Attribute, Condition, Consent, Event, FriendSource, FrozenAudience, Rule, TimeWindow};

/// The bytes of a golden file. Files are never rewritten; with `SILLOK_NEW_GOLDEN` set a missing one is made of `bytes`.
pub fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("SILLOK_NEW_GOLDEN").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; for a new kind, make its file with SILLOK_NEW_GOLDEN=1 and commit it", path.display())
    })
}

fn attribute(key: &str, value: &str) -> Attribute {
    Attribute { key: key.into(), value: value.into() }
}

fn rule() -> Rule {
    Rule {
        all_of: vec![
            Condition { key: "age_band".into(), any_of: vec!["20-24".into(), "25-29".into()], negate: false },
            Condition { key: "grade".into(), any_of: vec!["vip".into()], negate: true },
        ],
    }
}

fn audience() -> FrozenAudience {
    let mut members = RoaringBitmap::new();
    members.insert_range(10..5_000);
    members.extend([7, 70_000, 70_003, 1_000_000]);
    FrozenAudience { members, as_of_revision: 5_012, excluded_without_consent: 3, excluded_blocked: 2 }
}

/// One of each kind, with the name of its golden file. Append only, like the kinds.
pub fn samples() -> Vec<(&'static str, Event)> {
    let window = TimeWindow { from: Some(1_700_000_000_000_000_000), until: Some(1_800_000_000_500_000_000) };
    vec![
        ("001-channel-opened", Event::ChannelOpened { name: "충주 찻집".into() }),
        ("002-channel-renamed", Event::ChannelRenamed { name: "Seongju tea".into() }),
        ("003-channel-suspended", Event::ChannelSuspended { reason: "spam".into() }),
        ("004-channel-resumed", Event::ChannelResumed),
        ("005-channel-closed", Event::ChannelClosed { reason: "moved".into() }),
        (
            "020-friend-added",
            Event::FriendAdded {
                friend_number: 300,
                user_key: "u-300".into(),
                source: FriendSource::Search,
                attributes: vec![attribute("gender", "f"), attribute("region", "전주")],
                consents: vec![Consent::Advertising, Consent::Night],
            },
        ),
        ("021-friend-blocked", Event::FriendBlocked { friend_number: 300 }),
        ("022-friend-unblocked", Event::FriendUnblocked { friend_number: 300 }),
        ("023-friend-removed", Event::FriendRemoved { friend_number: 300 }),
        (
            "024-attributes-set",
            Event::AttributesSet {
                friend_number: 300,
                set: vec![attribute("grade", "gold")],
                cleared: vec!["gender".into(), "region".into()],
            },
        ),
        ("025-consent-granted", Event::ConsentGranted { friend_number: 300, consent: Consent::Night }),
        ("026-consent-withdrawn", Event::ConsentWithdrawn { friend_number: 300, consent: Consent::Advertising }),
        (
            "060-push-accepted",
            Event::PushAccepted {
                friend_number: 300,
                text: "(광고) 오늘만 2,000원".into(),
                is_ad: true,
                unit_price_won: 15,
            },
        ),
        (
            "061-narrowcast-accepted",
            Event::NarrowcastAccepted {
                rule: Some(rule()),
                audience: audience(),
                text: "hello".into(),
                is_ad: false,
                unit_price_won: 15,
            },
        ),
        (
            "062-broadcast-accepted",
            Event::BroadcastAccepted {
                audience: audience(),
                text: "안녕하세요".into(),
                is_ad: false,
                unit_price_won: 0,
            },
        ),
        (
            "100-coupon-defined",
            Event::CouponDefined {
                coupon_id: "c1".into(),
                name: "첫 방문".into(),
                cap: 100,
                per_friend_limit: 1,
                window,
            },
        ),
        (
            "101-ticket-issued",
            Event::TicketIssued { coupon_id: "c1".into(), ticket_id: "c1.12.300".into(), friend_number: 300 },
        ),
        (
            "102-tickets-issued",
            Event::TicketsIssued { coupon_id: "c1".into(), rule: None, audience: audience(), excluded_at_limit: 9 },
        ),
        (
            "103-ticket-redeemed",
            Event::TicketRedeemed { coupon_id: "c1".into(), ticket_id: "c1.12.300".into(), friend_number: 300 },
        ),
        (
            "104-redemption-reversed",
            Event::RedemptionReversed {
                coupon_id: "c1".into(),
                ticket_id: "c1.12.300".into(),
                friend_number: 300,
                reason: "wrong till".into(),
            },
        ),
        (
            "105-ticket-voided",
            Event::TicketVoided {
                coupon_id: "c1".into(),
                ticket_id: "c1.12.300".into(),
                friend_number: 300,
                reason: "lost".into(),
            },
        ),
        (
            "106-ticket-expired",
            Event::TicketExpired { coupon_id: "c1".into(), ticket_id: "c1.12.300".into(), friend_number: 300 },
        ),
        ("107-coupon-closed", Event::CouponClosed { coupon_id: "c1".into(), reason: "over".into() }),
    ]
}

fn any_attributes() -> impl Strategy<Value = Vec<Attribute>> {
    vec(("[a-z0-9_]{1,32}", "\\PC{1,20}"), 0..5)
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| Attribute { key, value }).collect())
}

fn any_source() -> impl Strategy<Value = FriendSource> {
    use FriendSource as S;
    prop::sample::select(vec![S::Unspecified, S::OfflineEvent, S::FriendEvent, S::Ad, S::Search, S::Import, S::Other])
}

fn any_consent() -> impl Strategy<Value = Consent> {
    prop::sample::select(vec![Consent::Advertising, Consent::Night])
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let condition = ("[a-z]{1,8}", vec("\\PC{1,8}", 1..3), any::<bool>()).prop_map(|(key, any_of, negate)| Condition {
        key,
        any_of,
        negate,
    });
    vec(condition, 0..3).prop_map(|all_of| Rule { all_of })
}

fn any_audience() -> impl Strategy<Value = FrozenAudience> {
    let members = prop_oneof![
        vec(any::<u32>(), 0..20).prop_map(|numbers| numbers.into_iter().collect::<RoaringBitmap>()),
        (0_u32..200_000, 0_u32..200_000, 1_usize..9)
            .prop_map(|(from, length, step)| (from..from + length).step_by(step).collect()),
    ];
    (members, any::<[u64; 3]>()).prop_map(|(members, [as_of_revision, excluded_without_consent, excluded_blocked])| {
        FrozenAudience { members, as_of_revision, excluded_without_consent, excluded_blocked }
    })
}

/// An event of any kind.
pub fn any_event() -> impl Strategy<Value = Event> {
    let text = || "\\PC{0,40}";
    let id = || "[A-Za-z0-9._:-]{1,20}";
    let channel = prop_oneof![
        text().prop_map(|name| Event::ChannelOpened { name }),
        text().prop_map(|name| Event::ChannelRenamed { name }),
        text().prop_map(|reason| Event::ChannelSuspended { reason }),
        Just(Event::ChannelResumed),
        text().prop_map(|reason| Event::ChannelClosed { reason }),
    ];
    let friend = prop_oneof![
        (any::<u32>(), "[!-~]{1,128}", any_source(), any_attributes(), vec(any_consent(), 0..3)).prop_map(
            |(friend_number, user_key, source, attributes, consents)| Event::FriendAdded {
                friend_number,
                user_key,
                source,
                attributes,
                consents
            }
        ),
        any::<u32>().prop_map(|friend_number| Event::FriendBlocked { friend_number }),
        any::<u32>().prop_map(|friend_number| Event::FriendUnblocked { friend_number }),
        any::<u32>().prop_map(|friend_number| Event::FriendRemoved { friend_number }),
        (any::<u32>(), any_attributes(), vec("[a-z_]{1,8}", 0..3))
            .prop_map(|(friend_number, set, cleared)| Event::AttributesSet { friend_number, set, cleared }),
        (any::<u32>(), any_consent())
            .prop_map(|(friend_number, consent)| Event::ConsentGranted { friend_number, consent }),
        (any::<u32>(), any_consent())
            .prop_map(|(friend_number, consent)| Event::ConsentWithdrawn { friend_number, consent }),
    ];
    let message = prop_oneof![
        (any::<u32>(), text(), any::<bool>(), any::<i64>()).prop_map(|(friend_number, text, is_ad, unit_price_won)| {
            Event::PushAccepted { friend_number, text, is_ad, unit_price_won }
        }),
        (option::of(any_rule()), any_audience(), text(), any::<bool>(), any::<i64>()).prop_map(
            |(rule, audience, text, is_ad, unit_price_won)| Event::NarrowcastAccepted {
                rule,
                audience,
                text,
                is_ad,
                unit_price_won
            }
        ),
        (any_audience(), text(), any::<bool>(), any::<i64>()).prop_map(|(audience, text, is_ad, unit_price_won)| {
            Event::BroadcastAccepted { audience, text, is_ad, unit_price_won }
        }),
    ];
    let ticket = move || (id(), id(), any::<u32>());
    let coupon = prop_oneof![
        (id(), text(), any::<u64>(), any::<u32>(), option::of(any::<i64>()), option::of(any::<i64>())).prop_map(
            |(coupon_id, name, cap, per_friend_limit, from, until)| Event::CouponDefined {
                coupon_id,
                name,
                cap,
                per_friend_limit,
                window: TimeWindow { from, until }
            }
        ),
        ticket().prop_map(|(coupon_id, ticket_id, friend_number)| Event::TicketIssued {
            coupon_id,
            ticket_id,
            friend_number
        }),
        (id(), option::of(any_rule()), any_audience(), any::<u64>()).prop_map(
            |(coupon_id, rule, audience, excluded_at_limit)| Event::TicketsIssued {
                coupon_id,
                rule,
                audience,
                excluded_at_limit
            }
        ),
        ticket().prop_map(|(coupon_id, ticket_id, friend_number)| Event::TicketRedeemed {
            coupon_id,
            ticket_id,
            friend_number
        }),
        (ticket(), text()).prop_map(|((coupon_id, ticket_id, friend_number), reason)| Event::RedemptionReversed {
            coupon_id,
            ticket_id,
            friend_number,
            reason
        }),
        (ticket(), text()).prop_map(|((coupon_id, ticket_id, friend_number), reason)| Event::TicketVoided {
            coupon_id,
            ticket_id,
            friend_number,
            reason
        }),
        ticket().prop_map(|(coupon_id, ticket_id, friend_number)| Event::TicketExpired {
            coupon_id,
            ticket_id,
            friend_number
        }),
        (id(), text()).prop_map(|(coupon_id, reason)| Event::CouponClosed { coupon_id, reason }),
    ];
    prop_oneof![channel, friend, message, coupon]
}
