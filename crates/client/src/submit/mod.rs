//! Many commands at high volume over one stream, across failures.
//!
//! ```text
//! send ─► open frame ─► sealed frames ──► stream ──► answers ─► next
//!         (encoded       │  kept until                 in order
//!          as they come) │  answered
//!                        └─► sent again, from the first unanswered, when the stream breaks
//! ```
//! A command is encoded once, into the frame that goes over the wire; nothing is cloned to be able to send it again.
//! A command that no node takes, such as one over the limit of messages, is answered as invalid and the stream goes on.

mod driver;
mod frames;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sillok_wire::v1;
use tokio::sync::Notify;

use self::frames::Frames;
pub(crate) use self::{driver::open, frames::COMMANDS};
use crate::{
    Client, WriteError,
    client::Settings,
    execute::{complete, longest_wait},
};

/// Bounds of a [`SubmitStream`].
#[derive(Debug, Clone, Copy)]
pub struct SubmitOptions {
    /// Unanswered commands at most; `send` waits at it. Default 16,384.
    pub window_commands: usize,
    /// Bytes of unanswered commands at most. Default 16 MiB.
    pub window_bytes: usize,
    /// Commands in a frame at most, 1 to 4,096. Default 512.
    pub frame_commands: usize,
    /// Bytes of a frame at most, but for one command that is larger alone. Default 256 KiB.
    pub frame_bytes: usize,
}

impl Default for SubmitOptions {
    fn default() -> Self {
        SubmitOptions { window_commands: 16_384, window_bytes: 16 << 20, frame_commands: 512, frame_bytes: 256 << 10 }
    }
}

/// The answer to one command.
#[derive(Debug)]
pub struct Answered {
    /// Which: 0 for the first command that was sent, without gaps.
    pub index: u64,
    /// A refusal is an answer like a receipt. `Unknown` and `NotRecorded` come only once the deadline has passed without
    /// any progress, for everything unanswered; after them the stream ends.
    pub outcome: Result<v1::Receipt, WriteError>,
}

/// The stream takes no more commands: it was closed, or made no progress until the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream of commands has ended; its last answers say why")]
pub struct Closed;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    options: SubmitOptions,
    /// To the driver: there may be something to send, or nothing more will come.
    work: Notify,
    /// To the sender: the window may have room.
    room: Notify,
    /// To the reader: there may be answers, or the end.
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: Frames,
    /// Answers that were not taken yet.
    answers: std::collections::VecDeque<Answered>,
    /// The longest that any command so far waits beyond the quorum.
    longest_wait: Duration,
    /// No command will come.
    closed: bool,
    /// Nobody takes answers.
    abandoned: bool,
    /// No answer will come.
    done: bool,
}

/// Both ends of a stream of commands.
#[derive(Debug)]
pub struct SubmitStream {
    sender: SubmitSender,
    answers: SubmitAnswers,
}

/// The end that takes commands; dropping it closes the stream once everything is answered.
#[derive(Debug)]
pub struct SubmitSender {
    shared: Arc<Shared>,
    settings: Settings,
}

/// The end that gives answers.
#[derive(Debug)]
pub struct SubmitAnswers {
    shared: Arc<Shared>,
}

impl Client {
    /// Opens a stream of commands with the default bounds.
    pub fn submit(&self) -> SubmitStream {
        self.submit_with(SubmitOptions::default())
    }

    /// Opens a stream of commands. The client's deadline holds for progress: without any answer for so long, while some
    /// are due, the stream gives up. Must be called within a runtime.
    pub fn submit_with(&self, options: SubmitOptions) -> SubmitStream {
        let options = SubmitOptions {
            window_commands: options.window_commands.max(1),
            window_bytes: options.window_bytes.max(1),
            frame_commands: options.frame_commands.clamp(1, 4096),
            frame_bytes: options.frame_bytes.clamp(1, 1 << 20),
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            options,
            work: Notify::new(),
            room: Notify::new(),
            answered: Notify::new(),
        });
        tokio::spawn(driver::run(self.clone(), Arc::clone(&shared)));
        SubmitStream {
            sender: SubmitSender { shared: Arc::clone(&shared), settings: self.settings.clone() },
            answers: SubmitAnswers { shared },
        }
    }
}

impl SubmitStream {
    /// As [`SubmitSender::send`]. Answers are kept meanwhile, so one task may send everything and then take them.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn send(&mut self, command: impl Into<v1::Command>) -> Result<u64, Closed> {
        self.sender.send(command).await
    }

    /// As [`SubmitSender::close`].
    pub fn close(&mut self) {
        self.sender.close();
    }

    /// As [`SubmitAnswers::next`].
    pub async fn next(&mut self) -> Option<Answered> {
        self.answers.next().await
    }

    /// The two ends apart, for two tasks.
    pub fn split(self) -> (SubmitSender, SubmitAnswers) {
        (self.sender, self.answers)
    }
}

impl SubmitSender {
    /// Takes a command, waiting while the window is full, and gives its index. It gets a fresh retry key where it has
    /// none. What is not sent at once waits for a frame to fill, at most one round trip.
    ///
    /// # Errors
    /// [`Closed`] once the stream has ended.
    pub async fn send(&mut self, command: impl Into<v1::Command>) -> Result<u64, Closed> {
        let mut command = command.into();
        complete(&mut command, &self.settings);
        let wait = longest_wait(&command);
        loop {
            {
                let mut state = self.shared.state.lock();
                if state.closed || state.done {
                    return Err(Closed);
                }
                let options = &self.shared.options;
                if state.frames.has_room(options) {
                    state.longest_wait = state.longest_wait.max(wait);
                    let (index, news) = state.frames.push(&command, options);
                    drop(state);
                    if news {
                        self.shared.work.notify_one();
                    }
                    return Ok(index);
                }
            }
            self.shared.room.notified().await;
        }
    }

    /// No more commands: answers go on until the last one.
    pub fn close(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Drop for SubmitSender {
    fn drop(&mut self) {
        self.close();
    }
}

impl SubmitAnswers {
    /// The next answer, in the order of the commands; `None` after the last, once the sender is closed.
    pub async fn next(&mut self) -> Option<Answered> {
        loop {
            {
                let mut state = self.shared.state.lock();
                if let Some(answer) = state.answers.pop_front() {
                    return Some(answer);
                }
                if state.done {
                    return None;
                }
            }
            self.shared.answered.notified().await;
        }
    }

    /// Moves every answer there is to the end of `into`, waiting for at least one; false after the last. For high volume.
    pub async fn next_batch(&mut self, into: &mut Vec<Answered>) -> bool {
        let Some(first) = self.next().await else { return false };
        into.push(first);
        into.extend(self.shared.state.lock().answers.drain(..));
        true
    }
}

impl Drop for SubmitAnswers {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.abandoned = true;
        state.answers.clear();
        drop(state);
        self.shared.work.notify_one();
    }
}
