//! Whom the commands talk to: the client, with failures as a person sees them.

use std::{future::Future, time::Duration};

use sillok_client::{Client, Cluster, Queries, WriteError, v1};
use sillok_wire::errors;
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    failure::{Exit, Failure},
    format,
};

/// Connecting to a node that is there takes far less, also across a country.
const CONNECT: Duration = Duration::from_millis(800);
/// One try; the whole call has `--timeout`.
const ONE_TRY: Duration = Duration::from_secs(3);

/// The nodes of one cluster.
pub(crate) struct Api {
    client: Client,
    timeout: Duration,
    /// `--timeout` as it was given.
    asked: Option<Duration>,
}

impl Api {
    /// Nothing is connected before it is needed. `asked`: `--timeout`, where it was given.
    pub(crate) fn new(endpoints: &[String], timeout: Duration, asked: Option<Duration>) -> Result<Api, Failure> {
        let client = Client::builder()
            .endpoints(endpoints)
            .connect_timeout(CONNECT.min(timeout))
            .request_timeout(ONE_TRY.min(timeout))
            .deadline(timeout)
            .build()
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Api { client, timeout, asked })
    }

    /// For streams.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// As they were given.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.client.endpoints().map(str::to_owned).collect()
    }

    /// How long a call goes on trying.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection to one node, whether or not it is among the endpoints; made when it is first used.
    pub(crate) fn channel(&self, endpoint: &str) -> Result<Channel, Failure> {
        if let Some(channel) = self.client.channel(endpoint) {
            return Ok(channel);
        }
        let wrong = |error: String| Failure::usage(format!("endpoint {endpoint}: {error}"));
        let one = Client::builder().endpoint(endpoint).connect_timeout(CONNECT).build();
        let one = one.map_err(|error| wrong(error.to_string()))?;
        one.endpoints().next().and_then(|bare| one.channel(bare)).ok_or_else(|| wrong("cannot be used".to_owned()))
    }

    /// One command, until it has its answer or the timeout is over, always under the same retry key.
    pub(crate) async fn execute(&self, command: impl Into<v1::Command>) -> Result<v1::Receipt, Failure> {
        self.client.execute(command).await.map_err(|error| self.write_failure(&error))
    }

    /// One read, at whichever node answers.
    pub(crate) async fn query<T, F>(&self, ask: impl FnMut(Queries) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.client.read(ask).await.map_err(|status| self.read_failure(&status))
    }

    /// One read of the cluster service, at whichever node answers.
    pub(crate) async fn cluster<T, F>(&self, ask: impl FnMut(Cluster) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.client.cluster(ask).await.map_err(|status| self.read_failure(&status))
    }

    /// A change of the membership, made once: at the first node that can be reached. It may take as long as a blank node needs
    /// to catch up, so only a `--timeout` that was given ends the waiting; the change itself may go on then.
    pub(crate) async fn change<T, F>(&self, mut ask: impl FnMut(Cluster) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = None;
        for endpoint in self.endpoints() {
            let answer = ask(Cluster::new(self.channel(&endpoint)?));
            let answer = match self.asked {
                Some(asked) => tokio::time::timeout(asked, answer).await.unwrap_or_else(|_| {
                    Err(Status::deadline_exceeded(format!(
                        "no answer within {}; the change may go on",
                        format::duration(asked)
                    )))
                }),
                None => answer.await,
            };
            match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if never_sent(&status) => last = Some(status),
                Err(status) => return Err(Failure::change(&status)),
            }
        }
        Err(last
            .map_or_else(|| Failure::new(Exit::Unavailable, "nobody was asked"), |status| self.read_failure(&status)))
    }

    /// Why a read has no answer.
    pub(crate) fn read_failure(&self, status: &Status) -> Failure {
        if never_sent(status) {
            return self.nobody();
        }
        if status.code() == Code::DeadlineExceeded && errors::reason_of(status).is_none() {
            let span = format::duration(self.timeout);
            return Failure::new(Exit::Unavailable, format!("no node could answer for the majority within {span}"))
                .advise("--stale reads what one node knows, without a leader");
        }
        Failure::read(status)
    }

    /// Why a write has no receipt.
    pub(crate) fn write_failure(&self, error: &WriteError) -> Failure {
        match error {
            WriteError::NotRecorded { status, .. } if never_sent(status) => self.nobody(),
            WriteError::Unknown { retry_key, status } => Failure::unknown(status.message(), retry_key),
            other => Failure::write(other.status()),
        }
    }

    /// There is no connection to any node.
    pub(crate) fn nobody(&self) -> Failure {
        let endpoints = format::list_and(&self.endpoints());
        Failure::new(Exit::Unavailable, format!("nobody answers at {endpoints}; nothing was recorded"))
            .advise("is the cluster running? `sillok dev` starts one here; --endpoints names another")
    }
}

/// There was no connection, so nothing can have arrived.
fn never_sent(status: &Status) -> bool {
    let mut error = std::error::Error::source(status);
    while let Some(inner) = error {
        if inner.is::<tonic::ConnectError>() {
            return true;
        }
        error = inner.source();
    }
    false
}
