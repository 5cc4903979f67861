//! Reads a record: a text, or a JSON object, and what its message says in turn.
//!
//! A text is split into a known prefix and a message by [`text`]; a JSON object into the parts of a log record by
//! [`Candidates`]. Loggers write into the console, which wraps what they write, so a message of one of Lambda's runtimes
//! is read like a line of its own, and JSON after any prefix like a record.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::candidates::{Candidate, Candidates, request_id_in_spans, text_without_colours};
use super::draft::Draft;
use super::exception::{self, Exception};
use super::json::{self, Field, FieldValue, Object};
use super::large::REST_KEY;
use super::severity::Severity;
use super::text::{self, ParsedLine, ParsedText, is_uuid, without_colours};
use crate::otlp::attribute::string;
use crate::trace_context::hex;

/// The number of messages within messages that are read.
const MAX_DEPTH: usize = 3;

/// The stack trace of an error that is a record's message.
const ERROR_MESSAGE_STACK: &str = "message.stack";
/// The attribute of an id in the place of a request id that is not the invocation's.
const OTHER_ID: &str = "log.request_id";

/// Reads a text.
pub(super) fn read_text(draft: &mut Draft<'_>, text: &str, depth: usize) {
    let plain = without_colours(text);
    let is_coloured = plain.len() < text.len();
    let text = plain.trim_end_matches(['\n', '\r']).trim_start_matches(['\n', '\u{feff}']);
    let json = text.trim();
    if let Some(object) = draft.read_object(json) {
        return read_object(draft, object, json, depth);
    }
    if exception::is_crash(text) {
        return read_message(draft, text, false);
    }
    match text::parse(text, draft.platform(), is_coloured) {
        ParsedText::Line(line) => read_line(draft, &line, depth),
        ParsedText::Fields(fields) => {
            read_object(draft, Object { fields, ..Object::default() }, text, depth);
        }
        ParsedText::Message => read_message(draft, text, false),
    }
}

fn read_line(draft: &mut Draft<'_>, line: &ParsedLine<'_>, depth: usize) {
    let message = line.message();
    // The prefix of a runtime says how a line was printed. Any other is the logger's own, and wins over the data behind it.
    if line.is_envelope {
        let outer = std::mem::replace(&mut draft.envelope, line.severity);
        read_behind(draft, line, &message, depth);
        draft.envelope = outer;
    } else {
        take_prefix(draft, line, &message);
        read_behind(draft, line, &message, depth);
    }
    take_prefix(draft, line, &message);
    if let Some((time, written)) = line.time
        && !draft.set_time(time)
    {
        draft.add(string("time", written));
    }
    take_line_ids(draft, line);
    for (key, value) in &line.attributes {
        draft.add(string(key, value));
    }
}

/// Reads what follows a prefix.
fn read_behind(draft: &mut Draft<'_>, line: &ParsedLine<'_>, message: &str, depth: usize) {
    if message.starts_with('{') || line.is_envelope && depth < MAX_DEPTH {
        read_text(draft, message, depth + 1);
    } else {
        read_message(draft, message, line.has_context);
    }
}

/// Sets the severity and the time of a prefix. An uncaught error is one, whatever the console made of it.
fn take_prefix(draft: &mut Draft<'_>, line: &ParsedLine<'_>, message: &str) {
    let is_low = line.severity.is_none_or(|severity| severity < Severity::Error);
    let severity = if is_low && line.is_envelope && exception::is_certain_crash(message) {
        Some(Severity::Error)
    } else {
        // A word at the start of a message is weaker than a warning of the console.
        let is_weak = |severity| {
            !line.is_certain()
                && draft.envelope.is_some_and(|envelope| envelope >= Severity::Warn && severity < envelope)
        };
        line.severity.filter(|severity| !is_weak(*severity))
    };
    draft.set_severity(severity);
    if let Some((time, _)) = line.time {
        draft.set_time(time);
    }
}

