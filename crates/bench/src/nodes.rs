//! Nodes that are stopped, started and made anew under the eyes of the bench.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sillok_client::v1;
use sillok_drill::{Cluster, within};

use crate::BenchError;

/// However much there is to fold.
const LONG: Duration = Duration::from_secs(30 * 60);
/// A graceful stop writes the views first.
const STOPS_WITHIN: Duration = Duration::from_secs(120);

/// How long a start took.
pub(crate) struct Started {
    /// Until the node answers calls.
    pub(crate) answers: Duration,
    /// Until it has everything that was committed when it was started, and its views have folded it.
    pub(crate) level: Duration,
}

/// A follower, and what is committed.
pub(crate) async fn follower(cluster: &Cluster) -> Result<u64, BenchError> {
    let leader = cluster.leader().await?;
    cluster.settle(LONG).await?;
    let follower = cluster.running().map(|node| node.id).find(|id| *id != leader);
    follower.ok_or_else(|| BenchError::Asked("there is no follower".to_owned()))
}

/// SIGTERM, and until the process is gone.
pub(crate) async fn stop(cluster: &mut Cluster, id: u64) -> Result<Duration, BenchError> {
    let begun = Instant::now();
    cluster.stop(id, STOPS_WITHIN).await?;
    Ok(begun.elapsed())
}

/// Starts a node and waits for it.
pub(crate) async fn start(cluster: &mut Cluster, id: u64) -> Result<Started, BenchError> {
    let begun = Instant::now();
    cluster.spawn(id)?;
    within("the node answers", LONG, || cluster.node(id).status()).await?;
    let answers = begun.elapsed();
    level(cluster, id).await?;
    Ok(Started { answers, level: begun.elapsed() })
}

/// Waits until a node has folded all that the leader has committed by now.
pub(crate) async fn level(cluster: &Cluster, id: u64) -> Result<(), BenchError> {
    let leader = cluster.leader().await?;
    let committed =
        within("the leader answers", LONG, || async { Some(cluster.node(leader).status().await?.committed_index) });
    let committed = committed.await?;
    let level = within("the node is level with the leader", LONG, || async {
        (cluster.node(id).status().await?.applied_index >= committed).then_some(())
    });
    Ok(level.await?)
}

/// How long it took a blank node to be a whole one.
pub(crate) struct Joined {
    /// Under this new id.
    pub(crate) id: u64,
    /// Until its disk has everything that was committed when it joined: from then on it counts for what is kept.
    pub(crate) holds: Duration,
    /// Until its views have folded that, too.
    pub(crate) folded: Duration,
}

/// A blank node joins as a learner under a new id.
pub(crate) async fn join(cluster: &mut Cluster, site: &str) -> Result<Joined, BenchError> {
    let leader = cluster.leader().await?;
    let id = cluster.add(site)?;
    cluster.spawn(id)?;
    within("the blank node answers", LONG, || cluster.node(id).status()).await?;
    let asked = || async { Some(cluster.node(leader).status().await?.committed_index) };
    let committed = within("the leader answers", LONG, asked).await?;
    let begun = Instant::now();
    let node = Some(cluster.node(id).described());
    let add = v1::AddNodeRequest { node, learner_only: true, ..Default::default() };
    cluster.node(leader).operator().add_node(add).await.map_err(BenchError::read("the blank node is not taken in"))?;
    within("the node holds everything", LONG, || async {
        let status = cluster.node(leader).status().await?;
        let it = status.nodes.iter().find(|node| node.node.as_ref().is_some_and(|node| node.id == id))?;
        (it.flushed_index? >= committed).then_some(())
    })
    .await?;
    let holds = begun.elapsed();
    level(cluster, id).await?;
    Ok(Joined { id, holds, folded: begun.elapsed() })
}

/// What the files under a directory hold, in bytes as they lie on the disk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
