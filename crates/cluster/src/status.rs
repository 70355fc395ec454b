//! Who leads, how far each site is, and what survives if a site burns now.
//!
//! Needs no leader: what this node does not know stays absent.

mod lag;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::async_runtime::{Instant as _, WatchReceiver as _};
use sillok_wire::{LOG, peer, recovery_to_proto, timestamp, v1};

use crate::{bootstrap, clocks, core::Core, execute::Front, network::cluster_hex, placement, roster::RosterView};

/// What a node says whose disk is full.
const DISK_FULL: &str = "the disk of this node has no space for another segment of the chronicle: free some, nothing is lost and \
                         it goes on by itself";
/// A peer is asked for this long at most.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// What is known of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Known {
    flushed: Option<u64>,
    is_reachable: bool,
    lag: Option<v1::Lag>,
}

/// Nodes that answered this leader within an election timeout; itself. Empty where this node does not lead.
pub(crate) fn reachable(core: &Core) -> BTreeSet<u64> {
    let within = Duration::from_millis(core.options.timings.election_max_ms);
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let mut reachable = BTreeSet::new();
    if let Some(heartbeats) = &metrics.heartbeat {
        let answered = heartbeats.iter().filter(|(_, at)| at.is_some_and(|at| at.elapsed() <= within));
        reachable.extend(answered.map(|(id, _)| *id));
        reachable.insert(core.id);
    }
    reachable
}

/// For followers' status: where this leader itself flushed and how far each follower has.
pub(crate) fn progress_here(core: &Core) -> peer::ProgressResponse {
    let reachable = reachable(core);
    let nodes = core
        .roster
        .view()
        .members
        .keys()
        .map(|&id| {
            let flushed = core.acks.flushed(id);
            let lag = flushed.and_then(|index| lag::behind(core, index));
            let flushed = flushed.map(|index| peer::LogId { term: term_at(core, index), index });
            peer::NodeProgress { node_id: id, flushed, reachable: reachable.contains(&id), lag }
        })
        .collect();
    let committed_index = core.commits.borrow().map_or(0, |commit| commit.log_id.index);
    peer::ProgressResponse { nodes, committed_index }
}

/// 0 where it is not in memory; only for display.
fn term_at(core: &Core, index: u64) -> u64 {
    core.chain.link(index).map_or(0, |(id, ..)| id.term)
}

/// What is known of each member: from our own acks where this node leads, else from the leader, else by asking around.
async fn known(core: &Arc<Core>, roster: &RosterView) -> BTreeMap<u64, Known> {
    let local = Known { flushed: core.acks.flushed(core.id), is_reachable: true, lag: None };
    let from_progress = |progress: peer::ProgressResponse| {
        let nodes = progress.nodes.into_iter().map(|node| {
            let flushed = node.flushed.map(|id| id.index);
            (node.node_id, Known { flushed, is_reachable: node.reachable, lag: node.lag })
        });
        let mut known: BTreeMap<u64, Known> = nodes.collect();
        let lag = known.get(&core.id).and_then(|known| known.lag);
        known.insert(core.id, Known { lag, ..local });
        known
    };
    match core.leader() {
        Some((leader, _)) if leader == core.id => return from_progress(progress_here(core)),
        Some((leader, _)) => {
            if let Ok(mut client) = core.peers.quick_client(leader, roster, ASK_WITHIN)
                && let Ok(answer) = client.progress(peer::ProgressRequest {}).await
            {
                return from_progress(answer.into_inner());
            }
        }
        None => {}
    }
    let asked = roster.members.iter().filter(|(id, _)| **id != core.id).map(|(&id, member)| async move {
        let address = core.peers.book().correct(id, member).peer_address;
        let answer = tokio::time::timeout(ASK_WITHIN, bootstrap::ask(core, id, &address)).await;
        let is_reachable = matches!(answer, Ok(Ok(hello)) if hello.incarnation == member.incarnation);
        (id, Known { is_reachable, ..Known::default() })
    });
    let mut known: BTreeMap<u64, Known> = futures::future::join_all(asked).await.into_iter().collect();
    known.insert(core.id, local);
    known
}

/// Every member, ascending.
pub(crate) async fn nodes(core: &Arc<Core>) -> Vec<v1::NodeStatus> {
    let roster = core.roster.view();
    let known = known(core, &roster).await;
    node_statuses(core, &roster, &known)
}

fn node_statuses(core: &Core, roster: &RosterView, known: &BTreeMap<u64, Known>) -> Vec<v1::NodeStatus> {
    let leader = core.leader().map(|(leader, _)| leader);
    let clocks = core.clocks.offsets();
    let mut scrubs = core.scrub.statuses(core.id);
    let leaders_last = match leader {
        Some(leader) if leader == core.id => core.chronicle.last().map(|last| last.index),
        Some(leader) => known.get(&leader).and_then(|known| known.flushed),
        None => None,
    };
    roster
        .members
        .iter()
        .map(|(&id, member)| {
            let Known { flushed, is_reachable, lag } = known.get(&id).copied().unwrap_or_default();
            let member = core.peers.book().correct(id, member);
            let role = if roster.is_voter(id) { v1::NodeRole::Voter } else { v1::NodeRole::Learner };
            v1::NodeStatus {
                node: Some(v1::Node {
                    id,
                    site: member.site,
                    peer_address: member.peer_address,
                    client_address: member.client_address,
                    incarnation: format!("{:016x}", member.incarnation),
                }),
                role: role.into(),
                leader: leader == Some(id),
                reachable: is_reachable,
                lag_entries: leaders_last.zip(flushed).map(|(last, flushed)| last.saturating_sub(flushed)),
                flushed_index: flushed,
                clock_offset_ms: clocks.get(&id).map(|nanos| nanos / 1_000_000),
                scrub: scrubs.remove(&id),
                lag,
            }
        })
        .collect()
}

