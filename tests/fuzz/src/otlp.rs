//! OTLP's wire format: our edits on the bytes are compared with decoding, changing and encoding.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use rotel_core::otlp::{
    self, Contents, GROWTH_SLACK, LastEdit, Limits, MalformedRequest, RequestPart, WireError,
};
use rotel_core::signal::Signal;
use rotel_core::trace_context::TraceContext;

/// Takes the body of a request over HTTP, behind a byte that selects the signal and the format.
pub fn otlp_http_body(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    let signal = signal(*kind);
    if kind & 4 == 0 {
        replaced_is_utf8(signal, body);
        return accepted_is_what_decodes(signal, body);
    }
    if let Ok(converted) = otlp::json_to_protobuf(signal, body, usize::MAX) {
        assert_is_bounded(&converted, body);
        accepted_is_what_decodes(signal, &converted);
        let limit = converted.len();
        assert!(otlp::json_to_protobuf(signal, body, limit).is_ok(), "refused at its own size");
        if let Some(limit) = limit.checked_sub(1) {
            assert!(otlp::json_to_protobuf(signal, body, limit).is_err(), "a limit that does not hold");
        }
    }
}

/// Asserts that the output is at most four times the input, plus a constant.
fn assert_is_bounded(out: &[u8], input: &[u8]) {
    assert!(out.len() <= 4 * input.len() + 64, "{} bytes made of {}", out.len(), input.len());
}

/// Takes the bytes of a request, behind a byte that selects the signal. Its resources are edited, it is cut, empty
/// parts are dropped, and a span is named in log records, whose bytes are also read as spans.
pub fn wire_splicing(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    let (signal, body) = (signal(*kind), Bytes::copy_from_slice(body));
    // Whatever they are, nothing panics; of what was not validated nothing else is promised.
    let edited = otlp::edit_resources(signal, &body, &mut LastEdit::default(), |resource| {
        mark(resource);
        true
    });
    let limits = Limits { items: usize::from(kind >> 4) + 1, bytes: 16 << ((kind >> 3) & 7) };
    let items = otlp::validate(signal, &body).unwrap_or(usize::MAX);
    let parts: Vec<_> = otlp::split(signal, RequestPart { bytes: body.clone(), items }, limits).collect();
    let cut: usize = parts.iter().map(|part| part.bytes.len()).sum();
    assert!(cut <= 4 * body.len() + GROWTH_SLACK, "{cut} bytes cut of {}", body.len());
    let kept = otlp::drop_empty(signal, &body);
    assert!(kept.len() <= body.len(), "it has grown without what is empty");
    otlp::invocation_spans(&body).for_each(drop);
    let context = TraceContext { trace_id: [1; 16], span_id: [2; 8], sampled: true };
    let stamped = otlp::stamp(&body, &context);
    let Ok(contents) = otlp::inspect(signal, &body) else { return };
    let items = contents.items;
    let full = Contents { has_empty: false, ..contents };
    assert_eq!(otlp::inspect(signal, &kept), Ok(full), "without what is empty, it is another request");
    assert_eq!(kept.len() < body.len(), contents.has_empty, "dropped is what is empty, and only that");
    if signal == Signal::Logs {
        assert_eq!(otlp::validate(signal, &stamped), Ok(items), "stamped, it is another request");
        assert!(
            stamped.len() <= body.len() + items * otlp::MAX_STAMP_LEN,
            "it has grown by more than a stamp each"
        );
        assert_eq!(otlp::stamp(&stamped, &context), stamped, "stamped twice");
    }
    assert_eq!(otlp::validate(signal, &edited), Ok(items), "edited, it is another request");
    assert_eq!(
        reencoded(signal, &edited, false),
        reencoded(signal, &body, true),
        "edited otherwise than decoded"
    );
    assert_eq!(parts.iter().map(|part| part.items).sum::<usize>(), items, "items were lost in cutting");
    for part in &parts {
        assert_eq!(otlp::validate(signal, &part.bytes), Ok(part.items), "a part that is no request");
        let may_exceed =
            || otlp::max_repeated_bytes(signal, &body, items, limits.items) > 3 * body.len() + GROWTH_SLACK;
        assert!(
            part.items <= limits.items || may_exceed(),
            "{} items in a part of {}",
            part.items,
            limits.items
        );
    }
    let together: Vec<u8> = parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
    assert_eq!(
        otlp::validate(signal, &together),
        Ok(items),
        "laid end to end, the parts are another request"
    );
}

