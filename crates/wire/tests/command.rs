//! A command comes through with all it says, and what is malformed is named field by field.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use sillok_domain::Intent;
use sillok_wire::{command_from_bytes, command_from_proto, command_name, fingerprint, json, records, v1};

fn context() -> v1::CommandContext {
    v1::CommandContext { retry_key: "k-1".into(), actor: "shop".into(), ..Default::default() }
}

fn push(context: Option<v1::CommandContext>) -> v1::Command {
    let body = v1::MessageBody { text: "안녕하세요".into(), is_ad: false, unit_price_won: 15 };
    v1::SendPushRequest { context, channel_id: "chungju".into(), user_key: "u-1".into(), body: Some(body) }.into()
}

fn fields(command: v1::Command) -> Vec<String> {
    let malformed = command_from_proto(command).unwrap_err();
    malformed.violations.into_iter().map(|violation| violation.field).collect()
}

#[test]
fn a_command_comes_through() {
    let command = push(Some(v1::CommandContext {
        occurred_at: Some(sillok_wire::timestamp(5)),
        expected_revision: 9,
        wait: v1::Wait::AllSites as i32,
        wait_at_most: Some(prost_types::Duration { seconds: 2, nanos: 500_000_000 }),
        ..context()
    }));
    let expected = fingerprint(&command);
    let submission = command_from_proto(command).unwrap();
    assert_eq!(submission.kind, 60);
    assert_eq!(submission.fingerprint, expected);
    assert_eq!(submission.key_hash, records::key_hash("chungju", "k-1"));
    assert_eq!((submission.wait, submission.wait_at_most), (v1::Wait::AllSites, Duration::from_millis(2_500)));
    assert!(!submission.validate_only);
    let command = submission.command;
    assert_eq!(command.channel_id, "chungju");
    assert_eq!((&*command.context.retry_key, &*command.context.actor), ("k-1", "shop"));
    assert_eq!(command.context.occurred_at, Some(5));
    assert_eq!(command.context.expected_revision, Some(9));
    let Intent::SendPush { user_key, body } = command.intent else { panic!("a push stays a push") };
    assert_eq!((&*user_key, &*body.text, body.unit_price_won), ("u-1", "안녕하세요", 15));
}

#[test]
fn what_is_left_out_has_its_default() {
    let submission = command_from_proto(push(Some(context()))).unwrap();
    assert_eq!((submission.wait, submission.wait_at_most), (v1::Wait::Quorum, Duration::from_secs(5)));
    assert_eq!(submission.command.context.expected_revision, None);
    assert_eq!(submission.command.context.occurred_at, None);
}

/// A quarter of them with something that few clients send.
fn any_context() -> impl Strategy<Value = v1::CommandContext> {
    let plain = ("[ -~]{0,66}", "[ -~]{0,3}", 0..4i32).prop_map(|(retry_key, actor, wait)| v1::CommandContext {
        retry_key,
        actor,
        wait,
        ..Default::default()
    });
    let rare = (0..3u64, any::<bool>(), any::<bool>(), prop::option::of(any::<i64>()), prop::option::of(0..70i64));
    (plain, prop::option::weighted(0.25, rare)).prop_map(|(plain, rare)| match rare {
        None => plain,
        Some((expected_revision, validate_only, backfill, occurred_at, wait)) => v1::CommandContext {
            expected_revision,
            validate_only,
            backfill,
            occurred_at: occurred_at.map(sillok_wire::timestamp),
            wait_at_most: wait.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..plain
        },
    })
}

fn any_push() -> impl Strategy<Value = v1::Command> {
    let body = ("\\PC{0,200}", any::<bool>(), any::<i64>()).prop_map(|(text, is_ad, unit_price_won)| v1::MessageBody {
        text,
        is_ad,
        unit_price_won,
    });
    let often = |one| prop::option::weighted(0.95, one);
    (often(any_context().boxed()), "[a-z0-9-]{0,66}", "\\PC{0,40}", prop::option::weighted(0.95, body)).prop_map(
        |(context, channel_id, user_key, body)| v1::SendPushRequest { context, channel_id, user_key, body }.into(),
    )
}

