//! What was made of the platform's events, on its way into chunks.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use crate::core::chunk::{Chunk, Origin};
use crate::core::signal::Signal;

/// The scope of all that is made of the platform's events, by which it can be told from what the function sent.
pub const SCOPE: &str = concat!(env!("CARGO_PKG_NAME"), ".platform");

/// Items, each list with the invocation that all of it belongs to.
#[derive(Debug, Default)]
pub struct Made {
    /// Spans, those of one trace beside each other.
    pub(super) spans: Vec<(Option<Arc<str>>, Vec<Span>)>,
    /// Log records.
    pub(super) logs: Vec<(Option<Arc<str>>, LogRecord)>,
    /// Metrics, of one point each.
    pub(super) metrics: Vec<Metric>,
    /// Of the invocations that have spans here, those in the midst of which the function was ended.
    pub(super) cut_off: Vec<Arc<str>>,
}

impl Made {
    /// Nothing was made.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.logs.is_empty() && self.metrics.is_empty()
    }

    /// The request ids of the invocations in the midst of which the function was ended, so that its SDK had no time to
    /// send their spans.
    pub fn cut_off(&self) -> impl Iterator<Item = &str> {
        self.cut_off.iter().map(|request_id| &**request_id)
    }

    /// The log records, of which the caller may change or leave out some.
    pub fn retain_logs(&mut self, mut keep: impl FnMut(&mut LogRecord) -> bool) {
        self.logs.retain_mut(|(_, record)| keep(record));
    }

    /// Encodes it, all under one resource.
    pub fn into_chunks(self, resource: &Resource) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut logs = self.logs.into_iter().peekable();
        while let Some((invocation, record)) = logs.next() {
            let mut log_records = vec![record];
            while let Some((_, record)) = logs.next_if(|(next, _)| *next == invocation) {
                log_records.push(record);
            }
            chunks.push(of_logs(resource, invocation, log_records));
        }
        for (invocation, spans) in self.spans {
            chunks.push(of_spans(resource, invocation, spans));
        }
        if !self.metrics.is_empty() {
            chunks.push(of_metrics(resource, self.metrics));
        }
        chunks
    }
}

fn of_logs(resource: &Resource, invocation: Option<Arc<str>>, log_records: Vec<LogRecord>) -> Chunk {
    let items = log_records.len();
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() }];
    let of_resource =
        ResourceLogs { resource: Some(resource.clone()), scope_logs, ..ResourceLogs::default() };
    let request = ExportLogsServiceRequest { resource_logs: vec![of_resource] };
    chunk(Signal::Logs, request.encode_to_vec(), items, invocation)
}

fn of_spans(resource: &Resource, invocation: Option<Arc<str>>, spans: Vec<Span>) -> Chunk {
    let items = spans.len();
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
    let of_resource =
        ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![of_resource] };
    chunk(Signal::Traces, request.encode_to_vec(), items, invocation)
}

fn of_metrics(resource: &Resource, metrics: Vec<Metric>) -> Chunk {
    let items = metrics.len();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
    let of_resource =
        ResourceMetrics { resource: Some(resource.clone()), scope_metrics, ..ResourceMetrics::default() };
    let request = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
    chunk(Signal::Metrics, request.encode_to_vec(), items, None)
}

fn chunk(signal: Signal, bytes: Vec<u8>, items: usize, invocation: Option<Arc<str>>) -> Chunk {
    Chunk { signal, bytes: Bytes::from(bytes), items, origin: Origin::Platform, invocation }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
