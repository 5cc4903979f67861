//! Finds the spans in an encoded request that may represent an invocation.

use memchr::memmem;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::otlp::wire::{RawField, WireReader, WireType, fields};
use crate::trace_context::TraceContext;

/// The tags of `resource_spans` in the request, of `scope_spans` in it, and of `spans` in that.
const RESOURCE_SPANS: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SPANS: u32 = 2;
/// The tags of a span's fields.
const TRACE_ID: u32 = 1;
const SPAN_ID: u32 = 2;
const PARENT_SPAN_ID: u32 = 4;
const KIND: u32 = 6;
const START_TIME: u32 = 7;
const ATTRIBUTES: u32 = 9;
const FLAGS: u32 = 16;
/// The tag of `key` in an attribute.
const KEY: u32 = 1;
/// The span flags that say whether `is_remote` of the parent is known, and its value.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// The attributes in which Lambda instrumentations record the request id: the current one, and the one before
/// version 1.19 of the semantic conventions. `aws.request_id` is not among them: the AWS SDK's client spans use
/// it for the requests that they send.
const REQUEST_ID_KEYS: [&[u8]; 2] = [b"faas.invocation_id", b"faas.execution"];
/// Their common prefix.
const REQUEST_ID_PREFIX: &[u8] = b"faas.";
/// The encoded field [`KIND`] with the value SERVER, in the shortest form, which all encoders write.
const SERVER: [u8; 2] = [0x30, SpanKind::Server as u8];
/// The longest text accepted as a request id. Request ids are UUIDs; longer texts are not worth the memory.
const MAX_REQUEST_ID_LEN: usize = 128;

/// A span that may represent an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvocationSpan {
    /// Its trace and span id.
    pub context: TraceContext,
    /// The request id in its attributes.
    pub request_id: Option<String>,
    /// It handles a request from another process: its kind is SERVER, and its parent, if any, is not known to
    /// be in the same process.
    pub is_server_root: bool,
    /// The start time in nanoseconds since the epoch.
    pub start: u64,
}

/// The spans of a validated trace request that have a request id or are a server's root span, in their order.
pub fn invocation_spans(body: &[u8]) -> impl Iterator<Item = InvocationSpan> {
    // With a Lambda instrumentation, one request per invocation contains a request id; without one, none does.
    // Then attributes can be skipped, and in a request without a server span, all spans.
    let may_have_request_id = memmem::find_iter(body, REQUEST_ID_PREFIX)
        .any(|at| body.get(at..).is_some_and(|rest| REQUEST_ID_KEYS.iter().any(|key| rest.starts_with(key))));
    let may_have_match = may_have_request_id || memmem::find(body, &SERVER).is_some();
    fields_with_tag(if may_have_match { body } else { &[] }, RESOURCE_SPANS)
        .flat_map(|group| fields_with_tag(group.content, SCOPE_SPANS))
        .flat_map(|scope| fields_with_tag(scope.content, SPANS))
        .filter_map(move |span| read(span.content, may_have_request_id))
}

fn fields_with_tag(message: &[u8], tag: u32) -> impl Iterator<Item = RawField<'_>> {
    fields(message).filter(move |field| field.tag == tag)
}

/// Parses a span. `may_have_request_id` is false if no attribute needs to be read.
fn read(span: &[u8], may_have_request_id: bool) -> Option<InvocationSpan> {
    let (mut trace_id, mut span_id, mut has_parent) = (&[][..], &[][..], false);
    let (mut kind, mut flags, mut start) = (0, 0, 0);
    let mut request_id = None;
    for field in fields(span) {
        match field.tag {
            TRACE_ID => trace_id = field.content,
            SPAN_ID => span_id = field.content,
            PARENT_SPAN_ID => has_parent = !field.content.is_empty(),
            KIND => kind = number(&field),
            FLAGS => flags = number(&field),
            START_TIME => start = number(&field),
            ATTRIBUTES if may_have_request_id && request_id.is_none() => {
                request_id = request_id_in(field.content);
            }
            _ => {}
        }
    }
    let has_bit = |bit: u32| flags & u64::from(bit) != 0;
    let is_server_root =
        kind == SpanKind::Server as u64 && !(has_parent && has_bit(HAS_IS_REMOTE) && !has_bit(IS_REMOTE));
    if request_id.is_none() && !is_server_root {
        return None;
    }
    let trace_id: [u8; 16] = trace_id.try_into().ok()?;
    let span_id: [u8; 8] = span_id.try_into().ok()?;
    // Only sampled spans are exported.
    let context = TraceContext { trace_id, span_id, sampled: true };
    let has_ids = trace_id != [0; 16] && span_id != [0; 8];
    has_ids.then_some(InvocationSpan { context, request_id, is_server_root, start })
}

