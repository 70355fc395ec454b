//! What is told while a drill runs, to whoever shows it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    cluster::Node,
    history::{Answer, Recorder},
    watch::Look,
};

const EVERY: Duration = Duration::from_millis(250);

/// What is broken now, and since when.
pub(crate) type Broken = Arc<Mutex<Option<(Duration, String)>>>;

/// Shows a drill while it runs.
pub trait Observer: Send + Sync {
    /// Something was done or seen, for good.
    fn note(&self, at: Duration, text: &str);
    /// How it is now, several times a second.
    fn progress(&self, progress: &Progress);
}

/// How it is now.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Since the drill began.
    pub at: Duration,
    /// Acknowledged writes a second, of late.
    pub writes_per_second: f64,
    /// Linearizable reads a second, of late.
    pub reads_per_second: f64,
    /// Half of the writes of late took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer, in milliseconds.
    pub p99_ms: f64,
    /// Since the last acknowledged write.
    pub silent_for: Duration,
    /// Acknowledged writes so far.
    pub acknowledged: u64,
    /// What is broken now, and since when.
    pub broken: Option<(Duration, String)>,
    /// Who leads.
    pub leader: Option<u64>,
    /// Every node that was there when the drill began and every one that answers now: site, id, whether it answers.
    pub nodes: Vec<(String, u64, bool)>,
}

impl Progress {
    /// A task that tells it until it is aborted.
    pub(crate) fn tell(
        recorder: Arc<Recorder>,
        looks: Arc<Mutex<Vec<Look>>>,
        broken: Broken,
        nodes: &[Node],
        observer: Arc<dyn Observer>,
    ) -> JoinHandle<()> {
        let first: Vec<(u64, String)> = nodes.iter().map(|node| (node.id, node.site.clone())).collect();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            let mut progress = Progress::default();
            loop {
                ticks.tick().await;
                let look = looks.lock().last().cloned().unwrap_or_default();
                progress.update(&recorder, &look, &first);
                progress.broken = broken.lock().clone();
                observer.progress(&progress);
            }
        })
    }

    fn update(&mut self, recorder: &Recorder, look: &Look, nodes: &[(u64, String)]) {
        const WINDOW: Duration = Duration::from_secs(1);
        self.at = recorder.now();
        let since = self.at.saturating_sub(WINDOW);
        let mut latencies = latency();
        let (mut writes, mut reads, mut last) = (0_u64, 0_u64, None);
        recorder.look(|history| {
            for call in history.calls.iter().rev().filter(|call| matches!(call.answer, Answer::Recorded { .. })) {
                last = last.or(Some(call.ended));
                if call.ended < since {
                    break;
                }
                writes += 1;
                latencies.saturating_record((call.ended - call.started).as_micros() as u64);
            }
            reads = history.reads.iter().rev().take_while(|read| read.ended >= since).count() as u64;
            self.acknowledged = history.calls.len() as u64;
        });
        let seconds = WINDOW.min(self.at).as_secs_f64().max(0.001);
        self.writes_per_second = writes as f64 / seconds;
        self.reads_per_second = reads as f64 / seconds;
        self.p50_ms = latencies.value_at_quantile(0.5) as f64 / 1000.0;
        self.p99_ms = latencies.value_at_quantile(0.99) as f64 / 1000.0;
        self.silent_for = self.at.saturating_sub(last.unwrap_or_default());
        self.leader = look.leader;
        let mut all: BTreeMap<u64, (String, bool)> =
            nodes.iter().map(|(id, site)| (*id, (site.clone(), false))).collect();
        for id in &look.up {
            all.entry(*id).or_insert_with(|| ("new".to_owned(), true)).1 = true;
        }
        self.nodes = all.into_iter().map(|(id, (site, up))| (site, id, up)).collect();
    }
}

/// Microseconds, three digits, from 1 µs to ten minutes.
#[expect(clippy::expect_used, reason = "the bounds are constants, and in order")]
pub(crate) fn latency() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("1 is less than half of 600,000,000")
}
