//! The telemetry that `--check` sends: one log record, one data point, one span.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::otlp::attribute::{string, text};
use crate::otlp::request::RequestEnvelope;
use crate::signal::Signal;

/// The service name if no function is known.
pub const SERVICE: &str = "rotel-extension-check";
const SERVICE_NAME: &str = "service.name";
const BODY: &str = "a test from rotel-extension --check";
const NAME: &str = "rotel-extension.check";

/// Creates a request with one item. `epoch_nanos` is its time in nanoseconds since the epoch.
pub fn request(signal: Signal, service_name: &str, epoch_nanos: u64) -> Bytes {
    let resource = Resource { attributes: vec![string(SERVICE_NAME, service_name)], ..Resource::default() };
    let scope = InstrumentationScope { name: NAME.to_owned(), ..InstrumentationScope::default() };
    // Ids must not be zero. The log record and the span belong together.
    let id = epoch_nanos.max(1);
    let trace_id = u128::from(id).rotate_left(64).to_be_bytes().to_vec();
    let span_id = id.to_be_bytes().to_vec();
    let envelope = RequestEnvelope::new(&resource, &scope);
    match signal {
        Signal::Logs => {
            let record = LogRecord {
                time_unix_nano: epoch_nanos,
                observed_time_unix_nano: epoch_nanos,
                severity_number: SeverityNumber::Info.into(),
                severity_text: "info".to_owned(),
                body: Some(text(BODY)),
                trace_id,
                span_id,
                ..LogRecord::default()
            };
            envelope.wrap(&[record])
        }
        Signal::Metrics => {
            let point = NumberDataPoint {
                time_unix_nano: epoch_nanos,
                value: Some(number_data_point::Value::AsInt(1)),
                ..NumberDataPoint::default()
            };
            let metric = Metric {
                name: NAME.to_owned(),
                description: BODY.to_owned(),
                unit: "1".to_owned(),
                data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })),
                ..Metric::default()
            };
            envelope.wrap(&[metric])
        }
        Signal::Traces => {
            let span = Span {
                name: NAME.to_owned(),
                kind: SpanKind::Internal.into(),
                start_time_unix_nano: epoch_nanos,
                end_time_unix_nano: epoch_nanos.saturating_add(1_000_000),
                trace_id,
                span_id,
                ..Span::default()
            };
            envelope.wrap(&[span])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp;

    #[test]
    fn each_request_is_valid_and_has_one_item() {
        for signal in Signal::ALL {
            for epoch_nanos in [0, 1_700_000_000_000_000_000] {
                let request = request(signal, "service", epoch_nanos);
                assert_eq!(otlp::validate(signal, &request), Ok(1), "{signal}");
            }
        }
    }
}
