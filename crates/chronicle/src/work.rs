//! Who does the work: three threads, or the opener in one go.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;

use crate::{
    OpenError, ahead,
    options::{Fold, Spawn},
    seal,
    shared::Shared,
    writer::Writer,
};

/// Starts the threads that write, make segments ahead, and seal.
pub(crate) fn start_threads(
    shared: &Arc<Shared>,
    spawn: &Spawn,
    node_id: u64,
    writer: Writer,
    fold: Box<dyn Fold>,
) -> Result<(), OpenError> {
    let start = |name: &'static str, body: Box<dyn FnOnce() + Send>| {
        let running = shared.threads.begin();
        let owner = Arc::clone(shared);
        let body = Box::new(move || {
            owner.guard(name, body);
            drop(running);
        });
        spawn(format!("chronicle-{name}-{node_id}"), body).map_err(OpenError::io("start the thread of", name))
    };
    start("write", Box::new(move || writer.run()))?;
    let ahead = Arc::clone(shared);
    start("ahead", Box::new(move || ahead::run(&ahead)))?;
    let sealer = Arc::clone(shared);
    start(
        "seal",
        Box::new(move || {
            // Nobody waits for a seal, it holds no lock while it reads and hashes, and all nodes of a cluster seal at the same
            // moment. Where the priority cannot be set it is as good.
            let _ = rustix::process::setpriority_process(None, GIVES_WAY);
            seal::run(&sealer, fold);
        }),
    )
}

/// The priority (`nice`) of a thread that nobody waits for: a tenth of what the others get where all want a processor.
const GIVES_WAY: i32 = 10;

/// When the opener is to work again ([`Workers::Opener`](crate::Workers::Opener)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// When the bell rings.
    OnBell,
    /// At this moment, or when the bell rings before it.
    At(Instant),
    /// Never: the chronicle is closed or has stopped, and everybody was answered.
    Never,
}

/// What the threads would hold, where the opener works.
pub(crate) struct Hands(Mutex<Held>);

struct Held {
    /// `None` once it has ended.
    writer: Option<Writer>,
    fold: Box<dyn Fold>,
}

impl Hands {
    pub(crate) fn new(writer: Writer, fold: Box<dyn Fold>) -> Hands {
        Hands(Mutex::new(Held { writer: Some(writer), fold }))
    }

    /// Writes, seals and makes ahead until nothing is left to do; when the writer is due again.
    pub(crate) fn work(&self, shared: &Shared) -> Due {
        let mut held = self.0.lock();
        let held = &mut *held;
        loop {
            let Some((writer, due)) = held.writer.take().and_then(Writer::step) else { return Due::Never };
            held.writer = Some(writer);
            shared.guard("seal", || _ = seal::all(shared, &mut *held.fold));
            let mut again_at = None;
            shared.guard("ahead", || again_at = ahead::make_wanted(shared));
            // What was just done may have stopped the chronicle, and then the queue is to be answered.
            if shared.queue.lock().stopped.is_none() {
                let due = due.into_iter().chain(again_at).min();
                return due.map_or(Due::OnBell, Due::At);
            }
        }
    }
}
