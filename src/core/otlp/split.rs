//! The cutting of a request that is too large for one export.
//!
//! Every part is a whole request: it repeats what the items it holds lie in, which is the resource, the scope and, of a
//! metric, all but its data points. Data points are items, so a metric is cut within, too.

use std::borrow::Cow;

use bytes::Bytes;

use crate::otlp::schema::METRIC_DATA;
use crate::otlp::wire::{delimited_len, fields, put_delimited_head};
use crate::signal::Signal;

/// How large a part may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Log records, data points or spans.
    pub items: usize,
    /// Bytes, encoded and not compressed.
    pub bytes: usize,
}

/// A validated request, or one that holds some of the items of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The request, encoded.
    pub bytes: Bytes,
    /// Log records, data points or spans within.
    pub items: usize,
}

/// Cuts a validated request into parts within the limits, its items in their order. A request within the limits is the
/// only part, not copied; one without items has no parts. How many there are is what validation has counted.
///
/// An item that is larger than the limit by itself goes alone. Where resource and scope fill more than three quarters of
/// the limit, a part exceeds it: at the price of a resource for each few items, the parts of one request would hold
/// thousands of times what the request does.
pub fn split(signal: Signal, whole: Part, limits: Limits) -> Vec<Part> {
    if whole.items == 0 {
        return Vec::new();
    }
    if whole.items <= limits.items && whole.bytes.len() <= limits.bytes {
        return vec![whole];
    }
    let mut splitter = Splitter { limits, open: Vec::new(), items: 0, parts: Vec::new() };
    splitter.enter(0, &whole.bytes, levels(signal));
    splitter.cut();
    splitter.parts
}

/// Where in a message that holds items the next level of them lies.
#[derive(Clone, Copy, Debug)]
enum Level {
    /// In the repeated field of this tag.
    Field(u32),
    /// In the data of a metric, whichever is set.
    MetricData,
}

fn levels(signal: Signal) -> &'static [Level] {
    match signal {
        Signal::Logs | Signal::Traces => &[Level::Field(1), Level::Field(2), Level::Field(2)],
        Signal::Metrics => {
            &[Level::Field(1), Level::Field(2), Level::Field(2), Level::MetricData, Level::Field(1)]
        }
    }
}

