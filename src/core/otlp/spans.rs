//! The finding of the spans in an encoded request that may stand for an invocation.

use memchr::memmem;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::otlp::wire::{Field, Reader, WireType, fields};
use crate::trace_context::TraceContext;

/// The tag of `resource_spans` in the request, of `scope_spans` in it, and of `spans` in that.
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
/// Of a span's flags: whether it is known where the parent is, and whether it is elsewhere.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// Under which an instrumentation of Lambda tells the request id: today, and before version 1.19 of the semantic
/// conventions. Not `aws.request_id`, by which the AWS SDK's client spans name the requests that they make.
const REQUEST_ID: [&[u8]; 2] = [b"faas.invocation_id", b"faas.execution"];
/// What both begin with.
const REQUEST_ID_START: &[u8] = b"faas.";
/// The field [`KIND`] that says SERVER, in as few bytes as it takes, which is how all encoders write it.
const SERVER: [u8; 2] = [0x30, SpanKind::Server as u8];
/// A longer text is no request id, which are UUIDs, and is not worth the memory.
const REQUEST_ID_MOST: usize = 128;

/// A span that may stand for an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvocationSpan {
    /// Its name.
    pub context: TraceContext,
    /// The request id that it tells.
    pub request_id: Option<String>,
    /// It is what a service did for a request from elsewhere: of the kind SERVER, and its parent, if it has one, not
    /// known to be of the same process.
    pub is_server_root: bool,
    /// When it started, in nanoseconds since the epoch.
    pub start: u64,
}

/// The spans of a validated trace request that tell a request id or are the root of what a server did, in their order.
pub fn invocation_spans(body: &[u8]) -> impl Iterator<Item = InvocationSpan> {
    // Where an instrumentation of Lambda is at work, one request of an invocation tells one, and elsewhere none does: then
    // no attribute need be looked at, and where nothing is a server's, no span.
    let may_tell = memmem::find_iter(body, REQUEST_ID_START)
        .any(|at| body.get(at..).is_some_and(|rest| REQUEST_ID.iter().any(|key| rest.starts_with(key))));
    let may_hold_one = may_tell || memmem::find(body, &SERVER).is_some();
    within(if may_hold_one { body } else { &[] }, RESOURCE_SPANS)
        .flat_map(|group| within(group.content, SCOPE_SPANS))
        .flat_map(|scope| within(scope.content, SPANS))
        .filter_map(move |span| read(span.content, may_tell))
}

fn within(message: &[u8], tag: u32) -> impl Iterator<Item = Field<'_>> {
    fields(message).filter(move |field| field.tag == tag)
}

/// `may_tell` is whether there may be a request id in it.
fn read(span: &[u8], may_tell: bool) -> Option<InvocationSpan> {
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
            ATTRIBUTES if may_tell && request_id.is_none() => request_id = has_own_request_id(field.content),
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
    // What is exported was recorded.
    let context = TraceContext { trace_id, span_id, sampled: true };
    let has_ids = trace_id != [0; 16] && span_id != [0; 8];
    has_ids.then_some(InvocationSpan { context, request_id, is_server_root, start })
}

/// The value of a field that holds a number.
fn number(field: &Field<'_>) -> u64 {
    let mut reader = Reader::new(field.raw);
    let read = reader.key().and_then(|(_, wire_type)| match wire_type {
        WireType::Varint => reader.varint(),
        _ => reader
            .take(reader.remaining())
            .map(|bytes| bytes.iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))),
    });
    read.unwrap_or_default()
}

fn has_own_request_id(attribute: &[u8]) -> Option<String> {
    let key = within(attribute, KEY).last()?.content;
    if !REQUEST_ID.contains(&key) {
        return None;
    }
    match KeyValue::decode(attribute).ok()?.value?.value? {
        Value::StringValue(request_id) if (1..=REQUEST_ID_MOST).contains(&request_id.len()) => {
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

    /// The same of a decoded span.
    fn reference(span: &Span) -> Option<InvocationSpan> {
        let mut told = span
            .attributes
            .iter()
            .filter(|attribute| ["faas.invocation_id", "faas.execution"].contains(&attribute.key.as_str()));
        let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => None,
        };
        let request_id = told.find_map(text);
        let parent_is_here = !span.parent_span_id.is_empty() && span.flags & 0x300 == 0x100;
        let is_server_root = span.kind() == SpanKind::Server && !parent_is_here;
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
        fn what_is_found_is_what_decoding_finds(
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
        fn a_text_too_long_for_a_request_id_is_none(len in 0_usize..1_000) {
            let attributes = vec![attribute("faas.invocation_id", &"x".repeat(len))];
            let span = Span { trace_id: vec![1; 16], span_id: vec![1; 8], attributes, ..Span::default() };
            let is_told = (1..=REQUEST_ID_MOST).contains(&len);
            prop_assert_eq!(read(&span.encode_to_vec(), true).is_some(), is_told);
        }

        #[test]
        fn random_bytes_do_no_harm(bytes: Vec<u8>) {
            invocation_spans(&bytes).for_each(drop);
        }
    }
}
