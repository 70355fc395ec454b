//! Closed loops and what they find.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Options;

/// A lane: writes one event at a time.
pub(crate) trait Writer: Send + 'static {
    /// Ready once the write is acknowledged.
    fn write(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// When acknowledgements count.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    begin: Instant,
    pub(crate) end: Instant,
}

impl Window {
    /// Starts now, with the warm-up.
    pub(crate) fn of(options: &Options) -> Window {
        let begin = Instant::now() + Duration::from_secs_f64(options.warm_up);
        Window { begin, end: begin + Duration::from_secs_f64(options.seconds) }
    }

    fn holds(&self, moment: Instant) -> bool {
        (self.begin..self.end).contains(&moment)
    }
}

/// What one lane saw.
#[derive(Default)]
pub(crate) struct Samples {
    micros: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
}

impl Samples {
    /// An answer that came just now. Failures count whenever they come.
    pub(crate) fn answer(&mut self, window: &Window, sent: Instant, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => {
                let now = Instant::now();
                if window.holds(now) {
                    self.micros.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
                }
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

/// Microseconds; `acknowledged` within the measured seconds.
#[derive(Serialize)]
pub(crate) struct Report {
    acknowledged: u64,
    seconds: f64,
    events_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
}

impl Report {
    pub(crate) fn of(lanes: impl IntoIterator<Item = Samples>, took: f64) -> anyhow::Result<Report> {
        // 1 µs to 5 minutes, three digits.
        let mut latency = Histogram::<u64>::new_with_bounds(1, 300_000_000, 3)?;
        let (mut failed, mut first_failure) = (0, None);
        for lane in lanes {
            for micros in lane.micros {
                latency.saturating_record(u64::from(micros));
            }
            failed += lane.failed;
            first_failure = first_failure.or(lane.first_failure);
        }
        Ok(Report {
            acknowledged: latency.len(),
            seconds: took,
            events_per_second: latency.len() as f64 / took,
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            max_us: latency.max(),
            failed,
            first_failure,
        })
    }
}

/// Every lane sends its next write when its last one is acknowledged. So a stall of the system holds the load as well: the
/// latencies are those of the writes that were sent.
pub(crate) async fn closed_loop<W: Writer>(options: &Options, writers: Vec<W>) -> anyhow::Result<Report> {
    let window = Window::of(options);
    let lanes: Vec<_> = writers
        .into_iter()
        .map(|mut writer| {
            tokio::spawn(async move {
                let mut samples = Samples::default();
                while Instant::now() < window.end {
                    let sent = Instant::now();
                    let outcome = writer.write().await;
                    samples.answer(&window, sent, outcome);
                }
                samples
            })
        })
        .collect();
    let mut all = Vec::with_capacity(lanes.len());
    for lane in lanes {
        all.push(lane.await.context("a lane failed")?);
    }
    Report::of(all, options.seconds)
}

/// So many acknowledged writes, one after the other; the first failure ends it.
pub(crate) async fn exactly<W: Writer>(count: u64, mut writer: W) -> anyhow::Result<Report> {
    let begin = Instant::now();
    let window = Window { begin, end: begin + Duration::from_secs(86_400) };
    let mut samples = Samples::default();
    for _ in 0..count {
        let sent = Instant::now();
        writer.write().await?;
        samples.answer(&window, sent, Ok(()));
    }
    Report::of([samples], begin.elapsed().as_secs_f64())
}
