//! A checker that sees nothing is worse than none: each violation is planted in a sound history and must be seen.

use std::time::Duration;

use sillok_wire::v1::{self, Reason};

use super::check;
use crate::{
    history::{Action, Answer, Call, History, Read, Seen, Subject},
    ledger::{Decision, Entry, Kind, Ledger},
};

const MS: Duration = Duration::from_millis(1);
const BEGAN_AT: i64 = 1_700_000_000_000_000_000;

fn call(serial: u64, action: Action, (started, ended): (u32, u32), answer: Answer) -> Call {
    Call { serial, channel: 0, action, started: MS * started, ended: MS * ended, answer, patient: true }
}

fn recorded(revision: u64, sequence: u64) -> Answer {
    Answer::Recorded { revision, sequence }
}

fn look(subject: Subject, (started, ended): (u32, u32), sequence: u64, seen: Seen) -> Read {
    Read { channel: 0, subject, started: MS * started, ended: MS * ended, sequence, node: 1, seen }
}

fn entry(sequence: u64, serial: u64, decision: Decision) -> Entry {
    let accepted_at = BEGAN_AT + sequence as i64 * 1_000_000;
    Entry { sequence, accepted_at, channel: 0, serial: Some(serial), decision, fingerprint: sequence * 31 }
}

fn event(revision: u64, kind: Kind) -> Decision {
    Decision::Event { revision, kind }
}

/// A friend comes, blocks and leaves; a ticket is issued and redeemed once, and a second redemption is refused; one client never
/// hears of its push; one is told that nothing was recorded.
fn sound() -> (History, [Ledger; 2]) {
    let calls = vec![
        call(0, Action::Prepare, (0, 1), recorded(1, 1)),
        call(1, Action::Add(7), (2, 4), recorded(2, 2)),
        call(2, Action::Issue(3), (3, 5), recorded(3, 3)),
        call(3, Action::Push(7), (6, 7), Answer::Unknown),
        call(4, Action::Redeem(3), (6, 9), recorded(5, 5)),
        call(5, Action::Redeem(3), (7, 10), Answer::Refused(Reason::TicketAlreadyRedeemed)),
        call(6, Action::Remove(7), (8, 9), Answer::NotRecorded),
        call(7, Action::Block(7), (11, 14), recorded(6, 7)),
        // The same intent again, long after.
        call(1, Action::Add(7), (20, 21), recorded(2, 2)),
    ];
    let reads = vec![
        look(Subject::Friend(7), (5, 6), 3, Seen::Friend),
        look(Subject::Ticket(3), (12, 13), 6, Seen::Redeemed),
        look(Subject::Friend(7), (15, 16), 7, Seen::Blocked),
        look(Subject::Channel, (15, 17), 7, Seen::Revision(6)),
    ];
    let entries = vec![
        entry(1, 0, event(1, Kind::Other)),
        entry(2, 1, event(2, Kind::Added)),
        entry(3, 2, event(3, Kind::Issued)),
        entry(4, 3, event(4, Kind::Push)),
        entry(5, 4, event(5, Kind::Redeemed)),
        entry(6, 5, Decision::Refusal(Reason::TicketAlreadyRedeemed)),
        entry(7, 7, event(6, Kind::Blocked)),
    ];
    let digests = vec![v1::Digests { revision: 6, ..Default::default() }];
    let ledger = |site: &str| Ledger { site: site.into(), entries: entries.clone(), digests: digests.clone() };
    (History { began_at: BEGAN_AT, calls, reads, failed_reads: vec![] }, [ledger("chungju"), ledger("seongju")])
}

/// Names of the promises that are found broken after `plant`.
fn broken(plant: impl FnOnce(&mut History, &mut [Ledger; 2])) -> Vec<&'static str> {
    let (mut history, mut ledgers) = sound();
    plant(&mut history, &mut ledgers);
    let verdicts = check(&history, &ledgers);
    verdicts.iter().filter(|verdict| !verdict.holds()).map(|verdict| verdict.name).collect()
}

/// The same record at every node.
fn everywhere(ledgers: &mut [Ledger; 2], change: impl Fn(&mut Vec<Entry>)) {
    ledgers.iter_mut().for_each(|ledger| change(&mut ledger.entries));
}

#[test]
fn a_sound_history_keeps_every_promise_and_everything_was_looked_at() {
    let (history, ledgers) = sound();
    let verdicts = check(&history, &ledgers);
    assert_eq!(verdicts.len(), 8);
    for verdict in verdicts {
        assert!(verdict.holds(), "{}: {:?}", verdict.name, verdict.examples);
        assert!(verdict.examined > 0, "{} looked at nothing", verdict.name);
    }
}

#[test]
fn a_lost_acknowledgement_is_seen() {
    let found = broken(|_, ledgers| everywhere(ledgers, |entries| entries.truncate(6)));
    assert!(found.contains(&"lost"), "{found:?}");
    // Also one that a single node alone has lost.
    let found = broken(|_, ledgers| ledgers[1].entries.truncate(6));
    assert_eq!(found, ["differing"]);
}

