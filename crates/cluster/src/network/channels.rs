//! Connections to peers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::TryFutureExt as _;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use sillok_wire::{errors, peer, v1::Reason};
use tonic::{
    Status,
    codegen::http,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use super::{
    identity::{Identify, LocalIdentity, NodeIdentity},
    transport::Transport,
};
use crate::{options::NodeOptions, roster::RosterView, types::Member};

/// Largest message between peers, in bytes: one record with the frozen audience of a million friends fits many times.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// A WAN of 50 ms at 1 Gbit/s has 6 MiB on the way.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// A connection that answers no ping for this long is closed, so that a peer whose machine vanished is noticed.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a caller needs of a peer beside consensus.
pub(crate) type PeerClient = peer::peer_client::PeerClient<InterceptedService<Channel, Identify>>;
/// Consensus.
pub(crate) type RaftClient = peer::raft_client::RaftClient<InterceptedService<Channel, Identify>>;

/// There is no such peer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PeerUnavailable {
    #[error("node {0} is not in the membership")]
    Unknown(u64),
    #[error("node {id} has an address that cannot be used: {address:?}")]
    Address { id: u64, address: String },
}

impl From<PeerUnavailable> for Status {
    fn from(unavailable: PeerUnavailable) -> Status {
        errors::status(Reason::NodeNotFound, unavailable.to_string(), &[], None)
    }
}

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Append streams and forwarded work.
    Bulk,
    /// Heartbeats and votes: never queued behind entries.
    Quick,
}

/// Where the configuration says a node is: it wins over the membership, which may remember ports of an earlier start. Safe,
/// because whoever answers there must be the very node that is meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressBook(BTreeMap<u64, Addresses>);

/// Both `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) peer: String,
    pub(crate) client: String,
}

impl AddressBook {
    /// The initial nodes' addresses, and this node's own.
    pub(crate) fn new(options: &NodeOptions) -> AddressBook {
        let initial = options
            .initial
            .iter()
            .map(|node| (node.id, Addresses { peer: node.peer_address.clone(), client: node.client_address.clone() }));
        let mut book: BTreeMap<u64, Addresses> = initial.collect();
        let own = Addresses { peer: options.peer_address.clone(), client: options.client_address.clone() };
        book.insert(options.id, own);
        AddressBook(book)
    }

    /// The member with the addresses the configuration knows.
    pub(crate) fn correct(&self, id: u64, member: &Member) -> Member {
        let mut member = member.clone();
        if let Some(addresses) = self.0.get(&id) {
            member.peer_address.clone_from(&addresses.peer);
            member.client_address.clone_from(&addresses.client);
        }
        member
    }

    /// The client address of [`AddressBook::correct`]; it rides on every answer.
    pub(crate) fn client_address<'a>(&'a self, id: u64, member: &'a Member) -> &'a str {
        self.0.get(&id).map_or(&member.client_address, |addresses| &addresses.client)
    }
}

/// Connections to peers, opened when first used and again when they break.
pub(crate) struct Peers {
    local: Arc<LocalIdentity>,
    book: AddressBook,
    transport: Option<Arc<dyn Transport>>,
    open: Mutex<BTreeMap<(String, Lane), Channel>>,
}

impl Peers {
    pub(crate) fn new(local: Arc<LocalIdentity>, book: AddressBook, transport: Option<Arc<dyn Transport>>) -> Peers {
        Peers { local, book, transport, open: Mutex::default() }
    }

    pub(crate) fn book(&self) -> &AddressBook {
        &self.book
    }

    pub(crate) fn local(&self) -> &Arc<LocalIdentity> {
        &self.local
    }

    /// A client for a member; `deadline` is that of each call, for a stream until it is open.
    pub(crate) fn client(
        &self,
        node_id: u64,
        roster: &RosterView,
        deadline: Duration,
    ) -> Result<PeerClient, PeerUnavailable> {
        let member = roster.member(node_id).ok_or(PeerUnavailable::Unknown(node_id))?;
        let member = self.book.correct(node_id, member);
        let to = NodeIdentity { id: node_id, incarnation: member.incarnation };
        self.client_at(Some(to), &member.peer_address, deadline)
    }

    /// As [`Peers::client`], for calls that must not queue behind entries.
    pub(crate) fn quick_client(
        &self,
        node_id: u64,
        roster: &RosterView,
        deadline: Duration,
    ) -> Result<PeerClient, PeerUnavailable> {
        let member = roster.member(node_id).ok_or(PeerUnavailable::Unknown(node_id))?;
        let member = self.book.correct(node_id, member);
        let to = NodeIdentity { id: node_id, incarnation: member.incarnation };
        let channel = self.channel(node_id, &member.peer_address, Lane::Quick)?;
        Ok(peer::peer_client::PeerClient::with_interceptor(channel, Identify::new(&self.local, Some(to), deadline)))
    }

    /// A client for whoever listens at an address; `to` is who that should be.
    pub(crate) fn client_at(
        &self,
        to: Option<NodeIdentity>,
        address: &str,
        deadline: Duration,
    ) -> Result<PeerClient, PeerUnavailable> {
        let channel = self.channel(to.map_or(0, |to| to.id), address, Lane::Bulk)?;
        let client = peer::peer_client::PeerClient::with_interceptor(channel, Identify::new(&self.local, to, deadline));
        Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    pub(crate) fn raft_client(
        &self,
        to: NodeIdentity,
        address: &str,
        lane: Lane,
        deadline: Duration,
    ) -> Result<RaftClient, PeerUnavailable> {
        let channel = self.channel(to.id, address, lane)?;
        let identify = Identify::new(&self.local, Some(to), deadline);
        let client = peer::raft_client::RaftClient::with_interceptor(channel, identify);
        Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn channel(&self, id: u64, address: &str, lane: Lane) -> Result<Channel, PeerUnavailable> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(&(address.to_owned(), lane)) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| PeerUnavailable::Address { id, address: address.to_owned() })?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = match &self.transport {
            None => endpoint.connect_lazy(),
            Some(transport) => {
                let (transport, address) = (transport.clone(), address.to_owned());
                endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
                    transport.connect(address.clone()).map_ok(TokioIo::new)
                }))
            }
        };
        open.insert((address.to_owned(), lane), channel.clone());
        Ok(channel)
    }
}
