//! Who is refused because somebody is a friend already can rely on it: every linearizable read that is asked for later finds the
//! friend, until somebody removes it.

use std::collections::BTreeSet;

use sillok_wire::v1::{Reason, command::Command};

use crate::history::{Found, History, Told};

pub(super) fn check(history: &History) -> Vec<String> {
    let intents = history.intents.borrow();
    let commands = intents.values().filter_map(|intent| intent.command.command.as_ref());
    let removed: BTreeSet<&String> = commands
        .filter_map(|command| match command {
            Command::RemoveFriend(remove) => Some(&remove.user_key),
            _ => None,
        })
        .collect();
    let reads = history.reads.borrow();
    let mut wrong = Vec::new();
    for (key, intent) in intents.iter() {
        let Some(Command::AddFriend(add)) = &intent.command.command else { continue };
        if removed.contains(&add.user_key) {
            continue;
        }
        for (_, told_at, told) in &intent.answers {
            if *told != Told::Refused(Reason::AlreadyFriend) {
                continue;
            }
            let later = reads.iter().filter(|read| read.user == add.user_key && read.from > *told_at);
            if let Some(read) = later.into_iter().find(|read| read.found != Found::Friend) {
                wrong.push(format!(
                    "{key} was refused at {:.3} because {} is a friend, and node {} found {:?} when it was asked at {:.3}",
                    told_at.as_secs_f64(),
                    add.user_key,
                    read.node,
                    read.found,
                    read.from.as_secs_f64()
                ));
            }
        }
    }
    wrong
}
