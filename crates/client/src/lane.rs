//! Calls under way to one node at the same time, in frames of one `Submit` stream.
//!
//! ```text
//! execute ─► waiting ─► a frame of all that wait ══► node
//!    ▲                                                │
//!    └────── each call its own answer ◄── in order ◄══╝
//! ```
//! A lane tries each command once. Where its stream breaks, every call that has no answer is told why, and whether its command
//! was sent, and goes on by itself. A lane grows old in [`AGE`] and gives way to a new one, whose head says who leads by then.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::Stream;
use parking_lot::Mutex;
use prost::{Message as _, encoding::message};
use sillok_wire::{errors, v1};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tonic::{Status, transport::Channel};

use crate::{pool::Pool, submit};

/// How long a lane takes commands.
const AGE: Duration = Duration::from_secs(5);
/// Commands in a frame at most.
const FRAME_COMMANDS: usize = 512;
/// Bytes of a frame at most, but for its last command.
const FRAME_BYTES: usize = 256 << 10;
/// A larger command goes by a call of its own.
const COMMAND_BYTES: usize = 64 << 10;

/// Why there is no receipt.
#[derive(Debug)]
pub(crate) enum Untaken {
    /// The node says so.
    Answered(Status),
    /// The stream broke before the answer; `sent`: the command may have arrived.
    Broken { status: Status, sent: bool },
}

pub(crate) type Outcome = Result<v1::Receipt, Untaken>;

/// One command as part of a frame; `None` for one that others should not wait behind.
pub(crate) fn encode(command: &v1::Command) -> Option<Bytes> {
    let waits = command.context().is_some_and(|context| context.wait == v1::Wait::AllSites as i32);
    let length = command.encoded_len();
    if waits || length > COMMAND_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(length + 8);
    message::encode(submit::COMMANDS, command, &mut bytes);
    Some(bytes.into())
}

/// Takes commands until it is dropped or grows old; those it has taken are answered all the same.
#[derive(Debug)]
pub(crate) struct Lane {
    calls: Arc<Mutex<Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    waiting: VecDeque<(Bytes, oneshot::Sender<Outcome>)>,
    /// In the order of their commands on the wire.
    sent: VecDeque<oneshot::Sender<Outcome>>,
    /// Whoever sends, while there is nothing to send.
    sender: Option<Waker>,
    /// No more are taken.
    closed: bool,
}

impl Lane {
    /// A lane to the node at this address, with its first command on it. `patience`: how long the node may be silent.
    pub(crate) fn open(
        address: Arc<str>,
        channel: Channel,
        pool: Weak<Pool>,
        patience: Duration,
        first: Bytes,
    ) -> (Lane, oneshot::Receiver<Outcome>) {
        let lane = Lane { calls: Arc::default() };
        let (answer, receiver) = oneshot::channel();
        lane.calls.lock().waiting.push_back((first, answer));
        tokio::spawn(run(lane.calls.clone(), address, channel, pool, patience));
        (lane, receiver)
    }

    /// Puts a command on it; gives it back where the lane takes no more.
    pub(crate) fn push(&self, command: Bytes) -> Result<oneshot::Receiver<Outcome>, Bytes> {
        let (answer, receiver) = oneshot::channel();
        let sender = {
            let mut calls = self.calls.lock();
            if calls.closed {
                return Err(command);
            }
            calls.waiting.push_back((command, answer));
            calls.sender.take()
        };
        if let Some(sender) = sender {
            sender.wake();
        }
        Ok(receiver)
    }

