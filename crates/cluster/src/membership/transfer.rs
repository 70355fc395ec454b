//! Leadership moved because an operator asks for it: to a node, or away from a site.

use std::time::Duration;

use sillok_wire::{errors::Problem, v1, v1::Reason, v1::transfer_leadership_request::Target};
use tonic::Status;

use super::{RETRY, check_caught_up, invalid, no_vote, not_found};
use crate::{core::Core, handover, status};

/// On the leader. Done once the target leads, or, away from a site, once a node elsewhere does.
pub(super) async fn transfer(core: &Core, request: v1::TransferLeadershipRequest) -> Result<(), Status> {
    let target = request.target.ok_or_else(|| Status::from(invalid("name a node, or a site to leave")))?;
    let chosen = match &target {
        Target::NodeId(id) => node(core, *id)?,
        Target::AwayFromSite(site) => elsewhere(core, site)?,
    };
    let Some(to) = chosen else { return Ok(()) };
    // A leader that gives leadership away takes nothing more; where the target does not take it, an election follows.
    let at_most = Duration::from_millis(core.options.timings.election_max_ms * 3);
    let leads = handover::hand_over_to(core, to, at_most, "an operator asked for it").await;
    let roster = core.roster.view();
    let is_moved = |leader: u64| match &target {
        Target::NodeId(id) => leader == *id,
        Target::AwayFromSite(site) => roster.site_of(leader) != Some(site),
    };
    match leads {
        Some(leader) if is_moved(leader) => Ok(()),
        Some(leader) => {
            let message = format!("node {leader} was elected before node {to} took leadership over; ask again");
            Err(Problem::new(Reason::NotReady, message).outcome(None).retry_after(RETRY).into())
        }
        None => {
            let message = format!("node {to} did not take leadership over within {} ms", at_most.as_millis());
            Err(Problem::new(Reason::NoLeader, message).outcome(None).retry_after(RETRY).into())
        }
    }
}

/// A voter that can lead at once. `None`: it does already.
fn node(core: &Core, id: u64) -> Result<Option<u64>, Status> {
    let roster = core.roster.view();
    if roster.member(id).is_none() {
        return Err(not_found(id));
    }
    // Whoever is about to lose its vote would hold leadership for a moment only.
    if !roster.configs.last().is_some_and(|voters| voters.contains(&id)) {
        return Err(no_vote(id, "only a voter can lead"));
    }
    if id == core.id {
        return Ok(None);
    }
    if !status::reachable(core).contains(&id) {
        let message = format!("node {id} does not answer the leader, node {}; nothing was changed", core.id);
        return Err(Problem::new(Reason::NotReady, message).retry_after(RETRY).into());
    }
    if core.clocks.is_off(id) {
        let message = format!("the clock of node {id} is too far from most others': set it right; nothing was changed");
        return Err(Problem::new(Reason::NotReady, message).retry_after(RETRY).into());
    }
    check_caught_up(core, id)?;
    Ok(Some(id))
}

/// The best voter elsewhere. `None`: the leader does not stand at the site.
fn elsewhere(core: &Core, site: &str) -> Result<Option<u64>, Status> {
    if !core.roster.view().members.values().any(|member| member.site == site) {
        return Err(Problem::new(Reason::NodeNotFound, format!("no node stands at {site:?}")).into());
    }
    if core.site != site {
        return Ok(None);
    }
    let Some(to) = handover::successor(core, |other| other != site) else {
        let message = format!("no voter outside {site} answers the leader, node {}; nothing was changed", core.id);
        return Err(Problem::new(Reason::NotReady, message).retry_after(RETRY).into());
    };
    check_caught_up(core, to)?;
    Ok(Some(to))
}
