//! What each bench can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};
use sillok_bench::{
    Event, How, Via, Window, audience, distance, failover, growth, lifecycle, overload, read, subscribe, write,
};

use super::Plan;
use crate::{failure::Failure, format::parse_duration};

#[derive(Args)]
pub(super) struct WriteArgs {
    /// One Submit stream a connection; default: one call of the Rust client for each command, and those that wait together travel
    /// together
    #[arg(long)]
    submit: bool,
    /// One gRPC call for each command, as clients in other languages make them
    #[arg(long, conflicts_with = "submit")]
    unary: bool,
    /// Commands sent and not yet answered, over all connections; several numbers are measured one after the other
    #[arg(long, default_value = "256", value_delimiter = ',', value_name = "N,…")]
    in_flight: Vec<usize>,
    /// Connections, each a client of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: usize,
    /// What is recorded
    #[arg(long, value_enum, default_value_t = EventArg::Push)]
    event: EventArg,
    /// Bytes of an event, about; 64 to 1,000. A mix has sizes of its own
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    size: usize,
    /// How long to measure, after the channels are made and the load has begun
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    seconds: Duration,
    /// Measure until at least so many are acknowledged, instead of for a time
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    events: Option<u64>,
    /// Load before it is measured
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    warm_up: Duration,
    /// Commands due a second, whether or not earlier ones are answered (up to --in-flight); latency counts from when each was due
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Over how many channels the commands are spread
    #[arg(long, default_value_t = 8, value_name = "N")]
    channels: usize,
    /// Friends of a channel, on average
    #[arg(long, default_value_t = 1000, value_name = "N")]
    friends: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EventArg {
    /// A push to one friend: the commonest event that costs money
    Push,
    /// A friend's attributes set anew: costs the views most, which stay as large as they are
    Attributes,
    /// A platform's day: friends, tickets, attributes, blocks and sends, channels by Zipf's law, 2 % repeated under their key
    Mix,
}

impl From<EventArg> for Event {
    fn from(event: EventArg) -> Event {
        match event {
            EventArg::Push => Event::Push,
            EventArg::Attributes => Event::Attributes,
            EventArg::Mix => Event::Mix,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("commands a second, 0.1 to 10,000,000".to_owned()),
    }
}

/// Each of these must be one at least.
pub(super) fn at_least_one(numbers: &[(&str, usize)]) -> Result<(), Failure> {
    match numbers.iter().find(|(_, number)| *number == 0) {
        Some((name, _)) => Err(Failure::usage(format!("{name} must be at least 1"))),
        None => Ok(()),
    }
}

impl WriteArgs {
    fn via(&self) -> Via {
        match (self.submit, self.unary) {
            (true, _) => Via::Submit,
            (false, true) => Via::Unary,
            (false, false) => Via::Calls,
        }
    }

