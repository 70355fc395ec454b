//! The seeds. `SILLOK_SIM_SEEDS=100..200` or `SILLOK_SIM_SEEDS=7` runs those and no others, however long it takes;
//! `SILLOK_SIM_TRACE=1` with one seed prints all that happened.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod planted;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sillok_sim::process;

const ONE: &str = "one_seed_in_its_own_process";
/// Without being told which, as many seeds as this leaves time for.
const AT_MOST: Duration = Duration::from_secs(60);

/// Not a test by itself: the process of a seed runs it.
#[test]
fn one_seed_in_its_own_process() {
    process::run_if_told();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2] {
        let trace = [("SILLOK_SIM_TRACE", "1")];
        let (first, second) = (process::run(seed, ONE, &trace), process::run(seed, ONE, &trace));
        let lines = |output: &str| output.lines().filter(|line| line.starts_with(' ')).map(str::to_owned).collect();
        let (a, b): (Vec<String>, Vec<String>) = (lines(&first.output), lines(&second.output));
        assert!(a.len() > 200, "seed {seed} did nothing: {}", first.output);
        if let Some(at) = a.iter().zip(&b).position(|(one, other)| one != other) {
            panic!("seed {seed} differs at line {at}:\n{}\n{}", a[at], b[at]);
        }
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

#[test]
fn every_seed_holds() {
    let begun = Instant::now();
    let reports = match std::env::var("SILLOK_SIM_SEEDS") {
        Ok(seeds) => process::run_all(parse(&seeds), ONE, None),
        Err(_) => process::run_all(1..=8, ONE, Some(AT_MOST)),
    };
    let simulated: Duration = reports.iter().map(|report| report.simulated).sum();
    let faults: BTreeSet<&String> = reports.iter().flat_map(|report| &report.faults).collect();
    println!(
        "{} seeds, {:.0} simulated seconds in {:.0} s, {:.1} a second; {} kinds of faults",
        reports.len(),
        simulated.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        simulated.as_secs_f64() / begun.elapsed().as_secs_f64(),
        faults.len()
    );
    if let [report] = &reports[..] {
        println!("{}", report.output);
    }
}

fn parse(seeds: &str) -> Box<dyn Iterator<Item = u64>> {
    match seeds.split_once("..") {
        Some((from, to)) => Box::new(from.parse().unwrap()..to.parse().unwrap()),
        None => Box::new(std::iter::once(seeds.parse().unwrap())),
    }
}
