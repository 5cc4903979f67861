//! Which field of a JSON record means what.
//!
//! Each thing that a log record has a place for is taken from the first field that loggers use for it and that can be
//! understood; every other field becomes an attribute, nested objects flattened with dots (`{"http":{"status":200}}` →
//! `http.status`), as ClickStack's own JSON parsing does, and arrays as OTLP arrays. A record that would take several times
//! its length like this keeps a part of it as JSON text: [`large`].

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList, any_value::Value};

use super::attributes::Attributes;
use super::exception::{self, Exception};
use super::flat::{Fields, value};
use super::json::{self, OverBudget};
use super::roles::{LAST, Role, WEAK, role};
use super::severity::Severity;
use super::{Log, REQUEST_ID, large};
use crate::otlp::attribute::{string, text};
use crate::time::{self, Told};
use crate::trace_context;

/// Which fields are taken, by their place.
#[derive(Debug, Default)]
struct Taken {
    message: Option<(u8, usize)>,
    level: Option<(usize, Severity)>,
    time: Option<(usize, Told)>,
    request_id: Option<usize>,
    trace_id: Option<(usize, [u8; 16])>,
    span_id: Option<(usize, [u8; 8])>,
    trace_flags: Option<(usize, u32)>,
    exception_type: Option<usize>,
    exception_message: Option<usize>,
    stacktrace: Option<usize>,
}

impl Taken {
    fn of(fields: &[KeyValue]) -> Self {
        let mut taken = Self::default();
        for (at, field) in fields.iter().enumerate() {
            if let (Some(role), Some(value)) = (role(&field.key), value(field)) {
                taken.consider(at, role, value);
            }
        }
        taken.settle();
        taken
    }

    fn consider(&mut self, at: usize, role: Role, value: &Value) {
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
            Role::Level => take(&mut self.level, at, || severity(value)),
            Role::Time => take(&mut self.time, at, || told(value)),
            Role::RequestId => first(&mut self.request_id, at, word.is_some()),
            Role::TraceId => take(&mut self.trace_id, at, || word.and_then(trace_context::trace_id)),
            Role::SpanId => take(&mut self.span_id, at, || word.and_then(trace_context::span_id)),
            Role::TraceFlags => take(&mut self.trace_flags, at, || match value {
                Value::BoolValue(sampled) => Some(u32::from(*sampled)),
                Value::IntValue(flags) => u8::try_from(*flags).ok().map(u32::from),
                _ => word.and_then(trace_context::flags),
            }),
            Role::ExceptionType => first(&mut self.exception_type, at, word.is_some()),
            Role::ExceptionMessage => {
                first(&mut self.exception_message, at, word.is_some());
                if word.is_some() && self.message.is_none() {
                    self.message = Some((LAST, at));
                }
            }
            // A single line is somebody's own: the name of a CloudFormation stack, the text of an exception.
            Role::Stacktrace => {
                let lines = exception::lines(value).filter(|lines| word.is_none() || lines.contains('\n'));
                first(&mut self.stacktrace, at, lines.is_some());
            }
        }
    }

    /// Leaves what makes no sense without something else.
    fn settle(&mut self) {
        // `{"time":…,"body":…}` without a level and a message is somebody's data, printed: an event of EventBridge has a
        // time, a request of API Gateway a body.
        if self.level.is_none() && self.message.is_none_or(|(rank, _)| rank == WEAK) {
            self.time = None;
            self.message = None;
        }
        // A span is one of a trace, and so are flags.
        if self.trace_id.is_none() {
            self.span_id = None;
            self.trace_flags = None;
        }
    }

    /// Whether the field at this place has a place of its own in the log record.
    fn has(&self, at: usize) -> bool {
        let exception = [self.exception_type, self.exception_message, self.stacktrace];
        // What is the body because nothing else is, is also the exception's message.
        self.message.is_some_and(|(_, taken)| taken == at)
            || self.level.is_some_and(|(taken, _)| taken == at)
            || self.time.is_some_and(|(taken, _)| taken == at)
            || self.request_id == Some(at)
            || self.trace_id.is_some_and(|(taken, _)| taken == at)
            || self.span_id.is_some_and(|(taken, _)| taken == at)
            || self.trace_flags.is_some_and(|(taken, _)| taken == at)
            || exception.contains(&Some(at))
    }
}

fn take<T>(taken: &mut Option<(usize, T)>, at: usize, read: impl FnOnce() -> Option<T>) {
    if taken.is_none() {
        *taken = read().map(|value| (at, value));
    }
}