#[test]
fn a_lost_refusal_is_seen() {
    let found = broken(|_, ledgers| everywhere(ledgers, |entries| entries.retain(|entry| entry.sequence != 6)));
    assert!(found.contains(&"lost"), "{found:?}");
}

#[test]
fn an_event_that_stands_twice_is_seen() {
    let found = broken(|_, ledgers| everywhere(ledgers, |entries| entries.push(entry(8, 1, event(7, Kind::Added)))));
    assert!(found.contains(&"doubled"), "{found:?}");
}

#[test]
fn an_event_that_nobody_asked_for_is_seen() {
    let found = broken(|_, ledgers| {
        everywhere(ledgers, |entries| entries.push(Entry { serial: None, ..entry(8, 0, event(7, Kind::Other)) }));
    });
    assert_eq!(found, ["doubled"]);
}

#[test]
fn a_ticket_redeemed_by_two_customers_is_seen() {
    let found = broken(|history, ledgers| {
        history.calls[5].answer = recorded(6, 6);
        history.calls[7].answer = recorded(7, 7);
        history.reads[3].seen = Seen::Revision(7);
        everywhere(ledgers, |entries| {
            entries[5].decision = event(6, Kind::Redeemed);
            entries[6].decision = event(7, Kind::Blocked);
        });
    });
    assert_eq!(found, ["contradictions", "unlinearizable"]);
}

#[test]
fn an_answer_of_not_recorded_that_is_there_is_seen() {
    let found = broken(|_, ledgers| everywhere(ledgers, |entries| entries.push(entry(8, 6, event(7, Kind::Removed)))));
    assert_eq!(found, ["ghosts"]);
}

#[test]
fn a_gap_between_revisions_is_seen() {
    let found = broken(|history, ledgers| {
        history.calls[7].answer = recorded(7, 7);
        history.reads[3].seen = Seen::Revision(6);
        everywhere(ledgers, |entries| entries[6].decision = event(7, Kind::Blocked));
    });
    assert_eq!(found, ["gaps"]);
}

#[test]
fn one_differing_byte_at_one_node_is_seen() {
    assert_eq!(broken(|_, ledgers| ledgers[1].entries[3].fingerprint += 1), ["differing"]);
    assert_eq!(broken(|_, ledgers| ledgers[1].digests[0].history_digest = vec![1].into()), ["differing"]);
}

/// A clock an hour ahead stamps one event; event time stands still there, or runs back.
#[test]
fn an_event_of_the_future_and_time_that_runs_backwards_are_seen() {
    const HOUR: i64 = 3_600_000_000_000;
    let from = |at: usize, by: i64| {
        broken(|_, ledgers| {
            everywhere(ledgers, |entries| entries[at..].iter_mut().for_each(|entry| entry.accepted_at += by));
        })
    };
    assert_eq!(from(3, HOUR), ["clock"]);
    assert_eq!(from(3, -HOUR), ["clock"]);
    assert_eq!(from(3, HOUR / 1_800), <[&str; 0]>::default(), "two seconds are within the bound");
}

#[test]
fn a_stale_read_is_seen_by_its_time_and_by_its_content() {
    // A deposed leader answers from before the block, after the block was acknowledged.
    let found = broken(|history, _| history.reads[2] = look(Subject::Friend(7), (15, 16), 6, Seen::Friend));
    assert_eq!(found, ["contradictions", "unlinearizable"]);
    // It claims the newest position, and gives an old answer.
    let found = broken(|history, _| history.reads[2].seen = Seen::Friend);
    assert_eq!(found, ["contradictions", "unlinearizable"]);
    // The channel's revision is one of everything, which only the record can tell.
    let found = broken(|history, _| history.reads[3].seen = Seen::Revision(5));
    assert_eq!(found, ["contradictions"]);
    // Without any position, by the order of answers alone.
    let found = broken(|history, _| history.reads[2] = look(Subject::Friend(7), (15, 16), 0, Seen::Nothing));
    assert_eq!(found, ["unlinearizable"]);
}

#[test]
fn a_write_placed_before_what_was_already_told_is_seen() {
    let found = broken(|history, _| history.calls[7].started = MS * 30);
    assert!(found.contains(&"contradictions"), "{found:?}");
}

#[test]
fn another_answer_to_the_same_intent_is_seen() {
    let found = broken(|history, _| history.calls[8].answer = Answer::Refused(Reason::AlreadyFriend));
    assert!(found.contains(&"contradictions"), "{found:?}");
}

#[test]
fn a_refusal_that_does_not_follow_is_seen() {
    let found = broken(|history, ledgers| {
        history.calls[5].answer = Answer::Refused(Reason::TicketNotFound);
        everywhere(ledgers, |entries| entries[5].decision = Decision::Refusal(Reason::TicketNotFound));
    });
    assert_eq!(found, ["contradictions", "unlinearizable"]);
}