/// Takes the ids of a prefix. Lambda's request id wins over any other; an id of something else stays an attribute.
fn take_line_ids(draft: &mut Draft<'_>, line: &ParsedLine<'_>) {
    if let Some(id) = line.request_id {
        if line.is_envelope
            || line.severity.is_some() && draft.request_id.is_none() && (draft.is_invocation)(id)
        {
            if let Some(other) = draft.request_id.replace(id.to_owned()).filter(|other| other != id) {
                draft.add(string(OTHER_ID, &other));
            }
        } else if draft.request_id.as_deref() != Some(id) {
            draft.add(string(OTHER_ID, id));
        }
    }
    match line.trace_id {
        Some(trace_id) => {
            draft.set_trace(trace_id, line.span_id, line.trace_flags);
        }
        None => {
            if let Some(span_id) = line.span_id {
                draft.add(string("span_id", &hex(&span_id)));
            }
        }
    }
}

/// Reads a message: text without a prefix, with an exception or JSON in it. `has_context` means that JSON at its end is no
/// part of it.
fn read_message(draft: &mut Draft<'_>, text: &str, has_context: bool) {
    let printed = printed_error(text, draft);
    let found = if printed.is_none() { payload(text, has_context, draft) } else { None };
    let has_payload = found.is_some();
    if let Some((message, object)) = found {
        // In a column of its own it is of the logger, in a sentence it is what the function prints.
        read_payload(draft, object, message.len() < text.len());
        draft.set_body(Cow::Borrowed(message));
    }
    if exception::is_certain_crash(text) {
        draft.set_severity(Some(Severity::Error));
    } else if exception::is_crash(text) {
        draft.imply(Severity::Error);
    }
    if let Some(exception) = printed.or_else(|| Exception::in_text(text)) {
        draft.imply(Severity::Error);
        // Besides attributes, it may repeat only what the budget has left.
        if !has_payload || draft.budget.try_spend(exception.len(), 0) {
            draft.set_exception(exception);
        }
    }
    draft.set_body(Cow::Borrowed(text));
}

/// Parses the error that the Node.js runtime prints as JSON after one of these phrases.
fn printed_error(message: &str, draft: &mut Draft<'_>) -> Option<Exception> {
    let words = ["Invoke Error", "Uncaught Exception", "Unhandled Promise Rejection"];
    let error = words.iter().find_map(|words| message.strip_prefix(words))?.trim_start();
    let object = draft.read_object(error)?;
    let candidates = Candidates::of(&object.fields, draft.platform());
    Some(exception_of(&candidates, &object.fields, true).0)
}

/// Finds the JSON object, or objects, at the end of a message. Returns the message with it: without the JSON if a tab
/// makes that a column of its own.
fn payload<'t>(text: &'t str, has_context: bool, draft: &mut Draft<'_>) -> Option<(&'t str, Object<'t>)> {
    let is_json = |pair: &&[u8; 2]| matches!(*pair, b"{\"" | b"{\n");
    // zap writes a stack trace behind it.
    let is_last = text.ends_with(['}', ']']);
    if !is_last && !text.contains("\t{\"") {
        return None;
    }
    let at = text.as_bytes().array_windows().position(|pair| is_json(&pair)).filter(|at| *at > 0)?;
    let (before, json) = text.split_at_checked(at)?;
    if !before.ends_with([' ', '\t', '\n']) {
        return None;
    }
    let budget = draft.budget;
    let mut object = draft.read_object(json)?;
    // Monolog writes two: the context and the extra fields, and an empty one as a list.
    let mut rest = object.rest.trim();
    if !is_last {
        let stack = object.rest.strip_prefix('\n').filter(|_| before.ends_with('\t')).map(str::to_owned);
        draft.set_exception(Exception { stacktrace: Some(stack?), ..Exception::default() });
        rest = "";
    } else if rest.starts_with("{\"")
        && let Some(second) = draft.read_object(rest)
    {
        object.fields.extend(second.fields);
        rest = second.rest;
    }
    if object.is_broken || object.is_emf || !matches!(rest, "" | "[]" | "{}") {
        draft.budget = budget;
        return None;
    }
    let column = before.strip_suffix('\t').or_else(|| has_context.then(|| before.trim_end()));
    let message = column.filter(|message| !message.trim().is_empty()).unwrap_or(text);
    Some((message, object))
}

