//! The envelope of an event: the bytes before its record. It identifies an event in a body that is not JSON.

use memchr::{memchr_iter, memmem};

/// The maximum length of a time or type, in bytes.
const TEXT_LIMIT: usize = 128;

/// `{"time":"…","type":"…","record":`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// The value of `time`.
    pub(super) time: &'a [u8],
    /// The value of `type`.
    pub(super) name: &'a [u8],
    /// The length up to the record.
    pub(super) length: usize,
}

impl<'a> Envelope<'a> {
    /// Reads the envelope at the start of these bytes.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        take_token(&mut rest, b"{")?;
        let (mut time, mut name) = (None, None);
        loop {
            let field = match take_string(&mut rest)? {
                b"time" => &mut time,
                b"type" => &mut name,
                b"record" => {
                    // Spaces after the colon may belong to the record.
                    rest = rest.trim_ascii_start().strip_prefix(b":")?;
                    return Some(Self { time: time?, name: name?, length: bytes.len() - rest.len() });
                }
                _ => return None,
            };
            take_token(&mut rest, b":")?;
            // A duplicate key could be repeated without end.
            if field.replace(take_string(&mut rest)?).is_some() {
                return None;
            }
            take_token(&mut rest, b",")?;
        }
    }

    /// Returns true for the platform's own events.
    pub(super) fn is_platform(&self) -> bool {
        self.name.starts_with(b"platform.")
    }

    /// Returns true if the other envelope can belong to the same record.
    pub(super) fn is_repeated_by(&self, other: &Envelope<'_>) -> bool {
        (self.time, self.name) == (other.time, other.name)
    }
}

/// The location of a syntax error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakLocation {
    /// Between two events. Only the platform writes there.
    Outside,
    /// Within a record, which may hold untrusted text.
    Inside,
}

/// Finds the next event after a syntax error, at `from` or later.
///
/// No event can begin within a JSON string, because its quotes would be escaped. The value of a field is never an event.
/// Within a record, an event must follow a comma, as the platform writes it.
pub(super) fn find_event(body: &[u8], from: usize, place: BreakLocation) -> Option<usize> {
    let rest = body.get(from..)?;
    memchr_iter(b'{', rest).map(|at| from + at).find(|at| {
        let before = body.get(..*at).unwrap_or_default().trim_ascii_end().last();
        let may_begin = match place {
            BreakLocation::Outside => !matches!(before, Some(b':' | b'\\')),
            BreakLocation::Inside => before == Some(&b','),
        };
        may_begin && body.get(*at..).and_then(Envelope::read).is_some()
    })
}

/// Finds the request id in a malformed platform record.
pub(super) fn request_id(record: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"requestId\"";
    let at = memmem::find(record, KEY)?;
    let mut rest = record.get(at + KEY.len()..)?;
    take_token(&mut rest, b":")?;
    Some(String::from_utf8_lossy(take_string(&mut rest)?).into_owned())
}

/// Removes a token and the spaces around it from the front.
fn take_token(rest: &mut &[u8], token: &[u8]) -> Option<()> {
    *rest = rest.trim_ascii_start().strip_prefix(token)?.trim_ascii_start();
    Some(())
}

/// Removes a short string without escapes from the front.
fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let behind = rest.strip_prefix(b"\"")?;
    let length = behind.iter().take(TEXT_LIMIT).position(|byte| matches!(byte, b'"' | b'\\'))?;
    *rest = behind.get(length..)?.strip_prefix(b"\"")?;
    behind.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_is_read_with_and_without_spaces() {
        let compact = br#"{"time":"T","type":"function","record":"a"}"#;
        let envelope = Envelope::read(compact).expect("an envelope");
        assert_eq!((envelope.time, envelope.name, envelope.length), (&b"T"[..], &b"function"[..], 39));
        let spaced = Envelope::read(b"{ \"type\" : \"function\",\n\"time\": \"T\", \"record\": {")
            .expect("an envelope");
        assert!(envelope.is_repeated_by(&spaced));
        for other in [
            &br#"{"time":"T","record":"a"}"#[..],
            br#"{"type":"a\"b","time":"T","record":1}"#,
            br#"{"time":"T","time":"T","type":"a","record":1}"#,
            br#"{"time":1,"type":"a","record":1}"#,
            br#"{\"time\":\"T\",\"type\":\"a\",\"record\":1}"#,
            b"{",
        ] {
            assert_eq!(Envelope::read(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn event_begins_only_where_the_platform_writes_one() {
        let event = r#"{"time":"T","type":"a","record":1}"#;
        let find = |before: &str, place| super::find_event(format!("{before}{event}").as_bytes(), 0, place);
        for (before, outside, inside) in [
            ("x, ", true, true),
            ("[", true, false),
            ("x", true, false),
            (r#""a": "#, false, false),
            ("\\", false, false),
        ] {
            assert_eq!(find(before, BreakLocation::Outside).is_some(), outside, "{before}");
            assert_eq!(find(before, BreakLocation::Inside).is_some(), inside, "{before}");
        }
    }

    #[test]
    fn request_id_is_found_in_a_malformed_record() {
        assert_eq!(request_id(br#"{nope,"requestId": "a-1","st"#).as_deref(), Some("a-1"));
        assert_eq!(request_id(br#"{"requestId":7}"#), None);
        assert_eq!(request_id(br#"{"requestId":"a"#), None);
    }
}
