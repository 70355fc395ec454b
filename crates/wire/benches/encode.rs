//! From a client's command to the bytes of a record, and back to events: `cargo bench -p sillok-wire`.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sillok_domain::{Event, Intent};
use sillok_wire::{
    Submission, command_from_proto, decode_payload,
    records::{self, NewDecision, NewOutcome, RecordBuilder, RecordView},
    v1,
};

/// Decisions of a record, as they gather under load.
const DECISIONS: u64 = 256;

/// A push of about 200 bytes.
fn push(number: u64) -> v1::Command {
    let context = v1::CommandContext { retry_key: format!("{number:032x}"), ..Default::default() };
    let body = v1::MessageBody { text: "x".repeat(140), is_ad: false, unit_price_won: 15 };
    v1::SendPushRequest {
        context: Some(context),
        channel_id: "shop".to_owned(),
        user_key: format!("u{number}"),
        body: Some(body),
    }
    .into()
}

/// Commands, and what was decided about each.
fn decided() -> Vec<(Submission, Vec<Event>)> {
    let one = |number| {
        let submission = command_from_proto(push(number)).unwrap_or_else(|error| panic!("{error}"));
        let Intent::SendPush { body, .. } = &submission.command.intent else { panic!("it is a push") };
        let event = Event::PushAccepted {
            friend_number: number as u32 + 1,
            text: body.text.clone(),
            is_ad: body.is_ad,
            unit_price_won: body.unit_price_won,
        };
        (submission, vec![event])
    };
    (0..DECISIONS).map(one).collect()
}

fn build(builder: &mut RecordBuilder, decided: &[(Submission, Vec<Event>)]) -> bytes::Bytes {
    for (at, (submission, events)) in decided.iter().enumerate() {
        let outcome = NewOutcome::Events { first_revision: at as u64 + 1, events };
        builder.push(&NewDecision::of(submission, outcome));
    }
    builder.finish(&records::GENESIS, 1, 1_665_800_000_000_000_000)
}

fn encode(criterion: &mut Criterion) {
    let decided = decided();
    let mut builder = RecordBuilder::new();
    let record = build(&mut builder, &decided);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(DECISIONS));
    group.bench_function("commands from protobuf", |bencher| {
        let commands: Vec<v1::Command> = (0..DECISIONS).map(push).collect();
        bencher.iter_batched(
            || commands.clone(),
            |commands| commands.into_iter().map(command_from_proto).filter(Result::is_ok).count(),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("a record of 256 pushes", |bencher| bencher.iter(|| build(&mut builder, black_box(&decided))));
    group.bench_function("its events read back", |bencher| {
        bencher.iter(|| {
            let view = RecordView::new(black_box(&record)).unwrap_or_else(|error| panic!("{error}"));
            let decisions = view.decisions().map(|decision| decision.unwrap_or_else(|error| panic!("{error}")));
            decisions.filter(|decision| decision.events.iter().all(|event| decode_payload(event).is_ok())).count()
        });
    });
    group.throughput(Throughput::Bytes(record.len() as u64));
    group.bench_function("its hash", |bencher| bencher.iter(|| records::hash(black_box(&record))));
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
