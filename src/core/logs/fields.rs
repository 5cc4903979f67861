//! Assigns the fields of a JSON record to the parts of a log record.
//!
//! Each part of a log record is taken from the first field that loggers use for it and that has a valid value.
//! Every other field becomes an attribute. Nested objects are flattened with dots (`{"http":{"status":200}}` →
//! `http.status`), as in ClickStack's own JSON parsing, and arrays become OTLP arrays. A record that would grow
//! to several times its length this way keeps a part of it as JSON text: [`large`].

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList, any_value::Value};

use super::attributes::Attributes;
use super::exception::{self, Exception};
use super::flat::{Fields, value};
use super::json::{self, OverBudget};
use super::roles::{LAST_RANK, Role, WEAK_RANK, role};
use super::severity::Severity;
use super::{ConvertedLog, REQUEST_ID, large};
use crate::otlp::attribute::{string, text};
use crate::time::{self, LoggedTime};
use crate::trace_context;

/// The indices of the fields that fill a part of the log record, with their parsed values.
#[derive(Debug, Default)]
struct AssignedFields {
    message: Option<(u8, usize)>,
    level: Option<(usize, Severity)>,
    time: Option<(usize, LoggedTime)>,
    request_id: Option<usize>,
    trace_id: Option<(usize, [u8; 16])>,
    span_id: Option<(usize, [u8; 8])>,
    trace_flags: Option<(usize, u32)>,
    exception_type: Option<usize>,
    exception_message: Option<usize>,
    stacktrace: Option<usize>,
}

impl AssignedFields {
    fn of(fields: &[KeyValue]) -> Self {
        let mut assigned = Self::default();
        for (at, field) in fields.iter().enumerate() {
            if let (Some(role), Some(value)) = (role(&field.key), value(field)) {
                assigned.assign(at, role, value);
            }
        }
        assigned.drop_dangling();
        assigned
    }

    fn assign(&mut self, at: usize, role: Role, value: &Value) {
        let word = match value {
            Value::StringValue(word) => Some(word.as_str()).filter(|word| !word.is_empty()),
            _ => None,
        };
        match role {
            Role::Message(rank) => {
                let plain = rank == 0 || word.is_some();
                if plain && self.message.is_none_or(|(best, _)| rank < best) {
                    self.message = Some((rank, at));
                }
            }
            Role::Level => assign_parsed(&mut self.level, at, || severity(value)),
            Role::Time => assign_parsed(&mut self.time, at, || logged_time(value)),
            Role::RequestId => assign_index(&mut self.request_id, at, word.is_some()),
            Role::TraceId => assign_parsed(&mut self.trace_id, at, || word.and_then(trace_context::trace_id)),
            Role::SpanId => assign_parsed(&mut self.span_id, at, || word.and_then(trace_context::span_id)),
            Role::TraceFlags => assign_parsed(&mut self.trace_flags, at, || match value {
                Value::BoolValue(sampled) => Some(u32::from(*sampled)),
                Value::IntValue(flags) => u8::try_from(*flags).ok().map(u32::from),
                _ => word.and_then(trace_context::flags),
            }),
            Role::ExceptionType => assign_index(&mut self.exception_type, at, word.is_some()),
            Role::ExceptionMessage => {
                assign_index(&mut self.exception_message, at, word.is_some());
                if word.is_some() && self.message.is_none() {
                    self.message = Some((LAST_RANK, at));
                }
            }
            // A single line is something else: the name of a CloudFormation stack, or the text of an exception.
            Role::Stacktrace => {
                let lines =
                    exception::stacktrace(value).filter(|lines| word.is_none() || lines.contains('\n'));
                assign_index(&mut self.stacktrace, at, lines.is_some());
            }
        }
    }

    /// Drops fields that mean nothing without another field.
    fn drop_dangling(&mut self) {
        // `{"time":…,"body":…}` without a level and a message is data that someone printed: an event of
        // EventBridge has a time, a request of API Gateway a body.
        if self.level.is_none() && self.message.is_none_or(|(rank, _)| rank == WEAK_RANK) {
            self.time = None;
            self.message = None;
        }
        // A span id or flags mean nothing without a trace id.
        if self.trace_id.is_none() {
            self.span_id = None;
            self.trace_flags = None;
        }
    }

    /// Returns true if the field at this index fills a part of the log record.
    fn has(&self, at: usize) -> bool {
        let exception = [self.exception_type, self.exception_message, self.stacktrace];
        // An exception's message may also be the body, if there is no other message.
        self.message.is_some_and(|(_, assigned)| assigned == at)
            || self.level.is_some_and(|(assigned, _)| assigned == at)
            || self.time.is_some_and(|(assigned, _)| assigned == at)
            || self.request_id == Some(at)
            || self.trace_id.is_some_and(|(assigned, _)| assigned == at)
            || self.span_id.is_some_and(|(assigned, _)| assigned == at)
            || self.trace_flags.is_some_and(|(assigned, _)| assigned == at)
            || exception.contains(&Some(at))
    }
}

fn assign_parsed<T>(assigned: &mut Option<(usize, T)>, at: usize, read: impl FnOnce() -> Option<T>) {
    if assigned.is_none() {
        *assigned = read().map(|value| (at, value));
    }
}

