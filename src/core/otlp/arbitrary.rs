//! Arbitrary OTLP requests of every signal for property tests, and helpers to compare decoded requests.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::{DecodeError, Message};

use crate::signal::Signal;

/// A decoded export request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Logs(ExportLogsServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Traces(ExportTraceServiceRequest),
}

/// An item and the messages around it, outermost first, each encoded without its other items.
pub(crate) type Flat = Vec<Vec<u8>>;

impl Request {
    pub(crate) fn decode(signal: Signal, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match signal {
            Signal::Logs => Self::Logs(Message::decode(bytes)?),
            Signal::Metrics => Self::Metrics(Message::decode(bytes)?),
            Signal::Traces => Self::Traces(Message::decode(bytes)?),
        })
    }

    pub(crate) fn signal(&self) -> Signal {
        match self {
            Self::Logs(_) => Signal::Logs,
            Self::Metrics(_) => Signal::Metrics,
            Self::Traces(_) => Signal::Traces,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        Bytes::from(match self {
            Self::Logs(request) => request.encode_to_vec(),
            Self::Metrics(request) => request.encode_to_vec(),
            Self::Traces(request) => request.encode_to_vec(),
        })
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        match self {
            Self::Logs(request) => serde_json::to_vec(request),
            Self::Metrics(request) => serde_json::to_vec(request),
            Self::Traces(request) => serde_json::to_vec(request),
        }
        .unwrap()
    }

    pub(crate) fn resources(&mut self) -> Vec<&mut Option<Resource>> {
        match self {
            Self::Logs(request) => {
                request.resource_logs.iter_mut().map(|group| &mut group.resource).collect()
            }
            Self::Metrics(request) => {
                request.resource_metrics.iter_mut().map(|group| &mut group.resource).collect()
            }
            Self::Traces(request) => {
                request.resource_spans.iter_mut().map(|group| &mut group.resource).collect()
            }
        }
    }

    /// All items in order. Requests with equal results are equivalent.
    pub(crate) fn flatten(&self) -> Vec<Flat> {
        match self {
            Self::Logs(request) => request.resource_logs.iter().flat_map(flatten_logs).collect(),
            Self::Metrics(request) => request.resource_metrics.iter().flat_map(flatten_metrics).collect(),
            Self::Traces(request) => request.resource_spans.iter().flat_map(flatten_spans).collect(),
        }
    }
}

fn flatten_logs(group: &ResourceLogs) -> Vec<Flat> {
    let outer = ResourceLogs { scope_logs: Vec::new(), ..group.clone() }.encode_to_vec();
    let mut flat = Vec::new();
    for scope in &group.scope_logs {
        let inner = ScopeLogs { log_records: Vec::new(), ..scope.clone() }.encode_to_vec();
        for record in &scope.log_records {
            flat.push(vec![outer.clone(), inner.clone(), record.encode_to_vec()]);
        }
    }
    flat
}

fn flatten_spans(group: &ResourceSpans) -> Vec<Flat> {
    let outer = ResourceSpans { scope_spans: Vec::new(), ..group.clone() }.encode_to_vec();
    let mut flat = Vec::new();
    for scope in &group.scope_spans {
        let inner = ScopeSpans { spans: Vec::new(), ..scope.clone() }.encode_to_vec();
        for span in &scope.spans {
            flat.push(vec![outer.clone(), inner.clone(), span.encode_to_vec()]);
        }
    }
    flat
}

fn flatten_metrics(group: &ResourceMetrics) -> Vec<Flat> {
    let outer = ResourceMetrics { scope_metrics: Vec::new(), ..group.clone() }.encode_to_vec();
    let mut flat = Vec::new();
    for scope in &group.scope_metrics {
        let inner = ScopeMetrics { metrics: Vec::new(), ..scope.clone() }.encode_to_vec();
        for metric in &scope.metrics {
            let mut innermost = metric.clone();
            let points = take_points(&mut innermost);
            let innermost = innermost.encode_to_vec();
            flat.extend(
                points.into_iter().map(|point| vec![outer.clone(), inner.clone(), innermost.clone(), point]),
            );
        }
    }
    flat
}

