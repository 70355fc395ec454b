//! The Rust client: any endpoint, retries with the same key, deadlines.
//!
//! A [`Client`] knows a few addresses of one cluster and needs no more: any node takes any call. It learns who leads from
//! the answers and sends writes there directly; when a node dies it goes on with another, repeating what has no answer
//! under the same retry key, so that nothing is done twice. A failover shows as one slow call.
//!
//! - [`Client::execute`]: one command, until it is recorded, refused, or the deadline has passed
//! - [`Client::submit`]: many commands at high volume, answers in order
//! - [`Client::read`], [`Client::cluster`]: any read, at whichever node answers
//! - [`Client::events`]: history, then live tail, across failures with no gap and no duplicate
//! - [`commands`]: what to ask for
//!
//! ```no_run
//! use sillok_client::{Client, commands};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().endpoints(["127.0.0.1:7401", "127.0.0.1:7402"]).build()?;
//! client.execute(commands::open_channel("tea-house", "찻집")).await?;
//! let receipt = client.execute(commands::add_friend("tea-house", "u-1")).await?;
//! println!("revision {}", receipt.revision);
//! # Ok(())
//! # }
//! ```

mod backoff;
mod builder;
mod client;
pub mod commands;
mod error;
mod events;
mod execute;
mod key;
mod lane;
mod pool;
mod read;
mod submit;
mod way;

pub use builder::{BuildError, ClientBuilder};
pub use client::Client;
pub use error::WriteError;
pub use events::Events;
pub use key::retry_key;
pub use read::{Cluster, Queries};
pub use submit::{Answered, Closed, SubmitAnswers, SubmitOptions, SubmitSender, SubmitStream};
pub use way::{Connection, Transport};

/// What is asked, answered and read: the generated types of `sillok.v1`.
pub use sillok_wire::v1;
