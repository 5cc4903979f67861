//! The three kinds of telemetry that OTLP carries to us and from us.

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
    /// Every signal, in the order of [`Signal::index`].
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    /// A dense index, for tables with one row a signal.
    pub fn index(self) -> usize {
        match self {
            Self::Logs => 0,
            Self::Metrics => 1,
            Self::Traces => 2,
        }
    }

    /// The name as OTLP's paths and our variables have it: `logs`, `metrics`, `traces`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    /// The path of the signal's OTLP/gRPC export method, as the OTLP specification's `.proto` files name it.
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
        f.write_str(self.as_str())
    }
}
