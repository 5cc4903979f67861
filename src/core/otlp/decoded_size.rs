//! Estimates the memory of a request once it is decoded, without decoding it.
//!
//! An empty span takes two bytes on the wire and hundreds in memory, so check this size before decoding received data.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Link;

use crate::otlp::schema::{FieldKind, MessageRole, MessageSchema, TAG_COUNT};
use crate::otlp::wire::{DEPTH_LIMIT, RawField, fields};
use crate::signal::Signal;

/// A vector with any element has room for this many.
const MIN_CAPACITY: usize = 4;
/// The memory of a number in a vector that may have grown to twice its length; on the wire it may be one byte.
const PER_PACKED_BYTE: usize = 2 * size_of::<u64>();

/// An upper bound on the memory of a validated request of this signal once prost has decoded it. Reads each byte once.
pub fn decoded_size(signal: Signal, body: &[u8]) -> usize {
    of_message(MessageSchema::of(signal), body, DEPTH_LIMIT)
}

/// The memory of a message outside its own struct.
fn of_message(schema: &MessageSchema, body: &[u8], depth: u32) -> usize {
    let Some(deeper) = depth.checked_sub(1) else { return usize::MAX };
    let mut counts = [0_usize; TAG_COUNT];
    let mut size = 0_usize;
    for RawField { tag, raw, content } in fields(body) {
        let Some(field) = schema.field(tag) else { continue };
        size = size.saturating_add(match field.kind {
            FieldKind::Message(inner) => {
                if let Some(count) = counts.get_mut(tag as usize).filter(|_| field.repeated) {
                    *count += 1;
                }
                of_message(inner, content, deeper)
            }
            FieldKind::String | FieldKind::Bytes | FieldKind::Id(_) if field.repeated => {
                content.len() + MIN_CAPACITY * size_of::<String>()
            }
            FieldKind::String | FieldKind::Bytes | FieldKind::Id(_) => content.len(),
            _ if field.repeated => raw.len() * PER_PACKED_BYTE,
            _ => 0,
        });
    }
    for (tag, count) in (0..).zip(counts).filter(|(_, count)| *count > 0) {
        let Some(FieldKind::Message(inner)) = schema.field(tag).map(|field| field.kind) else { continue };
        let capacity = count.next_power_of_two().max(MIN_CAPACITY);
        size = size.saturating_add(capacity.saturating_mul(of_struct(inner.role)));
    }
    size
}

/// The size of an element of a vector.
fn of_struct(role: MessageRole) -> usize {
    match role {
        MessageRole::KeyValue => size_of::<KeyValue>(),
        MessageRole::Other => size_of::<Link>(),
        MessageRole::Metric | MessageRole::MetricData => size_of::<Metric>(),
        MessageRole::Group | MessageRole::ScopeGroup | MessageRole::Item => size_of::<Span>(),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
    use opentelemetry_proto::tonic::metrics::v1::{
        Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, SummaryDataPoint,
    };
    use opentelemetry_proto::tonic::trace::v1::span::Event;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    use super::*;

    #[test]
    fn no_struct_is_larger_than_assumed() {
        let others =
            [size_of::<AnyValue>(), size_of::<Event>(), size_of::<Exemplar>(), size_of::<ValueAtQuantile>()];
        assert!(others.into_iter().all(|size| size <= of_struct(MessageRole::Other)), "{others:?}");
        let items = [
            size_of::<LogRecord>(),
            size_of::<NumberDataPoint>(),
            size_of::<HistogramDataPoint>(),
            size_of::<ExponentialHistogramDataPoint>(),
            size_of::<SummaryDataPoint>(),
            size_of::<ResourceSpans>(),
            size_of::<ResourceLogs>(),
            size_of::<ResourceMetrics>(),
            size_of::<ScopeSpans>(),
            size_of::<ScopeLogs>(),
            size_of::<ScopeMetrics>(),
        ];
        assert!(items.into_iter().all(|size| size <= of_struct(MessageRole::Item)), "{items:?}");
    }

    #[test]
    fn empty_spans_are_not_free() {
        let spans = [0x12, 0x00].repeat(1_000);
        let mut scope = vec![0x12];
        prost::encode_length_delimiter(spans.len(), &mut scope).expect("room");
        scope.extend(spans);
        let mut request = vec![0x0a];
        prost::encode_length_delimiter(scope.len(), &mut request).expect("room");
        request.extend(scope);
        assert!(decoded_size(Signal::Traces, &request) > 1_000 * size_of::<Span>());
    }

    #[test]
    fn numbers_are_counted_where_they_repeat() {
        let bounds = |bytes: usize| {
            let mut point = vec![0x32];
            prost::encode_length_delimiter(bytes, &mut point).expect("room");
            point.resize(point.len() + bytes, 0);
            of_message(schema_of(Signal::Metrics, &[1, 2, 2, 9, 1]), &point, DEPTH_LIMIT)
        };
        assert!(bounds(1_000) > 1_000 * PER_PACKED_BYTE, "{}", bounds(1_000));
        // The kind of a span.
        assert_eq!(of_message(schema_of(Signal::Traces, &[1, 2, 2]), &[0x30, 0x01], DEPTH_LIMIT), 0);
    }

    #[test]
    fn repeated_texts_are_not_free() {
        // The keys of a resource's entity reference.
        let keys = [0x1a, 0x00].repeat(1_000);
        let size = of_message(schema_of(Signal::Logs, &[1, 1, 3]), &keys, DEPTH_LIMIT);
        assert!(size >= 1_000 * size_of::<String>(), "{size}");
    }

    /// The message that is reached by these tags.
    fn schema_of(signal: Signal, tags: &[u32]) -> &'static MessageSchema {
        tags.iter().fold(MessageSchema::of(signal), |schema, tag| {
            match schema.field(*tag).map(|field| field.kind) {
                Some(FieldKind::Message(inner)) => inner,
                _ => panic!("no message has the tag {tag}"),
            }
        })
    }
}