    /// Takes no more commands.
    pub(crate) fn close(&self) {
        close(&self.calls);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

fn close(calls: &Mutex<Calls>) {
    let sender = {
        let mut calls = calls.lock();
        calls.closed = true;
        calls.sender.take()
    };
    if let Some(sender) = sender {
        sender.wake();
    }
}

/// The frames of a lane, each of what waits when the connection asks for it.
struct Frames {
    calls: Arc<Mutex<Calls>>,
    /// Whoever was about to call when the first command came has had its turn.
    gathered: bool,
}

impl Stream for Frames {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let calls = self.calls.clone();
        let mut calls = calls.lock();
        // Where whoever called waits no more, the command is not sent, and nothing is recorded.
        calls.waiting.retain(|(_, answer)| !answer.is_closed());
        if calls.waiting.is_empty() {
            if calls.closed {
                return Poll::Ready(None);
            }
            calls.sender = Some(context.waker().clone());
            self.gathered = false;
            return Poll::Pending;
        }
        if !self.gathered {
            self.gathered = true;
            drop(calls);
            // Behind all that can run now.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut frame = BytesMut::new();
        let mut commands = 0;
        while commands < FRAME_COMMANDS && frame.len() < FRAME_BYTES {
            let Some((command, answer)) = calls.waiting.pop_front() else { break };
            frame.put(command);
            calls.sent.push_back(answer);
            commands += 1;
        }
        Poll::Ready(Some(frame.freeze()))
    }
}

/// One stream, until the lane is closed and all is answered, or it breaks.
async fn run(calls: Arc<Mutex<Calls>>, address: Arc<str>, channel: Channel, pool: Weak<Pool>, patience: Duration) {
    let mut end = End { calls, status: Status::cancelled("the runtime of the stream has ended") };
    end.status = match stream(&end.calls, &address, channel, &pool, patience).await {
        Ok(()) => Status::unavailable(format!("{address} ended the stream")),
        Err(status) => status,
    };
}

/// Tells everybody who has no answer, also where the task is dropped with its runtime.
struct End {
    calls: Arc<Mutex<Calls>>,
    status: Status,
}

impl Drop for End {
    fn drop(&mut self) {
        let (sent, waiting) = {
            let mut calls = self.calls.lock();
            calls.closed = true;
            (std::mem::take(&mut calls.sent), std::mem::take(&mut calls.waiting))
        };
        let broken = |sent| Err(Untaken::Broken { status: self.status.clone(), sent });
        // Whoever is gone needs no answer.
        for answer in sent {
            let _ = answer.send(broken(true));
        }
        for (_, answer) in waiting {
            let _ = answer.send(broken(false));
        }
    }
}

async fn stream(
    calls: &Arc<Mutex<Calls>>,
    address: &str,
    channel: Channel,
    pool: &Weak<Pool>,
    patience: Duration,
) -> Result<(), Status> {
    let silent = || Status::deadline_exceeded(format!("{address} gave no answer in time"));
    let opened = Instant::now();
    let frames = Frames { calls: calls.clone(), gathered: false };
    let response = timeout(patience, submit::open(channel, frames)).await.map_err(|_| silent())??;
    if let Some(pool) = pool.upgrade() {
        pool.hint(response.metadata());
    }
    let mut incoming = response.into_inner();

    let mut alarm = pin!(tokio::time::sleep_until(opened + AGE));
    let mut is_old = false;
    loop {
        tokio::select! {
            biased;
            message = incoming.message() => match message? {
                Some(response) => {
                    take_answers(calls, response)?;
                    if is_old {
                        alarm.as_mut().reset(Instant::now() + patience);
                    }
                }
                None => return Ok(()),
            },
            () = &mut alarm => {
                if is_old {
                    return Err(silent());
                }
                is_old = true;
                close(calls);
                alarm.as_mut().reset(Instant::now() + patience);
            }
        }
    }
}

/// Each call its answer.
fn take_answers(calls: &Mutex<Calls>, response: v1::SubmitResponse) -> Result<(), Status> {
    let answered: VecDeque<_> = {
        let mut calls = calls.lock();
        let count = response.answers.len().min(calls.sent.len());
        calls.sent.drain(..count).collect()
    };
    let more = response.answers.len() > answered.len();
    for (answer, call) in response.answers.into_iter().zip(answered) {
        let outcome = match answer.outcome {
            Some(v1::answer::Outcome::Receipt(receipt)) => Ok(receipt),
            Some(v1::answer::Outcome::Error(error)) => Err(Untaken::Answered(errors::from_rpc(error))),
            None => Err(Untaken::Answered(Status::internal("an answer came empty"))),
        };
        // Whoever is gone needs no answer.
        let _ = call.send(outcome);
    }
    if more {
        return Err(Status::internal("more answers came than commands were sent"));
    }
    Ok(())
}
