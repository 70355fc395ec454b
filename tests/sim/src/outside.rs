//! Where clients and operators live: one host outside of all sites. What they do is handed in while the simulation runs.

use std::{cell::RefCell, rc::Rc};

use futures::{
    StreamExt as _,
    future::{LocalBoxFuture, pending},
    stream::FuturesUnordered,
};
use tokio::sync::mpsc;

/// The host's name.
pub const HOST: &str = "outside";

/// Begun on the host, so that its connections go by the host's links.
type Task = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()>>;

/// Hands tasks to the host.
pub struct Outside {
    tasks: mpsc::UnboundedSender<Task>,
    handed: Rc<RefCell<Option<mpsc::UnboundedReceiver<Task>>>>,
}

impl Default for Outside {
    fn default() -> Outside {
        let (tasks, handed) = mpsc::unbounded_channel();
        Outside { tasks, handed: Rc::new(RefCell::new(Some(handed))) }
    }
}

impl Outside {
    /// Begins a task with the host's next tick.
    pub fn begin(&self, task: impl AsyncFnOnce() + 'static) {
        let begun = self.tasks.send(Box::new(move || Box::pin(async move { task().await })));
        assert!(begun.is_ok(), "the host outside runs as long as the simulation");
    }

    /// What the host runs: a panic of any task is the host's, and fails the simulation.
    pub fn live(&self) -> impl Fn() -> LocalBoxFuture<'static, turmoil::Result> + use<> {
        let handed = self.handed.clone();
        move || Box::pin(live(handed.take()))
    }
}

async fn live(handed: Option<mpsc::UnboundedReceiver<Task>>) -> turmoil::Result {
    let mut handed = handed.expect("the host is never started again");
    let mut running = FuturesUnordered::new();
    loop {
        let done = async {
            match running.next().await {
                Some(()) => {}
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(task) = handed.recv() => running.push(task()),
            () = done => {}
        }
    }
}
