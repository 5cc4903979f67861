//! The replacing of what is not UTF-8 in the texts of a request, by U+FFFD, as the OTLP specification advises.
//!
//! One byte of a text cut in the middle, or in Latin-1, is no reason to lose the batch around it. Only the texts that need
//! it change, and the lengths of the messages around them. Two passes: one finds the lengths, the other writes.

use std::iter::Peekable;

use crate::otlp::schema::{Kind, Message};
use crate::otlp::wire::{DEPTH_LIMIT, Reader, WireType, delimited_len, put_delimited_head};
use crate::signal::Signal;

/// U+FFFD takes three bytes, and so a request can grow to three times its size. Beyond this it is no text with a fault
/// but something else.
fn most(len: usize) -> usize {
    len + len / 2 + (1 << 20)
}

/// The request with every invalid sequence in its texts replaced. `None` where there is none, or too many to be a text.
/// All else stays byte for byte, and is not checked.
pub fn replace_invalid_utf8(signal: Signal, body: &[u8]) -> Option<Vec<u8>> {
    let schema = Message::of(signal);
    let mut changed = Vec::new();
    let len = measure(schema, body, 0, body, &mut changed);
    if changed.is_empty() || len > most(body.len()) {
        return None;
    }
    let mut writer = Writer { body, changed: changed.into_iter().peekable(), out: Vec::with_capacity(len) };
    writer.put(schema, body, 0);
    Some(writer.out)
}

/// A message that changes: where its content begins in the request, and its length afterwards.
struct Changed {
    at: usize,
    len: usize,
}

/// A field, by what becomes of it.
enum Piece<'a> {
    /// It stays.
    Raw(&'a [u8]),
    /// A text that is not UTF-8.
    Text(u32, &'a [u8]),
    /// A message, with all of the field.
    Message(u32, &'static Message, &'a [u8], &'a [u8]),
}

/// The fields of a message, and what is no field behind them.
fn pieces<'a>(schema: &'static Message, message: &'a [u8], depth: u32) -> impl Iterator<Item = Piece<'a>> {
    let mut reader = Reader::new(message);
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = message.get(at..).filter(|rest| !rest.is_empty())?;
        let read = read(schema, &mut reader, depth);
        let end = if read.is_some() { message.len() - reader.remaining() } else { message.len() };
        let raw = rest.get(..end - at)?;
        at = end;
        Some(match read {
            Some((tag, Some(Kind::Message(inner)), content)) if depth < DEPTH_LIMIT => {
                Piece::Message(tag, inner, content, raw)
            }
            Some((tag, Some(Kind::String), content)) if std::str::from_utf8(content).is_err() => {
                Piece::Text(tag, content)
            }
            _ => Piece::Raw(raw),
        })
    })
}

/// The next field: its tag, and of one that is encoded as the schema has it the kind and the content.
fn read<'a>(
    schema: &'static Message,
    reader: &mut Reader<'a>,
    depth: u32,
) -> Option<(u32, Option<Kind>, &'a [u8])> {
    let (tag, wire_type) = reader.key().ok()?;
    if wire_type != WireType::Delimited {
        reader.skip(tag, wire_type, DEPTH_LIMIT.saturating_sub(depth)).ok()?;
        return Some((tag, None, &[]));
    }
    let content = reader.delimited().ok()?;
    Some((tag, schema.field(tag).map(|field| field.kind), content))
}

fn place(body: &[u8], content: &[u8]) -> usize {
    content.as_ptr().addr() - body.as_ptr().addr()
}

/// The length of a message afterwards. Notes every message within that changes, the outer before the inner.
fn measure(
    schema: &'static Message,
    message: &[u8],
    depth: u32,
    body: &[u8],
    changed: &mut Vec<Changed>,
) -> usize {
    let piece_len = |piece| match piece {
        Piece::Raw(raw) => raw.len(),
        Piece::Text(tag, text) => delimited_len(tag, replaced(text).map(str::len).sum()),
        Piece::Message(tag, inner, content, raw) => {
            let slot = changed.len();
            changed.push(Changed { at: place(body, content), len: 0 });
            let len = measure(inner, content, depth + 1, body, changed);
            if len == content.len()
                && changed.len() == slot + 1
                && !has_faulty_text(inner, content, depth + 1)
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

/// Says whether a text of the message itself changes. Its length may not: three bytes can become one U+FFFD, which has three.
fn has_faulty_text(schema: &'static Message, message: &[u8], depth: u32) -> bool {
    pieces(schema, message, depth).any(|piece| matches!(piece, Piece::Text(..)))
}

/// Writes the request.
struct Writer<'a> {
    body: &'a [u8],
    changed: Peekable<std::vec::IntoIter<Changed>>,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, schema: &'static Message, message: &[u8], depth: u32) {
        for piece in pieces(schema, message, depth) {
            match piece {
                Piece::Raw(raw) => self.out.extend_from_slice(raw),
                Piece::Text(tag, text) => {
                    put_delimited_head(&mut self.out, tag, replaced(text).map(str::len).sum());
                    replaced(text).for_each(|text| self.out.extend_from_slice(text.as_bytes()));
                }
                Piece::Message(tag, inner, content, raw) => {
                    let at = place(self.body, content);
                    match self.changed.next_if(|changed| changed.at == at) {
                        Some(Changed { len, .. }) => {
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

/// The text in pieces, with U+FFFD for each sequence that is not UTF-8.
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
    use crate::otlp::{Fault, Malformed, validate};

    /// A text to spoil.
    const MARK: &str = "to be spoilt";

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

    fn spoil(body: &mut [u8], with: &[u8]) {
        let at = body.windows(MARK.len()).position(|window| window == MARK.as_bytes()).unwrap();
        body[at..at + with.len()].copy_from_slice(with);
    }

    #[test]
    fn invalid_text_is_replaced_alone() {
        for (with, text) in [
            (&b"\xff"[..], "\u{fffd}o be spoilt"),
            (b"\xe2\x82", "\u{fffd} be spoilt"),
            // As long as before.
            (b"\xf0\x9f\x98", "\u{fffd}be spoilt"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}be spoilt"),
        ] {
            // Enough for the lengths around them to need another byte, before or after the repair.
            for count in [1, 6, 9, 10, 11, 200, 1_600] {
                let mut body = spans(count, MARK);
                spoil(&mut body, with);
                assert!(validate(Signal::Traces, &body).is_err());
                let fixed = replace_invalid_utf8(Signal::Traces, &body).unwrap();
                assert_eq!(validate(Signal::Traces, &fixed), Ok(count));
                assert_eq!(fixed, spans(count, text), "{count} spans");
            }
        }
    }

    #[test]
    fn a_binary_flood_is_not_replaced() {
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
        fn valid_requests_stay(request in request()) {
            prop_assert_eq!(replace_invalid_utf8(request.signal(), &request.encode()), None);
        }

        #[test]
        fn no_text_is_invalid_afterwards(request in request(), spoilt in prop::collection::vec(any::<Index>(), 1..8)) {
            let (signal, mut body) = (request.signal(), request.encode().to_vec());
            for at in spoilt {
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
                Err(Malformed { fault: Fault::NotUtf8, .. }) => {
                    let after = validate(signal, &fixed.unwrap());
                    prop_assert!(!matches!(after, Err(Malformed { fault: Fault::NotUtf8, .. })), "{:?}", after);
                }
                Err(_) => {}
            }
        }

        #[test]
        fn random_bytes_do_no_harm(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            if let Some(fixed) = replace_invalid_utf8(signal, &bytes) {
                prop_assert!(fixed.len() <= bytes.len() * 3 + 16);
            }
        }
    }
}
