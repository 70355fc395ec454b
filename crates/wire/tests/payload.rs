//! Events survive their bytes, and the bytes of old releases decode for ever.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::Message as _;
use sillok_domain::Event;
use sillok_wire::{
    PayloadError, decode_payload, decode_to_fold, encode_payload, event_kind, json, payload_from_proto,
    payload_to_proto, peek_event_kind, v1,
};
use support::{any_event, golden, samples};

proptest! {
    #[test]
    fn an_event_survives_its_bytes(event in any_event()) {
        let mut bytes = Vec::new();
        encode_payload(&event, &mut bytes);
        prop_assert_eq!(peek_event_kind(&bytes), Some(event_kind(&event)));
        let back = decode_payload(&bytes).unwrap();
        prop_assert_eq!(&back, &event);
        let mut again = Vec::new();
        encode_payload(&back, &mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn an_event_survives_json(event in any_event()) {
        // Times outside the years 1 to 9999 have no RFC 3339 form; every UnixNanos is inside.
        let payload = payload_to_proto(&event);
        let text = json::to_string(&payload, "sillok.v1.Payload").unwrap();
        let back: v1::Payload = json::from_str("sillok.v1.Payload", &text).unwrap();
        prop_assert_eq!(back, payload);
    }

    #[test]
    fn cut_bytes_are_never_taken_for_the_event(event in any_event(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        encode_payload(&event, &mut bytes);
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert_ne!(decode_payload(cut), Ok(event));
    }
}

/// What folding is given of these bytes, by way of the generated code.
fn without_text(bytes: &[u8]) -> Result<Event, PayloadError> {
    let mut event = decode_payload(bytes)?;
    if let Event::PushAccepted { text, .. } = &mut event {
        text.clear();
    }
    Ok(event)
}

fn any_push() -> impl Strategy<Value = Event> {
    (any::<u32>(), "\\PC{0,200}", any::<bool>(), any::<i64>()).prop_map(
        |(friend_number, text, is_ad, unit_price_won)| Event::PushAccepted {
            friend_number,
            text,
            is_ad,
            unit_price_won,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn folding_is_given_what_the_generated_code_gives_but_the_text(
        event in prop_oneof![any_event(), any_push(), any_push()],
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 0..3),
    ) {
        let mut bytes = Vec::new();
        encode_payload(&event, &mut bytes);
        prop_assert_eq!(decode_to_fold(&bytes), without_text(&bytes));
        for (at, change, byte) in changes {
            let at = at.index(bytes.len() + 1);
            match change {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        match (decode_to_fold(&bytes), without_text(&bytes)) {
            // Where the generated code reads bytes that nobody writes, the text may stay.
            (Ok(Event::PushAccepted { friend_number, is_ad, unit_price_won, .. }), expected) => {
                let text = String::new();
                prop_assert_eq!(Ok(Event::PushAccepted { friend_number, text, is_ad, unit_price_won }), expected);
            }
            (given, expected) => prop_assert_eq!(given, expected),
        }
    }
}

/// Parts of a push in any order and number, each of them sound: a later number replaces the first, personal data is merged.
#[test]
fn a_push_in_pieces_is_folded_as_the_generated_code_reads_it() {
    let push = |parts: &[&[u8]]| [&[0xe2, 0x03, parts.concat().len() as u8][..], &parts.concat()].concat();
    let (one, two): (&[u8], &[u8]) = (&[0x08, 1], &[0x08, 0x82, 0x80, 0x80, 0x80, 0x10]);
    let text: &[u8] = &[0x22, 5, 0x0a, 3, 0x1a, 1, b'a'];
    let cleared: &[u8] = &[0x22, 5, 0x0a, 3, 0x22, 1, b'k'];
    let sealed: &[u8] = &[0x22, 2, 0x12, 0];
    let cases: [&[&[u8]]; 9] = [
        &[text],
        &[text, one, two],
        &[text, text],
        &[text, cleared],
        &[cleared],
        &[sealed],
        &[one],
        &[&[0x10, 7, 0x18, 5], text],
        &[text, &[0x7a, 0]],
    ];
    for parts in cases {
        let bytes = push(parts);
        let folded = decode_to_fold(&bytes).map(|event| match event {
            Event::PushAccepted { friend_number, is_ad, unit_price_won, .. } => {
                Event::PushAccepted { friend_number, text: String::new(), is_ad, unit_price_won }
            }
            other => other,
        });
        assert_eq!(folded, without_text(&bytes), "{bytes:x?}");
    }
    let twice = [push(&[text]), push(&[text])].concat();
    assert!(decode_to_fold(&twice).is_ok() && decode_payload(&twice).is_ok(), "oneof fields are merged");
}

#[test]
fn golden_files_decode_and_encode_to_the_same_bytes() {
    for (name, event) in samples() {
        let mut bytes = Vec::new();
        encode_payload(&event, &mut bytes);
        let stored = golden(&format!("payload/{name}.bin"), &bytes);
        assert_eq!(decode_payload(&stored).as_ref(), Ok(&event), "{name} decodes to something else");
        assert!(stored == bytes, "{name} encodes to other bytes: content digests of old channels would change");
    }
}

#[test]
fn there_is_a_sample_of_every_kind() {
    let pool = json::pool();
    let payload = pool.get_message_by_name("sillok.v1.Payload").unwrap();
    let kinds: BTreeSet<u32> = payload.fields().map(|field| field.number()).collect();
    let sampled: BTreeSet<u32> = samples().iter().map(|(_, event)| event_kind(event)).collect();
    assert_eq!(sampled, kinds);
    for (name, event) in samples() {
        assert_eq!(name[..3].parse::<u32>().unwrap(), event_kind(&event), "{name}");
    }
}

/// A node of an old version meets an event of a new one: it must stop, and never skip.
#[test]
fn an_unknown_kind_is_an_error() {
    // Field 180, an empty message.
    let unknown = [0xa2, 0x0b, 0x00];
    assert_eq!(peek_event_kind(&unknown), Some(180));
    assert_eq!(decode_payload(&unknown), Err(PayloadError::UnknownKind));
    assert_eq!(decode_payload(&[]), Err(PayloadError::UnknownKind));
}

#[test]
fn an_unknown_value_of_an_enumeration_is_an_error() {
    let granted = v1::ConsentGranted { friend_number: 1, consent: 3 };
    let payload = v1::Payload { event: Some(v1::payload::Event::ConsentGranted(granted)) };
    assert_eq!(payload_from_proto(payload), Err(PayloadError::UnknownValue { field: "consent", value: 3 }));
}

#[test]
fn sealed_personal_data_is_an_error() {
    let sealed = v1::Personal { form: Some(v1::personal::Form::Sealed(v1::PersonalSealed::default())) };
    let push = v1::PushAccepted { friend_number: 1, personal: Some(sealed), ..Default::default() };
    let payload = v1::Payload { event: Some(v1::payload::Event::PushAccepted(push)) };
    assert_eq!(payload_from_proto(payload), Err(PayloadError::Sealed));
}

#[test]
fn a_missing_part_is_an_error() {
    let broadcast = v1::BroadcastAccepted::default();
    let payload = v1::Payload { event: Some(v1::payload::Event::BroadcastAccepted(broadcast)) };
    assert_eq!(payload_from_proto(payload), Err(PayloadError::Missing("audience")));
    let bytes = v1::Payload {
        event: Some(v1::payload::Event::PushAccepted(v1::PushAccepted { friend_number: 1, ..Default::default() })),
    }
    .encode_to_vec();
    assert_eq!(decode_payload(&bytes), Err(PayloadError::Missing("personal")));
}

/// Personal data stands in `personal` and nowhere else, so that it can be sealed: why a ticket was taken back is about one
/// friend, and so are the names of attributes that were cleared.
#[test]
fn what_is_said_about_a_friend_is_personal() {
    let pool = json::pool();
    let payload = pool.get_message_by_name("sillok.v1.Payload").unwrap();
    for kind in payload.fields() {
        let message = kind.kind().as_message().unwrap().clone();
        if message.get_field_by_name("friend_number").is_none() {
            continue;
        }
        for field in message.fields() {
            let names = ["friend_number", "coupon_id", "ticket_id"];
            let is_text = field.kind().as_message().is_none() && matches!(field.kind(), prost_reflect::Kind::String);
            assert!(!is_text || names.contains(&field.name()), "{} of {}", field.name(), message.name());
        }
    }
}

#[test]
fn every_kind_has_its_feature_level() {
    let payload = json::pool().get_message_by_name("sillok.v1.Payload").unwrap();
    for kind in payload.fields() {
        let level = sillok_wire::level_of_kind(kind.number());
        assert!(
            level.is_some_and(|level| (1..=sillok_wire::records::FEATURE_LEVEL).contains(&level)),
            "{}",
            kind.name()
        );
    }
    assert_eq!(sillok_wire::level_of_kind(180), None);
}
