//! Lines of text: parses the prefix that runtimes and loggers put before the message.
//!
//! An extension does not know the function's runtime, so each line is tried against the formats that begin like it:
//! those of [`DATED`] after a time, those of [`BARE`] otherwise. In both tables the stricter format comes first. A line is
//! parsed only if its format is certain, because a message that merely looks like one must stay whole: `0 errors found`.
//! Nothing is lost: parts that are removed and have no field of their own in OTLP become attributes.

mod ansi;
mod bare;
mod cursor;
mod dated;
mod go;
mod header;
mod logfmt;
mod servers;
mod starts;
mod tracing;

use std::borrow::Cow;

use super::json::Field;
use super::severity::Severity;
use crate::time::{self, LoggedTime};
use crate::trace_context;

pub(super) use self::ansi::without_colours;
use self::bare::BARE;
use self::cursor::Cursor;
use self::dated::DATED;

/// A line split into prefix fields and message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ParsedLine<'a> {
    /// The timestamp, and its text.
    pub(super) time: Option<(LoggedTime, &'a str)>,
    /// The severity of its level.
    pub(super) severity: Option<Severity>,
    /// The request id of its invocation.
    pub(super) request_id: Option<&'a str>,
    pub(super) trace_id: Option<[u8; 16]>,
    pub(super) span_id: Option<[u8; 8]>,
    pub(super) trace_flags: Option<u32>,
    /// Other fields of the prefix, as attributes.
    pub(super) attributes: Vec<(&'a str, &'a str)>,
    /// The rest of the line.
    pub(super) message: &'a str,
    /// Line breaks within the message are written as carriage returns.
    pub(super) carriage_returns: bool,
    /// The spaces before each further line of the message, which are no part of it.
    pub(super) indent: &'a str,
    /// JSON at the end is the logger's, and no part of the message.
    pub(super) has_context: bool,
    /// One of Lambda's runtimes wrote the prefix, around what the function or its logger wrote.
    pub(super) is_envelope: bool,
}

impl<'a> ParsedLine<'a> {
    pub(super) fn new(severity: Severity, message: &'a str) -> Self {
        Self { severity: Some(severity), message, ..Self::default() }
    }

    /// Returns true if the prefix is more than a level.
    pub(super) fn is_certain(&self) -> bool {
        self.time.is_some() || !self.attributes.is_empty()
    }

    /// The message with proper line breaks, without those at its end.
    pub(super) fn message(&self) -> Cow<'a, str> {
        let message = self.message.trim_end_matches(['\n', '\r']);
        if self.carriage_returns && message.contains('\r') && !message.contains('\n') {
            return Cow::Owned(message.replace('\r', "\n"));
        }
        if !self.indent.is_empty() && message.contains('\n') {
            return Cow::Owned(message.replace(&format!("\n{}", self.indent), "\n"));
        }
        Cow::Borrowed(message)
    }

    /// Adds an attribute, unless its text is empty.
    fn with(mut self, key: &'a str, value: &'a str) -> Self {
        if !value.is_empty() {
            self.attributes.push((key, value));
        }
        self
    }

    /// Adds the place in the code: `app.py:13`.
    fn at_place(self, place: &'a str) -> Self {
        match place.rsplit_once(':').filter(|(_, line)| is_number(line)) {
            Some((file, line)) => self.with(FILE, file).with(LINE, line),
            None => self.with(FILE, place),
        }
    }

    /// Adds the logger; what stands after a colon is a line of its code: `Orders:4`.
    fn of_logger(self, logger: &'a str) -> Self {
        match logger.rsplit_once(':').filter(|(_, line)| is_number(line)) {
            Some((logger, line)) => self.with(LOGGER, logger).with(LINE, line),
            None => self.with(LOGGER, logger),
        }
    }

    fn of_thread(self, thread: &'a str) -> Self {
        if is_number(thread) { self.with(THREAD_ID, thread) } else { self.with(THREAD, thread) }
    }

    /// Adds fields that are named in the prefix: `trace_id=… span_id=… resource.service.name=orders`.
    fn with_pairs(mut self, pairs: &'a str, separator: &str) -> Self {
        for (key, value) in pairs.split(separator).filter_map(|pair| pair.split_once('=')) {
            let (key, value) = (key.trim(), value.trim_end_matches(',').trim_matches('"'));
            match key {
                "trace_id" | "traceId" | "trace.id" | "traceID"
                    if trace_context::trace_id(value).is_some() =>
                {
                    self.trace_id = trace_context::trace_id(value);
                }
                "span_id" | "spanId" | "span.id" | "spanID" if trace_context::span_id(value).is_some() => {
                    self.span_id = trace_context::span_id(value);
                }
                "trace_sampled" | "trace_flags" | "traceFlags" | "sampled"
                    if trace_context::flags(value).is_some() =>
                {
                    self.trace_flags = trace_context::flags(value);
                }
                _ => self = self.with(key, value),
            }
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
    Fields(Vec<Field<'a>>),
    /// A message without a known prefix.
    Message,
}

/// A format of the lines of a logger.
pub(super) struct Format {
    /// The loggers that write it.
    name: &'static str,
    /// The classes of beginnings that the format has.
    starts: starts::Starts,
    /// Lines in the format, with the time of [`DATED`] ones.
    #[cfg(test)]
    examples: &'static [&'static str],
    parse: for<'a> fn(&Start<'a>) -> Option<ParsedLine<'a>>,
}

