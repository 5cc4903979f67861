//! OTLP payloads, decoded in full.
//!
//! The sandbox decodes with `opentelemetry-proto`, the published implementation: its counts and output are independent of the
//! extension's own decoder.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};

use crate::clock;

/// The three kinds of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Metric data points.
    Metrics,
    /// Spans.
    Traces,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    /// The last part of the path of an OTLP/HTTP request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    /// The name of its items, in the plural.
    pub fn items(self) -> &'static str {
        match self {
            Self::Logs => "log records",
            Self::Metrics => "metric points",
            Self::Traces => "spans",
        }
    }
}

/// One export request.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Log records.
    Logs(ExportLogsServiceRequest),
    /// Metrics.
    Metrics(ExportMetricsServiceRequest),
    /// Spans.
    Traces(ExportTraceServiceRequest),
}

impl Payload {
    pub fn signal(&self) -> Signal {
        match self {
            Self::Logs(_) => Signal::Logs,
            Self::Metrics(_) => Signal::Metrics,
            Self::Traces(_) => Signal::Traces,
        }
    }

    /// Encodes it as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        use prost::Message as _;
        match self {
            Self::Logs(request) => request.encode_to_vec(),
            Self::Metrics(request) => request.encode_to_vec(),
            Self::Traces(request) => request.encode_to_vec(),
        }
    }

    /// Encodes it as OTLP/JSON.
    pub fn encode_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Logs(request) => serde_json::to_vec(request),
            Self::Metrics(request) => serde_json::to_vec(request),
            Self::Traces(request) => serde_json::to_vec(request),
        }
    }

    /// Decodes it from protobuf.
    pub fn decode(signal: Signal, bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        use prost::Message as _;
        Ok(match signal {
            Signal::Logs => Self::Logs(ExportLogsServiceRequest::decode(bytes)?),
            Signal::Metrics => Self::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
            Signal::Traces => Self::Traces(ExportTraceServiceRequest::decode(bytes)?),
        })
    }

    /// Decodes it from OTLP/JSON.
    pub fn decode_json(signal: Signal, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match signal {
            Signal::Logs => Self::Logs(serde_json::from_slice(bytes)?),
            Signal::Metrics => Self::Metrics(serde_json::from_slice(bytes)?),
            Signal::Traces => Self::Traces(serde_json::from_slice(bytes)?),
        })
    }

    /// The number of its log records, data points or spans.
    pub fn items(&self) -> usize {
        self.items_where(|_| true)
    }

    /// The number of its items that the extension built from platform events.
    pub fn items_of_platform(&self) -> usize {
        self.items_where(is_of_platform)
    }

    fn items_where(&self, counts: impl Fn(Option<&InstrumentationScope>) -> bool) -> usize {
        match self {
            Self::Logs(request) => {
                let scopes = request.resource_logs.iter().flat_map(|r| &r.scope_logs);
                scopes.filter(|s| counts(s.scope.as_ref())).map(|s| s.log_records.len()).sum()
            }
            Self::Metrics(request) => {
                let scopes = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
                let metrics = scopes.filter(|s| counts(s.scope.as_ref())).flat_map(|s| &s.metrics);
                metrics.map(|metric| point_attributes(metric).len()).sum()
            }
            Self::Traces(request) => {
                let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
                scopes.filter(|s| counts(s.scope.as_ref())).map(|s| s.spans.len()).sum()
            }
        }
    }
}

/// Returns true if this scope's items were built from platform events, not sent or written by the function.
pub fn is_of_platform(scope: Option<&InstrumentationScope>) -> bool {
    scope.is_some_and(|scope| scope.name.ends_with(".platform"))
}

/// The attributes of each data point of a metric, whatever its instrument.
pub fn point_attributes(metric: &Metric) -> Vec<&[KeyValue]> {
    match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.iter().map(|p| p.attributes.as_slice()).collect(),
        Some(Data::Sum(data)) => data.data_points.iter().map(|p| p.attributes.as_slice()).collect(),
        Some(Data::Histogram(data)) => data.data_points.iter().map(|p| p.attributes.as_slice()).collect(),
        Some(Data::ExponentialHistogram(data)) => {
            data.data_points.iter().map(|p| p.attributes.as_slice()).collect()
        }
        Some(Data::Summary(data)) => data.data_points.iter().map(|p| p.attributes.as_slice()).collect(),
        None => Vec::new(),
    }
}

/// The value of an attribute, as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(found.value.as_ref().map_or_else(String::new, |value| Text(value).to_string()))
}

/// A value formatted for humans: a string unchanged, anything else much like JSON.
pub struct Text<'a>(pub &'a AnyValue);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.value {
            None => Ok(()),
            Some(Value::StringValue(text)) => f.write_str(text),
            Some(Value::BoolValue(value)) => write!(f, "{value}"),
            Some(Value::IntValue(value)) => write!(f, "{value}"),
            Some(Value::DoubleValue(value)) => write!(f, "{value}"),
            Some(Value::BytesValue(bytes)) => f.write_str(&hex(bytes)),
            Some(Value::ArrayValue(array)) => {
                f.write_str("[")?;
                for (at, value) in array.values.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { ", " }, Text(value))?;
                }
                f.write_str("]")
            }
            Some(Value::KvlistValue(map)) => {
                f.write_str("{")?;
                for (at, entry) in map.values.iter().enumerate() {
                    write!(f, "{}{}: ", if at == 0 { "" } else { ", " }, entry.key)?;
                    if let Some(value) = &entry.value {
                        write!(f, "{}", Text(value))?;
                    }
                }
                f.write_str("}")
            }
            Some(other) => write!(f, "{other:?}"),
        }
    }
}

/// Formats an OTLP time, nanoseconds since 1970, for humans; `-` for none.
pub fn time(nanos: u64) -> String {
    match nanos {
        0 => "-".to_owned(),
        _ => clock::rfc3339(UNIX_EPOCH + Duration::from_nanos(nanos)),
    }
}

/// Formats bytes as lower-case hexadecimal, like trace and span ids.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
