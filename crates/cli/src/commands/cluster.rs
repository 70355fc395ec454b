//! `sillok cluster …`

mod scrub;

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use sillok_wire::{v1, v1::transfer_leadership_request::Target};

use super::Session;
use crate::{
    failure::{Exit, Failure},
    format::{ago, bytes, duration, enum_name, thousands, time},
    output::to_json,
    progress,
    table::Rows,
};

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Who leads, and how far behind is each site
    Status {
        /// Look again every second, with what losing each site would mean, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// What losing each site now would mean
    WhatIf,
    /// Form a cluster of blank nodes
    Init {
        /// One for each initial voter
        #[arg(long = "node", required = true, value_parser = node, value_name = NODE)]
        nodes: Vec<v1::Node>,
        #[command(flatten)]
        allow: Allow,
    },
    /// Add a blank node: it catches up, then votes
    Add {
        #[arg(value_parser = node, value_name = NODE)]
        node: v1::Node,
        /// It only learns; `cluster promote` makes it a voter
        #[arg(long)]
        learner_only: bool,
        #[command(flatten)]
        allow: Allow,
    },
    /// Make a learner a voter
    Promote {
        /// The node's id
        node_id: u64,
        #[command(flatten)]
        allow: Allow,
    },
    /// Take a node out of the cluster; its id is never used again
    Remove {
        /// The node's id
        node_id: u64,
        #[command(flatten)]
        allow: Allow,
    },
    /// Put a blank node in the place of a lost one: it catches up, and the vote goes over in one change; may be repeated
    Replace {
        /// The id of the node that leaves for ever
        old_id: u64,
        #[arg(value_parser = node, value_name = NODE)]
        node: v1::Node,
        #[command(flatten)]
        allow: Allow,
    },
    /// Go on from one survivor after a quorum is lost for good; without --confirm it only says what that would mean
    Recover(super::recover::RecoverArgs),
    /// Move leadership to a node, or away from a site
    Transfer {
        /// The id of the node that is to lead
        #[arg(required_unless_present = "away_from", conflicts_with = "away_from")]
        node_id: Option<u64>,
        /// To the voter elsewhere that is furthest on
        #[arg(long, value_name = "SITE")]
        away_from: Option<String>,
    },
}

/// How often a watched cluster is looked at.
const WATCH: std::time::Duration = std::time::Duration::from_secs(1);
/// How often a node that catches up is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

const NODE: &str = "id=N,site=SITE,peer=HOST:PORT,client=HOST:PORT";

/// Said in so many words.
#[derive(Args, Clone, Copy)]
pub(crate) struct Allow {
    /// Allow a membership in which one site holds a quorum: losing that site loses data or stops writes
    #[arg(long)]
    allow_single_site_quorum: bool,
}

fn node(text: &str) -> Result<v1::Node, String> {
    let mut node = v1::Node::default();
    for part in text.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("{part:?} is not KEY=VALUE; a node is {NODE}"));
        };
        match key.trim() {
            "id" => node.id = value.parse().map_err(|_| format!("{value:?} is not a node id"))?,
            "site" => node.site = value.to_owned(),
            "peer" => node.peer_address = value.to_owned(),
            "client" => node.client_address = value.to_owned(),
            other => return Err(format!("there is no {other:?}; a node is {NODE}")),
        }
    }
    let missing = [
        ("id", node.id == 0),
        ("site", node.site.is_empty()),
        ("peer", node.peer_address.is_empty()),
        ("client", node.client_address.is_empty()),
    ];
    match missing.iter().find(|(_, missing)| *missing) {
        Some((key, _)) => Err(format!("{key} is missing; a node is {NODE}")),
        None => Ok(node),
    }
}

