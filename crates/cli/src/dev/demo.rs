//! A small Korean flower shop. Every command has a key of its own, so that loading it again changes nothing.

use sillok_client::{Client, commands, commands::Conditions as _};
use sillok_wire::v1;

use crate::{
    failure::Failure,
    format::{count, won},
};

/// The shop's channel.
pub(super) const CHANNEL: &str = "bomnal";

const REGIONS: [&str; 8] = ["서울", "서울", "서울", "부산", "대구", "인천", "광주", "제주"];
const AGES: [&str; 5] = ["20대", "30대", "30대", "40대", "50대"];
const GRADES: [&str; 4] = ["일반", "일반", "단골", "VIP"];
const SOURCES: [v1::FriendSource; 4] = [
    v1::FriendSource::OfflineEvent,
    v1::FriendSource::FriendEvent,
    v1::FriendSource::Search,
    v1::FriendSource::OfflineEvent,
];
const FRIENDS: usize = 40;

/// Loads the shop; says what is there.
pub(super) async fn load(client: &Client) -> Result<String, Failure> {
    let failed = |error: sillok_client::WriteError| Failure::write(error.status());
    let (mut sender, mut answers) = client.submit().split();
    for command in people() {
        if sender.send(command).await.is_err() {
            break;
        }
    }
    sender.close();
    let mut new = false;
    while let Some(answer) = answers.next().await {
        new |= !answer.outcome.map_err(failed)?.is_retry();
    }
    let broadcast = commands::send_broadcast(
        CHANNEL,
        commands::body("봄 튤립이 들어왔어요. 이번 주말까지 한 다발 9,900원! 매장에서 만나요.", 15),
    );
    let broadcast = client.execute(broadcast.with_key("demo-broadcast")).await.map_err(failed)?;
    let coupon = v1::DefineCouponRequest {
        channel_id: CHANNEL.to_owned(),
        coupon_id: "spring-10".to_owned(),
        name: "봄맞이 10% 할인".to_owned(),
        cap: 100,
        per_friend_limit: 1,
        ..Default::default()
    };
    client.execute(coupon.with_key("demo-coupon")).await.map_err(failed)?;
    let rule = v1::Rule { all_of: vec![condition("region", "서울")] };
    let issue = v1::IssueTicketsRequest {
        channel_id: CHANNEL.to_owned(),
        coupon_id: "spring-10".to_owned(),
        audience: Some(commands::by_rule(rule)),
        ..Default::default()
    };
    let issued = client.execute(issue.with_key("demo-issue")).await.map_err(failed)?;
    // The first friend's ticket: its name is made of the revision that issued it.
    let ticket = format!("spring-10.{}.1", issued.revision);
    let redeemed = client.execute(commands::redeem_ticket(CHANNEL, ticket).with_key("demo-redeem")).await;
    redeemed.map_err(failed)?;
    Ok(told(&broadcast, &issued, new))
}

fn told(broadcast: &v1::Receipt, issued: &v1::Receipt, new: bool) -> String {
    let cost = match &broadcast.detail {
        Some(v1::receipt::Detail::Send(send)) => {
            format!("{} for {}", count(send.audience_count, "friend", "friends"), won(send.cost_won))
        }
        _ => "every friend".to_owned(),
    };
    let tickets = match &issued.detail {
        Some(v1::receipt::Detail::Ticket(made)) => made.issued_count,
        _ => 0,
    };
    let again = if new { "" } else { " (it was there already)" };
    format!(
        "the flower shop 봄날 is open as channel {CHANNEL}{again}: {FRIENDS} friends, a broadcast to {cost}, a coupon with {}\n\
         try: sillok friend check {CHANNEL}\n     sillok friend list {CHANNEL} --where region=서울 grade=VIP\n     sillok message history {CHANNEL}",
        count(tickets, "ticket", "tickets"),
    )
}

fn condition(key: &str, value: &str) -> v1::Condition {
    v1::Condition { key: key.to_owned(), any_of: vec![value.to_owned()], negate: false }
}

fn attribute(key: &str, value: &str) -> v1::Attribute {
    v1::Attribute { key: key.to_owned(), value: value.to_owned() }
}

/// The channel, its friends, and one who blocked it.
fn people() -> Vec<v1::Command> {
    let mut all = vec![commands::open_channel(CHANNEL, "꽃집 봄날").with_key("demo-open")];
    for number in 0..FRIENDS {
        let mut consents = Vec::new();
        if number % 4 != 3 {
            consents.push(v1::Consent::Advertising as i32);
        }
        let friend = v1::AddFriendRequest {
            source: SOURCES[number % SOURCES.len()] as i32,
            attributes: vec![
                attribute("gender", if number % 3 == 0 { "남" } else { "여" }),
                attribute("age_band", AGES[number % AGES.len()]),
                attribute("region", REGIONS[number % REGIONS.len()]),
                attribute("grade", GRADES[number / 3 % GRADES.len()]),
            ],
            consents,
            ..commands::add_friend(CHANNEL, user_key(number))
        };
        all.push(friend.with_key(format!("demo-friend-{number}")));
    }
    all.push(commands::block_friend(CHANNEL, user_key(12)).with_key("demo-block"));
    all
}

fn user_key(number: usize) -> String {
    format!("guest-{:03}", number + 1)
}