/// The beginning of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    /// The line from its beginning, or the text after its time.
    rest: Cursor<'a>,
    style: TimeStyle,
    /// The platform's timestamp, in nanoseconds since the epoch.
    platform: u64,
    /// The line had colours.
    is_coloured: bool,
}

/// The notation of the time at the beginning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeStyle {
    /// There is none.
    None,
    /// `2026-11-21 12:16:49`
    Spaced,
    /// `2026-11-21T12:16:49`
    Iso,
    /// `2026/11/21 12:16:49`
    Slashes,
    /// `12:16:49`
    OfDay,
    /// In brackets, with nothing else.
    Bracketed,
    /// In brackets together with the level or logger.
    InBrackets,
}

/// The attributes of a prefix. The first is ECS's, the others OpenTelemetry's.
const LOGGER: &str = "log.logger";
/// A level that maps to no severity.
const LEVEL: &str = "log.level";
const THREAD: &str = "thread.name";
const HOST: &str = "host.name";
/// Another part of a prefix.
const LABEL: &str = "log.label";
const THREAD_ID: &str = "thread.id";
const PROCESS: &str = "process.pid";
const FILE: &str = "code.file.path";
const LINE: &str = "code.line.number";
const FUNCTION: &str = "code.function.name";

/// Parses a line without its colours. `platform` is the platform's timestamp of it, in nanoseconds since the epoch.
pub(super) fn parse(text: &str, platform: u64, is_coloured: bool) -> ParsedText<'_> {
    if let Some(fields) = logfmt::parse(text) {
        return ParsedText::Fields(fields);
    }
    format_of(text, platform, is_coloured).map_or(ParsedText::Message, |(_, line)| ParsedText::Line(line))
}

/// Finds the format of a line and parses it.
fn format_of(text: &str, platform: u64, is_coloured: bool) -> Option<(&'static Format, ParsedLine<'_>)> {
    let start = Start { rest: Cursor::new(text), style: TimeStyle::None, platform, is_coloured };
    dated(text, &start).or_else(|| try_all(BARE, start))
}

fn try_all<'a>(formats: &'static [Format], start: Start<'a>) -> Option<(&'static Format, ParsedLine<'a>)> {
    let starts = starts::of(start.rest.rest());
    let mut candidates = formats.iter().filter(|format| format.starts & starts != 0);
    candidates.find_map(|format| Some((format, (format.parse)(&start)?)))
}

/// The severity of a level's first letter.
fn severity_of_letter(letter: &str) -> Option<Severity> {
    Some(match letter {
        "T" => Severity::Trace,
        "D" => Severity::Debug,
        "I" => Severity::Info,
        "W" => Severity::Warn,
        "E" => Severity::Error,
        "F" | "C" => Severity::Fatal,
        _ => return None,
    })
}

/// Finds the format of a line that begins with a time, after another part of its prefix.
fn dated<'a>(text: &'a str, start: &Start<'a>) -> Option<(&'static Format, ParsedLine<'a>)> {
    let (time, written, rest, style) = split_time(text, start.platform)?;
    let (format, line) = try_all(DATED, Start { rest: Cursor::new(rest), style, ..*start })?;
    Some((format, ParsedLine { time: line.time.or(Some((time, written))), ..line }))
}