/// Adds the fields of an object that follows a message. Its level counts if it stands in a column and nothing else states
/// one, and its message and time are data.
fn read_payload(draft: &mut Draft<'_>, object: Object<'_>, is_column: bool) {
    let mut candidates = Candidates::of(&object.fields, draft.platform());
    candidates.time = None;
    candidates.message = None;
    if let Some(level) = candidates.level.take_if(|_| is_column) {
        draft.imply(level.value);
    }
    candidates.level = None;
    let is_error = draft.severity.or(draft.implied).is_none_or(|severity| severity >= Severity::Error);
    take_fields(draft, &mut candidates, object.fields, is_error);
}

/// Reads an object that is a record; `whole` is its text.
pub(super) fn read_object(draft: &mut Draft<'_>, object: Object<'_>, whole: &str, depth: usize) {
    let Object { mut fields, message: nested, is_emf, mut rest, is_broken } = object;
    if is_emf {
        return draft.set_body(Cow::Borrowed(whole));
    }
    let mut candidates = Candidates::of(&fields, draft.platform());
    let severity = candidates.level.map(|level| level.value);
    let severity = severity.or(candidates.is_error.then_some(Severity::Error)).max(severity_of(rest, draft));
    if candidates.is_envelope
        && depth < MAX_DEPTH
        && nested.is_some()
        && let Some(inner) = inner_record(whole, draft)
    {
        read_object(draft, inner, whole, depth + 1);
        let fields = fields.into_iter().filter(|field| !field.key.starts_with("message.")).collect();
        let outer = Object { fields, rest, ..Object::default() };
        return read_object(draft, outer, whole, MAX_DEPTH);
    }
    let is_shared = candidates.shares_message();
    let is_error_message = fields.iter().any(|field| field.key == ERROR_MESSAGE_STACK);
    let field = candidates.message.and_then(|message| fields.get_mut(message.at));
    let mut message = field.map(|field| {
        if is_shared { field.value.clone() } else { std::mem::replace(&mut field.value, FieldValue::Null) }
    });
    if is_broken && message.is_none() {
        // The body is the whole text, with what comes after the break.
        message = Some(FieldValue::Text(Cow::Borrowed(whole)));
        rest = "";
    } else if let Some(FieldValue::Text(text)) = &message
        && !text.is_empty()
    {
        let text = without_colours(text);
        // Within a runtime's envelope, what the message says is more accurate.
        if candidates.is_envelope && depth < MAX_DEPTH {
            let outer = std::mem::replace(&mut draft.envelope, severity);
            read_text(draft, &text, depth + 1);
            draft.envelope = outer;
        } else {
            draft.set_severity(severity);
            read_inner(draft, &text, &mut candidates, depth);
        }
    }
    draft.set_severity(severity);
    if let Some(time) = candidates.time
        && !draft.set_time(time.value)
    {
        candidates.time = None;
    }
    let is_error = draft.severity.is_some_and(|severity| severity >= Severity::Error);
    take_fields(draft, &mut candidates, fields, is_error);
    add_rest(draft, rest);
    if draft.body.is_some() {
        return;
    }
    let is_empty = match &message {
        Some(FieldValue::Text(text)) => text.is_empty(),
        Some(_) => false,
        None => severity.is_some() && (nested.is_none() || is_error_message),
    };
    if is_empty && let Some(described) = draft.exception.message.clone() {
        return draft.set_body(Cow::Owned(described));
    }
    match (message, nested) {
        (Some(FieldValue::Text(message)), _) => draft.set_body(message),
        (Some(message), _) => draft.body = message.into_any_value(),
        (None, Some(message)) => draft.body = Some(message),
        (None, None) => draft.set_body(Cow::Borrowed(whole)),
    }
}

