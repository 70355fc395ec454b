//! What waits to be sent to the leader, in order.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use sillok_wire::{errors::Problem, v1};
use tokio::sync::oneshot;

use crate::sequencer::{Lane, Permit, Route, is_definite, refusing};

/// Small calls travel together up to this many commands and bytes.
const TOGETHER_COMMANDS: usize = 1_024;
const TOGETHER_BYTES: usize = 256 << 10;

/// Calls, and the ends of lanes between them.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Queued>,
    /// Number of the stream that takes what is here.
    pub(super) stream: u64,
    pub(super) is_shut: bool,
}

enum Queued {
    Call(Call),
    /// Behind the lane's last call: were it told before, the leader would take what follows for a new lane, and decide it
    /// although something before it was turned away.
    LaneEnded(u64),
}

/// One call that is not yet sent.
pub(super) struct Call {
    pub(super) commands: Vec<Bytes>,
    pub(super) bytes: usize,
    /// One of them is answered only when all sites have it: it must not hold up others.
    pub(super) for_sites: bool,
    pub(super) lane: Option<Arc<Lane>>,
    pub(super) waiting: Waiting,
}

/// Who waits for answers.
pub(super) struct Waiting {
    pub(super) count: usize,
    pub(super) answer: oneshot::Sender<Vec<v1::Answer>>,
    pub(super) lane: Option<Arc<Lane>>,
    pub(super) _permit: Permit,
}

impl Waiting {
    pub(super) fn answer(self, answers: Vec<v1::Answer>) {
        if let Some(lane) = &self.lane {
            lane.answered(answers.iter().all(is_definite));
        }
        // The caller may be gone.
        let _ = self.answer.send(answers);
    }

    pub(super) fn refuse(self, problem: Problem) {
        let count = self.count;
        self.answer(vec![refusing(problem); count]);
    }
}

/// What the stream is given next.
pub(super) enum Next {
    /// One call, or many small ones of no lane together.
    Frame { commands: Vec<Bytes>, lane: u64, waiting: Vec<Waiting> },
    /// Nothing more of this lane will come.
    LaneEnded(u64),
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, call: Call) {
        self.queue.push_back(Queued::Call(call));
    }

    /// Notes that nothing more of this lane will come; `false`: the stream has never heard of it.
    pub(super) fn end(&mut self, lane: &Lane) -> bool {
        let is_known = lane.is_on(Route::There(self.stream));
        if is_known {
            self.queue.push_back(Queued::LaneEnded(lane.id));
        }
        is_known
    }

    pub(super) fn next(&mut self) -> Option<Next> {
        let first = match self.queue.pop_front()? {
            Queued::Call(call) => call,
            Queued::LaneEnded(lane) => return Some(Next::LaneEnded(lane)),
        };
        let lane = first.lane.as_ref().map_or(0, |lane| lane.id);
        let mut bytes = first.bytes;
        let mut commands = first.commands;
        let mut waiting = vec![first.waiting];
        if lane != 0 || first.for_sites {
            return Some(Next::Frame { commands, lane, waiting });
        }
        while let Some(Queued::Call(call)) = self.queue.front() {
            let fits =
                commands.len() + call.commands.len() <= TOGETHER_COMMANDS && bytes + call.bytes <= TOGETHER_BYTES;
            if call.lane.is_some() || !fits || call.for_sites {
                break;
            }
            let Some(Queued::Call(call)) = self.queue.pop_front() else { break };
            bytes += call.bytes;
            commands.extend(call.commands);
            waiting.push(call.waiting);
        }
        Some(Next::Frame { commands, lane: 0, waiting })
    }

    /// The stream ended: calls of lanes do not go on to the next one, for what was sent before them may be lost. Given
    /// back to be refused.
    pub(super) fn next_stream(&mut self) -> Vec<Waiting> {
        self.stream += 1;
        let mut refused = Vec::new();
        for queued in std::mem::take(&mut self.queue) {
            match queued {
                Queued::Call(call) if call.lane.is_some() => refused.push(call.waiting),
                Queued::Call(call) => self.push(call),
                // The next stream knows nothing of it.
                Queued::LaneEnded(_) => {}
            }
        }
        refused
    }

    /// There is no stream: all that waits is given back to be refused.
    pub(super) fn give_up(&mut self) -> Vec<Waiting> {
        self.stream += 1;
        let queue = std::mem::take(&mut self.queue).into_iter();
        queue
            .filter_map(|queued| match queued {
                Queued::Call(call) => Some(call.waiting),
                Queued::LaneEnded(_) => None,
            })
            .collect()
    }
}
