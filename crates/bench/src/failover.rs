//! Failover: how long nobody's write is acknowledged after the leader's process was killed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sillok_drill::within;
use tokio::task::JoinSet;

use crate::{BenchError, Event, Figure, Run, Screen, Target, Work, nodes};

/// What is killed how often under which load.
#[derive(Debug, Clone)]
pub struct Failover {
    /// Leaders killed, one after the other; at least 1.
    pub rounds: usize,
    /// Clients that write, one command at a time each; at least 1.
    pub writers: usize,
}

/// Load before each kill, and after writes go on.
const BEFORE: Duration = Duration::from_secs(1);
/// Acknowledgements after a kill that say that writes go on.
const SOME: u64 = 200;
/// Far longer than any failover.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Acknowledgements as they come.
#[derive(Default)]
struct Acknowledged {
    total: u64,
    last: Option<Instant>,
    /// Since the mark.
    since: u64,
    longest: Duration,
    over: bool,
    failure: Option<BenchError>,
}

impl Acknowledged {
    fn one(&mut self) {
        let now = Instant::now();
        let gap = self.last.map_or(Duration::ZERO, |last| now - last);
        (self.total, self.since, self.last) = (self.total + 1, self.since + 1, Some(now));
        self.longest = self.longest.max(gap);
    }

    fn mark(&mut self) {
        (self.since, self.longest) = (0, Duration::ZERO);
    }
}

/// Kills the leader again and again under load; the killed node comes back before the next round.
///
/// # Errors
/// Only a cluster of the bench's own can be killed; a command without a receipt; a node that does not come back.
pub async fn run(target: &mut Target, failover: &Failover, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    target.cluster("failover")?;
    let work = Work::new(Event::Push, 200, 8, 100);
    screen.progress("making the channels");
    let prepared = work.prepare(&target.client()?).await?;
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let mut writers = JoinSet::new();
    for writer in 0..failover.writers {
        let (client, mut lane) = (target.client()?, work.lane(writer, failover.writers));
        let acknowledged = Arc::clone(&acknowledged);
        writers.spawn(async move {
            while !acknowledged.lock().over {
                match client.execute(lane.next()).await {
                    Ok(_) => acknowledged.lock().one(),
                    Err(error) => {
                        let mut acknowledged = acknowledged.lock();
                        let total = acknowledged.total;
                        acknowledged.over = true;
                        acknowledged.failure.get_or_insert(BenchError::write(
                            "a write was lost to a failover",
                            total,
                            error,
                        ));
                    }
                }
            }
        });
    }
    let mut gaps = Vec::new();
    for round in 1..=failover.rounds {
        let gap = kill_leader(target, &acknowledged).await;
        if let Some(error) = acknowledged.lock().failure.take() {
            return Err(error);
        }
        let gap = gap?;
        screen.progress(&format!("leader {round} of {} killed: {:.2} s", failover.rounds, gap.as_secs_f64()));
        gaps.push(gap.as_secs_f64());
    }
    acknowledged.lock().over = true;
    while let Some(writer) = writers.join_next().await {
        writer?;
    }
    let (failure, total) = {
        let mut all = acknowledged.lock();
        (all.failure.take(), all.total)
    };
    match failure {
        Some(error) => return Err(error),
        None => target.holds(&work, prepared + total).await?,
    }
    let run = Run {
        bench: "failover",
        title: format!("kill -9 of the leader, {} clients writing", failover.writers),
        figures: figures(&gaps),
        ..Run::default()
    };
    Ok(vec![run.asked("rounds", failover.rounds).asked("writers", failover.writers).asked("gaps_seconds", gaps)])
}

/// The longest time without an acknowledgement around the death of the leader.
async fn kill_leader(target: &mut Target, acknowledged: &Mutex<Acknowledged>) -> Result<Duration, BenchError> {
    let cluster = target.cluster("failover")?;
    let leader = cluster.leader().await?;
    tokio::time::sleep(BEFORE).await;
    acknowledged.lock().mark();
    cluster.kill(leader)?;
    let some = || async {
        let seen = acknowledged.lock();
        (seen.failure.is_some() || seen.since >= SOME && seen.longest > Duration::ZERO).then_some(())
    };
    // What was on the way when the leader died counts too: writes go on once somebody else leads.
    cluster.leader().await?;
    within("writes after a failover", BACK_WITHIN, some).await?;
    let seen = acknowledged.lock().since;
    within("more writes after a failover", BACK_WITHIN, || async {
        let all = acknowledged.lock();
        (all.failure.is_some() || all.since >= seen + SOME).then_some(())
    })
    .await?;
    let gap = acknowledged.lock().longest;
    cluster.spawn(leader)?;
    nodes::level(cluster, leader).await?;
    Ok(gap)
}

fn figures(gaps: &[f64]) -> Vec<Figure> {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let longest = sorted.last().copied().unwrap_or_default();
    vec![
        Figure::new("without an acknowledgement, median", median, "s"),
        Figure::new("without an acknowledgement, longest", longest, "s"),
    ]
}
