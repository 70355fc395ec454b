//! Reads, at whichever node answers.

use std::future::Future;

use sillok_wire::{
    errors,
    v1::{cluster_client::ClusterClient, queries_client::QueriesClient},
};
use tokio::time::{Instant, timeout};
use tonic::{Response, Status, transport::Channel};

use crate::{
    Client,
    backoff::{Backoff, SHORTEST_TRY},
    error::worth_repeating,
    pool::Node,
};

/// The calls of `sillok.v1.Queries` at one node.
pub type Queries = QueriesClient<Channel>;
/// The calls of `sillok.v1.Cluster` at one node.
pub type Cluster = ClusterClient<Channel>;

/// The largest answer taken: a page of 1,000, or one event with an audience of millions.
pub(crate) const LARGEST_ANSWER: usize = 64 << 20;

impl Client {
    /// Calls a node, and other nodes where it does not answer, until the deadline. The call is repeated, so it must only
    /// read: everything in `Queries` does.
    ///
    /// ```no_run
    /// # async fn example(client: sillok_client::Client) -> Result<(), tonic::Status> {
    /// use sillok_client::v1::GetChannelRequest;
    /// let request = GetChannelRequest { channel_id: "tea-house".into(), ..Default::default() };
    /// let answer = client.read(|mut queries| {
    ///     let request = request.clone();
    ///     async move { queries.get_channel(request).await }
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The status of the last try: one that another node would say as well, or any once the deadline has passed.
    pub async fn read<T, F>(&self, mut call: impl FnMut(Queries) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.anywhere(|node| call(QueriesClient::new(node.channel()).max_decoding_message_size(LARGEST_ANSWER))).await
    }

    /// As [`Client::read`], for `Cluster`. Calls that change the membership are better made once, through
    /// [`Client::channel`].
    ///
    /// # Errors
    /// As [`Client::read`].
    pub async fn cluster<T, F>(&self, mut call: impl FnMut(Cluster) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.anywhere(|node| call(ClusterClient::new(node.channel()))).await
    }

    async fn anywhere<T, F>(&self, mut call: impl FnMut(&Node) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.settings.deadline;
        let mut backoff = Backoff::default();
        loop {
            let node = self.pool.for_read();
            let most = self.settings.try_timeout.min(deadline.saturating_duration_since(Instant::now()));
            let status = match timeout(most, call(&node)).await {
                Ok(Ok(answer)) => {
                    self.pool.hint(answer.metadata());
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("{} gave no answer in time", node.address)),
            };
            if !worth_repeating(status.code()) {
                return Err(status);
            }
            self.pool.failed(&node);
            self.pool.hint(status.metadata());
            let wait = backoff.next(errors::retry_after(&status));
            if Instant::now() + wait + SHORTEST_TRY >= deadline {
                return Err(status);
            }
            tracing::debug!(node = %node.address, %status, ?wait, "a read is tried again");
            tokio::time::sleep(wait).await;
        }
    }
}
