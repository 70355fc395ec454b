//! One bit on one disk turns over in the history. The node must notice, and must not make up for it by forgetting: it gets back
//! from its peers what was there. What no peer knows, its own vote, it must not make up at all.

use std::time::Duration;

use super::{Drill, disk};
use crate::{DrillError, stage::Stage, wait::within};

pub(super) const DRILL: Drill = Drill {
    name: "bit-rot",
    breaks: "one byte in the chronicle of a running node is changed, then one while it is stopped; later one byte of its vote",
    promises: "the running node finds it by its scrub; each time it repairs its chronicle from its peers by itself and takes part \
               again; with its vote damaged it stops with exit code 65, a blank node replaces it, and writes go on",
    links: false,
    faults: false,
    scrubs: true,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

/// The exit code for damage.
const DAMAGED: i32 = 65;
/// What a node says when it has repaired itself.
const REPAIRED: &str = "repaired the chronicle";
/// To start, ask a peer and mend.
const REPAIRED_WITHIN: Duration = Duration::from_secs(60);

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.2).await;
    let leader = stage.leader().await?;
    let Some(&rotten) = stage.others(leader).first() else { return Ok(()) };
    finds_it_while_running(stage, rotten).await?;
    stage.go_on_for(0.1).await;
    repairs_itself(stage, rotten).await?;
    stage.go_on_for(0.1).await;
    stops_for_good(stage, rotten).await?;
    stage.go_on_for(0.2).await;
    Ok(())
}

async fn finds_it_while_running(stage: &mut Stage, rotten: u64) -> Result<(), DrillError> {
    let process = stage.cluster.node(rotten).pid();
    let what = disk::turn_an_old_bit(&stage.cluster.node(rotten).data_dir())?;
    stage.breaks(format!("{what} of {} is changed while it runs", stage.name(rotten)));
    let mut seen = Ok(());
    for words in ["the scrub has found damage", REPAIRED] {
        let node = stage.cluster.node(rotten);
        let said = within(words, REPAIRED_WITHIN, || async { node.last_said(words) }).await;
        match said {
            Ok(said) => stage.note(format!("node {rotten} says: {said}")),
            Err(error) => seen = seen.and(Err(error.to_string())),
        }
    }
    if stage.cluster.node(rotten).pid() != process || !stage.cluster.ended_by_themselves().is_empty() {
        seen = seen.and(Err("its process has ended".to_owned()));
    }
    let promise = "A running node finds by itself what has rotted, repairs it from its peers, and its process goes on";
    stage.promise("rot-is-found", promise, seen);
    stage.caught_up(rotten).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{} holds again what it held", stage.name(rotten)));
    Ok(())
}

async fn repairs_itself(stage: &mut Stage, rotten: u64) -> Result<(), DrillError> {
    stage.cluster.stop(rotten, Duration::from_secs(20)).await?;
    let before = stage.cluster.node(rotten).last_said(REPAIRED);
    let what = disk::turn_a_bit(&stage.cluster.node(rotten).data_dir())?;
    stage.breaks(format!("{what} of {} is changed while it is stopped", stage.name(rotten)));
    stage.cluster.spawn(rotten)?;
    let repaired = {
        let node = stage.cluster.node(rotten);
        within("the node has repaired its chronicle", REPAIRED_WITHIN, || async {
            // Its log is that of its whole life; each line begins with its time.
            node.last_said(REPAIRED).filter(|said| before.as_ref() != Some(said))
        })
        .await
    };
    if let Ok(said) = &repaired {
        stage.note(format!("node {rotten} says: {said}"));
    }
    let promise = "A node with a damaged chronicle repairs it from its peers";
    stage.promise("damage-is-repaired", promise, repaired.map(drop).map_err(|error| error.to_string()));
    stage.caught_up(rotten).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{} holds again what it held", stage.name(rotten)));
    Ok(())
}

async fn stops_for_good(stage: &mut Stage, rotten: u64) -> Result<(), DrillError> {
    stage.cluster.stop(rotten, Duration::from_secs(20)).await?;
    let what = disk::turn_a_bit_of_the_vote(&stage.cluster.node(rotten).data_dir())?;
    stage.breaks(format!("{what} of {} is changed", stage.name(rotten)));
    stage.cluster.spawn(rotten)?;
    let ended = stage.cluster.ended(rotten, Duration::from_secs(30)).await;
    let kept = match ended {
        Ok(status) if status.code() == Some(DAMAGED) => Ok(()),
        Ok(status) => Err(format!("it ended with {status}")),
        Err(error) => Err(error.to_string()),
    };
    let says = stage.cluster.node(rotten).log_tail();
    stage.note(format!("node {rotten} says: {}", says.lines().next_back().unwrap_or("nothing")));
    let promise = "A node whose damage no peer can repair stops with exit code 65";
    stage.promise("damage-is-seen", promise, kept);
    stage.cluster.kill(rotten)?;
    stage.replace(&[rotten]).await?;
    stage.redundant_again().await?;
    stage.mended("a blank node stands in its place");
    Ok(())
}
