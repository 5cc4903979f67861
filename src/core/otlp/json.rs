//! Converts OTLP/JSON to protobuf, following the same table as validation, without building a tree of the JSON.
//!
//! Accepts what the OTLP specification allows, and what protobuf's JSON mapping leaves to the sender:
//! - field names in lower camel case or as spelled in the `.proto` files; unknown fields are skipped with all
//!   their content; `null` is an unset field;
//! - trace and span ids in hex of either case, other bytes in base64 of either alphabet, padded or not;
//! - integers as numbers or decimal strings, also with a fraction of zero or an exponent;
//! - other numbers as numbers, as strings, or as `NaN`, `Infinity` and `-Infinity`;
//! - enum values as numbers or, beyond OTLP, by name.
//!
//! An `intValue` beyond 64 bits becomes a `doubleValue`. The JavaScript SDK writes every number without a
//! fraction as `intValue`, even 1e21, and one attribute is no reason to refuse a request.
//!
//! Lone surrogates and bytes that are not UTF-8 are replaced by U+FFFD.
//!
//! The alternative was the serde support of the generated types. It accepts numbers in strings only for some
//! fields, and silently drops a metric's data or a point's value that it cannot parse.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use serde::de::{DeserializeSeed, Deserializer as _, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::otlp::schema::{FieldKind, FieldSchema, MessageSchema};
use crate::otlp::wire::{WireType, put_key, put_varint};
use crate::signal::Signal;

/// The reason that JSON cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not valid JSON, or not a request; the error names line, column and the expected type.
    #[error("not an OTLP/JSON request: {0}")]
    Invalid(serde_json::Error),
    /// The protobuf is too large. Numbers in an array can take four times the bytes of their text.
    #[error(
        "the request is larger than the limit of {limit} bytes once converted to protobuf; send smaller batches"
    )]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// Converts an OTLP/JSON request to a protobuf request of at most `limit` bytes, which is not validated yet.
pub fn json_to_protobuf(signal: Signal, body: &[u8], limit: usize) -> Result<Vec<u8>, JsonError> {
    match convert(signal, body, limit) {
        Err(JsonError::Invalid(error)) => match replace_invalid_unicode(body) {
            Some(body) => convert(signal, &body, limit),
            None => Err(JsonError::Invalid(error)),
        },
        answer => answer,
    }
}

fn convert(signal: Signal, body: &[u8], limit: usize) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json
        .deserialize_map(MessageVisitor { schema: MessageSchema::of(signal), limit, out: &mut out })
        .and_then(|()| json.end());
    match read {
        _ if out.len() > limit => Err(JsonError::TooLarge { limit }),
        Ok(()) => Ok(out),
        Err(error) => Err(JsonError::Invalid(error)),
    }
}

/// Replaces lone surrogates and bytes that are not UTF-8 by U+FFFD. Returns `None` if there are none.
///
/// It does not track strings: outside a string, a backslash is an error anyway.
fn replace_invalid_unicode(body: &[u8]) -> Option<Vec<u8>> {
    let mut text = match String::from_utf8_lossy(body) {
        Cow::Owned(text) => Some(text.into_bytes()),
        Cow::Borrowed(_) => None,
    };
    let mut at = 0;
    while let Some(found) = memchr(b'\\', text.as_deref().unwrap_or(body).get(at..)?) {
        at += found;
        let escape = text.as_deref().unwrap_or(body).get(at..)?;
        match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
            (Some(_), _) => {
                let text = text.get_or_insert_with(|| body.to_vec());
                text.get_mut(at..at + 6)?.copy_from_slice(br"\ufffd");
                at += 6;
            }
            // The escaped character may be a backslash itself.
            (None, _) => at += 2,
        }
    }
    text
}

/// The escaped surrogate at the start of the text.
fn surrogate(text: &[u8]) -> Option<u16> {
    let digits = text.get(..6)?.strip_prefix(br"\u")?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    matches!(unit, 0xd800..=0xdfff).then_some(unit)
}

