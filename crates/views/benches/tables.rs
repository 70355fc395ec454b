//! Folding a record and reading what it left: `cargo bench -p sillok-views`.

#![allow(missing_docs, reason = "criterion's macros make public items")]

mod shop;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shop::{SHOP, Shop};
use sillok_domain::{Load as _, Selector, Statuses};
use sillok_views::{Options, Views};

const FRIENDS: u64 = 100_000;
/// Pushes a record, as they gather where hundreds of calls wait, and where streams bring all they can.
const PUSHES: [u64; 2] = [256, 4_096];

fn fold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    // Every fold leaves the views larger, as in life: records must be folded in the order in which they were decided.
    let shop = std::cell::RefCell::new(Shop::with_friends(FRIENDS));
    for count in PUSHES {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("a record of {count} pushes"), |bencher| {
            bencher.iter_batched(
                || {
                    let mut shop = shop.borrow_mut();
                    let pushes = shop.pushes(count);
                    shop.record(pushes)
                },
                |record| shop.borrow_mut().fold(&record),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut shop = Shop::with_friends(FRIENDS);
    for _ in 0..400 {
        let pushes = shop.pushes(256);
        let record = shop.record(pushes);
        shop.fold(&record);
    }
    let views = &shop.views;
    let mut each = |name: &str, read: &dyn Fn(&sillok_views::ChannelTable) -> usize| {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| views.read_channel(black_box(SHOP), |table, _| table.map_or(0, read)));
        });
    };
    each("read/one friend", &|table| {
        table
            .number_of("u54321")
            .and_then(|number| table.friend_view(number))
            .map_or(0, |view| view.attributes().count())
    });
    each("read/a page of 100 friends", &|table| table.friends(&Selector::of(Statuses::FRIENDS), 54_321, 100).len());
    each("read/100 sends, the newest", &|table| table.sends(u64::MAX, 100, None).len());
    each("read/the sends to one friend", &|table| table.sends(u64::MAX, 100, Some(7)).len());
}

/// A node that starts: its views from their rows.
fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10);
    for pushes in [10_000, 100_000] {
        let temp = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let options = || Options::at(temp.path().join("views"), Some([7; 16]), "this boot");
        let mut shop = Shop::over(Views::open(options(), |_| true), 1_000);
        for _ in 0..pushes / 1_000 {
            let pushes = shop.pushes(1_000);
            let record = shop.record(pushes);
            shop.fold(&record);
        }
        shop.views.set_spillable(u64::MAX - 1);
        shop.views.close();
        group.bench_function(format!("after {pushes} pushes to 1000 friends"), |bencher| {
            bencher.iter_batched(
                || (),
                |()| {
                    let views = Views::open(options(), |_| true);
                    assert!(views.applied().is_some(), "{:?}", views.trouble());
                    views
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, fold, reads, open);
criterion_main!(benches);
