//! Terminal colours.

use std::borrow::Cow;

/// The text without its control sequences (ECMA-48 CSI: `ESC [`, parameters, a final letter) and its choices of a character
/// set (`ESC (`, a letter).
pub(in crate::logs) fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.as_bytes().contains(&0x1b) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = if let Some(parameters) = sequence.strip_prefix('[') {
            let end = parameters.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c));
            end.and_then(|end| parameters.get(end + 1..)).unwrap_or_default()
        } else if let Some(set) = sequence.strip_prefix('(') {
            set.get(1..).unwrap_or_default()
        } else {
            plain.push('\x1b');
            sequence
        };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_sequences_are_stripped() {
        assert_eq!(without_colours("\x1b[2m2026\x1b[0m \x1b[33m WARN\x1b[0m [x] ü"), "2026  WARN [x] ü");
        assert_eq!(without_colours("a\x1b[38;5;12mb\x1b[0"), "ab");
        assert_eq!(without_colours("\x1b(B\x1b[mNov 21\x1b(B"), "Nov 21");
        assert_eq!(without_colours("plain \x1b7"), "plain \x1b7");
    }
}
