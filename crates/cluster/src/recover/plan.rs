//! Which survivor to go on from, and what that costs; or why nothing may be recovered.

use std::{cmp::Reverse, collections::BTreeSet};

use sillok_chronicle::Epoch;
use sillok_domain::UnixNanos;

use super::survey::{Mark, Survivor};
use crate::{network::cluster_hex, placement, roster::RosterView};

/// Nothing may be recovered. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing was given.
    #[error("name at least one surviving data directory")]
    NoSurvivor,
    /// Every one is damaged or blank.
    #[error("none of these data directories can be gone on from: {0}")]
    NoneSound(String),
    /// A directory never belonged to a cluster.
    #[error("{dir} belongs to no cluster")]
    NoCluster {
        /// The directory.
        dir: String,
    },
    /// They are of several clusters.
    #[error(
        "{dir} is of cluster {found}, and the first of cluster {expected}; name data directories of one cluster only"
    )]
    OtherCluster {
        /// The directory.
        dir: String,
        /// Its cluster.
        found: String,
        /// That of the first.
        expected: String,
    },
    /// The same node twice: one is a copy, and perhaps an old one.
    #[error("{first} and {second} are both of node {node}; name the newer one only")]
    Twice {
        /// The node.
        node: u64,
        /// One directory.
        first: String,
        /// The other.
        second: String,
    },
    /// They together can go on by themselves.
    #[error(
        "nodes {nodes} of these directories are a quorum of the voters {voters}: nothing needs to be recovered, start them; \
         then put blank nodes in the places of the lost ones (`sillok cluster replace`)"
    )]
    HoldsQuorum {
        /// The survivors that vote.
        nodes: String,
        /// All voters.
        voters: String,
    },
    /// The newest membership does not know it.
    #[error(
        "node {node} is not in the newest membership that these directories know: it was removed before, and is no survivor"
    )]
    NotAMember {
        /// The node.
        node: u64,
    },
    /// Two survivors hold different things under one name.
    #[error(
        "nodes {a} and {b} contradict each other at index {index}: at least one chronicle is not what was written; nothing \
         can be recovered from both, name the one to be trusted"
    )]
    Contradiction {
        /// The freshest.
        a: u64,
        /// The other.
        b: u64,
        /// Where.
        index: u64,
    },
}

/// A member that is given up: lost, or a survivor that is not gone on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostNode {
    /// Its id.
    pub id: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its site.
    pub site: String,
    /// `host:port` of its peer port, as the membership has it.
    pub peer_address: String,
    /// It votes.
    pub is_voter: bool,
}

/// What can have been acknowledged and be in none of the survivors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The lost nodes were no quorum by themselves: whatever was acknowledged stands at a survivor, and so at the freshest.
    Nothing,
    /// They were: from this moment on (the last record here; `None`: there is none) they may have acknowledged anything,
    /// and how much can not be known from here.
    Unknown {
        /// By the clock of the leader that wrote it.
        since: Option<UnixNanos>,
    },
}

/// What a recovery would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All that were looked at, in the order given.
    pub survivors: Vec<Survivor>,
    /// The cluster, 32 hex digits.
    pub cluster_id: String,
    /// What can have been acknowledged elsewhere and be missing.
    pub missing: Missing,
    /// Members that are given up, by id.
    pub lost: Vec<LostNode>,
    /// An earlier attempt wrote the record and was interrupted: its actor and reason stand.
    pub unfinished: bool,
    base: usize,
    certain: Option<Mark>,
    last: Mark,
    roster: RosterView,
}

impl Plan {
    /// The survivor to go on from.
    pub fn base(&self) -> &Survivor {
        &self.survivors[self.base]
    }

    /// Its last entry: everything up to here is kept.
    pub fn last(&self) -> Mark {
        self.last
    }

    /// Up to here everything is known to be committed, by one survivor or another.
    pub fn certain(&self) -> Option<Mark> {
        self.certain
    }

    /// Events and refusals that are kept and may never have been acknowledged.
    pub fn uncertain_events(&self) -> u64 {
        self.last.sequence - self.certain.map_or(0, |certain| certain.sequence)
    }

    /// The epoch that would end.
    pub fn epoch(&self) -> Epoch {
        self.base().epoch
    }

    /// The number of the epoch that would begin: higher than any that these directories know.
    pub fn next_epoch(&self) -> u64 {
        let known = self.survivors.iter().map(|survivor| survivor.epoch.number.max(survivor.superseded_by)).max();
        if self.unfinished { self.epoch().number } else { known.unwrap_or(0) + 1 }
    }

    pub(super) fn roster(&self) -> &RosterView {
        &self.roster
    }
}

