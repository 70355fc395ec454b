//! The act itself: a new epoch in the survivor's chronicle.
//!
//! ```text
//! 1 vote        a term that no lost node can have reached, synced       alone: a vote in a term that never was
//! 2 record      who, why, from where, in the chain of records       ┐   one write, one sync; the record alone: the node
//!   membership  the survivor alone                                  ┘   does not start, and the same command goes on
//! 3 epoch       in the meta file, synced                                missing: the log says it
//! ```
//! Nothing is taken away, so what was there before is there at each moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use sillok_chronicle::{Chronicle, Disk, Entry, Epoch, OpenError, Vote, WriteError};
use sillok_domain::UnixNanos;
use sillok_wire::{record, records};

use super::{
    plan::Plan,
    survey::{Mark, chronicle_dir},
};
use crate::{
    chain::{ChainFold, record_keys},
    types::{LogId, Membership, encode_membership, kind},
};

/// Lost nodes that went on for long after the survivor was cut off have raised the term; no more often than this.
const TERM_GAP: u64 = 1_000_000;
/// Longest actor and reason, in characters: they are repeated to every node that is refused.
const ACTOR_CHARS: usize = 64;
const REASON_CHARS: usize = 200;

/// What the operator says.
#[derive(Debug, Clone)]
pub struct Order {
    /// The cluster's id, as the plan shows it.
    pub confirm: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// In so many words: from here on one site holds a quorum, until nodes are added.
    pub allow_single_site_quorum: bool,
    /// The clock.
    pub now: UnixNanos,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The epoch that began.
    pub epoch: u64,
    /// Where its record stands.
    pub index: u64,
    /// The term of the record.
    pub term: u64,
    /// The last position that was kept.
    pub sequence: u64,
}

/// Nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The confirmation is not the cluster's id.
    #[error("this is cluster {expected}, and {given:?} was confirmed; nothing was changed")]
    NotConfirmed {
        /// The cluster.
        expected: String,
        /// What was given.
        given: String,
    },
    /// Who and why are recorded for ever.
    #[error("{what} must have 1 to {limit} characters and no line break; nothing was changed")]
    Text {
        /// `actor` or `reason`.
        what: &'static str,
        /// In characters.
        limit: usize,
    },
    /// It was not said.
    #[error(
        "node {node} at {site} would be the only voter, so that what is acknowledged there can burn there: say \
         allow_single_site_quorum (CLI: --allow-single-site-quorum) to accept that until nodes are added; nothing was changed"
    )]
    Placement {
        /// The survivor.
        node: u64,
        /// Its site.
        site: String,
    },
    /// Between the plan and the act something was written.
    #[error("the chronicle in {dir} is no longer what was surveyed; nothing was changed, look at it again")]
    Changed {
        /// The data directory.
        dir: String,
    },
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A write failed: the directory is as before, or the same command goes on from where it stands.
    #[error("the new epoch could not be written: {0}; give the same command again")]
    Write(#[from] WriteError),
}

/// Begins a new epoch in the chronicle of the plan's survivor, durably. Blocks for a few syncs.
///
/// # Errors
/// Where it was not confirmed, or could not be written.
pub fn act(disk: &Arc<dyn Disk>, plan: &Plan, order: &Order) -> Result<Recovered, ActError> {
    check(plan, order)?;
    let base = plan.base();
    let last = plan.last();
    let changed = || ActError::Changed { dir: base.dir.display().to_string() };
    let mut options = sillok_chronicle::Options::new(chronicle_dir(&base.dir));
    options.disk = disk.clone();
    options.segment_bytes = base.report.segment_bytes.ok_or_else(changed)?.get();
    options.fold = Box::new(ChainFold::default());
    options.keys = record_keys;
    options.expect_node_id = Some(base.identity.node_id);
    let chronicle = Chronicle::open(options)?;
    let done = if chronicle.last() == Some(last.id()) && chronicle.identity() == base.identity {
        write(&chronicle, plan, order, last)
    } else {
        Err(changed())
    };
    chronicle.close();
    done
}