/// Splits off the time at the beginning of a line. Returns it, its text, the rest, and its notation.
fn split_time(text: &str, platform: u64) -> Option<(LoggedTime, &str, &str, TimeStyle)> {
    let (bracket, from) = match text.strip_prefix('[') {
        Some(inner) => (true, inner),
        None => (false, text.trim_start_matches(' ')),
    };
    let bytes = from.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        let (time, after) = time::split_named_month_and_day(from, platform).filter(|_| !bracket)?;
        return Some((time, from.get(..from.len() - after.len())?, after, TimeStyle::Spaced));
    }
    if bracket && let Some((time, length)) = time::parse_in_two_brackets(text) {
        return Some((time, text.get(1..length - 1)?, text.get(length..)?, TimeStyle::Bracketed));
    }
    let dated = time::split_date_time(from).or_else(|| time::split_written_out(from));
    let (time, after, style) = if let Some((time, after)) = dated {
        let style = match (bytes.get(4), bytes.get(10)) {
            (Some(b'/'), Some(b' ')) => TimeStyle::Slashes,
            (_, Some(b'T' | b't')) => TimeStyle::Iso,
            _ => TimeStyle::Spaced,
        };
        (time, after, style)
    } else {
        let (time, after) = time::split_time_of_day(from, platform).or_else(|| time::split_exponent(from))?;
        (time, after, TimeStyle::OfDay)
    };
    let written = from.get(..from.len() - after.len())?;
    if !bracket {
        return Some((time, written, after, style));
    }
    Some(match after.strip_prefix(']') {
        Some(after) => (time, written, after, TimeStyle::Bracketed),
        None => (time, written, after, TimeStyle::InBrackets),
    })
}

/// Returns true for a UUID, the form of Lambda's request ids.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Parses a level in capitals, the form in which most formats write it.
fn upper_case_level(word: &str) -> Option<Severity> {
    let known = word.bytes().all(|byte| byte.is_ascii_uppercase());
    known.then(|| Severity::from_text(word)).flatten()
}

fn lower_case_level(word: &str) -> Option<Severity> {
    let known = word.bytes().all(|byte| byte.is_ascii_lowercase()) && word != "success";
    known.then(|| Severity::from_text(word)).flatten()
}

/// Parses a level in one of the three forms that are in use: `ERROR`, `error`, `Error`.
fn level_word(word: &str) -> Option<Severity> {
    let rest = word.get(1..)?;
    let is_uniform = rest.bytes().all(|byte| byte.is_ascii_lowercase())
        || rest.bytes().all(|byte| byte.is_ascii_uppercase());
    is_uniform.then(|| Severity::from_text(word)).flatten()
}

/// Returns true for the fields of a prefix: at least one, few, and each with a name.
fn is_pairs(text: &str, separator: &str) -> bool {
    const MAX: usize = 24;
    let is_pair = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| is_name(key.trim()));
    let pairs = text.split(separator).filter(|pair| !pair.is_empty());
    pairs.clone().all(is_pair) && (1..=MAX).contains(&pairs.count())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for a plausible name of a logger: letters, digits and the characters that join them.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|next| next.is_ascii_alphanumeric() || "_.:-$<>/[]@*#·".contains(next))
}

/// Returns true for a path of names, as loggers of the JVM, of .NET and of Rust have it.
fn is_path(text: &str) -> bool {
    is_name(text)
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && (text.contains(['.', '·']) || text.contains("::"))
        && !text.ends_with(['.', ':'])
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// 2026-11-21T12:16:50Z.
    const PLATFORM: u64 = 1_795_263_410_000_000_000;

    #[test]
    fn each_example_is_read_by_its_own_format() {
        for format in DATED.iter().chain(BARE) {
            assert!(!format.examples.is_empty(), "{}", format.name);
            for example in format.examples {
                let plain = without_colours(example);
                let found = format_of(&plain, PLATFORM, plain != *example).map(|(found, _)| found.name);
                assert_eq!(found, Some(format.name), "{example}");
            }
        }
    }

    #[test]
    fn each_example_is_split_well() {
        let mut shown = String::new();
        for format in DATED.iter().chain(BARE) {
            for example in format.examples {
                let plain = without_colours(example);
                let (_, line) = format_of(&plain, PLATFORM, plain != *example).expect("a line");
                let severity = line.severity.map_or("–", Severity::as_str);
                let time = line.time.map_or("–", |(_, written)| written);
                let _ = writeln!(
                    shown,
                    "{}: {severity} | {time} | {:?} | {:?}",
                    format.name,
                    line.attributes,
                    line.message()
                );
            }
        }
        insta::assert_snapshot!(shown);
    }
}
