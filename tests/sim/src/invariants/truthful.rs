//! What a read says of somebody is what the history holds at the position that it speaks for.

use sillok_wire::v1::command::Command;

use crate::history::{Event, Found, History};

pub(super) fn check(history: &History) -> Vec<String> {
    let events = history.events.borrow();
    let Some(events) = events.values().max_by_key(|events| events.len()) else { return Vec::new() };
    let mut wrong = Vec::new();
    for read in history.reads.borrow().iter() {
        let before = events.iter().take_while(|event| event.sequence <= read.sequence);
        let there = before.filter_map(|event| leaves(history, event, &read.user)).last().unwrap_or(Found::Nobody);
        if there != read.found {
            wrong.push(format!(
                "node {} found {:?} when it was asked for {} at {:.3}, and says that it speaks for position {}, where the \
                 history holds {there:?}",
                read.node,
                read.found,
                read.user,
                read.from.as_secs_f64(),
                read.sequence
            ));
        }
    }
    wrong
}

/// What an event leaves behind of this user, if it is about it.
fn leaves(history: &History, event: &Event, user: &str) -> Option<Found> {
    match &history.intents.borrow().get(&event.retry_key)?.command.command {
        Some(Command::AddFriend(add)) if add.user_key == user => Some(Found::Friend),
        Some(Command::RemoveFriend(remove)) if remove.user_key == user => Some(Found::Removed),
        _ => None,
    }
}
