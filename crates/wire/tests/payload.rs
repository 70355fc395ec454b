//! Events survive their bytes, and the bytes of old releases decode for ever.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::Message as _;
use sillok_wire::{
    PayloadError, decode_payload, encode_payload, event_kind, json, payload_from_proto, payload_to_proto,
    peek_event_kind, v1,
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