/// By way of the generated code.
fn generated(bytes: &[u8]) -> Option<String> {
    v1::Command::decode(bytes).ok().map(|command| format!("{:?}", command_from_proto(command)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_push_is_read_as_the_generated_code_reads_it(
        command in any_push(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 0..3),
    ) {
        let mut bytes = command.encode_to_vec();
        prop_assert_eq!(Some(format!("{:?}", command_from_bytes(bytes.clone().into()))), generated(&bytes));
        for (at, change, byte) in changes {
            let at = at.index(bytes.len() + 1);
            match change {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        let read = command_from_bytes(bytes.clone().into());
        match generated(&bytes) {
            Some(expected) => prop_assert_eq!(format!("{read:?}"), expected),
            None => prop_assert_eq!(&read.unwrap_err().violations[0].field, "command"),
        }
    }
}

/// Parts in any order and number, each of them sound: a later text replaces the first, messages are merged.
#[test]
fn a_push_in_pieces_is_read_as_the_generated_code_reads_it() {
    let part = |key: u8, bytes: &[u8]| [&[key, bytes.len() as u8], bytes].concat();
    let key = part(0x0a, b"k");
    let (context, other_context) = (part(0x0a, &key), part(0x0a, &part(0x12, b"actor")));
    let (body, other_body) = (part(0x22, &part(0x0a, b"text")), part(0x22, &[0x18, 5]));
    let (channel, other_channel) = (part(0x12, b"chungju"), part(0x12, b"jeonju"));
    let user = part(0x1a, b"u");
    let cases: [&[&[u8]]; 8] = [
        &[&context, &channel, &user, &body],
        &[&body, &user, &channel, &context],
        &[&context, &channel, &other_channel, &user, &body],
        &[&context, &other_context, &channel, &user, &body],
        &[&context, &channel, &user, &body, &other_body],
        &[&context, &channel, &user, &body, &[0x7a, 0]],
        &[&context, &channel, &user],
        &[&channel, &user, &body],
    ];
    for parts in cases {
        let bytes = [&[0xe2, 0x03, parts.concat().len() as u8][..], &parts.concat()].concat();
        let read = format!("{:?}", command_from_bytes(bytes.clone().into()));
        assert_eq!(Some(read), generated(&bytes), "{bytes:x?}");
        let twice = [&bytes[..], &bytes].concat();
        assert_eq!(Some(format!("{:?}", command_from_bytes(twice.clone().into()))), generated(&twice));
    }
}

#[test]
fn every_kind_has_its_number_and_name() {
    let command = json::pool().get_message_by_name("sillok.v1.Command").unwrap();
    assert!(command.fields().count() >= 24);
    for field in command.fields() {
        assert_eq!(command_name(field.number()), Some(field.name()));
        let text = format!(r#"{{"{}":{{"context":{{"retryKey":"k"}},"channelId":"jeonju"}}}}"#, field.json_name());
        let mut message: v1::Command = json::from_str("sillok.v1.Command", &text).unwrap();
        assert_eq!(message.kind(), field.number());
        assert_eq!(message.channel_id(), "jeonju");
        assert_eq!(message.context().unwrap().retry_key, "k");
        message.context_mut().unwrap().take();
        assert!(message.context().is_none());
    }
    assert_eq!(command_name(0), None);
    assert_eq!(v1::Command::default().kind(), 0);
}

#[test]
fn what_is_malformed_is_named() {
    assert_eq!(fields(v1::Command::default()), ["command"]);

    let mut no_body = push(Some(context()));
    if let Some(v1::command::Command::SendPush(push)) = &mut no_body.command {
        push.body = None;
    }
    assert_eq!(fields(no_body), ["body"]);

    let waits_long = v1::CommandContext {
        wait: 7,
        wait_at_most: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
        occurred_at: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        ..context()
    };
    assert_eq!(fields(push(Some(waits_long))), ["context.wait", "context.wait_at_most", "context.occurred_at"]);

    let friend = v1::AddFriendRequest {
        context: Some(context()),
        channel_id: "chungju".into(),
        user_key: "u".into(),
        source: 99,
        consents: vec![1, 0, 9],
        ..Default::default()
    };
    assert_eq!(fields(friend.into()), ["source", "consents[1]", "consents[2]"]);

    let consent = v1::GrantConsentRequest {
        context: Some(context()),
        channel_id: "chungju".into(),
        user_key: "u".into(),
        consent: 0,
    };
    assert_eq!(fields(consent.into()), ["consent"]);

    let narrowcast = v1::SendNarrowcastRequest {
        context: Some(context()),
        channel_id: "chungju".into(),
        audience: None,
        body: None,
    };
    assert_eq!(fields(narrowcast.into()), ["audience", "body"]);
}

#[test]
fn an_imported_audience_must_agree_with_itself() {
    let audience = sillok_domain::FrozenAudience {
        members: [1, 2, 3].into_iter().collect(),
        as_of_revision: 3,
        excluded_without_consent: 0,
        excluded_blocked: 0,
    };
    let event = sillok_domain::Event::BroadcastAccepted { audience, text: "x".into(), is_ad: false, unit_price_won: 0 };
    let import = |payload| -> v1::Command {
        let events = vec![v1::ImportedEvent { payload: Some(payload), ..Default::default() }];
        v1::ImportEventsRequest { context: Some(context()), channel_id: "chungju".into(), first_revision: 4, events }
            .into()
    };
    let payload = sillok_wire::payload_to_proto(&event);
    let submission = command_from_proto(import(payload.clone())).unwrap();
    let Intent::ImportEvents { events, .. } = submission.command.intent else { panic!("an import stays an import") };
    assert_eq!(events[0].event, event);

    // Whether it is the digest of the members is seen by the domain, once it knows that they are all friends.
    let digest = sillok_wire::audience_digest(&[1, 2, 3].into_iter().collect());
    assert_eq!(events[0].audience_digest, Some(digest));

    let mut forged = payload;
    let Some(v1::payload::Event::BroadcastAccepted(broadcast)) = &mut forged.event else { panic!("a broadcast") };
    broadcast.audience.as_mut().unwrap().digest = vec![0; 31].into();
    assert_eq!(fields(import(forged)), ["events[0].payload"]);
    assert_eq!(fields(import(v1::Payload::default())), ["events[0].payload"]);
}
