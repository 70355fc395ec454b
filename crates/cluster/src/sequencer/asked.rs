//! What a call asks: its commands, in order, each decoded where it is decided.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use sillok_wire::{
    Malformed, Submission, asks_for_all_sites, command_from_bytes, command_from_proto,
    errors::{Outcome, Problem},
    v1,
};

use super::frame::refusing;

/// One place of a call: a command that may be decided, or the answer to one that is malformed.
pub(super) type Item = Result<Submission, Box<v1::Answer>>;

/// The commands of one call, as they came.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Of a frame, as bytes.
    Frame(Vec<Bytes>),
    /// Of a call that gRPC has decoded.
    Calls(Vec<v1::Command>),
}

impl Asked {
    pub(crate) fn len(&self) -> usize {
        match self {
            Asked::Frame(commands) => commands.len(),
            Asked::Calls(commands) => commands.len(),
        }
    }

    /// Of all commands together, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Asked::Frame(commands) => commands.iter().map(Bytes::len).sum(),
            Asked::Calls(commands) => commands.iter().map(v1::Command::encoded_len).sum(),
        }
    }

    /// One of them is answered only when all sites have it.
    pub(crate) fn asks_for_all_sites(&self) -> bool {
        let all_sites = i32::from(v1::Wait::AllSites);
        match self {
            Asked::Frame(commands) => commands.iter().any(|command| asks_for_all_sites(command)),
            Asked::Calls(commands) => {
                commands.iter().filter_map(v1::Command::context).any(|context| context.wait == all_sites)
            }
        }
    }

    /// To be sent on to another node.
    pub(crate) fn into_frame(self) -> Vec<Bytes> {
        match self {
            Asked::Frame(commands) => commands,
            Asked::Calls(commands) => commands.iter().map(|command| command.encode_to_vec().into()).collect(),
        }
    }
}

/// Commands on their way to be decided: those in front are read, those behind them are still bytes.
#[derive(Debug)]
pub(super) struct Undecided {
    read: VecDeque<Item>,
    unread: std::vec::IntoIter<Bytes>,
}

impl Undecided {
    pub(super) fn new(asked: Asked) -> Undecided {
        match asked {
            Asked::Frame(commands) => Undecided { read: VecDeque::new(), unread: commands.into_iter() },
            Asked::Calls(commands) => {
                let read = commands.into_iter().map(|command| item(command_from_proto(command))).collect();
                Undecided { read, unread: Vec::new().into_iter() }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read.is_empty() && self.unread.as_slice().is_empty()
    }

    /// The next one, which stays.
    pub(super) fn peek(&mut self) -> Option<&Item> {
        self.read_ahead(1).next()
    }

    /// The next ones, up to so many, which stay.
    pub(super) fn read_ahead(&mut self, at_most: usize) -> impl Iterator<Item = &Item> {
        let more = at_most.saturating_sub(self.read.len()).min(self.unread.len());
        self.read.reserve_exact(more);
        self.read.extend(self.unread.by_ref().take(more).map(|command| item(command_from_bytes(command))));
        self.read.iter().take(at_most)
    }
}

impl Iterator for Undecided {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.read.pop_front().or_else(|| self.unread.next().map(|command| item(command_from_bytes(command))))
    }
}

fn item(read: Result<Submission, Malformed>) -> Item {
    read.map_err(|malformed| {
        let mut problem = Problem::new(v1::Reason::InvalidCommand, malformed.to_string());
        for violation in malformed.violations {
            problem = problem.violation(violation.field, violation.description);
        }
        Box::new(refusing(problem.outcome(Some(Outcome::NotRecorded))))
    })
}
