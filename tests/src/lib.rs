//! Scenarios across real processes: a cluster of `sillok serve` on loopback, in a directory of its own.
//!
//! Tests wait for conditions ([`eventually`]), end only processes they started, and leave nothing behind.

pub mod account;
mod cluster;

pub use cluster::{Cluster, Site};

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Names of the sites, by node id from 1: after the archives of the Veritable Records.
pub const SITES: [&str; 3] = ["chungju", "seongju", "jeonju"];

/// Polls `probe` until it gives a value. Panics with `what` after `limit`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
