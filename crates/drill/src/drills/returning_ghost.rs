//! Two ghosts: a node whose disk burned comes back blank under its old id, and an old disk comes back after its node was removed.
//! Either would be one voter that has forgotten, or never heard, what it agreed to.

use std::time::Duration;

use super::Drill;
use crate::{DrillError, stage::Stage, wait::within};

pub(super) const DRILL: Drill = Drill {
    name: "returning-ghost",
    breaks: "an erased node comes back under its old id; an old disk comes back after its node was removed",
    promises: "neither is let in, the first says why, and writes go on undisturbed",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.2).await;
    let leader = stage.leader().await?;
    let others = stage.others(leader);
    let [blank, old, ..] = others[..] else { return Ok(()) };

    stage.breaks(format!("the disk of {} is erased, and it comes back under its old id", stage.name(blank)));
    stage.cluster.kill(blank)?;
    stage.cluster.erase(blank)?;
    stage.cluster.spawn(blank)?;
    let trouble = within("the blank node says that it is not let in", Duration::from_secs(20), || async {
        stage.cluster.node(blank).status().await.map(|status| status.trouble).filter(|trouble| !trouble.is_empty())
    })
    .await;
    if let Ok(trouble) = &trouble {
        stage.note(format!("node {blank} says: {trouble}"));
    }
    let promise = "A node that lost its disk takes no part under its old id, and says why";
    stage.promise("ghost-refused", promise, trouble.map(drop).map_err(|error| error.to_string()));
    stage.holds_nothing(blank).await;
    stage.cluster.kill(blank)?;
    stage.replace(&[blank]).await?;
    stage.redundant_again().await?;
    stage.mended("a blank node with a new id stands in its place");
    stage.go_on_for(0.15).await;

    stage.cluster.stop(old, Duration::from_secs(20)).await?;
    stage.replace(&[old]).await?;
    stage.redundant_again().await?;
    stage.breaks(format!("the old disk of {} comes back after the node was removed", stage.name(old)));
    let (before, term, committed) = (stage.leader().await?, stage.term().await, stage.committed().await);
    stage.cluster.spawn(old)?;
    stage.go_on_for(0.25).await;
    stage.holds_nothing_new(old, committed).await;
    let kept = match (stage.leader().await?, stage.term().await) {
        now if now == (before, term) => Ok(()),
        (leader, after) => {
            Err(format!("{} leads in term {after}, node {before} led in term {term}", stage.name(leader)))
        }
    };
    stage.promise("undisturbed", "A removed node that comes back does not even disturb the leader", kept);
    stage.cluster.kill(old)?;
    stage.mended("it is gone again");
    stage.go_on_for(0.15).await;
    Ok(())
}
