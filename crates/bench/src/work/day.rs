//! A day on a platform: which command comes next, and where.

use std::collections::VecDeque;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use sillok_client::{commands, commands::Conditions as _, v1};

use super::{COUPON, PRICE_WON, Plan, friend};

/// Of Zipf's law, for how large channels are and how often they are written to.
const EXPONENT: f64 = 1.1;
/// One command of so many is repeated under its key.
const REPEATED: u32 = 50;
/// Friends in a batch of tickets.
const BATCH: usize = 20;
/// Scalars of a message's text.
const TEXT: std::ops::RangeInclusive<usize> = 50..=1000;
/// Regions that friends live in: a narrowcast is to one.
const REGIONS: usize = 17;

/// How the writes of a day are spread over channels.
#[derive(Debug)]
pub(super) struct Day {
    /// The share of each channel and of all before it.
    shares: Vec<f64>,
}

impl Day {
    pub(super) fn new(channels: usize) -> Day {
        let weights = (1..=channels).map(|rank| (rank as f64).powf(-EXPONENT));
        let total: f64 = weights.clone().sum();
        let shares = weights.scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        Day { shares: shares.collect() }
    }

    /// How many friends this channel has where channels have so many on average; at least [`BATCH`].
    pub(super) fn friends(&self, channel: usize, average: usize) -> usize {
        let before = if channel == 0 { 0.0 } else { self.shares[channel - 1] };
        let share = self.shares[channel] - before;
        ((share * (average * self.shares.len()) as f64) as usize).max(BATCH)
    }

    fn channel(&self, random: &mut SmallRng) -> usize {
        let drawn: f64 = random.random();
        self.shares.partition_point(|share| *share < drawn).min(self.shares.len() - 1)
    }
}

/// Attributes of the n-th friend.
pub(super) fn attributes(number: usize) -> Vec<v1::Attribute> {
    let age = ["10s", "20s", "30s", "40s", "50s"][number % 5];
    commands::attributes([("region".to_owned(), region(number)), ("age_band".to_owned(), age.to_owned())])
}

fn region(number: usize) -> String {
    format!("region-{}", number % REGIONS)
}

/// What one lane has under way: nobody else touches its friends and tickets, so that nothing it asks for is refused.
pub(super) struct Turn {
    random: SmallRng,
    name: u64,
    made: u64,
    /// Added here and not blocked: channel and user key.
    friends: VecDeque<(usize, String)>,
    blocked: Option<(usize, String)>,
    /// Issued here and not redeemed.
    tickets: VecDeque<(usize, String)>,
    repeat: Option<v1::Command>,
}

impl Turn {
    pub(super) fn new() -> Turn {
        let mut random = SmallRng::from_os_rng();
        let name = random.random();
        Turn { random, name, made: 0, friends: VecDeque::new(), blocked: None, tickets: VecDeque::new(), repeat: None }
    }

    pub(super) fn next(&mut self, plan: &Plan) -> v1::Command {
        if let Some(repeated) = self.repeat.take() {
            return repeated;
        }
        let command = self.fresh(plan);
        if self.random.random_ratio(1, REPEATED) {
            let command = command.with_key(sillok_client::retry_key());
            self.repeat = Some(command.clone());
            return command;
        }
        command
    }

    fn fresh(&mut self, plan: &Plan) -> v1::Command {
        let at = plan.day.channel(&mut self.random);
        let channel = &plan.channels[at];
        let someone = self.random.random_range(0..channel.friends);
        match self.random.random_range(0..305) {
            0..80 => self.add(plan, at),
            80..140 => self.issue(plan, at, someone),
            140..200 => match self.tickets.pop_front() {
                Some((at, ticket)) => commands::redeem_ticket(&plan.channels[at].id, ticket).into(),
                None => self.issue(plan, at, someone),
            },
            200..240 => plan.set(&channel.id, friend(someone)).into(),
            240..270 => {
                let first = self.random.random_range(0..=channel.friends - BATCH);
                let friends = commands::by_keys((first..first + BATCH).map(friend));
                commands::issue_tickets(&channel.id, COUPON, friends).into()
            }
            270..290 => self.block(plan, at),
            290..295 => commands::send_push(&channel.id, friend(someone), self.text()).into(),
            _ => {
                let any_of = vec![region(someone)];
                let rule = v1::Condition { key: "region".to_owned(), any_of, negate: false };
                let audience = commands::by_rule(v1::Rule { all_of: vec![rule] });
                commands::send_narrowcast(&channel.id, audience, self.text()).into()
            }
        }
    }

