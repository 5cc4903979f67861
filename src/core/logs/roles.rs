//! The names that loggers use for what a log record has a place for: level, time, ids, exception.

/// A field's place in the log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The body; a lower rank wins.
    Message(u8),
    Level,
    Time,
    RequestId,
    TraceId,
    SpanId,
    TraceFlags,
    ExceptionType,
    ExceptionMessage,
    Stacktrace,
}

/// A message of which a record may say something else as well, so that it counts beside a level or a time only.
pub(super) const WEAK: u8 = 10;
/// An error's message stands in for one.
pub(super) const LAST: u8 = 20;

/// The fields by which CloudWatch's embedded metric format is known, the one within the other.
pub(super) const METRICS_ENVELOPE: &str = "_aws";
pub(super) const METRICS: &str = "CloudWatchMetrics";

/// A field of this key may have a place of its own in the log record.
pub(super) fn has_role(key: &str) -> bool {
    role(key).is_some()
}

/// The role of a field of this key. Sources: the documentation or the code of the logger named, as `tests/logs` has it.
pub(super) fn role(key: &str) -> Option<Role> {
    Some(match key {
        "message" | "fields.message" | "msg" | "Message" | "RenderedMessage" | "@m" | "record.message" => {
            Role::Message(0)
        }
        "@mt" | "MessageTemplate" => Role::Message(1),
        "event" | "log" => Role::Message(2),
        "body" | "text" => Role::Message(WEAK),
        "level" | "severity" | "log.level" | "levelname" | "lvl" | "Level" | "LogLevel" | "@l"
        | "severity_text" | "record.level.name" => Role::Level,
        "timestamp"
        | "time"
        | "ts"
        | "@timestamp"
        | "@t"
        | "Timestamp"
        | "asctime"
        | "record.time.timestamp" => Role::Time,
        "requestId"
        | "AWSRequestId"
        | "awsRequestId"
        | "aws_request_id"
        | "function_request_id"
        | "functionRequestId"
        | "FunctionRequestId"
        | "span.requestId" => Role::RequestId,
        "trace_id" | "traceId" | "trace.id" | "otelTraceID" | "@tr" => Role::TraceId,
        "span_id" | "spanId" | "span.id" | "otelSpanID" | "@sp" => Role::SpanId,
        "trace_flags" | "traceFlags" | "otelTraceSampled" => Role::TraceFlags,
        "errorType"
        | "message.errorType"
        | "err.type"
        | "err.name"
        | "error.type"
        | "error.name"
        | "exception.type"
        | "exception_name"
        | "record.exception.type" => Role::ExceptionType,
        "errorMessage"
        | "message.errorMessage"
        | "err.message"
        | "error.message"
        | "exception.message"
        | "record.exception.value" => Role::ExceptionMessage,
        "stackTrace"
        | "message.stackTrace"
        | "stack"
        | "stack_trace"
        | "stacktrace"
        | "err.stack"
        | "error.stack"
        | "error.stack_trace"
        | "exception"
        | "exception.stacktrace"
        | "exc_info"
        | "@x"
        | "Exception" => Role::Stacktrace,
        _ => return None,
    })
}
