//! Appending and reading, on the disk under the system's temporary directory: `cargo bench -p sillok-chronicle`.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sillok_chronicle::{Chronicle, Disk, Entry, Identity, LogId, Options, RealDisk, format};

const READ_BYTES: usize = 1 << 20;

fn open(dir: &Path, tail_cache_bytes: u64) -> Chronicle {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let identity = Identity { node_id: 1, incarnation: 1, site: "here".to_owned(), cluster_id: None };
    format(&disk, dir, &identity).unwrap_or_else(|error| panic!("{error}"));
    let options = Options { segment_bytes: 16 << 20, tail_cache_bytes, ..Options::new(dir) };
    Chronicle::open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Entries of so many bytes behind `from`, durable when this returns.
fn append(chronicle: &Chronicle, from: u64, count: u64, payload: &Bytes) {
    let entry = |index| Entry { id: LogId::new(1, index), kind: 1, payload: payload.clone() };
    let (done, wait) = mpsc::channel();
    chronicle.append((from..from + count).map(entry).collect(), move |result| drop(done.send(result)));
    wait.recv().unwrap_or_else(|error| panic!("{error}")).unwrap_or_else(|error| panic!("{error}"));
    chronicle.set_committed(LogId::new(1, from + count - 1));
}

/// No run of zeros, which would be stored as less.
fn payload(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at % 251 + 1) as u8).collect()
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append, synced");
    // Everything appended stays on the disk until the end.
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for (name, count, bytes) in
        [("1 entry of 250 bytes", 1, 250), ("1 of 64 KiB", 1, 64 << 10), ("64 of 1 KiB", 64, 1 << 10)]
    {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let chronicle = open(dir.path(), 1 << 20);
        let (payload, mut next) = (payload(bytes), 0);
        group.throughput(Throughput::Bytes(count * bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                append(&chronicle, next, count, &payload);
                next += count;
            });
        });
        chronicle.close();
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    const ENTRIES: u64 = 1_024;
    const BYTES: usize = 64 << 10;
    let mut group = criterion.benchmark_group("read, 1 MiB");
    group.throughput(Throughput::Bytes(READ_BYTES as u64));
    for (name, tail_cache_bytes) in [("from memory", 128 << 20), ("from sealed segments", 1 << 20)] {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let chronicle = open(dir.path(), tail_cache_bytes);
        let payload = payload(BYTES);
        for from in (0..ENTRIES).step_by(16) {
            append(&chronicle, from, 16, &payload);
        }
        // Those at the end are in memory in any case.
        let end = ENTRIES / 2;
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let read = chronicle.read(next, end, READ_BYTES).unwrap_or_else(|error| panic!("{error}"));
                next = (next + read.len() as u64) % end;
                read.len()
            });
        });
        chronicle.close();
    }
    group.finish();
}

criterion_group!(benches, appends, reads);
criterion_main!(benches);
