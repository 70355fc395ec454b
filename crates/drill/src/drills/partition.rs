//! The leader is cut off from everyone, and does not know. A client that knows nobody else must never get an old answer for a
//! current one.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "partition",
    breaks: "the leader hears nobody and nobody hears it; clients still reach it",
    promises: "another node leads and writes go on; whoever is stuck with the old leader never reads what is out of date",
    links: true,
    faults: false,
    scrubs: false,
    compose: true,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    stage.stick_a_reader_to(leader)?;

    stage.breaks(format!("nothing passes between {} and the others", stage.name(leader)));
    stage.cluster.cut_off(leader)?;
    stage.another_leads(leader).await?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.35).await;

    stage.cluster.heal()?;
    stage.note("everything passes again");
    stage.redundant_again().await?;
    stage.mended("the old leader follows");
    stage.go_on_for(0.3).await;
    Ok(())
}
