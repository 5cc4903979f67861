//! The process's own log lines, on standard output, where Lambda picks them up.
//!
//! They come back to us as `extension` records: a line per record, batch or request would be a loop. Dependencies are
//! silent unless `RUST_LOG` names them, and even then write nothing below info: there they write requests and answers
//! whole, with the secrets in them. Writing a line never blocks.

mod output;

use std::sync::LazyLock;
use std::time::Duration;

use tracing::dispatcher::{self, Dispatch};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::{Registry, fmt};

use crate::core::config::Log;

const OURS: &str = env!("CARGO_CRATE_NAME");
/// The time for the last lines, at the end of the process.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// Installs the subscriber, and a hook that tells of a panic as one line of it.
pub fn install(log: &Log) {
    if dispatcher::set_global_default(lines(log, || output::Line)).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload_as_str().unwrap_or("no message");
            tracing::error!("a task of the extension panicked at {place}: {payload}");
        }));
    }
}

/// Waits for the lines that are not written yet, for a moment at most: the process is about to end.
pub fn drain() {
    output::drain(DRAIN_TIMEOUT);
}

/// The subscriber, writing to `writer`.
pub fn lines<W>(log: &Log, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = log.json;
    let make = move || -> Writer {
        let lines = fmt::layer().with_writer(writer).with_target(false);
        if json {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Box::new(Registry::default().with(lines))
        } else {
            // CloudWatch and our own log records carry the time already.
            Box::new(Registry::default().with(lines.without_time().with_ansi(false)))
        }
    };
    Dispatch::new(Lazy { wanted: Wanted::new(&log.level), writer: LazyLock::new(make) })
}

type Writer = Box<dyn Subscriber + Send + Sync>;

/// A subscriber that is made when there is something to write. Most cold starts write nothing, and the library's makes room
/// for four thousand threads first. What makes it writes no line and does not panic: that line would wait for itself.
struct Lazy<F> {
    wanted: Wanted,
    writer: LazyLock<Writer, F>,
}

impl<F: FnOnce() -> Writer + Send + 'static> Subscriber for Lazy<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wanted.enables(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<Registry>::max_level_hint(&self.wanted.asked_for)
    }

    fn current_span(&self) -> Current {
        self.writer.current_span()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.writer.new_span(attributes)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.writer.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.writer.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.writer.event(event);
    }

    fn enter(&self, span: &Id) {
        self.writer.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.writer.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.writer.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.writer.try_close(span)
    }
}

/// What was asked for, less what dependencies must not write. A limit among the targets that were asked for would not do:
/// there the more precise name wins.
struct Wanted {
    asked_for: Targets,
    limit: Targets,
}

impl Wanted {
    fn new(level: &str) -> Self {
        let limit = Targets::new().with_default(LevelFilter::INFO).with_target(OURS, LevelFilter::TRACE);
        Self { asked_for: asked_for(level), limit }
    }

    fn enables(&self, metadata: &Metadata<'_>) -> bool {
        [&self.asked_for, &self.limit]
            .into_iter()
            .all(|targets| targets.would_enable(metadata.target(), metadata.level()))
    }
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