fn assign_index(assigned: &mut Option<usize>, at: usize, is_valid: bool) {
    if assigned.is_none() && is_valid {
        *assigned = Some(at);
    }
}

/// Parses the fields of a JSON object, within the budget for its length. Returns `None` for any other text.
pub(super) fn read(text: &str) -> Option<Fields> {
    match json::parse(text) {
        Ok(Some(Value::KvlistValue(fields))) => Some(Fields::of(fields.values)),
        Ok(_) => None,
        Err(OverBudget) => large::read(text),
    }
}

/// Adds the fields of a record to its log record. `whole` is the record's text, which becomes the body if no
/// field does. `is_timed` means that a more accurate time than the fields' is set.
pub(super) fn apply_fields(log: &mut ConvertedLog, fields: Fields, whole: &str, is_timed: bool) {
    let Fields { flat: mut fields, message: nested, is_emf } = fields;
    if is_emf {
        log.record.body = Some(text(whole));
        return;
    }
    let serilog = fields.iter().any(|field| field.key == "@t");
    let mut assigned = AssignedFields::of(&fields);
    if is_timed {
        assigned.time = None;
    }
    // The prefix of the line already contains the request id.
    if log.has_own_request_id {
        assigned.request_id = None;
    }
    let request_id =
        assigned.request_id.and_then(|at| fields.get(at)).and_then(string_value).map(str::to_owned);
    let request_id = request_id.or_else(|| request_id_in_spans(&fields).filter(|_| !log.has_own_request_id));

    let mut attributes = Attributes::of(std::mem::take(&mut log.record.attributes));
    attributes.reserve(fields.len() + 1);
    if let Some(request_id) = request_id {
        attributes.add(string(REQUEST_ID, &request_id));
        log.has_own_request_id = true;
    }
    exception_of(&assigned, &fields).add_to(&mut attributes);
    let message = assigned.message.and_then(|(_, at)| fields.get_mut(at));
    let body = message.and_then(|field| field.value.take());
    for (at, field) in fields.drain(..).enumerate() {
        if !assigned.has(at) {
            attributes.add(field);
        }
    }
    if let Some((_, severity)) = assigned.level {
        log.set_severity(severity);
    } else if serilog {
        // Serilog's compact format omits the level if it is this one.
        log.set_severity(Severity::Info);
    }
    if let Some((_, time)) = assigned.time {
        log.record.time_unix_nano = time.resolve(log.record.time_unix_nano);
    }
    if let Some((_, trace_id)) = assigned.trace_id {
        log.record.trace_id = trace_id.to_vec();
        log.record.span_id = assigned.span_id.map(|(_, id)| id.to_vec()).unwrap_or_default();
        log.record.flags = assigned.trace_flags.map_or(0, |(_, flags)| flags);
    }
    log.record.attributes = attributes.into_list();
    log.record.body = Some(body.or(nested).unwrap_or_else(|| text(whole)));
}

/// The exception in fields that describe nothing else.
pub(super) fn exception_in(fields: &Fields) -> Exception {
    exception_of(&AssignedFields::of(&fields.flat), &fields.flat)
}

/// The exception in the fields, completed from its stack trace.
fn exception_of(assigned: &AssignedFields, fields: &[KeyValue]) -> Exception {
    let field = |at: Option<usize>| at.and_then(|at| fields.get(at));
    let owned = |at| field(at).and_then(string_value).map(str::to_owned);
    let stacktrace = field(assigned.stacktrace).and_then(value).and_then(exception::stacktrace);
    let mut exception = Exception {
        kind: owned(assigned.exception_type),
        message: owned(assigned.exception_message),
        stacktrace,
    };
    if exception.kind.is_none()
        && let Some(within) = exception.stacktrace.as_deref().and_then(Exception::in_text)
    {
        exception.complete(within);
    }
    exception
}

fn string_value(field: &KeyValue) -> Option<&str> {
    match value(field) {
        Some(Value::StringValue(word)) => Some(word),
        _ => None,
    }
}

fn severity(value: &Value) -> Option<Severity> {
    match value {
        Value::StringValue(word) => {
            Severity::from_word(word).or_else(|| word.parse().ok().and_then(Severity::from_number))
        }
        Value::IntValue(number) => Severity::from_number(*number),
        _ => None,
    }
}

fn logged_time(value: &Value) -> Option<LoggedTime> {
    match value {
        Value::StringValue(text) => time::parse(text),
        Value::IntValue(number) => time::from_integer(*number),
        Value::DoubleValue(number) => time::from_float(*number),
        _ => None,
    }
}

/// The request id in tracing's list of spans. The span of the invocation is the outermost.
fn request_id_in_spans(fields: &[KeyValue]) -> Option<String> {
    let spans = fields.iter().find(|field| field.key == "spans").and_then(value)?;
    let Value::ArrayValue(ArrayValue { values }) = spans else { return None };
    values.iter().find_map(|span| match &span.value {
        Some(Value::KvlistValue(KeyValueList { values })) => {
            values.iter().find(|field| field.key == "requestId").and_then(string_value).map(str::to_owned)
        }
        _ => None,
    })
}