fn check(plan: &Plan, order: &Order) -> Result<(), ActError> {
    if order.confirm != plan.cluster_id {
        return Err(ActError::NotConfirmed { expected: plan.cluster_id.clone(), given: order.confirm.clone() });
    }
    let texts = [("actor", &order.actor, ACTOR_CHARS), ("reason", &order.reason, REASON_CHARS)];
    for (what, text, limit) in texts {
        if text.trim().is_empty() || text.chars().count() > limit || text.chars().any(char::is_control) {
            return Err(ActError::Text { what, limit });
        }
    }
    if !order.allow_single_site_quorum {
        let (node, site) = (plan.base().identity.node_id, plan.base().identity.site.clone());
        return Err(ActError::Placement { node, site });
    }
    Ok(())
}

fn write(chronicle: &Chronicle, plan: &Plan, order: &Order, last: Mark) -> Result<Recovered, ActError> {
    let base = plan.base();
    let id = base.identity.node_id;
    let votes = plan.survivors.iter().filter_map(|survivor| Some(survivor.report.vote?.term)).max().unwrap_or(0);
    // An interrupted attempt voted already, in the term of its record.
    let term = if plan.unfinished { votes.max(last.term) } else { votes.max(last.term) + TERM_GAP };
    // As of a leader that was: a node that starts never resumes a term, and is elected in the next one.
    let vote = Vote { term, node_id: id, committed: true };
    durable(|done| chronicle.save_vote(vote, done))?;

    let mut entries = Vec::new();
    let mut next = last.index + 1;
    let mut push = |kind: u8, payload: Bytes| {
        entries.push(Entry { id: LogId { term, index: next }, kind, payload });
        next += 1;
        LogId { term, index: next - 1 }
    };
    let (epoch, at) = match &base.recovered {
        Some(begun) if plan.unfinished => (begun.epoch(), begun.at),
        _ => {
            let epoch = Epoch { number: plan.next_epoch(), token: rand::random() };
            // Stamped like its predecessor: a wrong clock here must not push the history into the future.
            let (head, next, stamp) = (base.state.head, base.state.next_sequence, base.state.accepted_at);
            let record = records::recovery_record(head, next, stamp, recovery(plan, order, epoch, last));
            (epoch, push(kind::RECORD, record))
        }
    };
    push(kind::MEMBERSHIP, alone(plan)?);
    durable(|done| chronicle.append(entries, done))?;
    chronicle.begin_epoch(epoch)?;
    Ok(Recovered { epoch: epoch.number, index: at.index, term: at.term, sequence: last.sequence })
}

fn recovery(plan: &Plan, order: &Order, epoch: Epoch, last: Mark) -> record::Recovery {
    let identity = &plan.base().identity;
    record::Recovery {
        epoch: epoch.number,
        token: epoch.token,
        actor: order.actor.clone(),
        reason: order.reason.clone(),
        node_id: identity.node_id,
        incarnation: identity.incarnation,
        site: identity.site.clone(),
        kept_term: last.term,
        kept_index: last.index,
        kept_sequence: last.sequence,
        kept_sequence_term: last.sequence_term,
        certain_sequence: plan.certain().map_or(0, |certain| certain.sequence),
        lost_node_ids: plan.lost.iter().map(|node| node.id).collect(),
        allowed_single_site_quorum: order.allow_single_site_quorum,
        recovered_at_unix_nanos: order.now,
    }
}

/// The membership of the survivor alone, as the newest one describes it.
fn alone(plan: &Plan) -> Result<Bytes, ActError> {
    let id = plan.base().identity.node_id;
    let described: BTreeMap<u64, _> = plan.roster().member(id).map(|member| (id, member.clone())).into_iter().collect();
    // The plan takes no base that the membership does not describe.
    let changed = |_| ActError::Changed { dir: plan.base().dir.display().to_string() };
    Ok(encode_membership(&Membership::new(vec![BTreeSet::from([id])], described).map_err(changed)?))
}

/// A durable write, waited for.
fn durable(start: impl FnOnce(Box<dyn FnOnce(Result<(), WriteError>) + Send>)) -> Result<(), WriteError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The receiver waits right below.
    start(Box::new(move |result| drop(sender.send(result))));
    receiver.recv().unwrap_or(Err(WriteError::Closed))
}
