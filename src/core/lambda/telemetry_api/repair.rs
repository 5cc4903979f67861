//! Repairs JSON that is valid except for some bytes.

use std::fmt::Write as _;

/// Replaces invalid UTF-8 with U+FFFD and escapes control characters in strings. `None` if there is neither.
///
/// The result is at most six times as long.
pub(super) fn repair(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut repaired = String::with_capacity(text.len() + 64);
    let (mut rest, mut in_string, mut is_escaped) = (&*text, false, false);
    let mut has_control = false;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        let (before, from) = rest.split_at_checked(at)?;
        let special = from.chars().next()?;
        is_escaped &= at == 0;
        repaired.push_str(before);
        match special {
            // JSON has no escape of a raw control character, so the string stays invalid.
            ..' ' if in_string && !is_escaped => {
                has_control = true;
                // Writing to a string cannot fail.
                let _ = write!(repaired, "\\u{:04x}", u32::from(special));
            }
            _ => repaired.push(special),
        }
        in_string ^= special == '"' && !is_escaped;
        is_escaped = in_string && special == '\\' && !is_escaped;
        rest = from.get(1..)?;
    }
    repaired.push_str(rest);
    (has_control || matches!(text, std::borrow::Cow::Owned(_))).then_some(repaired)
}

#[cfg(test)]
mod tests {
    use super::repair;

    #[test]
    fn control_characters_in_strings_are_escaped() {
        let repaired = repair(b"{\n\"a\": \"b\x00\n\\\"\t\\\\\x1f\"\r}").expect("a repair");
        assert_eq!(repaired, "{\n\"a\": \"b\\u0000\\u000a\\\"\\u0009\\\\\\u001f\"\r}");
        assert_eq!(repair(b"\"\\\n\""), None);
    }

    #[test]
    fn invalid_utf8_becomes_replacement_characters() {
        assert_eq!(repair(b"\"caf\xe9\"").as_deref(), Some("\"caf\u{fffd}\""));
        assert_eq!(repair("\"café\"".as_bytes()), None);
    }
}
