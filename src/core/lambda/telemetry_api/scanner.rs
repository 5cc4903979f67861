//! Scans the structure of JSON: strings, brackets and separators. A scan can stop at any byte and continue in another body.
//!
//! It ignores errors that cannot move the end of a value: invalid UTF-8, control characters, escapes, and the spelling of
//! numbers and words. Each byte is read once.

use memchr::memchr2;

/// The maximum nesting, so that a value without an end cannot use unbounded memory.
const DEPTH_LIMIT: usize = 1 << 16;

/// A scan of one value.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanner {
    open: Vec<Container>,
    state: ScanState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

#[derive(Clone, Copy, Debug, Default)]
enum ScanState {
    /// A value must follow.
    #[default]
    Value,
    /// The first value or the end of an array must follow.
    ValueOrEnd,
    /// A key must follow.
    Key,
    /// The first key or the end of an object must follow.
    KeyOrEnd,
    /// A colon must follow.
    Colon,
    /// A comma or the end of the container must follow.
    Next,
    String(StringRole),
    /// After a backslash in a string.
    Escape(StringRole),
    /// In a number, a word, or garbage in place of one.
    Atom,
}

#[derive(Clone, Copy, Debug)]
enum StringRole {
    Key,
    Value,
}

/// The result of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// The bytes end within the value.
    Incomplete,
    /// The value ends before this position.
    Complete(usize),
    /// This is not JSON. Another value may begin at this position or later.
    Broken(usize),
}

impl Scanner {
    /// Continues the scan with these bytes.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut at = 0;
        // A string without an end runs up to the next quote, so it may hide the beginning of a value.
        let mut last_text = None;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                ScanState::String(text) => {
                    let Some(length) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
                        return Scanned::Incomplete;
                    };
                    at += length + 1;
                    if bytes.get(at - 1) == Some(&b'\\') {
                        self.state = ScanState::Escape(text);
                    } else if matches!(text, StringRole::Key) {
                        self.state = ScanState::Colon;
                    } else if self.end_value() {
                        return Scanned::Complete(at);
                    }
                    continue;
                }
                ScanState::Escape(text) => {
                    self.state = ScanState::String(text);
                    at += 1;
                    continue;
                }
                ScanState::Atom => {
                    if !ends_atom(byte) {
                        at += 1;
                    } else if self.end_value() {
                        return Scanned::Complete(at);
                    }
                    continue;
                }
                _ => {}
            }
            match (self.state, byte) {
                (_, b' ' | b'\t' | b'\n' | b'\r') => {}
                (ScanState::Value | ScanState::ValueOrEnd, b'{' | b'[') if self.open.len() < DEPTH_LIMIT => {
                    let is_object = byte == b'{';
                    self.open.push(if is_object { Container::Object } else { Container::Array });
                    self.state = if is_object { ScanState::KeyOrEnd } else { ScanState::ValueOrEnd };
                }
                (ScanState::Value | ScanState::ValueOrEnd, b'"') => {
                    last_text = Some(at);
                    self.state = ScanState::String(StringRole::Value);
                }
                (ScanState::Key | ScanState::KeyOrEnd, b'"') => {
                    last_text = Some(at);
                    self.state = ScanState::String(StringRole::Key);
                }
                (ScanState::Colon, b':') => self.state = ScanState::Value,
                (ScanState::Next, b',') => {
                    let in_object = self.open.last() == Some(&Container::Object);
                    self.state = if in_object { ScanState::Key } else { ScanState::Value };
                }
                (ScanState::KeyOrEnd | ScanState::Next, b'}')
                    if self.open.last() == Some(&Container::Object) =>
                {
                    if self.end_container() {
                        return Scanned::Complete(at + 1);
                    }
                }
                (ScanState::ValueOrEnd | ScanState::Next, b']')
                    if self.open.last() == Some(&Container::Array) =>
                {
                    if self.end_container() {
                        return Scanned::Complete(at + 1);
                    }
                }
                (ScanState::Value | ScanState::ValueOrEnd, _) if !ends_atom(byte) => {
                    self.state = ScanState::Atom;
                }
                _ => return Scanned::Broken(last_text.unwrap_or(at)),
            }
            at += 1;
        }
        Scanned::Incomplete
    }

    /// Returns true at the end of the outermost value.
    fn end_value(&mut self) -> bool {
        self.state = ScanState::Next;
        self.open.is_empty()
    }

    fn end_container(&mut self) -> bool {
        self.open.pop();
        self.end_value()
    }
}

fn ends_atom(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'"' | b'[' | b']' | b'{' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Scanned {
        Scanner::default().scan(text.as_bytes())
    }

    #[test]
    fn end_of_a_value_is_found() {
        for value in [r#""a\"}]""#, "{}", r#"{"a":[1,{"b":"]"},[]],"c":-1.5e3}"#, "[[],null]", "\"\u{1}\\x\""]
        {
            assert_eq!(scan(&format!(" {value},1")), Scanned::Complete(value.len() + 1), "{value}");
        }
        assert_eq!(scan("12 "), Scanned::Complete(2));
    }

    #[test]
    fn every_prefix_of_a_value_is_incomplete() {
        let value = r#"{"a\"b":[1,{"\u00e9":"\\"},tru,"é"],"c":{}}"#;
        for at in 0..value.len() {
            let (before, after) = value.as_bytes().split_at(at);
            let mut scanner = Scanner::default();
            assert_eq!(scanner.scan(before), Scanned::Incomplete, "{at}");
            assert_eq!(scanner.scan(after), Scanned::Complete(after.len()), "{at}");
        }
    }

    #[test]
    fn position_of_a_syntax_error_is_found() {
        for (text, at) in [
            (r#"["a" b]"#, 1),
            (r#"{"a"}"#, 1),
            ("{1}", 1),
            ("[1}", 2),
            ("[1 2]", 3),
            ("{,}", 1),
            ("]", 0),
            (r#"["a},{"time":1]"#, 1),
        ] {
            assert_eq!(scan(text), Scanned::Broken(at), "{text}");
        }
    }

    #[test]
    fn too_deep_nesting_is_broken() {
        let deep = vec![b'['; DEPTH_LIMIT + 1];
        assert_eq!(Scanner::default().scan(&deep), Scanned::Broken(DEPTH_LIMIT));
    }
}
