//! etcd: `Put` of a fresh key, unary gRPC.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::bail;
use etcd_client::{Client, ConnectOptions, KvClient};
use tokio::time::timeout;

use crate::{FAILOVER_TRY, Mode, Options, measure::Writer};

/// The key is part of the event's size.
const KEY_BYTES: usize = 16;

pub(crate) struct Put {
    /// The one in use first; the others are tried in turn when it fails.
    nodes: Vec<KvClient>,
    at: usize,
    value: Vec<u8>,
    next: Arc<AtomicU64>,
    failover: bool,
}

pub(crate) async fn writers(options: &Options) -> anyhow::Result<Vec<Put>> {
    let failover = options.mode == Mode::Failover;
    let next = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 40));
    let value = vec![b'x'; options.size.saturating_sub(KEY_BYTES)];
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        let mut nodes = Vec::new();
        // A load goes to the leader, given first; in a failover any node may be asked.
        for endpoint in options.endpoints.iter().take(if failover { usize::MAX } else { 1 }) {
            let settings = ConnectOptions::new().with_tcp_keepalive(std::time::Duration::from_secs(30));
            nodes.push(Client::connect([endpoint], Some(settings)).await?.kv_client());
        }
        connections.push(nodes);
    }
    let lane = |lane: usize| {
        let nodes = connections[lane % connections.len()].clone();
        let at = if failover { lane % nodes.len() } else { 0 };
        Put { nodes, at, value: value.clone(), next: Arc::clone(&next), failover }
    };
    Ok((0..options.in_flight).map(lane).collect())
}

/// The endpoint of the leader; fails while there is none.
pub(crate) async fn prepare(options: &Options) -> anyhow::Result<String> {
    for endpoint in &options.endpoints {
        let status = Client::connect([endpoint], None).await?.maintenance_client().status().await?;
        if status.header().is_some_and(|header| header.member_id() == status.leader()) {
            return Ok(endpoint.clone());
        }
    }
    bail!("no node says that it leads")
}

impl Writer for Put {
    async fn write(&mut self) -> anyhow::Result<()> {
        let key = format!("{:016x}", self.next.fetch_add(1, Ordering::Relaxed));
        let put = self.nodes[self.at].put(key, self.value.clone(), None);
        if !self.failover {
            put.await?;
            return Ok(());
        }
        let outcome = timeout(FAILOVER_TRY, put).await;
        if !matches!(outcome, Ok(Ok(_))) {
            self.at = (self.at + 1) % self.nodes.len();
        }
        outcome??;
        Ok(())
    }
}
