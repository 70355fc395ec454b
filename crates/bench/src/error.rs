//! Why nothing was measured.

use std::path::PathBuf;

use sillok_client::{BuildError, WriteError};
use sillok_drill::DrillError;

/// What kept a measurement from its end. A cluster of the bench's own is gone when this is told.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What was asked for cannot be measured.
    #[error("{0}")]
    Asked(String),
    /// The cluster's processes.
    #[error(transparent)]
    Cluster(#[from] DrillError),
    /// An endpoint that is none.
    #[error(transparent)]
    Endpoint(#[from] BuildError),
    /// Only a cluster that the bench started may be killed, stopped or filled.
    #[error("{0} stops and starts nodes, so it needs a cluster of its own; leave --endpoints out")]
    NeedsOwn(&'static str),
    /// A command that must be recorded was not.
    #[error("{doing}, after {acknowledged} acknowledged: {source}")]
    Write {
        /// What it was for.
        doing: &'static str,
        /// Commands that had their receipts by then.
        acknowledged: u64,
        /// The answer.
        source: Box<WriteError>,
    },
    /// A read that must be answered was not.
    #[error("{doing}: {}", .source.message())]
    Read {
        /// What it was for.
        doing: &'static str,
        /// The answer.
        source: Box<tonic::Status>,
    },
    /// Answers that cannot be.
    #[error("{0}: this is a defect of Sillok or of its bench, and no figure is worth anything")]
    Wrong(String),
    /// A node is gone that nobody stopped.
    #[error("node {node} ended by itself; the end of its log:\n{log}")]
    NodeEnded {
        /// Which.
        node: u64,
        /// Its last lines.
        log: String,
    },
    /// There is too little room to begin.
    #[error("{needed_mb} MB are needed in {}, and {free_mb} are free; --dir names another place, or ask for fewer events", .dir.display())]
    Room {
        /// Where the nodes would be.
        dir: PathBuf,
        /// Estimated, in 10⁶ bytes.
        needed_mb: u64,
        /// In 10⁶ bytes.
        free_mb: u64,
    },
    /// A file of the bench's own.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A part of the load ended in a panic.
    #[error("a part of the load failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The report could not be made.
    #[error("the report cannot be written: {0}")]
    Report(#[from] serde_json::Error),
}

impl BenchError {
    pub(crate) fn write(doing: &'static str, acknowledged: u64, source: WriteError) -> BenchError {
        BenchError::Write { doing, acknowledged, source: Box::new(source) }
    }

    pub(crate) fn read(doing: &'static str) -> impl FnOnce(tonic::Status) -> BenchError {
        move |source| BenchError::Read { doing, source: Box::new(source) }
    }

    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> BenchError {
        let path = path.into();
        move |source| BenchError::File { doing, path, source }
    }
}
