//! Replaces invalid UTF-8 in the texts of a request by U+FFFD, as the OTLP specification advises.
//!
//! One text that was cut within a character, or is in Latin-1, is no reason to lose the batch around it. Only
//! such texts change, and the lengths of the messages around them. Two passes: one finds the lengths, the other
//! writes.

use std::iter::Peekable;

use crate::otlp::schema::{FieldKind, MessageSchema};
use crate::otlp::wire::{DEPTH_LIMIT, WireReader, WireType, delimited_len, put_delimited_head};
use crate::signal::Signal;

/// The largest output. U+FFFD takes three bytes, so a request could grow to three times its size; beyond this
/// limit it is not damaged text but other data.
fn max_len(len: usize) -> usize {
    len + len / 2 + (1 << 20)
}

/// Returns the request with every invalid sequence in its texts replaced, or `None` if there is none, or too
/// many to be text. All else stays byte for byte and is not checked.
pub fn replace_invalid_utf8(signal: Signal, body: &[u8]) -> Option<Vec<u8>> {
    let schema = MessageSchema::of(signal);
    let mut changed = Vec::new();
    let len = measure(schema, body, 0, body, &mut changed);
    if changed.is_empty() || len > max_len(body.len()) {
        return None;
    }
    let mut writer = Writer { body, changed: changed.into_iter().peekable(), out: Vec::with_capacity(len) };
    writer.put(schema, body, 0);
    Some(writer.out)
}

/// A message that changes: the offset of its content in the request, and its new length.
struct ChangedMessage {
    at: usize,
    len: usize,
}

/// A field, by how it is written.
enum Piece<'a> {
    /// Bytes that stay.
    Raw(&'a [u8]),
    /// The tag and content of a text that is not UTF-8.
    Text(u32, &'a [u8]),
    /// A message: its tag, its schema, its content, and the bytes of the whole field.
    Message(u32, &'static MessageSchema, &'a [u8], &'a [u8]),
}

/// The fields of a message, and trailing bytes that are not a field.
fn pieces<'a>(
    schema: &'static MessageSchema,
    message: &'a [u8],
    depth: u32,
) -> impl Iterator<Item = Piece<'a>> {
    let mut reader = WireReader::new(message);
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = message.get(at..).filter(|rest| !rest.is_empty())?;
        let read = read(schema, &mut reader, depth);
        let end = if read.is_some() { message.len() - reader.remaining() } else { message.len() };
        let raw = rest.get(..end - at)?;
        at = end;
        Some(match read {
            Some((tag, Some(FieldKind::Message(inner)), content)) if depth < DEPTH_LIMIT => {
                Piece::Message(tag, inner, content, raw)
            }
            Some((tag, Some(FieldKind::String), content)) if std::str::from_utf8(content).is_err() => {
                Piece::Text(tag, content)
            }
            _ => Piece::Raw(raw),
        })
    })
}

/// Reads the next field: its tag and, if it is length-delimited, its kind in the schema and its content.
fn read<'a>(
    schema: &'static MessageSchema,
    reader: &mut WireReader<'a>,
    depth: u32,
) -> Option<(u32, Option<FieldKind>, &'a [u8])> {
    let (tag, wire_type) = reader.key().ok()?;
    if wire_type != WireType::Delimited {
        reader.skip(tag, wire_type, DEPTH_LIMIT.saturating_sub(depth)).ok()?;
        return Some((tag, None, &[]));
    }
    let content = reader.delimited().ok()?;
    Some((tag, schema.field(tag).map(|field| field.kind), content))
}

fn offset_in(body: &[u8], content: &[u8]) -> usize {
    content.as_ptr().addr() - body.as_ptr().addr()
}

/// The new length of a message. Records every nested message that changes, the outer one before the inner.
fn measure(
    schema: &'static MessageSchema,
    message: &[u8],
    depth: u32,
    body: &[u8],
    changed: &mut Vec<ChangedMessage>,
) -> usize {
    let piece_len = |piece| match piece {
        Piece::Raw(raw) => raw.len(),
        Piece::Text(tag, text) => delimited_len(tag, replaced(text).map(str::len).sum()),
        Piece::Message(tag, inner, content, raw) => {
            let slot = changed.len();
            changed.push(ChangedMessage { at: offset_in(body, content), len: 0 });
            let len = measure(inner, content, depth + 1, body, changed);
            if len == content.len()
                && changed.len() == slot + 1
                && !has_invalid_text(inner, content, depth + 1)
            {
                changed.truncate(slot);
                return raw.len();
            }
            if let Some(changed) = changed.get_mut(slot) {
                changed.len = len;
            }
            delimited_len(tag, len)
        }
    };
    pieces(schema, message, depth).map(piece_len).sum()
}

/// Returns true if a text of the message itself changes. Its length may stay: three bytes can become one
/// U+FFFD, which has three.
fn has_invalid_text(schema: &'static MessageSchema, message: &[u8], depth: u32) -> bool {
    pieces(schema, message, depth).any(|piece| matches!(piece, Piece::Text(..)))
}

