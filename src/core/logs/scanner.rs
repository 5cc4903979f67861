//! Reads JSON leniently, value by value: strings, numbers and literals, and the extent of any other value.
//!
//! Loggers write texts that JSON forbids: `NaN` and `Infinity` (Python), numbers beyond a double (Go), half a
//! surrogate pair (Node.js cuts texts inside an emoji), control characters. One such value must not cost the rest of its
//! record, so it is kept as its exact text, with U+FFFD for what is not a character. JSON that is valid reads as in
//! `serde_json`, which a fuzz target checks.

use std::borrow::Cow;

/// A position in a JSON text.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

/// A number, a literal or null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'t> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// A number that neither an `i64` nor a double holds, or none at all, as it is written.
    Text(&'t str),
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Skips white space and returns the next byte.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Skips white space, and `byte` if it is next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// The text that has not been read.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Reads a string. Returns `None` if there is none or it does not end.
    pub(super) fn string(&mut self) -> Option<Cow<'t, str>> {
        self.string_of(|length| 2 * length + 16)
    }

    /// Reads a string that is the whole text.
    pub(super) fn whole_string(&mut self) -> Option<Cow<'t, str>> {
        let length = self.text.len();
        let string = self.string_of(|_| length)?;
        self.peek().is_none().then_some(string)
    }

    /// Reads a string. If it has escapes, `capacity` gives that of the copy from the length before the first one.
    fn string_of(&mut self, capacity: impl Fn(usize) -> usize) -> Option<Cow<'t, str>> {
        if !self.eat(b'"') {
            return None;
        }
        let start = self.at;
        let special = |from: usize| Some(from + quote_or_backslash(self.text.as_bytes().get(from..)?)?);
        let mut end = special(start)?;
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at = end + 1;
            return self.text.get(start..end).map(Cow::Borrowed);
        }
        // Bytes are cheaper to append to than characters. Escapes are ASCII, so what is between them stays UTF-8.
        let bytes = self.text.as_bytes();
        let mut string = Vec::with_capacity(capacity(end - start));
        let mut from = start;
        loop {
            string.extend_from_slice(bytes.get(from..end)?);
            if bytes.get(end) == Some(&b'"') {
                self.at = end + 1;
                return String::from_utf8(string).ok().map(Cow::Owned);
            }
            let simple = match bytes.get(end + 1)? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                byte @ (b'"' | b'\\' | b'/') => *byte,
                b'b' => b'\x08',
                b'f' => b'\x0c',
                other => {
                    // An unknown sequence stands for its backslash.
                    let (character, length) =
                        if *other == b'u' { unicode(self.text.get(end + 1..)?) } else { ('\\', 0) };
                    string.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    from = end + 1 + length;
                    end = special(from)?;
                    continue;
                }
            };
            string.push(simple);
            from = end + 2;
            end = special(from)?;
        }
    }

    /// Reads a number or a literal.
    pub(super) fn scalar(&mut self) -> Option<Scalar<'t>> {
        self.peek()?;
        let rest = self.rest();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = rest.bytes().position(|byte| !is_part(&byte)).unwrap_or(rest.len());
        let word = rest.get(..length)?;
        let scalar = match word {
            "null" => Scalar::Null,
            "true" => Scalar::Bool(true),
            "false" => Scalar::Bool(false),
            "NaN" | "Infinity" | "-Infinity" => Scalar::Text(word),
            _ => number(word)?,
        };
        self.at += length;
        Some(scalar)
    }

    /// Skips a value of any kind and returns its text.
    pub(super) fn skip(&mut self) -> Option<&'t str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => self.skip_string()?,
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.text.as_bytes().get(self.at)? {
                        b'"' => {
                            self.skip_string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                self.scalar()?;
            }
        }
        self.text.get(start..self.at)
    }

    fn skip_string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            at += quote_or_backslash(bytes.get(at..)?)?;
            if bytes.get(at) == Some(&b'"') {
                self.at = at + 1;
                return Some(());
            }
            at += 2;
        }
    }
}

/// Finds the first quote or backslash, eight bytes at a time.
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    // The high bit of each byte that is zero, and perhaps of bytes after the first of them.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(is_special)?;
    Some(bytes.len() - tail.len() + at)
}

