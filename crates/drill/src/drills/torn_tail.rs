//! The power went while a batch was on its way to the disk: of its sectors the last arrived and the first did not. Nobody was
//! told that it is recorded, so it may be cut, and nothing else may.

use super::{Drill, disk};
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "torn-tail",
    breaks: "a node is killed, and half a batch that was never acknowledged stands behind its chronicle's end",
    promises: "the node tells a torn tail from damage, cuts it, starts by itself and catches up",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    let Some(&torn) = stage.others(leader).first() else { return Ok(()) };
    stage.cluster.kill(torn)?;
    let what = disk::tear_the_tail(&stage.cluster.node(torn).data_dir())?;
    stage.breaks(format!("{} is killed, and {what}", stage.name(torn)));
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.1).await;
    stage.cluster.spawn(torn)?;
    let back = stage.caught_up(torn).await.map_err(|error| format!("{error}: {}", stage.cluster.node(torn).log_tail()));
    stage.promise("torn-is-no-damage", "A node with a torn tail starts by itself and catches up", back);
    stage.redundant_again().await?;
    stage.mended(format!("{} has caught up", stage.name(torn)));
    stage.go_on_for(0.3).await;
    Ok(())
}
