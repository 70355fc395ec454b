//! Friends of a channel: one, a page, all, how many. Ordered by friend number, which never changes, so a friend that is
//! present throughout appears in exactly one page.

use prost::Message as _;
use sillok_domain::{
    Condition, Consent, CountBy, FriendSource, FriendStatus, FriendView, Load as _, Rule, Selector, Statuses,
};
use sillok_views::ChannelTable;
use sillok_wire::{errors::Problem, timestamp, v1};
use tonic::Status;

use super::{Queries, ask, reading};
use crate::grpc::{
    outbox::{Outbox, Outgoing, outbox},
    page::{self, Scope},
};

/// Friends in one chunk of a stream: usually about 100 KiB, read under one lock in well under a millisecond.
const CHUNK: usize = 1_000;
/// A page or a chunk ends early here, so that clients with the usual limit of 4 MiB can take it: one friend may have 20
/// attributes of 256 bytes.
const PAGE_BYTES: usize = 2 << 20;
/// Values of an attribute that are counted one by one.
const VALUES_COUNTED: usize = 1_000;
/// Chunks between the task and the connection.
const PLACES: usize = 2;
/// As a command's rule.
const CONDITIONS_MAX: usize = 16;
const VALUES_MAX: usize = 100;

impl Queries {
    pub(super) async fn get_friend(&self, request: v1::GetFriendRequest) -> Result<v1::GetFriendResponse, Status> {
        use v1::get_friend_request::Who;
        ask::channel_id(&request.channel_id)?;
        match &request.who {
            Some(Who::UserKey(key)) => ask::user_key(key)?,
            Some(Who::FriendNumber(_)) => {}
            None => return Err(ask::malformed("who", "must be a user_key or a friend_number")),
        }
        let info = self.ready(request.options.as_ref()).await?;
        let (info, friend) = self.channel(info, &request.channel_id, |table| {
            let number = match &request.who {
                Some(Who::UserKey(key)) => number(table, key)?,
                Some(Who::FriendNumber(number)) => *number,
                None => 0,
            };
            let view = table.friend_view(number);
            view.map(friend).ok_or_else(|| ask::friend_not_found(format_args!("of number {number}")))
        })?;
        Ok(v1::GetFriendResponse { info: Some(info), friend: Some(friend) })
    }

    pub(super) async fn list_friends(
        &self,
        request: v1::ListFriendsRequest,
    ) -> Result<v1::ListFriendsResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let size = page::size(request.page_size)?;
        let encoded = request.filter.as_ref().map(|filter| filter.encode_to_vec()).unwrap_or_default();
        let scope = Scope::of("ListFriends").and(request.channel_id.as_bytes()).and(&encoded);
        // The token was made from a friend number, so it fits.
        let after = scope.last_number(&request.page_token)?.map_or(0, |last| u32::try_from(last).unwrap_or(u32::MAX));
        let filter = Filter::new(request.filter)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, (friends, more)) =
            self.channel(info, &request.channel_id, |table| Ok(friends(table, &filter, after, size)))?;
        let next = friends.last().filter(|_| more).map(|last| scope.token_after_number(last.friend_number.into()));
        Ok(v1::ListFriendsResponse { info: Some(info), friends, next_page_token: next.unwrap_or_default() })
    }

    pub(super) async fn stream_friends(
        &self,
        request: v1::StreamFriendsRequest,
    ) -> Result<Outgoing<v1::StreamFriendsResponse>, Status> {
        ask::channel_id(&request.channel_id)?;
        let filter = Filter::new(request.filter)?;
        let info = self.ready(request.options.as_ref()).await?;
        // An unknown channel fails the call, not the stream.
        let (info, ()) = self.channel(info, &request.channel_id, |_| Ok(()))?;
        let (outbox, outgoing) = outbox("StreamFriends", PLACES, self.patience);
        tokio::spawn(send_all(self.clone(), info, request.channel_id, filter, outbox));
        Ok(outgoing)
    }

    pub(super) async fn count_friends(
        &self,
        request: v1::CountFriendsRequest,
    ) -> Result<v1::CountFriendsResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let filter = Filter::new(request.filter)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, (count, counted)) = self.channel(info, &request.channel_id, |table| {
            let selector = filter.selector();
            let counted = match request.by_attribute.as_str() {
                "" => CountBy::default(),
                key => table.count_by(&selector, key, VALUES_COUNTED),
            };
            Ok((table.count(&selector), counted))
        })?;
        let CountBy { mut counts, other_values, other_friends } = counted;
        counts.sort_unstable();
        Ok(v1::CountFriendsResponse {
            info: Some(info),
            count,
            by_value: counts.into_iter().map(|(value, count)| v1::ValueCount { value, count }).collect(),
            other_value_count: other_values,
            other_friend_count: other_friends,
        })
    }
}

