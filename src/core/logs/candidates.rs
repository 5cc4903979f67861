//! Finds the fields of a JSON record that fill a part of the log record.
//!
//! Of several candidates a field of the record wins over one of a nested object, the last of repeated keys over those
//! before it, and a level's word over its number. A candidate with an invalid value is none.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList, any_value::Value};

use super::exception;
use super::json::{Field, FieldValue};
use super::roles::{LAST_RANK, Role, WEAK_RANK, role};
use super::severity::{Scale, Severity};
use super::text::without_colours;
use crate::time::{self, LoggedTime};
use crate::trace_context;

/// The rank that a nested field adds to that of its name.
const NESTED: u8 = 5;
/// The rank of a level that is a number.
const NUMBER: u8 = 50;

/// The best candidate for a part of the log record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<T> {
    rank: u8,
    /// The index of the field.
    pub(super) at: usize,
    pub(super) value: T,
}

/// The candidates for the parts of a log record.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) message: Option<Candidate<()>>,
    pub(super) level: Option<Candidate<Severity>>,
    pub(super) time: Option<Candidate<LoggedTime>>,
    pub(super) request_id: Option<Candidate<()>>,
    /// An id that may be of another request.
    pub(super) any_request_id: Option<Candidate<()>>,
    pub(super) trace_id: Option<Candidate<[u8; 16]>>,
    pub(super) span_id: Option<Candidate<[u8; 8]>>,
    pub(super) trace_flags: Option<Candidate<u32>>,
    pub(super) exception_type: Option<Candidate<()>>,
    pub(super) exception_message: Option<Candidate<()>>,
    pub(super) stacktrace: Option<Candidate<()>>,
    pub(super) error: Option<Candidate<()>>,
    /// Lambda's runtimes write such records around what the function logs.
    pub(super) is_envelope: bool,
    /// The fields can only describe an error.
    pub(super) is_error: bool,
}