/// Parses an object as a message and writes its fields.
struct MessageVisitor<'a> {
    schema: &'static MessageSchema,
    limit: usize,
    out: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for MessageVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed { schema: self.schema })? {
            match field {
                Some((tag, field)) => {
                    let (limit, out) = (self.limit, &mut *self.out);
                    map.next_value_seed(FieldValue {
                        tag,
                        field,
                        container: JsonContainer::Message,
                        limit,
                        out,
                    })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Parses a key to a field of the message, if it has one.
struct KeySeed {
    schema: &'static MessageSchema,
}

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<(u32, &'static FieldSchema)>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<(u32, &'static FieldSchema)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.schema.field_in_json(key))
    }
}

/// Parses a field's value and writes it.
struct FieldValue<'a> {
    tag: u32,
    field: &'static FieldSchema,
    container: JsonContainer,
    /// The maximum size of `out`, in bytes.
    limit: usize,
    out: &'a mut Vec<u8>,
}

/// The JSON container of a value, which decides how the value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum JsonContainer {
    /// An object: written as key and value; may itself be an array of values.
    Message,
    /// An array: written as key and value.
    Array,
    /// An array of numbers: only the value is written, after one key for all.
    Packed,
}

impl<'de> DeserializeSeed<'de> for FieldValue<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self.field.kind {
            _ if self.expects_array() => "an array",
            FieldKind::Message(_) => "an object",
            FieldKind::String => "text",
            FieldKind::Bytes => "base64",
            FieldKind::Id(_) => "hex digits",
            FieldKind::Bool => "true or false",
            FieldKind::Double => "a number",
            _ => "a whole number",
        };
        write!(f, "{expected} for {}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        // An array element must be written, and an attribute that is null is one without a value.
        match self.container {
            JsonContainer::Message => Ok(()),
            JsonContainer::Array if matches!(self.field.kind, FieldKind::Message(_)) => {
                let mut value = self;
                value.delimited(&[]);
                Ok(())
            }
            _ => Err(E::invalid_type(serde::de::Unexpected::Unit, &self)),
        }
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, FieldKind::Bool) || self.expects_array() {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self));
        }
        self.varint(u64::from(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if self.expects_array() {
            return Err(E::invalid_type(serde::de::Unexpected::Unsigned(value), &self));
        }
        self.integer(i128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if self.expects_array() {
            return Err(E::invalid_type(serde::de::Unexpected::Signed(value), &self));
        }
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if self.expects_array() {
            return Err(E::invalid_type(serde::de::Unexpected::Float(value), &self));
        }
        self.number(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.expects_array() {
            return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self));
        }
        self.text(text)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let FieldKind::Message(schema) = self.field.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        if self.expects_array() {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        self.key(WireType::Delimited);
        let start = self.out.len();
        MessageVisitor { schema, limit: self.limit, out: self.out }.visit_map(map)?;
        put_len_before(self.out, start);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { tag, field, container, limit, out } = self;
        if !field.repeated || container != JsonContainer::Message {
            let value = FieldValue { tag, field, container, limit, out };
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &value));
        }
        let is_packed = !matches!(field.kind, FieldKind::Message(_) | FieldKind::String);
        let container = if is_packed { JsonContainer::Packed } else { JsonContainer::Array };
        if is_packed {
            put_key(out, tag, WireType::Delimited);
        }
        let start = out.len();
        while seq.next_element_seed(FieldValue { tag, field, container, limit, out })?.is_some() {
            if out.len() > limit {
                return Err(A::Error::custom("larger than the limit"));
            }
        }
        if is_packed {
            put_len_before(out, start);
        }
        Ok(())
    }
}

