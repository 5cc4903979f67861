//! Lines with a timestamp followed by words separated by spaces: Log4j and Logback, Python's loggers, Go's
//! `log`, Rust's `tracing`, and the platform.

use super::{
    LOGGER, ParsedLine, is_logger_name, is_uuid, padded_level, platform, tabbed, tracing, upper_case_level,
};
use crate::logs::severity::Severity;
use crate::time;

/// Parses `rest`, the part of `text` after the timestamp. The formats:
///
/// - Node.js, .NET, zap: tabs
/// - Log4j as in AWS's documentation: `<request id or nothing> <LEVEL> <logger>[:<line>] - <message>`
/// - Log4j and Logback: `[<thread>] <LEVEL> <logger> - <message>`
/// - Python as in its documentation: `- <logger> - <LEVEL> - <message>`
/// - loguru: `| <LEVEL> | <place> - <message>`
/// - structlog: `[<level>] <event and fields>`
/// - tracing: `<LEVEL> <spans>: <target>: <message and fields>`
/// - the platform: `<request id> Task timed out after <seconds> seconds`
/// - Go: `<message>`; its slog: `<LEVEL> <message>`
/// - any other: `<LEVEL> <message>`
pub(super) fn parse<'a>(text: &str, rest: &'a str) -> Option<ParsedLine<'a>> {
    if rest.starts_with('\t') {
        return tabbed::parse(rest);
    }
    // Only Go writes dates with slashes.
    let slashes = text.as_bytes().get(4) == Some(&b'/');
    let utc = text.as_bytes().get(10) == Some(&b'T');
    let rest = rest.strip_prefix(' ')?;
    if slashes {
        return Some(go(rest));
    }
    if let Some(rest) = rest.strip_prefix("- ") {
        return python(rest);
    }
    if let Some(rest) = rest.strip_prefix("| ") {
        return loguru(rest);
    }
    if let Some(rest) = rest.strip_prefix('[') {
        return threaded(rest).or_else(|| structlog(rest));
    }
    if let Some((id, rest)) = rest.split_once(' ').filter(|(id, _)| is_uuid(id)) {
        let line = platform::timed_out(rest).or_else(|| {
            let (severity, rest) = padded_level(rest)?;
            log4j(severity, rest)
        })?;
        return Some(ParsedLine { request_id: Some(id), ..line });
    }
    let (severity, message) = padded_level(rest.trim_start_matches(' '))?;
    Some(log4j(severity, message).unwrap_or_else(|| {
        if utc {
            tracing::parse(severity, message)
        } else {
            ParsedLine { severity: Some(severity), message, ..ParsedLine::default() }
        }
    }))
}

fn go(rest: &str) -> ParsedLine<'_> {
    let level = rest.split_once(' ').filter(|(word, _)| {
        let word = word.split(['+', '-']).next();
        matches!(word, Some("DEBUG" | "INFO" | "WARN" | "ERROR"))
    });
    match level {
        Some((word, message)) => {
            ParsedLine { severity: Severity::from_word(word), message, ..ParsedLine::default() }
        }
        None => ParsedLine { message: rest, ..ParsedLine::default() },
    }
}

/// Parses the default format of Log4j and Logback, which has no date: `<time> [<thread>] <LEVEL> <logger> -
/// <message>`.
pub(super) fn of_day(text: &str, platform: u64) -> Option<ParsedLine<'_>> {
    let (time, rest) = time::split_time_of_day(text, platform)?;
    let line = threaded(rest.strip_prefix(" [")?)?;
    Some(ParsedLine { time: Some(time), ..line })
}

fn threaded(rest: &str) -> Option<ParsedLine<'_>> {
    let (thread, rest) = rest.split_once(']')?;
    let (severity, rest) = padded_level(rest.strip_prefix(' ')?)?;
    Some(log4j(severity, rest)?.with("thread.name", thread))
}

fn log4j(severity: Severity, rest: &str) -> Option<ParsedLine<'_>> {
    let (logger, message) = dashed(rest)?;
    let line = ParsedLine { severity: Some(severity), message, ..ParsedLine::default() };
    let numbered =
        logger.rsplit_once(':').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    Some(match numbered {
        Some((logger, number)) => line.with(LOGGER, logger).with("code.line.number", number),
        None => line.with(LOGGER, logger),
    })
}

fn python(rest: &str) -> Option<ParsedLine<'_>> {
    let (logger, rest) = dashed(rest)?;
    let (level, message) = dashed(rest)?;
    let severity = Some(upper_case_level(level)?);
    Some(ParsedLine { severity, message, ..ParsedLine::default() }.with(LOGGER, logger))
}

fn loguru(rest: &str) -> Option<ParsedLine<'_>> {
    let (severity, rest) = padded_level(rest)?;
    let (place, message) = dashed(rest.strip_prefix("| ")?)?;
    Some(ParsedLine { severity: Some(severity), message, ..ParsedLine::default() }.with(LOGGER, place))
}

/// Parses `<name> - <rest>`.
fn dashed(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    Some((word, rest.strip_prefix("- ")?)).filter(|_| is_logger_name(word))
}

fn structlog(rest: &str) -> Option<ParsedLine<'_>> {
    let (level, message) = rest.split_once(']')?;
    let message = message.strip_prefix(' ')?;
    let word = level.trim_end_matches(' ');
    let lower = word.bytes().all(|byte| byte.is_ascii_lowercase());
    let severity = upper_case_level(word).or_else(|| Severity::from_word(word).filter(|_| lower))?;
    Some(ParsedLine { severity: Some(severity), message, ..ParsedLine::default() })
}