impl Candidates {
    /// `platform` is the platform's timestamp of the record, in nanoseconds since the epoch.
    pub(super) fn of(fields: &[Field<'_>], platform: u64) -> Self {
        let mut candidates = Self::default();
        let mut kind = RecordKind::default();
        let mut numbers = None;
        let mut nanos = None;
        let (mut has_error_message, mut has_error_code) = (false, false);
        for (at, field) in fields.iter().enumerate() {
            kind.observe(field);
            has_error_message |= matches!(&*field.key, "errorMessage" | "message.errorMessage")
                && field.value.as_text().is_some();
            has_error_code |= field.key == "errorCode";
            if matches!(&*field.key, "instant.nanoOfSecond" | "timestampNanos" | "timestamp.nanos") {
                nanos = number(&field.value);
            }
            if let Some(role) = role(&field.key) {
                let offer = Offer { fields, at, field, platform };
                candidates.take(offer, role);
                if matches!(role, Role::Level) {
                    numbers = offer.better(numbers, NUMBER, number(&field.value));
                }
            }
        }
        // AWS's own events have a message beside a code.
        candidates.is_error |= has_error_message && !has_error_code;
        if let (Some(time), Some(nanos)) = (&mut candidates.time, nanos)
            && fields.get(time.at).is_some_and(|field| is_whole_seconds(&field.key))
        {
            time.value = time.value.with_nanos(nanos);
        }
        if candidates.level.is_none_or(|level| level.rank >= NUMBER)
            && let Some(scale) = kind.scale()
            && let Some(number) = numbers
        {
            let severity = Severity::from_number(number.value, scale);
            let level = severity.map(|value| Candidate { rank: NUMBER, at: number.at, value });
            candidates.level = candidates.level.or(level);
        }
        if kind.scale() == Some(Scale::Consola)
            && let Some(level) = &mut candidates.level
            && let Some(field) = fields.iter().find(|field| field.key == "type")
            && let Some(severity) = field.value.as_text().and_then(Severity::from_word)
        {
            // consola's word is more accurate. It is also its kind of message, so it stays.
            level.value = severity;
        }
        if candidates.level.is_none() && kind.is_serilog {
            // Serilog's compact format leaves out this level.
            candidates.level = Some(Candidate { rank: NUMBER, at: usize::MAX, value: Severity::Info });
        }
        candidates.is_envelope = kind.is_envelope && candidates.time.is_some() && kind.has_message;
        candidates.drop_dangling();
        candidates
    }

    fn take(&mut self, offer: Offer<'_, '_>, role: Role) {
        let value = &offer.field.value;
        let word = value.as_text();
        match role {
            Role::Message(rank) => {
                let is_message = rank == 0 && !matches!(value, FieldValue::Null) || word.is_some();
                self.message = offer.better(self.message, rank, is_message.then_some(()));
            }
            Role::Level => {
                let severity = word.and_then(|word| Severity::from_word(&without_colours(word)));
                self.level = offer.better(self.level, 0, severity);
            }
            Role::LevelNumber(scale) => {
                let severity = number(value).and_then(|number| Severity::from_number(number, scale));
                self.level = offer.better(self.level, NUMBER, severity);
            }
            Role::Time => {
                // A time far from the platform's is a part of the data.
                let time = logged_time(offer).filter(|time| time.resolve(offer.platform).is_some());
                self.time = offer.better(self.time, 0, time);
            }
            Role::RequestId => self.request_id = offer.better(self.request_id, 0, word.map(|_| ())),
            Role::AnyRequestId => {
                self.any_request_id = offer.better(self.any_request_id, 0, word.map(|_| ()));
            }
            Role::TraceId => {
                self.trace_id = offer.better(self.trace_id, 0, word.and_then(trace_context::trace_id));
            }
            Role::SpanId => {
                self.span_id = offer.better(self.span_id, 0, word.and_then(trace_context::span_id));
            }
            Role::TraceFlags => self.trace_flags = offer.better(self.trace_flags, 0, trace_flags(value)),
            Role::ExceptionType => {
                let is_named = matches!(&*offer.field.key, "errorType" | "message.errorType");
                self.is_error |= is_named && word.is_some_and(|word| !word.eq_ignore_ascii_case("none"));
                self.exception_type = offer.better(self.exception_type, 0, word.map(|_| ()));
            }
            Role::ExceptionMessage => {
                self.exception_message = offer.better(self.exception_message, 0, word.map(|_| ()));
                self.message = offer.better(self.message, LAST_RANK, word.map(|_| ()));
            }
            Role::Stacktrace => {
                let stack = exception::is_stacktrace(value).then_some(());
                self.is_error |= stack.is_some() && offer.field.key != "cause";
                self.stacktrace = offer.better(self.stacktrace, 0, stack);
                let described =
                    stack.is_none() && (is_described(word) || exception::structlog(value).is_some());
                self.error = offer.better(self.error, 0, described.then_some(()));
            }
            Role::Error => self.error = offer.better(self.error, 1, word.map(|_| ())),
        }
    }

    /// Returns true if the message is the exception's.
    pub(super) fn shares_message(&self) -> bool {
        self.message
            .zip(self.exception_message)
            .is_some_and(|(message, exception)| message.at == exception.at)
    }

    /// Returns true if there is a message under a name that means nothing else.
    pub(super) fn has_certain_message(&self) -> bool {
        self.message.is_some_and(|message| message.rank == 0)
    }

    /// Drops candidates that mean nothing without another field.
    fn drop_dangling(&mut self) {
        // `{"time":…,"body":…}` without a level and a message is data that someone printed: an event of
        // EventBridge has a time, a request of API Gateway a body.
        if self.level.is_none()
            && !self.is_error
            && self.message.is_none_or(|message| message.rank >= WEAK_RANK)
        {
            self.time = None;
            self.message = None;
            // Without an error, `{"error":{"name":…,"message":…}}` is data, too.
            self.exception_message = None;
            self.exception_type = self.exception_type.filter(|_| self.stacktrace.is_some());
        }
    }

    /// Returns true if the field at this index fills a part of the log record.
    pub(super) fn has(&self, at: usize) -> bool {
        fn is<T>(candidate: Option<&Candidate<T>>, at: usize) -> bool {
            candidate.is_some_and(|candidate| candidate.at == at)
        }
        is(self.message.as_ref(), at)
            || is(self.level.as_ref(), at)
            || is(self.time.as_ref(), at)
            || is(self.request_id.as_ref(), at)
            || is(self.trace_id.as_ref(), at)
            || is(self.span_id.as_ref(), at)
            || is(self.trace_flags.as_ref(), at)
            || is(self.exception_type.as_ref(), at)
            || is(self.exception_message.as_ref(), at)
            || is(self.stacktrace.as_ref(), at)
    }
}

/// A field with a role.
#[derive(Clone, Copy)]
struct Offer<'f, 't> {
    fields: &'f [Field<'t>],
    at: usize,
    field: &'f Field<'t>,
    platform: u64,
}

