//! The function's SDK: a real OTLP client to the extension's receiver.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind};
use tokio::sync::OnceCell;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use crate::clock;
use crate::id;
use crate::otlp::{Payload, Signal};
use crate::web::Client;

/// The SDK's protocol and encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/gRPC with gzip-compressed messages.
    GrpcGzip,
    /// OTLP/HTTP with protobuf.
    HttpProtobuf,
    /// OTLP/HTTP with JSON.
    HttpJson,
}

/// The reason why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The receiver's answer over gRPC.
    #[error("the receiver answered {}: {}", .0.code(), .0.message())]
    Grpc(Box<tonic::Status>),
    /// The receiver's answer over HTTP.
    #[error("the receiver answered {status}: {}", String::from_utf8_lossy(body))]
    Http {
        /// The status.
        status: u16,
        /// The body.
        body: Bytes,
    },
    /// No answer.
    #[error("no answer from the receiver: {0}")]
    Connection(#[source] io::Error),
}

/// A client that keeps its connections between invocations, as an SDK does. Clones share them.
#[derive(Clone, Debug)]
pub struct Exporter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    grpc: String,
    http: String,
    channel: OnceCell<Channel>,
    client: Client,
}

impl Exporter {
    /// A client to a receiver with these `host:port` addresses.
    pub fn new(grpc: impl Into<String>, http: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            grpc: grpc.into(),
            http: http.into(),
            channel: OnceCell::new(),
            client: Client::new(),
        }))
    }

    /// The `host:port` of the extension's gRPC receiver.
    pub fn grpc_address(&self) -> &str {
        &self.0.grpc
    }

    /// The `host:port` of the extension's HTTP receiver.
    pub fn http_address(&self) -> &str {
        &self.0.http
    }

    /// Sends one request and waits for its acknowledgement.
    pub async fn send(&self, transport: Transport, payload: &Payload) -> Result<(), ExportError> {
        let path = format!("/v1/{}", payload.signal().name());
        match transport {
            Transport::Grpc => self.send_grpc(payload, None).await,
            Transport::GrpcGzip => self.send_grpc(payload, Some(CompressionEncoding::Gzip)).await,
            Transport::HttpProtobuf => {
                self.send_http(&path, "application/x-protobuf", payload.encode().into()).await
            }
            Transport::HttpJson => {
                let body = payload
                    .encode_json()
                    .map_err(|error| ExportError::Connection(io::Error::other(error)))?;
                self.send_http(&path, "application/json", body.into()).await
            }
        }
    }

    /// Posts any body.
    pub async fn send_http(&self, path: &str, content_type: &str, body: Bytes) -> Result<(), ExportError> {
        let url = format!("http://{}{path}", self.0.http);
        let headers = [("content-type", content_type)];
        let answer = self.0.client.send(Method::POST, &url, &headers, body).await;
        let answer = answer.map_err(ExportError::Connection)?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(ExportError::Http { status: answer.status().as_u16(), body: answer.into_body() })
    }

    async fn send_grpc(
        &self,
        payload: &Payload,
        compression: Option<CompressionEncoding>,
    ) -> Result<(), ExportError> {
        let channel = self.channel().await?;
        macro_rules! export {
            ($client:expr, $request:expr) => {{
                let mut client = $client;
                if let Some(compression) = compression {
                    client = client.send_compressed(compression).accept_compressed(compression);
                }
                client.export($request.clone()).await.map(drop)
            }};
        }
        let answer = match payload {
            Payload::Logs(request) => export!(LogsServiceClient::new(channel), request),
            Payload::Metrics(request) => export!(MetricsServiceClient::new(channel), request),
            Payload::Traces(request) => export!(TraceServiceClient::new(channel), request),
        };
        answer.map_err(|status| ExportError::Grpc(Box::new(status)))
    }

    async fn channel(&self) -> Result<Channel, ExportError> {
        let connect = || async {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.0.grpc));
            endpoint.map_err(io::Error::other)?.tcp_nodelay(true).connect().await.map_err(io::Error::other)
        };
        self.0.channel.get_or_try_init(connect).await.cloned().map_err(ExportError::Connection)
    }
}

/// A request with one item per mark.
pub(super) fn payload(signal: Signal, request_id: &str, marks: &[String]) -> Payload {
    match signal {
        Signal::Logs => logs(marks.iter().map(|mark| log(mark, request_id)).collect()),
        Signal::Metrics => metrics(vec![counter(
            "sandbox.items",
            marks.iter().map(|mark| vec![text("sandbox.item", mark)]).collect(),
        )]),
        Signal::Traces => {
            let trace = trace_id();
            spans(
                marks
                    .iter()
                    .map(|mark| span("work", &trace, &[], vec![text("sandbox.item", mark)]))
                    .collect(),
            )
        }
    }
}

/// A string attribute.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn trace_id() -> Vec<u8> {
    [id::random().to_be_bytes(), id::random().to_be_bytes()].concat()
}

pub(super) fn span(name: &str, trace: &[u8], parent: &[u8], attributes: Vec<KeyValue>) -> Span {
    let now = clock::epoch_nanos(clock::wall());
    Span {
        trace_id: trace.to_vec(),
        span_id: id::random().to_be_bytes().to_vec(),
        parent_span_id: parent.to_vec(),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: now.saturating_sub(1_000_000),
        end_time_unix_nano: now,
        attributes,
        ..Span::default()
    }
}

pub(super) fn spans(spans: Vec<Span>) -> Payload {
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }];
    Payload::Traces(ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }],
    })
}

fn log(mark: &str, request_id: &str) -> LogRecord {
    let now = clock::epoch_nanos(clock::wall());
    LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(format!("said through the SDK {mark}"))) }),
        attributes: vec![text("faas.invocation_id", request_id)],
        ..LogRecord::default()
    }
}

fn logs(log_records: Vec<LogRecord>) -> Payload {
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() }];
    Payload::Logs(ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }],
    })
}

/// A monotonic counter with one point per set of attributes.
pub(super) fn counter(name: &str, points: Vec<Vec<KeyValue>>) -> Metric {
    let now = clock::epoch_nanos(clock::wall());
    let data_points = points
        .into_iter()
        .map(|attributes| NumberDataPoint {
            attributes,
            start_time_unix_nano: now.saturating_sub(1_000_000_000),
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsInt(1)),
            ..NumberDataPoint::default()
        })
        .collect();
    let aggregation_temporality = AggregationTemporality::Delta.into();
    let data = metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true });
    Metric { name: name.to_owned(), unit: "{item}".to_owned(), data: Some(data), ..Metric::default() }
}

pub(super) fn metrics(metrics: Vec<Metric>) -> Payload {
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    Payload::Metrics(ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(),
            scope_metrics,
            ..ResourceMetrics::default()
        }],
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the generated messages want it so")]
fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "sandbox".to_owned(),
        version: "1".to_owned(),
        ..InstrumentationScope::default()
    })
}

/// The default resource of SDKs.
#[expect(clippy::unnecessary_wraps, reason = "the generated messages want it so")]
fn resource() -> Option<Resource> {
    let attributes =
        vec![text("telemetry.sdk.name", "opentelemetry"), text("service.name", "unknown_service:sandbox")];
    Some(Resource { attributes, ..Resource::default() })
}
