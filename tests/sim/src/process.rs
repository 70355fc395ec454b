//! Seeds, each in a process of its own: what a process remembers (counters, tables, generators of whole libraries) would
//! otherwise reach from one run into the next, and a seed would mean something else on its own than among others.

use std::{
    collections::BTreeSet,
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rand_entropy::{SeedableRng as _, rngs::StdRng};

use crate::{planted, real, world};

/// Set for the process of one seed.
const SEED: &str = "SILLOK_SIM_SEED";
/// Before the result.
const RESULT: &str = "simulated ";
/// A seed takes a second or less where it is optimized, and ten where it is not: one that takes so long does not end.
pub const AT_MOST: Duration = Duration::from_secs(120);

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
    /// Real time.
    pub took: Duration,
    /// Invariants that do not hold.
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
    run_within(AT_MOST, seed, test, more)
}

/// As [`run`], and ends the process once it has taken `at_most` of real time.
pub fn run_within(at_most: Duration, seed: u64, test: &str, more: &[(&str, &str)]) -> Report {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([test, "--exact", "--nocapture"]).env(SEED, seed.to_string()).envs(more.iter().copied());
    let begun = real::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("this program starts once more");
    let (ended, mut text) = read_all(child, at_most);
    let took = real::now() - begun;
    if ended.is_none() {
        text += &format!("\nseed {seed} did not end within {at_most:?} of real time; its process was killed\n");
    }
    let result = text.lines().find_map(|line| Some(line.split_once(RESULT)?.1.to_owned())).unwrap_or_default();
    let words: Vec<&str> = result.split_whitespace().collect();
    let list = |before: &str, after: &str| {
        let names = result.split_once(before).map_or("", |(_, names)| names.split(after).next().unwrap_or(""));
        names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    Report {
        seed,
        held: ended == Some(true) && !words.is_empty(),
        digest: words.get(2).unwrap_or(&"none").to_string(),
        simulated: Duration::from_millis(words.first().and_then(|word| word.parse().ok()).unwrap_or(0)),
        took,
        broken: list("broken ", " faults "),
        faults: list(" faults ", "\n"),
        output: text,
    }
}

/// Whether the process ended well, `None` where it had to be killed, and all that it printed.
fn read_all(mut child: Child, at_most: Duration) -> (Option<bool>, String) {
    fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).expect("a pipe is read");
            bytes
        })
    }
    let pipes = [child.stdout.take().map(reader), child.stderr.take().map(reader)];
    let is_over = real::wait(&child, at_most);
    if !is_over {
        child.kill().expect("our own process can be killed");
    }
    let status = child.wait().expect("our own process is waited for");
    let text = pipes.into_iter().flatten().map(|pipe| {
        let bytes = pipe.join().expect("a reader does not panic");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    (is_over.then(|| status.success()), text.collect::<Vec<_>>().join("\n"))
}
