//! One walk over the whole chronicle, at a bounded rate.

use std::{sync::Arc, time::Duration};

use sillok_chronicle::{Chronicle, Fold as _, ReadError, Scrubbed};
use tokio::time::sleep;

use super::{
    findings::{Finding, Thing},
    memory::Memory,
};
use crate::{chain::ChainFold, core::Core, execution::Execution, log_store::read_failure};

/// Why a pass did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The chronicle is damaged and has stopped.
    Damaged,
    /// Something was in the way that may be gone later.
    Later,
}

/// Reads and verifies everything that is committed and durable here, or what is left of it where a pass was broken off.
pub(super) async fn pass(core: &Arc<Core>, memory: &Arc<Memory>) -> Result<(), Broken> {
    let progress = |done, total| core.scrub.state.lock().running = Some((done, total));
    let rate = core.options.scrub.bytes_per_second;
    let from = memory.now().next_segment.unwrap_or(0);
    let memory = memory.clone();
    let reached = Arc::new(move |next| memory.note(|now| now.next_segment = Some(next)));
    let walked = walk(&core.chronicle, &core.options.execution, rate, core.id, from, reached, progress).await;
    match walked {
        Ok(differences) => {
            differences.iter().for_each(|it| tracing::error!("the chronicle contradicts itself: {}", it.summary()));
            core.scrub.found(core.id, differences);
            Ok(())
        }
        Err(Stopped::Read(error @ ReadError::Damaged(_))) => {
            metrics::counter!("sillok_scrub_damage_total").increment(1);
            tracing::error!("the scrub has found damage: {error}");
            core.failures.report(read_failure(&error));
            Err(Broken::Damaged)
        }
        Err(stopped) => {
            tracing::warn!("the scrub could not go on and begins again later: {stopped}");
            Err(Broken::Later)
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the runtime is ending: {0}")]
    Ending(#[from] tokio::task::JoinError),
}

/// Told, where blocking is allowed, before which segment everything verifies and nothing differs.
type Reached = Arc<dyn Fn(u64) + Send + Sync>;

/// Never reads more than `rate` bytes a second on average, from any piece to any later one; sealed segments before `from` are
/// passed over. What it returns are sealed segments of node `id` whose footers do not say what the chain of records over their
/// entries comes to.
pub(super) async fn walk(
    chronicle: &Chronicle,
    execution: &Execution,
    rate: u64,
    id: u64,
    from: u64,
    reached: Reached,
    mut progress: impl FnMut(u64, u64),
) -> Result<Vec<Finding>, Stopped> {
    let ((mut scrub, passed), mut fold) = (chronicle.scrub_from(from), ChainFold::default());
    if let Some(passed) = passed {
        fold.restore(&passed.state);
    }
    let mut differences = Vec::new();
    // What is not yet told to be reached.
    let mut next: Option<u64> = None;
    loop {
        progress(scrub.done_bytes(), scrub.total_bytes());
        let told = next.take().map(|next| (reached.clone(), next));
        let step = execution.blocking(move || {
            if let Some((reached, next)) = told {
                reached(next);
            }
            let mut keys = Vec::new();
            let done = scrub.step(|entry| {
                keys.clear();
                fold.entry(entry, &mut keys);
            });
            (done, scrub, fold)
        });
        let (done, walked, folded) = step.await?;
        (scrub, fold) = (walked, folded);
        let read = match done? {
            Scrubbed::End => return Ok(differences),
            Scrubbed::Piece { read } => read,
            Scrubbed::Segment { read, info } => {
                metrics::counter!("sillok_scrub_segments_total").increment(1);
                let sealed = ChainFold::head_in(&info.state);
                if sealed != Some(fold.head()) {
                    differences.push(Finding {
                        nodes: (id, id),
                        what: Thing::Segment { ordinal: info.ordinal, last: info.last.index },
                        here: super::compare::hex(&fold.head()),
                        there: sealed.map_or_else(|| "nothing".to_owned(), |head| super::compare::hex(&head)),
                    });
                    // From here on by the footer: one difference must not make one of every segment behind it.
                    fold.restore(&info.state);
                }
                // A difference is told when the pass ends: a pass that is broken off must meet it again.
                next = differences.is_empty().then_some(info.ordinal + 1);
                read
            }
        };
        metrics::counter!("sillok_scrub_read_bytes_total").increment(read);
        // Time that was lost elsewhere is not made up for: reading faster later is what must not be.
        sleep(Duration::from_secs_f64(read as f64 / rate.max(1) as f64)).await;
    }
}