impl FieldValue<'_> {
    /// Returns true if only an array is valid here.
    fn expects_array(&self) -> bool {
        self.field.repeated && self.container == JsonContainer::Message
    }

    fn key(&mut self, wire_type: WireType) {
        if self.container != JsonContainer::Packed {
            put_key(self.out, self.tag, wire_type);
        }
    }

    fn varint(&mut self, value: u64) {
        self.key(WireType::Varint);
        put_varint(self.out, value);
    }

    fn fixed64(&mut self, value: u64) {
        self.key(WireType::Fixed64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn delimited(&mut self, content: &[u8]) {
        self.key(WireType::Delimited);
        put_varint(self.out, content.len() as u64);
        self.out.extend_from_slice(content);
    }

    fn integer<E: Error>(mut self, value: i128) -> Result<(), E> {
        match self.field.kind {
            FieldKind::Double => self.fixed64(to_double(value).to_bits()),
            FieldKind::Fixed64 => self.fixed64(in_range(value)?),
            FieldKind::Sfixed64 => self.fixed64(in_range::<i64, E>(value)?.cast_unsigned()),
            FieldKind::Fixed32 => {
                let value: u32 = in_range(value)?;
                self.key(WireType::Fixed32);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            FieldKind::Uint32 => self.varint(u64::from(in_range::<u32, E>(value)?)),
            FieldKind::Uint64 => self.varint(in_range(value)?),
            FieldKind::Int32 | FieldKind::Enum(_) => {
                self.varint(i64::from(in_range::<i32, E>(value)?).cast_unsigned());
            }
            FieldKind::Sint32 => {
                let value: i32 = in_range(value)?;
                self.varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
            }
            FieldKind::Int64 => match i64::try_from(value) {
                Ok(value) => self.varint(value.cast_unsigned()),
                Err(_) => self.double_value(to_double(value)),
            },
            _ => return Err(E::invalid_type(serde::de::Unexpected::Other("number"), &self)),
        }
        Ok(())
    }

    fn number<E: Error>(mut self, value: f64) -> Result<(), E> {
        match (self.field.kind, as_integer(value)) {
            (FieldKind::Double, _) => self.fixed64(value.to_bits()),
            (_, Some(value)) => return self.integer(value),
            (FieldKind::Int64, None) if value.is_finite() && value.fract() == 0.0 => self.double_value(value),
            _ => return Err(E::invalid_value(serde::de::Unexpected::Float(value), &self)),
        }
        Ok(())
    }

    /// Writes an attribute's `int_value` as its `double_value`, which is the next field.
    fn double_value(&mut self, value: f64) {
        self.tag += 1;
        self.fixed64(value.to_bits());
    }

    fn text<E: Error>(mut self, text: &str) -> Result<(), E> {
        let unexpected = serde::de::Unexpected::Str(text);
        match self.field.kind {
            FieldKind::String => self.delimited(text.as_bytes()),
            FieldKind::Bytes => match base64(text) {
                Some(bytes) => self.delimited(&bytes),
                None => return Err(E::invalid_value(unexpected, &self)),
            },
            FieldKind::Id(_) => match hex(text) {
                Some(bytes) => self.delimited(&bytes),
                None => return Err(E::invalid_value(unexpected, &self)),
            },
            FieldKind::Bool | FieldKind::Message(_) | FieldKind::Unknown => {
                return Err(E::invalid_type(unexpected, &self));
            }
            FieldKind::Enum(by_name) if let Some(value) = by_name(text) => {
                return self.integer(i128::from(value));
            }
            _ => {
                return match (text.parse(), text) {
                    (Ok(value), _) => self.integer(value),
                    (_, "NaN") => self.number(f64::NAN),
                    (_, "Infinity") => self.number(f64::INFINITY),
                    (_, "-Infinity") => self.number(f64::NEG_INFINITY),
                    _ => match text.parse::<f64>() {
                        // Rust also parses `inf` and `nan`, which are not in the mapping.
                        Ok(value) if value.is_finite() => self.number(value),
                        _ => Err(E::invalid_value(unexpected, &self)),
                    },
                };
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "the field is a double, or nothing else can hold the number")]
fn to_double(value: i128) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "it is an integer, and below the limit it fits")]
fn as_integer(value: f64) -> Option<i128> {
    const LIMIT: f64 = 1e38;
    (value.fract() == 0.0 && value.abs() < LIMIT).then_some(value as i128)
}

fn in_range<T: TryFrom<i128>, E: Error>(value: i128) -> Result<T, E> {
    T::try_from(value).map_err(|_| E::custom(format_args!("the number {value} is out of range")))
}

/// Inserts the length of everything written since `start` before it.
fn put_len_before(out: &mut Vec<u8>, start: usize) {
    let mut len = Vec::new();
    put_varint(&mut len, (out.len() - start) as u64);
    out.splice(start..start, len);
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: char| u8::try_from(digit.to_digit(16)?).ok();
    let digits = text.chars().map(digit).collect::<Option<Vec<_>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    // Bits of earlier digits are shifted out at the top.
    let (mut bits, mut width) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        width += 6;
        if width >= 8 {
            width -= 8;
            let [.., byte] = (bits >> width).to_be_bytes();
            bytes.push(byte);
        }
    }
    // A last group of one digit is not a whole byte.
    (width < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{Metric, number_data_point};
    use opentelemetry_proto::tonic::trace::v1::Span;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};
    use crate::otlp::validate;

    const LIMIT: usize = 20 << 20;

    fn convert_and_decode(signal: Signal, json: &str) -> Request {
        let bytes = json_to_protobuf(signal, json.as_bytes(), LIMIT).unwrap();
        let request = Request::decode(signal, &bytes).unwrap();
        assert_eq!(validate(signal, &bytes), Ok(request.flatten().len()));
        request
    }

    fn log_record(json: &str) -> LogRecord {
        let Request::Logs(request) = convert_and_decode(
            Signal::Logs,
            &format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{json}]}}]}}]}}"#),
        ) else {
            unreachable!()
        };
        request.resource_logs[0].scope_logs[0].log_records[0].clone()
    }

    fn span(json: &str) -> Span {
        let Request::Traces(request) = convert_and_decode(
            Signal::Traces,
            &format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{json}]}}]}}]}}"#),
        ) else {
            unreachable!()
        };
        request.resource_spans[0].scope_spans[0].spans[0].clone()
    }

    fn metric(json: &str) -> Metric {
        let Request::Metrics(request) = convert_and_decode(
            Signal::Metrics,
            &format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{json}]}}]}}]}}"#),
        ) else {
            unreachable!()
        };
        request.resource_metrics[0].scope_metrics[0].metrics[0].clone()
    }

    fn value(json: &str) -> Option<Any> {
        log_record(&format!(r#"{{"body":{json}}}"#)).body.unwrap().value
    }

    fn string(value: &str) -> AnyValue {
        AnyValue { value: Some(Any::StringValue(value.to_owned())) }
    }

    fn refusal(json: &str) -> String {
        match json_to_protobuf(Signal::Traces, json.as_bytes(), LIMIT) {
            Err(JsonError::Invalid(error)) => error.to_string(),
            answer => panic!("{answer:?}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn json_of_generated_types_is_converted(request in request()) {
            let bytes = json_to_protobuf(request.signal(), &request.to_json(), LIMIT).unwrap();
            prop_assert_eq!(Request::decode(request.signal(), &bytes).unwrap(), request);
        }

        #[test]
        fn random_bytes_do_not_panic(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            let _ = json_to_protobuf(signal, &bytes, LIMIT);
        }

        #[test]
        fn base64_of_either_alphabet_is_decoded(bytes: Vec<u8>) {
            let AnyValue { value } = AnyValue { value: Some(Any::BytesValue(bytes.clone())) };
            let json = serde_json::to_value(AnyValue { value }).unwrap();
            let padded = json["bytesValue"].as_str().unwrap();
            let url = padded.replace('+', "-").replace('/', "_");
            for text in [padded, padded.trim_end_matches('='), &url, url.trim_end_matches('=')] {
                prop_assert_eq!(base64(text), Some(bytes.clone()));
            }
        }
    }

    #[test]
    fn spans_of_the_javascript_sdk_are_converted() {
        let Request::Traces(request) = convert_and_decode(
            Signal::Traces,
            r#"{"resourceSpans":[{"resource":{"attributes":[
                    {"key":"service.name","value":{"stringValue":"checkout"}},
                    {"key":"process.pid","value":{"intValue":8}},
                    {"key":"process.command_args","value":{"arrayValue":{"values":[{"stringValue":"node"},{"stringValue":"x.js"}]}}}],
                "droppedAttributesCount":0},
                "scopeSpans":[{"scope":{"name":"http","version":"0.52.1"},"spans":[{
                    "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173",
                    "name":"GET /cart","kind":2,
                    "startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000123",
                    "attributes":[
                        {"key":"http.status_code","value":{"intValue":200}},
                        {"key":"ratio","value":{"doubleValue":0.25}},
                        {"key":"ok","value":{"boolValue":true}},
                        {"key":"empty","value":{}},
                        {"key":"raw","value":{"bytesValue":"AQID"}},
                        {"key":"map","value":{"kvlistValue":{"values":[{"key":"a","value":{"stringValue":"b"}}]}}}],
                    "droppedAttributesCount":0,
                    "events":[{"attributes":[{"key":"exception.type","value":{"stringValue":"Error"}}],
                        "name":"exception","timeUnixNano":"1544712660300000000","droppedAttributesCount":0}],
                    "droppedEventsCount":0,
                    "status":{"code":2,"message":"boom"},
                    "links":[{"attributes":[],"spanId":"eee19b7ec3c1b175","traceId":"5b8efff798038103d269b633813fc60d",
                        "traceState":"a=b","droppedAttributesCount":0,"flags":257}],
                    "droppedLinksCount":0,"flags":257}]}]}]}"#,
        ) else {
            unreachable!()
        };
        let group = &request.resource_spans[0];
        assert_eq!(group.resource.as_ref().unwrap().attributes.len(), 3);
        let scope = &group.scope_spans[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "http");
        let span = &scope.spans[0];
        assert_eq!(span.trace_id[..3], [0x5b, 0x8e, 0xff]);
        assert_eq!(span.parent_span_id, [0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x73]);
        assert_eq!((span.kind, span.flags), (2, 257));
        assert_eq!(span.end_time_unix_nano, 1_544_712_661_000_000_123);
        assert_eq!(span.events[0].time_unix_nano, 1_544_712_660_300_000_000);
        assert_eq!(span.links[0].trace_state, "a=b");
        assert_eq!(span.status.as_ref().unwrap().message, "boom");
        let values: Vec<_> =
            span.attributes.iter().map(|attribute| attribute.value.as_ref().unwrap().value.clone()).collect();
        assert_eq!(
            values[..5],
            [
                Some(Any::IntValue(200)),
                Some(Any::DoubleValue(0.25)),
                Some(Any::BoolValue(true)),
                None,
                Some(Any::BytesValue(vec![1, 2, 3])),
            ]
        );
        let Some(Any::KvlistValue(map)) = &values[5] else { unreachable!() };
        assert_eq!(map.values, [KeyValue { key: "a".to_owned(), value: Some(string("b")), key_strindex: 0 }]);
    }

    #[test]
    fn log_records_of_the_javascript_sdk_are_converted() {
        let record = log_record(
            r#"{"timeUnixNano":"1680253513123241635","observedTimeUnixNano":"1680253513123241635",
                "severityNumber":9,"severityText":"INFO","body":{"stringValue":"ordered"},"eventName":"order",
                "attributes":[{"key":"user","value":{"intValue":42}}],"droppedAttributesCount":0,"flags":1,
                "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}"#,
        );
        assert_eq!(record.time_unix_nano, 1_680_253_513_123_241_635);
        assert_eq!((record.severity_number, record.severity_text.as_str()), (9, "INFO"));
        assert_eq!(record.body, Some(string("ordered")));
        assert_eq!(record.event_name, "order");
        assert_eq!((record.flags, record.trace_id.len(), record.span_id.len()), (1, 16, 8));
    }

    #[test]
    fn metrics_of_the_javascript_sdk_are_converted() {
        let point = r#""attributes":[{"key":"route","value":{"stringValue":"/"}}],
            "startTimeUnixNano":"1592402861748000000","timeUnixNano":"1592402861748000001""#;
        let sum = metric(&format!(
            r#"{{"name":"requests","description":"all","unit":"1","sum":{{"aggregationTemporality":2,"isMonotonic":true,
                "dataPoints":[{{{point},"asInt":10}},{{{point},"asDouble":5}}]}}}}"#
        ));
        assert_eq!(
            (sum.name.as_str(), sum.description.as_str(), sum.unit.as_str()),
            ("requests", "all", "1")
        );
        let Some(Data::Sum(sum)) = sum.data else { unreachable!() };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality, 2);
        assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(10)));
        assert_eq!(sum.data_points[1].value, Some(number_data_point::Value::AsDouble(5.0)));
        assert_eq!(sum.data_points[1].time_unix_nano, 1_592_402_861_748_000_001);

        let gauge =
            metric(&format!(r#"{{"name":"g","gauge":{{"dataPoints":[{{{point},"asDouble":1.5}}]}}}}"#));
        assert!(matches!(gauge.data, Some(Data::Gauge(gauge)) if gauge.data_points.len() == 1));

        let histogram = metric(&format!(
            r#"{{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[{{{point},
                "bucketCounts":[0,"2",1],"explicitBounds":[0,10.5],"count":3,"sum":12,"min":-1,"max":11.25}}]}}}}"#
        ));
        let Some(Data::Histogram(histogram)) = histogram.data else { unreachable!() };
        let only = &histogram.data_points[0];
        assert_eq!((only.count, only.sum, only.min, only.max), (3, Some(12.0), Some(-1.0), Some(11.25)));
        assert_eq!((&only.bucket_counts[..], &only.explicit_bounds[..]), (&[0, 2, 1][..], &[0.0, 10.5][..]));

        let exponential = metric(&format!(
            r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{{{point},"count":"3",
                "sum":3,"scale":-3,"zeroCount":"1","positive":{{"offset":-2,"bucketCounts":["1",1]}},
                "negative":{{"offset":0,"bucketCounts":[]}}}}]}}}}"#
        ));
        let Some(Data::ExponentialHistogram(exponential)) = exponential.data else { unreachable!() };
        let only = &exponential.data_points[0];
        assert_eq!((only.scale, only.zero_count), (-3, 1));
        let positive = only.positive.as_ref().unwrap();
        assert_eq!((positive.offset, &positive.bucket_counts[..]), (-2, &[1, 1][..]));

        let summary = metric(&format!(
            r#"{{"name":"s","summary":{{"dataPoints":[{{{point},"count":2,"sum":3.5,
                "quantileValues":[{{"quantile":0.5,"value":"NaN"}}]}}]}}}}"#
        ));
        let Some(Data::Summary(summary)) = summary.data else { unreachable!() };
        assert!(summary.data_points[0].quantile_values[0].value.is_nan());
    }

    #[test]
    fn optional_encodings_are_accepted() {
        assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#), Some(Any::IntValue(i64::MIN)));
        assert_eq!(value(r#"{"intValue":1e3}"#), Some(Any::IntValue(1000)));
        assert_eq!(value(r#"{"intValue":"1.5e1"}"#), Some(Any::IntValue(15)));
        assert_eq!(value(r#"{"doubleValue":"-Infinity"}"#), Some(Any::DoubleValue(f64::NEG_INFINITY)));
        assert_eq!(value(r#"{"doubleValue":"2.5"}"#), Some(Any::DoubleValue(2.5)));
        assert_eq!(value(r#"{"doubleValue":3}"#), Some(Any::DoubleValue(3.0)));
        assert_eq!(value(r#"{"doubleValue":null}"#), None);
        assert_eq!(value(r#"{"futureValue":{"a":[1]},"boolValue":false}"#), Some(Any::BoolValue(false)));
        assert!(
            matches!(value(r#"{"arrayValue":{}}"#), Some(Any::ArrayValue(array)) if array.values.is_empty())
        );
        assert!(
            matches!(value(r#"{"arrayValue":{"values":[null]}}"#), Some(Any::ArrayValue(array)) if array.values.len() == 1)
        );
        assert_eq!(span(r#"{"attributes":[{"value":{}}],"events":null}"#).attributes[0].key, "");
        assert_eq!(span(r#"{"kind":"SPAN_KIND_SERVER","startTimeUnixNano":12}"#).kind, 2);
        assert_eq!(span(r#"{"traceId":"","parentSpanId":""}"#).parent_span_id, b"");
        assert_eq!(convert_and_decode(Signal::Traces, "{}").flatten().len(), 0);
    }

    #[test]
    fn proto_file_names_are_accepted() {
        let Request::Traces(request) = convert_and_decode(
            Signal::Traces,
            r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"5b8efff798038103d269b633813fc60c",
                "start_time_unix_nano":"12","kind":2,"attributes":[{"key":"a","value":{"int_value":"5"}}]}]}]}]}"#,
        ) else {
            unreachable!()
        };
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.trace_id.len(), span.start_time_unix_nano, span.kind), (16, 12, 2));
        assert_eq!(span.attributes[0].value.as_ref().unwrap().value, Some(Any::IntValue(5)));
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        for (text, read) in [
            (r"a\ud800", "a\u{fffd}"),
            (r"\uDC00\ud83d\ude00b", "\u{fffd}\u{1f600}b"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\\ud800\udfff", "\\ud800\u{fffd}"),
        ] {
            assert_eq!(span(&format!(r#"{{"name":"{text}"}}"#)).name, read);
        }
        assert_eq!(replace_invalid_unicode(br#"{"name":"\ud83d\ude00 \\ud800"}"#), None);
        let body = b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\\ud800\",\"scopeSpans\":[{\"spans\":[{}]}]}]}";
        let bytes = json_to_protobuf(Signal::Traces, body, LIMIT).unwrap();
        let Request::Traces(request) = Request::decode(Signal::Traces, &bytes).unwrap() else {
            unreachable!()
        };
        assert_eq!(request.resource_spans[0].schema_url, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn conversion_stops_at_its_limit() {
        let numbers = "0,".repeat(10_000);
        let json = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[
                {{"explicitBounds":[{numbers}0]}}]}}}}]}}]}}]}}"#
        );
        let converted = json_to_protobuf(Signal::Metrics, json.as_bytes(), LIMIT).unwrap();
        assert!(converted.len() > 80_000 && converted.len() <= 4 * json.len());
        let refused = json_to_protobuf(Signal::Metrics, json.as_bytes(), 50_000);
        assert!(matches!(refused, Err(JsonError::TooLarge { limit: 50_000 })), "{refused:?}");
    }

    #[test]
    fn int_value_beyond_64_bits_becomes_double() {
        assert_eq!(value(r#"{"intValue":1e+21}"#), Some(Any::DoubleValue(1e21)));
        assert_eq!(
            value(r#"{"intValue":18446744073709552000}"#),
            Some(Any::DoubleValue(18_446_744_073_709_552_000.0))
        );
        assert_eq!(value(r#"{"intValue":1.7976931348623157e+308}"#), Some(Any::DoubleValue(f64::MAX)));
    }

    #[test]
    fn invalid_json_is_refused_with_its_position() {
        assert_eq!(refusal(""), "EOF while parsing a value at line 1 column 0");
        assert_eq!(refusal("[]"), "invalid type: sequence, expected an object at line 1 column 0");
        assert_eq!(refusal("{} {}"), "trailing characters at line 1 column 4");
        assert_eq!(
            refusal(r#"{"resourceSpans":{}}"#),
            "invalid type: map, expected an array for resource_spans at line 1 column 19"
        );
        let in_span = |field: &str| {
            refusal(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{field}}}]}}]}}]}}"#))
        };
        assert_eq!(
            in_span(r#""traceId":"xyz""#),
            "invalid value: string \"xyz\", expected hex digits for trace_id at line 1 column 59"
        );
        for field in [
            r#""startTimeUnixNano":-1"#,
            r#""startTimeUnixNano":"soon""#,
            r#""startTimeUnixNano":1.5"#,
            r#""startTimeUnixNano":"nan""#,
            r#""startTimeUnixNano":"NaN""#,
            r#""droppedEventsCount":4294967296"#,
            r#""kind":"SERVER""#,
            r#""kind":[1]"#,
            r#""name":5"#,
            r#""name":true"#,
            r#""status":2"#,
            r#""status":"ok""#,
            r#""attributes":[1]"#,
            r#""attributes":[{"value":{"boolValue":"true"}}]"#,
            r#""attributes":[{"value":{"bytesValue":"A"}}]"#,
            r#""attributes":[{"value":{"intValue":1.5}}]"#,
        ] {
            in_span(field);
        }
    }
}
