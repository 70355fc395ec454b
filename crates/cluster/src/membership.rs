//! Who belongs, changed one node at a time, and who leads.
//!
//! Any node takes the call and forwards it to the leader, which does one change at a time. Placement is checked on the
//! configuration that a change leads to; the one it comes from was checked when it came to be. A change of voters goes
//! through a joint membership in two entries; where the leader is lost between the two, the next one completes it.

mod replace;
mod transfer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use openraft::{
    ChangeMembers,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use prost::Message as _;
use sillok_chronicle::Epoch;
use sillok_wire::{
    errors::{self, Outcome, Problem},
    peer::{self, forward_membership_request::Request},
    v1::{self, Reason},
};
use tonic::Status;

use crate::{
    bootstrap::{self, Founder},
    core::Core,
    network::NodeIdentity,
    placement,
    roster::RosterView,
    status,
    types::{Member, RaftLogId, TypeConfig, from_raft_id},
};

/// A learner this close to the leader's last flushed entry may vote.
const CAUGHT_UP_ENTRIES: u64 = 256;
/// A learner that takes nothing for this long stays a learner.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How often a learner's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A membership call may wait for a learner to take the whole log.
const FORWARD_WITHIN: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_millis(300);
/// A new leader is waited for this long.
const LEADERLESS_WITHIN: Duration = Duration::from_secs(5);

pub(crate) async fn initialize(
    core: &Arc<Core>,
    request: v1::InitializeRequest,
) -> Result<v1::InitializeResponse, Status> {
    let founders: Vec<Founder> = request
        .nodes
        .into_iter()
        .map(|node| Founder {
            id: node.id,
            site: node.site,
            peer_address: node.peer_address,
            client_address: node.client_address,
        })
        .collect();
    let formed = bootstrap::form(core, &founders, request.allow_single_site_quorum).await;
    let cluster_id = formed.map_err(|error| Status::from(Problem::from(error)))?;
    Ok(v1::InitializeResponse { cluster_id: crate::network::cluster_hex(&cluster_id) })
}

/// Answers here where this node leads, otherwise asks the leader. Every change may be asked for again, so one that fell
/// between two leaders is.
pub(crate) async fn change(core: &Arc<Core>, request: Request) -> Result<v1::MembershipResponse, Status> {
    let give_up = tokio::time::Instant::now() + LEADERLESS_WITHIN;
    loop {
        let status = match change_once(core, request.clone()).await {
            Ok(response) => return Ok(response),
            Err(status) => status,
        };
        let is_leaderless = errors::reason_of(&status) == Some(Reason::NoLeader);
        if !is_leaderless || core.stopping.is_cancelled() || tokio::time::Instant::now() >= give_up {
            return Err(status);
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn change_once(core: &Arc<Core>, request: Request) -> Result<v1::MembershipResponse, Status> {
    let Some((leader, _)) = core.leader() else {
        return Err(Problem::new(Reason::NoLeader, "no leader is known; nothing was changed")
            .retry_after(RETRY)
            .into());
    };
    if leader == core.id {
        return change_here(core, request).await;
    }
    let mut client = core.peer(leader, FORWARD_WITHIN)?;
    let forwarded = peer::ForwardMembershipRequest { request: Some(request) };
    let answer = client.forward_membership(forwarded).await?.into_inner();
    v1::MembershipResponse::decode(answer.response)
        .map_err(|error| Status::internal(format!("the leader's answer cannot be read: {error}")))
}

/// On the leader.
pub(crate) async fn change_here(core: &Arc<Core>, request: Request) -> Result<v1::MembershipResponse, Status> {
    match request {
        Request::AddNode(bytes) => {
            let (request, _alone) = (decode(bytes)?, alone(core)?);
            add(core, request).await?;
        }
        Request::PromoteNode(bytes) => {
            let (request, _alone): (v1::PromoteNodeRequest, _) = (decode(bytes)?, alone(core)?);
            promote(core, request.node_id, request.allow_single_site_quorum, CaughtUp::Unknown).await?;
        }
        Request::RemoveNode(bytes) => {
            let (request, _alone) = (decode(bytes)?, alone(core)?);
            remove(core, request).await?;
        }
        Request::ReplaceNode(bytes) => {
            let (request, _alone) = (decode(bytes)?, alone(core)?);
            replace::replace(core, request).await?;
        }
        // It changes no membership, and waits for no node that catches up, which may take hours.
        Request::TransferLeadership(bytes) => transfer::transfer(core, decode(bytes)?).await?,
    }
    Ok(v1::MembershipResponse { nodes: status::nodes(core).await })
}

fn decode<M: prost::Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| invalid(error.to_string()).into())
}

/// One change at a time.
fn alone(core: &Core) -> Result<tokio::sync::MutexGuard<'_, ()>, Status> {
    core.changing.try_lock().map_err(|_| {
        let message = "another membership change is under way; nothing was changed";
        Problem::new(Reason::MembershipChangeInProgress, message).retry_after(RETRY).into()
    })
}

async fn add(core: &Arc<Core>, request: v1::AddNodeRequest) -> Result<(), Status> {
    let node = request.node.ok_or_else(|| Status::from(invalid("node is missing")))?;
    let allow = request.allow_single_site_quorum;
    learn(core, &node, |roster, member| match request.learner_only {
        true => Ok(()),
        false => check_placement(roster, allow, Some((node.id, member)), |voters| {
            voters.insert(node.id);
        }),
    })
    .await?;
    if request.learner_only {
        return Ok(());
    }
    wait_caught_up(core, node.id, "promote it when it has caught up").await?;
    promote(core, node.id, allow, CaughtUp::Known).await
}

/// Makes a blank node a learner, unless it is a member already. `check` refuses it before anything is written, rather than
/// after hours of catching up.
async fn learn(
    core: &Arc<Core>,
    node: &v1::Node,
    check: impl FnOnce(&RosterView, &Member) -> Result<(), Status>,
) -> Result<(), Status> {
    let roster = core.roster.view();
    if node.id == 0 || node.peer_address.is_empty() {
        return Err(invalid("a node needs an id from 1 on and the address of its peer port").into());
    }
    let problem = |error: bootstrap::FormError| Status::from(Problem::from(error));
    let hello = bootstrap::ask(core, node.id, &node.peer_address).await.map_err(problem)?;
    let member = describe(core, node, &hello)?;
    check(&roster, &member)?;
    if hello.cluster_id.is_empty() || epoch_of(&hello) != core.peers.local().epoch() {
        let cluster_id =
            core.peers.local().cluster().ok_or_else(|| Status::from(invalid("this node has no cluster")))?;
        let to = NodeIdentity { id: node.id, incarnation: hello.incarnation };
        bootstrap::adopt_there(core, to, &node.peer_address, cluster_id).await.map_err(problem)?;
    }
    if roster.member(node.id).is_none() {
        let added = core.raft.add_learner(node.id, member, false).await.map_err(|error| refused(&error))?;
        known_here(core, &added.log_id).await;
        tracing::info!(node = node.id, "added a learner");
    }
    Ok(())
}

fn epoch_of(hello: &peer::HelloResponse) -> Epoch {
    Epoch { number: hello.epoch, token: hello.epoch_token }
}

/// What the membership will say of a new node, where it may be added at all.
fn describe(core: &Core, node: &v1::Node, hello: &peer::HelloResponse) -> Result<Member, Status> {
    let mismatch = |message: String| Status::from(Problem::new(Reason::NodeMismatch, message));
    if hello.node_id != node.id {
        return Err(mismatch(format!("{} is node {} and not node {}", node.peer_address, hello.node_id, node.id)));
    }
    if !node.site.is_empty() && node.site != hello.site {
        return Err(mismatch(format!(
            "node {} was formatted for site {:?} and not {:?}; site labels never change in place",
            node.id, hello.site, node.site
        )));
    }
    let ours = core.peers.local().cluster();
    if !hello.cluster_id.is_empty() && ours.is_none_or(|ours| ours[..] != hello.cluster_id[..]) {
        let message =
            format!("node {} belongs to another cluster; give it a fresh data directory to use it here", node.id);
        return Err(Problem::new(Reason::ClusterMismatch, message).into());
    }
    // A blank node may have been adopted before the cluster was recovered, and is adopted again.
    let epoch = core.peers.local().epoch();
    if !hello.cluster_id.is_empty() && !hello.blank && epoch_of(hello) != epoch {
        let message = format!(
            "node {} holds a chronicle of epoch {} and this cluster is of epoch {}, after a lost quorum was recovered: it was \
             left behind; give it a fresh data directory and an id that never was",
            node.id, hello.epoch, epoch.number
        );
        return Err(Problem::new(Reason::EpochSuperseded, message).into());
    }
    // An id names one chronicle for ever: a voter that came back blank would have forgotten what it acknowledged.
    let seen = core.chain.seen().get(&node.id).copied();
    if seen == Some(hello.incarnation) && core.roster.view().member(node.id).is_none() {
        return Err(mismatch(format!(
            "node {} was removed from this cluster, and ids are never used again: give it a fresh data directory and an id \
             that never was",
            node.id
        )));
    }
    if let Some(incarnation) = seen
        && incarnation != hello.incarnation
    {
        return Err(mismatch(format!(
            "id {} belongs to incarnation {incarnation:016x}, and {} is incarnation {:016x}: a chronicle was lost or \
             replaced; ids are never used again, choose one that never was",
            node.id, node.peer_address, hello.incarnation
        )));
    }
    Ok(Member {
        site: hello.site.clone(),
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
        incarnation: hello.incarnation,
    })
}

/// `next` says what to do about it where it does not come to that.
async fn wait_caught_up(core: &Core, id: u64, next: &str) -> Result<(), Status> {
    let mut best = None;
    let mut since = tokio::time::Instant::now();
    loop {
        let target = core.chronicle.flushed().map_or(0, |flushed| flushed.index);
        let flushed = core.acks.flushed(id);
        if flushed.is_some_and(|flushed| flushed + CAUGHT_UP_ENTRIES >= target) {
            return Ok(());
        }
        if flushed > best {
            (best, since) = (flushed, tokio::time::Instant::now());
        }
        if core.leading_term().is_none() {
            let message = format!("leadership was lost; node {id} was added as a learner, {next}");
            return Err(Problem::new(Reason::NoLeader, message).outcome(None).retry_after(RETRY).into());
        }
        if since.elapsed() > STALLED_AFTER {
            let message = format!(
                "node {id} was added as a learner and has taken nothing for {} s; see that it is reachable; {next}",
                STALLED_AFTER.as_secs()
            );
            return Err(Problem::new(Reason::NotReady, message).outcome(None).retry_after(RETRY).into());
        }
        tokio::select! {
            () = core.stopping.cancelled() => {
                return Err(Problem::new(Reason::ShuttingDown, "this node is stopping").outcome(None).into());
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Whether a learner has caught up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CaughtUp {
    /// It has just been waited for.
    Known,
    /// To be found out.
    Unknown,
}

async fn promote(core: &Core, id: u64, allow_single_site_quorum: bool, caught_up: CaughtUp) -> Result<(), Status> {
    let roster = core.roster.view();
    if roster.member(id).is_none() {
        return Err(not_found(id));
    }
    if !roster.is_joint() && roster.is_voter(id) {
        return Ok(());
    }
    check_placement(&roster, allow_single_site_quorum, None, |voters| {
        voters.insert(id);
    })?;
    if caught_up == CaughtUp::Unknown {
        check_caught_up(core, id)?;
    }
    let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
    commit(core, change).await?;
    tracing::info!(node = id, "a learner became a voter");
    Ok(())
}

/// A voter that still lacks the log counts for the size of a quorum and for nothing else: writes could stop for as long as
/// it takes to catch up.
fn check_caught_up(core: &Core, id: u64) -> Result<(), Status> {
    let target = core.chronicle.flushed().map_or(0, |flushed| flushed.index);
    let not_ready =
        |message: String| Problem::new(Reason::NotReady, format!("{message}; nothing was changed")).retry_after(RETRY);
    let Some(flushed) = core.acks.flushed(id) else {
        return Err(not_ready(format!("node {id} has not yet told this leader what it has")).into());
    };
    let lag = target.saturating_sub(flushed);
    if lag > CAUGHT_UP_ENTRIES {
        let message = format!("node {id} is {lag} entries behind and may vote from {CAUGHT_UP_ENTRIES} on");
        return Err(not_ready(message).with("lag_entries", lag).into());
    }
    Ok(())
}

async fn remove(core: &Core, request: v1::RemoveNodeRequest) -> Result<(), Status> {
    let id = request.node_id;
    let roster = core.roster.view();
    if roster.member(id).is_none() {
        // A repeated call finds its work done.
        return if core.chain.seen().contains_key(&id) { Ok(()) } else { Err(not_found(id)) };
    }
    let change = if roster.is_voter(id) {
        check_placement(&roster, request.allow_single_site_quorum, None, |voters| {
            voters.remove(&id);
        })?;
        ChangeMembers::RemoveVoters(BTreeSet::from([id]))
    } else {
        ChangeMembers::RemoveNodes(BTreeSet::from([id]))
    };
    commit(core, change).await?;
    tracing::info!(node = id, "removed a node");
    Ok(())
}

/// Makes the change; who asked is shown the membership after it.
async fn commit(core: &Core, change: Change) -> Result<(), Status> {
    let changed = core.raft.change_membership(change, false).await.map_err(|error| refused(&error))?;
    known_here(core, &changed.log_id).await;
    Ok(())
}

/// Waits until this node's roster is that of a membership entry or of a later one: it follows consensus a moment behind.
async fn known_here(core: &Core, entry: &RaftLogId) {
    let entry = from_raft_id(entry);
    let mut roster = core.roster.watch();
    // It ends otherwise only with the node.
    let _ = roster.wait_for(|roster| roster.log_id >= Some(entry)).await;
}

/// Checks where the change leads to. Each further configuration of a joint membership was checked when it was proposed.
fn check_placement(
    roster: &RosterView,
    allow: bool,
    joining: Option<(u64, &Member)>,
    change: impl Fn(&mut BTreeSet<u64>),
) -> Result<(), Status> {
    if allow {
        return Ok(());
    }
    let mut members = roster.members.clone();
    if let Some((id, member)) = joining {
        members.insert(id, member.clone());
    }
    let mut voters = roster.configs.last().cloned().unwrap_or_default();
    change(&mut voters);
    placement::check(&voters, &members).map_err(|error| Problem::from(error).into())
}

/// What a leader owes the membership: to complete a change that a former leader left half done, and to say where the
/// configuration has moved nodes to. Runs as long as the node does.
pub(crate) async fn keep_in_order(core: Arc<Core>) {
    let mut roster = core.roster.watch();
    let mut leadership = core.leadership.clone();
    loop {
        let due = overdue(&core, &roster.borrow_and_update().clone());
        let leading = leadership.borrow_and_update().is_local;
        let is_due = due.is_some() && leading;
        // A change under way here holds the lock and completes itself.
        if leading
            && let Some((change, what)) = due
            && let Ok(_one_at_a_time) = core.changing.try_lock()
        {
            let retain = matches!(change, ChangeMembers::SetNodes(_));
            match core.raft.change_membership(change, retain).await {
                Ok(_) => tracing::info!("{what}"),
                Err(error) => tracing::debug!("not yet: {what}: {error}"),
            }
        }
        let again = async {
            // What stands in the way (the term's first entry, a change that holds the lock) passes without a notice here.
            if is_due { tokio::time::sleep(RETRY).await } else { std::future::pending().await }
        };
        tokio::select! {
            () = core.stopping.cancelled() => return,
            changed = roster.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

type Change = ChangeMembers<u64, Member>;

fn overdue(core: &Core, roster: &RosterView) -> Option<(Change, &'static str)> {
    if roster.is_joint() {
        let what = "completed a membership change that a former leader left half done";
        return Some((ChangeMembers::AddVoterIds(BTreeSet::new()), what));
    }
    let moved = roster.members.iter().filter_map(|(&id, member)| {
        let corrected = core.peers.book().correct(id, member);
        (corrected != *member).then_some((id, corrected))
    });
    let moved: BTreeMap<u64, Member> = moved.collect();
    (!moved.is_empty())
        .then_some((ChangeMembers::SetNodes(moved), "addresses in the membership follow the configuration"))
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Reason::InvalidCommand, message)
}

fn not_found(id: u64) -> Status {
    errors::status(Reason::NodeNotFound, format!("node {id} is not in the membership"), &[], None)
}

fn no_vote(id: u64, instead: &str) -> Status {
    let message = format!("node {id} is a learner and has no vote; {instead}");
    Problem::new(Reason::NodeNotFound, message).into()
}

fn refused(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Status {
    let message = error.to_string();
    let problem = match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            Problem::new(Reason::MembershipChangeInProgress, message).retry_after(RETRY)
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(_))) => {
            Problem::new(Reason::NodeNotFound, message)
        }
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            Problem::new(Reason::NoLeader, message).retry_after(RETRY)
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            Problem::new(Reason::OutcomeUnknown, message).retry_after(RETRY)
        }
        RaftError::APIError(_) => Problem::new(Reason::NotReady, message).retry_after(RETRY),
        RaftError::Fatal(_) => Problem::new(Reason::ShuttingDown, message).outcome(None::<Outcome>),
    };
    problem.into()
}
