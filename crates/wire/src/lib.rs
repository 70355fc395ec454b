//! Generated protobuf code, and conversions between it and the domain.
//!
//! What crosses a boundary or lives for ever is protobuf; what decides is [`sillok_domain`]. This crate is the one place
//! that knows both, and the one place that knows which bytes the chronicle holds:
//!
//! - [`command_from_proto`]: a client's command, checked, with its [`fingerprint()`] and the hash of its retry key; [`command_from_bytes`]
//!   reads it out of a frame, where commands stay encoded until they are decided
//! - [`encode_payload`], [`payload_from_proto`]: an event, to and from the bytes kept for ever
//! - [`records`]: the envelope around many decisions, encoded once, with peeks that read only its front
//! - [`receipt()`], [`answer`]: what a client is told, the same fresh and years later
//! - [`errors`]: the closed list of reasons as rich gRPC status
//! - [`RawCodec`]: gRPC messages that are bytes already
//! - [`json`]: canonical proto3 JSON

mod audience;
mod command;
mod durability;
pub mod errors;
mod event;
mod fields;
mod fingerprint;
mod frame;
pub mod json;
mod payload;
mod raw;
mod receipt;
pub mod records;
mod send_push;
mod time;

#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
mod proto {
    /// `sillok.*`, nested as the generated code expects.
    pub mod sillok {
        pub mod v1 {
            tonic::include_proto!("sillok.v1");
            pub use crate::{
                durability::{Durability, Sites},
                frame::{SubmitRequest, SubmitResponse},
            };
        }
        pub mod peer {
            pub mod v1 {
                tonic::include_proto!("sillok.peer.v1");
                pub use crate::frame::ExecuteRequest;
            }
        }
        pub mod record {
            pub mod v1 {
                tonic::include_proto!("sillok.record.v1");
            }
        }
    }
}

/// Node to node (`proto/sillok/peer/v1`).
pub use proto::sillok::peer::v1 as peer;
/// The envelope on disk (`proto/sillok/record/v1`).
pub use proto::sillok::record::v1 as record;
/// The public contract (`proto/sillok/v1`).
pub use proto::sillok::v1;

pub use command::{Malformed, Submission, command_from_proto, command_name, rule_to_proto};
pub use event::{event_to_proto, recovery_to_proto, refusal_to_proto};
pub use fingerprint::fingerprint;
pub use frame::{asks_for_all_sites, command_from_bytes};
pub use payload::{
    PayloadError, decode_payload, decode_to_fold, encode_payload, event_kind, level_of_kind, payload_from_proto,
    payload_to_proto, peek_event_kind,
};
pub use raw::{RawCodec, RawEncoder};
pub use receipt::{Outcome, Place, answer, receipt, refused_to_proto, validated};
pub use sillok_domain::{FieldViolation, audience_digest};
pub use time::{OutOfRange, duration, timestamp, unix_nanos};

/// The log every position belongs to: the one Raft group of today.
pub const LOG: u64 = 1;

/// Every descriptor of the project, serialised.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sillok.bin"));
/// The descriptors of the public contract, for server reflection.
pub const PUBLIC_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sillok.v1.bin"));
