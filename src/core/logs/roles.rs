//! The names that loggers use for fields that a log record has a place for: level, time, ids, exception. Sources: the
//! documentation or code of each logger, as listed in `tests/logs`.

use super::severity::Scale;

/// The place of a field in the log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The body; the lowest rank wins.
    Message(u8),
    /// A level as a word, or as a number if the record is of a logger that writes numbers.
    Level,
    /// A level as a number of this scale.
    LevelNumber(Scale),
    Time,
    /// The id of the invocation under a name that means nothing else.
    RequestId,
    /// An id that may be of another request, such as API Gateway's.
    AnyRequestId,
    TraceId,
    SpanId,
    TraceFlags,
    ExceptionType,
    ExceptionMessage,
    Stacktrace,
    /// The text of an error, or what an error is called.
    Error,
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

/// The role of a field with this key, which is dotted if the field is nested.
pub(super) fn role(key: &str) -> Option<Role> {
    Some(match key {
        "message" | "fields.message" | "msg" | "Message" | "RenderedMessage" | "@m" | "@message"
        | "record.message" | "short_message" | "MESSAGE" | "formattedMessage" => Role::Message(0),
        "@mt" | "MessageTemplate" => Role::Message(1),
        "event" | "log" | "Body" => Role::Message(2),
        "body" | "text" | "0" => Role::Message(WEAK_RANK),
        "level" | "severity" | "log.level" | "levelname" | "lvl" | "Level" | "LogLevel" | "@l" | "@level"
        | "logLevel" | "log_level" | "level_name" | "levelName" | "loglevel" | "severity_text"
        | "severityText" | "SeverityText" | "record.level.name" | "level.name" | "level.levelStr"
        | "_meta.logLevelName" | "LEVEL" | "Severity" | "context.logLevel" | "@fields.level"
        | "_logLevel" | "at" | "error_severity" | "sLevel" => Role::Level,
        "levelno" | "record.level.no" => Role::LevelNumber(Scale::Python),
        "severity_number" | "severityNumber" | "SeverityNumber" => Role::LevelNumber(Scale::OpenTelemetry),
        "PRIORITY" => Role::LevelNumber(Scale::Syslog),
        "timestamp"
        | "time"
        | "ts"
        | "@timestamp"
        | "@t"
        | "Timestamp"
        | "asctime"
        | "datetime"
        | "date"
        | "_timestamp"
        | "startTime"
        | "timeMillis"
        | "instant.epochSecond"
        | "timestampSeconds"
        | "timestamp.seconds"
        | "created"
        | "Time"
        | "when"
        | "t"
        | "time_unix_nano"
        | "timeUnixNano"
        | "_meta.date"
        | "record.time.timestamp" => Role::Time,
        "AWSRequestId"
        | "awsRequestId"
        | "aws_request_id"
        | "awsRequestID"
        | "AwsRequestId"
        | "correlationIds.awsRequestId"
        | "function_request_id"
        | "functionRequestId"
        | "FunctionRequestId"
        | "lambda_request_id"
        | "lambdaRequestId"
        | "faas.invocation_id"
        | "span.requestId" => Role::RequestId,
        "requestId" | "request_id" | "RequestId" | "x-request-id" => Role::AnyRequestId,
        "trace_id"
        | "traceId"
        | "traceID"
        | "traceid"
        | "TraceId"
        | "trace.id"
        | "otelTraceID"
        | "@tr"
        | "logging.googleapis.com/trace" => Role::TraceId,
        "span_id"
        | "spanId"
        | "spanID"
        | "spanid"
        | "SpanId"
        | "span.id"
        | "otelSpanID"
        | "@sp"
        | "logging.googleapis.com/spanId" => Role::SpanId,
        "trace_flags" | "traceFlags" | "TraceFlags" | "otelTraceSampled" => Role::TraceFlags,
        key => return of_exception(key).or_else(|| nested(key)),
    })
}

/// The role of a field that describes an exception.
fn of_exception(key: &str) -> Option<Role> {
    Some(match key {
        "errorType" | "message.errorType" | "exception_name" | "exception_class" | "exceptionClass"
        | "errorClass" => Role::ExceptionType,
        "errorMessage"
        | "message.errorMessage"
        | "exception_message"
        | "exceptionMessage"
        | "record.exception.value" => Role::ExceptionMessage,
        "stackTrace"
        | "message.stackTrace"
        | "stack"
        | "stack_trace"
        | "stacktrace"
        | "exc_info"
        | "exc_text"
        | "traceback"
        | "StackTrace"
        | "errorStack"
        | "error_stack"
        | "exception_stacktrace"
        | "throwable"
        | "throwableInfo"
        | "thrown"
        | "ex"
        | "exc"
        | "trace"
        | "message.stack"
        | "cause"
        | "@x"
        | "Exception"
        | "exception"
        | "full_message"
        | "errorVerbose"
        | "backtrace" => Role::Stacktrace,
        "error" | "err" | "fields.error" | "fields.err" => Role::Error,
        _ => return None,
    })
}

/// The role of a field of an object that describes an exception, `err.stack`, `context.exception.class`, or that holds the
/// context of the logger, `mdc.traceId`.
fn nested(key: &str) -> Option<Role> {
    let (object, field) = key.rsplit_once('.')?;
    if matches!(
        object,
        "mdc"
            | "MDC"
            | "contextMap"
            | "contextData"
            | "logging.googleapis.com/labels"
            | "labels"
            | "@fields"
            | "extra"
    ) {
        return role(field).filter(|role| {
            matches!(role, Role::RequestId | Role::TraceId | Role::SpanId | Role::TraceFlags)
                || object == "@fields" && matches!(role, Role::Stacktrace)
        });
    }
    let object = match object.split_once('.') {
        Some((
            "record" | "context" | "fields" | "extra" | "message" | "payload" | "attributes" | "properties"
            | "meta",
            inner,
        )) => inner,
        _ => object,
    };
    if !matches!(
        object,
        "err"
            | "error"
            | "exception"
            | "thrown"
            | "throwable"
            | "ex"
            | "exc"
            | "exc_info"
            | "errorObject"
            | "e"
            | "Error"
            | "throwableInfo"
            | "Exception"
    ) {
        return None;
    }
    Some(match field {
        "type" | "name" | "class" | "className" | "kind" | "exceptionType" | "exception_class"
        | "exc_type" | "errorType" | "ClassName" | "Type" => Role::ExceptionType,
        "message" | "msg" | "value" | "localizedMessage" | "exc_value" | "errorMessage"
        | "exception_message" | "Message" => Role::ExceptionMessage,
        "stack" | "stacktrace" | "stackTrace" | "stack_trace" | "extendedStackTrace" | "backtrace"
        | "trace" | "traceback" | "frames" | "stepArray" | "StackTrace" | "StackTraceString" => {
            Role::Stacktrace
        }
        _ => return None,
    })
}
