//! Lines that begin with a bracket: Python's runtime, Java's LambdaLogger, env_logger, Log4j with its date in brackets.

use super::{LEVEL, LOGGER, Line, dated, name, padded, upper};
use crate::time;

/// Reads a line from its bracket on.
///
/// - Python: `[<LEVEL>]\t<time>\t<request id or nothing>\t<message>`
/// - Python's own errors: `[ERROR] <Type>: <message>` and the traceback; Java: `[<LEVEL>] <message>`
/// - env_logger: `[<time> <LEVEL> <target>] <message>`
/// - Log4j: `[<time>] <LEVEL> <logger> - <message>`
pub(super) fn read(text: &str) -> Option<Line<'_>> {
    let (inner, rest) = text.strip_prefix('[')?.split_once(']')?;
    if inner.starts_with(|first: char| first.is_ascii_digit()) {
        let (time, within) = time::split(inner)?;
        let line = if within.is_empty() { dated::read(inner, rest) } else { env_logger(within, rest) }?;
        return Some(Line { time: Some(time), ..line });
    }
    if let Some(fields) = rest.strip_prefix('\t') {
        return python(inner, fields);
    }
    let message = rest.strip_prefix(' ')?;
    // Other words in brackets are people's own, and so is any other level than the six.
    let six = matches!(inner, "TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR" | "FATAL");
    let severity = six.then(|| upper(inner)).flatten()?;
    Some(Line { severity: Some(severity), message, carriage_returns: true, ..Line::default() })
}

fn python<'a>(level: &'a str, fields: &'a str) -> Option<Line<'a>> {
    let (time, fields) = fields.split_once('\t')?;
    let time = time::read(time)?;
    let (request_id, message) = fields.split_once('\t')?;
    let request_id = Some(request_id).filter(|id| !id.is_empty());
    let severity = upper(level);
    let line = Line { time: Some(time), severity, request_id, message, ..Line::default() };
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

fn env_logger<'a>(within: &'a str, rest: &'a str) -> Option<Line<'a>> {
    let within = within.strip_prefix(' ')?;
    let message = rest.strip_prefix(' ')?;
    let (severity, target) = padded(within).or_else(|| upper(within).map(|severity| (severity, "")))?;
    let line = Line { severity: Some(severity), message, ..Line::default() };
    (target.is_empty() || name(target)).then(|| line.with(LOGGER, target))
}
