//! Lines of text: what stands before the message, by its shape.
//!
//! An extension does not know the runtime beside it, so each line is tried against the formats that begin like it. A line
//! is taken apart only where its format is certain, since a message that merely looks like one must stay whole: `INFO:
//! done` is a message, and so is `0 errors found`. Nothing is lost: what is removed and has no field of its own in OTLP
//! becomes an attribute.

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
use crate::time::{self, Told};

/// A line, taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Line<'a> {
    /// When it was written.
    pub(super) time: Option<Told>,
    /// How severe it says it is.
    pub(super) severity: Option<Severity>,
    /// The invocation that it names.
    pub(super) request_id: Option<&'a str>,
    /// What else stood before the message, as attributes.
    pub(super) attributes: Vec<(&'static str, &'a str)>,
    /// The rest.
    pub(super) message: &'a str,
    /// Line breaks within the message came as carriage returns.
    pub(super) carriage_returns: bool,
}

impl<'a> Line<'a> {
    /// The message with its line breaks, and without those at its end.
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

/// What a text is.
#[derive(Debug, PartialEq)]
pub(super) enum Reading<'a> {
    /// A line with something before its message.
    Line(Line<'a>),
    /// `key=value` pairs all through.
    Fields(Vec<KeyValue>),
    /// A message and nothing else.
    Message,
}

/// The logger, the module or the target that wrote a line; ECS has the name.
const LOGGER: &str = "log.logger";
/// A level that means no severity.
const LEVEL: &str = "log.level";

/// Takes a line apart. `platform` is the platform's time of it.
pub(super) fn read(text: &str, platform: u64) -> Reading<'_> {
    let line = match text.as_bytes().first() {
        Some(b'0'..=b'9') => match time::split(text) {
            Some((time, rest)) => dated::read(text, rest).map(|line| Line { time: Some(time), ..line }),
            None => dated::of_day(text, platform),
        },
        Some(b'[') => bracketed::read(text),
        Some(b' ') => tracing::of_lambda(text),
        Some(b'T') => platform::read(text).or_else(|| tracing::of_lambda(text)),
        Some(b'R') => platform::read(text),
        Some(b'D' | b'I' | b'W' | b'E' | b'F' | b'A' | b'U') => {
            ruby::read(text).or_else(|| tracing::of_lambda(text))
        }
        Some(b't' | b'l') => return logfmt::read(text).map_or(Reading::Message, Reading::Fields),
        _ => None,
    };
    line.map_or(Reading::Message, Reading::Line)
}

/// A line without the colours that Rust's loggers give it; `None` where it has none, or where it is no such line.
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

/// A line whose colours have been removed.
pub(super) fn read_stripped(text: &str, platform: u64) -> Reading<'_> {
    match tracing::of_lambda_in_colour(text) {
        Some(line) => Reading::Line(line),
        None => read(text, platform),
    }
}

/// A request id where something else may stand as well.
fn uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A level as the formats here write it: a word in upper case.
fn upper(word: &str) -> Option<Severity> {
    let known = word.bytes().all(|byte| byte.is_ascii_uppercase());
    known.then(|| Severity::from_word(word)).flatten()
}

/// The same with spaces behind it, up to five letters and one more.
fn padded(text: &str) -> Option<(Severity, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let severity = upper(word)?;
    Some((severity, rest.trim_start_matches(' ')))
}

/// Something that a logger may be called by: letters, digits and what joins them.
fn name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-$<>/[]@*".contains(&byte))
}