fn first(taken: &mut Option<usize>, at: usize, readable: bool) {
    if taken.is_none() && readable {
        *taken = Some(at);
    }
}

/// The fields of a JSON object, within the bounds of its length; `None` where the text is something else.
pub(super) fn read(text: &str) -> Option<Fields> {
    match json::parse(text) {
        Ok(Some(Value::KvlistValue(fields))) => Some(Fields::of(fields.values)),
        Ok(_) => None,
        Err(OverBudget) => large::read(text),
    }
}

/// Puts the fields of a record into it. `whole` is the record's text, which is the body where no field is; `timed` that
/// its time is known better than its fields can tell.
pub(super) fn take_fields(log: &mut Log, fields: Fields, whole: &str, timed: bool) {
    let Fields { flat: mut fields, message: nested, are_metrics } = fields;
    if are_metrics {
        log.record.body = Some(text(whole));
        return;
    }
    let serilog = fields.iter().any(|field| field.key == "@t");
    let mut taken = Taken::of(&fields);
    if timed {
        taken.time = None;
    }
    // The prefix of a line names the invocation already.
    if log.told_request_id {
        taken.request_id = None;
    }
    let request_id = taken.request_id.and_then(|at| fields.get(at)).and_then(word).map(str::to_owned);
    let request_id = request_id.or_else(|| in_spans(&fields).filter(|_| !log.told_request_id));

    let mut attributes = Attributes::of(std::mem::take(&mut log.record.attributes));
    attributes.reserve(fields.len() + 1);
    if let Some(request_id) = request_id {
        attributes.add(string(REQUEST_ID, &request_id));
        log.told_request_id = true;
    }
    exception_of(&taken, &fields).add_to(&mut attributes);
    let message = taken.message.and_then(|(_, at)| fields.get_mut(at));
    let body = message.and_then(|field| field.value.take());
    for (at, field) in fields.drain(..).enumerate() {
        if !taken.has(at) {
            attributes.add(field);
        }
    }
    if let Some((_, severity)) = taken.level {
        log.set_severity(severity);
    } else if serilog {
        // Its compact format leaves the level out where it is this one.
        log.set_severity(Severity::Info);
    }
    if let Some((_, told)) = taken.time {
        log.record.time_unix_nano = told.moment(log.record.time_unix_nano);
    }
    if let Some((_, trace_id)) = taken.trace_id {
        log.record.trace_id = trace_id.to_vec();
        log.record.span_id = taken.span_id.map(|(_, id)| id.to_vec()).unwrap_or_default();
        log.record.flags = taken.trace_flags.map_or(0, |(_, flags)| flags);
    }
    log.record.attributes = attributes.into_list();
    log.record.body = Some(body.or(nested).unwrap_or_else(|| text(whole)));
}

/// What fields tell of an exception that are nothing but one.
pub(super) fn exception_in(fields: &Fields) -> Exception {
    exception_of(&Taken::of(&fields.flat), &fields.flat)
}

/// What the fields tell of an exception; what they leave out, its stack trace may tell.
fn exception_of(taken: &Taken, fields: &[KeyValue]) -> Exception {
    let field = |at: Option<usize>| at.and_then(|at| fields.get(at));
    let owned = |at| field(at).and_then(word).map(str::to_owned);
    let stacktrace = field(taken.stacktrace).and_then(value).and_then(exception::lines);
    let mut exception =
        Exception { kind: owned(taken.exception_type), message: owned(taken.exception_message), stacktrace };
    if exception.kind.is_none()
        && let Some(within) = exception.stacktrace.as_deref().and_then(Exception::in_text)
    {
        exception.complete(within);
    }
    exception
}

fn word(field: &KeyValue) -> Option<&str> {
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

fn told(value: &Value) -> Option<Told> {
    match value {
        Value::StringValue(text) => time::read(text),
        Value::IntValue(number) => time::integer(*number),
        Value::DoubleValue(number) => time::float(*number),
        _ => None,
    }
}

/// The request id within tracing's list of spans, of which the invocation's is the outermost.
fn in_spans(fields: &[KeyValue]) -> Option<String> {
    let spans = fields.iter().find(|field| field.key == "spans").and_then(value)?;
    let Value::ArrayValue(ArrayValue { values }) = spans else { return None };
    values.iter().find_map(|span| match &span.value {
        Some(Value::KvlistValue(KeyValueList { values })) => {
            values.iter().find(|field| field.key == "requestId").and_then(word).map(str::to_owned)
        }
        _ => None,
    })
}
