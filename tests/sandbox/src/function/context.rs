//! The context of a built-in function: its invocation, its log output and an SDK.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::otlp::{ExportError, Exporter, Transport};
use crate::clock;
use crate::ledger::Ledger;
use crate::otlp::Signal;
use crate::telemetry::Telemetry;

/// One invocation, as the function sees it.
#[derive(Clone, Debug)]
pub struct Context {
    pub request_id: String,
    /// The time at which the platform stops it.
    pub deadline: SystemTime,
    /// `Lambda-Runtime-Invoked-Function-Arn`.
    pub invoked_arn: String,
    /// `Lambda-Runtime-Trace-Id`.
    pub trace: String,
    /// The payload of the invocation.
    pub payload: Value,
    /// True for the first invocation of this function process.
    pub cold_start: bool,
    pub(super) telemetry: Telemetry,
    pub(super) ledger: Ledger,
    pub(super) exporter: Exporter,
}

impl Context {
    /// Writes a line. Telemetry API: a `function` record that is a string.
    pub fn log(&self, line: impl Into<String>) {
        self.telemetry.emit("function", Value::String(line.into()));
    }

    /// Writes a line as a runtime does with log format JSON. Telemetry API: a `function` record that is an object.
    pub fn log_json(&self, line: Value) {
        self.telemetry.emit("function", line);
    }

    /// Creates a mark for an item, and records it in the ledger as emitted.
    pub fn mark(&self, signal: Signal) -> String {
        self.ledger.mark(signal, &self.request_id)
    }

    /// Writes this many lines, each with a mark, every second one as JSON.
    pub fn log_lines(&self, lines: usize) {
        for line in 0..lines {
            let mark = self.mark(Signal::Logs);
            if line % 2 == 0 {
                self.log(format!("[INFO] line {line} {mark}"));
            } else {
                self.log_json(json!({
                    "timestamp": clock::rfc3339(clock::wall()),
                    "level": "INFO",
                    "requestId": self.request_id,
                    "message": format!("line {line}"),
                    "item": mark,
                }));
            }
        }
    }

    /// Sends this many items in one request, each with a mark.
    pub async fn send(&self, transport: Transport, signal: Signal, items: usize) -> Result<(), ExportError> {
        let marks: Vec<String> = (0..items).map(|_| self.mark(signal)).collect();
        let payload = super::otlp::payload(signal, &self.request_id, &marks);
        self.exporter.send(transport, &payload).await
    }

    /// Sends this many spans, see [`Self::send`].
    pub async fn send_spans(&self, transport: Transport, spans: usize) -> Result<(), ExportError> {
        self.send(transport, Signal::Traces, spans).await
    }

    /// Sends this many metric points, see [`Self::send`].
    pub async fn send_points(&self, transport: Transport, points: usize) -> Result<(), ExportError> {
        self.send(transport, Signal::Metrics, points).await
    }

    /// Sends this many log records with the SDK, see [`Self::send`].
    pub async fn send_logs(&self, transport: Transport, logs: usize) -> Result<(), ExportError> {
        self.send(transport, Signal::Logs, logs).await
    }

    /// The client to the extension's receiver, for custom payloads.
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }
}