impl Offer<'_, '_> {
    /// The better one of the best candidate so far and this field.
    fn better<T>(self, best: Option<Candidate<T>>, rank: u8, value: Option<T>) -> Option<Candidate<T>> {
        let Some(value) = value else { return best };
        let rank = if self.field.is_nested { rank + NESTED } else { rank };
        let is_better = best.as_ref().is_none_or(|best| {
            let repeats = || self.fields.get(best.at).is_some_and(|earlier| earlier.key == self.field.key);
            rank < best.rank || rank == best.rank && repeats()
        });
        if is_better { Some(Candidate { rank, at: self.at, value }) } else { best }
    }
}

/// The traits of a record that decide what it is.
#[derive(Debug)]
struct RecordKind {
    is_serilog: bool,
    is_envelope: bool,
    has_message: bool,
    /// The consola fields found: bit 0 for `type`, bit 1 for `args`.
    consola: u8,
    /// The meaning of a numeric level. In a record of no known logger a number is data.
    scale: Option<Scale>,
}

impl Default for RecordKind {
    fn default() -> Self {
        Self { is_serilog: false, is_envelope: true, has_message: false, consola: 0, scale: None }
    }
}

impl RecordKind {
    fn observe(&mut self, field: &Field<'_>) {
        if field.is_nested {
            self.has_message |= field.key.starts_with("message.");
            self.is_envelope &= field.key.starts_with("message.");
            return;
        }
        let is_text = matches!(field.value, FieldValue::Text(_));
        match &*field.key {
            "message" => {
                self.has_message = true;
                return;
            }
            "timestamp" | "level" | "requestId" | "AWSRequestId" | "errorType" | "errorMessage"
            | "stackTrace" | "logger" | "location" | "tenantId" | "traceId" => return,
            "@t" => self.is_serilog = true,
            "type" => self.consola |= 1,
            "args" => self.consola |= 2,
            "short_message" => self.scale = Some(Scale::Syslog),
            "channel" | "level_name" if self.scale != Some(Scale::Syslog) => {
                self.scale = Some(Scale::Monolog);
            }
            "pid" | "hostname" | "v" | "msg" => self.scale = self.scale.or(Some(Scale::Pino)),
            "time" if !is_text => self.scale = self.scale.or(Some(Scale::Pino)),
            _ => {}
        }
        self.is_envelope = false;
    }

    fn scale(&self) -> Option<Scale> {
        if self.consola == 3 && self.scale != Some(Scale::Syslog) { Some(Scale::Consola) } else { self.scale }
    }
}

fn number(value: &FieldValue<'_>) -> Option<i64> {
    match value {
        FieldValue::Other(Value::IntValue(number)) => Some(*number),
        FieldValue::Text(word) => word.parse().ok(),
        _ => None,
    }
}

fn trace_flags(value: &FieldValue<'_>) -> Option<u32> {
    match value {
        FieldValue::Other(Value::BoolValue(sampled)) => Some(u32::from(*sampled)),
        FieldValue::Other(Value::IntValue(flags)) => u8::try_from(*flags).ok().map(u32::from),
        FieldValue::Text(flags) => trace_context::flags(flags),
        _ => None,
    }
}

fn logged_time(offer: Offer<'_, '_>) -> Option<LoggedTime> {
    match &offer.field.value {
        FieldValue::Text(text) => time::parse(text),
        FieldValue::Other(Value::IntValue(number)) => time::from_integer(*number),
        FieldValue::Other(Value::DoubleValue(number)) => time::from_float(*number),
        _ => None,
    }
}

/// Returns true for a key whose nanoseconds are written apart.
fn is_whole_seconds(key: &str) -> bool {
    matches!(key, "instant.epochSecond" | "timestampSeconds" | "timestamp.seconds")
}

/// Returns true for one line that is the type and the message of an exception.
fn is_described(word: Option<&str>) -> bool {
    word.is_some_and(|word| exception::type_and_message(word).is_some())
}

/// The request id in tracing's list of spans. The span of the invocation is the outermost.
pub(super) fn request_id_in_spans(fields: &[Field<'_>]) -> Option<String> {
    let spans = fields.iter().find(|field| field.key == "spans")?;
    let FieldValue::Other(Value::ArrayValue(ArrayValue { values })) = &spans.value else { return None };
    values.iter().find_map(|span| match &span.value {
        Some(Value::KvlistValue(KeyValueList { values })) => {
            let id = values.iter().find(|field| field.key == "requestId")?;
            match id.value.as_ref()?.value.as_ref()? {
                Value::StringValue(id) => Some(id.clone()),
                _ => None,
            }
        }
        _ => None,
    })
}

/// The text of a field, without colours.
pub(super) fn text_without_colours<'f>(field: &'f Field<'_>) -> Option<Cow<'f, str>> {
    field.value.as_text().map(without_colours)
}
