//! What the clients asked and were told, and what the nodes were seen to hold.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sillok_wire::v1;

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Recorded as an event, here.
    Receipt {
        /// Within the channel.
        revision: u64,
        /// Within the log.
        sequence: u64,
        /// All of it that is the same for ever.
        whole: v1::Receipt,
    },
    /// Recorded as a refusal of the domain, for this reason.
    Refused(v1::Reason),
    /// Certainly not recorded.
    NotRecorded,
    /// Nobody knows: no answer, or one that says so.
    Unknown,
}

impl Told {
    /// Of a receipt. What it says of now is not part of the original answer.
    pub fn receipt(receipt: v1::Receipt) -> Told {
        let sequence = receipt.position.as_ref().map_or(0, |position| position.sequence);
        let whole = v1::Receipt { durability: None, ..receipt };
        Told::Receipt { revision: whole.revision, sequence, whole }
    }

    /// An answer that binds for ever.
    pub fn is_definite(&self) -> bool {
        matches!(self, Told::Receipt { .. } | Told::Refused(_))
    }

    /// For the trace.
    pub fn short(&self) -> String {
        match self {
            Told::Receipt { revision, sequence, .. } => format!("revision {revision}, position {sequence}"),
            Told::Refused(reason) => format!("refused, {}", reason.as_str_name()),
            Told::NotRecorded => "not recorded".to_owned(),
            Told::Unknown => "unknown".to_owned(),
        }
    }
}

/// One intent: a command under one key.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The command.
    pub command: v1::Command,
    /// Every answer to it, and when it was asked and told.
    pub answers: Vec<(Duration, Duration, Told)>,
}

/// What a read says of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A friend.
    Friend,
    /// A friend before, and not any more.
    Removed,
    /// Never a friend.
    Nobody,
}

/// A linearizable read of one friend.
#[derive(Debug, Clone)]
pub struct Read {
    /// When it was asked.
    pub from: Duration,
    /// When it was answered.
    pub to: Duration,
    /// By whom.
    pub node: u64,
    /// The last position that the answer speaks for.
    pub sequence: u64,
    /// Of whom.
    pub user: String,
    /// What it says.
    pub found: Found,
}

/// An event as a node told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Whose.
    pub retry_key: String,
    /// Within the channel.
    pub revision: u64,
    /// Within the log.
    pub sequence: u64,
    /// By the leader's clock.
    pub accepted_at: (i64, i32),
}

/// By index, the heads of the chain that were seen there, and the nodes that had them.
pub type Heads = BTreeMap<u64, BTreeMap<[u8; 32], BTreeSet<u64>>>;

/// Everything that the invariants look at.
#[derive(Default)]
pub struct History {
    /// By retry key.
    pub intents: RefCell<BTreeMap<String, Intent>>,
    /// In the order of their answers.
    pub reads: RefCell<Vec<Read>>,
    /// The head of the chain at every index at which a node was seen.
    pub heads: RefCell<Heads>,
    /// The channel's events in the end, by node.
    pub events: RefCell<BTreeMap<u64, Vec<Event>>>,
    /// The channel's digests in the end, by node: position, friends, history.
    pub digests: RefCell<BTreeMap<u64, String>>,
    /// Committed entries in the end, as the chronicles on the disks hold them.
    pub entries: RefCell<BTreeMap<u64, Vec<sillok_chronicle::Entry>>>,
}

impl History {
    /// An answer came.
    pub fn told(&self, key: &str, from: Duration, to: Duration, told: Told) {
        if let Some(intent) = self.intents.borrow_mut().get_mut(key) {
            intent.answers.push((from, to, told));
        }
    }
}
