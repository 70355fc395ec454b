//! The thread that folds committed entries into the views.
//!
//! It reads the chronicle like any subscriber, entry by entry up to the commit, usually from memory. Starting, voting and
//! replicating never wait for it, and where a node is far behind and has few processors it waits for the log ([`way`]). An entry that cannot be folded stops it for good ([`Folding::stopped`]): reads go on
//! from what is there and say so, and this node decides nothing while it leads.

mod watch;
mod way;

use std::{io, sync::Arc, time::Duration};

use sillok_views::{Applied, FoldError};

pub(crate) use self::watch::{Folding, Unreached};
use self::{watch::Folder, way::Way};
use crate::{
    chain::HeadAt,
    core::Core,
    execution::Execution,
    log_store::read_failure,
    planted::{self, Planted},
    types::LogId,
};

/// One read of the chronicle, in bytes.
const READ_BYTES: usize = 4 << 20;
/// How often the views are told what of theirs is durable here.
const SPILLABLE_EVERY: Duration = Duration::from_millis(200);

/// How long a thread that has folded everything leaves what comes next alone, if nobody waits for it.
const BREATH: Duration = Duration::from_millis(2);

/// The views met an entry that they cannot take, or the chronicle could not be read.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the chronicle could not be read: {0}")]
    Read(#[from] sillok_chronicle::ReadError),
}

/// Starts the thread. It ends when the node stops.
pub(crate) fn spawn(core: Arc<Core>) -> io::Result<Folding> {
    let (folder, folding) = watch::watched();
    tokio::spawn(tell_spillable(core.clone()));
    let (execution, name) = (core.options.execution.clone(), format!("fold-{}", core.id));
    execution.spawn_follower(name, async move {
        let Err(stopped) = run(&core, &folder).await else { return };
        tracing::error!("the views of this node have stopped: {stopped}");
        folder.stopped(stopped.to_string().into());
        if let Stopped::Read(error) = &stopped {
            core.failures.report(read_failure(error));
        }
        // The watch stays open: readers are answered from what is there until the node stops.
        core.stopping.cancelled().await;
    })?;
    Ok(folding)
}

async fn run(core: &Core, folder: &Folder) -> Result<(), Stopped> {
    core.views.load(|applied| is_admissible(core, applied));
    folder.loaded(core.views.applied());
    let mut commits = core.commits.clone();
    let mut next = core.views.applied().map_or(0, |applied| applied.index + 1);
    let mut way = Way::new(&core.options.execution);
    loop {
        let mut committed = (*commits.borrow_and_update()).map(|commit| commit.log_id.index);
        if planted::is(Planted::ViewsAhead) {
            committed = core.chronicle.last().map(|last| last.index);
        }
        while committed.is_some_and(|committed| next <= committed) && !core.stopping.is_cancelled() {
            if way.gives(|| behind(core)) {
                continue;
            }
            let end = committed.map_or(next, |committed| committed + 1);
            for entry in core.chronicle.read_through(next, end, READ_BYTES)? {
                let begun = std::time::Instant::now();
                let hash = core.chain.hash_of(entry.id);
                match core.views.fold(entry.id.index, entry.id.term, entry.kind, &entry.payload, hash) {
                    // The node stops.
                    Err(FoldError::Closed) => return Ok(()),
                    folded => folded?,
                };
                metrics::histogram!("sillok_views_fold_seconds").record(begun.elapsed());
                next = entry.id.index + 1;
                folder.applied(core.views.applied());
            }
            let lag = committed.map_or(0, |committed| (committed + 1).saturating_sub(next));
            metrics::gauge!("sillok_apply_lag_entries").set(lag as f64);
        }
        if matches!(core.options.execution, Execution::Threads) {
            folder.breather.breathe(BREATH);
        }
        let goes_on = tokio::select! {
            biased;
            () = core.stopping.cancelled() => false,
            changed = commits.changed() => changed.is_ok(),
            () = planted::look_again(), if planted::is(Planted::ViewsAhead) => true,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// How many entries that the leader has committed are not in this node's log.
fn behind(core: &Core) -> u64 {
    let next = core.chronicle.last().map_or(0, |last| last.index + 1);
    core.contact.committed().map_or(0, |committed| (committed + 1).saturating_sub(next))
}

/// Folded means committed. What counts is whether this very entry, on this very chain, stands here durably. Consensus runs
/// already; what is committed can only come to stand here, never go.
fn is_admissible(core: &Core, applied: &Applied) -> bool {
    let id = LogId { term: applied.term, index: applied.index };
    let is_durable = core.chronicle.flushed().is_some_and(|flushed| flushed.index >= id.index);
    is_durable && matches!(core.chain.head_at(id), Ok(HeadAt::Known(head)) if head == applied.head)
}

/// Views spill only what is flushed here and committed.
async fn tell_spillable(core: Arc<Core>) {
    let mut told = None;
    loop {
        let committed = (*core.commits.borrow()).map(|commit| commit.log_id.index);
        let spillable = core.chronicle.flushed().map(|flushed| flushed.index).min(committed);
        if let Some(index) = spillable
            && told != spillable
        {
            core.views.set_spillable(index);
            told = spillable;
        }
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(SPILLABLE_EVERY) => {}
        }
    }
}
