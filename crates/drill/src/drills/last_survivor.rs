//! Two sites burn down for good, and with them the quorum. What is left is one node, an operator, and `cluster recover`.
//!
//! The survivor is the one that led, so that everything that was ever acknowledged stands in its chronicle, and the promises
//! hold without exception. What a follower may lack, nobody can know from its disk: the dry run says so.

use std::time::Duration;

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "last-survivor",
    breaks: "two of three sites burn down for good, and with them the quorum",
    promises: "a dry run changes nothing; after a confirmed recovery writes go on, and blank nodes make it whole again",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.25).await;
    let survivor = stage.leader().await?;
    let home = stage.cluster.node(survivor).site.clone();
    let mut burnt: Vec<String> = stage.cluster.running().map(|node| node.site.clone()).collect();
    burnt.retain(|site| *site != home);
    burnt.sort();
    burnt.dedup();

    stage.breaks(format!("{} burn down for good; only {home} is left", burnt.join(" and ")));
    let mut lost = Vec::new();
    for site in &burnt {
        lost.extend(stage.burn(site)?);
    }
    stage.refuses_writes_and_answers_stale_reads(survivor).await;

    // Where more than one node stands at the site, each of them survived.
    let left = stage.nodes_at(&home);
    let mut command = vec!["cluster".to_owned(), "recover".to_owned()];
    for id in &left {
        stage.cluster.stop(*id, Duration::from_secs(30)).await?;
        command.extend(["--data-dir".to_owned(), stage.cluster.node(*id).data_dir().display().to_string()]);
    }
    let base = recover(stage, command, &lost).await?;
    stage.cluster.spawn(base)?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.15).await;
    stage.join(&burnt).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{} stand again, with blank nodes", burnt.join(" and ")));
    stage.go_on_for(0.3).await;
    Ok(())
}

/// As an operator does it: looks, mistypes, and confirms. The node that goes on.
async fn recover(stage: &mut Stage, command: Vec<String>, lost: &[u64]) -> Result<u64, DrillError> {
    let with = |more: &[&str]| [&command[..], &more.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()].concat();
    let look = with(&["--output", "json"]);
    let (is_possible, plan) = succeeded(stage, &look).await?;
    stage.note(format!("the dry run: node {} is freshest", word(&plan, "freshest")));
    let names_them =
        lost.iter().all(|id| plan["lostNodeIds"].as_array().is_some_and(|ids| ids.contains(&id.to_string().into())));
    let said = match (is_possible, names_them, plan["missing"]["possible"].as_bool()) {
        (true, true, Some(true)) => Ok(()),
        _ => Err(plan.to_string()),
    };
    stage.promise("dry-run", "The dry run names who is given up, and that something may be missing", said);

    let why = ["--actor", "drill", "--reason", "two sites burned down", "--allow-single-site-quorum", "--confirm"];
    let wrong = with(&[&why[..], &["0123456789abcdef0123456789abcdef"]].concat());
    let (went, printed) = stage.cluster.sillok(&wrong).await?;
    let (_, after) = succeeded(stage, &look).await?;
    let kept = if went || after != plan { Err(printed) } else { Ok(()) };
    stage.promise("confirmed", "A confirmation that names another cluster is refused, and nothing is changed", kept);

    let right = with(&[&why[..], &[&word(&plan, "clusterId"), "--output", "json"]].concat());
    let (_, done) = succeeded(stage, &right).await?;
    stage.note(format!("epoch {} begins after position {}", word(&done, "epoch"), word(&done, "keptSequence")));
    Ok(word(&done, "nodeId").parse().unwrap_or(0))
}

/// Runs it, and reads the JSON that it must print.
async fn succeeded(stage: &Stage, command: &[String]) -> Result<(bool, serde_json::Value), DrillError> {
    let (went, printed) = stage.cluster.sillok(command).await?;
    match serde_json::from_str(&printed) {
        Ok(value) if went => Ok((went, value)),
        _ => Err(DrillError::Command { command: command.join(" "), ended: "failed".to_owned(), printed }),
    }
}

fn word(value: &serde_json::Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
