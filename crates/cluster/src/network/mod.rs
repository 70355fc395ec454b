//! Node to node.
//!
//! Each peer has two connections: one for append streams and forwarded work, one for heartbeats and votes, which so never
//! queue behind entries. Every call carries who we are and whom we mean, and a deadline.

mod channels;
mod contact;
pub(crate) mod convert;
mod departures;
mod fence;
mod identity;
mod raft_network;
mod read_index;
mod transport;
mod unanswered;

pub(crate) use channels::{
    AddressBook, CONNECTION_WINDOW_BYTES, MAX_MESSAGE_BYTES, PeerClient, PeerUnavailable, Peers, STREAM_WINDOW_BYTES,
};
pub(crate) use contact::{Contact, Heard};
pub(crate) use departures::Departures;
pub(crate) use fence::Fence;
pub(crate) use identity::{Guard, LocalIdentity, NodeIdentity, cluster_hex};
pub(crate) use raft_network::NetworkFactory;
pub(crate) use read_index::read_index;
pub use transport::{Connection, Incoming, Transport};
pub(crate) use unanswered::Unanswered;
