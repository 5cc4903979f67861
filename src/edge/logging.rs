//! The process's own log lines, on standard output, where Lambda picks them up.
//!
//! They come back to us as `extension` records: a line per record, batch or request would be a loop. Dependencies are
//! silent unless `RUST_LOG` names them, and even then write nothing below info: there they write requests and answers
//! whole, with the secrets in them.

use std::io;

use tracing::dispatcher::{self, Dispatch};
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::{Layer, Registry, fmt};

use crate::core::config::Log;

const OURS: &str = env!("CARGO_CRATE_NAME");

/// Installs the subscriber, and a hook that tells of a panic as one line of it.
pub fn install(log: &Log) {
    if dispatcher::set_global_default(lines(log, io::stdout)).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload_as_str().unwrap_or("no message");
            tracing::error!("a task of the extension panicked at {place}: {payload}");
        }));
    }
}

/// The subscriber, writing to `writer`.
pub fn lines<W>(log: &Log, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(&log.level);
    let lines = fmt::layer().with_writer(writer).with_target(false);
    if log.json {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        Registry::default().with(lines.with_filter(filter)).into()
    } else {
        // CloudWatch and our own log records carry the time already.
        let lines = lines.without_time().with_ansi(false);
        Registry::default().with(lines.with_filter(filter)).into()
    }
}

/// What was asked for, less what dependencies must not write. A limit among the targets that were asked for would not do:
/// there the more precise name wins.
fn filter(level: &str) -> impl Filter<Registry> + use<> {
    let limit = Targets::new().with_default(LevelFilter::INFO).with_target(OURS, LevelFilter::TRACE);
    asked_for(level).and(limit)
}

/// A bare level is ours; anything else is read as `RUST_LOG` has it: `target=level,…`.
fn asked_for(level: &str) -> Targets {
    match level.parse::<LevelFilter>() {
        Ok(level) => Targets::new().with_target(OURS, level),
        Err(_) => level.parse().unwrap_or_else(|_| Targets::new().with_target(OURS, tracing::Level::INFO)),
    }
}
