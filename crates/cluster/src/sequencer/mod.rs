//! The leader decides: the one owner of the decision state.
//!
//! ```text
//! calls ─► queue (bounded in bytes) ─► desk: decide over views + overlays ─► record ─► propose
//!                                                                             │ several in flight
//!               answers, in order ◄── flight: one batch a record ◄── Recorded ┘
//! ```
//! One task runs all of it ([`run`]). It begins when this node leads, its term's first entry is committed and the views
//! have folded it; it ends with the leadership, when no quorum answers any more, or with the first record that was
//! refused or skipped: then everything it believed is discarded, what was never proposed is answered `not_recorded`, what
//! is in flight is answered as it turns out, and it begins anew. The predecessor in every record is what makes this safe;
//! the rest is only speed.
//!
//! A retry key that the chronicle knows is read back off this task ([`crate::records`]); meanwhile the whole queue waits, so
//! that order per channel needs no parking places. Repeats come in runs of the same records, which stay decoded.
//!
//! Read in this order: `queue`, `asked`, `frame`, `desk`, `flight`, `flying`, `run`; `lane` says how pipelines keep their order,
//! `admission`, `expecting` and `pace` how much is let in, `window` when a record goes.

mod admission;
mod asked;
mod desk;
mod expecting;
mod flight;
mod flying;
mod frame;
mod lane;
mod pace;
mod queue;
mod run;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use sillok_wire::{errors::Problem, v1};
use tokio::sync::{oneshot, watch};

use self::queue::Queue;
pub(crate) use self::{
    admission::{Admission, Caller, Full, Permit},
    asked::Asked,
    expecting::Expected,
    flight::unknown,
    frame::{is_definite, refusing},
    lane::{Lane, Route},
    queue::{LEADERLESS_RETRY, no_leader, out_of_order},
};
use crate::{core::Core, fold::Folding, records::Records};

/// A handle on the sequencer of this node.
#[derive(Clone)]
pub(crate) struct Sequencer {
    queue: Arc<Queue>,
    state: watch::Receiver<State>,
}

/// What the sequencer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// This node does not lead.
    #[default]
    Following,
    /// It leads in this term and does not decide yet.
    Preparing(u64),
    /// It decides.
    Leading(u64),
    /// It has ended.
    Ended,
}

impl Sequencer {
    /// Starts the task.
    pub(crate) fn spawn(core: Arc<Core>, records: Arc<Records>, folding: Folding) -> Sequencer {
        let queue = Queue::new(core.options.limits.admission_bytes);
        let (state, watched) = watch::channel(State::default());
        tokio::spawn(run::Run::new(core, records, folding, queue.clone(), state).run());
        Sequencer { queue, state: watched }
    }

    /// Queues a call. The order of calls is the order of decisions; the answers come together.
    pub(crate) fn enqueue(&self, asked: Asked, lane: Option<&Arc<Lane>>) -> oneshot::Receiver<Vec<v1::Answer>> {
        self.queue.enqueue(asked, lane)
    }

    /// Why a single call would be turned away now: too much waits before it.
    pub(crate) fn refuses_calls(&self) -> Option<Problem> {
        self.queue.refuses_calls()
    }

    /// A place for a new stream, or why it is turned away, likewise.
    pub(crate) fn expect_stream(&self) -> Result<Option<Expected>, Problem> {
        self.queue.expect_stream()
    }

    /// Whether open streams should send less for now.
    pub(crate) fn holds_streams_back(&self) -> bool {
        self.queue.holds_streams_back()
    }

    /// Bytes admitted and not yet answered.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Takes nothing more; returns once everything taken before is answered.
    pub(crate) async fn shut(&self) {
        self.queue.shut();
        self.queue.idle().await;
    }
}
