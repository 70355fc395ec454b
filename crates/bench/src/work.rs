//! What is written: one kind of event again and again, or what a platform does in a day.

mod day;

use std::sync::Arc;

use sillok_client::{Client, commands, v1};

use self::day::Day;
use crate::BenchError;

/// What an event takes besides the text or the attributes' values, in bytes.
const FIXED_BYTES: usize = 60;
/// Of a push, in bytes, about: it says something, and not too much.
const SIZES: std::ops::RangeInclusive<usize> = FIXED_BYTES + 4..=1000;
/// An attribute's value may be a little longer.
const VALUE_BYTES: usize = 56;
/// Won for each message.
const PRICE_WON: i64 = 15;
/// The coupon that every channel of a mix has.
const COUPON: &str = "bench";
/// Of its tickets: the most that a coupon may have.
const CAP: u64 = 1_000_000_000;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To one friend: the commonest event that costs money.
    Push,
    /// A friend's attributes set anew: costs the views most, which stay as large as they are.
    Attributes,
    /// A day on a platform, as far as its kinds exist: friend adds 8, tickets issued and redeemed 6 each, attributes 4, batches
    /// of tickets 3, blocks 2, sends 1.5 (of which 70 % narrowcast); channels by Zipf's law (exponent 1.1); 2 % are repeated
    /// under their key.
    Mix,
}

impl Event {
    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Event::Push => "push",
            Event::Attributes => "attributes",
            Event::Mix => "mix",
        }
    }
}

/// Channels that are written to, and with what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Work(Arc<Plan>);

#[derive(Debug)]
struct Plan {
    event: Event,
    filler: String,
    channels: Vec<Channel>,
    day: Day,
}

#[derive(Debug)]
struct Channel {
    id: String,
    friends: usize,
}

/// One sequence of commands; what it writes disturbs no other lane.
pub(crate) struct Lane {
    plan: Arc<Plan>,
    number: usize,
    stride: usize,
    day: day::Turn,
}

impl Work {
    /// In `channels` channels of `friends` friends on average, all of them new (`bench-…`). `size`: of an event, in bytes, about.
    pub fn new(event: Event, size: usize, channels: usize, friends: usize) -> Work {
        let size = size.clamp(*SIZES.start(), *SIZES.end());
        let prefix: String = sillok_client::retry_key().chars().take(8).collect();
        let day = Day::new(channels);
        let of = |index: usize| match event {
            Event::Mix => day.friends(index, friends),
            Event::Push | Event::Attributes => friends,
        };
        let channels =
            (0..channels).map(|index| Channel { id: format!("bench-{prefix}-{index}"), friends: of(index) }).collect();
        Work(Arc::new(Plan { event, filler: "x".repeat(size - FIXED_BYTES), channels, day }))
    }

    /// Opens the channels and adds their friends; events that this took.
    ///
    /// # Errors
    /// One was not recorded.
    pub async fn prepare(&self, client: &Client) -> Result<u64, BenchError> {
        let plan = &self.0;
        let (mut sender, mut answers) = client.submit().split();
        let send = async {
            for channel in &plan.channels {
                let mut open = sender.send(commands::open_channel(&channel.id, "bench")).await.is_ok();
                for number in 0..channel.friends {
                    open = open && sender.send(plan.add(channel, number)).await.is_ok();
                }
                if plan.event == Event::Mix {
                    let coupon = commands::define_coupon(&channel.id, COUPON, "bench", CAP);
                    open = open && sender.send(coupon).await.is_ok();
                }
                if !open {
                    break;
                }
            }
            sender.close();
        };
        let receive = async {
            let mut made = 0;
            while let Some(answer) = answers.next().await {
                answer.outcome.map_err(|error| BenchError::write("the channels cannot be made", made, error))?;
                made += 1;
            }
            Ok(made)
        };
        tokio::join!(send, receive).1
    }

    /// The n-th of `stride` lanes.
    pub(crate) fn lane(&self, number: usize, stride: usize) -> Lane {
        Lane { plan: Arc::clone(&self.0), number, stride, day: day::Turn::new() }
    }

    /// Ids of all channels.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.0.channels.iter().map(|channel| channel.id.as_str())
    }
}

impl Plan {
    fn add(&self, channel: &Channel, number: usize) -> v1::AddFriendRequest {
        let add = commands::add_friend(&channel.id, friend(number));
        match self.event {
            Event::Mix => v1::AddFriendRequest { attributes: day::attributes(number), ..add },
            Event::Push | Event::Attributes => add,
        }
    }

    fn set(&self, channel: &str, friend: String) -> v1::SetAttributesRequest {
        let values = self.filler.as_bytes().chunks(VALUE_BYTES).map(String::from_utf8_lossy);
        let set = values.enumerate().map(|(index, value)| (format!("bench_{index}"), value.into_owned()));
        commands::set_attributes(channel, friend, set, [])
    }
}

impl Lane {
    /// The next command.
    pub(crate) fn next(&mut self) -> v1::Command {
        let plan = &self.plan;
        let number = self.number;
        self.number += self.stride;
        let channel = &plan.channels[number % plan.channels.len()];
        let friend = friend(number / plan.channels.len() % channel.friends.max(1));
        match plan.event {
            Event::Push => {
                commands::send_push(&channel.id, friend, commands::body(plan.filler.clone(), PRICE_WON)).into()
            }
            Event::Attributes => plan.set(&channel.id, friend).into(),
            Event::Mix => self.day.next(plan),
        }
    }
}

fn friend(number: usize) -> String {
    format!("u{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest event that could be asked for was refused: it said nothing.
    #[test]
    fn an_event_of_any_size_says_something() {
        for size in [0, *SIZES.start(), *SIZES.end(), usize::MAX] {
            let work = Work::new(Event::Push, size, 1, 1);
            let command = work.lane(0, 1).next();
            let Some(v1::command::Command::SendPush(push)) = command.command else { panic!("{command:?}") };
            let text = push.body.unwrap_or_default().text;
            assert!((1..=1_000).contains(&text.len()), "{size}: {}", text.len());
        }
    }
}
