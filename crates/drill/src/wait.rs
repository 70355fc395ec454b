//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use crate::DrillError;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Polls `probe` until it gives a value.
///
/// # Errors
/// [`DrillError::NotWithin`] after `limit`.
pub async fn within<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T, DrillError> {
    let started = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if started.elapsed() >= limit {
            return Err(DrillError::NotWithin { what: what.to_owned(), limit });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
