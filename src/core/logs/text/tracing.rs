//! Rust's `tracing` as its subscriber formats it for people.

use super::{LOGGER, Line, name, padded, uuid};
use crate::logs::severity::Severity;

/// The span that AWS's Rust runtime lays around an invocation.
const INVOCATION: &str = "Lambda runtime invoke{";

/// Reads what follows time and level: `<span>{<fields>}:<span>{…}: <target>: <message and fields>`.
pub(super) fn read(severity: Severity, rest: &str) -> Line<'_> {
    let (spans, rest) = spans(rest);
    let target = rest.split_once(' ').and_then(|(word, message)| Some((word.strip_suffix(':')?, message)));
    let (target, message) = target.filter(|(target, _)| target_like(target)).unwrap_or(("", rest));
    line(severity, spans, message).with(LOGGER, target)
}

/// Reads a line of AWS's Rust runtime, which leaves time and target out. What tells it from a message that begins with a
/// word in capitals is the runtime's span.
pub(super) fn of_lambda(text: &str) -> Option<Line<'_>> {
    let (severity, rest) = padded(text.strip_prefix(' ').unwrap_or(text))?;
    rest.starts_with(INVOCATION).then(|| untimed(severity, rest))
}

/// The same of a line whose level was in colour, which tells it from a message by itself.
pub(super) fn of_lambda_in_colour(text: &str) -> Option<Line<'_>> {
    let (severity, rest) = padded(text.strip_prefix(' ').unwrap_or(text))?;
    Some(untimed(severity, rest))
}

fn untimed(severity: Severity, rest: &str) -> Line<'_> {
    let (spans, message) = spans(rest);
    line(severity, spans, message)
}

fn line<'a>(severity: Severity, spans: &'a str, message: &'a str) -> Line<'a> {
    // The compact format puts the fields of spans behind the message's.
    let request_id = request_id(if spans.is_empty() { message } else { spans });
    Line { severity: Some(severity), request_id, message, ..Line::default() }.with("log.spans", spans)
}

/// The spans at the start, and what follows them. Each has fields in braces; within their quotes anything may stand.
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
            // Before its braces a span has a name, and a colon there ends a target.
            b':' if open == 0 && text.get(at..).is_some_and(|rest| rest.starts_with(": ")) => break,
            _ => {}
        }
    }
    ("", text)
}

fn target_like(target: &str) -> bool {
    name(target) && target.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

fn request_id(fields: &str) -> Option<&str> {
    let (_, after) = fields.split_once("requestId=\"")?;
    after.split_once('"').map(|(id, _)| id).filter(|id| uuid(id))
}
