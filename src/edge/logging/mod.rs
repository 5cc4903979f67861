//! The extension's own log, written to standard output, where Lambda collects it.
//!
//! The lines come back to us as `extension` records: a line per record, batch or request would be a loop.
//! Dependencies log nothing unless `RUST_LOG` names them, and even then nothing below info: there they log
//! whole requests and responses, including secrets. Writing a line never blocks.

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

use rotel_core::config::LogSettings;

const OURS: &str = env!("CARGO_CRATE_NAME");
/// The time allowed for the last lines, at the end of the process.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// Installs the subscriber, and a panic hook that logs each panic as one line.
pub fn install(log: &LogSettings) {
    if dispatcher::set_global_default(subscriber(log, || output::LineWriter)).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload_as_str().unwrap_or("no message");
            tracing::error!("a task of the extension panicked at {location}: {payload}");
        }));
    }
}

/// Waits briefly for lines that are not written yet: the process is about to end.
pub fn drain() {
    output::drain(DRAIN_TIMEOUT);
}

/// Creates the subscriber, which writes to `writer`.
pub fn subscriber<W>(log: &LogSettings, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = log.json;
    let create = move || -> Inner {
        let lines = fmt::layer().with_writer(writer).with_target(false);
        if json {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Box::new(Registry::default().with(lines))
        } else {
            // CloudWatch and our own log records have timestamps already.
            Box::new(Registry::default().with(lines.without_time().with_ansi(false)))
        }
    };
    Dispatch::new(LazySubscriber { targets: LogTargets::new(&log.level), inner: LazyLock::new(create) })
}

type Inner = Box<dyn Subscriber + Send + Sync>;

/// A subscriber that is created with the first line. Most cold starts write none, and tracing's registry first
/// allocates space for four thousand threads. The code that creates it must not log or panic: that line would
/// wait for itself.
struct LazySubscriber<F> {
    targets: LogTargets,
    inner: LazyLock<Inner, F>,
}

impl<F: FnOnce() -> Inner + Send + 'static> Subscriber for LazySubscriber<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.targets.enables(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<Registry>::max_level_hint(&self.targets.configured)
    }

    fn current_span(&self) -> Current {
        self.inner.current_span()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.inner.new_span(attributes)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.inner.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.inner.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.inner.event(event);
    }

    fn enter(&self, span: &Id) {
        self.inner.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.inner.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.inner.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.inner.try_close(span)
    }
}

/// The configured targets, minus what dependencies must not log. A limit within the configured targets would
/// not work: there the more specific target wins.
struct LogTargets {
    configured: Targets,
    limit: Targets,
}

impl LogTargets {
    fn new(level: &str) -> Self {
        let limit = Targets::new().with_default(LevelFilter::INFO).with_target(OURS, LevelFilter::TRACE);
        Self { configured: configured(level), limit }
    }

    fn enables(&self, metadata: &Metadata<'_>) -> bool {
        [&self.configured, &self.limit]
            .into_iter()
            .all(|targets| targets.would_enable(metadata.target(), metadata.level()))
    }
}

/// Parses a level, or a list as in `RUST_LOG`: `level,target=level`. A level without a target applies to us
/// only. It may well have been set for the function, so it does not enable our dependencies. If no entry names
/// us and there is no level without a target, we log at info.
fn configured(level: &str) -> Targets {
    let parsed: Targets = level.parse().unwrap_or_default();
    let ours = parsed.default_level();
    let named = parsed.iter().any(|(target, _)| target == OURS);
    let targets =
        Targets::new().with_targets(parsed.iter().map(|(target, level)| (target.to_owned(), level)));
    if named { targets } else { targets.with_target(OURS, ours.unwrap_or(LevelFilter::INFO)) }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn function_targets_keep_our_level() {
        let parsed = configured("my_function=debug");
        assert!(parsed.would_enable(OURS, &Level::INFO) && !parsed.would_enable(OURS, &Level::DEBUG));
        for level in ["debug", "debug,my_function=trace"] {
            let parsed = configured(level);
            assert!(parsed.would_enable(OURS, &Level::DEBUG), "{level}");
            assert!(!parsed.would_enable("hyper", &Level::ERROR), "{level}");
        }
        assert!(!configured("off").would_enable(OURS, &Level::ERROR));
        assert!(configured("rotel_lambda_extension=warn,hyper=info").would_enable("hyper", &Level::INFO));
        assert!(configured("no such = level").would_enable(OURS, &Level::INFO));
    }
}
