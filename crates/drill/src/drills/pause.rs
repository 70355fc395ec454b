//! A machine that stands still and then goes on as if nothing had been, after the others have elected.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "pause",
    breaks: "the leader's process is stopped (SIGSTOP) until another leads, and goes on (SIGCONT)",
    promises: "writes go on; the old leader follows, and never answers as if it still led",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    stage.stick_a_reader_to(leader)?;
    stage.breaks(format!("{} stands still", stage.name(leader)));
    stage.cluster.pause(leader)?;
    stage.another_leads(leader).await?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.3).await;
    stage.cluster.resume(leader)?;
    stage.note(format!("{} goes on", stage.name(leader)));
    stage.redundant_again().await?;
    stage.mended("the old leader follows");
    stage.go_on_for(0.3).await;
    Ok(())
}