/// Finds the object that a runtime's envelope has for a message, if it is a record: the console was given one.
fn inner_record<'t>(whole: &'t str, draft: &mut Draft<'_>) -> Option<Object<'t>> {
    let (mut message, mut count) = (None, 0);
    json::for_each_entry(whole, |key, _, value| {
        if key == "message" {
            message = Some(value);
            count += 1;
        }
    })?;
    let object = draft.read_object(message.filter(|_| count == 1)?)?;
    let candidates = Candidates::of(&object.fields, draft.platform());
    let is_record = candidates.level.is_some() || candidates.has_certain_message();
    is_record.then_some(object)
}

/// Reads the message of a logger's own record: JSON, or a text with an exception.
fn read_inner(draft: &mut Draft<'_>, text: &str, candidates: &mut Candidates, depth: usize) {
    if depth < MAX_DEPTH
        && let Some(object) = draft.read_object(text).filter(|object| !object.is_broken)
    {
        if let Some(time) = candidates.time
            && !draft.set_time(time.value)
        {
            candidates.time = None;
        }
        return read_object(draft, object, text, depth + 1);
    }
    if candidates.stacktrace.is_none()
        && let Some(exception) = Exception::in_text(text)
    {
        if exception.stacktrace.is_some() {
            draft.imply(Severity::Error);
        }
        draft.set_exception(exception);
    }
    draft.set_body(Cow::Borrowed(text.trim_end_matches(['\n', '\r'])));
}

/// Takes ids and the exception from the fields, and adds the others as attributes.
fn take_fields(draft: &mut Draft<'_>, candidates: &mut Candidates, fields: Vec<Field<'_>>, is_error: bool) {
    take_request_id(draft, candidates, &fields);
    let trace_id = candidates.trace_id.filter(|trace_id| {
        let span_id = candidates.span_id.map(|id| id.value);
        draft.set_trace(trace_id.value, span_id, candidates.trace_flags.map(|flags| flags.value))
    });
    // A span id or flags mean nothing without a trace id.
    if trace_id.is_none() {
        (candidates.trace_id, candidates.span_id, candidates.trace_flags) = (None, None, None);
    }
    let (exception, mut error) = exception_of(candidates, &fields, is_error);
    if draft.takes_exception(&exception) {
        draft.prefer_exception(exception);
    } else {
        (candidates.exception_type, candidates.exception_message, candidates.stacktrace, error) =
            (None, None, None, None);
    }
    draft.reserve(fields.len());
    for (at, field) in fields.into_iter().enumerate() {
        if !candidates.has(at) && error != Some(at) {
            draft.add(field.into_attribute());
        }
    }
}

fn take_request_id(draft: &mut Draft<'_>, candidates: &mut Candidates, fields: &[Field<'_>]) {
    let id = |candidate: Candidate<()>| fields.get(candidate.at).and_then(|field| field.value.as_text());
    // API Gateway and others have request ids, too. They stay fields.
    candidates.any_request_id = candidates.any_request_id.filter(|candidate| {
        let id = id(*candidate).unwrap_or_default();
        candidates.is_envelope && is_uuid(id) || (draft.is_invocation)(id)
    });
    if draft.request_id.is_some() {
        // The id of the message stays, and so does this one, as a field.
        (candidates.request_id, candidates.any_request_id) = (None, None);
        return;
    }
    candidates.request_id = candidates.request_id.or(candidates.any_request_id);
    let found = candidates.request_id.and_then(id).map(str::to_owned);
    draft.request_id = found.or_else(|| request_id_in_spans(fields));
}

