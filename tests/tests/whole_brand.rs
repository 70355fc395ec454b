//! A national brand: a broadcast to a million friends is one record, acknowledged in well under a second, and both who got
//! it and what one friend got can be listed.
//!
//! Making a million friends is for an optimized build: `SILLOK_UNDER_TEST=target/release/sillok SILLOK_FRIENDS=1000000`.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on fails where it stands")]

use std::time::Instant;

use sillok_client::{Client, commands::Conditions as _};
use sillok_tests::{Cluster, account};
use sillok_wire::v1::{self, payload::Event};

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
const BRAND: &str = "brand";
/// Where `SILLOK_FRIENDS` does not say otherwise.
const FRIENDS: u64 = 100_000;
/// Facts in one import command; the most the contract allows.
const BATCH: u64 = 1_000;

fn friend_added(number: u64) -> v1::ImportedEvent {
    let plain = v1::PersonalPlain { user_key: format!("u{number}"), ..Default::default() };
    let personal = v1::Personal { form: Some(v1::personal::Form::Plain(plain)) };
    let event = v1::FriendAdded {
        friend_number: number as u32,
        source: v1::FriendSource::Import as i32,
        consents: Vec::new(),
        personal: Some(personal),
    };
    imported(Event::FriendAdded(event))
}

fn imported(event: Event) -> v1::ImportedEvent {
    v1::ImportedEvent { payload: Some(v1::Payload { event: Some(event) }), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_to_a_whole_brand_is_one_record() {
    let friends = std::env::var("SILLOK_FRIENDS").map_or(FRIENDS, |count| count.parse().unwrap());
    assert_eq!(friends % BATCH, 0, "whole batches");
    let cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    let began = Instant::now();
    let opened = imported(Event::ChannelOpened(v1::ChannelOpened { name: "전국 브랜드".into() }));
    let open = v1::ImportEventsRequest {
        channel_id: BRAND.into(),
        first_revision: 1,
        events: vec![opened],
        ..Default::default()
    };
    client.execute(open).await.unwrap();
    let (mut sender, mut answers) = client.submit().split();
    let send = async {
        for batch in 0..friends / BATCH {
            let first = batch * BATCH + 1;
            let import = v1::ImportEventsRequest {
                channel_id: BRAND.into(),
                first_revision: first + 1,
                events: (first..first + BATCH).map(friend_added).collect(),
                ..Default::default()
            };
            sender.send(import.with_key(format!("batch-{batch}"))).await.unwrap();
        }
        sender.close();
    };
    let receive = async {
        let mut count = 0;
        while let Some(answered) = answers.next().await {
            answered.outcome.unwrap();
            count += 1;
        }
        count
    };
    let ((), answered) = tokio::join!(send, receive);
    assert_eq!(answered, friends / BATCH);
    println!("{friends} friends in {:?}", began.elapsed());
    cluster.settle().await;

    let body = v1::MessageBody { text: "백만 친구께".into(), is_ad: false, unit_price_won: 15 };
    let broadcast = v1::SendBroadcastRequest { channel_id: BRAND.into(), body: Some(body), ..Default::default() };
    let began = Instant::now();
    let receipt = client.execute(broadcast).await.unwrap();
    let took = began.elapsed();
    println!("broadcast acknowledged in {took:?}");
    let Some(v1::receipt::Detail::Send(send)) = receipt.detail else { panic!("{receipt:?}") };
    assert_eq!((send.audience_count, send.cost_won), (friends, friends as i64 * 15));
    assert_eq!(receipt.revision, friends + 2, "one event");

    for site in &cluster.sites {
        let mut queries = site.queries().await.unwrap();
        let request =
            v1::StreamRecipientsRequest { options: None, channel_id: BRAND.into(), message_id: send.message_id };
        let mut recipients = queries.stream_recipients(request).await.unwrap().into_inner();
        let mut next = 1;
        while let Some(answer) = recipients.message().await.unwrap() {
            for recipient in answer.recipients {
                assert_eq!(recipient.friend_number, next);
                next += 1;
            }
        }
        assert_eq!(u64::from(next - 1), friends);
        let history =
            v1::ListMessagesRequest { channel_id: BRAND.into(), user_key: "u77777".into(), ..Default::default() };
        let history = queries.list_messages(history).await.unwrap().into_inner();
        assert_eq!(history.messages.len(), 1);
        assert_eq!(history.messages[0].text, "백만 친구께");
    }
    let mut digests = Vec::new();
    for site in &cluster.sites {
        digests.push(account::digests(site, BRAND).await.unwrap());
        let rss = resident_mib(&cluster, site.id);
        println!("{}: {rss} MiB resident", site.name);
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

/// Resident memory of a node's process, MiB.
fn resident_mib(cluster: &Cluster, id: u64) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", cluster.site(id).pid().unwrap())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
