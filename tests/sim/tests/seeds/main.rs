//! The seeds. `SILLOK_SIM_SEEDS=100..200` or `SILLOK_SIM_SEEDS=7` runs those and no others, however long it takes;
//! `SILLOK_SIM_TRACE=1` with one seed prints all that happened.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod planted;

use std::time::Duration;

use sillok_sim::{planted::PLANTED, process, real, seeds};

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
    let tally = match std::env::var("SILLOK_SIM_SEEDS") {
        Ok(seeds) => seeds::run_all(parse(&seeds), ONE, None),
        Err(_) => seeds::run_all(1..=8, ONE, Some(AT_MOST)),
    };
    println!("{}", tally.line());
    for report in &tally.failed {
        let seed = report.seed;
        println!(
            "{}\nseed {seed} fails; repeat it with\n  {}\nand see all of it with SILLOK_SIM_TRACE=1\n",
            report.output,
            seeds::again(seed)
        );
    }
    let failed: Vec<u64> = tally.failed.iter().map(|report| report.seed).collect();
    assert!(failed.is_empty(), "seeds {failed:?} do not hold, see above");
}

/// A seed whose process hung held up all others for as long as the whole test was given: the clocks stand still where the
/// simulation is linked in, so that no time was ever over.
#[test]
fn a_seed_that_does_not_end_is_killed_and_has_failed() {
    let begun = real::now();
    let cap = Duration::from_millis(500);
    let report = process::run_within(cap, 1, ONE, &[(PLANTED, "endless")]);
    assert!(report.output.contains("planted: endless"), "{}", report.output);
    assert!(report.output.contains("its process was killed") && !report.held, "{}", report.output);
    assert!(report.took >= cap && report.took < process::AT_MOST && real::now() - begun >= cap);
}

fn parse(seeds: &str) -> Box<dyn Iterator<Item = u64> + Send> {
    match seeds.split_once("..") {
        Some((from, to)) => Box::new(from.parse().unwrap()..to.parse().unwrap()),
        None => Box::new(std::iter::once(seeds.parse().unwrap())),
    }
}
