//! Views are only what can be rebuilt: each node loses all of them in turn, and gives the same answers and digests.

use std::time::Duration;

use super::Drill;
use crate::{DrillError, stage::Stage};

pub(super) const DRILL: Drill = Drill {
    name: "views-lost",
    breaks: "each node in turn is stopped, and its views are deleted",
    promises: "each rebuilds them from its chronicle; nothing else is needed, and digests are the same",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    stage.breaks("each node in turn loses its views");
    for id in stage.cluster.ids() {
        stage.cluster.stop(id, Duration::from_secs(20)).await?;
        let views = stage.cluster.node(id).data_dir().join("views");
        std::fs::remove_dir_all(&views).map_err(DrillError::file("delete", views))?;
        stage.cluster.spawn(id)?;
        stage.caught_up(id).await?;
        stage.redundant_again().await?;
    }
    stage.mended("every node has its views again");
    stage.go_on_for(0.4).await;
    Ok(())
}
