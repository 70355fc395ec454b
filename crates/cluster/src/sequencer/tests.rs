//! The desk by itself: decided, in flight, committed, lost; no consensus and no network.

use std::{collections::VecDeque, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use sillok_chronicle::{Chronicle, Entry, Identity, LogId, Options, sim::SimDisk};
use sillok_views::Views;
use sillok_wire::{
    errors::{self, Outcome},
    v1::{self, Reason},
};
use tokio::sync::oneshot;

use super::{
    asked::{Asked, Undecided},
    desk::{Closed, Desk, Filled},
    flight::Lost,
    frame::{Frame, Sites, is_definite},
    queue::Queued,
};
use crate::{
    chain::{Chain, ChainFold, record_keys},
    commit::Commit,
    execution::Execution,
    records::Records,
    types::kind,
};

const TERM: u64 = 3;
const NOW: i64 = 1_700_000_000_000_000_000;

struct NoSites;

impl Sites for NoSites {
    fn durability(&self, _index: u64) -> v1::Durability {
        v1::Durability::default()
    }

    fn wait_all(&self, _index: u64, _at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

/// A desk on a chronicle of its own.
struct Bench {
    chronicle: Chronicle,
    chain: Arc<Chain>,
    views: Views,
    records: Arc<Records>,
    sites: Arc<dyn Sites>,
    desk: Desk,
    backlog: VecDeque<Queued>,
    in_flight: VecDeque<Bytes>,
    now: i64,
}

impl Bench {
    fn new() -> Bench {
        let disk = SimDisk::new(1).boot();
        let dir = PathBuf::from("/chronicle");
        let identity = Identity { node_id: 1, incarnation: 1, site: "chungju".to_owned(), cluster_id: Some([1; 16]) };
        sillok_chronicle::format(&disk, &dir, &identity).unwrap();
        let mut options = Options::new(dir);
        options.disk = disk;
        options.fold = Box::new(ChainFold::default());
        options.keys = record_keys;
        let chronicle = Chronicle::open(options).unwrap();
        let chain = Arc::new(Chain::load(chronicle.clone()).unwrap());
        let views = Views::open(sillok_views::Options::in_memory(), |_| true);
        let records = Records::new(chronicle.clone(), chain.clone(), Execution::Threads);
        let commit = Commit { log_id: LogId::new(TERM, 0), head: [0; 32], next_sequence: 1, accepted_at: 0 };
        let desk = Desk::new(views.clone(), records.clone(), 1 << 20, TERM, &commit);
        let sites: Arc<dyn Sites> = Arc::new(NoSites);
        let mut bench = Bench {
            chronicle,
            chain,
            views,
            records,
            sites,
            desk,
            backlog: VecDeque::new(),
            in_flight: VecDeque::new(),
            now: NOW,
        };
        bench.append(kind::BLANK, Bytes::new());
        bench.fold();
        bench
    }

    fn append(&mut self, kind: u8, payload: Bytes) -> u64 {
        let index = self.chronicle.last().map_or(0, |last| last.index + 1);
        let entry = Entry { id: LogId::new(TERM, index), kind, payload };
        self.chain.append(std::slice::from_ref(&entry)).unwrap();
        let (done, flushed) = std::sync::mpsc::channel();
        self.chronicle.append(vec![entry], move |result| done.send(result).unwrap());
        flushed.recv().unwrap().unwrap();
        index
    }

    /// Folds all that is appended.
    fn fold(&self) {
        let next = self.views.applied().map_or(0, |applied| applied.index + 1);
        let end = self.chronicle.last().unwrap().index + 1;
        if next < end {
            for entry in self.chronicle.read(next, end, usize::MAX).unwrap() {
                self.views.fold(entry.id.index, entry.id.term, entry.kind, &entry.payload, None).unwrap();
            }
        }
    }

    fn committed(&self) -> u64 {
        self.chronicle.last().unwrap().index
    }

    fn ask(&mut self, commands: Vec<v1::Command>) -> oneshot::Receiver<Vec<v1::Answer>> {
        let (frame, answers) = Frame::new(commands.len(), None, None);
        let commands = Undecided::new(Asked::Frame(Asked::Calls(commands).into_frame()));
        self.backlog.push_back(Queued { commands, since: tokio::time::Instant::now(), frame });
        answers
    }

    /// Decides all that waits; true where a record came of it.
    fn decide(&mut self) -> bool {
        loop {
            let committed = self.committed();
            match self.desk.fill(&mut self.backlog, 256, self.now, committed) {
                Filled::Drained => break,
                Filled::Paused => {}
                Filled::NeedsEntry(index) => drop(self.records.load(index).unwrap()),
                other => panic!("{other:?}"),
            }
        }
        match self.desk.close().0 {
            Closed::Record(record) => {
                self.in_flight.push_back(record);
                true
            }
            Closed::Answers | Closed::Confirm => false,
        }
    }

    /// The oldest record is committed and its answers go out; the views do not follow yet.
    fn commit(&mut self) {
        let record = self.in_flight.pop_front().unwrap();
        let index = self.append(kind::RECORD, record);
        assert!(!self.chain.is_skipped(index));
        self.desk.resolved().unwrap().release(index, &self.sites);
    }

    /// Begins anew on what is committed, as after a discard.
    fn begin_again(&mut self) {
        self.fold();
        let (log_id, _, state) = self.chain.link(self.committed()).unwrap();
        let commit =
            Commit { log_id, head: state.head, next_sequence: state.next_sequence, accepted_at: state.accepted_at };
        self.in_flight.clear();
        self.desk = Desk::new(self.views.clone(), self.records.clone(), 1 << 20, TERM, &commit);
    }
}

fn context(retry_key: &str) -> Option<v1::CommandContext> {
    Some(v1::CommandContext { retry_key: retry_key.to_owned(), ..Default::default() })
}

fn open() -> v1::Command {
    let context = context("open");
    v1::OpenChannelRequest { context, channel_id: "shop".to_owned(), name: "가게".to_owned() }.into()
}

fn add(user_key: &str, retry_key: &str) -> v1::Command {
    v1::AddFriendRequest {
        context: context(retry_key),
        channel_id: "shop".to_owned(),
        user_key: user_key.to_owned(),
        source: v1::FriendSource::Search.into(),
        attributes: Vec::new(),
        consents: Vec::new(),
    }
    .into()
}

fn answered(answers: &mut oneshot::Receiver<Vec<v1::Answer>>) -> Vec<v1::Answer> {
    answers.try_recv().expect("answered")
}

fn waits(answers: &mut oneshot::Receiver<Vec<v1::Answer>>) -> bool {
    matches!(answers.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

fn revision(answer: &v1::Answer) -> Option<u64> {
    match &answer.outcome {
        Some(v1::answer::Outcome::Receipt(receipt)) => Some(receipt.revision),
        _ => None,
    }
}

fn refused(answer: &v1::Answer) -> (Reason, Option<Outcome>) {
    let Some(v1::answer::Outcome::Error(status)) = &answer.outcome else { panic!("not refused: {answer:?}") };
    let status = errors::from_rpc(status.clone());
    (errors::reason_of(&status).unwrap(), errors::outcome_of(&status))
}

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
