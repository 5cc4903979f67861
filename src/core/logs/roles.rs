//! The names that loggers use for fields that a log record has a place for: level, time, ids, exception.

/// The place of a field in the log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The body; the lowest rank wins.
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

/// The rank of a name that is often not a message. It counts only in a record with a level.
pub(super) const WEAK_RANK: u8 = 10;
/// The rank of an exception's message, which replaces a missing message.
pub(super) const LAST_RANK: u8 = 20;

/// The fields that identify CloudWatch's embedded metric format (EMF), the second within the first.
pub(super) const EMF_METADATA: &str = "_aws";
pub(super) const EMF_DIRECTIVES: &str = "CloudWatchMetrics";

/// Returns true if a field with this key may have its own place in the log record.
pub(super) fn has_role(key: &str) -> bool {
    role(key).is_some()
}

/// The role of a field with this key. Sources: the documentation or code of each logger, as listed in
/// `tests/logs`.
pub(super) fn role(key: &str) -> Option<Role> {
    Some(match key {
        "message" | "fields.message" | "msg" | "Message" | "RenderedMessage" | "@m" | "record.message" => {
            Role::Message(0)
        }
        "@mt" | "MessageTemplate" => Role::Message(1),
        "event" | "log" => Role::Message(2),
        "body" | "text" => Role::Message(WEAK_RANK),
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
