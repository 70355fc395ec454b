//! The handle.

use std::{sync::Arc, time::Duration};

use tonic::transport::Channel;

use crate::{ClientBuilder, pool::Pool};

/// What holds for every call of a client.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) deadline: Duration,
    pub(crate) try_timeout: Duration,
    pub(crate) actor: Arc<str>,
    pub(crate) batch_calls: bool,
}

/// A handle to one cluster; cheap to clone, and clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) pool: Arc<Pool>,
    pub(crate) settings: Settings,
}

impl Client {
    /// Settings first.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(pool: Arc<Pool>, settings: Settings) -> Client {
        Client { pool, settings }
    }

    /// The same client with another deadline for a whole call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        let mut client = self.clone();
        client.settings.deadline = deadline;
        client
    }

    /// The given endpoints, as `host:port`.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.pool.addresses()
    }

    /// Where writes go directly now; `None` while no leader is known.
    pub fn leader(&self) -> Option<String> {
        self.pool.leader().map(|leader| leader.to_string())
    }

    /// The connection to one of the given endpoints, for calls that are about that very node; made when first used.
    /// `None` where the endpoint is not among the given ones.
    pub fn channel(&self, endpoint: &str) -> Option<Channel> {
        self.pool.named(endpoint).map(|node| node.channel())
    }
}