/// The data of a metric with its tag, as decoders read a oneof: the last member that is set, merged with itself where
/// nothing else was set between.
fn metric_data(metric: &[u8]) -> Option<(u32, Cow<'_, [u8]>)> {
    let mut data: Option<(u32, Cow<'_, [u8]>)> = None;
    for field in fields(metric).filter(|field| METRIC_DATA.contains(&field.tag)) {
        match &mut data {
            Some((tag, data)) if *tag == field.tag => data.to_mut().extend_from_slice(field.content),
            _ => data = Some((field.tag, Cow::Borrowed(field.content))),
        }
    }
    data
}

/// Takes items in their order and closes a part whenever the next does not fit.
struct Splitter {
    limits: Limits,
    /// The messages that the next item lies in, outermost first.
    open: Vec<Open>,
    /// In the part at hand.
    items: usize,
    parts: Vec<Part>,
}

/// A message that is being written.
struct Open {
    tag: u32,
    /// All but the next level, which every part repeats.
    header: Vec<u8>,
    /// The next level, as far as it is in the part at hand.
    children: Vec<u8>,
}

impl Splitter {
    fn enter(&mut self, tag: u32, message: &[u8], levels: &[Level]) {
        let Some((level, inner)) = levels.split_first() else { return };
        let is_child = |tag: u32| match level {
            Level::Field(child) => tag == *child,
            Level::MetricData => METRIC_DATA.contains(&tag),
        };
        let mut header = Vec::new();
        for field in fields(message).filter(|field| !is_child(field.tag)) {
            header.extend_from_slice(field.raw);
        }
        self.open.push(Open { tag, header, children: Vec::new() });
        match level {
            Level::Field(_) => {
                for child in fields(message).filter(|field| is_child(field.tag)) {
                    if inner.is_empty() {
                        self.item(child.raw);
                    } else {
                        self.enter(child.tag, child.content, inner);
                    }
                }
            }
            Level::MetricData => {
                if let Some((tag, data)) = metric_data(message) {
                    self.enter(tag, &data, inner);
                }
            }
        }
        self.close();
    }

    fn item(&mut self, raw: &[u8]) {
        if self.items > 0 && (self.items >= self.limits.items || self.len_with(raw.len()) > self.byte_limit())
        {
            self.cut();
        }
        if let Some(innermost) = self.open.last_mut() {
            innermost.children.extend_from_slice(raw);
            self.items += 1;
        }
    }

    /// The length of the part, were it closed after another so many bytes.
    fn len_with(&self, more: usize) -> usize {
        let mut child = None;
        for open in self.open.iter().rev() {
            let added = child.map_or(more, |(tag, len)| delimited_len(tag, len));
            child = Some((open.tag, open.header.len() + open.children.len() + added));
        }
        child.map_or(0, |(_, len)| len)
    }

    fn byte_limit(&self) -> usize {
        let Some((_, outer)) = self.open.split_last() else { return self.limits.bytes };
        if outer.iter().any(|open| !open.children.is_empty()) {
            return self.limits.bytes;
        }
        let headers: usize = self.open.iter().map(|open| open.header.len()).sum();
        self.limits.bytes.max(headers + self.limits.bytes / 4)
    }

    /// Leaves the innermost message.
    fn close(&mut self) {
        if self.open.len() > 1
            && let Some(done) = self.open.pop()
            && let Some(outer) = self.open.last_mut()
        {
            // One without items in this part is not repeated in it.
            if !done.children.is_empty() {
                put_child(&mut outer.children, done.tag, &[&done.header, &done.children]);
            }
        }
    }

    /// Ends the part at hand. The messages that are open stay so, for the next one.
    fn cut(&mut self) {
        let mut part: Option<(u32, Vec<u8>)> = None;
        for open in self.open.iter_mut().rev() {
            if let Some((tag, bytes)) = part.take() {
                put_child(&mut open.children, tag, &[&bytes]);
            }
            if !open.children.is_empty() {
                // A part is accounted for by its length, so it is to hold no more than that.
                part = Some((open.tag, [open.header.as_slice(), &open.children].concat()));
                open.children.clear();
            }
        }
        if let Some((_, bytes)) = part {
            self.parts.push(Part { bytes: Bytes::from(bytes), items: std::mem::take(&mut self.items) });
        }
    }
}

/// Writes a message of these pieces as a field.
fn put_child(out: &mut Vec<u8>, tag: u32, pieces: &[&[u8]]) {
    put_delimited_head(out, tag, pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use proptest::sample::select;
    use prost::Message as _;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};
    use crate::otlp::validate;

    /// With as many items as validation counts; with more than there are, if it is no request.
    fn parts(signal: Signal, bytes: &Bytes, limits: Limits) -> Vec<Part> {
        let items = validate(signal, bytes).unwrap_or(usize::MAX);
        split(signal, Part { bytes: bytes.clone(), items }, limits)
    }

    /// The bytes of an item's headers in the request, without keys and lengths.
    fn headers(request: &Request) -> usize {
        let flat = request.flatten();
        flat.first().map_or(0, |item| item[..item.len() - 1].iter().map(Vec::len).sum())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn parts_hold_every_item_once_and_keep_the_limits(
            request in request(),
            items in 1..6_usize,
            bytes in 1..3000_usize,
        ) {
            let (signal, body) = (request.signal(), request.encode());
            let limits = Limits { items, bytes };
            let parts = parts(signal, &body, limits);
            let mut flat = Vec::new();
            for part in &parts {
                prop_assert_eq!(validate(signal, &part.bytes), Ok(part.items));
                let decoded = Request::decode(signal, &part.bytes).unwrap();
                prop_assert!(part.items <= items);
                prop_assert!(part.items > 0);
                prop_assert!(
                    part.bytes.len() <= bytes || part.items == 1 || headers(&decoded) * 4 + 100 > bytes * 3,
                    "{} bytes, {} items", part.bytes.len(), part.items
                );
                flat.extend(decoded.flatten());
            }
            prop_assert_eq!(flat, request.flatten());
        }

        #[test]
        fn a_request_within_the_limits_is_not_copied(request in request()) {
            let body = request.encode();
            let items = request.flatten().len();
            let parts = parts(request.signal(), &body, Limits { items, bytes: body.len() });
            if items == 0 {
                prop_assert_eq!(parts, []);
            } else {
                prop_assert_eq!(parts.len(), 1);
                prop_assert_eq!(parts[0].items, items);
                prop_assert_eq!(parts[0].bytes.as_ptr(), body.as_ptr());
            }
        }

        #[test]
        fn random_bytes_do_no_harm(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            parts(signal, &Bytes::from(bytes), Limits { items: 1, bytes: 8 });
        }
    }

    fn spans(count: usize, attribute_len: usize) -> Bytes {
        let span =
            Span { name: "work".to_owned(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() };
        let attribute = KeyValue {
            key: "padding".to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue("x".repeat(attribute_len))) }),
            key_strindex: 0,
        };
        let resource = Some(Resource { attributes: vec![attribute], ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans: vec![span; count], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec())
    }

    #[test]
    fn twenty_thousand_spans_leave_in_three_parts() {
        let parts = parts(Signal::Traces, &spans(20_000, 10), Limits { items: 8192, bytes: 4 << 20 });
        let items: Vec<usize> = parts.iter().map(|part| part.items).collect();
        assert_eq!(items, [8192, 8192, 3616]);
    }

    #[test]
    fn parts_are_filled_to_the_last_byte() {
        let limit = spans(100, 10).len();
        let parts = parts(Signal::Traces, &spans(1000, 10), Limits { items: 8192, bytes: limit });
        assert_eq!(parts.len(), 10);
        assert!(parts.iter().all(|part| part.bytes.len() == limit));
    }

    #[test]
    fn an_enormous_resource_is_not_repeated_for_every_item() {
        let body = spans(10_000, 9000);
        let parts = parts(Signal::Traces, &body, Limits { items: 8192, bytes: 10_000 });
        let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
        assert!(total < 8 * body.len(), "{total} bytes made of {}", body.len());
    }

    #[test]
    fn unknown_fields_go_into_every_part() {
        // Tag 15, a number, beside each level of two spans.
        let unknown = [0x78, 0x07];
        let scope = [&[0x12, 0x00, 0x12, 0x00][..], &unknown].concat();
        let group = [&[0x12, 0x06][..], &scope, &unknown].concat();
        let body = [&[0x0a, 0x0a][..], &group, &unknown].concat();
        let part = [&[0x78, 0x07, 0x0a, 0x08, 0x78, 0x07, 0x12, 0x04, 0x78, 0x07, 0x12, 0x00][..]].concat();
        let parts = parts(Signal::Traces, &Bytes::from(body), Limits { items: 1, bytes: 100 });
        assert_eq!(parts, vec![Part { bytes: Bytes::from(part), items: 1 }; 2]);
    }
}