pub(crate) async fn run(command: ClusterCommand, session: &Session) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status { watch: false } => status(session).await,
        ClusterCommand::Recover(_) => Err(Failure::usage("this command asks no cluster")),
        ClusterCommand::Status { watch: true } => watch(session).await,
        ClusterCommand::WhatIf => what_if(session).await,
        ClusterCommand::Init { nodes, allow } => {
            let request = v1::InitializeRequest { nodes, allow_single_site_quorum: allow.allow_single_site_quorum };
            let answer = session
                .api
                .change(|mut node| {
                    let request = request.clone();
                    async move { node.initialize(request).await }
                })
                .await?;
            session.out.answer("InitializeResponse", &answer, || format!("cluster {} is formed", answer.cluster_id))
        }
        ClusterCommand::Add { node, learner_only, allow } => {
            let done =
                format!("node {} at {} is {}", node.id, node.site, if learner_only { "a learner" } else { "a voter" });
            let id = node.id;
            let request = v1::AddNodeRequest {
                node: Some(node),
                learner_only,
                allow_single_site_quorum: allow.allow_single_site_quorum,
            };
            let change = session.api.change(|mut node| {
                let request = request.clone();
                async move { node.add_node(request).await }
            });
            let answer = catching_up(session, id, change).await?;
            membership(session, &answer, &done)
        }
        ClusterCommand::Promote { node_id, allow } => {
            let request = v1::PromoteNodeRequest { node_id, allow_single_site_quorum: allow.allow_single_site_quorum };
            let answer = session.api.change(|mut node| async move { node.promote_node(request).await }).await?;
            membership(session, &answer, &format!("node {node_id} is a voter"))
        }
        ClusterCommand::Remove { node_id, allow } => {
            let request = v1::RemoveNodeRequest { node_id, allow_single_site_quorum: allow.allow_single_site_quorum };
            let answer = session.api.change(|mut node| async move { node.remove_node(request).await }).await?;
            membership(session, &answer, &format!("node {node_id} is no longer of the cluster"))
        }
        ClusterCommand::Replace { old_id, node, allow } => {
            let done = format!("node {} at {} votes in the place of node {old_id}", node.id, node.site);
            let id = node.id;
            let request = v1::ReplaceNodeRequest {
                node_id: old_id,
                node: Some(node),
                allow_single_site_quorum: allow.allow_single_site_quorum,
            };
            let change = session.api.change(|mut node| {
                let request = request.clone();
                async move { node.replace_node(request).await }
            });
            let answer = catching_up(session, id, change).await.map_err(|failure| match failure.exit {
                Exit::Unknown => failure.advise("the same command again goes on from where it stands"),
                _ => failure,
            })?;
            membership(session, &answer, &done)
        }
        ClusterCommand::Transfer { node_id, away_from } => {
            // One of the two is there: the command line demands it.
            let target = node_id.map(Target::NodeId).or(away_from.map(Target::AwayFromSite));
            let request = v1::TransferLeadershipRequest { target };
            let answer = session
                .api
                .change(|mut node| {
                    let request = request.clone();
                    async move { node.transfer_leadership(request).await }
                })
                .await?;
            let leads = answer.nodes.iter().filter(|status| status.leader).find_map(|status| status.node.as_ref());
            let done = leads.map_or_else(
                || "leadership has moved".to_owned(),
                |node| format!("{} (node {}) leads", node.site, node.id),
            );
            membership(session, &answer, &done)
        }
    }
}

/// A change that waits for a node to catch up, and meanwhile how far behind it is.
async fn catching_up(
    session: &Session,
    id: u64,
    change: impl Future<Output = Result<v1::MembershipResponse, Failure>>,
) -> Result<v1::MembershipResponse, Failure> {
    let bar = progress::waiting("catching up");
    let answer = tokio::select! {
        answer = change => answer,
        never = tell_lag(session, id, &bar) => match never {},
    };
    bar.finish_and_clear();
    answer
}

/// Shows how far behind a node is, for ever.
async fn tell_lag(session: &Session, id: u64, bar: &indicatif::ProgressBar) -> std::convert::Infallible {
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        // Whoever answers no status now may answer the next one.
        let Ok(status) = best_status(session).await else { continue };
        let is_it = |one: &&v1::NodeStatus| one.node.as_ref().is_some_and(|node| node.id == id);
        if let Some(behind) = status.nodes.iter().find(is_it).and_then(behind) {
            bar.set_message(format!("{behind} behind"));
        }
    }
}

fn membership(session: &Session, answer: &v1::MembershipResponse, done: &str) -> Result<(), Failure> {
    session.out.answer("MembershipResponse", answer, || format!("{done}\n{}", nodes_table(&answer.nodes)))
}

fn nodes_table(nodes: &[v1::NodeStatus]) -> String {
    let mut rows = Rows::new(&["site", ">node", "role", "state", ">behind", ">clock", "last scrub", "client", "peer"]);
    for status in nodes {
        let node = status.node.clone().unwrap_or_default();
        let state = match (status.leader, status.reachable) {
            (true, true) => "leads",
            (false, true) => "up",
            (_, false) => "dark",
        };
        rows.push([
            node.site,
            node.id.to_string(),
            enum_name(status.role().as_str_name(), "NODE_ROLE_"),
            state.to_owned(),
            behind(status).unwrap_or_else(|| "?".to_owned()),
            status.clock_offset_ms.map_or_else(|| "?".to_owned(), clock_offset),
            status.scrub.as_ref().map_or_else(|| "?".to_owned(), scrub::short),
            node.client_address,
            node.peer_address,
        ]);
    }
    rows.render()
}

