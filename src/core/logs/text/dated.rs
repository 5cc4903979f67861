//! A time, and then words between spaces: Log4j and Logback, Python's loggers, Go's `log`, Rust's `tracing`, and the
//! platform.

use super::{LOGGER, Line, name, padded, platform, tabbed, tracing, upper, uuid};
use crate::logs::severity::Severity;
use crate::time;

/// Reads what follows the time, `rest`, of a whole text. The formats differ in what comes next:
///
/// - Node.js, .NET, zap: tabs
/// - Log4j as AWS documents it: `<request id or nothing> <LEVEL> <logger>[:<line>] - <message>`
/// - Log4j and Logback: `[<thread>] <LEVEL> <logger> - <message>`
/// - Python as its documentation has it: `- <logger> - <LEVEL> - <message>`
/// - loguru: `| <LEVEL> | <place> - <message>`
/// - structlog: `[<level>] <event and fields>`
/// - tracing: `<LEVEL> <spans>: <target>: <message and fields>`
/// - the platform: `<request id> Task timed out after <seconds> seconds`
/// - Go: `<message>`, or `<LEVEL> <message>` of its slog
/// - anybody: `<LEVEL> <message>`
pub(super) fn read<'a>(text: &str, rest: &'a str) -> Option<Line<'a>> {
    if rest.starts_with('\t') {
        return tabbed::read(rest);
    }
    // Nobody else writes dates with slashes.
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
    if let Some((id, rest)) = rest.split_once(' ').filter(|(id, _)| uuid(id)) {
        let line = platform::timed_out(rest).or_else(|| {
            let (severity, rest) = padded(rest)?;
            log4j(severity, rest)
        })?;
        return Some(Line { request_id: Some(id), ..line });
    }
    let (severity, message) = padded(rest.trim_start_matches(' '))?;
    Some(log4j(severity, message).unwrap_or_else(|| {
        if utc {
            tracing::read(severity, message)
        } else {
            Line { severity: Some(severity), message, ..Line::default() }
        }
    }))
}

fn go(rest: &str) -> Line<'_> {
    let level = rest.split_once(' ').filter(|(word, _)| {
        let word = word.split(['+', '-']).next();
        matches!(word, Some("DEBUG" | "INFO" | "WARN" | "ERROR"))
    });
    match level {
        Some((word, message)) => Line { severity: Severity::from_word(word), message, ..Line::default() },
        None => Line { message: rest, ..Line::default() },
    }
}

/// Log4j's and Logback's default, which has no date: `<time> [<thread>] <LEVEL> <logger> - <message>`.
pub(super) fn of_day(text: &str, platform: u64) -> Option<Line<'_>> {
    let (time, rest) = time::split_time_of_day(text, platform)?;
    let line = threaded(rest.strip_prefix(" [")?)?;
    Some(Line { time: Some(time), ..line })
}

fn threaded(rest: &str) -> Option<Line<'_>> {
    let (thread, rest) = rest.split_once(']')?;
    let (severity, rest) = padded(rest.strip_prefix(' ')?)?;
    Some(log4j(severity, rest)?.with("thread.name", thread))
}

fn log4j(severity: Severity, rest: &str) -> Option<Line<'_>> {
    let (logger, message) = dashed(rest)?;
    let line = Line { severity: Some(severity), message, ..Line::default() };
    let numbered =
        logger.rsplit_once(':').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    Some(match numbered {
        Some((logger, number)) => line.with(LOGGER, logger).with("code.line.number", number),
        None => line.with(LOGGER, logger),
    })
}

fn python(rest: &str) -> Option<Line<'_>> {
    let (logger, rest) = dashed(rest)?;
    let (level, message) = dashed(rest)?;
    let severity = Some(upper(level)?);
    Some(Line { severity, message, ..Line::default() }.with(LOGGER, logger))
}

fn loguru(rest: &str) -> Option<Line<'_>> {
    let (severity, rest) = padded(rest)?;
    let (place, message) = dashed(rest.strip_prefix("| ")?)?;
    Some(Line { severity: Some(severity), message, ..Line::default() }.with(LOGGER, place))
}

/// `<name> - <rest>`
fn dashed(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    Some((word, rest.strip_prefix("- ")?)).filter(|_| name(word))
}

fn structlog(rest: &str) -> Option<Line<'_>> {
    let (level, message) = rest.split_once(']')?;
    let message = message.strip_prefix(' ')?;
    let word = level.trim_end_matches(' ');
    let lower = word.bytes().all(|byte| byte.is_ascii_lowercase());
    let severity = upper(word).or_else(|| Severity::from_word(word).filter(|_| lower))?;
    Some(Line { severity: Some(severity), message, ..Line::default() })
}
