//! What friends and tickets may do, said a second time and independently of the product: a few lines that a person can check.
//!
//! ```text
//! friend:  nothing ─add→ friend ─block→ blocked ─unblock→ friend;  friend, blocked ─remove→ removed ─add→ friend
//! ticket:  nothing ─issue→ issued ─redeem→ redeemed ─reverse→ issued
//! ```

use sillok_wire::v1::Reason;
use stateright::semantics::SequentialSpec;

use crate::history::{Action, Seen, Subject};

/// One friend or ticket, as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Thing(pub Seen);

/// What is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// To change it.
    Do(Action),
    /// To say how it is.
    Look,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    /// Recorded.
    Done,
    /// Refused, for this reason.
    No(Reason),
    /// How it is.
    Saw(Seen),
}

impl Thing {
    /// Before anything happened to it.
    pub(crate) fn new(_: Subject) -> Thing {
        Thing(Seen::Nothing)
    }

    fn turn(self, action: Action) -> Result<Seen, Reason> {
        match (action, self.0) {
            (Action::Add(_), Seen::Nothing | Seen::Removed) => Ok(Seen::Friend),
            (Action::Add(_), Seen::Friend) => Err(Reason::AlreadyFriend),
            (Action::Add(_), _) => Err(Reason::FriendBlocked),

            (Action::Remove(_), Seen::Friend | Seen::Blocked) => Ok(Seen::Removed),
            (Action::Attribute(_), same @ (Seen::Friend | Seen::Blocked)) => Ok(same),
            (Action::Block(_), Seen::Friend) => Ok(Seen::Blocked),
            (Action::Push(_), Seen::Friend) => Ok(Seen::Friend),
            (Action::Block(_) | Action::Push(_), Seen::Blocked) => Err(Reason::FriendBlocked),
            (Action::Unblock(_), Seen::Blocked) => Ok(Seen::Friend),
            (Action::Unblock(_), Seen::Friend) => Err(Reason::FriendNotBlocked),
            (Action::Remove(_) | Action::Attribute(_) | Action::Block(_) | Action::Push(_) | Action::Unblock(_), _) => {
                Err(Reason::FriendNotFound)
            }

            (Action::Issue(_), Seen::Nothing) => Ok(Seen::Issued),
            (Action::Issue(_), _) => Err(Reason::TicketAlreadyIssued),
            (Action::Redeem(_), Seen::Issued) => Ok(Seen::Redeemed),
            (Action::Redeem(_), Seen::Redeemed) => Err(Reason::TicketAlreadyRedeemed),
            (Action::Reverse(_), Seen::Redeemed) => Ok(Seen::Issued),
            (Action::Reverse(_), Seen::Issued) => Err(Reason::TicketNotRedeemed),
            (Action::Redeem(_) | Action::Reverse(_), _) => Err(Reason::TicketNotFound),

            // About more than one thing, and never asked of one.
            (Action::Narrowcast | Action::Broadcast | Action::Prepare, same) => Ok(same),
        }
    }
}

impl SequentialSpec for Thing {
    type Op = Ask;
    type Ret = Told;

    fn invoke(&mut self, ask: &Ask) -> Told {
        match *ask {
            Ask::Look => Told::Saw(self.0),
            Ask::Do(action) => match self.turn(action) {
                Ok(after) => {
                    self.0 = after;
                    Told::Done
                }
                Err(reason) => Told::No(reason),
            },
        }
    }
}
