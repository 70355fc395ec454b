//! Both other sites go dark. The last one says plainly that it cannot take writes, and still answers what it knows.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "two-of-three",
    breaks: "two sites lose their power; both come back",
    promises: "the last site refuses writes with the reason and answers stale reads; writes go on when the others return",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    let dark: Vec<u64> = {
        let last = stage.cluster.node(leader).site.clone();
        stage.cluster.running().filter(|node| node.site != last).map(|node| node.id).collect()
    };
    stage.breaks(format!("every site but {} loses its power", stage.cluster.node(leader).site));
    for id in &dark {
        stage.cluster.kill(*id)?;
    }
    stage.refuses_writes_and_answers_stale_reads(leader).await;
    stage.go_on_for(0.2).await;

    stage.note("the power is back");
    for id in dark {
        stage.cluster.spawn(id)?;
    }
    stage.writes_go_on(WRITES_BACK).await?;
    stage.redundant_again().await?;
    stage.mended("every site stands again");
    stage.go_on_for(0.3).await;
    Ok(())
}