    fn text(&mut self) -> v1::MessageBody {
        let length = self.random.random_range(TEXT);
        commands::body("x".repeat(length), PRICE_WON)
    }

    /// A name that no other lane gives.
    fn name(&mut self) -> String {
        self.made += 1;
        format!("{:016x}-{}", self.name, self.made)
    }

    fn add(&mut self, plan: &Plan, at: usize) -> v1::Command {
        let user_key = self.name();
        self.friends.push_back((at, user_key.clone()));
        let attributes = attributes(self.random.random_range(0..1000));
        v1::AddFriendRequest { attributes, ..commands::add_friend(&plan.channels[at].id, user_key) }.into()
    }

    fn issue(&mut self, plan: &Plan, at: usize, someone: usize) -> v1::Command {
        let ticket_id = self.name();
        self.tickets.push_back((at, ticket_id.clone()));
        let issue = commands::issue_ticket(&plan.channels[at].id, COUPON, friend(someone));
        v1::IssueTicketRequest { ticket_id, ..issue }.into()
    }

    /// Every other one takes the block back.
    fn block(&mut self, plan: &Plan, at: usize) -> v1::Command {
        if let Some((at, user_key)) = self.blocked.take() {
            return commands::unblock_friend(&plan.channels[at].id, user_key).into();
        }
        let Some((at, user_key)) = self.friends.pop_front() else { return self.add(plan, at) };
        self.blocked = Some((at, user_key.clone()));
        commands::block_friend(&plan.channels[at].id, user_key).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{Event, Work};

    #[test]
    fn the_largest_channel_has_its_share_and_the_smallest_enough_for_a_batch() {
        let day = Day::new(1000);
        let sizes: Vec<usize> = (0..1000).map(|channel| day.friends(channel, 1000)).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert!(sizes[0] > 100_000 && sizes[999] >= BATCH, "{} {}", sizes[0], sizes[999]);
    }

    /// A ticket must be issued before it is redeemed, and only once; a friend added before it is blocked.
    #[test]
    fn nothing_is_asked_for_that_must_be_refused() {
        use std::collections::HashSet;
        use v1::command::Command as Kind;
        let work = Work::new(Event::Mix, 200, 8, 100);
        let mut lane = work.lane(0, 1);
        let (mut issued, mut redeemed, mut added, mut repeated) = (HashSet::new(), HashSet::new(), HashSet::new(), 0);
        let mut keys = HashSet::new();
        for _ in 0..10_000 {
            let mut command = lane.next();
            let key = command.context_mut().and_then(|context| context.as_ref().map(|c| c.retry_key.clone()));
            if key.is_some_and(|key| !key.is_empty() && !keys.insert(key)) {
                repeated += 1;
                continue;
            }
            match command.command.unwrap() {
                Kind::IssueTicket(issue) => assert!(issued.insert((issue.channel_id, issue.ticket_id))),
                Kind::RedeemTicket(redeem) => {
                    let ticket = (redeem.channel_id, redeem.ticket_id);
                    assert!(issued.contains(&ticket) && redeemed.insert(ticket));
                }
                Kind::AddFriend(add) => assert!(added.insert((add.channel_id, add.user_key))),
                Kind::BlockFriend(block) => assert!(added.contains(&(block.channel_id, block.user_key))),
                _ => {}
            }
        }
        assert!(repeated > 100 && redeemed.len() > 1000, "{repeated} {}", redeemed.len());
    }
}
