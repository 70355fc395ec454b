//! How a node is connected to.

use std::{fmt, io, sync::Arc, time::Duration};

use futures::{TryFutureExt as _, future::BoxFuture};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    codegen::http::Uri,
    transport::{self, Channel, Endpoint},
};

/// Bytes both ways.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

/// Connections that come from elsewhere than the machine's TCP, such as those of a simulated network.
pub trait Transport: Send + Sync + 'static {
    /// Connects to `host:port`.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>;
}

/// What all of a client's connections have in common.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) connect_timeout: Duration,
    /// `None`: the machine's TCP.
    pub(crate) transport: Option<Arc<dyn Transport>>,
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").field("connect_timeout", &self.connect_timeout).finish_non_exhaustive()
    }
}

impl Ways {
    /// The way to an address; `None` where it is none.
    pub(crate) fn to(&self, address: &str) -> Option<Way> {
        const MIB: u32 = 1 << 20;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            // A node that has lost its power sends no reset: this is what notices.
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true)
            // Explicit, because the 64 KiB of HTTP/2 hold a stream to 64 KiB a round trip.
            .initial_stream_window_size(2 * MIB)
            .initial_connection_window_size(4 * MIB);
        Some(Way { address: Arc::from(address), endpoint, transport: self.transport.clone() })
    }
}

/// The way to one node.
#[derive(Clone)]
pub(crate) struct Way {
    address: Arc<str>,
    endpoint: Endpoint,
    transport: Option<Arc<dyn Transport>>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Way {
    /// `host:port`.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the address says a port.
    pub(crate) fn has_port(&self) -> bool {
        self.endpoint.uri().port_u16().is_some()
    }

    /// A connection that is made when it is first used, and again when it breaks.
    pub(crate) fn connect_lazily(&self) -> Channel {
        match &self.transport {
            None => self.endpoint.connect_lazy(),
            Some(transport) => self.endpoint.connect_with_connector_lazy(self.connector(transport)),
        }
    }

    /// As [`Way::connect_lazily`], and stands when it returns.
    pub(crate) async fn connect(&self) -> Result<Channel, transport::Error> {
        match &self.transport {
            None => self.endpoint.connect().await,
            Some(transport) => self.endpoint.connect_with_connector(self.connector(transport)).await,
        }
    }

    fn connector(
        &self,
        transport: &Arc<dyn Transport>,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<Box<dyn Connection>>,
        Error = io::Error,
        Future = impl Future<Output = io::Result<TokioIo<Box<dyn Connection>>>> + Send + use<>,
    > + Send
    + use<> {
        let (transport, address) = (transport.clone(), self.address.to_string());
        tower::service_fn(move |_: Uri| transport.connect(address.clone()).map_ok(TokioIo::new))
    }
}
