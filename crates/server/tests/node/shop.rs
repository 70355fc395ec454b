//! A small shop: a channel, three friends, a coupon.

use sillok_wire::v1::{self, commands_client::CommandsClient};
use tonic::transport::Channel;

use crate::support::key;

pub const SHOP: &str = "shop";

/// Opens the channel and adds the friends `a` (Seoul, advertising consent), `b` (Busan) and `c` (Seoul).
pub async fn open(commands: &mut CommandsClient<Channel>) -> v1::Receipt {
    commands.open_channel(open_request(SHOP, "open")).await.unwrap();
    let mut last = v1::Receipt::default();
    for (user, region, consents) in
        [("a", "seoul", vec![v1::Consent::Advertising.into()]), ("b", "busan", vec![]), ("c", "seoul", vec![])]
    {
        let mut request = add(user);
        request.attributes = vec![attribute("region", region)];
        request.consents = consents;
        last = commands.add_friend(request).await.unwrap().into_inner();
    }
    last
}

pub fn open_request(channel_id: &str, retry_key: &str) -> v1::OpenChannelRequest {
    v1::OpenChannelRequest {
        context: key(retry_key), channel_id: channel_id.to_owned(), name: "작은 가게".to_owned()
    }
}

pub fn add(user_key: &str) -> v1::AddFriendRequest {
    v1::AddFriendRequest {
        context: key(&format!("add-{user_key}")),
        channel_id: SHOP.to_owned(),
        user_key: user_key.to_owned(),
        source: v1::FriendSource::OfflineEvent.into(),
        ..Default::default()
    }
}

pub fn attribute(key: &str, value: &str) -> v1::Attribute {
    v1::Attribute { key: key.to_owned(), value: value.to_owned() }
}

pub fn body(text: &str) -> Option<v1::MessageBody> {
    Some(v1::MessageBody { text: text.to_owned(), is_ad: false, unit_price_won: 15 })
}

pub fn broadcast(retry_key: &str, text: &str) -> v1::SendBroadcastRequest {
    v1::SendBroadcastRequest { context: key(retry_key), channel_id: SHOP.to_owned(), body: body(text) }
}

pub fn rule(key: &str, value: &str) -> v1::Rule {
    v1::Rule { all_of: vec![v1::Condition { key: key.to_owned(), any_of: vec![value.to_owned()], negate: false }] }
}

pub fn audience(rule: v1::Rule) -> Option<v1::Audience> {
    Some(v1::Audience { kind: Some(v1::audience::Kind::Rule(rule)) })
}
