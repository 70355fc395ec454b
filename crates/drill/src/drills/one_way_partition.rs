//! Half of a network is the worst: what the leader says is not heard, yet it hears everyone; then the other way round.

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "one-way-partition",
    breaks: "nobody hears the leader, which hears everyone; then the next leader hears nobody, and everyone hears it",
    promises: "writes go on each time; whoever is stuck with an old leader never reads what is out of date",
    links: true,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    for (heard, what) in [(false, "is not heard, and hears everyone"), (true, "hears nobody, and is heard")] {
        stage.go_on_for(0.15).await;
        let leader = stage.leader().await?;
        stage.stick_a_reader_to(leader)?;
        stage.breaks(format!("{} {what}", stage.name(leader)));
        for other in stage.others(leader) {
            let (from, to) = if heard { (other, leader) } else { (leader, other) };
            stage.mesh()?.silence(from, to);
        }
        stage.writes_go_on(WRITES_BACK).await?;
        stage.go_on_for(0.2).await;
        stage.mesh()?.heal();
        stage.redundant_again().await?;
        stage.mended("everything passes again");
    }
    stage.go_on_for(0.2).await;
    Ok(())
}
