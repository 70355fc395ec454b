//! The command line against real processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod dev;
mod support;
