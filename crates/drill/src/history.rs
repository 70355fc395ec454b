//! What the clients asked and were told, and when: everything a checker may rely upon.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use sillok_wire::v1::Reason;

/// One intent of a client: which command, by its serial number. The retry key is made of it.
pub(crate) type Serial = u64;

/// What a command is about. Friends and tickets are numbered within their channel by the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A friend adds the channel.
    Add(u32),
    /// Blocks it.
    Block(u32),
    /// Takes the block back.
    Unblock(u32),
    /// Leaves.
    Remove(u32),
    /// Attributes of a friend are set.
    Attribute(u32),
    /// A message to one friend.
    Push(u32),
    /// A message to a group of regulars.
    Narrowcast,
    /// A message to everyone.
    Broadcast,
    /// A ticket is issued to a regular.
    Issue(u32),
    /// Redeemed.
    Redeem(u32),
    /// The redemption is taken back.
    Reverse(u32),
    /// Before the load: the channel, its regulars, its coupon.
    Prepare,
}

/// What can be asked of one friend or one ticket, or of the channel as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A friend's state.
    Friend(u32),
    /// A ticket's state.
    Ticket(u32),
    /// The channel's revision.
    Channel,
}

impl Action {
    /// Whose state decides about it; `None` where it is about more than one.
    pub(crate) fn subject(self) -> Option<Subject> {
        match self {
            Action::Add(n)
            | Action::Block(n)
            | Action::Unblock(n)
            | Action::Remove(n)
            | Action::Attribute(n)
            | Action::Push(n) => Some(Subject::Friend(n)),
            Action::Issue(n) | Action::Redeem(n) | Action::Reverse(n) => Some(Subject::Ticket(n)),
            Action::Narrowcast | Action::Broadcast | Action::Prepare => None,
        }
    }
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is recorded, there.
    Recorded {
        /// Of the channel.
        revision: u64,
        /// Of the chronicle.
        sequence: u64,
    },
    /// The domain said no, and that is recorded.
    Refused(Reason),
    /// It is certainly not recorded.
    NotRecorded,
    /// Nobody knows.
    Unknown,
}

/// One call: one of the tries with one retry key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// The intent.
    pub serial: Serial,
    /// Which channel, from 0.
    pub channel: u32,
    /// What was asked.
    pub action: Action,
    /// Since the drill began.
    pub started: Duration,
    /// Since the drill began.
    pub ended: Duration,
    /// What was told.
    pub answer: Answer,
    /// The client went on trying for as long as it takes, so it must have been answered.
    pub patient: bool,
}

/// What a reader saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// No such friend or ticket.
    Nothing,
    /// Not blocked.
    Friend,
    /// Blocked.
    Blocked,
    /// Left.
    Removed,
    /// Not redeemed.
    Issued,
    /// Redeemed.
    Redeemed,
    /// The channel's revision.
    Revision(u64),
}

/// One linearizable read that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// Which channel, from 0.
    pub channel: u32,
    /// Of what.
    pub subject: Subject,
    /// Since the drill began.
    pub started: Duration,
    /// Since the drill began.
    pub ended: Duration,
    /// The position that the answer names.
    pub sequence: u64,
    /// Who answered.
    pub node: u64,
    /// What.
    pub seen: Seen,
}

/// Everything that was asked and told.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    /// By the machine's clock, in nanoseconds since 1970 UTC.
    pub began_at: i64,
    /// Every try of every command.
    pub calls: Vec<Call>,
    /// Every linearizable read that was answered.
    pub reads: Vec<Read>,
    /// When a linearizable read was refused or not answered.
    pub failed_reads: Vec<Duration>,
}

/// Collects a [`History`] from many clients.
#[derive(Debug)]
pub(crate) struct Recorder {
    begun: Instant,
    history: Mutex<History>,
}

impl Recorder {
    /// Empty; its clock starts now.
    pub(crate) fn new() -> Recorder {
        let began_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let began_at = i64::try_from(began_at).unwrap_or(i64::MAX);
        Recorder { begun: Instant::now(), history: Mutex::new(History { began_at, ..History::default() }) }
    }

    /// Since the drill began.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// One more call.
    pub(crate) fn call(&self, call: Call) {
        self.history.lock().calls.push(call);
    }

    /// One more read.
    pub(crate) fn read(&self, read: Read) {
        self.history.lock().reads.push(read);
    }

    /// One more read without an answer.
    pub(crate) fn failed_read(&self, at: Duration) {
        self.history.lock().failed_reads.push(at);
    }

    /// Looks at what there is so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history.lock())
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new()
    }
}
