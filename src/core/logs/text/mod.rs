//! Lines of text: parses the prefix that runtimes and loggers put before the message.
//!
//! An extension does not know the function's runtime, so each line is tried against the formats that begin like
//! it. A line is parsed only if its format is certain, because a message that merely looks like one must stay
//! whole: `INFO: done` is a message, and so is `0 errors found`. Nothing is lost: parts that are removed and
//! have no field of their own in OTLP become attributes.

mod ansi;
mod bracketed;
mod dated;
mod logfmt;
mod platform;
mod ruby;
mod tabbed;
mod tracing;

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::exception;
use super::severity::Severity;
use crate::time::{self, LoggedTime};

/// A line split into prefix fields and message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedLine<'a> {
    /// The timestamp.
    pub(super) time: Option<LoggedTime>,
    /// The severity of its level.
    pub(super) severity: Option<Severity>,
    /// The request id of its invocation.
    pub(super) request_id: Option<&'a str>,
    /// Other fields of the prefix, as attributes.
    pub(super) attributes: Vec<(&'static str, &'a str)>,
    /// The rest of the line.
    pub(super) message: &'a str,
    /// Line breaks within the message are written as carriage returns.
    pub(super) carriage_returns: bool,
}

impl<'a> ParsedLine<'a> {
    /// The message with proper line breaks, without those at its end.
    pub(super) fn message(&self) -> Cow<'a, str> {
        let message = self.message.trim_end_matches(['\n', '\r']);
        if self.carriage_returns && message.contains('\r') && !message.contains('\n') {
            return Cow::Owned(message.replace('\r', "\n"));
        }
        Cow::Borrowed(message)
    }

    fn with(mut self, key: &'static str, value: &'a str) -> Self {
        if !value.is_empty() {
            self.attributes.push((key, value));
        }
        self
    }
}

/// The result of parsing a line.
#[derive(Debug, PartialEq)]
pub(super) enum ParsedText<'a> {
    /// A line with a prefix before its message.
    Line(ParsedLine<'a>),
    /// A line made only of `key=value` pairs.
    Fields(Vec<KeyValue>),
    /// A message without a known prefix.
    Message,
}

/// The attribute for the logger, module or target that wrote a line; the name is from ECS.
const LOGGER: &str = "log.logger";
/// The attribute for a level that maps to no severity.
const LEVEL: &str = "log.level";

/// Parses a line. `platform` is the platform's timestamp of it, in nanoseconds since the epoch.
pub(super) fn parse(text: &str, platform: u64) -> ParsedText<'_> {
    let line = match text.as_bytes().first() {
        Some(b'0'..=b'9') => match time::split_date_time(text) {
            Some((time, rest)) => {
                dated::parse(text, rest).map(|line| ParsedLine { time: Some(time), ..line })
            }
            None => dated::of_day(text, platform),
        },
        Some(b'[') => bracketed::parse(text),
        Some(b' ') => tracing::of_lambda(text),
        Some(b'T') => platform::parse(text).or_else(|| tracing::of_lambda(text)),
        Some(b'R') => platform::parse(text),
        Some(b'D' | b'I' | b'W' | b'E' | b'F' | b'A' | b'U') => {
            ruby::parse(text).or_else(|| tracing::of_lambda(text))
        }
        Some(b't' | b'l') => return logfmt::parse(text).map_or(ParsedText::Message, ParsedText::Fields),
        _ => None,
    };
    line.map_or(ParsedText::Message, ParsedText::Line)
}

/// Strips the colours that Rust's loggers give a line. Returns `None` for a line without colours or in another
/// format.
pub(super) fn without_colours(text: &str) -> Option<String> {
    if text.as_bytes().first() != Some(&0x1b) {
        return None;
    }
    let plain = ansi::stripped(text);
    let known = match plain.as_bytes().first() {
        Some(b'0'..=b'9' | b'[') => true,
        _ => tracing::of_lambda_in_colour(&plain).is_some(),
    };
    known.then_some(plain)
}

/// Parses a line whose colours have been stripped.
pub(super) fn parse_stripped(text: &str, platform: u64) -> ParsedText<'_> {
    match tracing::of_lambda_in_colour(text) {
        Some(line) => ParsedText::Line(line),
        None => parse(text, platform),
    }
}

/// Returns true if a word that may be a request id is one.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Parses a level in upper case, the form in which these formats write it.
fn upper_case_level(word: &str) -> Option<Severity> {
    let known = word.bytes().all(|byte| byte.is_ascii_uppercase());
    known.then(|| Severity::from_word(word)).flatten()
}

/// Parses an upper-case level and the spaces after it. Returns the severity and the rest.
fn padded_level(text: &str) -> Option<(Severity, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let severity = upper_case_level(word)?;
    Some((severity, rest.trim_start_matches(' ')))
}

/// Returns true for a plausible logger name: letters, digits and the characters that join them.
fn is_logger_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-$<>/[]@*".contains(&byte))
}
