//! A disk that does not fail and does not keep up, as disks do before they fail: every sync of the leader's takes seconds.

use super::Drill;
use crate::{
    DrillError,
    faults::Faults,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "slow-disk",
    breaks: "every sync of the leader's disk takes 1.5 s longer",
    promises: "leadership goes to a node whose disk keeps up, writes go on, and the slow one catches up",
    links: false,
    faults: true,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

/// More than a leader may be behind (1 s).
const SYNC_DELAY_MS: u64 = 1_500;

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    stage.breaks(format!("every sync at {} takes {SYNC_DELAY_MS} ms longer", stage.name(leader)));
    stage.cluster.make_wrong(leader, Faults { sync_delay_ms: SYNC_DELAY_MS, ..Faults::default() })?;
    stage.another_leads(leader).await?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.4).await;
    stage.cluster.make_wrong(leader, Faults::default())?;
    stage.note("the disk is as fast as before");
    stage.caught_up(leader).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{} has caught up", stage.name(leader)));
    stage.go_on_for(0.25).await;
    Ok(())
}
