//! Imports and broadcasts: how fast friends come, and what it takes to write to all of them at once.

use std::time::{Duration, Instant};

use sillok_client::{commands, v1};
use sillok_drill::page::thousands;

use crate::{
    BenchError, Cost, Figure, Pace, Run, Screen, Target,
    latency::{histogram, microseconds},
    load::feed::feed,
};

/// A node keeps a friend in memory and on disk; each of three nodes does.
const ROOM_BYTES_PER_FRIEND: u64 = 3 * 600;
/// Beyond the ordinary: a broadcast to ten million is one record.
const PATIENCE: Duration = Duration::from_secs(120);

/// Friends of one channel, imported.
#[derive(Debug, Clone)]
pub struct Import {
    /// How many; at least 1.
    pub friends: u64,
}

/// Sends to everyone, to growing audiences.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// Friends of the channel, ascending.
    pub audiences: Vec<u64>,
    /// To each of them, one after the other; at least 1.
    pub sends: usize,
}

/// A channel that grows.
struct Grown {
    channel: String,
    friends: u64,
}

impl Grown {
    async fn open(target: &Target) -> Result<Grown, BenchError> {
        let prefix: String = sillok_client::retry_key().chars().take(8).collect();
        let channel = format!("bench-{prefix}-audience");
        let open = commands::open_channel(&channel, "bench");
        target
            .client()?
            .execute(open)
            .await
            .map_err(|error| BenchError::write("the channel cannot be made", 0, error))?;
        Ok(Grown { channel, friends: 0 })
    }

    /// Adds friends with two attributes and a consent, as `sillok import` does, until there are so many.
    async fn grow(&mut self, target: &mut Target, to: u64, screen: &dyn Screen) -> Result<Run, BenchError> {
        let more = to.saturating_sub(self.friends);
        target.has_room(more * ROOM_BYTES_PER_FRIEND)?;
        let first = self.friends;
        let channel = self.channel.clone();
        let before = target.snapshot().await;
        let fed = feed(&target.client()?, more, "the friends cannot be imported", screen, |number| {
            let number = first + number;
            v1::AddFriendRequest {
                source: v1::FriendSource::Import as i32,
                attributes: commands::attributes([
                    ("region".to_owned(), format!("region-{}", number % 17)),
                    ("age_band".to_owned(), format!("{}0s", number % 6 + 1)),
                ]),
                consents: vec![v1::Consent::Advertising as i32],
                ..commands::add_friend(&channel, format!("user-{number:010}"))
            }
            .into()
        })
        .await?;
        let after = target.snapshot().await;
        target.all_running()?;
        self.friends = to;
        let pace = Pace::new(&fed.latency, fed.took.as_secs_f64(), fed.moments);
        let cost = Cost::between(&before, &after, more);
        let title = format!("friends {} to {}", thousands(first + 1), thousands(to));
        let run = Run { bench: "import", title, pace: Some(pace), cost: Some(cost), ..Run::default() };
        Ok(run.asked("friends", to).asked("mode", "submit").asked("loop", "closed"))
    }

    /// Sends one after the other to everyone.
    async fn broadcast(&self, target: &mut Target, sends: usize, screen: &dyn Screen) -> Result<Run, BenchError> {
        let client = target.client()?.with_deadline(PATIENCE);
        let mut latency = histogram();
        let before = target.snapshot().await;
        let begun = Instant::now();
        for number in 1..=sends {
            screen.progress(&format!("broadcast {number} of {sends} to {} friends", thousands(self.friends)));
            let send = commands::send_broadcast(&self.channel, commands::body("오늘 저녁 6시에 문을 닫습니다.", 15));
            let sent = Instant::now();
            let receipt = client
                .execute(send)
                .await
                .map_err(|error| BenchError::write("a broadcast was not recorded", number as u64 - 1, error))?;
            latency.saturating_record(microseconds(sent.elapsed()));
            let reached = match receipt.detail {
                Some(v1::receipt::Detail::Send(send)) => send.audience_count,
                _ => 0,
            };
            if reached != self.friends {
                return Err(BenchError::Wrong(format!("a broadcast to {} friends reached {reached}", self.friends)));
            }
        }
        let took = begun.elapsed();
        let after = target.snapshot().await;
        target.all_running()?;
        let pace = Pace::new(&latency, took.as_secs_f64(), Vec::new());
        let recipients = pace.events_per_second * self.friends as f64;
        let cost = Cost::between(&before, &after, sends as u64);
        let run = Run {
            bench: "broadcast",
            title: format!("to {} friends", thousands(self.friends)),
            figures: vec![Figure::new("recipients", recipients, "friends/s")],
            pace: Some(pace),
            cost: Some(cost),
            ..Run::default()
        };
        Ok(run.asked("audience", self.friends).asked("sends", sends).asked("loop", "closed"))
    }
}

/// One import.
///
/// # Errors
/// Too little room; a friend that was not recorded; a node that ended.
pub async fn import(target: &mut Target, import: &Import, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    Ok(vec![Grown::open(target).await?.grow(target, import.friends, screen).await?])
}

/// Imports friends up to each size, and sends to everyone there.
///
/// # Errors
/// As [`import`]; a broadcast that was not recorded, or reached others than every friend.
pub async fn broadcast(
    target: &mut Target,
    broadcast: &Broadcast,
    screen: &dyn Screen,
) -> Result<Vec<Run>, BenchError> {
    let mut grown = Grown::open(target).await?;
    let (mut imports, mut sends) = (Vec::new(), Vec::new());
    for &audience in &broadcast.audiences {
        imports.push(grown.grow(target, audience, screen).await?);
        sends.push(grown.broadcast(target, broadcast.sends, screen).await?);
    }
    imports.append(&mut sends);
    Ok(imports)
}
