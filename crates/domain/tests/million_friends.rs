//! A channel keeps 150 bytes a friend or less, and a broadcast to all of them takes a moment.
//!
//! In a process of its own, because it reads what the process occupies.

use std::time::Instant;

use sillok_domain::{
    Attribute, Channel, Command, Consent, Context, Event, FriendSource, Intent, MessageBody, Overlay, decide,
};

const FRIENDS: u32 = 300_000;

fn added(number: u32) -> Event {
    let attribute = |key: &str, value: String| Attribute { key: key.into(), value };
    Event::FriendAdded {
        friend_number: number,
        // As long as a UUID.
        user_key: format!("user-{:031}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        source: FriendSource::Import,
        attributes: vec![
            attribute("age_band", format!("{}s", number % 9 * 10)),
            attribute("gender", if number.is_multiple_of(2) { "f" } else { "m" }.into()),
            attribute("grade", format!("g{}", number / 7 % 5)),
            attribute("region", format!("region-{}", number / 3 % 17)),
        ],
        consents: if number.is_multiple_of(3) { vec![] } else { vec![Consent::Advertising] },
    }
}

/// `None` where it cannot be told.
#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(target_os = "linux")]
#[test]
fn a_friend_costs_at_most_150_bytes_and_a_broadcast_counts_every_one() {
    let before = resident_bytes().expect("Linux tells");
    let mut channel = Channel::new();
    channel.apply(1, 0, None, &Event::ChannelOpened { name: "전국 가게".into() });
    for number in 1..=FRIENDS {
        channel.apply(u64::from(number) + 1, 1_760_000_000_000_000_000, None, &added(number));
    }
    let each = (resident_bytes().expect("Linux tells") - before) / FRIENDS as usize;
    assert!(each <= 150, "{each} bytes a friend");

    let body = MessageBody { text: "(광고) 반값".into(), is_ad: true, unit_price_won: 15 };
    let command =
        Command { channel_id: "shop".into(), context: Context::default(), intent: Intent::SendBroadcast { body } };
    let begun = Instant::now();
    let events = decide(&Overlay::new().over(&channel), &command, 1).expect("is accepted");
    let took = begun.elapsed();
    let Event::BroadcastAccepted { audience, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(audience.members.len() + audience.excluded_without_consent, u64::from(FRIENDS));
    println!("{each} bytes a friend; an advertisement to {FRIENDS} took {took:?}");
}