/// The exception in the fields, and the index of another field that describes nothing else.
fn exception_of(candidates: &Candidates, fields: &[Field<'_>], is_error: bool) -> (Exception, Option<usize>) {
    let field = |candidate: Option<Candidate<()>>| candidate.and_then(|candidate| fields.get(candidate.at));
    let owned = |candidate| field(candidate).and_then(text_without_colours).map(Cow::into_owned);
    let stack = field(candidates.stacktrace).and_then(|field| exception::stacktrace(&field.value));
    let mut exception = Exception {
        kind: owned(candidates.exception_type),
        message: owned(candidates.exception_message),
        ..stack.unwrap_or_default()
    };
    let mut taken = None;
    if let Some(error) = candidates.error
        && let Some(field) = fields.get(error.at)
    {
        let of_list = exception::structlog(&field.value);
        // An error's text may be searched for by the name of its field, so it stays.
        let is_named = !matches!(&*field.key, "error" | "err" | "fields.error" | "fields.err");
        if let Some(found) = of_list {
            exception.complete(found);
        } else if let Some(text) = field.value.as_text().filter(|_| is_named || is_error)
            && exception.message.is_none()
        {
            let found = of_text(text);
            taken = (is_named && exception.is_like(&found)).then_some(error.at);
            exception.complete(found);
        }
    }
    // An error that a logger wrote as its message.
    if field(candidates.stacktrace).is_some_and(|field| field.key == ERROR_MESSAGE_STACK) {
        let part = |key: &str| {
            let field = fields.iter().find(|field| field.key == key)?;
            field.value.as_text().map(str::to_owned)
        };
        exception.kind = exception.kind.or_else(|| part("message.name"));
        exception.message = exception.message.or_else(|| part("message.message"));
    }
    // loguru writes it with the line only.
    if exception.kind.is_some()
        && exception.stacktrace.is_none()
        && let Some(text) =
            fields.iter().find(|field| field.key == "text").and_then(|field| field.value.as_text())
        && let Some(found) = Exception::in_text(text)
    {
        exception.complete(found);
    }
    if (exception.kind.is_none() || exception.message.is_none())
        && let Some(within) = exception.stacktrace.as_deref().and_then(Exception::in_text)
    {
        let stacktrace = exception.stacktrace.take();
        exception.complete(Exception { stacktrace: None, ..within });
        exception.stacktrace = stacktrace;
    }
    (exception, taken)
}

/// The exception in the text of an error.
fn of_text(text: &str) -> Exception {
    if let Some(exception) = Exception::in_text(text) {
        return exception;
    }
    match exception::type_and_message(text) {
        Some((kind, message)) => {
            Exception { kind: Some(kind.to_owned()), message: message.map(str::to_owned), stacktrace: None }
        }
        None => Exception { message: Some(text.to_owned()), ..Exception::default() },
    }
}

/// The highest severity of the records that follow another one.
fn severity_of(rest: &str, draft: &mut Draft<'_>) -> Option<Severity> {
    let mut highest = None;
    let mut rest = rest.trim_start();
    while !rest.is_empty()
        && let Some(object) = draft.read_object(rest)
    {
        highest =
            highest.max(Candidates::of(&object.fields, draft.platform()).level.map(|level| level.value));
        rest = object.rest.trim_start();
    }
    highest
}

fn add_rest(draft: &mut Draft<'_>, rest: &str) {
    let rest = rest.trim();
    if !rest.is_empty() {
        draft.add(string(REST_KEY, rest));
    }
}

/// Reads JSON that is neither a text nor an object.
pub(super) fn read_value(draft: &mut Draft<'_>, json: &str) {
    let value = json::field_value(json, &mut draft.budget);
    // Null is shown as text, because an empty body looks like data loss.
    draft.body = match value {
        Some(FieldValue::Other(
            value @ (Value::ArrayValue(_) | Value::IntValue(_) | Value::DoubleValue(_) | Value::BoolValue(_)),
        )) => FieldValue::Other(value).into_any_value(),
        _ => None,
    };
    draft.set_body(Cow::Borrowed(json));
}