/// Decides which survivor to go on from.
///
/// # Errors
/// Where nothing may be recovered, or nothing needs to be.
pub fn plan(survivors: Vec<Survivor>) -> Result<Plan, PlanError> {
    let cluster_id = one_cluster(&survivors)?;
    // Raft's own order: an entry that was committed stands in every log that is at least as fresh as one that has it. An
    // epoch is a history of its own, and the later one counts.
    let freshest = survivors
        .iter()
        .enumerate()
        .filter(|(_, survivor)| survivor.is_sound())
        .filter_map(|(place, survivor)| Some((survivor.epoch.number, survivor.last?.id(), Reverse(place))))
        .max();
    let Some((_, _, Reverse(base))) = freshest else { return Err(none_sound(&survivors)) };
    let chosen = &survivors[base];
    let (Some(last), Some(roster)) = (chosen.last, chosen.memberships.last().cloned()) else {
        return Err(none_sound(&survivors));
    };
    survivors.iter().filter(|other| other.is_sound()).try_for_each(|other| agree(chosen, other))?;

    let holds = |survivor: &&Survivor| {
        let id = survivor.identity.node_id;
        survivor.is_sound()
            && survivor.epoch == chosen.epoch
            && roster.member(id).is_some_and(|member| member.incarnation == survivor.identity.incarnation)
    };
    let here: BTreeSet<u64> = survivors.iter().filter(holds).map(|survivor| survivor.identity.node_id).collect();
    if !here.contains(&chosen.identity.node_id) {
        return Err(PlanError::NotAMember { node: chosen.identity.node_id });
    }
    let unfinished =
        chosen.recovered.as_ref().is_some_and(|recovered| roster.log_id.is_none_or(|id| id < recovered.at));
    if !unfinished && is_quorum(&roster, &here) {
        let nodes = here.iter().filter(|id| roster.is_voter(**id)).copied().collect();
        return Err(PlanError::HoldsQuorum { nodes: list(&nodes), voters: list(&roster.voters()) });
    }

    let of_this_history = survivors.iter().filter(|survivor| survivor.is_sound() && survivor.epoch == chosen.epoch);
    let certain = of_this_history.filter_map(|survivor| survivor.certain).max_by_key(|mark| mark.index);
    // The lost nodes may have gone by any membership that was not superseded for certain.
    let begun = chosen
        .memberships
        .iter()
        .rposition(|view| view.log_id.is_none_or(|id| certain.is_some_and(|certain| id.index <= certain.index)));
    let could_be_in_force = &chosen.memberships[begun.unwrap_or(0)..];
    let alone = could_be_in_force.iter().any(|view| {
        let gone = view.voters().into_iter().filter(|id| !here.contains(id)).collect();
        is_quorum(view, &gone)
    });
    let missing = match alone {
        true => Missing::Unknown { since: Some(last.accepted_at).filter(|at| *at != 0) },
        false => Missing::Nothing,
    };
    let given_up = roster.members.iter().filter(|(id, _)| **id != chosen.identity.node_id);
    let lost = given_up
        .map(|(&id, member)| LostNode {
            id,
            incarnation: member.incarnation,
            site: member.site.clone(),
            peer_address: member.peer_address.clone(),
            is_voter: roster.is_voter(id),
        })
        .collect();
    Ok(Plan { survivors, cluster_id, missing, lost, unfinished, base, certain, last, roster })
}

/// A quorum of each of its configurations.
fn is_quorum(view: &RosterView, nodes: &BTreeSet<u64>) -> bool {
    view.configs.iter().all(|voters| voters.intersection(nodes).count() >= placement::quorum(voters.len()))
}

fn one_cluster(survivors: &[Survivor]) -> Result<String, PlanError> {
    let first = survivors.first().ok_or(PlanError::NoSurvivor)?;
    let cluster = |survivor: &Survivor| {
        let id = survivor.identity.cluster_id.ok_or_else(|| PlanError::NoCluster { dir: named(survivor) })?;
        Ok(cluster_hex(&id))
    };
    let expected = cluster(first)?;
    for (place, survivor) in survivors.iter().enumerate() {
        let found = cluster(survivor)?;
        if found != expected {
            return Err(PlanError::OtherCluster { dir: named(survivor), found, expected });
        }
        let node = survivor.identity.node_id;
        if let Some(other) = survivors[..place].iter().find(|other| other.identity.node_id == node) {
            return Err(PlanError::Twice { node, first: named(other), second: named(survivor) });
        }
    }
    Ok(expected)
}

/// What was committed at one must stand at the freshest of the same history, and be the same bytes.
fn agree(base: &Survivor, other: &Survivor) -> Result<(), PlanError> {
    if base.epoch != other.epoch || base.identity.node_id == other.identity.node_id {
        return Ok(());
    }
    let contradiction = |index| {
        let (a, b) = (base.identity.node_id, other.identity.node_id);
        Err(PlanError::Contradiction { a, b, index })
    };
    if let Some(certain) = other.certain
        && (!base.holds(certain.id()) || base.head_at(certain.index).is_some_and(|head| head != certain.head))
    {
        return contradiction(certain.index);
    }
    let sealed = base.report.segments.iter().zip(&other.report.segments).filter(|(a, b)| a.sealed && b.sealed);
    match sealed.into_iter().find(|(a, b)| a.digest != b.digest) {
        Some((a, _)) => contradiction(a.first.index),
        None => Ok(()),
    }
}

fn named(survivor: &Survivor) -> String {
    survivor.dir.display().to_string()
}

fn none_sound(survivors: &[Survivor]) -> PlanError {
    let each = survivors.iter().map(|survivor| match &survivor.damage {
        Some(damage) => format!("{}: {damage}", named(survivor)),
        None => format!("{}: it holds no entry", named(survivor)),
    });
    PlanError::NoneSound(each.collect::<Vec<_>>().join("; "))
}

pub(super) fn list(ids: &BTreeSet<u64>) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