/// Reads a `\u` sequence from its `u` on. Returns the character and the length of the sequence. Half a surrogate pair is
/// U+FFFD, and an unfinished sequence stands for its backslash.
fn unicode(sequence: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits =
            sequence.get(at..at + 4).filter(|four| four.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(1) else { return ('\\', 0) };
    let half = |value: u32, range: std::ops::Range<u32>| range.contains(&value);
    if half(first, 0xd800..0xdc00)
        && sequence.get(5..7) == Some("\\u")
        && let Some(second) = unit(7).filter(|second| half(*second, 0xdc00..0xe000))
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

/// Parses a number as JSON defines it.
fn number(word: &str) -> Option<Scalar<'_>> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() {
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        return Some(match word.parse() {
            // An integer has no negative zero.
            Ok(0) if word.starts_with('-') => Scalar::Double(-0.0),
            Ok(number) => Scalar::Int(number),
            // A double would lose digits, and such numbers are mostly ids.
            Err(_) => Scalar::Text(word),
        });
    }
    // Rust's parser takes more than JSON: `inf`, `.5`, `1.`, `+1`, `01.5`.
    let has_zero = digits.starts_with('0') && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    let fraction = digits.split_once('.').map(|(_, fraction)| fraction);
    let is_json = [Some(digits), fraction]
        .into_iter()
        .flatten()
        .all(|part| part.starts_with(|next: char| next.is_ascii_digit()))
        && !has_zero;
    let number: f64 = word.parse().ok().filter(|_| is_json)?;
    Some(if number.is_finite() { Scalar::Double(number) } else { Scalar::Text(word) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(json: &str) -> Option<String> {
        Scanner::new(json).string().map(Cow::into_owned)
    }

    #[test]
    fn strings_are_unescaped() {
        assert_eq!(
            string(r#""a\"b\\\/\n\t\r\b\f\u00fc\ud83d\ude00" x"#).as_deref(),
            Some("a\"b\\/\n\t\r\u{8}\u{c}ü😀")
        );
        assert_eq!(string("\"tab\tand\nbreak\"").as_deref(), Some("tab\tand\nbreak"));
        assert_eq!(string(r#""well done \ud83d""#).as_deref(), Some("well done \u{fffd}"));
        assert_eq!(
            string(r#""\ud83d\u0041\udc00\ud83d\ud83d\ude00""#).as_deref(),
            Some("\u{fffd}A\u{fffd}\u{fffd}😀")
        );
        assert_eq!(string(r#""C:\xa\u12""#).as_deref(), Some(r"C:\xa\u12"));
        assert_eq!(string(r#""open \""#), None);
        assert_eq!(string("1"), None);
    }

    #[test]
    fn numbers_keep_their_value_or_their_text() {
        let read = |json| Scanner::new(json).scalar();
        for (json, scalar) in [
            ("0", Scalar::Int(0)),
            ("-0", Scalar::Double(-0.0)),
            ("-17,", Scalar::Int(-17)),
            ("1.5e2]", Scalar::Double(150.0)),
            ("18446744073709551616", Scalar::Text("18446744073709551616")),
            ("1e999}", Scalar::Text("1e999")),
            ("NaN", Scalar::Text("NaN")),
            ("-Infinity ", Scalar::Text("-Infinity")),
            ("null", Scalar::Null),
            (" false", Scalar::Bool(false)),
        ] {
            assert_eq!(read(json), Some(scalar), "{json}");
        }
        for none in
            ["", "nil", "01", "-", ".5", "1.", "1.e5", "+1", "1e", "inf", "0x1f", "undefined", "-01.5"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn any_value_is_skipped() {
        for (json, value) in [
            (r#" {"a":"}\"",["b"]}x"#, Some(r#"{"a":"}\"",["b"]}"#)),
            (r#"["]",[1]],"#, Some(r#"["]",[1]]"#)),
            (r#""a\\" 1"#, Some(r#""a\\""#)),
            ("12 3", Some("12")),
            ("{[", None),
            ("\"", None),
            ("", None),
        ] {
            assert_eq!(Scanner::new(json).skip(), value, "{json}");
        }
    }
}
