//! Exceptions described by a record, in its fields or in its text.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value::Value};

use super::attributes::Attributes;
use crate::otlp::attribute::string;

const TRACEBACK: &str = "Traceback (most recent call last):";

/// An exception, as far as the record describes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) kind: Option<String>,
    pub(super) message: Option<String>,
    pub(super) stacktrace: Option<String>,
}

impl Exception {
    /// Finds an exception in a text: a Python traceback, or a stack trace as Java, .NET and JavaScript print
    /// it.
    pub(super) fn in_text(text: &str) -> Option<Self> {
        let first = text.find('\n')?;
        if let Some(at) = text.find(TRACEBACK) {
            let (before, stack) = text.split_at_checked(at)?;
            return Some(Self::of_traceback(before, stack));
        }
        let mut breaks = text.bytes().enumerate().skip(first).filter(|(_, byte)| *byte == b'\n');
        let (frames, _) = breaks.find(|(at, _)| text.get(at + 1..).is_some_and(is_frame))?;
        let head = text.get(..frames)?;
        // The message may have several lines, so the first line that begins with a type is the start.
        let mut start = 0;
        for line in head.split_inclusive('\n') {
            if let Some((kind, message)) = type_and_message(line.trim_end()) {
                let message = message.map(|first| {
                    let after = head.get(start + line.len()..).unwrap_or_default();
                    if after.is_empty() { first.to_owned() } else { format!("{first}\n{after}") }
                });
                let stacktrace = text.get(start..).map(|stack| stack.trim_end().to_owned());
                return Some(Self { kind: Some(kind.to_owned()), message, stacktrace });
            }
            start += line.len();
        }
        None
    }

    /// Python prints the exception after its traceback, and Python's Lambda runtime before it.
    fn of_traceback(before: &str, stack: &str) -> Self {
        let after = stack.lines().rev().find_map(type_and_message);
        let found = after.or_else(|| before.lines().last().and_then(type_and_message));
        let (kind, message) = found.unzip();
        Self {
            kind: kind.map(str::to_owned),
            message: message.flatten().map(str::to_owned),
            stacktrace: Some(stack.trim_end().to_owned()),
        }
    }

    /// Fills in missing parts from another description of the same exception.
    pub(super) fn complete(&mut self, other: Self) {
        self.kind = self.kind.take().or(other.kind);
        self.message = self.message.take().or(other.message);
        self.stacktrace = self.stacktrace.take().or(other.stacktrace);
    }

    pub(super) fn add_to(self, attributes: &mut Attributes) {
        let Self { kind, message, stacktrace } = self;
        let known =
            [("exception.type", kind), ("exception.message", message), ("exception.stacktrace", stacktrace)];
        for (key, value) in known {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                attributes.add(string(key, &value));
            }
        }
    }
}

/// Returns true if a text begins with a Python traceback, which is unambiguous.
pub(super) fn is_traceback(text: &str) -> bool {
    text.starts_with(TRACEBACK)
}

/// The text of a stack trace that is a string or a list of lines.
pub(super) fn stacktrace(value: &Value) -> Option<String> {
    match value {
        Value::StringValue(text) => Some(text.clone()),
        Value::ArrayValue(ArrayValue { values }) if !values.is_empty() => {
            let line = |value: &AnyValue| match &value.value {
                Some(Value::StringValue(line)) => Some(line.trim_end_matches('\n').to_owned()),
                _ => None,
            };
            Some(values.iter().map(line).collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => None,
    }
}

/// Returns true for a stack frame as Java, .NET and JavaScript print it.
fn is_frame(line: &str) -> bool {
    let unindented = line.trim_start_matches([' ', '\t']);
    unindented.len() < line.len() && unindented.starts_with("at ")
}

/// Parses `java.lang.IllegalStateException: boom`, or the type alone.
fn type_and_message(line: &str) -> Option<(&str, Option<&str>)> {
    let (kind, message) = match line.split_once(": ") {
        Some((kind, message)) => (kind, Some(message)),
        None => (line, None),
    };
    // A word before a colon is a type only if it looks like one.
    let last = kind.rsplit(['.', '$']).next()?;
    let named = last.contains("Error")
        || last.contains("Exception")
        || ["Interrupt", "Exit", "Warning", "Failure", "Fault", "Timeout"]
            .iter()
            .any(|end| last.ends_with(end))
        || (kind.contains('.') && message.is_some());
    let word = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$`".contains(&byte));
    (named && word && kind.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_'))
        .then_some((kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        Exception::in_text(text).map_or("–".to_owned(), |Exception { kind, message, stacktrace }| {
            let stack = stacktrace.unwrap_or_default();
            format!(
                "{} | {} | {}",
                kind.unwrap_or_default(),
                message.unwrap_or_default(),
                stack.lines().next().unwrap_or_default()
            )
        })
    }

    #[test]
    fn exceptions_of_all_languages_are_found() {
        let texts = [
            "failed\nTraceback (most recent call last):\n  File \"a.py\", line 1, in h\n    1/0\nZeroDivisionError: division by zero",
            "Error: boom: x\nTraceback (most recent call last):\n\u{a0}\u{a0}File \"a.py\", line 1, in h\n\u{a0}\u{a0}\u{a0}\u{a0}raise",
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in h\nbotocore.exceptions.ClientError: An error\nof two lines",
            "stopped\nTraceback (most recent call last):\n  File \"a.py\", line 1, in h\nKeyboardInterrupt",
            "failed\njava.lang.IllegalStateException: boom\n\tat L.main(L.java:4) [j/:?]\nCaused by: java.io.IOException: x\n\tat L.a(L.java:2)",
            "java.lang.NullPointerException\n\tat L.main(L.java:4)",
            "failed\nSystem.InvalidOperationException: boom\n   at Function.Handler() in /src/F.cs:line 3",
            "TypeError: no stock\n    at file:///var/task/index.mjs:6:47",
            "TypeError: no stock\nat all\n    at file:///var/task/index.mjs:6:47",
        ];
        insta::assert_snapshot!(texts.map(found).join("\n"), @"
        ZeroDivisionError | division by zero | Traceback (most recent call last):
        Error | boom: x | Traceback (most recent call last):
        botocore.exceptions.ClientError | An error | Traceback (most recent call last):
        KeyboardInterrupt |  | Traceback (most recent call last):
        java.lang.IllegalStateException | boom | java.lang.IllegalStateException: boom
        java.lang.NullPointerException |  | java.lang.NullPointerException
        System.InvalidOperationException | boom | System.InvalidOperationException: boom
        TypeError | no stock | TypeError: no stock
        TypeError | no stock
        at all | TypeError: no stock
        ");
    }

    #[test]
    fn similar_text_has_no_exception() {
        for text in
            ["TypeError: no stock", "we met\n    at noon", "note: we met\n    at noon", "two\nlines", ""]
        {
            assert_eq!(Exception::in_text(text), None, "{text}");
        }
    }
}