    pub(super) fn plan(self) -> Result<write::Write, Failure> {
        let least = self.in_flight.iter().copied().min().unwrap_or(0);
        at_least_one(&[
            ("--in-flight", least),
            ("--connections", self.connections),
            ("--channels", self.channels),
            ("--friends", self.friends),
        ])?;
        if self.connections > least {
            return Err(Failure::usage(format!(
                "{} connections cannot share {least} in flight; each needs one at least",
                self.connections
            )));
        }
        let how = How {
            via: self.via(),
            in_flight: least,
            connections: self.connections,
            rate: self.rate,
            warm_up: self.warm_up,
            window: self
                .events
                .map_or_else(|| window(self.seconds).map(Window::Time), |events| Ok(Window::Events(events)))?,
        };
        let (event, size) = (self.event.into(), self.size);
        Ok(write::Write { in_flight: self.in_flight, how, event, size, channels: self.channels, friends: self.friends })
    }
}

#[derive(Args)]
pub(super) struct ReadArgs {
    /// Reads asked and not yet answered
    #[arg(long, default_value_t = 64, value_name = "N")]
    in_flight: usize,
    /// How long to measure each kind of read
    #[arg(long, default_value = "3s", value_parser = parse_duration, value_name = "TIME")]
    seconds: Duration,
    /// Friends of the channel that is read
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    friends: usize,
    /// Messages in its history
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    messages: u64,
    /// Friends of a page
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    page_size: u32,
}

impl ReadArgs {
    pub(super) fn plan(self) -> Result<read::Read, Failure> {
        at_least_one(&[("--in-flight", self.in_flight), ("--friends", self.friends)])?;
        let (in_flight, window, warm_up) = (self.in_flight, window(self.seconds)?, self.seconds / 6);
        let (friends, messages, page_size) = (self.friends, self.messages, self.page_size);
        Ok(read::Read { in_flight, warm_up, window, friends, messages, page_size })
    }
}

#[derive(Args)]
pub(super) struct SubscribeArgs {
    /// Subscribers of one channel; several numbers are measured one after the other
    #[arg(long, default_value = "1,10,100", value_delimiter = ',', value_name = "N,…")]
    subscribers: Vec<usize>,
    /// Events written a second meanwhile
    #[arg(long, default_value = "500", value_name = "N", value_parser = rate)]
    rate: f64,
    /// How long to measure each
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    seconds: Duration,
}

impl SubscribeArgs {
    pub(super) fn plan(self) -> Result<subscribe::Subscribe, Failure> {
        at_least_one(&[("--subscribers", self.subscribers.iter().copied().min().unwrap_or(0))])?;
        let (subscribers, rate, window) = (self.subscribers, self.rate, window(self.seconds)?);
        Ok(subscribe::Subscribe { subscribers, rate, warm_up: self.seconds / 10, window })
    }
}

#[derive(Args)]
pub(super) struct BroadcastArgs {
    /// Friends of the channel, imported first; ascending. Ten million take 4 GB of memory in each of three nodes
    #[arg(long, default_value = "1000,100000,1000000", value_delimiter = ',', value_name = "N,…")]
    audiences: Vec<u64>,
    /// Broadcasts to each, one after the other
    #[arg(long, default_value_t = 20, value_name = "N")]
    sends: usize,
}

impl BroadcastArgs {
    pub(super) fn plan(self) -> Result<audience::Broadcast, Failure> {
        at_least_one(&[("--sends", self.sends)])?;
        Ok(audience::Broadcast { audiences: ascending("--audiences", self.audiences)?, sends: self.sends })
    }
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// How many, into one channel
    #[arg(long, default_value_t = 500_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) friends: u64,
}

#[derive(Args)]
pub(super) struct FailoverArgs {
    /// Leaders killed, one after the other
    #[arg(long, default_value_t = 10, value_name = "N")]
    rounds: usize,
    /// Clients that write, one command at a time each
    #[arg(long, default_value_t = 8, value_name = "N")]
    writers: usize,
}

impl FailoverArgs {
    pub(super) fn plan(self) -> Result<failover::Failover, Failure> {
        at_least_one(&[("--rounds", self.rounds), ("--writers", self.writers)])?;
        Ok(failover::Failover { rounds: self.rounds, writers: self.writers })
    }
}

#[derive(Args)]
pub(super) struct StockArgs {
    /// Recorded first, of about 200 bytes
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(super) events: u64,
}

#[derive(Args)]
pub(super) struct GrowthArgs {
    /// Recorded events at which everything is measured; ascending
    #[arg(long, default_value = "10000,1000000", value_delimiter = ',', value_name = "N,…")]
    events: Vec<u64>,
    /// Bytes of an event, about; 64 to 1,000
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(64..=1_000))]
    size: u16,
    /// How long to measure each write latency
    #[arg(long, default_value = "3s", value_parser = parse_duration, value_name = "TIME")]
    seconds: Duration,
}

impl GrowthArgs {
    pub(super) fn plan(self) -> Result<growth::Growth, Failure> {
        Ok(growth::Growth {
            events: ascending("--events", self.events)?,
            event_bytes: self.size.into(),
            window: window(self.seconds)?,
        })
    }
}

#[derive(Args)]
pub(super) struct OverloadArgs {
    /// Multiples of what the cluster takes in a closed loop; ascending
    #[arg(long, default_value = "0.5,1,2,3,5", value_delimiter = ',', value_name = "N,…", value_parser = factor)]
    factors: Vec<f64>,
    /// Commands that go out together, each batch a Submit stream of its own; 1: unary calls, which cost both sides as much HTTP/2
    /// when they are refused
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Connections that batches share
    #[arg(long, default_value_t = 4, value_name = "N")]
    connections: usize,
    /// How long to measure each
    #[arg(long, default_value = "4s", value_parser = parse_duration, value_name = "TIME")]
    seconds: Duration,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (0.01..=100.0).contains(&factor) => Ok(factor),
        _ => Err("a multiple, 0.01 to 100".to_owned()),
    }
}

