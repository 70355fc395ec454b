//! What a drill has shown: for a terminal, for a script, and on one page for everyone else.

mod html;
mod plot;
mod table;
mod timeline;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

pub use timeline::{Phase, Span, Timeline};

use crate::{
    DrillError, Verdict,
    drills::Drill,
    history::{Action, Answer, History},
    stage::{Fault, Note, Stage},
};

/// The figures that every drill is compared by.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// Writes that were acknowledged; refusals of the domain, and what made the channels ready, are not among them.
    pub acknowledged_writes: u64,
    /// Writes that the domain refused.
    pub refused_writes: u64,
    /// Tries that were answered as not recorded.
    pub not_recorded: u64,
    /// Tries whose outcome the client did not learn.
    pub unknown: u64,
    /// Linearizable reads that were answered.
    pub answered_reads: u64,
    /// The longest silence between two acknowledged writes.
    pub seconds_without_writes: f64,
    /// The longest silence between two linearizable reads.
    pub seconds_without_reads: f64,
    /// From the first fault until any one site may burn again; `None`: never again during the drill.
    pub seconds_to_full_redundancy: Option<f64>,
}

/// Everything that a drill has shown.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which drill.
    pub drill: &'static str,
    /// What it broke.
    pub breaks: &'static str,
    /// What it promised.
    pub promises: &'static str,
    /// When it began, in seconds since 1970.
    pub began_at: u64,
    /// The same seed draws the same load.
    pub seed: u64,
    /// Clients that wrote.
    pub clients: usize,
    /// Nodes when it began.
    pub nodes: usize,
    /// The site of each node, by id from 1, the replacements too.
    pub sites: Vec<String>,
    /// Every promise was kept.
    pub kept: bool,
    /// The figures.
    pub score: Score,
    /// Every promise.
    pub verdicts: Vec<Verdict>,
    /// What happened when.
    pub notes: Vec<Note>,
    /// What was broken when.
    pub faults: Vec<Fault>,
    /// How long writes took before, during and after.
    pub phases: Vec<Phase>,
    /// How it went, moment by moment.
    pub timeline: Timeline,
}

impl Report {
    pub(crate) fn new(
        drill: &Drill,
        stage: &Stage,
        history: &History,
        verdicts: Vec<Verdict>,
        loaded: (Duration, Duration),
    ) -> Report {
        let looks = stage.watch.looks();
        let load = || history.calls.iter().filter(|call| call.action != Action::Prepare);
        let count = |is: fn(Answer) -> bool| load().filter(|call| is(call.answer)).count() as u64;
        let writes = load().filter(|call| matches!(call.answer, Answer::Recorded { .. }));
        let score = Score {
            acknowledged_writes: count(|answer| matches!(answer, Answer::Recorded { .. })),
            refused_writes: count(|answer| matches!(answer, Answer::Refused(_))),
            not_recorded: count(|answer| answer == Answer::NotRecorded),
            unknown: count(|answer| answer == Answer::Unknown),
            answered_reads: history.reads.len() as u64,
            seconds_without_writes: timeline::silence(writes.map(|call| call.ended), loaded),
            seconds_without_reads: timeline::silence(history.reads.iter().map(|read| read.ended), loaded),
            seconds_to_full_redundancy: timeline::redundancy(&stage.faults, &looks),
        };
        let took = stage.recorder.now();
        Report {
            drill: drill.name,
            breaks: drill.breaks,
            promises: drill.promises,
            began_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(took).as_secs(),
            seed: stage.options.seed,
            clients: stage.options.clients,
            nodes: stage.options.nodes,
            sites: stage.cluster.nodes().iter().map(|node| node.site.clone()).collect(),
            kept: verdicts.iter().all(Verdict::holds),
            score,
            verdicts,
            notes: stage.notes.clone(),
            faults: stage.faults.clone(),
            phases: timeline::phases(history, &stage.faults, loaded),
            timeline: Timeline::new(history, &looks, loaded.1),
        }
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        table::render(self)
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> String {
        html::render(self)
    }

    /// For a script.
    ///
    /// # Errors
    /// Never, as far as can be seen: everything in it has a form in JSON.
    pub fn json(&self) -> Result<String, DrillError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Writes `report.json` and `report.html`; where the page is.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, DrillError> {
        std::fs::create_dir_all(dir).map_err(DrillError::file("make", dir))?;
        let json = dir.join("report.json");
        std::fs::write(&json, self.json()?).map_err(DrillError::file("write", &json))?;
        let html = dir.join("report.html");
        std::fs::write(&html, self.html()).map_err(DrillError::file("write", &html))?;
        Ok(html)
    }
}
