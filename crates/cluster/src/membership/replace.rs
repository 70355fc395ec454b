//! One node in the place of another.
//!
//! ```text
//! {1,2,3}            node 2 is lost
//! {1,2,3} + 4        node 4 learns, and is waited for
//! {1,2,3}{1,3,4}     one joint change
//! {1,3,4}            node 2 is no longer a member
//! ```
//!
//! Neither configuration lets one site take the cluster down, where adding first would have two of four voters at one site,
//! and removing first would leave two. What was reached stands in the membership itself, so that a repeated call goes on from
//! there, at whichever node leads by then.

use std::{collections::BTreeSet, sync::Arc};

use openraft::ChangeMembers;
use sillok_wire::{errors::Problem, v1, v1::Reason};
use tonic::Status;

use super::{check_placement, commit, invalid, learn, no_vote, not_found, wait_caught_up};
use crate::{core::Core, roster::RosterView};

/// How far a replacement has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The new node is no voter yet.
    Begun,
    /// The joint membership stands: the old configuration has the old node, the new one the new node.
    Joint,
    /// The new node votes, and the old one is gone.
    Done,
}

pub(super) async fn replace(core: &Arc<Core>, request: v1::ReplaceNodeRequest) -> Result<(), Status> {
    let node = request.node.ok_or_else(|| Status::from(invalid("node is missing")))?;
    let (old, new) = (request.node_id, node.id);
    let exchange = |voters: &mut BTreeSet<u64>| {
        voters.remove(&old);
        voters.insert(new);
    };
    let allow = request.allow_single_site_quorum;
    match stage(core, &core.roster.view(), old, new)? {
        Stage::Done => return Ok(()),
        // It was checked and waited for when the joint membership was proposed.
        Stage::Joint => {}
        Stage::Begun => {
            learn(core, &node, |roster, member| check_placement(roster, allow, Some((new, member)), exchange)).await?;
            wait_caught_up(core, new, "repeat the replacement, which goes on from here").await?;
            // Another leader may have changed something while this one waited.
            let roster = core.roster.view();
            if stage(core, &roster, old, new)? == Stage::Done {
                return Ok(());
            }
            check_placement(&roster, allow, None, exchange)?;
        }
    }
    // Said as a difference, so that it undoes nobody else's change. Whoever votes in neither configuration is dropped from
    // the membership with the entry that completes the change: there is no moment in between to be lost in.
    let change = ChangeMembers::Batch(vec![
        ChangeMembers::AddVoterIds(BTreeSet::from([new])),
        ChangeMembers::RemoveVoters(BTreeSet::from([old])),
    ]);
    commit(core, change).await?;
    tracing::info!(old, new, "a node stands in the place of another");
    Ok(())
}

fn stage(core: &Core, roster: &RosterView, old: u64, new: u64) -> Result<Stage, Status> {
    if old == new {
        let message =
            format!("node {old} cannot take its own place; ids are never used again, choose one that never was");
        return Err(Problem::new(Reason::NodeMismatch, message).into());
    }
    let votes_next = |id: &u64| roster.configs.last().is_some_and(|voters| voters.contains(id));
    if roster.member(old).is_none() {
        if !core.chain.seen().contains_key(&old) {
            return Err(not_found(old));
        }
        if votes_next(&new) {
            return Ok(Stage::Done);
        }
        let message = format!("node {old} was removed before node {new} took its place: add node {new}");
        return Err(Problem::new(Reason::NodeNotFound, message).into());
    }
    if !roster.is_voter(old) {
        return Err(no_vote(old, "there is nothing to replace: remove it, and add the other"));
    }
    match (votes_next(&old), votes_next(&new)) {
        (true, true) => {
            let message = format!("node {new} votes already and can take nobody's place: remove node {old}");
            Err(Problem::new(Reason::NodeMismatch, message).into())
        }
        (false, true) => Ok(Stage::Joint),
        (_, false) => Ok(Stage::Begun),
    }
}