/// Writes the request.
struct Writer<'a> {
    body: &'a [u8],
    changed: Peekable<std::vec::IntoIter<ChangedMessage>>,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, schema: &'static MessageSchema, message: &[u8], depth: u32) {
        for piece in pieces(schema, message, depth) {
            match piece {
                Piece::Raw(raw) => self.out.extend_from_slice(raw),
                Piece::Text(tag, text) => {
                    put_delimited_head(&mut self.out, tag, replaced(text).map(str::len).sum());
                    replaced(text).for_each(|text| self.out.extend_from_slice(text.as_bytes()));
                }
                Piece::Message(tag, inner, content, raw) => {
                    let at = offset_in(self.body, content);
                    match self.changed.next_if(|changed| changed.at == at) {
                        Some(ChangedMessage { len, .. }) => {
                            put_delimited_head(&mut self.out, tag, len);
                            self.put(inner, content, depth + 1);
                        }
                        None => self.out.extend_from_slice(raw),
                    }
                }
            }
        }
    }
}

/// The text in pieces, with U+FFFD for each invalid sequence.
fn replaced(text: &[u8]) -> impl Iterator<Item = &str> {
    text.utf8_chunks().flat_map(|chunk| {
        let replacement = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        [chunk.valid(), replacement]
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use prost::Message as _;

    use super::*;
    use crate::otlp::arbitrary::request;
    use crate::otlp::{MalformedRequest, WireError, validate};

    /// A text to corrupt.
    const MARK: &str = "to be corrupted";

    fn spans(count: usize, text: &str) -> Vec<u8> {
        let value = |value| Some(AnyValue { value: Some(value) });
        let array = ArrayValue { values: vec![value(Value::StringValue(text.to_owned())).unwrap()] };
        let attribute =
            KeyValue { key: "user".to_owned(), value: value(Value::ArrayValue(array)), key_strindex: 0 };
        let good = Span { name: "checkout".to_owned(), ..Span::default() };
        let bad = Span { attributes: vec![attribute], ..good.clone() };
        let mut spans = vec![good; count];
        spans[count / 2] = bad;
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn corrupt(body: &mut [u8], with: &[u8]) {
        let at = body.windows(MARK.len()).position(|window| window == MARK.as_bytes()).unwrap();
        body[at..at + with.len()].copy_from_slice(with);
    }

    #[test]
    fn invalid_text_is_replaced_alone() {
        for (with, text) in [
            (&b"\xff"[..], "\u{fffd}o be corrupted"),
            (b"\xe2\x82", "\u{fffd} be corrupted"),
            // The length stays.
            (b"\xf0\x9f\x98", "\u{fffd}be corrupted"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}be corrupted"),
        ] {
            // Some counts make the lengths around them need another byte, before or after the repair.
            for count in [1, 6, 9, 10, 11, 200, 1_600] {
                let mut body = spans(count, MARK);
                corrupt(&mut body, with);
                assert!(validate(Signal::Traces, &body).is_err());
                let fixed = replace_invalid_utf8(Signal::Traces, &body).unwrap();
                assert_eq!(validate(Signal::Traces, &fixed), Ok(count));
                assert_eq!(fixed, spans(count, text), "{count} spans");
            }
        }
    }

    #[test]
    fn mostly_binary_text_is_not_replaced() {
        let mut body = spans(1, &format!("{MARK}{}", "x".repeat(4 << 20)));
        let at = body.iter().rposition(|byte| *byte == b'x').unwrap();
        body[at - (4 << 20) + 1..=at].fill(0xff);
        assert_eq!(replace_invalid_utf8(Signal::Traces, &body), None);
        body[at - (4 << 20) + 1..=at - (1 << 19)].fill(b'x');
        let fixed = replace_invalid_utf8(Signal::Traces, &body).unwrap();
        assert_eq!(validate(Signal::Traces, &fixed), Ok(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn valid_requests_stay_unchanged(request in request()) {
            prop_assert_eq!(replace_invalid_utf8(request.signal(), &request.encode()), None);
        }

        #[test]
        fn no_text_is_invalid_afterwards(request in request(), corrupted in prop::collection::vec(any::<Index>(), 1..8)) {
            let (signal, mut body) = (request.signal(), request.encode().to_vec());
            for at in corrupted {
                if !body.is_empty() {
                    body[at.index(request.encode().len())] |= 0x80;
                }
            }
            let before = validate(signal, &body);
            let fixed = replace_invalid_utf8(signal, &body);
            if let Some(fixed) = &fixed {
                prop_assert!(fixed.len() <= body.len() * 3);
            }
            match before {
                Ok(_) => prop_assert_eq!(fixed, None),
                Err(MalformedRequest { cause: WireError::NotUtf8, .. }) => {
                    let after = validate(signal, &fixed.unwrap());
                    prop_assert!(!matches!(after, Err(MalformedRequest { cause: WireError::NotUtf8, .. })), "{:?}", after);
                }
                Err(_) => {}
            }
        }

        #[test]
        fn random_bytes_do_not_panic(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            if let Some(fixed) = replace_invalid_utf8(signal, &bytes) {
                prop_assert!(fixed.len() <= bytes.len() * 3 + 16);
            }
        }
    }
}