/// Asserts that every text that is not UTF-8 is replaced, whatever else the body holds.
fn replaced_is_utf8(signal: Signal, body: &[u8]) {
    let replaced = otlp::replace_invalid_utf8(signal, body);
    if let Some(replaced) = &replaced {
        assert_is_bounded(replaced, body);
        assert_eq!(otlp::replace_invalid_utf8(signal, replaced), None, "not all of it was replaced");
    }
    let is_other = |bytes| {
        !matches!(otlp::validate(signal, bytes), Err(MalformedRequest { cause: WireError::NotUtf8, .. }))
    };
    assert!(replaced.as_deref().map_or_else(|| is_other(body), is_other), "a text that is not UTF-8");
}

/// A decoder accepts whatever validation accepts, and finds as many items in it, with whole ids. It refuses whatever
/// validation refuses, except for ids: of a repeated id, decoders check the last and collectors each.
fn accepted_is_what_decodes(signal: Signal, body: &[u8]) {
    let decoded = count(signal, body);
    match otlp::validate(signal, body) {
        Ok(items) => assert_eq!(decoded, Some((items, true)), "a decoder finds something else"),
        Err(MalformedRequest { cause: WireError::IdLength { .. }, .. }) => {}
        Err(error) => assert_eq!(decoded, None, "a decoder accepts it: {error}"),
    }
}

fn signal(kind: u8) -> Signal {
    match kind & 3 {
        0 => Signal::Logs,
        1 => Signal::Metrics,
        _ => Signal::Traces,
    }
}

fn mark(resource: &mut Resource) {
    resource.attributes.push(KeyValue { key: "mark".to_owned(), ..KeyValue::default() });
}

/// Decodes, marks if `marked`, and encodes: the results of two equal messages are equal, NaN included.
fn reencoded(signal: Signal, body: &[u8], marked: bool) -> Option<Vec<u8>> {
    macro_rules! through {
        ($request:ty, $groups:ident) => {{
            let mut request = <$request>::decode(body).ok()?;
            if marked {
                request.$groups.iter_mut().for_each(|group| mark(group.resource.get_or_insert_default()));
            }
            Some(request.encode_to_vec())
        }};
    }
    match signal {
        Signal::Logs => through!(ExportLogsServiceRequest, resource_logs),
        Signal::Metrics => through!(ExportMetricsServiceRequest, resource_metrics),
        Signal::Traces => through!(ExportTraceServiceRequest, resource_spans),
    }
}

/// Counts the items that a decoder finds; true if every id is empty or whole. `None` if it finds no request.
fn count(signal: Signal, body: &[u8]) -> Option<(usize, bool)> {
    use opentelemetry_proto::tonic::metrics::v1::{Exemplar, metric::Data};
    let whole =
        |trace_id: &[u8], span_id: &[u8]| matches!(trace_id.len(), 0 | 16) && matches!(span_id.len(), 0 | 8);
    let exemplars = |exemplars: &[Exemplar]| {
        exemplars.iter().all(|exemplar| whole(&exemplar.trace_id, &exemplar.span_id))
    };
    match signal {
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(body).ok()?;
            let scopes = request.resource_logs.iter().flat_map(|group| &group.scope_logs);
            let records: Vec<_> = scopes.flat_map(|scope| &scope.log_records).collect();
            Some((records.len(), records.iter().all(|record| whole(&record.trace_id, &record.span_id))))
        }
        Signal::Traces => {
            let request = ExportTraceServiceRequest::decode(body).ok()?;
            let scopes = request.resource_spans.iter().flat_map(|group| &group.scope_spans);
            let spans: Vec<_> = scopes.flat_map(|scope| &scope.spans).collect();
            let are_whole = spans.iter().all(|span| {
                whole(&span.trace_id, &span.span_id)
                    && whole(&[], &span.parent_span_id)
                    && span.links.iter().all(|link| whole(&link.trace_id, &link.span_id))
            });
            Some((spans.len(), are_whole))
        }
        Signal::Metrics => {
            let request = ExportMetricsServiceRequest::decode(body).ok()?;
            let scopes = request.resource_metrics.iter().flat_map(|group| &group.scope_metrics);
            let (mut items, mut are_whole) = (0, true);
            let mut point = |found: &[Exemplar]| {
                items += 1;
                are_whole &= exemplars(found);
            };
            for data in scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref()) {
                match data {
                    Data::Gauge(data) => data.data_points.iter().for_each(|one| point(&one.exemplars)),
                    Data::Sum(data) => data.data_points.iter().for_each(|one| point(&one.exemplars)),
                    Data::Histogram(data) => data.data_points.iter().for_each(|one| point(&one.exemplars)),
                    Data::ExponentialHistogram(data) => {
                        data.data_points.iter().for_each(|one| point(&one.exemplars));
                    }
                    Data::Summary(data) => data.data_points.iter().for_each(|_| point(&[])),
                }
            }
            Some((items, are_whole))
        }
    }
}
