//! Many seeds, several at a time.

use std::{collections::BTreeSet, num::NonZero, sync::Mutex, time::Duration};

use crate::{
    process::{self, Report},
    real,
};

/// A line is printed after so many.
const TOLD_EVERY: usize = 25;
/// No more are begun once so many do not hold: each prints all that it knows.
const ENOUGH: usize = 5;

/// What many seeds came to.
#[derive(Default)]
pub struct Tally {
    /// Seeds that have ended.
    pub seeds: usize,
    /// Those that do not hold, with all that they printed.
    pub failed: Vec<Report>,
    /// Simulated time of all of them.
    pub simulated: Duration,
    /// From the beginning to the end, in real time.
    pub took: Duration,
    /// The slowest seed and its real time.
    pub slowest: (u64, Duration),
    /// Kinds of faults that came.
    pub faults: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.simulated += report.simulated;
        self.faults.extend(report.faults.iter().cloned());
        if report.took > self.slowest.1 {
            self.slowest = (report.seed, report.took);
        }
        if report.held && std::env::var_os("SILLOK_SIM_TRACE").is_some() {
            println!("{}", report.output);
        }
        if !report.held {
            self.failed.push(report);
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let (simulated, took) = (self.simulated.as_secs_f64(), self.took.as_secs_f64());
        format!(
            "{} seeds, {} of them do not hold; {simulated:.0} simulated seconds in {took:.0} s, {:.1} a second; {} kinds of \
             faults; the slowest seed, {}, took {:.1} s",
            self.seeds,
            self.failed.len(),
            simulated / took,
            self.faults.len(),
            self.slowest.0,
            self.slowest.1.as_secs_f64(),
        )
    }
}

/// Runs seeds, as many at a time as there are processors, until they are through, `at_most` of real time is over, or several
/// do not hold. Prints a line now and then.
pub fn run_all(seeds: impl Iterator<Item = u64> + Send, test: &str, at_most: Option<Duration>) -> Tally {
    let begun = real::now();
    let state = Mutex::new((seeds, Tally::default()));
    let work = || loop {
        let next = {
            let (seeds, tally) = &mut *state.lock().expect("nobody panics with it");
            let is_over = at_most.is_some_and(|at_most| real::now() - begun > at_most) || tally.failed.len() >= ENOUGH;
            if is_over { None } else { seeds.next() }
        };
        let Some(seed) = next else { return };
        let report = process::run(seed, test, &[]);
        let (_, tally) = &mut *state.lock().expect("nobody panics with it");
        tally.add(report);
        tally.took = real::now() - begun;
        if tally.seeds % TOLD_EVERY == 0 {
            println!("{}", tally.line());
        }
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(2, NonZero::get);
        (0..workers).for_each(|_| _ = scope.spawn(work));
    });
    state.into_inner().expect("nobody panicked with it").1
}

/// The command that repeats a seed, in the profile of this build.
pub fn again(seed: u64) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let profile = program.ancestors().nth(2).and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
    let profile = match profile {
        None | Some("debug") => String::new(),
        Some(profile) => format!("--profile {profile} "),
    };
    format!("SILLOK_SIM_SEEDS={seed} cargo test {profile}-p sillok-sim --test seeds every_seed_holds -- --nocapture")
}