/// How far a node is behind its leader, as far as that is known: `0`, `1,204,331 events, 301.2 MB, 12.4 s`, `17 entries`.
fn behind(status: &v1::NodeStatus) -> Option<String> {
    let entries = status.lag_entries?;
    Some(match status.lag {
        _ if entries == 0 => "0".to_owned(),
        Some(lag) => {
            let time = duration(std::time::Duration::from_millis(lag.time_ms));
            format!("{} events, {}, {time}", thousands(lag.events), bytes(lag.bytes))
        }
        None => format!("{} entries", thousands(entries)),
    })
}

/// How far a clock is ahead of the one in the middle: `+3 ms`, `-3,600.0 s`.
fn clock_offset(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    match ms.unsigned_abs() {
        small @ ..10_000 => format!("{sign}{} ms", thousands(small)),
        large => format!("{sign}{} s", thousands(large / 1_000)),
    }
}

/// Who answers a status best: a node that knows who leads, and of those the one furthest on.
async fn best_status(session: &Session) -> Result<v1::GetStatusResponse, Failure> {
    let mut best: Option<v1::GetStatusResponse> = None;
    let asked = futures::future::join_all(session.api.endpoints().into_iter().map(|endpoint| async move {
        let channel = session.api.channel(&endpoint).ok()?;
        let mut node = v1::cluster_client::ClusterClient::new(channel);
        let limit = session.api.timeout().min(std::time::Duration::from_secs(2));
        tokio::time::timeout(limit, node.get_status(v1::GetStatusRequest {})).await.ok()?.ok()
    }));
    for status in asked.await.into_iter().flatten() {
        let status = status.into_inner();
        let rank = |status: &v1::GetStatusResponse| {
            let answered = status.info.as_ref().map_or(0, |info| info.node_id);
            (status.leader_id != 0, answered == status.leader_id, status.committed_index)
        };
        if best.as_ref().is_none_or(|known| rank(&status) > rank(known)) {
            best = Some(status);
        }
    }
    best.ok_or_else(|| {
        Failure::new(
            Exit::Unavailable,
            format!("nobody answers at {}", crate::format::list_and(&session.api.endpoints())),
        )
        .advise("is the cluster running? `sillok dev` starts one here; --endpoints names another")
    })
}

async fn status(session: &Session) -> Result<(), Failure> {
    let answer = best_status(session).await?;
    session.out.answer("GetStatusResponse", &answer, || status_text(&answer))
}

/// The same every second until the process is interrupted; a script gets a line of JSON each time.
async fn watch(session: &Session) -> Result<(), Failure> {
    // Home, and everything below is gone: no flicker, and nothing is left of a longer table.
    const REPAINT: &str = "\x1b[H\x1b[J";
    let is_screen = std::io::stdout().is_terminal() && !session.out.is_json();
    let mut every = tokio::time::interval(WATCH);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        // A cluster of which nobody answers is what is watched for.
        let (text, with_fires) = match best_status(session).await {
            Ok(answer) if session.out.is_json() => (to_json("GetStatusResponse", &answer)?.to_string(), false),
            Ok(answer) => (status_text(&answer), true),
            Err(failure) if session.out.is_json() => return Err(failure),
            Err(failure) => (failure.message, false),
        };
        let mut screen = if is_screen { format!("{REPAINT}{text}") } else { text };
        if with_fires {
            let answer = session.api.cluster(|mut node| async move { node.what_if(v1::WhatIfRequest {}).await }).await;
            let fires = answer.map_or_else(|failure| failure.message, |answer| fires_table(&answer.sites));
            screen.push_str(&format!("\n\n{fires}"));
        }
        session.out.line(&screen)?;
    }
}

