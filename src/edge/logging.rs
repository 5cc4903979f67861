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

/// A bare level is ours, alone or in a list as `RUST_LOG` has it: `level,target=level`. It was set for the function, as
/// likely as not: what it says of all targets is not for our dependencies, and where it does not name us we are not mute.
fn asked_for(level: &str) -> Targets {
    let asked: Targets = level.parse().unwrap_or_default();
    let ours = asked.default_level();
    let named = asked.iter().any(|(target, _)| target == OURS);
    let targets = Targets::new().with_targets(asked.iter().map(|(target, level)| (target.to_owned(), level)));
    if named { targets } else { targets.with_target(OURS, ours.unwrap_or(LevelFilter::INFO)) }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_the_function_wants_to_hear_neither_silences_us_nor_lets_dependencies_speak() {
        let asked = asked_for("my_function=debug");
        assert!(asked.would_enable(OURS, &Level::INFO) && !asked.would_enable(OURS, &Level::DEBUG));
        for level in ["debug", "debug,my_function=trace"] {
            let asked = asked_for(level);
            assert!(asked.would_enable(OURS, &Level::DEBUG), "{level}");
            assert!(!asked.would_enable("hyper", &Level::ERROR), "{level}");
        }
        assert!(!asked_for("off").would_enable(OURS, &Level::ERROR));
        assert!(asked_for("rotel_lambda_extension=warn,hyper=info").would_enable("hyper", &Level::INFO));
        assert!(asked_for("no such = level").would_enable(OURS, &Level::INFO));
    }
}
