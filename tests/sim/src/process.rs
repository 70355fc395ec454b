//! Seeds, each in a process of its own: what a process remembers (counters, tables, generators of whole libraries) would
//! otherwise reach from one run into the next, and a seed would mean something else on its own than among others.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use rand_entropy::{SeedableRng as _, rngs::StdRng};

use crate::{planted, world};

/// Set for the process of one seed.
const SEED: &str = "SILLOK_SIM_SEED";
/// Before the result.
const RESULT: &str = "simulated ";

/// What a process said of its seed.
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// All invariants held.
    pub held: bool,
    /// Everything that was printed.
    pub output: String,
    /// The trace in one number.
    pub digest: String,
    /// Simulated time.
    pub simulated: Duration,
    /// Names of the invariants that did not hold.
    pub broken: Vec<String>,
    /// Kinds of faults that came.
    pub faults: Vec<String>,
}

/// In the process of a seed: runs it and ends the process. Elsewhere nothing.
pub fn run_if_told() {
    let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) else { return };
    // All that asks the system for randomness is answered from the seed from here on.
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    planted::plant();
    let outcome = std::thread::spawn(move || {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
        }
        let outcome = world::run(seed);
        if !outcome.violations.is_empty() {
            println!("seed {seed}: the last events\n{}\n", outcome.trace.end(60));
            println!("seed {seed} does not hold:\n{}", outcome.violations.join("\n"));
        }
        println!(
            "{RESULT}{} digest {} broken {} faults {}",
            outcome.simulated.as_millis(),
            outcome.trace.digest(),
            broken(&outcome.violations),
            outcome.faults.join(",")
        );
        std::process::exit(i32::from(!outcome.violations.is_empty()));
    })
    .join();
    drop(outcome);
    // The thread has panicked and said why.
    std::process::exit(101);
}

/// The names of what does not hold, each once.
fn broken(violations: &[String]) -> String {
    let names: BTreeSet<&str> = violations.iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

/// Runs one seed in a process of its own; `test` is the test that calls [`run_if_told`].
pub fn run(seed: u64, test: &str, more: &[(&str, &str)]) -> Report {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([test, "--exact", "--nocapture"]).env(SEED, seed.to_string()).envs(more.iter().copied());
    let output = command.output().expect("this program starts once more");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    let result = text.lines().find_map(|line| Some(line.split_once(RESULT)?.1.to_owned())).unwrap_or_default();
    let words: Vec<&str> = result.split_whitespace().collect();
    let list = |before: &str, after: &str| {
        let names = result.split_once(before).map_or("", |(_, names)| names.split(after).next().unwrap_or(""));
        names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    Report {
        seed,
        held: output.status.success() && !words.is_empty(),
        digest: words.get(2).unwrap_or(&"none").to_string(),
        simulated: Duration::from_millis(words.first().and_then(|word| word.parse().ok()).unwrap_or(0)),
        broken: list("broken ", " faults "),
        faults: list(" faults ", "\n"),
        output: text,
    }
}

/// Runs seeds two at a time until they are through or the time is over; panics at the first that does not hold.
pub fn run_all(seeds: impl Iterator<Item = u64>, test: &str, at_most: Option<Duration>) -> Vec<Report> {
    let begun = Instant::now();
    let mut seeds = seeds.peekable();
    let mut reports = Vec::new();
    while seeds.peek().is_some() && at_most.is_none_or(|at_most| begun.elapsed() < at_most) {
        let pair: Vec<u64> = seeds.by_ref().take(2).collect();
        let done: Vec<Report> = std::thread::scope(|scope| {
            let running: Vec<_> = pair.iter().map(|seed| scope.spawn(|| run(*seed, test, &[]))).collect();
            running.into_iter().map(|run| run.join().expect("a run is waited for")).collect()
        });
        for report in done {
            let seed = report.seed;
            assert!(
                report.held,
                "{}\nseed {seed} fails; repeat it with\n  SILLOK_SIM_SEEDS={seed} cargo test -p sillok-sim --test seeds \
                 every_seed_holds -- --nocapture\nand see all of it with SILLOK_SIM_TRACE=1",
                report.output
            );
            reports.push(report);
        }
    }
    reports
}
