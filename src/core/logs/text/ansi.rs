//! Terminal colours.

use std::borrow::Cow;

/// The text without its control sequences: colours (ECMA-48 CSI: `ESC [`, parameters, a final letter), choices of a
/// character set (`ESC (`, a letter) and hyperlinks (OSC: `ESC ]` to BEL or `ESC \\`). Any other text is kept.
pub(in crate::logs) fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.as_bytes().contains(&0x1b) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after_sequence(sequence).unwrap_or_else(|| {
            plain.push('\x1b');
            sequence
        });
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// The text after a control sequence without its ESC. A sequence that the text ends in has none.
fn after_sequence(sequence: &str) -> Option<&str> {
    let (kind, rest) = sequence.split_at_checked(1)?;
    match kind {
        "[" => {
            let end = rest.find(|next: char| !('\u{20}'..='\u{3f}').contains(&next)).unwrap_or(rest.len());
            match rest.as_bytes().get(end) {
                Some(b'\x40'..=b'\x7e') => rest.get(end + 1..),
                None => Some(""),
                Some(_) => rest.get(end..),
            }
        }
        "(" => rest.starts_with(|set: char| set.is_ascii_alphanumeric()).then(|| rest.get(1..))?,
        "]" if rest.starts_with("8;") => {
            let end = rest.find(['\x07', '\x1b'])?;
            let rest = rest.get(end..)?;
            rest.strip_prefix('\x07').or_else(|| rest.strip_prefix("\x1b\\"))
        }
        _ => None,
    }
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
        assert_eq!(without_colours("\x1b]8;;http://x\x07link\x1b]8;;\x07 \x1b]8;;y\x1b\\z"), "link z");
        assert_eq!(without_colours("a\x1b(é b \x1b[üc"), "a\x1b(é b üc");
    }
}
