//! The fire of 2022: the site that leads burns in the middle of a broadcast, and its disks with it.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "leader-site-fire",
    breaks: "the leader's site burns with its disks in the middle of a broadcast; a blank node replaces it",
    promises: "writes go on by themselves; the blank node catches up and the cluster can lose any site again",
    links: false,
    faults: false,
    scrubs: false,
    compose: true,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    stage.workload.broadcasting(true);
    stage.note("broadcasts to every friend begin");
    stage.go_on_for(0.05).await;
    let leader = stage.leader().await?;
    let site = stage.cluster.node(leader).site.clone();

    stage.breaks(format!("{site} burns: its processes are killed and its disks erased"));
    let lost = stage.burn(&site)?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.3).await;
    stage.workload.broadcasting(false);

    stage.replace(&lost).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{site} stands again"));
    stage.go_on_for(0.3).await;
    Ok(())
}
