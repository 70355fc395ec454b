//! Every client times out at once through a failover, and asks again with the same keys, again and again.

use std::time::Duration;

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "retry-storm",
    breaks: "the leader is killed, and every client gives up and asks again with the same key, all at once, many times",
    promises: "nothing is done twice, and writes go on",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

const WAVES: u32 = 20;

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let leader = stage.leader().await?;
    stage.breaks(format!("{} is killed, and every client asks again {WAVES} times", stage.name(leader)));
    stage.cluster.kill(leader)?;
    for _ in 0..WAVES {
        stage.workload.storm();
        // Apart enough to reach a node, close enough that most are not answered.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.writes_go_on(WRITES_BACK).await?;
    stage.cluster.spawn(leader)?;
    stage.redundant_again().await?;
    stage.mended(format!("{} is back", stage.name(leader)));
    stage.go_on_for(0.4).await;
    Ok(())
}
