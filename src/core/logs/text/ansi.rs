//! Terminal colours.

/// The text without its control sequences (ECMA-48 CSI: `ESC [`, parameters, a final letter).
pub(super) fn stripped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = sequence.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c));
        rest = end.and_then(|end| sequence.get(end + 1..)).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_sequences_are_stripped() {
        assert_eq!(stripped("\x1b[2m2026\x1b[0m \x1b[33m WARN\x1b[0m [x] ü"), "2026  WARN [x] ü");
        assert_eq!(stripped("a\x1b[38;5;12mb\x1b[0"), "ab");
        assert_eq!(stripped("plain"), "plain");
    }
}
