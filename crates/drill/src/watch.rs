//! Looks at the cluster all the time: who leads, who is up, and whether the next fire would be survived.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use sillok_wire::v1::{self, cluster_client::ClusterClient};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::{cluster::Node, history::Recorder};

const EVERY: Duration = Duration::from_millis(100);
/// A node that says nothing within this is dark.
const PATIENCE: Duration = Duration::from_millis(300);

/// One look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Since the drill began.
    pub at: Duration,
    /// Who leads and says so itself.
    pub leader: Option<u64>,
    /// Nodes that answer.
    pub up: Vec<u64>,
    /// Any one site may burn now, and writes and reads go on.
    pub redundant: bool,
}

/// A task and what it saw.
#[derive(Debug)]
pub(crate) struct Watch {
    nodes: Arc<Mutex<Vec<(u64, Channel)>>>,
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// `sites`: how many must be there for full redundancy.
    pub(crate) fn start(recorder: Arc<Recorder>, sites: usize) -> Watch {
        let nodes: Arc<Mutex<Vec<(u64, Channel)>>> = Arc::default();
        let looks: Arc<Mutex<Vec<Look>>> = Arc::default();
        let task = tokio::spawn({
            let (nodes, looks) = (Arc::clone(&nodes), Arc::clone(&looks));
            async move {
                let mut ticks = tokio::time::interval(EVERY);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let known = nodes.lock().clone();
                    let look = look(&recorder, &known, sites).await;
                    looks.lock().push(look);
                }
            }
        });
        Watch { nodes, looks, task }
    }

    pub(crate) fn add(&self, node: &Node) {
        self.nodes.lock().push((node.id, node.channel()));
    }

    /// What was seen, for others who look.
    pub(crate) fn handle(&self) -> Arc<Mutex<Vec<Look>>> {
        Arc::clone(&self.looks)
    }

    pub(crate) fn now(&self) -> Look {
        self.looks.lock().last().cloned().unwrap_or_default()
    }

    pub(crate) fn looks(&self) -> Vec<Look> {
        self.looks.lock().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(recorder: &Recorder, nodes: &[(u64, Channel)], sites: usize) -> Look {
    let at = recorder.now();
    let statuses = join_all(nodes.iter().map(|(id, channel)| async move {
        let mut node = ClusterClient::new(channel.clone());
        let answer = tokio::time::timeout(PATIENCE, node.get_status(v1::GetStatusRequest {})).await;
        Some((*id, answer.ok()?.ok()?.into_inner()))
    }))
    .await;
    let statuses: Vec<_> = statuses.into_iter().flatten().collect();
    let leading = statuses.iter().filter(|(id, status)| status.leader_id == *id);
    let leader = leading.max_by_key(|(_, status)| status.term).map(|(id, _)| *id);
    let redundant = match nodes.iter().find(|(id, _)| Some(*id) == leader) {
        Some((_, channel)) => survives(channel.clone(), sites).await,
        None => false,
    };
    Look { at, leader, up: statuses.iter().map(|(id, _)| *id).collect(), redundant }
}

/// The leader's own answer to "if it burns now", for every site.
async fn survives(channel: Channel, sites: usize) -> bool {
    let mut leader = ClusterClient::new(channel);
    let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, leader.what_if(v1::WhatIfRequest {})).await else {
        return false;
    };
    let losses = answer.into_inner().sites;
    losses.len() >= sites && losses.iter().all(|loss| loss.data_safe && loss.writes_continue && loss.reads_continue)
}
