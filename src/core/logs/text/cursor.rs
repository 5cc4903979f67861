//! A position in a line, with the steps that its formats are made of. A step that does not fit returns `None`, and the
//! format with it.

use super::{is_name, lower_case_level, upper_case_level};
use crate::logs::severity::Severity;

/// A position in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// The text that has not been read.
    pub(super) fn rest(self) -> &'a str {
        self.0
    }

    /// Skips this text, which must be next.
    pub(super) fn skip(&mut self, literal: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// Skips spaces.
    pub(super) fn spaces(&mut self) {
        self.0 = self.0.trim_start_matches(' ');
    }

    /// Takes what stands before this text on the line, and skips the text.
    pub(super) fn until(&mut self, end: &str) -> Option<&'a str> {
        let first = *end.as_bytes().first()?;
        // The texts are short and near, so that a search by their first byte is faster than one that prepares itself.
        let mut from = 0;
        loop {
            let rest = self.0.as_bytes().get(from..)?;
            let at = from + rest.iter().position(|byte| *byte == first || *byte == b'\n')?;
            if let Some(after) = self.0.get(at..).and_then(|rest| rest.strip_prefix(end)) {
                let before = self.0.get(..at)?;
                self.0 = after;
                return Some(before);
            }
            if self.0.as_bytes().get(at) == Some(&b'\n') {
                return None;
            }
            from = at + 1;
        }
    }

    /// Takes what stands in brackets, or between other marks.
    pub(super) fn within(&mut self, open: &str, close: &str) -> Option<&'a str> {
        let mut ahead = *self;
        ahead.skip(open)?;
        let inner = ahead.until(close)?;
        *self = ahead;
        Some(inner)
    }

    /// Takes the characters that fit; there must be one.
    fn some(&mut self, fits: impl Fn(char) -> bool) -> Option<&'a str> {
        let end = self.0.find(|next: char| !fits(next)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at_checked(end).filter(|(taken, _)| !taken.is_empty())?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes the text before the next space, tab or line break.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.some(|next| !matches!(next, ' ' | '\t' | '\n'))
    }

    pub(super) fn digits(&mut self) -> Option<&'a str> {
        self.some(|next| next.is_ascii_digit())
    }

    /// Takes a word that can be the name of a logger.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let mut ahead = *self;
        let name = ahead.word().filter(|name| is_name(name))?;
        *self = ahead;
        Some(name)
    }

    /// Takes a level in capitals, of which no letter or digit follows.
    pub(super) fn level(&mut self) -> Option<Severity> {
        self.level_of(upper_case_level)
    }

    /// Takes a level in small letters.
    pub(super) fn small_level(&mut self) -> Option<Severity> {
        self.level_of(lower_case_level)
    }

    fn level_of(&mut self, read: impl Fn(&str) -> Option<Severity>) -> Option<Severity> {
        let mut ahead = *self;
        let word = ahead.some(|next| next.is_ascii_alphanumeric() || next == '_')?;
        let severity = read(word)?;
        *self = ahead;
        Some(severity)
    }

    /// Takes a level that stands in brackets, padded or not.
    pub(super) fn level_in_brackets(&mut self) -> Option<Severity> {
        let mut ahead = *self;
        let severity = super::level_word(ahead.within("[", "]")?.trim())?;
        *self = ahead;
        Some(severity)
    }

    /// Takes a level in capitals and the spaces after it, of which there must be one.
    pub(super) fn padded_level(&mut self) -> Option<Severity> {
        let mut ahead = *self;
        let severity = ahead.level()?;
        ahead.skip(" ")?;
        ahead.spaces();
        *self = ahead;
        Some(severity)
    }
}
