//! How many allocations an event costs between the command and the views: decide, record, fold. A ceiling stands over
//! them, because each of them is paid once an event at every rate; where one comes to be needed, raise it knowingly.

#[path = "../benches/shop/mod.rs"]
mod shop;

use std::alloc::System;

use shop::Shop;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EVENTS: u64 = 256;
const ROUNDS: u64 = 64;

/// For each event, growing what is there included.
fn allocations(region: &Region<'_, System>) -> f64 {
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / (EVENTS * ROUNDS) as f64
}

/// The only test of this binary: whatever else ran would be counted too.
#[test]
fn an_event_costs_no_more_allocations_than_it_must() {
    let mut shop = Shop::with_friends(10_000);
    // Buffers and tables are as large as they come to be.
    for _ in 0..ROUNDS {
        let pushes = shop.pushes(EVENTS);
        let record = shop.record(pushes);
        shop.fold(&record);
    }
    let rounds: Vec<_> = (0..ROUNDS).map(|_| shop.pushes(EVENTS)).collect();
    let region = Region::new(COUNTED);
    let records: Vec<_> = rounds.into_iter().map(|pushes| shop.record(pushes)).collect();
    let decided = allocations(&region);
    let region = Region::new(COUNTED);
    records.iter().for_each(|record| shop.fold(record));
    let folded = allocations(&region);
    println!("{decided:.3} allocations to decide and record an event, {folded:.3} to fold it");
    assert!(decided <= 2.1, "{decided:.3} to decide and record an event");
    assert!(folded <= 0.1, "{folded:.3} to fold it");
}