/// The value of a numeric field.
fn number(field: &RawField<'_>) -> u64 {
    let mut reader = WireReader::new(field.raw);
    let read = reader.key().and_then(|(_, wire_type)| match wire_type {
        WireType::Varint => reader.varint(),
        _ => reader
            .take(reader.remaining())
            .map(|bytes| bytes.iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))),
    });
    read.unwrap_or_default()
}

fn request_id_in(attribute: &[u8]) -> Option<String> {
    let key = fields_with_tag(attribute, KEY).last()?.content;
    if !REQUEST_ID_KEYS.contains(&key) {
        return None;
    }
    match KeyValue::decode(attribute).ok()?.value?.value? {
        Value::StringValue(request_id) if (1..=MAX_REQUEST_ID_LEN).contains(&request_id.len()) => {
            Some(request_id)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};
    use crate::signal::Signal;

    /// The same for a decoded span.
    fn reference(span: &Span) -> Option<InvocationSpan> {
        let mut keys = span
            .attributes
            .iter()
            .filter(|attribute| ["faas.invocation_id", "faas.execution"].contains(&attribute.key.as_str()));
        let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => None,
        };
        let request_id = keys.find_map(text);
        let has_local_parent = !span.parent_span_id.is_empty() && span.flags & 0x300 == 0x100;
        let is_server_root = span.kind() == SpanKind::Server && !has_local_parent;
        let context = TraceContext {
            trace_id: span.trace_id.as_slice().try_into().ok().filter(|id| *id != [0; 16])?,
            span_id: span.span_id.as_slice().try_into().ok().filter(|id| *id != [0; 8])?,
            sampled: true,
        };
        (request_id.is_some() || is_server_root).then_some(InvocationSpan {
            context,
            request_id,
            is_server_root,
            start: span.start_time_unix_nano,
        })
    }

    fn attribute(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, key_strindex: 0 }
    }

    proptest! {
        #[test]
        fn same_spans_are_found_as_by_decoding(
            request in request().prop_filter("spans", |request| request.signal() == Signal::Traces),
            keys in prop::collection::vec(
                prop::sample::select(vec!["faas.invocation_id", "faas.execution", "faas.trigger", "aws.request_id"]), 0..12
            ),
        ) {
            let mut request = request;
            let Request::Traces(traces) = &mut request else { unreachable!() };
            let scopes = traces.resource_spans.iter_mut().flat_map(|group| &mut group.scope_spans);
            let mut spans: Vec<_> = scopes.flat_map(|scope| &mut scope.spans).collect();
            for (at, key) in keys.iter().enumerate() {
                let which = at % spans.len().max(1);
                if let Some(span) = spans.get_mut(which) {
                    span.attributes.push(attribute(key, if at % 5 == 4 { "" } else { "request" }));
                }
            }
            let expected: Vec<_> = spans.iter().filter_map(|span| reference(span)).collect();
            let found: Vec<_> = invocation_spans(&request.encode()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn overlong_text_is_no_request_id(len in 0_usize..1_000) {
            let attributes = vec![attribute("faas.invocation_id", &"x".repeat(len))];
            let span = Span { trace_id: vec![1; 16], span_id: vec![1; 8], attributes, ..Span::default() };
            let is_found = (1..=MAX_REQUEST_ID_LEN).contains(&len);
            prop_assert_eq!(read(&span.encode_to_vec(), true).is_some(), is_found);
        }

        #[test]
        fn random_bytes_do_not_panic(bytes: Vec<u8>) {
            invocation_spans(&bytes).for_each(drop);
        }
    }
}
