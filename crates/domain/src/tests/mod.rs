//! Given these events, when this command, then these events or this refusal; and what holds for all histories.

mod channels;
mod coupons;
mod friends;
mod histories;
mod imports;
mod invariants;
mod messages;
mod model;
mod overlays;
mod paging;
mod restoring;
mod tickets;
mod validation;

use roaring::RoaringBitmap;

use crate::{
    Attribute, Audience, Channel, Command, Condition, Consent, Context, Event, FriendSource, FrozenAudience, Intent,
    Load, MessageBody, Overlay, Reason, Refusal, Rule, TimeWindow, UnixNanos, decide,
};

/// When a test's command is accepted, unless it says otherwise.
const NOW: UnixNanos = 1_000;

/// What a decision is taken upon.
struct Given {
    events: Vec<Event>,
    now: UnixNanos,
    context: Context,
}

/// A decision.
struct When {
    given: Given,
    outcome: Result<Vec<Event>, Refusal>,
}

fn given(events: impl IntoIterator<Item = Event>) -> Given {
    let context = Context { retry_key: "key".into(), ..Context::default() };
    Given { events: events.into_iter().collect(), now: NOW, context }
}

impl Given {
    fn at(self, now: UnixNanos) -> Given {
        Given { now, ..self }
    }

    fn backfill(mut self, occurred_at: UnixNanos) -> Given {
        (self.context.backfill, self.context.occurred_at) = (true, Some(occurred_at));
        self
    }

    fn expecting(mut self, revision: u64) -> Given {
        self.context.expected_revision = Some(revision);
        self
    }

    fn channel(&self) -> Channel {
        let mut channel = Channel::new();
        for (revision, event) in (1..).zip(&self.events) {
            channel.apply(revision, 1, None, event);
        }
        channel
    }

    /// Decides twice: on a channel that folded everything, and on one that folded nothing with all of it laid over.
    fn when(self, intent: Intent) -> When {
        let command = Command { channel_id: "shop".into(), context: self.context.clone(), intent };
        assert_eq!(crate::validate(&command), Ok(()), "the command of a test must be well formed");
        let outcome = decide(&self.channel(), &command, self.now);

        let (nothing, mut overlay) = (Channel::new(), Overlay::new());
        for (revision, event) in (1..).zip(&self.events) {
            overlay.apply(&nothing, revision, revision, 1, None, event);
        }
        assert_eq!(decide(&overlay.over(&nothing), &command, self.now), outcome, "the overlay decides the same");
        When { given: self, outcome }
    }
}

impl When {
    #[track_caller]
    fn then(self, event: Event) {
        assert_eq!(self.outcome, Ok(vec![event]));
    }

    /// Accepted; the state behind it.
    #[track_caller]
    fn accepted(self) -> (Vec<Event>, Channel) {
        let events = self.outcome.expect("is accepted");
        let mut channel = self.given.channel();
        for (revision, event) in (self.given.events.len() as u64 + 1..).zip(&events) {
            channel.apply(revision, self.given.now, self.given.context.occurred_at, event);
        }
        (events, channel)
    }

    #[track_caller]
    fn refused(self, reason: Reason) -> Refusal {
        let refusal = self.outcome.expect_err("is refused");
        assert_eq!(refusal.reason, reason, "{refusal}");
        assert!(refusal.metadata.is_sorted_by(|a, b| a.0 < b.0), "metadata ascends by key");
        refusal
    }

    #[track_caller]
    fn refused_with(self, reason: Reason, key: &str, value: &str) {
        let refusal = self.refused(reason);
        let fact = refusal.metadata.iter().find(|(other, _)| *other == key);
        assert_eq!(fact.map(|(_, value)| value.as_str()), Some(value), "{refusal:?}");
    }
}

fn opened() -> Event {
    Event::ChannelOpened { name: "초록가게".into() }
}

fn suspended() -> Event {
    Event::ChannelSuspended { reason: String::new() }
}

