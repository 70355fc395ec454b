//! How fast a chronicle is on this machine's disk:
//! `cargo run --release -p sillok-chronicle --example pace -- DIR [ENTRIES] [PAYLOAD_BYTES] [IN_FLIGHT]`
//!
//! Appends entries one by one with so many in flight, each committed once durable, then opens the chronicle again and
//! looks up and reads some. DIR must be empty; it is left as it is.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Instant,
};

use bytes::Bytes;
use sillok_chronicle::{Chronicle, Disk, Entry, Identity, LogId, Options, RealDisk, format};

fn key(index: u64) -> u64 {
    (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn options(dir: &std::path::Path) -> Options {
    Options { keys: |entry, keys| keys.push(key(entry.id.index)), fold: Box::new(Keys), ..Options::new(dir) }
}

struct Keys;

impl sillok_chronicle::Fold for Keys {
    fn restore(&mut self, _state: &[u8]) {}
    fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
        keys.push(key(entry.id.index));
    }
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("which directory?")?);
    let mut number = |default| args.next().map_or(Ok(default), |arg| arg.parse::<u64>());
    let (entries, payload_bytes, in_flight) = (number(200_000)?, number(200)?, number(256)?);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    format(&disk, &dir, &Identity { node_id: 1, incarnation: 1, site: "here".to_owned(), cluster_id: None })?;
    let chronicle = Chronicle::open(options(&dir))?;

    let payload = Bytes::from((0..payload_bytes).map(|i| i as u8 | 1).collect::<Vec<u8>>());
    let (sender, answers) = mpsc::channel();
    let begun = Instant::now();
    let mut latencies = Vec::with_capacity(entries as usize);
    let (mut asked, mut answered) = (0, 0);
    while answered < entries {
        while asked < entries && asked - answered < in_flight {
            let (id, sent, sender) = (LogId::new(1, asked), Instant::now(), sender.clone());
            let entry = Entry { id, kind: 1, payload: payload.clone() };
            chronicle.append(vec![entry], move |result| drop(sender.send((id, sent.elapsed(), result))));
            asked += 1;
        }
        for (id, latency, result) in std::iter::once(answers.recv()?).chain(answers.try_iter()) {
            result?;
            latencies.push(latency);
            answered += 1;
            chronicle.set_committed(id);
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000];
    println!(
        "append: {:.0} entries/s, {:.1} MB/s, latency p50 {:?} p99 {:?} max {:?}",
        entries as f64 / elapsed,
        (entries * payload_bytes) as f64 / elapsed / 1e6,
        at(500),
        at(990),
        at(1000)
    );
    chronicle.close();
    drop(chronicle);

    let begun = Instant::now();
    let chronicle = Chronicle::open(options(&dir))?;
    println!("open: {:?} with {} sealed segments", begun.elapsed(), chronicle.sealed().len());

    let begun = Instant::now();
    let mut found = Vec::new();
    for index in (0..entries).step_by((entries / 10_000).max(1) as usize) {
        chronicle.find(key(index) ^ 1, &mut found)?;
    }
    println!("find, absent: {:?} each", begun.elapsed() / 10_000);
    found.clear();
    let begun = Instant::now();
    for index in (0..entries).step_by((entries / 1_000).max(1) as usize) {
        chronicle.find(key(index), &mut found)?;
    }
    println!("find, present: {:?} each ({} found)", begun.elapsed() / 1_000, found.len());

    let begun = Instant::now();
    let mut next = 0;
    while next < entries {
        next += chronicle.read(next, entries, 4 << 20)?.len() as u64;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    println!(
        "read all: {:.0} entries/s, {:.0} MB/s",
        next as f64 / elapsed,
        (next * payload_bytes) as f64 / elapsed / 1e6
    );
    chronicle.close();
    Ok(())
}
