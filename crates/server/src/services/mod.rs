//! What clients call.

pub(crate) mod cluster;
pub(crate) mod commands;
pub(crate) mod health;
pub(crate) mod queries;
pub(crate) mod submit;

use tonic_reflection::server::{
    Builder, Error,
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha,
};

/// Reflection in both versions, of the public contract and nothing of the peers.
pub(crate) fn reflection() -> Result<
    (ServerReflectionServer<impl ServerReflection>, v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>),
    Error,
> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(sillok_wire::PUBLIC_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok((builder().build_v1()?, builder().build_v1alpha()?))
}
