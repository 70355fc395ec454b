use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sillok_chronicle::{Chronicle, Entry, Fold, Identity, LogId, Options, sim::SimDisk};
use sillok_wire::{record, records};
use tokio::time::Instant;

use super::{
    findings::{Finding, Thing, doubted},
    first_after,
    memory::Remembered,
    pass::walk,
};
use crate::{chain::ChainFold, execution::Execution, types::kind};

const COUNT: u64 = 2_500;

/// Some 2.5 MiB of blank entries, sealed but for the last segment.
fn chronicle(sim: &SimDisk, fold: Box<dyn Fold>) -> Chronicle {
    let dir = Path::new("/chronicle");
    let identity = Identity { node_id: 1, incarnation: 1, site: "chungju".to_owned(), cluster_id: None };
    sillok_chronicle::format(&sim.boot(), dir, &identity).unwrap();
    let options = Options { disk: sim.boot(), segment_bytes: 800 << 10, fold, ..Options::new(dir) };
    let chronicle = Chronicle::open(options).unwrap();
    let entry = |index| Entry {
        id: LogId::new(1, index),
        kind: kind::BLANK,
        payload: Bytes::from(vec![index as u8 | 1; 1_000]),
    };
    let (done, written) = mpsc::channel();
    chronicle.append((0..COUNT).map(entry).collect(), move |result| drop(done.send(result)));
    written.recv().unwrap().unwrap();
    chronicle.set_committed(LogId::new(1, COUNT - 1));
    let begun = std::time::Instant::now();
    while chronicle.sealed().len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain until three segments are sealed");
        std::thread::yield_now();
    }
    chronicle
}

/// Where what blocks is done by the tasks themselves, as in the simulation: time then passes only while they sleep.
fn inline() -> Execution {
    Execution::Tasks(Arc::new(|| Duration::ZERO))
}

/// A scrub that reads as fast as it can makes every commit wait for the disk.
#[tokio::test(start_paused = true)]
async fn never_is_more_read_than_the_rate_allows() {
    const RATE: u64 = 1 << 20;
    const PIECE: u64 = 256 << 10;
    let sim = SimDisk::new(3);
    let chronicle = chronicle(&sim, Box::new(ChainFold::default()));
    let (before, begun) = (sim.bytes_read(), Instant::now());
    let (mut looks, execution) = (0, inline());
    let differences = walk(&chronicle, &execution, RATE, 1, 0, Arc::new(|_| {}), |done, total| {
        looks += 1;
        assert!(done <= total);
        let allowed = begun.elapsed().as_secs_f64() * RATE as f64 + 1.0;
        let read = sim.bytes_read() - before;
        assert!(read as f64 <= allowed, "{read} bytes read by {:?}", begun.elapsed());
    });
    assert_eq!(differences.await.unwrap(), []);
    let (read, passed) = (sim.bytes_read() - before, begun.elapsed());
    assert!(read >= chronicle.scrub().total_bytes() && looks > read / PIECE, "{read} bytes in {looks} pieces");
    assert!(passed < Duration::from_secs_f64(read as f64 / RATE as f64 * 1.1), "{passed:?} for {read} bytes");
}

/// A node that was restarted every night read the first third of its chronicle over and over, and the rest never.
#[tokio::test(start_paused = true)]
async fn a_pass_goes_on_where_another_was_broken_off() {
    let sim = SimDisk::new(5);
    let chronicle = chronicle(&sim, Box::new(ChainFold::default()));
    let passed = Arc::new(Mutex::new(Vec::new()));
    let reached = {
        let passed = passed.clone();
        Arc::new(move |next| passed.lock().push(next))
    };
    let total = chronicle.scrub().total_bytes();
    let first = chronicle.sealed()[0].bytes;
    let mut least = u64::MAX;
    let (before, execution) = (sim.bytes_read(), inline());
    let differences = walk(&chronicle, &execution, 1 << 30, 1, 1, reached, |done, of| {
        least = least.min(done);
        assert_eq!(of, total, "what was passed over counts as done");
    });
    assert_eq!(differences.await.unwrap(), [], "the chain goes on from the footer before");
    assert_eq!(*passed.lock(), [2, 3]);
    assert!(least > first, "{least}");
    let read = sim.bytes_read() - before;
    // Entries straddle pieces, and are read again.
    assert!(read < total - first / 2, "{read} bytes read of {total}, of which {first} had been");
}

#[test]
fn a_pass_is_due_a_day_after_the_last_whichever_process_it_was_in() {
    const DAY: Duration = Duration::from_secs(86_400);
    let at = |hours: i64| hours * 3_600_000_000_000;
    let after =
        |next_segment, begun_at| first_after(&Remembered { begun_at, next_segment, completed_at: None }, DAY, at(100));
    let soon = Duration::from_secs(60);
    assert_eq!(after(None, None), soon, "nothing is remembered");
    assert_eq!(after(Some(7), Some(at(99))), soon, "one was broken off");
    assert_eq!(after(None, Some(at(90))), Duration::from_secs(14 * 3_600));
    assert_eq!(after(None, Some(at(10))), soon, "overdue");
    assert_eq!(after(None, Some(at(200))), DAY, "the clock went back");
}

/// A footer whose chain is another one.
struct Lying(ChainFold);

impl Fold for Lying {
    fn restore(&mut self, state: &[u8]) {
        self.0.restore(state);
    }

    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        self.0.entry(entry, keys);
    }

    fn state(&self) -> Vec<u8> {
        let mut other = ChainFold::default();
        // As if a record had been there.
        let record = records::encode(&record::Record {
            predecessor: Bytes::copy_from_slice(&records::GENESIS),
            feature_level: 1,
            first_sequence: 1,
            ..Default::default()
        });
        other.entry(&Entry { id: LogId::new(1, 0), kind: kind::RECORD, payload: record }, &mut Vec::new());
        other.state()
    }
}

#[tokio::test(start_paused = true)]
async fn a_footer_that_contradicts_the_records_before_it_is_told_once() {
    let sim = SimDisk::new(4);
    let chronicle = chronicle(&sim, Box::new(Lying(ChainFold::default())));
    let differences = walk(&chronicle, &inline(), 1 << 30, 5, 0, Arc::new(|_| {}), |_, _| {}).await.unwrap();
    let last = chronicle.sealed()[0].last.index;
    let [Finding { nodes: (5, 5), what, .. }] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!(*what, Thing::Segment { ordinal: 0, last });
    assert!(differences[0].summary().contains("segment 0 of node 5"), "{}", differences[0].summary());
}

#[test]
fn the_odd_one_out_is_in_doubt_and_of_two_both_are() {
    let of = |pairs: &[(u64, u64)]| doubted(pairs.iter().copied());
    let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(of(&[]), set(&[]));
    assert_eq!(of(&[(1, 2)]), set(&[1, 2]));
    assert_eq!(of(&[(1, 2), (2, 1), (2, 3)]), set(&[2]));
    assert_eq!(of(&[(1, 2), (2, 3), (1, 3)]), set(&[1, 2, 3]));
    assert_eq!(of(&[(3, 3)]), set(&[3]), "it contradicts itself");
}
