//! The events and actions of a [`super::sender::BackendSender`]: its input and its output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;

use super::breaker::RetryPolicy;
use super::budget::SharedBytes;
use super::health::Report;
use super::verdict::Verdict;
use crate::chunk::Chunk;
use crate::delivery::cadence::DuringInvocation;
use crate::elapsed::Now;
use crate::lambda::correlation::Correlation;
use crate::lambda::lifecycle::FlushReason;
use crate::otlp::Limits;
use crate::signal::{PerSignal, Signal};

/// The settings of one backend, fixed for its lifetime.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// The user's name for the backend, if there are several.
    pub name: Option<Arc<str>>,
    /// The signals that go to the backend.
    pub takes: PerSignal<bool>,
    /// The size limits of a request, by signal.
    pub limits: PerSignal<Limits>,
    /// The maximum time that a flush may add after the handler returns.
    pub flush_timeout: Duration,
    /// True if the extension reports its own metrics.
    pub reports_itself: bool,
    /// True if the backend has a setup. Without one, telemetry is received and dropped.
    pub has_setup: bool,
}

/// The id of a request to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub(super) u64);

/// The route of a signal to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// An id that is equal for signals that share a host and connection.
    pub endpoint: usize,
    /// The backoff of failed requests.
    pub retry: RetryPolicy,
}

/// The result of a setup for one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// Requests can be sent.
    Route(Route),
    /// A secret is missing or invalid. Telemetry is kept, and the setup is retried.
    Pending,
    /// The settings give no usable route. Telemetry is dropped.
    NoRoute,
}

/// The result of a setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupResult {
    /// The routes; `None` leaves them as they are.
    pub routes: Option<PerSignal<RouteState>>,
    /// True if the key comes from a secret. If the backend refuses it, the secret is fetched again.
    pub has_secret: bool,
}

/// An input of the sender.
#[derive(Debug)]
pub enum SenderEvent {
    /// The first `/next` has been sent.
    Start,
    /// Telemetry arrived, within the limits of its signal. The shared bytes are set if other senders hold it too.
    Enqueued(Chunk, Option<SharedBytes>),
    /// Telemetry arrived, but the shared budget has no room for it.
    NoRoom(Chunk),
    /// An invocation begins.
    InvocationBegins {
        /// The timing of sending during the invocation.
        during: DuringInvocation,
        /// True if the end of the invocation waits for a flush. If not, the environment may freeze at any moment.
        held: bool,
    },
    /// The invocation has ended, and the environment may freeze.
    InvocationEnds,
    /// The environment never freezes, or no event announces the ends of invocations.
    KeepOpen(DuringInvocation),
    /// Send everything that has arrived.
    Flush {
        /// The reason; it decides the limits of the flush.
        reason: FlushReason,
        /// The time at which it is cancelled.
        deadline: Instant,
        /// True if it waits for probes in flight.
        waits_for_probes: bool,
    },
    /// Stop the flush. End the requests in flight and keep their batches.
    CancelFlush,
    /// A request ended.
    Answered(RequestId, Verdict),
    /// The setup ended.
    SetupDone(SetupResult),
    /// The environment was restored from a snapshot: connections, secrets and the known state of the backend are outdated.
    Restored,
    /// Report the extension's own metrics if they are enabled: at most once a minute, and before the last flush.
    ReportItself {
        /// True before the last flush.
        last: bool,
    },
    /// The process ends: report the items that are lost.
    ProcessEnds,
    /// [`super::sender::BackendSender::timeout`] has passed.
    Tick,
}

/// An output of the sender. The caller carries actions out in order.
#[derive(Debug)]
pub enum SenderAction {
    /// Set the backend up and answer with [`SenderEvent::SetupDone`].
    Setup {
        /// True if known secrets must be fetched again.
        refresh: bool,
    },
    /// Abort the running setup. No [`SenderEvent::SetupDone`] is expected.
    AbortSetup,
    /// Send a request and answer with [`SenderEvent::Answered`].
    Send {
        request: RequestId,
        /// The signal of the chunks.
        signal: Signal,
        /// The parts of the body; none in an empty probe.
        chunks: Vec<Bytes>,
        /// True if the old connections may be dead, so a new one must be used.
        fresh: bool,
    },
    /// Open the connections with requests without telemetry, and answer with [`SenderEvent::Answered`].
    Warm {
        request: RequestId,
        /// True if new connections must be used.
        fresh: bool,
    },
    /// Abort a request. No [`SenderEvent::Answered`] is expected.
    Abort(RequestId),
    /// The flush is over.
    FlushDone,
    /// Enqueue the extension's own telemetry.
    Enqueue(OwnTelemetry),
    /// Write a line to the log.
    Log(Report),
}

/// The extension's own telemetry.
#[derive(Debug)]
pub enum OwnTelemetry {
    Log(Box<LogRecord>),
    Metrics(Vec<Metric>),
}

/// The context of an event.
#[derive(Clone, Copy, Debug)]
pub struct SenderContext<'a> {
    /// Both clocks.
    pub now: Now,
    /// A random number from 0 to 1.
    pub jitter: f64,
    /// The spans to write into log records when they are sent.
    pub spans: &'a Correlation,
}
