//! Events and actions: the input and the output of a [`super::sender::BackendSender`].

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
    /// The user's name for it, where there are several.
    pub name: Option<Arc<str>>,
    /// The signals that it is to get.
    pub takes: PerSignal<bool>,
    /// The size limits of a request, by signal.
    pub limits: PerSignal<Limits>,
    /// The most that a flush may add after the handler returns.
    pub flush_timeout: Duration,
    /// Set if the extension reports metrics of its own.
    pub reports_itself: bool,
    /// Set if the backend needs a setup. Without one, telemetry is received and dropped.
    pub has_setup: bool,
}

/// One request to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub(super) u64);

/// The way of a signal to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The same for signals whose requests go to the same host over the same connection.
    pub endpoint: usize,
    /// When failed requests are tried again.
    pub retry: RetryPolicy,
}

/// The result of a setup for one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// Requests can be sent.
    Route(Route),
    /// A secret is missing, or its value does not do: telemetry is kept, and the setup is tried again.
    Pending,
    /// The settings lead nowhere: telemetry is dropped.
    NoRoute,
}

/// The result of a setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupResult {
    /// The ways; `None` leaves them as they are.
    pub routes: Option<PerSignal<RouteState>>,
    /// Set if the key comes from a secret: if the backend refuses it, the secret is fetched again.
    pub has_secret: bool,
}

/// An input of the sender.
#[derive(Debug)]
pub enum SenderEvent {
    /// The first `/next` is out.
    Start,
    /// Telemetry came, within the limits of its signal. The share says that others keep it, too.
    Enqueued(Chunk, Option<SharedBytes>),
    /// Telemetry came for which the others leave no room.
    Refused(Chunk),
    /// The function runs from now on.
    InvocationBegins {
        /// When what is kept may leave meanwhile.
        during: DuringInvocation,
        /// Set if its end waits for a flush. If not, the environment may be frozen at any moment.
        held: bool,
    },
    /// The function is done, and the environment may be frozen.
    InvocationEnds,
    /// The environment is never frozen, or nobody says when invocations begin and end.
    Unattended(DuringInvocation),
    /// Send what came so far.
    Flush {
        /// The reason, for the log and the limits of the flush.
        reason: FlushReason,
        /// When it is cancelled at the latest.
        deadline: Instant,
        /// Set if it waits for probes that are in flight.
        waits_for_probes: bool,
    },
    /// The flush is over, whatever it has got through: end what is in flight and keep it.
    CancelFlush,
    /// A request ended.
    Answered(RequestId, Verdict),
    /// The setup ended.
    SetupDone(SetupResult),
    /// The environment was restored from a snapshot: connections, secrets and what was learnt of the backend are old.
    Restored,
    /// Report on the extension itself, where that was asked for: once a minute at most, and before the last flush.
    ReportItself {
        /// The last flush is to come.
        last: bool,
    },
    /// The process ends: say what is lost by that.
    Ends,
    /// [`super::sender::BackendSender::timeout`] has come.
    Tick,
}

/// An output of the sender. The caller executes them in order.
#[derive(Debug)]
pub enum SenderAction {
    /// Set the backend up and answer with [`SenderEvent::SetupDone`].
    Setup {
        /// Fetch secrets again that are known.
        refresh: bool,
    },
    /// End the setup under way. No [`SenderEvent::SetupDone`] is awaited.
    AbortSetup,
    /// Send a request and answer with [`SenderEvent::Answered`].
    Send {
        /// Names it.
        request: RequestId,
        /// The signal of the chunks.
        signal: Signal,
        /// The body, in parts; none in a probe that carries nothing.
        chunks: Vec<Bytes>,
        /// Over a new connection, because the old ones may be dead.
        fresh: bool,
    },
    /// Open the connections by requests without telemetry, and answer with [`SenderEvent::Answered`].
    Warm {
        /// Names it.
        request: RequestId,
        /// Over new connections.
        fresh: bool,
    },
    /// End a request. No [`SenderEvent::Answered`] is awaited.
    Abort(RequestId),
    /// The flush is over.
    FlushDone,
    /// Enqueue telemetry of the extension's own.
    Enqueue(OwnTelemetry),
    /// Write a line of the log.
    Log(Report),
}

/// Telemetry of the extension's own.
#[derive(Debug)]
pub enum OwnTelemetry {
    /// A log record.
    Log(Box<LogRecord>),
    /// Metrics.
    Metrics(Vec<Metric>),
}

/// The circumstances of an event.
#[derive(Clone, Copy, Debug)]
pub struct SenderContext<'a> {
    /// The clocks.
    pub now: Now,
    /// A random number from 0 to 1.
    pub jitter: f64,
    /// The spans that log records name when they leave.
    pub spans: &'a Correlation,
}
