//! Ruby's logger, with and without the additions of its Lambda runtime.

use super::{LEVEL, LOGGER, ParsedLine, upper_case_level};
use crate::time;

/// Parses `I, [<time> #<pid>]  INFO <request id, or nothing> -- <program>: <message>`. Without the runtime's
/// formatter, the request id and its space are missing.
pub(super) fn parse(text: &str) -> Option<ParsedLine<'_>> {
    let letter = text.get(..1)?;
    let (stamp, rest) = text.get(1..)?.strip_prefix(", [")?.split_once(']')?;
    let (time, pid) = stamp.split_once(" #")?;
    let time = time::parse(time)?;
    if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (head, message) = rest.split_once(" -- ")?;
    let mut words = head.split_ascii_whitespace();
    let level = words.next().filter(|level| level.starts_with(letter))?;
    let request_id = words.next();
    let (program, message) = message.split_once(": ").or_else(|| Some((message.strip_suffix(':')?, "")))?;
    let severity = upper_case_level(level);
    let line = ParsedLine { time: Some(time), severity, request_id, message, ..ParsedLine::default() };
    let line = line.with("process.pid", pid).with(LOGGER, program);
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}
