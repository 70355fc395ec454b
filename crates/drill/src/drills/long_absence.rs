//! A site is away for a long time, a great many events are written meanwhile, and it must catch up while the load goes on.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sillok_client::{SubmitOptions, commands};
use sillok_wire::v1;

use super::Drill;
use crate::{
    DrillError,
    stage::{Stage, WRITES_BACK},
    wait::within,
};

pub(super) const DRILL: Drill = Drill {
    name: "long-absence",
    breaks: "a site is away for a third of the drill, at most a million events, written as fast as they are taken",
    promises: "it catches up from the log while the load goes on, writes never stand still for that, and it has the same history",
    links: false,
    faults: false,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

const CHANNEL: &str = "absence";
const FRIENDS: u64 = 100;
/// More need not be missed.
const MOST: u64 = 1_000_000;
/// A stream of its own, which leaves room for the clients.
const WINDOW: SubmitOptions =
    SubmitOptions { window_commands: 2_048, window_bytes: 1 << 20, frame_commands: 256, frame_bytes: 64 << 10 };
/// However far behind, on a slow machine.
const CATCHES_UP: Duration = Duration::from_secs(15 * 60);
/// The longest time without an acknowledged write while a node catches up.
const SILENCE: Duration = Duration::from_secs(2);

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    prepare(stage).await?;
    stage.go_on_for(0.2).await;
    let leader = stage.leader().await?;
    let Some(&away) = stage.others(leader).first() else { return Ok(()) };
    stage.breaks(format!("{} is away", stage.name(away)));
    stage.cluster.stop(away, Duration::from_secs(20)).await?;
    let missed = write(stage, stage.options.load_for.mul_f64(0.35)).await?;
    stage.note(format!("{missed} events were written without it, besides those of the clients"));

    let before = bytes(&stage.cluster.node(away).data_dir());
    let (back, since) = (Instant::now(), stage.recorder.now());
    stage.cluster.spawn(away)?;
    let caught = within("the node has caught up", CATCHES_UP, || stage.lag(away, 64)).await;
    let took = back.elapsed().as_secs_f64();
    let silence = stage.silence_since(since);
    let megabytes = bytes(&stage.cluster.node(away).data_dir()).saturating_sub(before) as f64 / 1e6;
    stage.note(format!(
        "it has caught up {took:.1} s after its start, {:.0} events and {:.1} MB a second; no write took place for {:.2} s at most",
        missed as f64 / took,
        megabytes / took,
        silence.as_secs_f64()
    ));
    stage.promise("catches-up", "A site that was away catches up", caught.map_err(|error| error.to_string()));
    let promise = format!("While it catches up, writes never stand still for {} s", SILENCE.as_secs());
    let kept = if silence < SILENCE { Ok(()) } else { Err(format!("they did for {:.2} s", silence.as_secs_f64())) };
    stage.promise("catches-up-gently", promise, kept);
    stage.writes_go_on(WRITES_BACK).await?;
    stage.redundant_again().await?;
    stage.mended(format!("{} has caught up", stage.name(away)));
    same_history(stage, missed + FRIENDS + 1).await;
    stage.go_on_for(0.2).await;
    Ok(())
}

async fn prepare(stage: &Stage) -> Result<(), DrillError> {
    stage.ask("a channel", commands::open_channel(CHANNEL, "부재").into()).await?;
    let friends = (0..FRIENDS).map(|n| stage.ask("a friend", commands::add_friend(CHANNEL, format!("u{n}")).into()));
    futures::future::try_join_all(friends).await.map(drop)
}

/// Writes as fast as the cluster takes it, for so long; how many events.
async fn write(stage: &Stage, time: Duration) -> Result<u64, DrillError> {
    let until = Instant::now() + time;
    let (mut sender, mut answers) = stage.customer.submit_with(WINDOW).split();
    let send = async {
        for number in 0..MOST {
            let push =
                commands::send_push(CHANNEL, format!("u{}", number % FRIENDS), commands::body("잘 지내십니까", 15));
            if Instant::now() >= until || sender.send(push).await.is_err() {
                break;
            }
        }
        sender.close();
    };
    let receive = async {
        let mut recorded = 0;
        while let Some(answer) = answers.next().await {
            answer.outcome.map_err(|error| DrillError::call("writing while a site is away", error.status().clone()))?;
            recorded += 1;
        }
        Ok(recorded)
    };
    tokio::join!(send, receive).1
}

/// Promises that the history of what was missed is the same at every node.
async fn same_history(stage: &mut Stage, revision: u64) {
    let mut digests = Vec::new();
    for id in stage.cluster.ids() {
        let digest = within("everything is folded", CATCHES_UP, || async {
            let options = Some(v1::ReadOptions { consistency: v1::ReadConsistency::Stale as i32, at_least: None });
            let request = v1::GetDigestsRequest { options, channel_id: CHANNEL.to_owned(), revision: 0 };
            let answer = stage.cluster.node(id).queries().get_digests(request).await.ok()?.into_inner();
            answer.digests.filter(|digests| digests.revision == revision)
        });
        digests.push(digest.await);
    }
    let kept = match digests.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(digests) if digests.windows(2).all(|pair| pair[0] == pair[1]) => Ok(()),
        Ok(digests) => Err(format!("they differ: {digests:?}")),
        Err(error) => Err(format!("not at revision {revision}: {error}")),
    };
    stage.promise("same-history", "Every node has the same digests of what was written meanwhile", kept);
}

/// What the segments of a node take, sealed or not.
fn bytes(data_dir: &Path) -> u64 {
    let files = std::fs::read_dir(data_dir.join("chronicle")).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
