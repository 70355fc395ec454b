//! Who belongs to the cluster, as the effective membership says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;

use crate::types::{LogId, Member, Membership, StoredMembership, from_raft_id};

/// The effective membership: the newest in this node's log, committed or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RosterView {
    /// The entry it stands in; `None` before the cluster is formed.
    pub(crate) log_id: Option<LogId>,
    /// One set of voters, two while a change is under way.
    pub(crate) configs: Vec<BTreeSet<u64>>,
    /// Voters and learners.
    pub(crate) members: BTreeMap<u64, Member>,
}

impl RosterView {
    pub(crate) fn of(stored: &StoredMembership) -> RosterView {
        RosterView::from_membership(stored.log_id().as_ref().map(from_raft_id), stored.membership())
    }

    pub(crate) fn from_membership(log_id: Option<LogId>, membership: &Membership) -> RosterView {
        RosterView {
            log_id,
            configs: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(&id, member)| (id, member.clone())).collect(),
        }
    }

    /// Voters of any configuration, ascending.
    pub(crate) fn voters(&self) -> BTreeSet<u64> {
        self.configs.iter().flatten().copied().collect()
    }

    pub(crate) fn is_voter(&self, id: u64) -> bool {
        self.configs.iter().any(|voters| voters.contains(&id))
    }

    /// A change is under way.
    pub(crate) fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }

    pub(crate) fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    pub(crate) fn site_of(&self, id: u64) -> Option<&str> {
        self.members.get(&id).map(|member| &*member.site)
    }

    /// Sites with at least one voter, ascending.
    pub(crate) fn voter_sites(&self) -> BTreeSet<&str> {
        self.voters().into_iter().filter_map(|id| self.site_of(id)).collect()
    }
}

/// Follows the effective membership. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Roster(watch::Receiver<Arc<RosterView>>);

impl Roster {
    pub(crate) fn new(receiver: watch::Receiver<Arc<RosterView>>) -> Roster {
        Roster(receiver)
    }

    /// As of now.
    pub(crate) fn view(&self) -> Arc<RosterView> {
        self.0.borrow().clone()
    }

    /// Told of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<RosterView>> {
        self.0.clone()
    }
}
