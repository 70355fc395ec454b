//! Deciding one command, and drawing an audience: `cargo bench -p sillok-domain`.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sillok_domain::{
    Attribute, Audience, Channel, Command, Condition, Consent, Context, FriendSource, Intent, MessageBody, Overlay,
    Rule, decide, validate,
};

const FRIENDS: u32 = 1_000_000;

fn command(intent: Intent) -> Command {
    let context = Context { retry_key: "key".into(), ..Context::default() };
    Command { channel_id: "shop".into(), context, intent }
}

fn key(number: u32) -> String {
    format!("user-{:019}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn add(number: u32) -> Command {
    let attribute = |key: &str, value: String| Attribute { key: key.into(), value };
    command(Intent::AddFriend {
        user_key: key(number),
        source: FriendSource::Import,
        attributes: vec![
            attribute("gender", if number.is_multiple_of(2) { "f" } else { "m" }.into()),
            attribute("region", format!("region-{}", number / 3 % 17)),
        ],
        consents: if number.is_multiple_of(3) { vec![] } else { vec![Consent::Advertising] },
    })
}

fn body(is_ad: bool) -> MessageBody {
    MessageBody {
        text: "오늘 저녁 여섯 시까지 오시면 커피 한 잔을 더 드립니다.".repeat(2), is_ad, unit_price_won: 15
    }
}

/// A channel whose friends are a million.
fn shop() -> Channel {
    let mut channel = Channel::new();
    let open = command(Intent::OpenChannel { name: "전국 가게".into() });
    let mut revision = 0;
    for command in std::iter::once(open).chain((1..=FRIENDS).map(add)) {
        let decided = decide(&channel, &command, 1);
        for event in decided.unwrap_or_else(|refusal| panic!("{refusal:?}")) {
            revision += 1;
            channel.apply(revision, 1, None, &event);
        }
    }
    channel
}

fn decisions(criterion: &mut Criterion) {
    let channel = shop();
    let overlay = Overlay::new();
    let mut each = |name: &str, command: &Command| {
        assert!(validate(command).is_ok());
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| decide(&overlay.over(&channel), black_box(command), 1).map(drop).is_ok());
        });
    };
    each("decide/push", &command(Intent::SendPush { user_key: key(FRIENDS / 2), body: body(false) }));
    each("decide/add a friend", &add(FRIENDS + 1));
    each("decide/refusal", &command(Intent::SendPush { user_key: "nobody".into(), body: body(false) }));
    each("audience/a million, an advertisement", &command(Intent::SendBroadcast { body: body(true) }));
    let equals = |key: &str, value: &str| Condition { key: key.into(), any_of: vec![value.into()], negate: false };
    let rule = Rule { all_of: vec![equals("gender", "f"), equals("region", "region-3")] };
    let audience = Audience::Rule(rule);
    each("audience/two attributes of a million", &command(Intent::SendNarrowcast { audience, body: body(false) }));
}

criterion_group!(benches, decisions);
criterion_main!(benches);