fn take_points(metric: &mut Metric) -> Vec<Vec<u8>> {
    fn take<M: Message>(points: &mut Vec<M>) -> Vec<Vec<u8>> {
        std::mem::take(points).iter().map(Message::encode_to_vec).collect()
    }
    match &mut metric.data {
        None => Vec::new(),
        Some(Data::Gauge(data)) => take(&mut data.data_points),
        Some(Data::Sum(data)) => take(&mut data.data_points),
        Some(Data::Histogram(data)) => take(&mut data.data_points),
        Some(Data::ExponentialHistogram(data)) => take(&mut data.data_points),
        Some(Data::Summary(data)) => take(&mut data.data_points),
    }
}

/// A request of any signal, with some empty groups and unset fields.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        vec(resource_logs(), 0..4)
            .prop_map(|resource_logs| Request::Logs(ExportLogsServiceRequest { resource_logs })),
        vec(resource_metrics(), 0..4)
            .prop_map(|resource_metrics| Request::Metrics(ExportMetricsServiceRequest { resource_metrics })),
        vec(resource_spans(), 0..4)
            .prop_map(|resource_spans| Request::Traces(ExportTraceServiceRequest { resource_spans })),
    ]
}

fn resource_logs() -> impl Strategy<Value = ResourceLogs> {
    let scope_logs = (option::of(scope()), vec(log_record(), 0..4), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    (option::of(resource()), vec(scope_logs, 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url })
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    (
        (any::<u64>(), any::<u64>(), 0..25, text(), option::of(any_value())),
        (attributes(), any::<u32>(), any::<u32>(), id(16), id(8), text()),
    )
        .prop_map(|((time, observed_time, severity, severity_text, body), rest)| {
            let (attributes, dropped_attributes_count, flags, trace_id, span_id, event_name) = rest;
            LogRecord {
                time_unix_nano: time,
                observed_time_unix_nano: observed_time,
                severity_number: severity,
                severity_text,
                body,
                attributes,
                dropped_attributes_count,
                flags,
                trace_id,
                span_id,
                event_name,
            }
        })
}

fn resource_spans() -> impl Strategy<Value = ResourceSpans> {
    let scope_spans = (option::of(scope()), vec(span(), 0..4), text())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    (option::of(resource()), vec(scope_spans, 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url })
}

fn span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), text(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    );
    let status = (text(), 0..3).prop_map(|(message, code)| Status { message, code });
    (
        (id(16), id(8), text(), id(8), any::<u32>(), text(), 0..6, any::<u64>(), any::<u64>()),
        (attributes(), any::<u32>(), vec(event, 0..2), vec(link, 0..2), option::of(status)),
    )
        .prop_map(
            |((trace_id, span_id, trace_state, parent_span_id, flags, name, kind, start, end), rest)| {
                let (attributes, dropped, events, links, status) = rest;
                Span {
                    trace_id,
                    span_id,
                    trace_state,
                    parent_span_id,
                    flags,
                    name,
                    kind,
                    start_time_unix_nano: start,
                    end_time_unix_nano: end,
                    attributes,
                    dropped_attributes_count: dropped,
                    events,
                    dropped_events_count: dropped,
                    links,
                    dropped_links_count: dropped,
                    status,
                }
            },
        )
}

fn resource_metrics() -> impl Strategy<Value = ResourceMetrics> {
    let scope_metrics = (option::of(scope()), vec(metric(), 0..3), text())
        .prop_map(|(scope, metrics, schema_url)| ScopeMetrics { scope, metrics, schema_url });
    (option::of(resource()), vec(scope_metrics, 0..3), text()).prop_map(
        |(resource, scope_metrics, schema_url)| ResourceMetrics { resource, scope_metrics, schema_url },
    )
}

