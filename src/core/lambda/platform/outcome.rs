//! The outcome of an invocation, and the log record of a failure that the function cannot log itself.
//!
//! If a handler raises an error, its runtime logs it. A function that times out, crashes or runs out of memory is killed, and
//! only the platform knows. So this record is sent whatever `ROTEL_LAMBDA_PLATFORM_EVENTS` says. Status and error types: AWS's
//! "Telemetry API Event schema reference".

use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::logs::{self, Severity};
use crate::otlp::attribute::{double, string, text};

/// The outcome of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvocationOutcome {
    /// The function returned a response.
    Success,
    /// The function returned an error.
    Error,
    /// The function ran until its timeout.
    Timeout,
    /// The process of the function or of an extension ended.
    Crash,
    /// The process ended because the memory was used up.
    OutOfMemory,
}

impl InvocationOutcome {
    /// Classifies `status` and `errorType` of platform events. An unknown status is an error only if there is an error type.
    pub(super) fn of(status: Option<&str>, error_type: Option<&str>) -> Self {
        match (status.map(str::to_ascii_lowercase).as_deref(), error_type) {
            (Some("success"), _) => Self::Success,
            (Some("timeout"), _) | (_, Some("Sandbox.Timedout" | "Sandbox.Timeout")) => Self::Timeout,
            (_, Some("Runtime.OutOfMemory")) => Self::OutOfMemory,
            (_, Some("Runtime.ExitError" | "Sandbox.Failure")) => Self::Crash,
            (_, Some(error)) if error.starts_with("Extension.") => Self::Crash,
            (Some("failure"), _) => Self::Crash,
            (Some("error"), _) | (_, Some(_)) => Self::Error,
            (_, None) => Self::Success,
        }
    }

    /// The name in attributes. Also used as `error.type` if the platform sends no error type.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Success => None,
            Self::Error => Some("error"),
            Self::Timeout => Some("timeout"),
            Self::Crash => Some("crash"),
            Self::OutOfMemory => Some("out_of_memory"),
        }
    }

    /// Returns true if the function was killed while it ran.
    pub(super) fn is_cut_off(self) -> bool {
        match self {
            Self::Success | Self::Error => false,
            Self::Timeout | Self::Crash | Self::OutOfMemory => true,
        }
    }

    /// The text that follows the invocation's name in a log record; `None` if the function can log the outcome itself.
    pub(super) fn description(self) -> Option<&'static str> {
        match self {
            Self::Success | Self::Error => None,
            Self::Timeout => Some("timed out"),
            Self::Crash => Some("crashed"),
            Self::OutOfMemory => Some("ran out of memory"),
        }
    }
}

/// The details of an end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EndDetails<'a> {
    /// `errorType`, if the platform sent one.
    pub(super) error_type: Option<&'a str>,
    /// Nanoseconds since the epoch.
    pub(super) time: u64,
    /// Milliseconds from start to end.
    pub(super) duration: Option<f64>,
    /// Used and configured memory, in megabytes.
    pub(super) memory: Option<(f64, f64)>,
}

/// Returns the log record of a failed invocation; `None` if the function can log the outcome itself.
pub(super) fn record(
    outcome: InvocationOutcome,
    request_id: &str,
    end: &EndDetails<'_>,
    observed: u64,
) -> Option<LogRecord> {
    let description = outcome.description()?;
    let mut record = end_record(&format!("invocation {request_id} {description}"), end, observed);
    record.attributes.push(string(logs::REQUEST_ID, request_id));
    record.attributes.extend(outcome.name().map(|name| string("aws.lambda.outcome", name)));
    record.attributes.extend(error_type(outcome, end.error_type));
    Some(record)
}

/// Returns the log record of a failed init.
pub(super) fn init_failed(outcome: InvocationOutcome, end: &EndDetails<'_>, observed: u64) -> LogRecord {
    let mut record = end_record("init of the execution environment failed", end, observed);
    record.attributes.push(string("aws.lambda.outcome", "init_failure"));
    record.attributes.extend(error_type(outcome, end.error_type));
    record
}

/// Returns the `error.type` attribute of a failure.
pub(super) fn error_type(outcome: InvocationOutcome, error_type: Option<&str>) -> Option<KeyValue> {
    let kind = outcome.name()?;
    Some(string("error.type", error_type.unwrap_or(kind)))
}

fn end_record(what: &str, end: &EndDetails<'_>, observed: u64) -> LogRecord {
    let mut body = what.to_owned();
    let mut attributes = vec![string(logs::SOURCE, "platform")];
    if let Some(duration) = end.duration {
        let _ = write!(body, " after {:.3} s", duration / 1e3);
        attributes.push(double("aws.lambda.duration_ms", duration));
    }
    if let Some((used, size)) = end.memory {
        let _ = write!(body, ", memory used: {used} of {size} MB");
        attributes.push(double("aws.lambda.max_memory_used_mb", used));
        attributes.push(double("aws.lambda.memory_size_mb", size));
    }
    if let Some(error_type) = end.error_type {
        let _ = write!(body, " ({error_type})");
    }
    LogRecord {
        time_unix_nano: end.time,
        observed_time_unix_nano: observed,
        severity_number: Severity::Error.number(),
        severity_text: Severity::Error.as_str().to_owned(),
        body: Some(text(&body)),
        attributes,
        ..LogRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_error_type_give_the_outcome() {
        let cases = [
            (Some("success"), None, InvocationOutcome::Success),
            (Some("SUCCESS"), None, InvocationOutcome::Success),
            (Some("error"), None, InvocationOutcome::Error),
            (Some("error"), Some("Function.Unknown"), InvocationOutcome::Error),
            (Some("error"), Some("TimeoutError"), InvocationOutcome::Error),
            (Some("error"), Some("Runtime.ExitError"), InvocationOutcome::Crash),
            (Some("error"), Some("Extension.Crash"), InvocationOutcome::Crash),
            (Some("failure"), None, InvocationOutcome::Crash),
            (Some("failure"), Some("Sandbox.Timedout"), InvocationOutcome::Timeout),
            (Some("error"), Some("Runtime.OutOfMemory"), InvocationOutcome::OutOfMemory),
            (Some("timeout"), Some("Sandbox.Timedout"), InvocationOutcome::Timeout),
            (Some("timeout"), None, InvocationOutcome::Timeout),
            (Some("paused"), None, InvocationOutcome::Success),
            (Some("paused"), Some("Function.Broken"), InvocationOutcome::Error),
            (None, None, InvocationOutcome::Success),
            (None, Some("Runtime.ExitError"), InvocationOutcome::Crash),
        ];
        for (status, error_type, outcome) in cases {
            assert_eq!(InvocationOutcome::of(status, error_type), outcome, "{status:?} {error_type:?}");
        }
    }
}