fn status_text(answer: &v1::GetStatusResponse) -> String {
    let info = answer.info.clone().unwrap_or_default();
    let leader = answer.nodes.iter().find(|status| status.leader);
    let leads = match leader.and_then(|status| Some((status.reachable, status.node.as_ref()?))) {
        Some((true, node)) => format!("{} (node {}) leads in term {}", node.site, node.id, answer.term),
        Some((false, node)) => {
            let (site, id) = (&node.site, node.id);
            format!(
                "{site} (node {id}) led last and is dark: writes are refused until another leads, stale reads go on"
            )
        }
        None if answer.cluster_id.is_empty() => "no cluster is formed yet: sillok cluster init".to_owned(),
        None => format!("no leader is known in term {}: writes are refused, stale reads go on", answer.term),
    };
    let position = info.position.as_ref().map_or(0, |position| position.sequence);
    let mut text = format!(
        "{leads}\n\n{}\n\nposition {}, committed index {}, applied {}, confirmed current {}",
        nodes_table(&answer.nodes),
        thousands(position),
        thousands(answer.committed_index),
        thousands(answer.applied_index),
        ago(info.current_as_of.as_ref()),
    );
    text.push_str(&format!("\nanswered by {} (node {}, version {})", info.site, info.node_id, answer.version));
    if let Some(recovery) = &answer.recovery {
        text.push_str(&format!(
            "\nepoch {} since {}, from position {} of {} (node {}), by {}: {}",
            recovery.epoch,
            time(recovery.recovered_at.as_ref()),
            thousands(recovery.kept.as_ref().map_or(0, |kept| kept.sequence)),
            recovery.site,
            recovery.node_id,
            recovery.actor,
            recovery.reason,
        ));
    }
    for difference in scrub::differences(&answer.nodes) {
        text.push_str(&format!("\nDIFFERS: {difference}"));
    }
    for trouble in [&answer.trouble, &answer.views_trouble].into_iter().filter(|trouble| !trouble.is_empty()) {
        text.push_str(&format!("\ntrouble: {trouble}"));
    }
    text
}

async fn what_if(session: &Session) -> Result<(), Failure> {
    let answer = session.api.cluster(|mut node| async move { node.what_if(v1::WhatIfRequest {}).await }).await?;
    if session.out.is_json() {
        return session.out.line(&to_json("WhatIfResponse", &answer)?.to_string());
    }
    let summaries: Vec<String> = answer.sites.iter().map(|site| site.summary.clone()).collect();
    session.out.line(&format!("{}\n\n{}", fires_table(&answer.sites), summaries.join("\n")))
}

fn fires_table(sites: &[v1::SiteLoss]) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "NO" }.to_owned();
    let mut rows =
        Rows::new(&["if this site burns now", "acknowledged data safe", "writes go on", "reads go on", "nodes"]);
    for site in sites {
        let data = match (site.data_safe, site.events_at_risk) {
            (true, _) => "yes".to_owned(),
            (false, 0) => "not known here".to_owned(),
            (false, events) => format!("NO: {} at risk", thousands(events)),
        };
        let nodes = site.nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        rows.push([site.site.clone(), data, yes(site.writes_continue), yes(site.reads_continue), nodes]);
    }
    rows.render()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(subcommand)]
        command: ClusterCommand,
    }

    #[test]
    fn a_clock_that_is_off_is_plain_to_see() {
        assert_eq!([3, -12, 0].map(clock_offset), ["+3 ms", "-12 ms", "+0 ms"]);
        assert_eq!([3_600_000, -61_500].map(clock_offset), ["+3,600 s", "-61 s"]);
    }

    /// The handbook promised it, and only `-o json` had it.
    #[test]
    fn views_that_cannot_be_written_are_told() {
        let answer = |views_trouble: &str| v1::GetStatusResponse {
            trouble: "no leader".to_owned(),
            views_trouble: views_trouble.to_owned(),
            ..v1::GetStatusResponse::default()
        };
        let told = "the views cannot be written to disk: 5 bytes are free where 7 are needed";
        let text = status_text(&answer(told));
        assert!(text.ends_with(&format!("\ntrouble: no leader\ntrouble: {told}")), "{text}");
        assert!(status_text(&answer("")).ends_with("\ntrouble: no leader"));
    }

    #[test]
    fn leadership_goes_to_a_node_or_away_from_a_site_and_not_both() {
        let typed = |words: &[&str]| Typed::try_parse_from(["cluster", "transfer"].iter().chain(words)).is_ok();
        assert!(typed(&["2"]) && typed(&["--away-from", "chungju"]));
        assert!(!typed(&[]) && !typed(&["2", "--away-from", "chungju"]));
    }

    #[test]
    fn a_node_is_named_with_all_its_addresses() {
        let text = "id=4,site=odae,peer=10.0.0.4:7501,client=10.0.0.4:7401";
        let parsed = node(text).unwrap();
        assert_eq!((parsed.id, parsed.site.as_str()), (4, "odae"));
        assert_eq!((parsed.peer_address.as_str(), parsed.client_address.as_str()), ("10.0.0.4:7501", "10.0.0.4:7401"));
        for (wrong, says) in [
            ("site=odae,peer=a:1,client=a:2", "id is missing"),
            ("id=x,site=odae,peer=a:1,client=a:2", "not a node id"),
            ("id=4,site=odae,peer=a:1,port=2", "no \"port\""),
            ("4", "not KEY=VALUE"),
        ] {
            assert!(node(wrong).is_err_and(|text| text.contains(says)), "{wrong}");
        }
    }
}
