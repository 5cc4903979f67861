//! Lines made only of `key=value` pairs (logfmt): the text formats of Go's slog and logrus.

use std::borrow::Cow;

use crate::logs::budget::{FIELD_OVERHEAD, RecordBudget};
use crate::logs::json::{Field, FieldValue};
use crate::time;

/// Parses a line of pairs. Every word must be a pair, and a level and a message must be among them.
pub(super) fn parse(text: &str) -> Option<Vec<Field<'_>>> {
    const STARTS: [&str; 9] =
        ["time=", "level=", "timestamp=", "ts=", "t=", "lvl=", "at=", "severity=", "when="];
    if !STARTS.iter().any(|start| text.starts_with(start)) {
        return None;
    }
    let mut fields = Vec::new();
    let mut budget = RecordBudget::of(text.len());
    let (mut level, mut message) = (false, false);
    let mut rest = text.trim_end_matches(['\n', '\r']);
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || key.contains([' ', '"', '\n']) {
            return None;
        }
        let (value, after) = value(after)?;
        level |= matches!(key, "level" | "lvl" | "severity" | "at");
        // go-kit may leave the level out.
        level |= fields.is_empty()
            && time::parse(&value).is_some_and(|_| !value.bytes().all(|byte| byte.is_ascii_digit()));
        message |= matches!(key, "msg" | "message" | "event" | "err" | "error");
        // A line of nothing but tiny pairs is not worth attributes.
        if !budget.try_spend(FIELD_OVERHEAD + key.len() + value.len(), 1) {
            return None;
        }
        fields.push(Field { key: Cow::Borrowed(key), value: FieldValue::Text(value), is_nested: false });
        rest = match after.strip_prefix(' ') {
            Some(rest) => rest,
            None if after.is_empty() => after,
            None => return None,
        };
    }
    (level && message).then_some(fields)
}

fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return (!value.contains('\n')).then_some((Cow::Borrowed(value), rest));
    };
    let end = quoted.find(['"', '\\'])?;
    if quoted.as_bytes().get(end) == Some(&b'"') {
        return Some((Cow::Borrowed(quoted.get(..end)?), quoted.get(end + 1..)?));
    }
    unescaped(quoted)
}

/// Unquotes text in the format of Go's `strconv.Quote`, from after its opening quote. Returns it and the text
/// after the closing quote.
fn unescaped(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((Cow::Owned(value), chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                'u' => code(&mut chars, 4)?,
                'U' => code(&mut chars, 8)?,
                // A byte that is not UTF-8 by itself is not a character; the line stays unparsed.
                'x' => code(&mut chars, 2).filter(char::is_ascii)?,
                same @ ('"' | '\\' | '\'') => same,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
}

fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let (code, rest) = chars.as_str().split_at_checked(digits)?;
    *chars = rest.chars();
    char::from_u32(u32::from_str_radix(code, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_are_unquoted() {
        let fields = parse("time=x level=WARN msg=\"a \\\"b\\\"\\nc \\u00fc\\x01\" k=\"v v\" e= n=1\n")
            .expect("pairs");
        let keys: Vec<_> = fields.iter().map(|field| &*field.key).collect();
        assert_eq!(keys, ["time", "level", "msg", "k", "e", "n"]);
        assert_eq!(fields[2].value.as_text(), Some("a \"b\"\nc ü\u{1}"));
        assert_eq!(fields[3].value.as_text(), Some("v v"));
    }

    #[test]
    fn other_lines_are_not_logfmt() {
        for text in [
            "level=info",
            "time=1 msg=x",
            "level=info msg=x and more",
            "level=info msg=\"x",
            "level=info msg=\"x\"y",
            "level=info =x msg=y",
            "level=info msg=\"\\xff\"",
            "total=1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
