//! The three OTLP signals.

use std::fmt;

/// A kind of telemetry. Each has its own OTLP service, path and request message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Metric data points.
    Metrics,
    /// Spans.
    Traces,
}

impl Signal {
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    /// The name in OTLP's paths: `logs`, `metrics`, `traces`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    /// The name inside environment variable names: `LOGS`, `METRICS`, `TRACES`.
    pub fn in_variable_names(self) -> &'static str {
        match self {
            Self::Logs => "LOGS",
            Self::Metrics => "METRICS",
            Self::Traces => "TRACES",
        }
    }

    /// The path of the signal's OTLP/gRPC export method, as named in the OTLP specification's `.proto` files.
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One value per signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSignal<T> {
    /// The value for logs.
    pub logs: T,
    /// The value for metrics.
    pub metrics: T,
    /// The value for traces.
    pub traces: T,
}

impl<T> PerSignal<T> {
    /// Creates the value of each signal with `make`.
    pub fn from_fn(mut make: impl FnMut(Signal) -> T) -> Self {
        Self { logs: make(Signal::Logs), metrics: make(Signal::Metrics), traces: make(Signal::Traces) }
    }

    /// The value of `signal`.
    pub fn of(&self, signal: Signal) -> &T {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
            Signal::Traces => &self.traces,
        }
    }

    /// The value of `signal`, mutable.
    pub fn of_mut(&mut self, signal: Signal) -> &mut T {
        match signal {
            Signal::Logs => &mut self.logs,
            Signal::Metrics => &mut self.metrics,
            Signal::Traces => &mut self.traces,
        }
    }
}
