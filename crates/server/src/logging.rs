//! Log lines: for people on a terminal, or one JSON object a line for programs. Always to standard error.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogFormat, LogSection};

/// Sends what this process logs to standard error. Where a subscriber is installed already, as in a test, that one stays.
pub fn init_logging(config: &LogSection) {
    // The filter was validated with the configuration; were it not, everything from `info` on is better than silence.
    let filter = config.filter.parse::<EnvFilter>().unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match config.format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal())).try_init(),
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_current_span(true).with_writer(stderr))
            .try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a subscriber for log lines is installed already; it stays");
    }
}
