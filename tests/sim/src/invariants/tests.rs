//! Each invariant sees its own breach: a sound history, broken in one way at a time.

use std::time::Duration;

use bytes::Bytes;
use sillok_chronicle::{Entry, LogId};
use sillok_wire::v1;

use crate::history::{Event, Found, History, Intent, Read, Told};

fn receipt(sequence: u64) -> Told {
    Told::Receipt { revision: sequence, sequence, whole: v1::Receipt { revision: sequence, ..Default::default() } }
}

fn event(key: &str, sequence: u64) -> Event {
    Event { retry_key: key.to_owned(), revision: sequence, sequence, accepted_at: (sequence as i64, 0) }
}

fn added(user_key: &str) -> v1::Command {
    v1::AddFriendRequest { user_key: user_key.to_owned(), ..Default::default() }.into()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sound() -> History {
    let history = History::default();
    for (key, told) in [("a", receipt(1)), ("b", receipt(2)), ("c", Told::NotRecorded)] {
        let answers = vec![(at(1), at(2), told)];
        let command = added(&format!("of {key}"));
        history.intents.borrow_mut().insert(key.to_owned(), Intent { command, answers });
    }
    let refused = vec![(at(1), at(2), Told::Refused(v1::Reason::AlreadyFriend))];
    history.intents.borrow_mut().insert("d".to_owned(), Intent { command: added("of a"), answers: refused });
    let user = "of a".to_owned();
    history.reads.borrow_mut().push(Read { from: at(3), to: at(4), node: 1, sequence: 2, user, found: Found::Friend });
    for node in [1, 2] {
        history.events.borrow_mut().insert(node, vec![event("a", 1), event("b", 2)]);
        history.digests.borrow_mut().insert(node, "same".to_owned());
        history.heads.borrow_mut().entry(5).or_default().entry([7; 32]).or_default().insert(node);
        let entry = Entry { id: LogId::new(1, 0), kind: 1, payload: Bytes::from_static(b"entry") };
        history.entries.borrow_mut().insert(node, vec![entry]);
    }
    history
}

#[test]
fn a_sound_history_holds() {
    assert_eq!(super::check(&sound()), Vec::<String>::new());
}

#[test]
fn every_breach_is_seen_by_its_invariant() {
    type Breach = fn(&History);
    let breaches: [(&str, Breach); 11] = [
        ("kept", |h| h.events.borrow_mut().values_mut().for_each(|events| drop(events.pop()))),
        ("once", |h| h.events.borrow_mut().values_mut().for_each(|events| events.push(event("b", 3)))),
        ("original", |h| {
            h.intents.borrow_mut().get_mut("a").unwrap().answers.push((
                at(5),
                at(6),
                Told::Refused(v1::Reason::Unspecified),
            ));
        }),
        ("unrecorded", |h| h.events.borrow_mut().values_mut().for_each(|events| events.push(event("c", 3)))),
        ("linearizable", |h| h.reads.borrow_mut()[0].sequence = 1),
        ("truthful", |h| h.reads.borrow_mut()[0].found = Found::Removed),
        ("refused", |h| h.reads.borrow_mut()[0].found = Found::Nobody),
        ("gapless", |h| h.events.borrow_mut().values_mut().for_each(|events| events[1].revision = 3)),
        ("one_chain", |h| _ = h.heads.borrow_mut().entry(5).or_default().entry([8; 32]).or_default().insert(3)),
        ("same_bytes", |h| h.entries.borrow_mut().get_mut(&2).unwrap()[0].payload = Bytes::from_static(b"other")),
        ("converged", |h| _ = h.digests.borrow_mut().insert(2, "other".to_owned())),
    ];
    assert_eq!(breaches.len(), super::ALL.len(), "an invariant without a breach");
    for (name, breach) in breaches {
        let history = sound();
        breach(&history);
        let seen = super::check(&history);
        assert!(seen.iter().any(|line| line.starts_with(name)), "{name} did not see its breach: {seen:?}");
    }
}
