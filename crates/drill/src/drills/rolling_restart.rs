//! The everyday maintenance: each node in turn is asked to stop and started again.

use std::time::Duration;

use super::Drill;
use crate::{DrillError, stage::Stage};

pub(super) const DRILL: Drill = Drill {
    name: "rolling-restart",
    breaks: "each node in turn is asked to stop (SIGTERM) and started again, the leader last",
    promises: "a client that retries as told sees no failed call",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    stage.breaks("each node in turn is restarted");
    each_in_turn(stage).await?;
    stage.mended("every node runs again");
    stage.go_on_for(0.3).await;
    stage.nobody_failed();
    Ok(())
}

/// Stops each node and starts it again once the one before is whole, the leader last.
pub(super) async fn each_in_turn(stage: &mut Stage) -> Result<(), DrillError> {
    let leader = stage.leader().await?;
    let mut order = stage.others(leader);
    order.push(leader);
    for id in order {
        let status = stage.cluster.stop(id, Duration::from_secs(20)).await?;
        let kept = if status.success() { Ok(()) } else { Err(format!("node {id} ended with {status}")) };
        stage.promise("graceful", "A node that is asked to stop ends by itself, with exit code 0", kept);
        stage.cluster.spawn(id)?;
        stage.caught_up(id).await?;
        stage.redundant_again().await?;
    }
    Ok(())
}
