//! A record built piece by piece is the record prost writes, and everything read of it agrees.

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use sillok_domain::{Event, Reason, Refusal, command::ImportedEvent};
use sillok_wire::{
    encode_payload, event_to_proto, receipt, record,
    records::{self, DecisionView, NewDecision, NewOutcome, RecordBuilder, RecordView},
    refusal_to_proto, refused_to_proto, v1,
};
use support::{any_event, golden, samples};

/// A decision that owns what [`NewDecision`] borrows.
#[derive(Debug, Clone)]
struct Decided {
    channel_id: String,
    retry_key: String,
    fingerprint: [u8; 16],
    actor: String,
    occurred_at: Option<i64>,
    backfill: bool,
    command_kind: u32,
    first_revision: u64,
    outcome: Result<Vec<Event>, Refusal>,
    imported: bool,
}

impl Decided {
    fn imports(&self) -> Vec<ImportedEvent> {
        match &self.outcome {
            Ok(events) if self.imported => events
                .iter()
                .enumerate()
                .map(|(at, event)| ImportedEvent {
                    event: event.clone(),
                    occurred_at: (at % 2 == 0).then_some(at as i64 - 1),
                    backfill: at % 3 == 0,
                    accepted_at: (at % 2 == 1).then_some(1_600_000_000_000_000_000 + at as i64),
                    audience_digest: None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn push(&self, builder: &mut RecordBuilder) -> u64 {
        let imported = self.imports();
        builder.push(&NewDecision {
            channel_id: &self.channel_id,
            retry_key: &self.retry_key,
            key_hash: records::key_hash(&self.channel_id, &self.retry_key),
            fingerprint: &self.fingerprint,
            actor: &self.actor,
            occurred_at: self.occurred_at,
            backfill: self.backfill,
            command_kind: self.command_kind,
            outcome: match &self.outcome {
                Ok(events) => NewOutcome::Events { first_revision: self.first_revision, events },
                Err(refusal) => NewOutcome::Refused(refusal),
            },
            imported: &imported,
        })
    }

    fn proto(&self) -> record::Decision {
        let encoded = |event: &Event| {
            let mut bytes = Vec::new();
            encode_payload(event, &mut bytes);
            Bytes::from(bytes)
        };
        let times = self.imports().into_iter();
        record::Decision {
            channel_id: self.channel_id.clone(),
            retry_key: self.retry_key.clone(),
            fingerprint: Bytes::copy_from_slice(&self.fingerprint),
            actor: self.actor.clone(),
            occurred_at_unix_nanos: self.occurred_at,
            backfill: self.backfill,
            command_kind: self.command_kind,
            first_revision: if self.outcome.is_ok() { self.first_revision } else { 0 },
            events: self.outcome.iter().flatten().map(encoded).collect(),
            refused: self.outcome.as_ref().err().map(refused_to_proto),
            imported: times
                .map(|time| record::ImportedTime {
                    occurred_at_unix_nanos: time.occurred_at,
                    backfill: time.backfill,
                    accepted_at_unix_nanos: time.accepted_at,
                })
                .collect(),
        }
    }
}

fn any_decided() -> impl Strategy<Value = Decided> {
    let refusal = ("\\PC{0,30}", option::of("[a-z]{1,9}")).prop_map(|(message, fact)| Refusal {
        reason: Reason::AlreadyFriend,
        message,
        metadata: fact.map(|fact| ("friend_number", fact)).into_iter().collect(),
    });
    let outcome = prop_oneof![
        4 => vec(any_event(), 1..4).prop_map(Ok),
        1 => refusal.prop_map(Err),
    ];
    (
        "[a-z0-9-]{1,64}",
        "[!-~]{1,64}",
        any::<[u8; 16]>(),
        "[!-~]{0,20}",
        option::of(any::<i64>()),
        any::<bool>(),
        prop_oneof![Just(20_u32), Just(200), any::<u32>()],
        any::<u32>(),
        outcome,
        any::<bool>(),
    )
        .prop_map(|parts| Decided {
            channel_id: parts.0,
            retry_key: parts.1,
            fingerprint: parts.2,
            actor: parts.3,
            occurred_at: parts.4,
            backfill: parts.5,
            command_kind: parts.6,
            first_revision: u64::from(parts.7),
            outcome: parts.8,
            imported: parts.9,
        })
}

fn proto(decisions: &[Decided], predecessor: [u8; 32], first_sequence: u64, accepted_at: i64) -> record::Record {
    record::Record {
        predecessor: Bytes::copy_from_slice(&predecessor),
        feature_level: records::FEATURE_LEVEL,
        first_sequence,
        accepted_at_unix_nanos: accepted_at as u64,
        key_hashes: decisions.iter().map(|d| records::key_hash(&d.channel_id, &d.retry_key)).collect(),
        decisions: decisions.iter().map(Decided::proto).collect(),
        recovery: None,
    }
}

/// Lengths of decisions that take one byte, two, three and four.
#[test]
fn a_decision_of_any_length_stands_in_its_place() {
    let decided = |text_bytes| Decided {
        channel_id: "jeonju".to_owned(),
        retry_key: "k".to_owned(),
        fingerprint: [1; 16],
        actor: String::new(),
        occurred_at: None,
        backfill: false,
        command_kind: 60,
        first_revision: 1,
        outcome: Ok(vec![Event::PushAccepted {
            friend_number: 1,
            text: "x".repeat(text_bytes),
            is_ad: false,
            unit_price_won: 15,
        }]),
        imported: false,
    };
    let decisions: Vec<Decided> =
        [0, 60, 70, 80, 200, 16_300, 16_330, 20_000, 3_000_000, 200, 0].into_iter().map(decided).collect();
    let mut builder = RecordBuilder::new();
    for decision in &decisions {
        decision.push(&mut builder);
    }
    let built = builder.finish(&[0; 32], 1, 5);
    assert!(built == records::encode(&proto(&decisions, [0; 32], 1, 5)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_read_of_a_record_agrees(
        decisions in vec(any_decided(), 0..6),
        predecessor: [u8; 32],
        first_sequence in 0_u64..u64::MAX / 2,
        accepted_at: i64,
    ) {
        let expected = proto(&decisions, predecessor, first_sequence, accepted_at);

        let mut builder = RecordBuilder::new();
        let offsets: Vec<u64> = decisions.iter().map(|decision| decision.push(&mut builder)).collect();
        let (positions, at_most) = (builder.positions(), builder.size_bytes());
        let built = builder.finish(&predecessor, first_sequence, accepted_at);
        prop_assert!(built.len() <= at_most);
        prop_assert!(builder.is_empty() && builder.positions() == 0);

        prop_assert_eq!(&built, &records::encode(&expected));
        prop_assert_eq!(&records::decode(built.clone()).unwrap(), &expected);

        prop_assert_eq!(records::peek_predecessor(&built).unwrap(), predecessor);
        let header = records::peek_header(&built).unwrap();
        prop_assert_eq!(header.predecessor, predecessor);
        prop_assert_eq!(header.feature_level, records::FEATURE_LEVEL);
        prop_assert_eq!(header.first_sequence, first_sequence);
        prop_assert_eq!(header.accepted_at, accepted_at);
        let mut hashes = Vec::new();
        records::peek_key_hashes(&built, &mut hashes).unwrap();
        prop_assert_eq!(&hashes, &expected.key_hashes);
        prop_assert_eq!(records::count_positions(&built).unwrap(), positions);

        let view = RecordView::new(&built).unwrap();
        prop_assert_eq!(view.header, header);
        let views: Vec<DecisionView<'_>> = view.decisions().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(views.len(), decisions.len());
        let mut offset = 0;
        for ((view, decision), pushed_at) in views.iter().zip(&expected.decisions).zip(offsets) {
            prop_assert_eq!(view, &DecisionView::of(decision, offset).unwrap());
            prop_assert_eq!(offset, pushed_at);
            offset += view.positions();
        }
        prop_assert_eq!(offset, positions);
    }

    #[test]
    fn bytes_that_are_no_record_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = records::peek_header(&bytes);
        let _ = records::count_positions(&bytes);
        if let Ok(view) = RecordView::new(&bytes) {
            prop_assert!(view.decisions().count() <= bytes.len());
        }
    }

    #[test]
    fn a_cut_record_is_an_error_or_ends_between_decisions(
        decisions in vec(any_decided(), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = records::encode(&proto(&decisions, [1; 32], 9, 1));
        let cut = whole.slice(..cut.index(whole.len()));
        if let Ok(view) = RecordView::new(&cut) {
            let all: Result<Vec<_>, _> = view.decisions().collect();
            prop_assert!(all.is_err() || all.unwrap().len() < decisions.len());
        }
    }
}

/// One record with a decision of each event kind, one refusal and one import.
fn golden_decisions() -> Vec<Decided> {
    let one = |outcome, kind, at: u64| Decided {
        channel_id: "chungju".into(),
        retry_key: format!("key-{at}"),
        fingerprint: [1; 16],
        actor: "shop".into(),
        occurred_at: at.is_multiple_of(2).then_some(1_700_000_000_000_000_000 + at as i64),
        backfill: at.is_multiple_of(4),
        command_kind: kind,
        first_revision: at,
        outcome,
        imported: false,
    };
    let mut all: Vec<Decided> =
        samples().into_iter().zip(1..).map(|((_, event), at)| one(Ok(vec![event]), 20, at)).collect();
    let refusal = Refusal {
        reason: Reason::TicketAlreadyRedeemed,
        message: "ticket c1.12.300 is redeemed already, at revision 19".into(),
        metadata: vec![("redeemed_revision", "19".into()), ("ticket_id", "c1.12.300".into())],
    };
    all.push(one(Err(refusal), 103, 100));
    let events = samples().into_iter().take(3).map(|(_, event)| event).collect();
    all.push(Decided { imported: true, ..one(Ok(events), 200, 101) });
    all
}

#[test]
fn golden_record_decodes_and_encodes_to_the_same_bytes() {
    let expected = proto(&golden_decisions(), [7; 32], 1_000, 1_750_000_000_123_456_789);
    let bytes = records::encode(&expected);
    let stored = Bytes::from(golden("record.bin", &bytes));
    assert_eq!(records::decode(stored.clone()).unwrap(), expected);
    assert!(stored == bytes, "the record encodes to other bytes");

    let mut builder = RecordBuilder::new();
    for decision in golden_decisions() {
        decision.push(&mut builder);
    }
    assert!(builder.finish(&[7; 32], 1_000, 1_750_000_000_123_456_789) == stored);
}

#[test]
fn hash_and_key_hash_are_stable() {
    let stored = golden("record.bin", &[]);
    assert_eq!(records::hash(&stored), *blake3::hash(&stored).as_bytes());
    let mut bytes = b"chungju".to_vec();
    bytes.push(0);
    bytes.extend_from_slice(b"key-1");
    let first: [u8; 8] = blake3::hash(&bytes).as_bytes()[..8].try_into().unwrap();
    assert_eq!(records::key_hash("chungju", "key-1"), u64::from_le_bytes(first));
    // The separator keeps ("a", "bc") and ("ab", "c") apart.
    assert_ne!(records::key_hash("a", "bc"), records::key_hash("ab", "c"));
}

#[test]
fn a_front_out_of_order_is_an_error() {
    let whole = proto(&golden_decisions()[..1], [7; 32], 5, 6);
    let front = record::Record { decisions: Vec::new(), ..whole.clone() };
    let decisions = record::Record { decisions: whole.decisions, ..Default::default() };
    let swapped = [decisions.encode_to_vec(), front.encode_to_vec()].concat();
    assert!(RecordView::new(&swapped).is_err());
    let twice = [whole_bytes(), front.encode_to_vec()].concat();
    let all: Result<Vec<_>, _> = RecordView::new(&twice).unwrap().decisions().collect();
    assert_eq!(all, Err(records::RecordError::OutOfOrder(1)));
}

fn whole_bytes() -> Vec<u8> {
    records::encode(&proto(&golden_decisions()[..1], [7; 32], 5, 6)).to_vec()
}

#[test]
fn an_imported_event_has_its_own_times() {
    let bytes = records::encode(&proto(&golden_decisions(), [7; 32], 1_000, 1));
    let view = RecordView::new(&bytes).unwrap();
    let import = view.decisions().map(Result::unwrap).find(|decision| decision.command_kind == 200).unwrap();
    let events: Vec<v1::Event> =
        (0..3).map(|at| event_to_proto(5, &view.header, &import, at).unwrap().unwrap()).collect();
    assert_eq!(event_to_proto(5, &view.header, &import, 3), Ok(None));
    assert_eq!(events[0].occurred_at, Some(sillok_wire::timestamp(-1)));
    assert!(events[0].backfill);
    assert_eq!(events[1].occurred_at, None);
    assert!(!events[1].backfill);
    assert_eq!(events[2].revision, 103);
    // A dispatcher that reads accepted sends must not send a whole imported history again.
    assert!(events.iter().all(|event| event.imported && event.schema_version == 1));
    assert_eq!(events[0].original_accepted_at, None);
    assert_eq!(events[1].original_accepted_at, Some(sillok_wire::timestamp(1_600_000_000_000_000_001)));
    let live = view.decisions().map(Result::unwrap).find(|decision| decision.command_kind == 20).unwrap();
    assert!(!event_to_proto(5, &view.header, &live, 0).unwrap().unwrap().imported);
    let first = events[0].position.unwrap().sequence;
    assert_eq!(first, 1_000 + samples().len() as u64 + 1);
    assert_eq!(events[2].position, Some(v1::Position { log: 1, sequence: first + 2, term: 5 }));
}

#[test]
fn a_refusal_has_a_position_and_its_facts() {
    let bytes = records::encode(&proto(&golden_decisions(), [7; 32], 1_000, 1));
    let view = RecordView::new(&bytes).unwrap();
    let refused = view.decisions().map(Result::unwrap).find(|decision| decision.refused.is_some()).unwrap();
    let refusal = refusal_to_proto(5, &view.header, &refused).unwrap();
    assert_eq!(refusal.position.unwrap().sequence, 1_000 + samples().len() as u64);
    assert_eq!(refusal.reason(), v1::Reason::TicketAlreadyRedeemed);
    assert_eq!(refusal.metadata["redeemed_revision"], "19");
    assert!(refusal.backfill && refusal.schema_version == 1);
    let answer = receipt(5, &view.header, &refused, true).unwrap();
    let Some(v1::answer::Outcome::Error(error)) = answer.outcome else { panic!("a refusal is an error") };
    let status = sillok_wire::errors::from_rpc(error);
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let info = sillok_wire::errors::error_info(&status).unwrap();
    assert_eq!(info.reason, "TICKET_ALREADY_REDEEMED");
    assert_eq!(info.metadata["redeemed_revision"], "19");
    assert_eq!(info.metadata["outcome"], "refused");
    assert_eq!(status.metadata().get("outcome").unwrap(), "refused");
}

/// A client that asks again years later gets every field it got the first time.
#[test]
fn a_retry_gets_the_answer_of_the_first_time() {
    use sillok_wire::{Outcome, Place, answer};

    let decisions = golden_decisions();
    let bytes = records::encode(&proto(&decisions, [7; 32], 1_000, 1_750_000_000_123_456_789));
    let view = RecordView::new(&bytes).unwrap();
    for (stored, decided) in view.decisions().map(Result::unwrap).zip(&decisions) {
        let place = Place { term: 5, first_sequence: 1_000 + stored.offset, accepted_at: 1_750_000_000_123_456_789 };
        let refused;
        let outcome = match &decided.outcome {
            Ok(events) => {
                Outcome::Events { command_kind: decided.command_kind, first_revision: decided.first_revision, events }
            }
            Err(refusal) => {
                refused = refused_to_proto(refusal);
                Outcome::Refused(&refused)
            }
        };
        let fresh = answer(place, outcome, false);
        let mut again = receipt(5, &view.header, &stored, true).unwrap();
        if let Some(v1::answer::Outcome::Receipt(receipt)) = &mut again.outcome {
            assert!(receipt.is_retry());
            receipt.durability = None;
            let last = stored.events.len() as u64 - 1;
            assert_eq!(receipt.revision, stored.first_revision + last);
            assert_eq!(receipt.position.unwrap().sequence, 1_000 + stored.offset + last);
        }
        assert_eq!(again, fresh);
    }
}
