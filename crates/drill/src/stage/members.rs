//! Changes of the membership, as an operator makes them.

use std::{cell::RefCell, time::Duration};

use sillok_wire::{errors, v1};
use tonic::Code;

use super::{CAUGHT_UP, Stage};
use crate::{DrillError, wait::within};

impl Stage {
    /// Puts blank nodes with new ids where lost ones were, as an operator does.
    ///
    /// # Errors
    /// The cluster refuses, or does not do it in time.
    pub async fn replace(&mut self, lost: &[u64]) -> Result<Vec<u64>, DrillError> {
        let mut fresh = Vec::new();
        for &old in lost {
            let site = self.cluster.node(old).site.clone();
            let id = self.cluster.add(&site)?;
            self.cluster.spawn(id)?;
            self.watch.add(self.cluster.node(id));
            within("the blank node answers", Duration::from_secs(20), || self.cluster.node(id).status()).await?;
            self.note(format!("a blank node {id} stands at {site} for node {old}"));
            let node = Some(self.cluster.node(id).described());
            let replace = v1::ReplaceNodeRequest { node_id: old, node, ..Default::default() };
            self.change("replacing a lost node", |mut leader| {
                let replace = replace.clone();
                async move { leader.replace_node(replace).await }
            })
            .await?;
            self.note(format!("node {id} has caught up and votes, and node {old} is removed"));
            fresh.push(id);
        }
        Ok(fresh)
    }

    /// Adds blank nodes with new ids at these sites, as an operator does who has only one node left.
    ///
    /// # Errors
    /// The cluster refuses, or does not do it in time.
    pub async fn join(&mut self, sites: &[String]) -> Result<(), DrillError> {
        for (place, site) in sites.iter().enumerate() {
            let id = self.cluster.add(site)?;
            self.cluster.spawn(id)?;
            self.watch.add(self.cluster.node(id));
            within("the blank node answers", Duration::from_secs(20), || self.cluster.node(id).status()).await?;
            // Of two voters each is needed: that much must be said until the third is there.
            let allow_single_site_quorum = place + 1 < sites.len();
            let node = Some(self.cluster.node(id).described());
            let add = v1::AddNodeRequest { node, allow_single_site_quorum, ..Default::default() };
            self.change("adding a blank node", |mut leader| {
                let add = add.clone();
                async move { leader.add_node(add).await }
            })
            .await?;
            self.note(format!("a blank node {id} at {site} has caught up and votes"));
        }
        Ok(())
    }

    /// A change of the membership at whoever leads, asked again while nobody does: every change may be.
    async fn change<F>(&self, what: &str, call: impl Fn(sillok_client::Cluster) -> F) -> Result<(), DrillError>
    where
        F: Future<Output = Result<tonic::Response<v1::MembershipResponse>, tonic::Status>>,
    {
        let last = RefCell::new(None);
        let done = within(what, CAUGHT_UP, || {
            let (call, last) = (&call, &last);
            async move {
                let leader = self.cluster.leader_now().await?;
                match call(self.cluster.node(leader).operator()).await {
                    Ok(_) => Some(Ok(())),
                    Err(status) if is_passing(&status) => {
                        last.replace(Some(status));
                        None
                    }
                    Err(status) => Some(Err(status)),
                }
            }
        })
        .await;
        match (done, last.into_inner()) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(status)), _) | (Err(_), Some(status)) => Err(DrillError::call(what, status)),
            (Err(error), None) => Err(error),
        }
    }
}

/// Another try may do better.
fn is_passing(status: &tonic::Status) -> bool {
    errors::reason_of(status) == Some(v1::Reason::MembershipChangeInProgress)
        || !matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound)
}