fn closed() -> Event {
    Event::ChannelClosed { reason: String::new() }
}

fn attribute(key: &str, value: &str) -> Attribute {
    Attribute { key: key.into(), value: value.into() }
}

fn added(number: u32, key: &str) -> Event {
    added_with(number, key, &[], &[])
}

fn added_with(number: u32, key: &str, attributes: &[(&str, &str)], consents: &[Consent]) -> Event {
    Event::FriendAdded {
        friend_number: number,
        user_key: key.into(),
        source: FriendSource::Search,
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        consents: consents.to_vec(),
    }
}

fn blocked(friend_number: u32) -> Event {
    Event::FriendBlocked { friend_number }
}

fn removed(friend_number: u32) -> Event {
    Event::FriendRemoved { friend_number }
}

fn frozen(members: impl IntoIterator<Item = u32>, as_of_revision: u64) -> FrozenAudience {
    let members: RoaringBitmap = members.into_iter().collect();
    FrozenAudience { members, as_of_revision, excluded_without_consent: 0, excluded_blocked: 0 }
}

fn news() -> MessageBody {
    MessageBody { text: "오늘 문을 엽니다".into(), is_ad: false, unit_price_won: 15 }
}

fn ad() -> MessageBody {
    MessageBody { text: "(광고) 반값".into(), is_ad: true, unit_price_won: 15 }
}

fn rule(key: &str, values: &[&str], negate: bool) -> Rule {
    let any_of = values.iter().map(|value| (*value).to_owned()).collect();
    Rule { all_of: vec![Condition { key: key.into(), any_of, negate }] }
}

fn keys(keys: &[&str]) -> Audience {
    Audience::UserKeys(keys.iter().map(|key| (*key).to_owned()).collect())
}

fn coupon(id: &str, cap: u64, per_friend_limit: u32) -> Event {
    coupon_in(id, cap, per_friend_limit, TimeWindow::default())
}

fn coupon_in(id: &str, cap: u64, per_friend_limit: u32, window: TimeWindow) -> Event {
    Event::CouponDefined { coupon_id: id.into(), name: "열 잔".into(), cap, per_friend_limit, window }
}

fn window(from: UnixNanos, until: UnixNanos) -> TimeWindow {
    TimeWindow { from: Some(from), until: Some(until) }
}

fn issued(coupon: &str, ticket: &str, friend_number: u32) -> Event {
    Event::TicketIssued { coupon_id: coupon.into(), ticket_id: ticket.into(), friend_number }
}

fn redeemed(coupon: &str, ticket: &str, friend_number: u32) -> Event {
    Event::TicketRedeemed { coupon_id: coupon.into(), ticket_id: ticket.into(), friend_number }
}

fn reversed(coupon: &str, ticket: &str, friend_number: u32) -> Event {
    let (coupon_id, ticket_id) = (coupon.into(), ticket.into());
    Event::RedemptionReversed { coupon_id, ticket_id, friend_number, reason: String::new() }
}

fn voided(coupon: &str, ticket: &str, friend_number: u32) -> Event {
    let (coupon_id, ticket_id) = (coupon.into(), ticket.into());
    Event::TicketVoided { coupon_id, ticket_id, friend_number, reason: String::new() }
}

fn expired(coupon: &str, ticket: &str, friend_number: u32) -> Event {
    Event::TicketExpired { coupon_id: coupon.into(), ticket_id: ticket.into(), friend_number }
}

fn batch(coupon: &str, members: impl IntoIterator<Item = u32>, as_of_revision: u64) -> Event {
    let audience = frozen(members, as_of_revision);
    Event::TicketsIssued { coupon_id: coupon.into(), rule: Some(Rule::default()), audience, excluded_at_limit: 0 }
}

/// The channel's revision.
fn revision(state: &impl Load) -> u64 {
    state.summary().map_or(0, |summary| summary.revision)
}