impl OverloadArgs {
    pub(super) fn plan(self) -> Result<overload::Overload, Failure> {
        at_least_one(&[("--connections", self.connections)])?;
        if !self.factors.is_sorted_by(|a, b| a < b) {
            return Err(Failure::usage("--factors must be ascending"));
        }
        let (batch, connections, window) = (usize::from(self.batch), self.connections, window(self.seconds)?);
        Ok(overload::Overload { factors: self.factors, batch, connections, window })
    }
}

#[derive(Args)]
pub(super) struct DistanceArgs {
    /// Round trips between any two sites, in milliseconds, ascending; the others are compared with the first
    #[arg(long, default_value = "0,20,60", value_delimiter = ',', value_name = "MS,…", value_parser = round_trip())]
    round_trips: Vec<u64>,
    /// And then one site so far away, in milliseconds, and the others as near as the first; 0: without
    #[arg(long, default_value_t = 200, value_name = "MS", value_parser = round_trip())]
    one_site: u64,
    /// Calls in flight; Submit with 8,192 in flight is measured besides
    #[arg(long, default_value = "1,1024", value_delimiter = ',', value_name = "N,…")]
    in_flight: Vec<usize>,
    /// How long to measure each
    #[arg(long, default_value = "3s", value_parser = parse_duration, value_name = "TIME")]
    seconds: Duration,
}

/// Nodes that are further away take each other for dead.
fn round_trip() -> clap::builder::RangedU64ValueParser {
    clap::builder::RangedU64ValueParser::new().range(0..=250)
}

impl DistanceArgs {
    pub(super) fn plan(self) -> Result<distance::Distance, Failure> {
        at_least_one(&[("--in-flight", self.in_flight.iter().copied().min().unwrap_or(0))])?;
        if self.round_trips.is_empty() || !self.round_trips.is_sorted_by(|a, b| a < b) {
            return Err(Failure::usage("--round-trips must be ascending"));
        }
        let one_site_ms = (self.one_site > 0).then_some(self.one_site);
        let (round_trips_ms, in_flight, window) = (self.round_trips, self.in_flight, window(self.seconds)?);
        Ok(distance::Distance { round_trips_ms, one_site_ms, in_flight, window })
    }
}

/// Everything in short; what stops nodes only where they are the bench's own.
pub(super) fn short(own: bool) -> Vec<Plan> {
    let second = Duration::from_secs(1);
    let mut plans = vec![
        Plan::Write(write::Write::short(vec![1, 16, 64, 256], Via::Calls, 1, 3 * second)),
        Plan::Write(write::Write::short(vec![8192], Via::Submit, 4, 3 * second)),
        Plan::Read(read::Read {
            in_flight: 64,
            warm_up: second / 4,
            window: second,
            friends: 10_000,
            messages: 20_000,
            page_size: 100,
        }),
        Plan::Subscribe(subscribe::Subscribe {
            subscribers: vec![1, 10, 100],
            rate: 200.0,
            warm_up: second / 2,
            window: 2 * second,
        }),
        Plan::Broadcast(audience::Broadcast { audiences: vec![1_000, 100_000], sends: 10 }),
    ];
    if own {
        plans.push(Plan::Failover(failover::Failover { rounds: 3, writers: 8 }));
        plans.push(Plan::Lifecycle(lifecycle::Lifecycle {
            events: 500_000,
            kinds: vec![lifecycle::Kind::Restart, lifecycle::Kind::Rebuild, lifecycle::Kind::CatchUp],
        }));
    }
    plans
}

fn window(seconds: Duration) -> Result<Duration, Failure> {
    if seconds.is_zero() { Err(Failure::usage("--seconds must be more than none")) } else { Ok(seconds) }
}

fn ascending(name: &str, numbers: Vec<u64>) -> Result<Vec<u64>, Failure> {
    match numbers.first() {
        Some(first) if *first > 0 && numbers.is_sorted_by(|a, b| a < b) => Ok(numbers),
        _ => Err(Failure::usage(format!("{name} must be numbers from 1 on, ascending"))),
    }
}
