//! Every site loses its power at the same moment, and they come back one by one, in any order.

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "cold-start",
    breaks: "all sites are killed at once and started again, one by one in any order",
    promises: "writes go on as soon as most sites are there",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let mut order = stage.cluster.ids();
    order.shuffle(&mut StdRng::seed_from_u64(stage.options.seed));
    stage.breaks("every site loses its power");
    for id in &order {
        stage.cluster.kill(*id)?;
    }
    stage.go_on_for(0.1).await;
    for id in order {
        stage.note(format!("{} starts", stage.name(id)));
        stage.cluster.spawn(id)?;
        stage.go_on_for(0.05).await;
    }
    stage.writes_go_on(WRITES_BACK).await?;
    stage.redundant_again().await?;
    stage.mended("every site stands again");
    stage.go_on_for(0.3).await;
    Ok(())
}
