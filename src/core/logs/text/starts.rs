//! Classes of line beginnings, as bit sets. A line is tried only against the formats of its class.

use crate::logs::severity::Severity;

/// A set of classes.
pub(super) type Starts = u16;

pub(super) const TAB: Starts = 1;
pub(super) const BRACKET: Starts = 1 << 1;
pub(super) const ANGLE: Starts = 1 << 2;
pub(super) const DIGIT: Starts = 1 << 3;
/// A dash, a bar or a colon.
pub(super) const SEPARATOR: Starts = 1 << 4;
/// A word that is a level.
pub(super) const LEVEL: Starts = 1 << 5;
/// Any other word.
pub(super) const WORD: Starts = 1 << 6;
pub(super) const OTHER: Starts = 1 << 7;
pub(super) const ANYTHING: Starts = Starts::MAX;

/// The class of a text, after its spaces.
pub(super) fn of(text: &str) -> Starts {
    let text = text.trim_start_matches(' ');
    match text.as_bytes().first() {
        Some(b'\t') => TAB,
        Some(b'[') => BRACKET,
        Some(b'<') => ANGLE,
        Some(b'-' | b'|' | b':') => SEPARATOR,
        Some(b'0'..=b'9') => DIGIT,
        Some(first) if first.is_ascii_alphabetic() => {
            let end = text.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
            let word = text.get(..end).unwrap_or_default();
            if Severity::from_word(word).is_some() { LEVEL } else { WORD }
        }
        _ => OTHER,
    }
}
