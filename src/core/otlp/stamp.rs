//! Writes a trace context into encoded log records that have none.

use bytes::Bytes;

use crate::otlp::wire::{RawField, WireType, delimited_len, fields, put_delimited_head, put_key};
use crate::trace_context::TraceContext;

/// The tags of `resource_logs` in the request, of `scope_logs` in it, and of `log_records` in that.
const LEVELS: [u32; 3] = [1, 2, 2];
/// The tags of a log record's fields.
const FLAGS: u32 = 8;
const TRACE_ID: u32 = 9;
const SPAN_ID: u32 = 10;
/// The encoded length of the three fields.
const STAMP_LEN: usize = (1 + 4) + (2 + 16) + (2 + 8);

/// The most bytes by which a request grows per record: the fields, and one byte in the length of each message
/// around them.
pub const MAX_STAMP_LEN: usize = STAMP_LEN + LEVELS.len();

/// Writes `context` into every record of a validated logs request that has no trace id. All else stays byte for
/// byte. If there is no such record, returns the request itself, not a copy.
pub fn stamp(body: &Bytes, context: &TraceContext) -> Bytes {
    let len = stamped_len(body, &LEVELS);
    if len == body.len() {
        return body.clone();
    }
    let mut out = Vec::with_capacity(len);
    put_stamped(&mut out, body, &LEVELS, &encoded(context));
    Bytes::from(out)
}

/// Returns true if any record of a validated logs request has a trace id.
pub fn has_trace_ids(body: &[u8]) -> bool {
    any_has_trace_id(body, &LEVELS)
}

fn any_has_trace_id(message: &[u8], levels: &[u32]) -> bool {
    match levels.split_first() {
        Some((tag, inner)) => {
            fields(message).any(|field| field.tag == *tag && any_has_trace_id(field.content, inner))
        }
        None => has_trace_id(message),
    }
}

fn encoded(context: &TraceContext) -> Vec<u8> {
    let TraceContext { trace_id, span_id, sampled } = context;
    let mut stamp = Vec::with_capacity(STAMP_LEN);
    put_key(&mut stamp, FLAGS, WireType::Fixed32);
    stamp.extend(u32::from(*sampled).to_le_bytes());
    put_delimited_head(&mut stamp, TRACE_ID, trace_id.len());
    stamp.extend(trace_id);
    put_delimited_head(&mut stamp, SPAN_ID, span_id.len());
    stamp.extend(span_id);
    stamp
}

/// The length of a message after stamping. Without levels, the message is a record.
fn stamped_len(message: &[u8], levels: &[u32]) -> usize {
    let Some((tag, inner)) = levels.split_first() else {
        return message.len() + if has_trace_id(message) { 0 } else { STAMP_LEN };
    };
    let len = |field: RawField<'_>| {
        if field.tag == *tag { field_len(&field, stamped_len(field.content, inner)) } else { field.raw.len() }
    };
    fields(message).map(len).sum()
}

/// The length of a field with content of `len` bytes. Unchanged content is copied along with its length, even
/// if the length is not encoded in the shortest form.
fn field_len(field: &RawField<'_>, len: usize) -> usize {
    if len == field.content.len() { field.raw.len() } else { delimited_len(field.tag, len) }
}

fn put_stamped(out: &mut Vec<u8>, message: &[u8], levels: &[u32], stamp: &[u8]) {
    let Some((tag, inner)) = levels.split_first() else {
        out.extend_from_slice(message);
        // Of a repeated field the last one counts, so an empty id may stay.
        out.extend_from_slice(stamp);
        return;
    };
    for field in fields(message) {
        let len = if field.tag == *tag { stamped_len(field.content, inner) } else { field.content.len() };
        if len == field.content.len() {
            out.extend_from_slice(field.raw);
        } else {
            put_delimited_head(out, *tag, len);
            put_stamped(out, field.content, inner, stamp);
        }
    }
}

fn has_trace_id(record: &[u8]) -> bool {
    fields(record).filter(|field| field.tag == TRACE_ID).last().is_some_and(|field| !field.content.is_empty())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};
    use crate::signal::Signal;

    const CONTEXT: TraceContext = TraceContext { trace_id: [7; 16], span_id: [8; 8], sampled: true };

    fn records(request: &mut Request) -> Vec<&mut LogRecord> {
        let Request::Logs(request) = request else { return Vec::new() };
        let scopes = request.resource_logs.iter_mut().flat_map(|group| &mut group.scope_logs);
        scopes.flat_map(|scope| &mut scope.log_records).collect()
    }

    proptest! {
        #[test]
        fn stamp_equals_decode_edit_encode(
            request in request().prop_filter("logs", |request| request.signal() == Signal::Logs),
            sampled: bool,
        ) {
            let body = request.encode();
            let context = TraceContext { sampled, ..CONTEXT };
            let stamped = stamp(&body, &context);
            let mut reference = request;
            let mut without_trace = 0;
            let records = records(&mut reference);
            let all = records.len();
            for record in records.into_iter().filter(|record| record.trace_id.is_empty()) {
                record.trace_id = context.trace_id.to_vec();
                record.span_id = context.span_id.to_vec();
                record.flags = u32::from(sampled);
                without_trace += 1;
            }
            prop_assert_eq!(Request::decode(Signal::Logs, &stamped).unwrap(), reference);
            prop_assert!(stamped.len() <= body.len() + all * MAX_STAMP_LEN);
            prop_assert_eq!(stamped.as_ptr() == body.as_ptr(), without_trace == 0);
            prop_assert_eq!(stamp(&stamped, &CONTEXT).as_ptr(), stamped.as_ptr(), "stamped twice");
        }

        #[test]
        fn random_bytes_do_not_panic(bytes: Vec<u8>) {
            stamp(&Bytes::from(bytes), &CONTEXT);
        }
    }

    #[test]
    fn unknown_fields_and_long_lengths_stay() {
        // Tag 15, a number, at each level; the length of the second group, which has no record, in two bytes.
        let unknown = [0x78, 0x07];
        let record = [&[0x12, 0x04][..], &unknown, &unknown].concat();
        let scope = [&[0x12, 0x08][..], &record, &unknown].concat();
        let group = [&[0x0a, 0x0a][..], &scope].concat();
        let long = [0x0a, 0x82, 0x00, 0x78, 0x07];
        let body = [&group[..], &long, &unknown].concat();
        let len = u8::try_from(STAMP_LEN).expect("short");
        let expected = [
            &[0x0a, 10 + len, 0x12, 8 + len, 0x12, 4 + len][..],
            &unknown,
            &unknown,
            &encoded(&CONTEXT),
            &unknown,
            &long,
            &unknown,
        ]
        .concat();
        assert_eq!(stamp(&Bytes::from(body), &CONTEXT), expected);
    }
}
