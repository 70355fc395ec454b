//! How long nothing is acknowledged when the leader is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::Serialize;
use tokio::{io::AsyncBufReadExt as _, sync::mpsc, time::timeout_at};

use crate::measure::Writer;

/// A failed try is repeated after so long.
const PAUSE: Duration = Duration::from_millis(5);
/// Writes go on again when, for so long, …
const STEADY: Duration = Duration::from_secs(2);
/// … no two acknowledgements were further apart than this.
const UNBROKEN: Duration = Duration::from_millis(500);
const AT_MOST: Duration = Duration::from_secs(40);

/// Seconds.
#[derive(Serialize)]
pub(crate) struct Gap {
    longest_gap_s: f64,
    acknowledged: u64,
    failed_tries: u64,
}

/// All writers go on all the time. The gap is between two acknowledgements of whichever writers.
pub(crate) async fn longest_gap<W: Writer>(writers: Vec<W>) -> anyhow::Result<Gap> {
    let stop = Arc::new(AtomicBool::new(false));
    // When a write was acknowledged, or `None` for a try that failed.
    let (sender, mut answers) = mpsc::unbounded_channel::<Option<Instant>>();
    for mut writer in writers {
        let (sender, stop) = (sender.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let acknowledged = writer.write().await.is_ok();
                // Nobody listens any more once the gap is known.
                let _ = sender.send(acknowledged.then(Instant::now));
                if !acknowledged {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }
    drop(sender);

    let mut killed: Option<Instant> = None;
    let mut input = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    let (mut last, mut steady_since): (Option<Instant>, Option<Instant>) = (None, None);
    let mut gap = Gap { longest_gap_s: 0.0, acknowledged: 0, failed_tries: 0 };
    let deadline = Instant::now() + AT_MOST;
    loop {
        let answer = tokio::select! {
            line = input.next_line(), if killed.is_none() => match line? {
                Some(_) => { killed = Some(Instant::now()); continue }
                None => bail!("nobody said when the leader was killed"),
            },
            answer = timeout_at(deadline.into(), answers.recv()) => answer,
        };
        let Ok(Some(answer)) = answer else {
            bail!("writes did not go on within {} s", AT_MOST.as_secs());
        };
        let Some(now) = answer else {
            gap.failed_tries += 1;
            continue;
        };
        gap.acknowledged += 1;
        if let Some(last) = last {
            let apart = now.saturating_duration_since(last);
            gap.longest_gap_s = gap.longest_gap_s.max(apart.as_secs_f64());
            if apart > UNBROKEN {
                steady_since = Some(now);
            }
        } else {
            println!("writing");
        }
        last = last.max(Some(now));
        let steady = *steady_since.get_or_insert(now);
        // The gap begins a moment after the kill, so writes must also go on for longer than it may have begun late.
        if let Some(killed) = killed
            && now.saturating_duration_since(steady.max(killed)) >= STEADY
        {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    Ok(gap)
}
