//! The simulated network as the product's transport, between nodes and from clients to them.

use std::{io, net::SocketAddr};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use sillok_cluster::{Connection, Incoming, Transport};
use turmoil::net::{TcpListener, TcpStream};

/// `turmoil`'s TCP.
#[derive(Debug, Clone, Copy)]
pub struct SimNetwork;

impl Transport for SimNetwork {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Incoming>> {
        async move {
            let listener = TcpListener::bind(address).await?;
            let incoming = stream::unfold(listener, |listener| async move {
                let accepted = listener.accept().await.map(|(stream, _)| Connection::new(stream));
                Some((accepted, listener))
            });
            Ok(incoming.boxed())
        }
        .boxed()
    }

    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        async move { Ok(Connection::new(TcpStream::connect(address).await?)) }.boxed()
    }
}

impl sillok_client::Transport for SimNetwork {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn sillok_client::Connection>>> {
        async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn sillok_client::Connection>) }.boxed()
    }
}
