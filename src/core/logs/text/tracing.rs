//! The text formats of Rust's `tracing-subscriber`.

use super::{LOGGER, ParsedLine, Start, THREAD, THREAD_ID};
use super::{is_name, is_number, is_uuid};
use crate::logs::severity::Severity;

/// The span that AWS's Rust runtime opens for an invocation.
const INVOCATION: &str = "Lambda runtime invoke{";
/// The attribute of tracing's spans, as they are printed.
const SPANS: &str = "log.spans";

/// A level that is padded to five letters before a target, a level in colour, or one before spans
pub(super) fn tracing<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let text = rest.rest();
    let _ = rest.skip(" ");
    let severity = rest.padded_level()?;
    let is_runtime = rest.rest().starts_with(INVOCATION);
    let line = spans_and_target(severity, rest.rest());
    if is_runtime || line.attributes.iter().any(|(key, _)| *key == SPANS) {
        // Without a time, there is no target after the spans.
        let (spans, message) = spans(rest.rest());
        let line = ParsedLine { attributes: Vec::new(), message, ..line };
        return Some(line.with(SPANS, spans));
    }
    let has_target = line.attributes.iter().any(|(key, _)| *key == LOGGER);
    // Four letters are padded to five.
    let level = text.trim_start().find(' ').unwrap_or_default();
    let is_padded = level + usize::from(text.starts_with(' ')) == 5;
    ((is_padded && has_target) || start.is_coloured).then_some(line)
}

/// `[<span>{<fields>}:<span>{…}: ]<target>: <message and fields>`
pub(super) fn spans_and_target(severity: Severity, rest: &str) -> ParsedLine<'_> {
    let (thread, rest) = thread(rest);
    let (spans, rest) = spans(rest);
    let target = rest.split_once(' ').and_then(|(word, message)| Some((word.strip_suffix(':')?, message)));
    let (target, message) = target.filter(|(target, _)| is_target(target)).unwrap_or(("", rest));
    // The compact format puts the fields of spans after the message's fields.
    let request_id = request_id(if spans.is_empty() { message } else { spans });
    let line = ParsedLine { request_id, ..ParsedLine::new(severity, message).with(SPANS, spans) };
    let is_place = target.rsplit_once(':').is_some_and(|(_, line)| is_number(line));
    let line = if is_place { line.at_place(target) } else { line.with(LOGGER, target) };
    let line = match thread {
        Some((name, id)) => line.with(THREAD, name).with(THREAD_ID, id),
        None => line,
    };
    // The place in the code may follow the target.
    let place = line.message.split_once(": ").filter(|(place, _)| {
        let (file, number) = place.rsplit_once(':').unwrap_or_default();
        is_number(number) && is_name(file) && file.contains('.')
    });
    match place {
        Some((place, message)) => ParsedLine { message, ..line }.at_place(place),
        None => line,
    }
}

/// Splits off `[<thread> ]ThreadId(<id>) `.
pub(super) fn thread(text: &str) -> (Option<(&str, &str)>, &str) {
    let found =
        text.split_once("ThreadId(").and_then(|(name, rest)| Some((name.trim_end(), rest.split_once(") ")?)));
    match found {
        Some((name, (id, rest))) if is_number(id) && (name.is_empty() || is_name(name)) => {
            (Some((name, id)), rest)
        }
        _ => (None, text),
    }
}

/// Splits off the spans at the start. Each has fields in braces; quoted values may contain anything.
pub(super) fn spans(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    let mut open = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if open > 0 => quoted = !quoted,
            // A name stands before its fields.
            b'{' if open == 0 && text.get(..at).is_none_or(|name| name.is_empty() || name.ends_with(' ')) => {
                break;
            }
            b'{' if !quoted => open += 1,
            b'}' if !quoted && open > 0 => {
                open -= 1;
                if let (0, Some(rest)) = (open, text.get(at + 1..).and_then(|rest| rest.strip_prefix(": "))) {
                    return (text.get(..=at).unwrap_or_default(), rest);
                }
            }
            b'\n' if open == 0 => break,
            // Before its braces a span has only a name. A colon there ends a target.
            b':' if open == 0 && text.get(at..).is_some_and(|rest| rest.starts_with(": ")) => break,
            _ => {}
        }
    }
    ("", text)
}

pub(super) fn is_target(target: &str) -> bool {
    is_name(target) && target.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

pub(super) fn request_id(fields: &str) -> Option<&str> {
    let (_, after) = fields.split_once("requestId=\"")?;
    after.split_once('"').map(|(id, _)| id).filter(|id| is_uuid(id))
}
