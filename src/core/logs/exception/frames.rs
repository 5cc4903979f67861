//! Stack traces in the fields of a record: a text, a list of lines, or a list of frames.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};

use super::{Exception, type_and_message};
use crate::logs::json::FieldValue;
use crate::logs::text::without_colours;

/// Reads the stack trace that a field holds, and the exception if it is described there. Returns `None` for a value that
/// is none, and for one with parts that a text would leave out.
pub(in crate::logs) fn stacktrace(value: &FieldValue<'_>) -> Option<Exception> {
    match value {
        FieldValue::Text(text) => {
            let text = without_colours(text.trim_end());
            // jboss-logmanager begins it so.
            let text = text.strip_prefix(": ").unwrap_or(&text);
            Some(Exception { stacktrace: Some(text.to_owned()), ..Exception::default() })
        }
        FieldValue::Other(Value::ArrayValue(ArrayValue { values })) if !values.is_empty() => {
            let lines = values.iter().map(line).collect::<Option<Vec<_>>>()?;
            Some(Exception { stacktrace: Some(lines.join("\n")), ..Exception::default() })
        }
        _ => None,
    }
}

/// Returns true for a value that [`stacktrace`] reads, and in which at least one line is of a stack trace.
pub(in crate::logs) fn is_stacktrace(value: &FieldValue<'_>) -> bool {
    match value {
        // A single line is something else: the name of a CloudFormation stack, or the text of an exception.
        FieldValue::Text(text) => text.contains('\n') && text.lines().any(is_trace_line),
        FieldValue::Other(_) => {
            let stack = stacktrace(value).and_then(|exception| exception.stacktrace);
            stack.is_some_and(|stack| stack.lines().any(is_trace_line))
        }
        FieldValue::Null => false,
    }
}

/// Returns true for a line that stands in a stack trace: a frame, or the type of an exception.
fn is_trace_line(line: &str) -> bool {
    // The lines of an exception group begin with a bar.
    let inner = line.trim_start_matches([' ', '\t', '|', '+']);
    let names_a_line =
        || line.match_indices(':').any(|(at, _)| line.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit));
    ["at ", "File \"", "from ", "#0 ", "Traceback ", "Exception Group Traceback ", "Caused by"]
        .iter()
        .any(|start| inner.starts_with(start))
        || names_a_line()
        || type_and_message(inner).is_some()
}

/// Reads the exceptions that structlog writes as a list of objects, the raised one first. The field stays an attribute: a
/// stack trace holds only part of it.
pub(in crate::logs) fn structlog(value: &FieldValue<'_>) -> Option<Exception> {
    let FieldValue::Other(Value::ArrayValue(ArrayValue { values })) = value else { return None };
    let mut stack = String::new();
    let mut raised: Option<Exception> = None;
    for value in values {
        let Some(Value::KvlistValue(fields)) = &value.value else { return None };
        let field = |key: &str| {
            let field = fields.values.iter().find(|field| field.key == key)?;
            field.value.as_ref()?.value.as_ref()
        };
        let text = |key| match field(key) {
            Some(Value::StringValue(text)) => Some(text.clone()),
            _ => None,
        };
        let exception =
            Exception { kind: Some(text("exc_type")?), message: text("exc_value"), stacktrace: None };
        if raised.is_some() {
            stack.push_str("Caused by: ");
        }
        let _ = write!(stack, "{}", exception.kind.as_deref().unwrap_or_default());
        if let Some(message) = &exception.message {
            let _ = write!(stack, ": {message}");
        }
        stack.push('\n');
        if let Some(Value::ArrayValue(frames)) = field("frames") {
            for frame in &frames.values {
                let Some(Value::KvlistValue(frame)) = &frame.value else { continue };
                let known = frame
                    .values
                    .iter()
                    .filter(|field| matches!(field.key.as_str(), "filename" | "lineno" | "name"));
                let known: Vec<_> = known.cloned().collect();
                if let Some(frame) = Frame::of(&known) {
                    stack.push_str(&frame.to_line());
                    stack.push('\n');
                }
            }
        }
        raised.get_or_insert(exception);
    }
    raised.map(|raised| Exception { stacktrace: Some(stack.trim_end().to_owned()), ..raised })
}

/// One line of a stack trace: a text, or a frame of the shapes that loggers write.
fn line(value: &AnyValue) -> Option<String> {
    match &value.value {
        Some(Value::StringValue(line)) => Some(line.trim_end_matches('\n').to_owned()),
        Some(Value::KvlistValue(frame)) => Frame::of(&frame.values).map(|frame| frame.to_line()),
        _ => None,
    }
}

/// A stack frame.
#[derive(Default)]
struct Frame<'v> {
    class: Option<&'v str>,
    function: Option<&'v str>,
    file: Option<&'v str>,
    line: Option<i64>,
}

impl<'v> Frame<'v> {
    /// Reads a frame. Returns `None` if it has a field that is not known.
    fn of(fields: &'v [KeyValue]) -> Option<Self> {
        let mut frame = Self::default();
        for field in fields {
            let value = field.value.as_ref().and_then(|value| value.value.as_ref());
            // A second value has no place in the line.
            let taken = match (field.key.as_str(), value) {
                ("class" | "className", Some(Value::StringValue(class))) => frame.class.replace(class),
                (
                    "method" | "methodName" | "label" | "function" | "func" | "name",
                    Some(Value::StringValue(name)),
                ) => frame.function.replace(name),
                ("file" | "fileName" | "path" | "filename" | "source", Some(Value::StringValue(file))) => {
                    frame.file.replace(file)
                }
                ("line" | "lineNumber" | "lineno", Some(Value::IntValue(line))) => {
                    frame.line.replace(*line).map(|_| "")
                }
                // pkg/errors writes numbers as texts.
                ("line", Some(Value::StringValue(line))) => {
                    frame.line.replace(line.parse().ok()?).map(|_| "")
                }
                (_, None) => None,
                _ => return None,
            };
            if taken.is_some() {
                return None;
            }
        }
        (frame.function.is_some() || frame.file.is_some()).then_some(frame)
    }

    fn to_line(&self) -> String {
        let mut line = String::from("\tat ");
        if let Some(class) = self.class {
            let _ = write!(line, "{class}.");
        }
        line.push_str(self.function.unwrap_or("?"));
        match (self.file, self.line) {
            (Some(file), Some(number)) => {
                let _ = write!(line, "({file}:{number})");
            }
            (Some(file), None) => {
                let _ = write!(line, "({file})");
            }
            (None, Some(number)) => {
                let _ = write!(line, ":{number}");
            }
            (None, None) => {}
        }
        line
    }
}
