//! A desk on a chronicle of its own, and what is asked of it.

use std::{collections::VecDeque, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use sillok_chronicle::{Chronicle, Entry, Identity, LogId, Options, sim::SimDisk};
use sillok_views::Views;
use sillok_wire::{
    errors::{self, Outcome},
    v1::{self, Reason},
};
use tokio::sync::oneshot;

use crate::{
    chain::{Chain, ChainFold, record_keys},
    commit::Commit,
    execution::Execution,
    records::Records,
    sequencer::{
        asked::{Asked, Undecided},
        desk::{Closed, Desk, Filled},
        frame::{Frame, Sites},
        queue::Queued,
    },
    types::kind,
};

pub(super) const TERM: u64 = 3;
pub(super) const NOW: i64 = 1_700_000_000_000_000_000;

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
pub(super) struct Bench {
    chronicle: Chronicle,
    pub(super) chain: Arc<Chain>,
    pub(super) views: Views,
    pub(super) records: Arc<Records>,
    pub(super) sites: Arc<dyn Sites>,
    pub(super) desk: Desk,
    pub(super) backlog: VecDeque<Queued>,
    pub(super) in_flight: VecDeque<Bytes>,
    pub(super) now: i64,
}

impl Bench {
    pub(super) fn new() -> Bench {
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

    pub(super) fn append(&mut self, kind: u8, payload: Bytes) -> u64 {
        let index = self.chronicle.last().map_or(0, |last| last.index + 1);
        let entry = Entry { id: LogId::new(TERM, index), kind, payload };
        self.chain.append(std::slice::from_ref(&entry)).unwrap();
        let (done, flushed) = std::sync::mpsc::channel();
        self.chronicle.append(vec![entry], move |result| done.send(result).unwrap());
        flushed.recv().unwrap().unwrap();
        index
    }

    /// Folds all that is appended.
    pub(super) fn fold(&self) {
        let next = self.views.applied().map_or(0, |applied| applied.index + 1);
        let end = self.chronicle.last().unwrap().index + 1;
        if next < end {
            for entry in self.chronicle.read(next, end, usize::MAX).unwrap() {
                self.views.fold(entry.id.index, entry.id.term, entry.kind, &entry.payload, None).unwrap();
            }
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.chronicle.last().unwrap().index
    }

    pub(super) fn ask(&mut self, commands: Vec<v1::Command>) -> oneshot::Receiver<Vec<v1::Answer>> {
        let (frame, answers) = Frame::new(commands.len(), None, None);
        let commands = Undecided::new(Asked::Frame(Asked::Calls(commands).into_frame()));
        self.backlog.push_back(Queued { commands, since: tokio::time::Instant::now(), frame });
        answers
    }

    /// Decides all that waits; true where a record came of it.
    pub(super) fn decide(&mut self) -> bool {
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
    pub(super) fn commit(&mut self) {
        let record = self.in_flight.pop_front().unwrap();
        let index = self.append(kind::RECORD, record);
        assert!(!self.chain.is_skipped(index));
        self.desk.resolved().unwrap().release(index, &self.sites);
    }

    /// Begins anew on what is committed, as after a discard.
    pub(super) fn begin_again(&mut self) {
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

pub(super) fn open() -> v1::Command {
    let context = context("open");
    v1::OpenChannelRequest { context, channel_id: "shop".to_owned(), name: "가게".to_owned() }.into()
}

pub(super) fn add(user_key: &str, retry_key: &str) -> v1::Command {
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

pub(super) fn answered(answers: &mut oneshot::Receiver<Vec<v1::Answer>>) -> Vec<v1::Answer> {
    answers.try_recv().expect("answered")
}

pub(super) fn waits(answers: &mut oneshot::Receiver<Vec<v1::Answer>>) -> bool {
    matches!(answers.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

pub(super) fn revision(answer: &v1::Answer) -> Option<u64> {
    match &answer.outcome {
        Some(v1::answer::Outcome::Receipt(receipt)) => Some(receipt.revision),
        _ => None,
    }
}

pub(super) fn refused(answer: &v1::Answer) -> (Reason, Option<Outcome>) {
    let Some(v1::answer::Outcome::Error(status)) = &answer.outcome else { panic!("not refused: {answer:?}") };
    let status = errors::from_rpc(status.clone());
    (errors::reason_of(&status).unwrap(), errors::outcome_of(&status))
}
