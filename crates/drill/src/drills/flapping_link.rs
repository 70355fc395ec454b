//! A line that comes and goes, between the leader and one other node.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "flapping-link",
    breaks: "the line between the leader and one follower breaks and comes back, again and again",
    promises: "writes go on, and the follower catches up when the line stays",
    links: true,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

const TIMES: u32 = 12;

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    let Some(&other) = stage.others(leader).first() else { return Ok(()) };

    stage.breaks(format!("the line between {} and {} breaks {TIMES} times", stage.name(leader), stage.name(other)));
    for _ in 0..TIMES {
        stage.mesh()?.cut(leader, other);
        stage.go_on_for(0.4 / f64::from(2 * TIMES)).await;
        stage.mesh()?.mend(leader, other);
        stage.go_on_for(0.4 / f64::from(2 * TIMES)).await;
    }
    stage.writes_go_on(WRITES_BACK).await?;
    stage.redundant_again().await?;
    stage.mended("the line stays");
    stage.go_on_for(0.3).await;
    Ok(())
}