fn metric() -> impl Strategy<Value = Metric> {
    let data = prop_oneof![
        vec(number_point(), 0..4).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (vec(number_point(), 0..4), 0..3, any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic
            })
        ),
        (vec(histogram_point(), 0..4), 0..3).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }),
        (vec(exponential_histogram_point(), 0..4), 0..3).prop_map(
            |(data_points, aggregation_temporality)| {
                Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
            }
        ),
        vec(summary_point(), 0..4).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ];
    (text(), text(), text(), attributes(), option::of(data)).prop_map(
        |(name, description, unit, metadata, data)| Metric { name, description, unit, metadata, data },
    )
}

fn number_point() -> impl Strategy<Value = NumberDataPoint> {
    let value = prop_oneof![
        double().prop_map(number_data_point::Value::AsDouble),
        any::<i64>().prop_map(number_data_point::Value::AsInt),
    ];
    (attributes(), any::<u64>(), any::<u64>(), vec(exemplar(), 0..2), any::<u32>(), option::of(value))
        .prop_map(|(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| {
            NumberDataPoint { attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value }
        })
}

fn histogram_point() -> impl Strategy<Value = HistogramDataPoint> {
    (
        (attributes(), any::<u64>(), any::<u64>(), any::<u64>(), option::of(double())),
        (vec(any::<u64>(), 0..4), vec(double(), 0..4), vec(exemplar(), 0..2), any::<u32>()),
        option::of(double()),
    )
        .prop_map(|((attributes, start, time, count, sum), rest, extreme)| {
            let (bucket_counts, explicit_bounds, exemplars, flags) = rest;
            HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count,
                sum,
                bucket_counts,
                explicit_bounds,
                exemplars,
                flags,
                min: extreme,
                max: extreme,
            }
        })
}

fn exponential_histogram_point() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let buckets = || {
        option::of(
            (any::<i32>(), vec(any::<u64>(), 0..4))
                .prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }),
        )
    };
    (
        (attributes(), any::<u64>(), any::<u64>(), any::<u64>(), option::of(double()), any::<i32>()),
        (any::<u64>(), buckets(), buckets(), any::<u32>(), vec(exemplar(), 0..2)),
        (option::of(double()), double()),
    )
        .prop_map(|((attributes, start, time, count, sum, scale), rest, (extreme, zero_threshold))| {
            let (zero_count, positive, negative, flags, exemplars) = rest;
            ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count,
                sum,
                scale,
                zero_count,
                positive,
                negative,
                flags,
                exemplars,
                min: extreme,
                max: extreme,
                zero_threshold,
            }
        })
}

fn summary_point() -> impl Strategy<Value = SummaryDataPoint> {
    let quantile = (double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (attributes(), any::<u64>(), any::<u64>(), any::<u64>(), double(), vec(quantile, 0..3), any::<u32>())
        .prop_map(|(attributes, start_time_unix_nano, time_unix_nano, count, sum, quantile_values, flags)| {
            SummaryDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                sum,
                quantile_values,
                flags,
            }
        })
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    let value = prop_oneof![
        double().prop_map(exemplar::Value::AsDouble),
        any::<i64>().prop_map(exemplar::Value::AsInt),
    ];
    (attributes(), any::<u64>(), id(8), id(16), option::of(value)).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    )
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity_ref = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), any::<u32>(), vec(entity_ref, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(any_value()), 0..3)
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    (text(), option::of(value), any::<i32>()).prop_map(|(key, value, key_strindex)| KeyValue {
        key,
        value,
        key_strindex,
    })
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        text().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        double().prop_map(Value::DoubleValue),
        vec(any::<u8>(), 0..8).prop_map(Value::BytesValue),
        any::<i32>().prop_map(Value::StringValueStrindex),
    ];
    option::of(leaf).prop_map(|value| AnyValue { value }).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(key_value(inner), 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..6).prop_map(String::from_iter)
}

/// Any number but NaN, which does not equal itself, and the infinities, which are not JSON numbers.
fn double() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), len)]
}
