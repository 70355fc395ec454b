//! A site that follows burns with its disks. Nobody who writes should notice.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "follower-site-fire",
    breaks: "a site that does not lead burns with its disks; a blank node replaces it",
    promises: "writes go on; the blank node catches up and the cluster can lose any site again",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let site = stage.site_that_follows().await?;

    stage.breaks(format!("{site} burns: its processes are killed and its disks erased"));
    let lost = stage.burn(&site)?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.3).await;

    stage.replace(&lost).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{site} stands again"));
    stage.go_on_for(0.3).await;
    Ok(())
}
