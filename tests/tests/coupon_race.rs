//! A shop gives away 100 coupons and ten thousand hands reach for them at once, through a failover in the middle of it: never
//! more than 100 issued, never one redeemed twice.
//!
//! All ten thousand attempts are begun together, each a task of its own; an HTTP/2 connection carries 1,024 of them at a time,
//! the others wait for their turn in the client. Forty reach for the same ticket, so that what succeeds is spread over the whole
//! race: the leader is killed when a third of the coupons is gone.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sillok_client::{Client, WriteError, commands, commands::Conditions as _};
use sillok_tests::{Cluster, account};
use sillok_wire::v1::{self, payload::Event};
use tokio::sync::watch;

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
const SHOP: &str = "race";
const CAP: u64 = 100;
const ATTEMPTS: usize = 10_000;
/// Attempts at each ticket, half of them to issue it; there are more tickets than the cap.
const ATTEMPTS_A_TICKET: usize = 80;

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_of_100_holds_against_ten_thousand_attempts_and_a_killed_leader() {
    let mut cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).deadline(Duration::from_secs(60)).build().unwrap();
    client.execute(commands::open_channel(SHOP, "선착순")).await.unwrap();
    for n in 0..CAP {
        client.execute(commands::add_friend(SHOP, format!("hand-{n}"))).await.unwrap();
    }
    let coupon = v1::DefineCouponRequest {
        channel_id: SHOP.into(),
        coupon_id: "first".into(),
        name: "선착순 100명".into(),
        cap: CAP,
        ..Default::default()
    };
    client.execute(coupon).await.unwrap();

    let leader = cluster.leader().await;
    let told = watch::Sender::new(Tally::default());
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..ATTEMPTS {
        let (client, told) = (client.clone(), told.clone());
        attempts.spawn(async move {
            let result = attempt(&client, n).await;
            told.send_modify(|tally| tally.count(result));
        });
    }
    told.subscribe().wait_for(|tally| tally.issued >= 30 && tally.redeemed >= 15).await.unwrap();
    cluster.kill(leader).unwrap();
    let at_the_kill = *told.borrow();
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap();
    }
    let told = *told.borrow();
    assert!(
        at_the_kill.issued < told.issued && at_the_kill.redeemed < told.redeemed,
        "the race was over before the kill: {at_the_kill:?} of {told:?}"
    );
    cluster.spawn(leader).unwrap();
    cluster.settle().await;

    let events = account::events(cluster.site(1), SHOP).await.unwrap();
    let mut issued = HashSet::new();
    let mut redeemed: HashMap<String, u64> = HashMap::new();
    for event in events {
        match event.payload.and_then(|payload| payload.event) {
            Some(Event::TicketIssued(ticket)) => assert!(issued.insert(ticket.ticket_id), "a ticket issued twice"),
            Some(Event::TicketRedeemed(ticket)) => *redeemed.entry(ticket.ticket_id).or_default() += 1,
            _ => {}
        }
    }
    assert_eq!(issued.len() as u64, CAP, "issued");
    assert!(redeemed.values().all(|times| *times == 1), "redeemed twice: {redeemed:?}");
    assert!(redeemed.keys().all(|ticket| issued.contains(ticket)));
    // What the hands were told agrees with what is recorded, attempt by attempt.
    assert_eq!(told.issued, issued.len(), "receipts for issues");
    assert_eq!(told.redeemed, redeemed.len(), "receipts for redemptions");
    println!("at the kill {at_the_kill:?}; at the end {told:?} of {ATTEMPTS} attempts begun together");
}

/// What the hands were told so far.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    issued: usize,
    redeemed: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, told: Told) {
        match told {
            Told::Issued => self.issued += 1,
            Told::Redeemed => self.redeemed += 1,
            Told::Refused => self.refused += 1,
        }
    }
}

enum Told {
    Issued,
    Redeemed,
    Refused,
}

/// Even attempts issue, odd ones redeem; every third repeats its call under the same key, as an impatient client would.
async fn attempt(client: &Client, n: usize) -> Told {
    let command: v1::Command = if n.is_multiple_of(2) {
        let ticket = v1::IssueTicketRequest {
            channel_id: SHOP.into(),
            coupon_id: "first".into(),
            user_key: format!("hand-{}", n as u64 % CAP),
            ticket_id: format!("t-{}", n / ATTEMPTS_A_TICKET),
            ..Default::default()
        };
        ticket.with_key(format!("attempt-{n}"))
    } else {
        commands::redeem_ticket(SHOP, format!("t-{}", n / ATTEMPTS_A_TICKET)).with_key(format!("attempt-{n}"))
    };
    let first = client.execute(command.clone()).await;
    if n.is_multiple_of(3) {
        let second = client.execute(command).await;
        match (&first, &second) {
            (Ok(first), Ok(second)) => {
                assert_eq!((first.revision, &first.position), (second.revision, &second.position), "another answer");
            }
            (Err(first), Err(second)) => assert_eq!(first.reason(), second.reason(), "another refusal"),
            _ => panic!("a retry got another answer: {first:?}, then {second:?}"),
        }
    }
    match first {
        Ok(_) if n.is_multiple_of(2) => Told::Issued,
        Ok(_) => Told::Redeemed,
        Err(WriteError::Refused { .. }) => Told::Refused,
        Err(error) => panic!("attempt {n}: {error}"),
    }
}
