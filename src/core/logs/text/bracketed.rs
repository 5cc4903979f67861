//! Lines that begin with a bracket: Python's runtime, Java's `LambdaLogger`, env_logger, and Log4j with a date
//! in brackets.

use super::{LEVEL, LOGGER, ParsedLine, dated, is_logger_name, padded_level, upper_case_level};
use crate::time;

/// Parses a line that begins with a bracket.
///
/// - Python: `[<LEVEL>]\t<time>\t<request id or nothing>\t<message>`
/// - Python's own errors: `[ERROR] <Type>: <message>` and the traceback; Java: `[<LEVEL>] <message>`
/// - env_logger: `[<time> <LEVEL> <target>] <message>`
/// - Log4j: `[<time>] <LEVEL> <logger> - <message>`
pub(super) fn parse(text: &str) -> Option<ParsedLine<'_>> {
    let (inner, rest) = text.strip_prefix('[')?.split_once(']')?;
    if inner.starts_with(|first: char| first.is_ascii_digit()) {
        let (time, within) = time::split_date_time(inner)?;
        let line = if within.is_empty() { dated::parse(inner, rest) } else { env_logger(within, rest) }?;
        return Some(ParsedLine { time: Some(time), ..line });
    }
    if let Some(fields) = rest.strip_prefix('\t') {
        return python(inner, fields);
    }
    let message = rest.strip_prefix(' ')?;
    // Any other word in brackets belongs to the message, even a level outside these six.
    let six = matches!(inner, "TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR" | "FATAL");
    let severity = six.then(|| upper_case_level(inner)).flatten()?;
    Some(ParsedLine { severity: Some(severity), message, carriage_returns: true, ..ParsedLine::default() })
}

fn python<'a>(level: &'a str, fields: &'a str) -> Option<ParsedLine<'a>> {
    let (time, fields) = fields.split_once('\t')?;
    let time = time::parse(time)?;
    let (request_id, message) = fields.split_once('\t')?;
    let request_id = Some(request_id).filter(|id| !id.is_empty());
    let severity = upper_case_level(level);
    let line = ParsedLine { time: Some(time), severity, request_id, message, ..ParsedLine::default() };
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

fn env_logger<'a>(within: &'a str, rest: &'a str) -> Option<ParsedLine<'a>> {
    let within = within.strip_prefix(' ')?;
    let message = rest.strip_prefix(' ')?;
    let (severity, target) =
        padded_level(within).or_else(|| upper_case_level(within).map(|severity| (severity, "")))?;
    let line = ParsedLine { severity: Some(severity), message, ..ParsedLine::default() };
    (target.is_empty() || is_logger_name(target)).then(|| line.with(LOGGER, target))
}
