//! Telemetry derived from platform events, encoded as chunks.

use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::chunk::{Chunk, Origin};
use crate::otlp::request::RequestEnvelope;
use crate::signal::Signal;

/// The instrumentation scope of this telemetry. It distinguishes it from the function's own.
pub const SCOPE: &str = "rotel-lambda-extension.platform";

/// The items, with the invocation that they belong to.
#[derive(Debug, Default)]
pub struct PlatformTelemetry {
    /// Spans, grouped by trace.
    pub(super) spans: Vec<(Option<Arc<str>>, Vec<Span>)>,
    /// Log records.
    pub(super) logs: Vec<(Option<Arc<str>>, LogRecord)>,
    /// Metrics with one data point each.
    pub(super) metrics: Vec<Metric>,
    /// The invocations with spans whose function was killed while it ran.
    pub(super) cut_off: Vec<Arc<str>>,
}

impl PlatformTelemetry {
    /// Returns true if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.logs.is_empty() && self.metrics.is_empty() && self.cut_off.is_empty()
    }

    /// The request ids of invocations whose function was killed while it ran, so that its SDK had no time to send their spans.
    pub fn cut_off(&self) -> impl Iterator<Item = &str> {
        self.cut_off.iter().map(|request_id| &**request_id)
    }

    /// Lets the caller edit log records, and drops those for which `keep` returns false.
    pub fn retain_logs(&mut self, mut keep: impl FnMut(&mut LogRecord) -> bool) {
        self.logs.retain_mut(|(_, record)| keep(record));
    }

    /// Encodes everything in an envelope with the scope [`SCOPE`].
    pub fn into_chunks(self, envelope: &RequestEnvelope) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut logs = self.logs.into_iter().peekable();
        while let Some((invocation, record)) = logs.next() {
            let mut log_records = vec![record];
            while let Some((_, record)) = logs.next_if(|(next, _)| *next == invocation) {
                log_records.push(record);
            }
            chunks.push(chunk(envelope, Signal::Logs, &log_records, invocation));
        }
        for (invocation, spans) in self.spans {
            chunks.push(chunk(envelope, Signal::Traces, &spans, invocation));
        }
        if !self.metrics.is_empty() {
            chunks.push(chunk(envelope, Signal::Metrics, &self.metrics, None));
        }
        chunks
    }
}

fn chunk<T: Message>(
    envelope: &RequestEnvelope,
    signal: Signal,
    items: &[T],
    invocation: Option<Arc<str>>,
) -> Chunk {
    let bytes = envelope.wrap(items);
    Chunk { signal, bytes, items: items.len(), origin: Origin::Platform, invocation }
}
