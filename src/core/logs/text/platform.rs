//! Lines that Lambda itself writes among the function's, and what a language prints at an uncaught exception.

use super::{Line, exception, uuid};
use crate::logs::severity::Severity;

/// Reads a line that begins with `T` or `R`.
pub(super) fn read(text: &str) -> Option<Line<'_>> {
    if let Some(rest) = text.strip_prefix("RequestId: ") {
        return ended(rest);
    }
    if exception::is_traceback(text) {
        return Some(Line { severity: Some(Severity::Error), message: text, ..Line::default() });
    }
    timed_out(text)
}

/// `Task timed out after 3.00 seconds`, and nothing more.
pub(super) fn timed_out(text: &str) -> Option<Line<'_>> {
    let seconds = text.trim_end().strip_prefix("Task timed out after ")?.strip_suffix(" seconds")?;
    seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| Line {
        severity: Some(Severity::Error),
        message: text,
        ..Line::default()
    })
}

/// `RequestId: <id> Error: Runtime exited with error: exit status 1`, and the like.
fn ended(rest: &str) -> Option<Line<'_>> {
    let (id, message) = rest.split_once(' ')?;
    let known =
        message.starts_with("Error: ") || message.starts_with("Process exited before completing request");
    (uuid(id) && known).then(|| Line {
        severity: Some(Severity::Error),
        request_id: Some(id),
        message,
        ..Line::default()
    })
}
