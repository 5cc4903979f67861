//! Lines that Lambda itself writes among the function's, and tracebacks that Python prints for an uncaught
//! exception.

use super::{ParsedLine, exception, is_uuid};
use crate::logs::severity::Severity;

/// Parses a line that begins with `T` or `R`.
pub(super) fn parse(text: &str) -> Option<ParsedLine<'_>> {
    if let Some(rest) = text.strip_prefix("RequestId: ") {
        return process_exited(rest);
    }
    if exception::is_traceback(text) {
        return Some(ParsedLine { severity: Some(Severity::Error), message: text, ..ParsedLine::default() });
    }
    timed_out(text)
}

/// Parses exactly `Task timed out after 3.00 seconds`.
pub(super) fn timed_out(text: &str) -> Option<ParsedLine<'_>> {
    let seconds = text.trim_end().strip_prefix("Task timed out after ")?.strip_suffix(" seconds")?;
    seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| ParsedLine {
        severity: Some(Severity::Error),
        message: text,
        ..ParsedLine::default()
    })
}

/// Parses the text after `RequestId: ` in `RequestId: <id> Error: Runtime exited with error: exit status 1` and
/// the like.
fn process_exited(rest: &str) -> Option<ParsedLine<'_>> {
    let (id, message) = rest.split_once(' ')?;
    let known =
        message.starts_with("Error: ") || message.starts_with("Process exited before completing request");
    (is_uuid(id) && known).then(|| ParsedLine {
        severity: Some(Severity::Error),
        request_id: Some(id),
        message,
        ..ParsedLine::default()
    })
}