/// What the views stand at; status is always read stale.
fn read_info(core: &Core) -> v1::ReadInfo {
    let applied = core.views.applied();
    v1::ReadInfo {
        position: applied.map(|applied| v1::Position {
            log: LOG,
            sequence: applied.sequence,
            term: applied.record_term,
        }),
        last_event_at: applied.and_then(|applied| applied.accepted_at).map(timestamp),
        current_as_of: applied.and_then(|applied| core.confirmed_at(applied.index)).map(timestamp),
        consistency: v1::ReadConsistency::Stale.into(),
        node_id: core.id,
        site: core.site.clone(),
    }
}

pub(crate) async fn status(core: &Arc<Core>, front: &Front) -> v1::GetStatusResponse {
    let leadership = *core.leadership.borrow();
    let trouble = core.failures.reported().map(|failure| failure.message).or_else(|| core.guard.trouble());
    let off = || core.clocks.off().map(|by| format!("this node's clock is {}: it does not lead", clocks::off(by)));
    let trouble = trouble.or_else(off).or_else(|| core.chronicle.is_disk_full().then(|| DISK_FULL.to_owned()));
    v1::GetStatusResponse {
        info: Some(read_info(core)),
        cluster_id: core.peers.local().cluster().map(|id| cluster_hex(&id)).unwrap_or_default(),
        term: leadership.term,
        leader_id: leadership.leader.unwrap_or(0),
        nodes: nodes(core).await,
        committed_index: core.commits.borrow().map_or(0, |commit| commit.log_id.index),
        applied_index: core.views.applied().map_or(0, |applied| applied.index),
        trouble: trouble.or_else(|| front.trouble()).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: sillok_wire::records::FEATURE_LEVEL,
        views_durable_lag_entries: core.views.durable_lag(),
        views_trouble: front.views_trouble().unwrap_or_default(),
        recovery: core.chain.recovery().map(|recovered| recovery_to_proto(&recovered.recovery)),
    }
}

pub(crate) async fn what_if(core: &Arc<Core>) -> v1::WhatIfResponse {
    let roster = core.roster.view();
    let known = known(core, &roster).await;
    let committed = core.commits.borrow().map(|commit| (commit.log_id.index, commit.next_sequence));
    let sites: BTreeSet<&str> = roster.members.values().map(|member| &*member.site).collect();
    let sites = sites.into_iter().map(|site| site_loss(core, &roster, &known, committed, site)).collect();
    v1::WhatIfResponse { info: Some(read_info(core)), sites }
}

/// What the loss of one site would mean, of what is known here. Nodes that do not answer count as lost already.
fn site_loss(
    core: &Core,
    roster: &RosterView,
    known: &BTreeMap<u64, Known>,
    committed: Option<(u64, u64)>,
    site: &str,
) -> v1::SiteLoss {
    let (at_site, elsewhere): (Vec<u64>, Vec<u64>) =
        roster.members.keys().partition(|id| roster.site_of(**id) == Some(site));
    let is_up = |id: &u64| known.get(id).is_some_and(|known| known.is_reachable);
    let writes_continue = !roster.configs.is_empty()
        && roster.configs.iter().all(|voters| {
            let left = voters.iter().filter(|id| elsewhere.contains(id) && is_up(id)).count();
            left >= placement::quorum(voters.len())
        });
    let reads_continue = elsewhere.iter().any(is_up);
    // A copy that differs from the others' counts for nothing until somebody has said which is right.
    let doubted = core.scrub.doubted(core.id);
    let (doubted, trusted): (Vec<u64>, Vec<u64>) = elsewhere.iter().partition(|id| doubted.contains(id));
    // A node that is down keeps its chronicle: its copy counts for the data.
    let furthest = trusted.iter().filter_map(|id| known.get(id)?.flushed).max();
    // `None`: not known here.
    let at_risk = match (committed, furthest) {
        (None, _) => Some(0),
        (Some((index, _)), Some(furthest)) if furthest >= index => Some(0),
        // Nothing was heard of what the others have flushed, which is no news of a loss.
        (Some(_), None) if !elsewhere.is_empty() => None,
        (Some((_, next)), furthest) => {
            let kept = core.chain.state_at(furthest).map_or(1, |state| state.next_sequence);
            Some(next.saturating_sub(kept))
        }
    };
    let (data_safe, events_at_risk) = (at_risk == Some(0), at_risk.unwrap_or(0));
    let summary = summary(site, at_risk, writes_continue, reads_continue, &doubted);
    v1::SiteLoss {
        site: site.to_owned(),
        nodes: at_site,
        data_safe,
        events_at_risk,
        writes_continue,
        reads_continue,
        summary,
    }
}

fn summary(site: &str, at_risk: Option<u64>, writes: bool, reads: bool, doubted: &[u64]) -> String {
    let data = match at_risk {
        Some(0) => "no acknowledged event would be lost".to_owned(),
        None => "it is not known here whether another site has everything".to_owned(),
        Some(1) => "1 acknowledged event is only known to be there".to_owned(),
        Some(events) => format!("{events} acknowledged events are only known to be there"),
    };
    let service = match (writes, reads) {
        (true, _) => "writes and reads would go on",
        (false, true) => "writes would stop, and reads would be stale",
        (false, false) => "writes and reads would stop",
    };
    let doubt = match doubted {
        [] => String::new(),
        ids => {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            format!(
                " Not counted, because it differs from another node's: the copy of node {}.",
                ids.join(" and of node ")
            )
        }
    };
    format!("If {site} burns now: {data}; {service}.{doubt}")
}
