//! Why a node must stop.

use std::sync::Arc;

use sillok_views::LostPage;
use tokio::sync::watch;

/// `EX_DATAERR`: starting again gives the same; a supervisor must not loop on it.
const EXIT_DAMAGE: u8 = 65;
/// `EX_SOFTWARE`: starting again may help.
const EXIT_OTHER: u8 = 70;
/// `EX_NOINPUT`: these data are not the cluster's any more; a supervisor must not loop on it either.
const EXIT_SUPERSEDED: u8 = 66;

/// `EX_IOERR`: a disk did not give back what was written; starting again builds the views anew.
const EXIT_LOST_PAGE: i32 = 74;

/// Ends the process as a kill would. Whoever needed the page, to decide or to answer, has to be told something and there is
/// nothing right to tell; the chronicle is made for it, and nobody waits for a leader that may not decide.
pub(crate) fn lost_page(lost: &LostPage) -> ! {
    tracing::error!(
        "this node ends: {lost}; nothing was answered from it and nothing is lost: the next start builds the views anew from \
         the chronicle"
    );
    std::process::exit(EXIT_LOST_PAGE)
}

/// What happened, once; a node stops for its first failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind, for the exit code and for metrics.
    pub kind: FailureKind,
    /// What happened, what was kept, and what to do.
    pub message: String,
    /// What was found, where it is [`FailureKind::Damage`] in the chronicle: for [`NodeOptions::suspect`](crate::NodeOptions).
    pub damage: Option<sillok_chronicle::Damage>,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), damage: None }
    }

    /// 65 where the data itself is at fault and a restart would only repeat it, 66 where the cluster went on without it,
    /// otherwise 70.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::Damage | FailureKind::ChainMismatch => EXIT_DAMAGE,
            FailureKind::Superseded => EXIT_SUPERSEDED,
            FailureKind::Disk | FailureKind::Consensus | FailureKind::Internal => EXIT_OTHER,
        }
    }
}

/// What kind of failure stops a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Bytes of the chronicle are not what was written.
    Damage,
    /// Two nodes hold different records under one log id.
    ChainMismatch,
    /// A write or a sync failed; what was acknowledged is kept elsewhere.
    Disk,
    /// The cluster went on in a later epoch, without this node.
    Superseded,
    /// openraft stopped.
    Consensus,
    /// A thread or task of ours ended that must not.
    Internal,
}

/// Where failures are reported; the first one counts.
#[derive(Debug, Clone)]
pub(crate) struct FailureSink(Arc<watch::Sender<Option<Failure>>>);

impl FailureSink {
    pub(crate) fn new() -> FailureSink {
        FailureSink(Arc::new(watch::Sender::new(None)))
    }

    /// Reports; later reports are only logged.
    pub(crate) fn report(&self, failure: Failure) {
        tracing::error!(kind = ?failure.kind, "this node must stop: {failure}");
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(failure);
            }
            is_first
        });
    }

    pub(crate) fn reported(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }

    /// Resolves with the first failure.
    pub(crate) async fn wait(&self) -> Failure {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(failure) = receiver.borrow_and_update().clone() {
                return failure;
            }
            // `self` holds the sender, so it cannot be closed.
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
