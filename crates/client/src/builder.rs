//! Settings of a client.

use std::{sync::Arc, time::Duration};

use crate::{
    Client, Transport,
    client::Settings,
    pool::Pool,
    way::{Way, Ways},
};

/// Collects the settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    ways: Ways,
    follow_leader: bool,
    settings: Settings,
}

/// Why no client was made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nowhere to go.
    #[error("no endpoint is given; give at least one, like 127.0.0.1:7401")]
    NoEndpoint,
    /// An address that is none.
    #[error("{endpoint} is no endpoint; write host:port, like 127.0.0.1:7401")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
    },
}

impl Default for ClientBuilder {
    fn default() -> Self {
        ClientBuilder {
            endpoints: Vec::new(),
            ways: Ways { connect_timeout: Duration::from_secs(2), transport: None },
            follow_leader: true,
            settings: Settings {
                deadline: Duration::from_secs(30),
                try_timeout: Duration::from_secs(5),
                actor: Arc::from(""),
                batch_calls: true,
            },
        }
    }
}

impl ClientBuilder {
    /// Adds addresses of nodes: `host:port`, with or without `http://`.
    #[must_use]
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Adds the address of one node.
    #[must_use]
    pub fn endpoint(self, endpoint: impl Into<String>) -> ClientBuilder {
        self.endpoints([endpoint.into()])
    }

    /// How long to wait for a connection. Default 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.ways.connect_timeout = timeout;
        self
    }

    /// Connects by `transport` instead of by the machine's TCP.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> ClientBuilder {
        self.ways.transport = Some(transport);
        self
    }

    /// How long one try may take before another node is asked; what a write waits for beyond the quorum comes on top.
    /// Default 5 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.try_timeout = timeout;
        self
    }

    /// How long a call may take with all its tries. Default 30 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.settings.deadline = deadline;
        self
    }

    /// Who asks, for commands that do not say so themselves: at most 128 printable ASCII. Default: nobody.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<Arc<str>>) -> ClientBuilder {
        self.settings.actor = actor.into();
        self
    }

    /// Whether commands that are executed at the same time travel together, in frames of one stream, and their answers
    /// likewise: several times as many a second for the same work, and nobody waits for company. Default true. With
    /// false, and for commands of more than 64 KiB or that wait for all sites, each is a gRPC call of its own.
    #[must_use]
    pub fn batch_calls(mut self, batch: bool) -> ClientBuilder {
        self.settings.batch_calls = batch;
        self
    }

    /// Whether writes go to the leader directly, once it is known and can be reached. Default true; with false only the
    /// given endpoints are ever contacted.
    #[must_use]
    pub fn follow_leader(mut self, follow: bool) -> ClientBuilder {
        self.follow_leader = follow;
        self
    }

    /// Makes the client. Nothing is contacted before the first call.
    ///
    /// # Errors
    /// Where there is no endpoint, or one that is no address.
    pub fn build(self) -> Result<Client, BuildError> {
        let mut nodes: Vec<Way> = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            let bare = endpoint.trim().trim_start_matches("http://").trim_end_matches('/');
            let way = self.ways.to(bare).filter(Way::has_port);
            let way = way.ok_or_else(|| BuildError::BadEndpoint { endpoint: endpoint.clone() })?;
            if nodes.iter().all(|other| **other.address() != *bare) {
                nodes.push(way);
            }
        }
        if nodes.is_empty() {
            return Err(BuildError::NoEndpoint);
        }
        let pool = Pool::new(nodes, self.follow_leader, self.ways);
        Ok(Client::new(Arc::new(pool), self.settings))
    }
}
