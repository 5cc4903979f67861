//! The process's own log lines, on standard output, where Lambda picks them up.
//!
//! They come back to us as `extension` records: a line per record, batch or request would be a loop. Dependencies are
//! silent unless `RUST_LOG` names them.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::core::config::Log;

/// Installs the subscriber, and a hook that tells of a panic as one line of it.
pub fn install(log: &Log) {
    let filter = filter(&log.level);
    let lines = fmt::layer().with_writer(io::stdout).with_target(false);
    let installed = if log.json {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        tracing::subscriber::set_global_default(Registry::default().with(lines.with_filter(filter)))
    } else {
        // CloudWatch and our own log records carry the time already.
        let lines = lines.without_time().with_ansi(false);
        tracing::subscriber::set_global_default(Registry::default().with(lines.with_filter(filter)))
    };
    if installed.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload_as_str().unwrap_or("no message");
            tracing::error!("a task of the extension panicked at {place}: {payload}");
        }));
    }
}

/// A bare level is ours; anything else is read as `RUST_LOG` has it: `target=level,…`.
fn filter(level: &str) -> Targets {
    let ours = env!("CARGO_CRATE_NAME");
    match level.parse::<LevelFilter>() {
        Ok(level) => Targets::new().with_target(ours, level),
        Err(_) => level.parse().unwrap_or_else(|_| Targets::new().with_target(ours, tracing::Level::INFO)),
    }
}
