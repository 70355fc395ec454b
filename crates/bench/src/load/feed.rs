//! So many commands over `Submit`, as fast as they are taken: what makes a cluster as large as it is to be.

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use sillok_client::{Client, SubmitOptions, v1};
use sillok_drill::page::thousands;

use super::MOMENT;
use crate::{
    BenchError, Screen,
    latency::{histogram, microseconds},
};

/// Unanswered at most.
const WINDOW: usize = 8_192;

/// How a feed went.
pub(crate) struct Fed {
    pub(crate) latency: Histogram<u64>,
    pub(crate) took: Duration,
    pub(crate) moments: Vec<f64>,
}

/// The commands of `next`, `count` of them, over one stream, in order.
///
/// # Errors
/// A command without a receipt.
pub(crate) async fn feed(
    client: &Client,
    count: u64,
    doing: &'static str,
    screen: &dyn Screen,
    mut next: impl FnMut(u64) -> v1::Command,
) -> Result<Fed, BenchError> {
    let begun = Instant::now();
    let options = SubmitOptions { window_commands: WINDOW, ..SubmitOptions::default() };
    let (mut sender, mut answers) = client.submit_with(options).split();
    let sent = parking_lot::Mutex::new(std::collections::VecDeque::new());
    let answered = Arc::new(AtomicU64::new(0));
    let send = async {
        for number in 0..count {
            let command = next(number);
            sent.lock().push_back(Instant::now());
            if sender.send(command).await.is_err() {
                break;
            }
        }
        sender.close();
    };
    let receive = async {
        let mut latency = histogram();
        let mut batch = Vec::new();
        while answers.next_batch(&mut batch).await {
            for answer in batch.drain(..) {
                let made = answered.load(Ordering::Relaxed);
                answer.outcome.map_err(|error| BenchError::write(doing, made, error))?;
                if let Some(sent) = sent.lock().pop_front() {
                    latency.saturating_record(microseconds(sent.elapsed()));
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok::<_, BenchError>(latency)
    };
    let mut moments = Vec::new();
    let watch = async {
        let (mut seen, mut at) = (0, begun);
        loop {
            tokio::time::sleep(MOMENT).await;
            let (made, now) = (answered.load(Ordering::Relaxed), Instant::now());
            let rate = (made - seen) as f64 / (now - at).as_secs_f64();
            moments.push(rate);
            screen.progress(&format!(
                "{} of {}   {} a second",
                thousands(made),
                thousands(count),
                thousands(rate as u64)
            ));
            (seen, at) = (made, now);
        }
    };
    let work = async { tokio::join!(send, receive).1 };
    let latency = tokio::select! {
        latency = work => latency?,
        never = watch => never,
    };
    Ok(Fed { latency, took: begun.elapsed(), moments })
}
