//! `grpc.health.v1`: the empty service serves while stale reads can be answered, `sillok.v1.Commands` while a leader is
//! confirmed; both stop serving first when the node stops.

use std::time::Duration;

use sillok_wire::{errors::Problem, v1::Reason};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

use crate::grpc::outbox::{Outbox, Outgoing, outbox};

/// The service that stands for writes.
const COMMANDS: &str = "sillok.v1.Commands";
/// Those that stand for reads.
const READS: &[&str] = &["", "sillok.v1.Queries", "sillok.v1.Cluster"];

/// What can be asked of the node at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Serving {
    /// Stale reads are answered.
    pub(crate) reads: bool,
    /// A leader is confirmed.
    pub(crate) writes: bool,
    /// The node stops; nothing is served any more, whatever it says of itself.
    pub(crate) stopping: bool,
}

impl Serving {
    /// What is said from the moment the node is asked to stop.
    pub(crate) const STOPPING: Serving = Serving { reads: false, writes: false, stopping: true };
}

/// The service over what the node says of itself.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) serving: watch::Receiver<Serving>,
    pub(crate) patience: Duration,
    /// Streams end when it is cancelled; `serving` has said [`Serving::STOPPING`] before.
    pub(crate) stopping: CancellationToken,
}

impl Health {
    fn of(&mut self, service: &str) -> Option<ServingStatus> {
        let serving = *self.serving.borrow_and_update();
        let yes = match service {
            COMMANDS => serving.writes,
            reads if READS.contains(&reads) => serving.reads,
            _ => return None,
        };
        Some(if yes { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let status = self.clone().of(service).ok_or_else(|| {
            Status::not_found(format!("there is no service {service:?}; there are {COMMANDS:?} and {READS:?}"))
        })?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Outgoing<HealthCheckResponse>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (outbox, outgoing) = outbox("Watch", 1, self.patience);
        tokio::spawn(watch_one(self.clone(), request.into_inner().service, outbox));
        Ok(Response::new(outgoing))
    }
}

async fn watch_one(mut health: Health, service: String, outbox: Outbox<HealthCheckResponse>) {
    let mut said = None;
    loop {
        let now = health.of(&service).unwrap_or(ServingStatus::ServiceUnknown);
        if said.replace(now) != Some(now)
            && let Err(stuck) = outbox.put(HealthCheckResponse { status: now.into() }).await
        {
            return outbox.end_stuck(stuck, "watch again");
        }
        tokio::select! {
            // Changes first: not serving is said before the end.
            biased;
            changed = health.serving.changed() => if changed.is_err() { return },
            () = outbox.gone() => return,
            () = health.stopping.cancelled() => {
                return outbox.end(Problem::new(Reason::ShuttingDown, "the node stops").outcome(None).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use sillok_wire::errors::reason_of;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    fn health(serving: Serving) -> (watch::Sender<Serving>, Health) {
        let (now, serving) = watch::channel(serving);
        (now, Health { serving, patience: Duration::from_secs(30), stopping: CancellationToken::new() })
    }

    fn ask(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn reads_and_writes_are_told_apart() {
        let (now, health) = health(Serving { reads: true, ..Serving::default() });
        let status = async |service: &str| health.check(ask(service)).await.unwrap().into_inner().status();
        assert_eq!(status("").await, ServingStatus::Serving);
        assert_eq!(status("sillok.v1.Queries").await, ServingStatus::Serving);
        assert_eq!(status(COMMANDS).await, ServingStatus::NotServing);
        now.send_replace(Serving { reads: true, writes: true, stopping: false });
        assert_eq!(status(COMMANDS).await, ServingStatus::Serving);
        assert_eq!(health.check(ask("other")).await.unwrap_err().code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn a_watcher_hears_every_change_and_then_the_end() {
        let (now, health) = health(Serving::default());
        let mut watching = health.watch(ask(COMMANDS)).await.unwrap().into_inner();
        let mut next = async || watching.next().await.unwrap();
        assert_eq!(next().await.unwrap().status(), ServingStatus::NotServing);
        now.send_replace(Serving { reads: true, writes: true, stopping: false });
        assert_eq!(next().await.unwrap().status(), ServingStatus::Serving);
        now.send_replace(Serving::STOPPING);
        health.stopping.cancel();
        assert_eq!(next().await.unwrap().status(), ServingStatus::NotServing);
        assert_eq!(reason_of(&next().await.unwrap_err()), Some(Reason::ShuttingDown));
    }
}
