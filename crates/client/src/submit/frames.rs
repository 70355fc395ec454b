//! Commands between `send` and their answers, encoded once.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use sillok_wire::v1;

use super::SubmitOptions;

/// Field `commands` of `SubmitRequest`: a frame's bytes are this field again and again.
pub(crate) const COMMANDS: u32 = 1;
/// Small frames wait for company while so many frames are unanswered, so that a fast sender does not make a frame of
/// every command.
const SMALL_IN_FLIGHT: usize = 4;

/// The queue of frames. `sealed` is what has or will have gone over the wire, the first `sent` of them on this stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    open: Frame,
    sealed: VecDeque<Frame>,
    sent: usize,
    /// Commands of the first sealed frame that are answered.
    answered: usize,
    unanswered: usize,
    bytes: usize,
    next_index: u64,
    /// Index of the first unanswered command.
    first_index: u64,
}

#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    /// Where each command ends.
    ends: Vec<u32>,
    frozen: Bytes,
    /// It has been on some stream: what became of its commands is unknown until answered.
    was_sent: bool,
}

impl Frame {
    fn is_full(&self, options: &SubmitOptions) -> bool {
        self.ends.len() >= options.frame_commands || self.bytes.len() >= options.frame_bytes
    }

    /// An empty one, with room for as much.
    fn next(&self) -> Frame {
        Frame {
            bytes: Vec::with_capacity(self.bytes.len()),
            ends: Vec::with_capacity(self.ends.len()),
            ..Frame::default()
        }
    }

    fn seal(mut self) -> Frame {
        self.frozen = std::mem::take(&mut self.bytes).into();
        self
    }

    fn start_of(&self, command: usize) -> usize {
        if command == 0 { 0 } else { self.ends[command - 1] as usize }
    }
}

/// A command that has no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) index: u64,
    pub(super) retry_key: String,
    pub(super) was_sent: bool,
}

impl Frames {
    pub(super) fn has_room(&self, options: &SubmitOptions) -> bool {
        self.unanswered < options.window_commands && self.bytes < options.window_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unanswered == 0
    }

    /// Something is on the wire.
    pub(super) fn awaits_answers(&self) -> bool {
        self.sent > 0
    }

    /// Adds a command; gives its index, and whether the driver should know.
    pub(super) fn push(&mut self, command: &v1::Command, options: &SubmitOptions) -> (u64, bool) {
        let before = self.open.bytes.len();
        let length = command.encoded_len();
        if before > 0 && before + length > options.frame_bytes {
            self.seal();
        }
        let open = &mut self.open;
        let before = open.bytes.len();
        encode_key(COMMANDS, WireType::LengthDelimited, &mut open.bytes);
        encode_varint(length as u64, &mut open.bytes);
        command.encode_raw(&mut open.bytes);
        let first = open.ends.is_empty();
        // A frame is at most 1 MiB and one command, which a server's limit of messages keeps far below 4 GiB.
        open.ends.push(u32::try_from(open.bytes.len()).unwrap_or(u32::MAX));
        self.bytes += open.bytes.len() - before;
        self.unanswered += 1;
        let full = open.is_full(options);
        if full {
            self.seal();
        }
        let index = self.next_index;
        self.next_index += 1;
        (index, first || full)
    }

    fn seal(&mut self) {
        let next = self.open.next();
        let open = std::mem::replace(&mut self.open, next);
        self.sealed.push_back(open.seal());
    }

    /// Whether [`Frames::take`] has something.
    pub(super) fn has_next(&self) -> bool {
        self.sent < self.sealed.len() || (!self.open.ends.is_empty() && self.sent < SMALL_IN_FLIGHT)
    }

    /// The next frame for this stream. The first one begins at the first unanswered command.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if !self.has_next() {
            return None;
        }
        if self.sent == self.sealed.len() {
            self.seal();
        }
        let frame = &self.sealed[self.sent];
        let from = if self.sent == 0 { frame.start_of(self.answered) } else { 0 };
        self.sent += 1;
        Some(frame.frozen.slice(from..))
    }

    /// What was taken for this stream so far has, or may have, left for a server.
    pub(super) fn mark_sent(&mut self) {
        for frame in self.sealed.iter_mut().take(self.sent).rev() {
            if frame.was_sent {
                break;
            }
            frame.was_sent = true;
        }
    }

    /// The stream broke: everything unanswered is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The first unanswered command is answered: its index. `None` where nothing was asked.
    pub(super) fn answer(&mut self) -> Option<u64> {
        if self.sent == 0 {
            return None;
        }
        let frame = self.sealed.front()?;
        self.bytes -= frame.ends[self.answered] as usize - frame.start_of(self.answered);
        self.answered += 1;
        if self.answered == frame.ends.len() {
            self.sealed.pop_front();
            self.sent -= 1;
            self.answered = 0;
        }
        self.unanswered -= 1;
        let index = self.first_index;
        self.first_index += 1;
        Some(index)
    }

    /// Whether the first frame with unanswered commands has only one.
    pub(super) fn first_is_alone(&self) -> bool {
        self.sealed.front().is_some_and(|frame| frame.ends.len() - self.answered == 1)
    }

    /// Gives each unanswered command of the first frame a frame of its own, and begins again there.
    pub(super) fn split_first(&mut self) {
        let Some(frame) = self.sealed.pop_front() else { return };
        for command in (self.answered..frame.ends.len()).rev() {
            let frozen = frame.frozen.slice(frame.start_of(command)..frame.ends[command] as usize);
            // Part of a frame whose ends fit.
            let ends = vec![frozen.len() as u32];
            self.sealed.push_front(Frame { bytes: Vec::new(), ends, frozen, was_sent: frame.was_sent });
        }
        self.answered = 0;
        self.rewind();
    }

    /// Whose answer comes next, where one is due.
    pub(super) fn first_unanswered(&self) -> Option<Unanswered> {
        let frame = self.sealed.front()?;
        Some(unanswered(frame, self.answered, self.first_index))
    }

    /// Empties the queue: everything that has no answer, in order.
    pub(super) fn give_up(&mut self) -> Vec<Unanswered> {
        if !self.open.ends.is_empty() {
            self.seal();
        }
        let mut all = Vec::with_capacity(self.unanswered);
        let mut from = self.answered;
        for frame in self.sealed.drain(..) {
            for command in from..frame.ends.len() {
                all.push(unanswered(&frame, command, self.first_index + all.len() as u64));
            }
            from = 0;
        }
        self.first_index = self.next_index;
        (self.sent, self.answered, self.unanswered, self.bytes) = (0, 0, 0, 0);
        all
    }
}

fn unanswered(frame: &Frame, command: usize, index: u64) -> Unanswered {
    let field = frame.frozen.slice(frame.start_of(command)..frame.ends[command] as usize);
    // These are the bytes that were encoded here: a frame of one command.
    let retry_key = v1::SubmitRequest::decode(field).ok().and_then(|frame| {
        let command = v1::Command::decode(frame.commands.into_iter().next()?).ok()?;
        command.context().map(|context| context.retry_key.clone())
    });
    Unanswered { index, retry_key: retry_key.unwrap_or_default(), was_sent: frame.was_sent }
}
