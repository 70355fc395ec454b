//! The desk by itself: decided, in flight, committed, lost; no consensus and no network.

mod kit;

use bytes::Bytes;
use sillok_chronicle::LogId;
use sillok_wire::{
    errors::Outcome,
    v1::{self, Reason},
};
use tokio::sync::oneshot;

use self::kit::{Bench, NOW, TERM, add, answered, open, refused, revision, waits};
use super::{
    desk::{Closed, Desk, Filled},
    flight::Lost,
    frame::is_definite,
};
use crate::{commit::Commit, types::kind};

#[test]
fn records_in_flight_are_decided_upon_each_other() {
    let mut bench = Bench::new();
    let mut first = bench.ask(vec![open(), add("u1", "k1")]);
    assert!(bench.decide());
    let mut second = bench.ask(vec![add("u1", "k2"), add("u2", "k3")]);
    assert!(bench.decide());
    assert!(waits(&mut first) && waits(&mut second), "nothing is said before the commit");
    bench.commit();
    assert_eq!(answered(&mut first).iter().map(revision).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert!(waits(&mut second));
    bench.commit();
    let second = answered(&mut second);
    assert_eq!(refused(&second[0]), (Reason::AlreadyFriend, Some(Outcome::Refused)));
    assert_eq!(revision(&second[1]), Some(3));
}

#[test]
fn a_key_in_flight_answers_with_its_record_and_never_before() {
    let mut bench = Bench::new();
    let mut original = bench.ask(vec![open()]);
    bench.decide();
    let mut again = bench.ask(vec![open()]);
    assert!(!bench.decide(), "a repeat makes no record");
    let mut reused = bench.ask(vec![add("u1", "open")]);
    assert!(!bench.decide());
    assert!(waits(&mut again) && waits(&mut reused));
    bench.commit();
    let original = answered(&mut original).remove(0);
    bench.desk.resolved().unwrap().release(1, &bench.sites);
    let again = answered(&mut again).remove(0);
    let (Some(v1::answer::Outcome::Receipt(first)), Some(v1::answer::Outcome::Receipt(second))) =
        (original.outcome, again.outcome)
    else {
        panic!()
    };
    assert!(!first.is_retry() && second.is_retry());
    assert_eq!(
        (first.revision, first.position, first.accepted_at),
        (second.revision, second.position, second.accepted_at)
    );
    bench.desk.resolved().unwrap().release(1, &bench.sites);
    assert_eq!(refused(&answered(&mut reused)[0]), (Reason::RetryKeyReused, Some(Outcome::NotRecorded)));
}

#[test]
fn a_committed_key_is_found_in_the_chronicle() {
    let mut bench = Bench::new();
    let mut original = bench.ask(vec![open(), add("u1", "k1"), add("u1", "k2")]);
    bench.decide();
    bench.commit();
    let original = answered(&mut original);
    bench.begin_again();
    let mut again = bench.ask(vec![add("u1", "k2"), add("u1", "k1"), add("u9", "k1")]);
    assert!(!bench.decide(), "nothing is recorded again");
    bench.desk.resolved().unwrap().release(bench.committed(), &bench.sites);
    let again = answered(&mut again);
    assert_eq!(again[0], original[2], "a refusal");
    assert_eq!(revision(&again[1]), revision(&original[1]));
    assert_eq!(refused(&again[2]).0, Reason::RetryKeyReused);
}

#[test]
fn what_rests_on_a_lost_record_is_never_said() {
    for lost in [Lost::Certainly, Lost::Perhaps] {
        let mut bench = Bench::new();
        let mut opened = bench.ask(vec![open()]);
        bench.decide();
        bench.commit();
        assert_eq!(revision(&answered(&mut opened)[0]), Some(1));
        let mut answers = bench.ask(vec![add("u1", "k1"), add("u1", "k2"), add("u1", "k1"), add("u2", "k1"), open()]);
        bench.decide();
        bench.desk.resolved().unwrap().fail(lost, "leadership was lost", &bench.sites);
        let answers = answered(&mut answers);
        for answer in &answers[..3] {
            let expected = match lost {
                Lost::Certainly => (Reason::NoLeader, Some(Outcome::NotRecorded)),
                Lost::Perhaps => (Reason::OutcomeUnknown, None),
            };
            assert_eq!(refused(answer), expected, "the refusal, too, has not happened");
            assert!(!is_definite(answer));
        }
        assert_eq!(refused(&answers[3]), (Reason::NoLeader, Some(Outcome::NotRecorded)), "reused only in flight");
        assert_eq!(revision(&answers[4]), Some(1), "committed before: true whatever becomes of this record");

        bench.begin_again();
        let mut again = bench.ask(vec![add("u1", "k2"), add("u1", "k1")]);
        bench.decide();
        bench.commit();
        let again = answered(&mut again);
        assert_eq!(revision(&again[0]), Some(2), "the key was not bound");
        assert_eq!(refused(&again[1]).0, Reason::AlreadyFriend);
    }
}

#[test]
fn a_skipped_record_binds_no_key() {
    let mut bench = Bench::new();
    let mut lost = bench.ask(vec![open()]);
    bench.decide();
    bench.ask(vec![add("u1", "k1")]);
    bench.decide();
    // The first was refused by the log, the second was taken: it names a predecessor that is not there.
    bench.in_flight.pop_front();
    bench.desk.resolved().unwrap().fail(Lost::Certainly, "refused", &bench.sites);
    assert_eq!(refused(&answered(&mut lost)[0]).1, Some(Outcome::NotRecorded));
    let skipped = bench.in_flight.pop_front().unwrap();
    let index = bench.append(kind::RECORD, skipped);
    assert!(bench.chain.is_skipped(index));

    bench.begin_again();
    let mut answers = bench.ask(vec![open(), add("u1", "k1")]);
    bench.decide();
    bench.commit();
    let answers = answered(&mut answers);
    assert_eq!(answers.iter().map(revision).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let Some(v1::answer::Outcome::Receipt(receipt)) = &answers[1].outcome else { panic!() };
    assert!(!receipt.is_retry());
    assert_eq!(receipt.position.unwrap().sequence, 2, "a skipped record takes no position");
}

#[test]
fn time_never_runs_backwards() {
    let mut bench = Bench::new();
    let accepted_at = |answer: &v1::Answer| match &answer.outcome {
        Some(v1::answer::Outcome::Receipt(receipt)) => receipt.accepted_at.unwrap(),
        _ => panic!(),
    };
    let mut first = bench.ask(vec![open()]);
    bench.decide();
    bench.commit();
    let first = accepted_at(&answered(&mut first)[0]);
    bench.now = NOW - 1_000_000_000;
    let mut second = bench.ask(vec![add("u1", "k1")]);
    bench.decide();
    bench.commit();
    assert_eq!(accepted_at(&answered(&mut second)[0]), first);
    bench.begin_again();
    let mut third = bench.ask(vec![add("u2", "k2")]);
    bench.decide();
    bench.commit();
    assert_eq!(accepted_at(&answered(&mut third)[0]), first, "nor under another leader with a slow clock");
}

#[test]
fn a_frame_larger_than_a_record_is_split_and_answered_in_order() {
    let mut bench = Bench::new();
    let mut opened = bench.ask(vec![open()]);
    bench.decide();
    bench.commit();
    answered(&mut opened);
    let commands: Vec<v1::Command> = (0..20_000).map(|n| add(&format!("u{n}"), &format!("k{n}"))).collect();
    let mut answers = bench.ask(commands);
    let mut records = 0;
    while !bench.backlog.is_empty() {
        let committed = bench.committed();
        match bench.desk.fill(&mut bench.backlog, 256, NOW, committed) {
            Filled::Paused => {}
            Filled::Full | Filled::Drained => {
                let (Closed::Record(record), decisions) = bench.desk.close() else { panic!() };
                assert!(decisions <= 8_192 && record.len() < (1 << 20) + 4_096);
                bench.in_flight.push_back(record);
                records += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(records >= 3, "{records}");
    while !bench.in_flight.is_empty() {
        assert!(waits(&mut answers));
        bench.commit();
    }
    let revisions: Vec<_> = answered(&mut answers).iter().filter_map(revision).collect();
    assert_eq!(revisions, (2..20_002).collect::<Vec<_>>());
}

#[test]
fn the_overlay_is_left_behind_as_the_views_follow() {
    let mut bench = Bench::new();
    let mut opened = bench.ask(vec![open()]);
    bench.decide();
    bench.commit();
    answered(&mut opened);
    for round in 0..50 {
        let mut answers =
            bench.ask(vec![add("same", &format!("k{round}")), add(&format!("u{round}"), &format!("r{round}"))]);
        bench.decide();
        bench.commit();
        // The views follow now and then; what is decided does not depend on when.
        if round % 7 == 3 {
            bench.fold();
        }
        let answers = answered(&mut answers);
        match round {
            0 => assert_eq!(revision(&answers[0]), Some(2)),
            _ => assert_eq!(refused(&answers[0]).0, Reason::AlreadyFriend),
        }
        assert_eq!(revision(&answers[1]), Some(3 + round), "one event a round after the first");
    }
    bench.fold();
    assert!(bench.desk.ahead_of_fold(0).is_none());
}

/// What each of these answers was, in the words of the API.
fn told(answers: &mut oneshot::Receiver<Vec<v1::Answer>>) -> (Reason, Option<Outcome>) {
    refused(&answered(answers)[0])
}

const UNKNOWN: (Reason, Option<Outcome>) = (Reason::OutcomeUnknown, None);
const NOT_RECORDED: (Reason, Option<Outcome>) = (Reason::NoLeader, Some(Outcome::NotRecorded));

/// A shop whose client lost its connection repeated the command while the first try was in flight: a batch of its own,
/// without a record. The leader was deposed, the record may never come to be, and the repeat got a receipt for it.
#[test]
fn a_repeat_in_a_batch_of_its_own_shares_the_fate_of_its_original() {
    for (lost, expected) in [(Lost::Perhaps, UNKNOWN), (Lost::Certainly, NOT_RECORDED)] {
        let mut bench = Bench::new();
        let mut original = bench.ask(vec![open()]);
        assert!(bench.decide());
        let mut again = bench.ask(vec![open()]);
        assert!(!bench.decide(), "there is nothing to record");
        bench.desk.resolved().unwrap().fail(lost, "leadership was lost", &bench.sites);
        bench.desk.resolved().unwrap().release(bench.committed(), &bench.sites);
        assert_eq!(told(&mut original), expected);
        assert_eq!(told(&mut again), expected);
    }
}

/// The repeat was in the batch that was being built when leadership went: never proposed, so "not recorded", and its
/// client took a new key, while the original was in flight and was committed by the next leader.
#[test]
fn a_repeat_that_was_never_closed_shares_the_fate_of_its_original() {
    let mut bench = Bench::new();
    let mut original = bench.ask(vec![open()]);
    assert!(bench.decide());
    let mut again = bench.ask(vec![open(), add("u1", "k1")]);
    let committed = bench.committed();
    assert_eq!(bench.desk.fill(&mut bench.backlog, 256, NOW, committed), Filled::Drained);
    let desk = Desk::new(
        bench.views.clone(),
        bench.records.clone(),
        1 << 20,
        TERM,
        &Commit { log_id: LogId::new(TERM, 0), head: [0; 32], next_sequence: 1, accepted_at: 0 },
    );
    let (mut closed, open) = std::mem::replace(&mut bench.desk, desk).into_unresolved();
    closed.pop_front().unwrap().fail(Lost::Perhaps, "leadership was lost", &bench.sites);
    open.fail(Lost::Certainly, "leadership was lost", &bench.sites);
    assert_eq!(told(&mut original), UNKNOWN);
    let again = answered(&mut again);
    assert_eq!(refused(&again[0]), UNKNOWN);
    assert_eq!(refused(&again[1]), NOT_RECORDED, "its neighbour was never proposed");
}

/// The original was committed, and the record that the repeat happened to share was refused by the log: the repeat was
/// told that nothing was recorded.
#[test]
fn a_repeat_of_what_was_committed_is_answered_though_its_own_batch_is_lost() {
    for lost in [Lost::Perhaps, Lost::Certainly] {
        let mut bench = Bench::new();
        let mut original = bench.ask(vec![open()]);
        assert!(bench.decide());
        let mut with_news = bench.ask(vec![open(), add("u1", "k1")]);
        assert!(bench.decide());
        // Rests on more than it records: the leader must confirm itself, and could not.
        let mut to_confirm = bench.ask(vec![open(), add("u2", "open")]);
        assert!(!bench.decide());
        bench.commit();
        let original = answered(&mut original).remove(0);
        bench.desk.resolved().unwrap().fail(lost, "refused", &bench.sites);
        bench.desk.resolved().unwrap().fail(Lost::Certainly, "not confirmed", &bench.sites);
        let (with_news, to_confirm) = (answered(&mut with_news), answered(&mut to_confirm));
        assert_eq!(revision(&with_news[0]), revision(&original));
        assert_eq!(revision(&to_confirm[0]), revision(&original));
        assert_eq!(refused(&with_news[1]), if lost == Lost::Perhaps { UNKNOWN } else { NOT_RECORDED });
        assert_eq!(refused(&to_confirm[1]), NOT_RECORDED);
    }
}

/// In the same term a record was refused and the leader could still confirm itself: the key was free, and yet a client
/// was told that it is bound to another command.
#[test]
fn what_was_found_on_a_lost_record_is_not_said_however_sure_the_leader_is_of_itself() {
    for lost in [Lost::Perhaps, Lost::Certainly] {
        let mut bench = Bench::new();
        let mut original = bench.ask(vec![open()]);
        assert!(bench.decide());
        let mut reused = bench.ask(vec![add("u1", "open")]);
        assert!(!bench.decide());
        bench.desk.resolved().unwrap().fail(lost, "refused", &bench.sites);
        bench.desk.resolved().unwrap().release(bench.committed(), &bench.sites);
        answered(&mut original);
        assert_eq!(told(&mut reused), NOT_RECORDED);
    }
}

/// A shop asked whether its coupon had been issued by repeating the command. The leader could not read the entry that
/// holds the key, said that nothing was recorded, and the shop issued another one under a new key.
#[test]
fn a_key_whose_entry_cannot_be_read_is_not_called_free() {
    let mut bench = Bench::new();
    let mut original = bench.ask(vec![open()]);
    bench.decide();
    bench.commit();
    answered(&mut original);
    let mut again = bench.ask(vec![open()]);
    let committed = bench.committed();
    assert_eq!(bench.desk.fill(&mut bench.backlog, 256, NOW, committed), Filled::NeedsEntry(committed));
    bench.desk.give_up_on(committed, "the disk does not answer".to_owned());
    assert_eq!(bench.desk.fill(&mut bench.backlog, 256, NOW, committed), Filled::Drained);
    bench.desk.close();
    bench.desk.resolved().unwrap().release(committed, &bench.sites);
    assert_eq!(told(&mut again), (Reason::NotReady, None));
}

/// As above, where a newer version wrote the decision.
#[test]
fn a_key_whose_decision_cannot_be_decoded_is_not_called_free() {
    let mut bench = Bench::new();
    let mut original = bench.ask(vec![open()]);
    bench.decide();
    let mut record = sillok_wire::records::decode(bench.in_flight.pop_front().unwrap()).unwrap();
    record.decisions[0].events[0] = Bytes::from_static(b"\xff");
    let index = bench.append(kind::RECORD, sillok_wire::records::encode(&record));
    bench.desk.resolved().unwrap().release(index, &bench.sites);
    answered(&mut original);
    let mut again = bench.ask(vec![open()]);
    assert!(!bench.decide());
    bench.desk.resolved().unwrap().release(index, &bench.sites);
    assert_eq!(told(&mut again), (Reason::ViewsStopped, None));
}
