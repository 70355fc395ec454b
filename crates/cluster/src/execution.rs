//! Where what blocks is done: on threads, or, in a simulation, where it is asked for.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use sillok_chronicle::{Chronicle, Due, Workers};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Notify,
    task::JoinError,
    time::{sleep, sleep_until},
};

/// How long a visit to the disk takes, asked before each.
pub type DiskPause = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Where what blocks is done.
#[derive(Clone)]
pub enum Execution {
    /// On threads: the chronicle's and the views' own, and the runtime's for what blocks now and then.
    Threads,
    /// By tasks of the node's runtime, in the order in which that runs them. For a simulation on one thread, whose disk never
    /// blocks; the chronicle writes after the pause that is given. Views must be in memory.
    Tasks(DiskPause),
}

impl Execution {
    /// Runs what may block. An error where the runtime is ending.
    pub(crate) async fn blocking<R: Send + 'static>(
        &self,
        run: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, JoinError> {
        match self {
            Execution::Threads => tokio::task::spawn_blocking(run).await,
            Execution::Tasks(_) => Ok(run()),
        }
    }

    /// Runs a task that blocks between its steps, until it ends, on a thread of this name.
    pub(crate) fn spawn_follower(
        &self,
        name: String,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Execution::Threads => {
                std::thread::Builder::new().name(name).spawn(move || futures::executor::block_on(task)).map(drop)
            }
            Execution::Tasks(_) => {
                tokio::spawn(task);
                Ok(())
            }
        }
    }

    /// Who works for a chronicle that is to be opened with these options; [`ChronicleWork::start`] begins it.
    pub(crate) fn chronicle_work(&self, opening: &mut sillok_chronicle::Options) -> Option<ChronicleWork> {
        let Execution::Tasks(pause) = self else { return None };
        let bell = Arc::new(Notify::new());
        let ringing = bell.clone();
        opening.workers = Workers::Opener(Arc::new(move || ringing.notify_one()));
        opening.now = Arc::new(|| tokio::time::Instant::now().into_std());
        Some(ChronicleWork { bell, pause: pause.clone() })
    }
}

/// Runs what may wait for the disk for a moment. On a worker of a runtime of several threads the worker's other tasks are
/// handed to another thread before.
pub(crate) fn in_place(run: &mut dyn FnMut()) {
    let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match runtime {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(run),
        _ => run(),
    }
}

/// A chronicle's work as a task.
pub(crate) struct ChronicleWork {
    bell: Arc<Notify>,
    pause: DiskPause,
}

impl ChronicleWork {
    /// Works until the chronicle is closed.
    pub(crate) fn start(self, chronicle: Chronicle) {
        tokio::spawn(async move {
            loop {
                sleep((self.pause)()).await;
                match chronicle.work() {
                    Due::OnBell => self.bell.notified().await,
                    Due::At(due) => self.rung_before(due).await,
                    Due::Never => return,
                }
            }
        });
    }

    async fn rung_before(&self, due: Instant) {
        tokio::select! {
            biased;
            () = self.bell.notified() => {}
            () = sleep_until(due.into()) => {}
        }
    }
}
