//! A time, and then fields between tabs: the runtimes of Node.js and .NET, and zap for people.

use super::{LEVEL, Line, upper};
use crate::logs::severity::Severity;

/// Reads what follows the time, from its tab on.
///
/// - Node.js: `\t<request id or undefined>\t<LEVEL>\t<message>`
/// - .NET: `\t<request id or nothing>\t<level>\t<message>`
/// - zap's development encoder: `\t<LEVEL>\t<caller and message>`
pub(super) fn read(rest: &str) -> Option<Line<'_>> {
    let (first, rest) = rest.strip_prefix('\t')?.split_once('\t')?;
    if let Some(severity) = upper(first) {
        return Some(Line { severity: Some(severity), message: rest, ..Line::default() });
    }
    let (level, message) = rest.split_once('\t')?;
    let severity = upper(level).or_else(|| dotnet(level));
    // An id has no spaces, and a level is a word; else these are somebody's columns.
    let word = level.bytes().all(|byte| byte.is_ascii_alphanumeric()) && (2..=12).contains(&level.len());
    if first.contains(' ') || !word {
        return None;
    }
    let request_id = Some(first).filter(|id| !id.is_empty() && *id != "undefined");
    if severity.is_none() && request_id.is_none_or(|id| !super::uuid(id)) {
        return None;
    }
    let line = Line { severity, request_id, message, carriage_returns: true, ..Line::default() };
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

fn dotnet(label: &str) -> Option<Severity> {
    matches!(label, "trce" | "dbug" | "info" | "warn" | "fail" | "crit")
        .then(|| Severity::from_word(label))
        .flatten()
}
