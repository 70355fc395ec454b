//! The other everyday maintenance: each node in turn is stopped, and started again with another program.

use super::{Drill, rolling_restart::each_in_turn};
use crate::{DrillError, stage::Stage};

pub(super) const DRILL: Drill = Drill {
    name: "rolling-upgrade",
    breaks: "each node in turn is asked to stop (SIGTERM) and started with another program, the leader last",
    promises: "old and new nodes work together, and a client that retries as told sees no failed call",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let to = stage.options.binary.clone();
    match &stage.options.from {
        Some(from) => stage.note(format!("from {} to {}", from.display(), to.display())),
        None => stage.note("no other program was named (--from): the nodes are upgraded to the same one"),
    }
    stage.cluster.start_from_now_on(to);
    stage.breaks("each node in turn is upgraded");
    each_in_turn(stage).await?;
    stage.mended("every node is upgraded");
    stage.go_on_for(0.3).await;
    stage.nobody_failed();
    Ok(())
}
