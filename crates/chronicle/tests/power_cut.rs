//! Everything acknowledged survives, nothing acknowledged changes: random appends, truncations, votes, kills and power
//! cuts, over a disk that loses and tears whatever was not synced.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::{Arc, mpsc};

use common::*;
use parking_lot::Mutex;
use proptest::prelude::*;
use sillok_chronicle::{
    Chronicle, Entry, LogId, Vote,
    sim::{Operation, SimDisk},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends so many entries and goes on at once.
    Append(u64),
    /// Removes this share of the uncommitted tail, in percent.
    Truncate(u64),
    Vote,
    /// Waits for all answers.
    Wait,
    /// Commits this share of the durable tail, in percent.
    Commit(u64),
    Kill,
    PowerCut,
    /// Cuts the power after so many more changes of the disk.
    PowerCutSoon(u64),
    /// Makes a sync fail after so many that succeed; what it was to sync stays readable, but is not on the disk.
    FailSync(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..30u64).prop_map(Step::Append),
        3 => (1..=100u64).prop_map(Step::Truncate),
        1 => Just(Step::Vote),
        4 => Just(Step::Wait),
        4 => (1..=100u64).prop_map(Step::Commit),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        3 => (0..40u64).prop_map(Step::PowerCutSoon),
        2 => (0..8u64).prop_map(Step::FailSync),
        1 => Just(Step::Close),
    ]
}

/// What the caller was told.
#[derive(Default)]
struct Told {
    /// The log as far as it was acknowledged: it must be there, and no entry of it may differ.
    durable: Vec<Entry>,
    vote: u64,
}

struct Node {
    sim: SimDisk,
    chronicle: Chronicle,
    told: Arc<Mutex<Told>>,
    /// The log as it was asked for.
    log: Vec<Entry>,
    committed: usize,
    term: u64,
    votes: u64,
}

impl Node {
    fn append(&mut self, count: u64) {
        let next = self.log.len() as u64;
        let new = entries(self.term, next..next + count);
        self.log.extend_from_slice(&new);
        let told = Arc::clone(&self.told);
        self.chronicle.append(new.clone(), move |result| {
            if result.is_ok() {
                let mut told = told.lock();
                assert_eq!(told.durable.len() as u64, next, "answered in order");
                told.durable.extend(new);
            }
        });
    }

    fn truncate(&mut self, share: u64) {
        let uncommitted = self.log.len() - self.committed;
        let from = self.log.len() - uncommitted * share as usize / 100;
        if from == self.log.len() {
            return;
        }
        self.log.truncate(from);
        self.term += 1;
        // From the moment it is asked for, the rest may or may not be there; what is before must be. An answer to an
        // append that was queued before comes later, on the writer's thread, and counts until the truncation's own.
        let told = Arc::clone(&self.told);
        self.chronicle.truncate_from(from as u64, move |result| {
            if result.is_ok() {
                told.lock().durable.truncate(from);
            }
        });
    }

    fn vote(&mut self) {
        self.votes += 1;
        let (told, term) = (Arc::clone(&self.told), self.votes);
        self.chronicle.save_vote(Vote { term, node_id: 1, committed: false }, move |result| {
            if result.is_ok() {
                told.lock().vote = term;
            }
        });
    }

    fn wait(&self) {
        let (sender, receiver) = mpsc::channel();
        // Commands are carried out in order; this one changes nothing that matters here.
        self.chronicle
            .save_vote(Vote { term: self.votes, node_id: 1, committed: false }, move |_| sender.send(()).unwrap());
        receiver.recv().unwrap();
    }

    fn commit(&mut self, share: u64) {
        self.wait();
        // Never beyond what both the caller wants and the disk has.
        let durable = self.chronicle.flushed().map_or(0, |id| id.index as usize + 1).min(self.log.len());
        let upto = self.committed + durable.saturating_sub(self.committed) * share as usize / 100;
        if upto > self.committed && self.chronicle.failed().is_none() {
            self.committed = upto;
            self.chronicle.set_committed(self.log[upto - 1].id);
        }
    }

    /// Opens what is left and compares.
    fn restart(&mut self, possible_before: usize) {
        self.chronicle.close();
        let told = std::mem::take(&mut *self.told.lock());
        self.chronicle = open(&self.sim);
        let found = read_all(&self.chronicle);
        let common = found.iter().zip(&told.durable).take_while(|(found, told)| found == told).count();
        // A truncation that was asked for and not answered may have taken effect; nothing else takes entries away.
        assert!(
            common >= told.durable.len().min(possible_before),
            "acknowledged {} entries (kept by every truncation: {possible_before}), found {} of which {common} agree",
            told.durable.len(),
            found.len(),
        );
        assert!(common >= self.committed, "committed {}, found {common}", self.committed);
        assert!(self.chronicle.vote().map_or(0, |vote| vote.term) >= told.vote, "a vote was lost");
        assert_eq!(self.chronicle.flushed(), self.chronicle.last());
        let last = self.chronicle.last();
        assert_eq!(last, found.last().map(|entry| entry.id));
        for (index, entry) in (0..).zip(&found) {
            let mut indexes = Vec::new();
            self.chronicle.find(own_key(entry.id), &mut indexes).unwrap();
            assert_eq!(indexes, [index]);
            assert_eq!(entry.payload, payload(LogId::new(entry.id.term, index)));
        }
        self.term += 1;
        *self.told.lock() = Told { durable: found.clone(), vote: told.vote };
        self.log = found;
    }
}

fn run(seed: u64, steps: &[Step]) {
    let sim = formatted(seed);
    let mut node =
        Node { chronicle: open(&sim), sim, told: Arc::default(), log: Vec::new(), committed: 0, term: 1, votes: 0 };
    // How many entries no truncation asked for since the last start has touched.
    let mut untouched = usize::MAX;
    let mut armed = false;
    for step in steps {
        match *step {
            Step::Append(count) => node.append(count),
            Step::Truncate(share) => {
                node.truncate(share);
                untouched = untouched.min(node.log.len());
            }
            Step::Vote => node.vote(),
            Step::Wait => node.wait(),
            Step::Commit(share) => node.commit(share),
            Step::PowerCutSoon(changes) => {
                armed = true;
                node.sim.cut_power_after(changes);
            }
            Step::FailSync(after) => {
                armed = true;
                node.sim.fail(Operation::Sync, "", after);
            }
            Step::Kill | Step::PowerCut | Step::Close => {
                match step {
                    Step::Kill => node.sim.kill(),
                    Step::PowerCut => node.sim.power_cut(),
                    _ => {
                        node.chronicle.close();
                        if std::mem::take(&mut armed) {
                            // If it has not failed yet, the power may fail while the chronicle is being opened.
                            if let Ok(chronicle) = try_open(&node.sim) {
                                chronicle.close();
                            }
                            node.sim.power_cut();
                        }
                    }
                }
                armed = false;
                node.restart(untouched);
                untouched = usize::MAX;
            }
        }
    }
    node.sim.power_cut();
    node.restart(untouched);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_survives(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        run(seed, &steps);
    }
}
