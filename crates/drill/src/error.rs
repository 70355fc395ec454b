//! Why a drill could not be run to its end. A broken promise is no error: it is what a drill is for, and stands in its report.

use std::{path::PathBuf, time::Duration};

/// What kept a drill from its end.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// A file or directory of the drill's own.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No process, or no signal to it.
    #[error("cannot {doing} node {node}: {source}")]
    Process {
        /// What was tried.
        doing: &'static str,
        /// With which node.
        node: u64,
        /// Why not.
        source: std::io::Error,
    },
    /// A port on loopback.
    #[error("no port on loopback: {0}")]
    Ports(std::io::Error),
    /// Something was waited for.
    #[error("not within {limit:?}: {what}")]
    NotWithin {
        /// What.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// A call that must succeed did not.
    #[error("{what}: {status}")]
    Call {
        /// What was asked for.
        what: String,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// A node that must run, or must not.
    #[error("node {node} {state}")]
    NodeState {
        /// Which.
        node: u64,
        /// What is wrong about it.
        state: &'static str,
    },
    /// A compose cluster, or the program that runs it.
    #[error("the compose cluster: {0}")]
    Compose(String),
    /// This drill breaks what cannot be broken in a compose cluster.
    #[error("the drill {0:?} has no compose form; these have: {1}")]
    NotInCompose(&'static str, String),
    /// A command of the program that must succeed did not.
    #[error("`sillok {command}` {ended}: {printed}")]
    Command {
        /// Its arguments.
        command: String,
        /// How.
        ended: String,
        /// What it printed.
        printed: String,
    },
    /// There is no drill of this name.
    #[error("there is no drill {0:?}; `sillok drill list` shows them")]
    NoSuchDrill(String),
    /// The report could not be made.
    #[error("the report cannot be written: {0}")]
    Report(#[from] serde_json::Error),
}

impl DrillError {
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> DrillError {
        let path = path.into();
        move |source| DrillError::File { doing, path, source }
    }

    pub(crate) fn call(what: impl Into<String>, status: tonic::Status) -> DrillError {
        DrillError::Call { what: what.into(), status: Box::new(status) }
    }
}
