//! Canonical proto3 JSON, both ways, by the name of a message.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};
use prost_types::FileDescriptorSet;

use crate::DESCRIPTORS;

/// Why a message did not become JSON, or JSON no message.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The name is of no message of this project.
    #[error("there is no message named {0}; names are like sillok.v1.Command")]
    NoSuchMessage(String),
    /// The bytes are of another message than the name says.
    #[error("the bytes are no {name}: {source}")]
    NotThisMessage {
        /// The full name that was given.
        name: String,
        /// What prost says.
        source: prost::DecodeError,
    },
    /// The text is no JSON of this message.
    #[error("not the JSON of a {name}: {source}")]
    Json {
        /// The full name that was given.
        name: String,
        /// Which field and why.
        source: serde_json::Error,
    },
}

/// Every message of the project, and those of `google.rpc` that ride in errors.
#[expect(clippy::expect_used, reason = "both sets are compiled in, and the tests of this crate decode them")]
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // Neither can fail: both sets are compiled in, and the tests of this crate decode them.
    let mut pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors made by the build");
    let rpc = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("descriptors of tonic-types");
    // Of google.rpc only what rides in errors: Status itself is in the pool.
    let details = rpc.file.into_iter().filter(|file| file.name().ends_with("error_details.proto"));
    pool.add_file_descriptor_protos(details).expect("error details need nothing else");
    pool
});

/// The descriptors of every message that [`to_value`] and [`from_str`] know.
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// A message as a JSON value: camelCase names, 64-bit integers as strings, times as RFC 3339, defaults left out.
///
/// # Errors
/// Where there is no such name, the message is of another type, or it holds what JSON cannot say (a time out of range).
pub fn to_value(message: &impl Message, full_name: &str) -> Result<serde_json::Value, JsonError> {
    let mut dynamic = dynamic(full_name)?;
    dynamic
        .transcode_from(message)
        .map_err(|source| JsonError::NotThisMessage { name: full_name.to_owned(), source })?;
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|source| JsonError::Json { name: full_name.to_owned(), source })
}

/// The same as one line of text.
///
/// # Errors
/// As [`to_value`].
pub fn to_string(message: &impl Message, full_name: &str) -> Result<String, JsonError> {
    Ok(to_value(message, full_name)?.to_string())
}

/// A message of its JSON. Unknown fields are an error: a misspelt field must not vanish.
///
/// # Errors
/// Where there is no such name, or the text is no JSON of it; the message names line and column.
pub fn from_str<M: Message + Default>(full_name: &str, text: &str) -> Result<M, JsonError> {
    let descriptor =
        POOL.get_message_by_name(full_name).ok_or_else(|| JsonError::NoSuchMessage(full_name.to_owned()))?;
    let json = |source| JsonError::Json { name: full_name.to_owned(), source };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor, &mut deserializer, &options).map_err(json)?;
    deserializer.end().map_err(json)?;
    dynamic.transcode_to().map_err(|source| JsonError::NotThisMessage { name: full_name.to_owned(), source })
}

fn dynamic(full_name: &str) -> Result<DynamicMessage, JsonError> {
    let descriptor =
        POOL.get_message_by_name(full_name).ok_or_else(|| JsonError::NoSuchMessage(full_name.to_owned()))?;
    Ok(DynamicMessage::new(descriptor))
}
