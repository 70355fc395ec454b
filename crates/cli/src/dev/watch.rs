//! Looks at the three sites all the time: who is up, who leads, and whether reads that need the majority are answered.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sillok_client::{Client, Cluster, v1};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    endpoints::DevEndpoints,
    format::{duration, thousands},
};

const EVERY: Duration = Duration::from_millis(100);
/// A node that does not tell its status within this is dark.
const PATIENCE: Duration = Duration::from_millis(400);
/// Shorter silences are not worth a word.
const GAP: Duration = Duration::from_millis(250);

/// What was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    /// By site, in their order.
    pub(super) up: Vec<bool>,
    pub(super) leader: Option<u64>,
    pub(super) sequence: u64,
    /// How many events and refusals were recorded in the last second or so.
    pub(super) per_second: f64,
    /// When a read that needs the majority was last answered, and how long it took.
    pub(super) answered: Option<(Instant, Duration)>,
    /// The last silence between two such answers that was worth a word.
    pub(super) gap: Option<Duration>,
    /// How often a site was killed or started: what was asked before the last time says nothing any more.
    turns: u64,
}

/// Two tasks and what they saw.
pub(super) struct Watch {
    seen: watch::Sender<Watched>,
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    pub(super) fn start(client: &Client, cluster: &DevEndpoints) -> Watch {
        let first = Watched { up: vec![false; cluster.sites.len()], ..Default::default() };
        let seen = watch::Sender::new(first);
        let addresses: Vec<String> = cluster.sites.iter().map(|site| site.client.clone()).collect();
        let status = tokio::spawn(look(client.clone(), addresses, seen.clone()));
        let reads = tokio::spawn(ask(client.clone(), seen.clone()));
        Watch { seen, tasks: [status, reads] }
    }

    pub(super) fn now(&self) -> Watched {
        self.seen.borrow().clone()
    }

    /// A site was killed or started: it is not up until it is seen anew.
    pub(super) fn turned(&self, index: usize) {
        self.seen.send_modify(|watched| {
            watched.turns += 1;
            if let Some(up) = watched.up.get_mut(index) {
                *up = false;
            }
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Asks every node for its status.
async fn look(client: Client, addresses: Vec<String>, seen: watch::Sender<Watched>) {
    let mut rate: Option<(Instant, u64)> = None;
    loop {
        let turns = seen.borrow().turns;
        let statuses = join_all(addresses.iter().map(|address| async {
            let mut node = Cluster::new(client.channel(address)?);
            let answer = tokio::time::timeout(PATIENCE, node.get_status(v1::GetStatusRequest {})).await;
            Some(answer.ok()?.ok()?.into_inner())
        }))
        .await;
        // Of those who say that somebody leads, the latest term is right.
        let newest = statuses.iter().flatten().filter(|status| status.leader_id != 0).max_by_key(|status| status.term);
        let leader = newest.map(|status| status.leader_id);
        let sequence = statuses.iter().flatten().filter_map(|status| status.info.as_ref()?.position.as_ref());
        let sequence = sequence.map(|position| position.sequence).max();
        let up = statuses.iter().map(Option::is_some).collect::<Vec<_>>();
        let leader_up = leader.filter(|id| {
            // A node that is dark leads nobody, whatever the others still believe.
            usize::try_from(*id).ok().and_then(|id| up.get(id.checked_sub(1)?).copied()).unwrap_or(false)
        });
        seen.send_modify(|watched| {
            if watched.turns == turns {
                watched.up = up;
                watched.leader = leader_up;
            }
            if let Some(sequence) = sequence {
                let (at, before) = *rate.get_or_insert((Instant::now(), sequence));
                if at.elapsed() >= Duration::from_secs(1) {
                    watched.per_second = sequence.saturating_sub(before) as f64 / at.elapsed().as_secs_f64();
                    rate = Some((Instant::now(), sequence));
                }
                watched.sequence = watched.sequence.max(sequence);
            }
        });
        tokio::time::sleep(EVERY).await;
    }
}

/// Asks for what only the majority can answer.
async fn ask(client: Client, seen: watch::Sender<Watched>) {
    let mut last: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let request = v1::ListChannelsRequest { options: None, page_size: 1, page_token: String::new() };
        let answer = client
            .read(|mut node| {
                let request = request.clone();
                async move { node.list_channels(request).await }
            })
            .await;
        if answer.is_ok() {
            let now = Instant::now();
            let silence = last.map(|last| now - last).filter(|silence| *silence > GAP);
            last = Some(now);
            seen.send_modify(|watched| {
                watched.answered = Some((now, now - asked));
                watched.gap = silence.or(watched.gap);
            });
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl Watched {
    /// All of it in one line.
    pub(super) fn line(&self, cluster: &DevEndpoints, running: &[bool], writes: &str) -> String {
        let mut parts = Vec::new();
        for (index, site) in cluster.sites.iter().enumerate() {
            let state = match (running[index], self.up[index]) {
                (false, _) => "dark",
                (true, false) => "starting",
                (true, true) if self.leader == Some(site.id) => "leads",
                (true, true) => "up",
            };
            parts.push(format!("[{}] {} {state}", index + 1, site.site));
        }
        let mut line = parts.join("  ");
        line.push_str(&format!(
            " · position {} · {}/s",
            thousands(self.sequence),
            thousands(self.per_second.round() as u64)
        ));
        match self.answered {
            Some((at, _)) if at.elapsed() > GAP + EVERY => {
                line.push_str(&format!(" · no answer for {}", duration(at.elapsed())));
            }
            Some((_, took)) => line.push_str(&format!(" · answers in {:.1} ms", took.as_secs_f64() * 1000.0)),
            None => line.push_str(" · no answer yet"),
        }
        line.push_str(writes);
        line
    }
}
