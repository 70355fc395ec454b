//! Disks fill up, first the leader's and then everybody's. A chronicle that only grows will meet that day.

use std::time::Duration;

use sillok_client::commands;
use sillok_wire::{
    errors,
    v1::{self, Reason, commands_client::CommandsClient},
};

use super::Drill;
use crate::{
    DrillError,
    cluster::Node,
    faults::Faults,
    stage::{Stage, WRITES_BACK},
    wait::within,
};

pub(super) const DRILL: Drill = Drill {
    name: "full-disk",
    breaks: "the leader's disk is full; then every disk is; then there is space again",
    promises: "leadership goes where there is space; without any, writes are refused with the reason, reads go on, and writes go on by themselves",
    links: false,
    faults: true,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

/// Filled with long messages: a disk is not noticed to be full before the next segment is due.
const CHANNEL: &str = "filler";
const READER: &str = "reader";
const TEXT: &str = "가";
const TEXT_CHARACTERS: usize = 2_000;
const FILLERS: usize = 8;
const FULL: Faults = Faults { clock_offset_ms: 0, sync_delay_ms: 0, disk_full: true };
const NOTICED: Duration = Duration::from_secs(60);

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.2).await;
    stage.ask("a channel", commands::open_channel(CHANNEL, "채우기").into()).await?;
    stage.ask("a friend", commands::add_friend(CHANNEL, READER).into()).await?;

    let leader = stage.leader().await?;
    stage.breaks(format!("the disk of {} is full", stage.name(leader)));
    stage.cluster.make_wrong(leader, FULL)?;
    let leads_on = async |stage: &Stage| stage.watch.now().leader.is_none_or(|now| now == leader);
    let another = fill_while(stage, leads_on).await;
    let promise = "A leader whose disk is full gives leadership to a node that has space";
    stage.promise("space-leads", promise, another.map_err(|error| error.to_string()));
    stage.writes_go_on(WRITES_BACK).await?;
    stage.cluster.make_wrong(leader, Faults::default())?;
    stage.redundant_again().await?;
    stage.mended(format!("the disk of {} has space again", stage.name(leader)));
    stage.go_on_for(0.1).await;

    stage.breaks("every disk is full");
    for id in stage.cluster.ids() {
        stage.cluster.make_wrong(id, FULL)?;
    }
    let told = fill_while(stage, async |stage| !says_so(stage).await).await;
    stage.promise("full-is-told", "A node whose disk is full says so", told.map_err(|error| error.to_string()));
    refused(stage).await;
    stage.reads_go_on().await;
    stage.go_on_for(0.2).await;
    let ended = stage.cluster.ended_by_themselves();
    let kept = if ended.is_empty() { Ok(()) } else { Err(format!("nodes {ended:?} have ended")) };
    stage.promise("nobody-ends", "No process ends because its disk is full", kept);

    for id in stage.cluster.ids() {
        stage.cluster.make_wrong(id, Faults::default())?;
    }
    stage.note("there is space again");
    stage.writes_go_on(WRITES_BACK).await?;
    stage.redundant_again().await?;
    stage.mended("every disk has space");
    stage.go_on_for(0.2).await;
    Ok(())
}

/// Writes long messages for as long as it is so.
async fn fill_while(stage: &Stage, is_so: impl AsyncFn(&Stage) -> bool) -> Result<(), DrillError> {
    let text = TEXT.repeat(TEXT_CHARACTERS);
    let fill = || async {
        loop {
            let push = commands::send_push(CHANNEL, READER, commands::body(&text, 15));
            // What is refused now may be what is waited for.
            if stage.customer.execute(push).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let filling = futures::future::join_all((0..FILLERS).map(|_| fill()));
    tokio::select! {
        ended = within("the disk is noticed to be full", NOTICED, || async { (!is_so(stage).await).then_some(()) }) => ended,
        _ = filling => Ok(()),
    }
}

async fn says_so(stage: &Stage) -> bool {
    let statuses = futures::future::join_all(stage.cluster.running().map(Node::status)).await;
    statuses.into_iter().flatten().any(|status| status.trouble.contains("no space"))
}

/// Promises that a write is refused for what it is.
async fn refused(stage: &mut Stage) {
    let refused = within("a refusal that says DISK_FULL and not_recorded", NOTICED, || async {
        let leader = stage.watch.now().leader?;
        let mut node = CommandsClient::new(stage.cluster.node(leader).channel());
        let retry_key = format!("full-{}", stage.recorder.now().as_nanos());
        // Only decided: should there be space it would be recorded.
        let context = Some(v1::CommandContext { retry_key, validate_only: true, ..Default::default() });
        let channel_id = CHANNEL.to_owned();
        let add = v1::AddFriendRequest { context, channel_id, user_key: "nobody".into(), ..Default::default() };
        let answer = tokio::time::timeout(Duration::from_secs(2), node.add_friend(add)).await.ok()?;
        let status = answer.err()?;
        let is_full = errors::reason_of(&status) == Some(Reason::DiskFull);
        (is_full && errors::outcome_of(&status) == Some(errors::Outcome::NotRecorded)).then_some(status)
    })
    .await;
    if let Ok(status) = &refused {
        stage.note(format!("a write is refused: {}", status.message()));
    }
    let promise = "Without space a write is refused with the reason, and is certainly not recorded";
    stage.promise("refused-for-space", promise, refused.map(drop).map_err(|error| error.to_string()));
}
