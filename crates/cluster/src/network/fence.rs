//! A node that was left behind stands still for ever.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sillok_chronicle::Chronicle;
use sillok_wire::{errors, v1::Reason};
use tonic::Status;

use super::identity::LocalIdentity;
use crate::{
    execution::Execution,
    failure::{Failure, FailureKind, FailureSink},
};

/// In a refusal: the number of the epoch of whoever refuses.
pub(crate) const EPOCH_FACT: &str = "epoch";

/// Stops this node, and every later start of it, once it hears that its cluster went on in a later epoch. Without that, two
/// nodes that were left behind would be a quorum of the old membership wherever the survivor cannot be reached.
pub(crate) struct Fence {
    local: Arc<LocalIdentity>,
    chronicle: Chronicle,
    failures: FailureSink,
    execution: Execution,
    is_closed: AtomicBool,
}

impl Fence {
    pub(crate) fn new(
        local: Arc<LocalIdentity>,
        chronicle: Chronicle,
        failures: FailureSink,
        execution: Execution,
    ) -> Fence {
        Fence { local, chronicle, failures, execution, is_closed: AtomicBool::new(false) }
    }

    /// What a peer said instead of an answer.
    pub(crate) fn heard(&self, status: &Status) {
        if errors::reason_of(status) != Some(Reason::EpochSuperseded) {
            return;
        }
        let said = errors::error_info(status).and_then(|info| info.metadata.get(EPOCH_FACT)?.parse::<u64>().ok());
        // A peer that was itself left behind refuses too.
        if let Some(number) = said.filter(|number| *number > self.local.epoch().number) {
            self.superseded(number, status.message());
        }
    }

    /// The cluster went on in the epoch of this number, and this node is not of it.
    pub(crate) fn superseded(&self, number: u64, why: &str) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let (chronicle, failures, why) = (self.chronicle.clone(), self.failures.clone(), why.to_owned());
        let execution = self.execution.clone();
        tokio::spawn(async move {
            match execution.blocking(move || chronicle.supersede(number)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!("epoch {number}, of which this node is not, is not remembered: {error}")
                }
                Err(error) => tracing::error!("epoch {number}, of which this node is not, is not remembered: {error}"),
            }
            failures.report(Failure::new(FailureKind::Superseded, why));
        });
    }
}
