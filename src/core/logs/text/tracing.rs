//! The text formats of Rust's `tracing-subscriber`.

use super::{LOGGER, ParsedLine, is_logger_name, is_uuid, padded_level};
use crate::logs::severity::Severity;

/// The span that AWS's Rust runtime opens for an invocation.
const INVOCATION: &str = "Lambda runtime invoke{";

/// Parses the text after time and level: `<span>{<fields>}:<span>{…}: <target>: <message and fields>`.
pub(super) fn parse(severity: Severity, rest: &str) -> ParsedLine<'_> {
    let (spans, rest) = spans(rest);
    let target = rest.split_once(' ').and_then(|(word, message)| Some((word.strip_suffix(':')?, message)));
    let (target, message) = target.filter(|(target, _)| is_target(target)).unwrap_or(("", rest));
    line(severity, spans, message).with(LOGGER, target)
}

/// Parses a line of AWS's Rust runtime, which omits time and target. The runtime's span distinguishes it from a
/// message that begins with a word in capitals.
pub(super) fn of_lambda(text: &str) -> Option<ParsedLine<'_>> {
    let (severity, rest) = padded_level(text.strip_prefix(' ').unwrap_or(text))?;
    rest.starts_with(INVOCATION).then(|| untimed(severity, rest))
}

/// Parses such a line whose level was coloured. The colour alone distinguishes it from a message.
pub(super) fn of_lambda_in_colour(text: &str) -> Option<ParsedLine<'_>> {
    let (severity, rest) = padded_level(text.strip_prefix(' ').unwrap_or(text))?;
    Some(untimed(severity, rest))
}

fn untimed(severity: Severity, rest: &str) -> ParsedLine<'_> {
    let (spans, message) = spans(rest);
    line(severity, spans, message)
}

fn line<'a>(severity: Severity, spans: &'a str, message: &'a str) -> ParsedLine<'a> {
    // The compact format puts the fields of spans after the message's fields.
    let request_id = request_id(if spans.is_empty() { message } else { spans });
    ParsedLine { severity: Some(severity), request_id, message, ..ParsedLine::default() }
        .with("log.spans", spans)
}

/// Splits off the spans at the start. Each has fields in braces; quoted values may contain anything.
fn spans(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    let mut open = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if open > 0 => quoted = !quoted,
            b'{' if !quoted => open += 1,
            b'}' if !quoted && open > 0 => {
                open -= 1;
                if let (0, Some(rest)) = (open, text.get(at + 1..).and_then(|rest| rest.strip_prefix(": "))) {
                    return (text.get(..=at).unwrap_or_default(), rest);
                }
            }
            // Before its braces a span has only a name. A colon there ends a target.
            b':' if open == 0 && text.get(at..).is_some_and(|rest| rest.starts_with(": ")) => break,
            _ => {}
        }
    }
    ("", text)
}

fn is_target(target: &str) -> bool {
    is_logger_name(target) && target.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

fn request_id(fields: &str) -> Option<&str> {
    let (_, after) = fields.split_once("requestId=\"")?;
    after.split_once('"').map(|(id, _)| id).filter(|id| is_uuid(id))
}
