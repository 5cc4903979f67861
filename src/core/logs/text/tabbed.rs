//! Lines with a timestamp followed by fields separated by tabs: the runtimes of Node.js and .NET, and zap's
//! console encoder.

use super::{LEVEL, ParsedLine, upper_case_level};
use crate::logs::severity::Severity;

/// Parses the rest of a line after the timestamp, from its tab on.
///
/// - Node.js: `\t<request id or undefined>\t<LEVEL>\t<message>`
/// - .NET: `\t<request id or nothing>\t<level>\t<message>`
/// - zap's development encoder: `\t<LEVEL>\t<caller and message>`
pub(super) fn parse(rest: &str) -> Option<ParsedLine<'_>> {
    let (first, rest) = rest.strip_prefix('\t')?.split_once('\t')?;
    if let Some(severity) = upper_case_level(first) {
        return Some(ParsedLine { severity: Some(severity), message: rest, ..ParsedLine::default() });
    }
    let (level, message) = rest.split_once('\t')?;
    let severity = upper_case_level(level).or_else(|| dotnet_level(level));
    // An id has no spaces and a level is a word; otherwise these are columns of some other output.
    let word = level.bytes().all(|byte| byte.is_ascii_alphanumeric()) && (2..=12).contains(&level.len());
    if first.contains(' ') || !word {
        return None;
    }
    let request_id = Some(first).filter(|id| !id.is_empty() && *id != "undefined");
    if severity.is_none() && request_id.is_none_or(|id| !super::is_uuid(id)) {
        return None;
    }
    let line = ParsedLine { severity, request_id, message, carriage_returns: true, ..ParsedLine::default() };
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

fn dotnet_level(label: &str) -> Option<Severity> {
    matches!(label, "trce" | "dbug" | "info" | "warn" | "fail" | "crit")
        .then(|| Severity::from_word(label))
        .flatten()
}
