//! Nodes in this process, called through a real client over loopback.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod commands;
mod health;
mod process;
mod queries;
mod shop;
mod stopping;
mod streams;
mod support;
mod three_nodes;
