//! A site at the end of a bad line: everything from and to it is late, and some of it has to be sent again.

use std::time::Duration;

use super::Drill;
use crate::{
    DrillError,
    link::Way,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "slow-link",
    breaks: "every line of the leader's node is 30 ms slow and loses 1 packet in 100, sent again 200 ms later",
    promises: "writes go on, slower or under another leader",
    links: true,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

const BAD: Way = Way { held: false, delay: Duration::from_millis(30), loss: 0.01 };

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    stage.breaks(format!("the lines of {} are slow and lossy", stage.name(leader)));
    for other in stage.others(leader) {
        stage.mesh()?.slow(leader, other, BAD);
        stage.mesh()?.slow(other, leader, BAD);
    }
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.4).await;
    stage.mesh()?.heal();
    stage.redundant_again().await?;
    stage.mended("the lines are good again");
    stage.go_on_for(0.3).await;
    Ok(())
}
