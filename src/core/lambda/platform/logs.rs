//! Platform events as log records, if they are enabled.
//!
//! The body is the line that Lambda writes to CloudWatch. Its values are also attributes.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::lambda::telemetry_api::{EnvironmentEvent, InvocationEvent, PlatformRecord};
use crate::logs::{REQUEST_ID, SOURCE, Severity};
use crate::otlp::attribute::{double, string, text};

/// A line under construction, with its attributes.
struct EventLine {
    body: String,
    attributes: Vec<KeyValue>,
}

impl EventLine {
    fn new(kind: &str, body: String) -> Self {
        Self { body, attributes: vec![string(SOURCE, kind)] }
    }

    /// Adds `label: text`.
    fn text(&mut self, label: &str, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            let _ = write!(self.body, " {label}: {text}");
            self.attributes.push(string(key, text));
        }
    }

    /// Adds `label: number unit`.
    fn number(&mut self, label: &str, unit: &str, key: &str, number: Option<f64>) {
        if let Some(number) = number {
            let space = if unit.is_empty() { "" } else { " " };
            let _ = write!(self.body, " {label}: {number}{space}{unit}");
            self.attributes.push(double(key, number));
        }
    }

    fn ended(&mut self, record: &PlatformRecord) {
        let unhappy = record.status.as_deref().filter(|status| *status != "success");
        if let Some(status) = unhappy {
            let _ = write!(self.body, " Status: {status}");
        }
        self.attributes.extend(record.status.as_deref().map(|status| string("aws.lambda.status", status)));
        self.text("Error Type", "error.type", record.error_type.as_deref());
    }

    fn finish(self, severity: Severity, time: u64, observed: u64) -> LogRecord {
        LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: observed,
            severity_number: severity.number(),
            severity_text: severity.as_str().to_owned(),
            body: Some(text(&self.body)),
            attributes: self.attributes,
            ..LogRecord::default()
        }
    }
}

/// Returns the log record of an invocation's event. Times are nanoseconds since the epoch.
pub(super) fn of_invocation(
    event: InvocationEvent,
    request_id: &str,
    record: &PlatformRecord,
    (time, observed): (u64, u64),
) -> LogRecord {
    let (word, kind) = match event {
        InvocationEvent::Start => ("START", "platform.start"),
        InvocationEvent::RuntimeDone => ("END", "platform.runtimeDone"),
        InvocationEvent::Report => ("REPORT", "platform.report"),
    };
    let mut line = EventLine::new(kind, format!("{word} RequestId: {request_id}"));
    line.attributes.push(string(REQUEST_ID, request_id));
    let metrics = &record.metrics;
    match event {
        InvocationEvent::Start => line.text("Version", "faas.version", record.version.as_deref()),
        InvocationEvent::RuntimeDone => {
            let numbers = [
                ("aws.lambda.duration_ms", metrics.duration),
                ("aws.lambda.produced_bytes", metrics.produced_bytes),
            ];
            line.attributes.extend(numbers.iter().filter_map(|(key, number)| Some(double(key, (*number)?))));
            line.ended(record);
        }
        InvocationEvent::Report => {
            line.number("Duration", "ms", "aws.lambda.duration_ms", metrics.duration);
            line.number("Billed Duration", "ms", "aws.lambda.billed_duration_ms", metrics.billed_duration);
            line.number("Memory Size", "MB", "aws.lambda.memory_size_mb", metrics.memory_size);
            line.number("Max Memory Used", "MB", "aws.lambda.max_memory_used_mb", metrics.max_memory_used);
            line.number("Init Duration", "ms", "aws.lambda.init_duration_ms", metrics.init_duration);
            line.number("Restore Duration", "ms", "aws.lambda.restore_duration_ms", metrics.restore_duration);
            line.ended(record);
        }
    }
    line.finish(Severity::Info, time, observed)
}

/// Returns the log record of an environment's event; `None` if another event holds the same data.
pub(super) fn of_environment(
    event: EnvironmentEvent,
    record: &PlatformRecord,
    (time, observed): (u64, u64),
) -> Option<LogRecord> {
    let mut severity = Severity::Info;
    let line = match event {
        EnvironmentEvent::InitRuntimeDone | EnvironmentEvent::RestoreRuntimeDone | EnvironmentEvent::End => {
            return None;
        }
        EnvironmentEvent::InitStart | EnvironmentEvent::RestoreStart => {
            let (word, kind) = match event {
                EnvironmentEvent::InitStart => ("INIT_START", "platform.initStart"),
                _ => ("RESTORE_START", "platform.restoreStart"),
            };
            let mut line = EventLine::new(kind, word.to_owned());
            line.text("Runtime Version", "aws.lambda.runtime_version", record.runtime_version.as_deref());
            of_init(&mut line, record);
            line
        }
        EnvironmentEvent::InitReport => {
            let mut line = EventLine::new("platform.initReport", "INIT_REPORT".to_owned());
            line.number("Init Duration", "ms", "aws.lambda.init_duration_ms", record.metrics.duration);
            line.text("Phase", "aws.lambda.phase", record.phase.as_deref());
            line.ended(record);
            line
        }
        EnvironmentEvent::RestoreReport => {
            let mut line = EventLine::new("platform.restoreReport", "RESTORE_REPORT".to_owned());
            line.number("Restore Duration", "ms", "aws.lambda.restore_duration_ms", record.metrics.duration);
            line.ended(record);
            line
        }
        EnvironmentEvent::Extension | EnvironmentEvent::Subscription => {
            let (word, kind) = match event {
                EnvironmentEvent::Extension => ("EXTENSION", "platform.extension"),
                _ => ("TELEMETRY", "platform.telemetrySubscription"),
            };
            let mut line = EventLine::new(kind, word.to_owned());
            line.text("Name", "aws.lambda.extension.name", record.name.as_deref());
            line.text("State", "aws.lambda.extension.state", record.state.as_deref());
            line.text("Error Type", "error.type", record.error_type.as_deref());
            line
        }
        EnvironmentEvent::LogsDropped => {
            severity = Severity::Warn;
            let mut line = EventLine::new("platform.logsDropped", "LOGS_DROPPED".to_owned());
            line.number("Records", "", "aws.lambda.dropped_records", record.dropped_records);
            line.number("Bytes", "", "aws.lambda.dropped_bytes", record.dropped_bytes);
            line.text("Reason", "aws.lambda.reason", record.reason.as_deref());
            line
        }
        EnvironmentEvent::Fault => {
            severity = Severity::Error;
            let mut line = EventLine::new("platform.fault", "FAULT".to_owned());
            line.attributes.extend(record.request_id.as_deref().map(|id| string(REQUEST_ID, id)));
            line.text("Reason", "aws.lambda.reason", record.reason.as_deref());
            line.ended(record);
            line
        }
    };
    Some(line.finish(severity, time, observed))
}

fn of_init(line: &mut EventLine, record: &PlatformRecord) {
    let texts = [
        ("aws.lambda.initialization_type", &record.initialization_type),
        ("aws.lambda.phase", &record.phase),
    ];
    line.attributes.extend(texts.iter().filter_map(|(key, text)| Some(string(key, text.as_deref()?))));
}
