//! A shop with friends, and pushes to them as the leader decides and records them.

use bytes::Bytes;
use sillok_domain::{Channel, Overlay, decide};
use sillok_views::{Folded, Options, Views};
use sillok_wire::{
    Submission, command_from_proto,
    records::{self, NewDecision, NewOutcome, RecordBuilder},
    v1,
};

pub(crate) const SHOP: &str = "shop";
const RECORD: u8 = 1;

/// The leader's way for one channel: decide over the views, record, and what the views then fold.
pub(crate) struct Shop {
    pub(crate) views: Views,
    overlay: Overlay,
    builder: RecordBuilder,
    head: [u8; 32],
    sequence: u64,
    index: u64,
    friends: u64,
    pushes: u64,
}

impl Shop {
    /// Open, with so many friends.
    pub(crate) fn with_friends(friends: u64) -> Shop {
        Shop::over(Views::open(Options::in_memory(), |_| true), friends)
    }

    /// The same over these views, which are empty.
    pub(crate) fn over(views: Views, friends: u64) -> Shop {
        let (overlay, builder) = (Overlay::new(), RecordBuilder::new());
        let mut shop =
            Shop { views, overlay, builder, head: records::GENESIS, sequence: 1, index: 0, friends, pushes: 0 };
        let open =
            v1::OpenChannelRequest { context: context(0), channel_id: SHOP.to_owned(), name: "가게".to_owned() };
        shop.take(vec![checked(open.into())]);
        let numbers: Vec<u64> = (1..=friends).collect();
        for numbers in numbers.chunks(256) {
            shop.take(numbers.iter().map(|number| checked(add(*number))).collect());
        }
        shop
    }

    /// The next commands: pushes of about 200 bytes, each to another friend.
    pub(crate) fn pushes(&mut self, count: u64) -> Vec<Submission> {
        let from = self.pushes;
        self.pushes += count;
        (from..from + count).map(|number| checked(push(number, number % self.friends + 1))).collect()
    }

    /// Decides commands into one record.
    pub(crate) fn record(&mut self, submissions: Vec<Submission>) -> Bytes {
        let (views, overlay, builder) = (self.views.clone(), &mut self.overlay, &mut self.builder);
        let (from, nothing) = (self.sequence, Channel::default());
        views.with_channel(SHOP, |table| {
            let base: &Channel = table.map_or(&nothing, |table| table);
            for submission in &submissions {
                let over = overlay.over(base);
                let revision = sillok_domain::Load::summary(&over).map_or(0, |summary| summary.revision) + 1;
                let events = decide(&over, &submission.command, 1).unwrap_or_else(|refusal| panic!("{refusal:?}"));
                let outcome = NewOutcome::Events { first_revision: revision, events: &events };
                let stamp = from + builder.push(&NewDecision::of(submission, outcome));
                for (nth, event) in (0..).zip(&events) {
                    overlay.apply(base, stamp + nth, revision + nth, 1, None, event);
                }
            }
        });
        self.sequence += self.builder.positions();
        let record = self.builder.finish(&self.head, from, 1);
        self.head = records::hash(&record);
        record
    }

    /// Folds the next record.
    pub(crate) fn fold(&mut self, record: &Bytes) {
        let folded = self.views.fold(self.index, 1, RECORD, record, None).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(folded, Folded::Recorded { .. }), "{folded:?}");
        self.index += 1;
        self.overlay.evict(self.sequence - 1);
    }

    fn take(&mut self, submissions: Vec<Submission>) {
        let record = self.record(submissions);
        self.fold(&record);
    }
}

fn checked(command: v1::Command) -> Submission {
    command_from_proto(command).unwrap_or_else(|error| panic!("{error}"))
}

fn context(number: u64) -> Option<v1::CommandContext> {
    Some(v1::CommandContext { retry_key: format!("{number:032x}"), ..Default::default() })
}

fn add(number: u64) -> v1::Command {
    let attribute = |key: &str, value: String| v1::Attribute { key: key.to_owned(), value };
    v1::AddFriendRequest {
        context: context(number),
        channel_id: SHOP.to_owned(),
        user_key: format!("u{number}"),
        source: v1::FriendSource::Search.into(),
        attributes: vec![attribute("region", format!("region-{}", number % 17))],
        consents: Vec::new(),
    }
    .into()
}

fn push(number: u64, friend: u64) -> v1::Command {
    let body = v1::MessageBody { text: "x".repeat(140), is_ad: false, unit_price_won: 15 };
    v1::SendPushRequest {
        context: context(1 << 32 | number),
        channel_id: SHOP.to_owned(),
        user_key: format!("u{friend}"),
        body: Some(body),
    }
    .into()
}