async fn send_all(
    queries: Queries,
    first: v1::ReadInfo,
    channel_id: String,
    filter: Filter,
    outbox: Outbox<v1::StreamFriendsResponse>,
) {
    let mut after = 0;
    let mut sent = false;
    loop {
        let chunk = queries.channel(first.clone(), &channel_id, |table| Ok(friends(table, &filter, after, CHUNK)));
        let (info, (friends, more)) = match chunk {
            Ok(chunk) => chunk,
            Err(status) => return outbox.end(status),
        };
        let last = friends.last().map(|friend| friend.friend_number);
        // The first goes out even when empty: it tells the position.
        if !(friends.is_empty() && sent)
            && let Err(stuck) = outbox.put(v1::StreamFriendsResponse { info: Some(info), friends }).await
        {
            return outbox.end_stuck(stuck, "ask again, or page with ListFriends");
        }
        sent = true;
        if queries.stopping.is_cancelled() {
            return outbox.end(reading::shutting_down());
        }
        match last {
            Some(last) if more => after = last,
            _ => return,
        }
    }
}

/// At most so many friends, or a few less where they are large; and whether there are more behind them.
fn friends(table: &ChannelTable, filter: &Filter, after: u32, limit: usize) -> (Vec<v1::Friend>, bool) {
    let views = table.friends(&filter.selector(), after, limit + 1);
    let mut friends = Vec::with_capacity(views.len().min(limit));
    let mut bytes = 0;
    for view in views {
        if friends.len() == limit || bytes > PAGE_BYTES {
            return (friends, true);
        }
        let friend = friend(view);
        bytes += friend.encoded_len();
        friends.push(friend);
    }
    (friends, false)
}

/// The number of everybody who ever was a friend.
pub(super) fn number(table: &ChannelTable, user_key: &str) -> Result<u32, Problem> {
    table.number_of(user_key).ok_or_else(|| ask::friend_not_found(format_args!("with the user key {user_key:?}")))
}

/// The user key of a friend; a frozen audience names friends that were there, so there always is one.
pub(super) fn user_key(table: &ChannelTable, number: u32) -> Option<String> {
    table.user_key(number).map(str::to_owned)
}

fn friend(view: FriendView<'_>) -> v1::Friend {
    let attribute = |(key, value): (&str, &str)| v1::Attribute { key: key.to_owned(), value: value.to_owned() };
    v1::Friend {
        friend_number: view.number,
        user_key: view.user_key.to_owned(),
        status: status_to_proto(view.state.status).into(),
        source: match view.state.source {
            FriendSource::Unspecified => v1::FriendSource::Unspecified,
            FriendSource::OfflineEvent => v1::FriendSource::OfflineEvent,
            FriendSource::FriendEvent => v1::FriendSource::FriendEvent,
            FriendSource::Ad => v1::FriendSource::Ad,
            FriendSource::Search => v1::FriendSource::Search,
            FriendSource::Import => v1::FriendSource::Import,
            FriendSource::Other => v1::FriendSource::Other,
        }
        .into(),
        attributes: view.attributes().map(attribute).collect(),
        consents: view.state.consents.iter().map(|consent| consent_to_proto(consent).into()).collect(),
        added_at: Some(timestamp(view.state.added_at)),
        added_revision: view.state.added_revision,
    }
}

fn status_to_proto(status: FriendStatus) -> v1::FriendStatus {
    match status {
        FriendStatus::Friend => v1::FriendStatus::Friend,
        FriendStatus::Blocked => v1::FriendStatus::Blocked,
        FriendStatus::Removed => v1::FriendStatus::Removed,
    }
}

fn consent_to_proto(consent: Consent) -> v1::Consent {
    match consent {
        Consent::Advertising => v1::Consent::Advertising,
        Consent::Night => v1::Consent::Night,
    }
}

/// A filter that was checked.
struct Filter {
    statuses: Statuses,
    rule: Option<Rule>,
}

impl Filter {
    fn new(filter: Option<v1::FriendFilter>) -> Result<Filter, Status> {
        let Some(filter) = filter else { return Ok(Filter { statuses: Statuses::PRESENT, rule: None }) };
        let statuses = filter.statuses.iter().map(|number| match v1::FriendStatus::try_from(*number) {
            Ok(v1::FriendStatus::Friend) => Ok(FriendStatus::Friend),
            Ok(v1::FriendStatus::Blocked) => Ok(FriendStatus::Blocked),
            Ok(v1::FriendStatus::Removed) => Ok(FriendStatus::Removed),
            Ok(v1::FriendStatus::Unspecified) | Err(_) => {
                Err(ask::malformed("filter.statuses", &format!("has {number}, which is no FriendStatus")))
            }
        });
        let statuses = match filter.statuses.is_empty() {
            true => Statuses::PRESENT,
            false => statuses.collect::<Result<Statuses, Status>>()?,
        };
        Ok(Filter { statuses, rule: filter.rule.map(rule).transpose()? })
    }

    fn selector(&self) -> Selector<'_> {
        Selector { statuses: self.statuses, consent: None, rule: self.rule.as_ref() }
    }
}

fn rule(rule: v1::Rule) -> Result<Rule, Status> {
    if rule.all_of.len() > CONDITIONS_MAX {
        return Err(ask::malformed("filter.rule.all_of", &format!("must have at most {CONDITIONS_MAX} conditions")));
    }
    let condition = |condition: v1::Condition| {
        if !(1..=VALUES_MAX).contains(&condition.any_of.len()) {
            return Err(ask::malformed("filter.rule.all_of.any_of", &format!("must have 1 to {VALUES_MAX} values")));
        }
        Ok(Condition { key: condition.key, any_of: condition.any_of, negate: condition.negate })
    };
    Ok(Rule { all_of: rule.all_of.into_iter().map(condition).collect::<Result<_, Status>>()? })
}
