//! Settings of a client.

use std::{sync::Arc, time::Duration};

use tonic::transport::Endpoint;

use crate::{Client, client::Settings, pool::Pool};

/// Collects the settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    connect_timeout: Duration,
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
            connect_timeout: Duration::from_secs(2),
            follow_leader: true,
            settings: Settings {
                deadline: Duration::from_secs(30),
                try_timeout: Duration::from_secs(5),
                actor: Arc::from(""),
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
        self.connect_timeout = timeout;
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
        let mut nodes = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            let bare = endpoint.trim().trim_start_matches("http://").trim_end_matches('/');
            let made = transport(bare, self.connect_timeout).filter(|made| made.uri().port_u16().is_some());
            let made = made.ok_or_else(|| BuildError::BadEndpoint { endpoint: endpoint.clone() })?;
            if nodes.iter().all(|(address, _): &(Arc<str>, Endpoint)| **address != *bare) {
                nodes.push((Arc::from(bare), made));
            }
        }
        if nodes.is_empty() {
            return Err(BuildError::NoEndpoint);
        }
        let pool = Pool::new(nodes, self.follow_leader, self.connect_timeout);
        Ok(Client::new(Arc::new(pool), self.settings))
    }
}

/// A connection's settings; `None` where the address is none.
pub(crate) fn transport(address: &str, connect_timeout: Duration) -> Option<Endpoint> {
    const MIB: u32 = 1 << 20;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(
        endpoint
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            // A node that has lost its power sends no reset: this is what notices.
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true)
            // Explicit, because the 64 KiB of HTTP/2 hold a stream to 64 KiB a round trip.
            .initial_stream_window_size(2 * MIB)
            .initial_connection_window_size(4 * MIB),
    )
}
