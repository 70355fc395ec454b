//! What was measured: for a script, and on one page for everyone else.

mod chart;
mod cost;
mod page;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

pub use cost::{Cost, Process};
pub use page::{number, span};

use crate::{BenchError, Target, load::Measured};

/// Everything that one call of `sillok bench` measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of the program.
    pub version: &'static str,
    /// It was built with optimizations.
    pub optimized: bool,
    /// As it was typed.
    pub command: String,
    /// When it began, in seconds since 1970.
    pub began_at: u64,
    /// Where.
    pub machine: Machine,
    /// One for each figure of its own, in the order in which they were taken.
    pub runs: Vec<Run>,
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub processors: usize,
    /// Of the first of them, where the system tells.
    pub model: Option<String>,
    /// In bytes, where the system tells.
    pub memory_bytes: Option<u64>,
    /// The system's kernel.
    pub kernel: String,
    /// Three nodes beside the load generator, or a cluster that ran before.
    pub own_cluster: bool,
    /// What holds the nodes' files, where they are of the bench's own.
    pub file_system: Option<String>,
}

/// One thing that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Run {
    /// `write`, `read` and so on.
    pub bench: &'static str,
    /// What distinguishes it from the other runs of the same bench.
    pub title: String,
    /// What was asked for, such as `in_flight`.
    #[serde(flatten)]
    pub asked: BTreeMap<&'static str, Value>,
    /// How fast, where it is about that.
    #[serde(flatten)]
    pub pace: Option<Pace>,
    /// Other figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    /// What it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// How fast something went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pace {
    /// Acknowledged, answered or delivered within the window.
    pub events: u64,
    /// The window.
    pub seconds: f64,
    /// One by the other.
    pub events_per_second: f64,
    /// Half took no longer, in microseconds.
    pub p50_us: u64,
    /// 9 of 10 took no longer.
    pub p90_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// On average.
    pub mean_us: f64,
    /// For the curve: shares of answers, and how long they took at most, in microseconds.
    pub curve: Vec<(f64, u64)>,
    /// Events a second in each quarter of a second.
    pub moments: Vec<f64>,
}

/// One number with a name.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// For a person.
    pub name: String,
    /// The number.
    pub value: f64,
    /// `s`, `events/s`, `MB/s`, `bytes`, …
    pub unit: &'static str,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit }
    }
}

impl Pace {
    /// Of a histogram of microseconds.
    pub(crate) fn new(latency: &Histogram<u64>, seconds: f64, moments: Vec<f64>) -> Pace {
        let at = |quantile: f64| latency.value_at_quantile(quantile);
        let curve = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];
        Pace {
            events: latency.len(),
            seconds,
            events_per_second: latency.len() as f64 / seconds.max(1e-9),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: latency.max(),
            mean_us: latency.mean(),
            curve: curve.map(|quantile| (quantile, at(quantile))).to_vec(),
            moments,
        }
    }
}

impl Run {
    /// Of a load.
    pub(crate) fn of(bench: &'static str, title: String, measured: Measured) -> Run {
        let pace = Pace::new(&measured.latency, measured.window.as_secs_f64(), measured.moments);
        let cost = Cost::between(&measured.before, &measured.after, pace.events);
        Run { bench, title, pace: Some(pace), cost: Some(cost), ..Run::default() }
    }

    /// Something that was asked for.
    #[must_use]
    pub(crate) fn asked(mut self, name: &'static str, value: impl Into<Value>) -> Run {
        self.asked.insert(name, value.into());
        self
    }
}

impl Machine {
    /// This one.
    pub fn here(target: &Target) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let found = text.lines().find(|line| line.starts_with(name))?;
            Some(found.split_once(':')?.1.trim().to_owned())
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let name = rustix::system::uname();
        Machine {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: line(&read("/proc/cpuinfo"), "model name"),
            memory_bytes: kib.map(|kib| kib * 1024),
            kernel: format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()),
            own_cluster: target.is_own(),
            file_system: target.file_system(),
        }
    }
}

impl Report {
    /// Nothing is measured yet. `command`: as it was typed.
    pub fn new(command: String, machine: Machine) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            optimized: cfg!(not(debug_assertions)),
            command,
            began_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            machine,
            runs: Vec::new(),
        }
    }

    /// For a script.
    ///
    /// # Errors
    /// Never, as far as can be seen: everything in it has a form in JSON.
    pub fn json(&self) -> Result<String, BenchError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The same into a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<(), BenchError> {
        std::fs::write(path, self.json()? + "\n").map_err(BenchError::file("write", path))
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> String {
        page::render(self)
    }

    /// The same into a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_html(&self, path: &Path) -> Result<(), BenchError> {
        std::fs::write(path, self.html()).map_err(BenchError::file("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_figures_at_the_top_of_its_json_and_a_page_that_needs_nothing_else() {
        let mut latency = crate::latency::histogram();
        (1..=1000).for_each(|us| latency.saturating_record(us));
        let run = Run {
            bench: "write",
            title: "unary <push>".to_owned(),
            pace: Some(Pace::new(&latency, 2.0, vec![1.0, 2.0, 3.0, 4.0, 5.0])),
            ..Run::default()
        };
        let machine = Machine {
            processors: 2,
            model: None,
            memory_bytes: None,
            kernel: "Linux".to_owned(),
            own_cluster: true,
            file_system: None,
        };
        let mut report = Report::new("sillok bench write".to_owned(), machine);
        report.runs.push(run.asked("in_flight", 64));
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let run = &json["runs"][0];
        assert_eq!((run["events"].as_u64(), run["in_flight"].as_u64()), (Some(1000), Some(64)));
        assert_eq!((run["p50_us"].as_u64(), run["p99_us"].as_u64()), (Some(500), Some(990)));
        assert_eq!((run["events_per_second"].as_f64(), run["seconds"].as_f64()), (Some(500.0), Some(2.0)));
        let page = report.html();
        assert!(page.contains("unary &lt;push&gt;"));
        for foreign in ["<script", "src=", "href=", "@import", "url(", "http:", "https:"] {
            assert!(!page.contains(foreign), "{foreign} is in the page");
        }
    }
}
