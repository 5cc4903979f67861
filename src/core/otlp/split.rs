//! Splits a request that is too large for one export.
//!
//! Each part is a whole request: it repeats the headers of its items, which are the resource, the scope and,
//! for a metric, everything but its data points. Data points are items, so a metric can be split, too.
//!
//! Parts are created lazily, so only the current part takes memory. All parts together have at most four times
//! the bytes of the request plus [`GROWTH_SLACK`]: repeated headers are counted, and once that allowance is
//! used up, the rest is not split.

use std::borrow::Cow;

use bytes::Bytes;

use crate::otlp::schema::METRIC_DATA;
use crate::otlp::wire::{delimited_len, fields, put_delimited_head};
use crate::signal::Signal;

/// Bytes that the output may have beyond four times the input, for small inputs.
pub const GROWTH_SLACK: usize = 64 << 10;

/// The size limits of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of log records, data points or spans.
    pub items: usize,
    /// The maximum number of bytes, encoded and uncompressed.
    pub bytes: usize,
}

/// A validated request, or a request with some of its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPart {
    /// The request, encoded.
    pub bytes: Bytes,
    /// The number of log records, data points or spans.
    pub items: usize,
}

/// Splits a validated request into parts within the limits, keeping the order of items. A request within the
/// limits is returned as the only part, not copied. A request without items has no parts. `whole.items` must be
/// the count that validation returned.
///
/// An item that exceeds the byte limit by itself becomes a part of its own. If resource and scope fill more
/// than three quarters of the limit, a part exceeds it. Otherwise a resource would be repeated for every few
/// items, and the parts of one request would take thousands of times its size. For the same reason a part
/// exceeds either limit once the parts before it have repeated three times the size of the request.
pub fn split(signal: Signal, whole: RequestPart, limits: Limits) -> impl Iterator<Item = RequestPart> {
    let fits = whole.items <= limits.items && whole.bytes.len() <= limits.bytes;
    let (mut unsplit, mut splitter) = match whole.items {
        0 => (None, None),
        _ if fits => (Some(whole), None),
        _ => (None, Some(Splitter::new(signal, whole.bytes, limits))),
    };
    std::iter::from_fn(move || unsplit.take().or_else(|| splitter.as_mut()?.next_part()))
}

/// The most bytes that parts of at most `limit` items would repeat of a validated request. [`split`] itself
/// never repeats more than three times the size of the request plus [`GROWTH_SLACK`].
pub fn max_repeated_bytes(signal: Signal, body: &[u8], items: usize, limit: usize) -> usize {
    let splits = items.saturating_sub(1) / limit.max(1);
    if splits == 0 { 0 } else { longest_headers(body, levels(signal)).saturating_mul(splits) }
}

/// The size of the longest headers around an item.
fn longest_headers(message: &[u8], levels: &[ChildLevel]) -> usize {
    let Some((level, inner)) = levels.split_first() else { return 0 };
    let (mut own, mut longest) = (0, 0);
    for field in fields(message) {
        if !level.holds(field.tag) {
            own += field.raw.len();
        } else if !inner.is_empty() {
            longest = longest.max(longest_headers(field.content, inner));
        }
    }
    own + longest
}

/// The position of the next level of messages in a message that contains items.
#[derive(Clone, Copy, Debug)]
enum ChildLevel {
    /// The repeated field with this tag.
    Field(u32),
    /// The data of a metric, in any of its types.
    MetricData,
}

impl ChildLevel {
    fn holds(self, tag: u32) -> bool {
        match self {
            Self::Field(child) => tag == child,
            Self::MetricData => METRIC_DATA.contains(&tag),
        }
    }
}

fn levels(signal: Signal) -> &'static [ChildLevel] {
    match signal {
        Signal::Logs | Signal::Traces => &[ChildLevel::Field(1), ChildLevel::Field(2), ChildLevel::Field(2)],
        Signal::Metrics => &[
            ChildLevel::Field(1),
            ChildLevel::Field(2),
            ChildLevel::Field(2),
            ChildLevel::MetricData,
            ChildLevel::Field(1),
        ],
    }
}

/// The data of a metric and its tag, as decoders read a oneof: the last member that is set, merged with earlier
/// values of the same member unless another member is set between them.
fn metric_data(metric: &Bytes) -> Option<(u32, Bytes)> {
    let mut data: Option<(u32, Cow<'_, [u8]>)> = None;
    for field in fields(metric).filter(|field| METRIC_DATA.contains(&field.tag)) {
        match &mut data {
            Some((tag, data)) if *tag == field.tag => data.to_mut().extend_from_slice(field.content),
            _ => data = Some((field.tag, Cow::Borrowed(field.content))),
        }
    }
    data.map(|(tag, data)| match data {
        Cow::Borrowed(data) => (tag, metric.slice_ref(data)),
        Cow::Owned(data) => (tag, Bytes::from(data)),
    })
}

/// Takes items in order and closes a part whenever the next item does not fit.
struct Splitter {
    limits: Limits,
    /// The position of the children, for each level of open messages.
    levels: &'static [ChildLevel],
    /// The messages around the next item, outermost first.
    open: Vec<OpenMessage>,
    /// The items in the current part.
    items: usize,
    /// The bytes of headers that further parts may repeat.
    repeatable: usize,
}

/// A message being written.
struct OpenMessage {
    tag: u32,
    /// All fields but the next level; every part repeats them.
    header: Vec<u8>,
    /// The part of the next level that is in the current part.
    children: Vec<u8>,
    /// The original message, and the number of bytes read.
    message: Bytes,
    read: usize,
}

impl Splitter {
    fn new(signal: Signal, whole: Bytes, limits: Limits) -> Self {
        let repeatable = whole.len().saturating_mul(3).saturating_add(GROWTH_SLACK);
        let mut splitter = Self { limits, levels: levels(signal), open: Vec::new(), items: 0, repeatable };
        splitter.enter(0, whole);
        splitter
    }

    /// Opens a message.
    fn enter(&mut self, tag: u32, message: Bytes) {
        let Some(level) = self.levels.get(self.open.len()) else { return };
        let mut header = Vec::new();
        for field in fields(&message).filter(|field| !level.holds(field.tag)) {
            header.extend_from_slice(field.raw);
        }
        self.open.push(OpenMessage { tag, header, children: Vec::new(), message, read: 0 });
    }

    /// Returns the next part, if items are left.
    fn next_part(&mut self) -> Option<RequestPart> {
        loop {
            let level = *self.levels.get(self.open.len().checked_sub(1)?)?;
            if self.open.len() == self.levels.len() {
                if let Some(part) = self.fill(level) {
                    return Some(part);
                }
                self.close();
            } else if let Some((tag, message)) = self.open.last_mut().and_then(|open| open.next_child(level))
            {
                self.enter(tag, message);
            } else if self.open.len() > 1 {
                self.close();
            } else {
                let last = self.end_part();
                self.open.clear();
                return last;
            }
        }
    }

    /// Takes items of the innermost message until a part is full.
    fn fill(&mut self, level: ChildLevel) -> Option<RequestPart> {
        let innermost = self.open.last()?;
        let (message, mut read) = (innermost.message.clone(), innermost.read);
        for field in fields(message.get(read..)?) {
            let is_item = level.holds(field.tag);
            if is_item && self.must_end(field.raw.len()) {
                // This item is read again for the next part.
                self.open.last_mut()?.read = read;
                return self.end_part();
            }
            read += field.raw.len();
            if is_item && let Some(innermost) = self.open.last_mut() {
                innermost.children.extend_from_slice(field.raw);
                self.items += 1;
            }
        }
        None
    }

    /// Returns true if the current part must end before an item of `len` bytes.
    fn must_end(&self, len: usize) -> bool {
        self.items > 0
            && (self.items >= self.limits.items || self.len_with(len) > self.byte_limit())
            && self.headers() <= self.repeatable
    }

    /// The length of the current part if it were closed after `more` bytes.
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
        // If headers fill the limit, items get at least a quarter of the part.
        self.limits.bytes.max(self.headers() / 3 * 4)
    }

    /// The bytes that the next part repeats if the current one ends here.
    fn headers(&self) -> usize {
        self.open.iter().map(|open| open.header.len()).sum()
    }

    /// Closes the innermost message.
    fn close(&mut self) {
        if self.open.len() > 1
            && let Some(done) = self.open.pop()
            && let Some(outer) = self.open.last_mut()
        {
            // A message without items in this part is left out of it.
            if !done.children.is_empty() {
                put_child(&mut outer.children, done.tag, &[&done.header, &done.children]);
            }
        }
    }

    /// Ends the current part. Open messages stay open for the next part.
    fn end_part(&mut self) -> Option<RequestPart> {
        self.repeatable = self.repeatable.saturating_sub(self.headers());
        let mut part: Option<(u32, Vec<u8>)> = None;
        for open in self.open.iter_mut().rev() {
            if let Some((tag, bytes)) = part.take() {
                put_child(&mut open.children, tag, &[&bytes]);
            }
            if !open.children.is_empty() {
                // A part is counted by its length, so it must not have spare capacity.
                part = Some((open.tag, [open.header.as_slice(), &open.children].concat()));
                open.children.clear();
            }
        }
        let items = std::mem::take(&mut self.items);
        part.map(|(_, bytes)| RequestPart { bytes: Bytes::from(bytes), items })
    }
}

impl OpenMessage {
    /// Returns the next message of the level below.
    fn next_child(&mut self, level: ChildLevel) -> Option<(u32, Bytes)> {
        let message = &self.message;
        match level {
            ChildLevel::MetricData if self.read > 0 => None,
            ChildLevel::MetricData => {
                self.read = message.len();
                metric_data(message)
            }
            ChildLevel::Field(_) => {
                for field in fields(message.get(self.read..)?) {
                    self.read += field.raw.len();
                    if level.holds(field.tag) {
                        return Some((field.tag, message.slice_ref(field.content)));
                    }
                }
                None
            }
        }
    }
}

/// Writes a message made of these pieces as a field.
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

    /// Splits a request with the item count of validation, or too high a count for invalid bytes.
    fn parts(signal: Signal, bytes: &Bytes, limits: Limits) -> Vec<RequestPart> {
        let items = validate(signal, bytes).unwrap_or(usize::MAX);
        split(signal, RequestPart { bytes: bytes.clone(), items }, limits).collect()
    }

    /// The size of an item's headers in the request, without keys and lengths.
    fn headers(request: &Request) -> usize {
        let flat = request.flatten();
        flat.first().map_or(0, |item| item[..item.len() - 1].iter().map(Vec::len).sum())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn parts_keep_every_item_and_the_limits(
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
                // Above that, the allowance for repeated headers may be used up.
                prop_assert!(part.items <= items || body.len() > GROWTH_SLACK / 8);
                prop_assert!(part.items > 0);
                prop_assert!(
                    part.bytes.len() <= bytes || part.items == 1 || headers(&decoded) * 4 + 100 > bytes * 3,
                    "{} bytes, {} items", part.bytes.len(), part.items
                );
                flat.extend(decoded.flatten());
            }
            prop_assert_eq!(flat, request.flatten());
            let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
            prop_assert!(total <= 4 * body.len() + GROWTH_SLACK);
        }

        #[test]
        fn request_within_limits_is_not_copied(request in request()) {
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
        fn random_bytes_do_not_panic(signal in select(&Signal::ALL), bytes: Vec<u8>) {
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
    fn many_spans_are_split_by_item_count() {
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
    fn huge_resource_is_not_repeated_per_item() {
        let body = spans(10_000, 9000);
        let parts = parts(Signal::Traces, &body, Limits { items: 8192, bytes: 10_000 });
        let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
        assert!(total <= 4 * body.len() + GROWTH_SLACK, "{total} bytes from {}", body.len());
    }

    #[test]
    fn parts_repeat_at_most_three_times_the_request() {
        // A resource of 1 MiB, and so many empty spans that the item limit fills each part at once.
        let (whole, limits) = (spans(1, 1 << 20), Limits { items: 10, bytes: 4 << 20 });
        let mut body = whole.to_vec();
        let mut group = Vec::new();
        put_child(&mut group, 2, &[&[0x12, 0x00].repeat(100_000)]);
        put_child(&mut body, 1, &[fields(&whole).next().unwrap().content, &group]);
        let body = Bytes::from(body);
        let parts = parts(Signal::Traces, &body, limits);
        let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
        assert!(total <= 4 * body.len() + GROWTH_SLACK, "{total} bytes from {}", body.len());
        assert_eq!(parts.iter().map(|part| part.items).sum::<usize>(), 100_002);
        let repeated = max_repeated_bytes(Signal::Traces, &body, 100_002, 10);
        assert!(repeated > 10_000 << 20, "{repeated}");
        assert!(max_repeated_bytes(Signal::Traces, &spans(20_000, 10), 20_000, 8192) < 200);
        assert_eq!(max_repeated_bytes(Signal::Traces, &spans(20, 10), 20, 20), 0);
    }

    #[test]
    fn fragmented_metric_is_split_in_linear_time() {
        let mut metric = Vec::new();
        (0..200_000).for_each(|_| metric.extend([0x2a, 0x02, 0x0a, 0x00]));
        let (mut scope, mut group, mut body) = (Vec::new(), Vec::new(), Vec::new());
        put_child(&mut scope, 2, &[&metric]);
        put_child(&mut group, 2, &[&scope]);
        put_child(&mut body, 1, &[&group]);
        let parts = parts(Signal::Metrics, &Bytes::from(body), Limits { items: 8192, bytes: 4 << 20 });
        assert_eq!(parts.iter().map(|part| part.items).sum::<usize>(), 200_000);
    }

    #[test]
    fn unknown_fields_are_in_every_part() {
        // Tag 15, a number, at each level of two spans.
        let unknown = [0x78, 0x07];
        let scope = [&[0x12, 0x00, 0x12, 0x00][..], &unknown].concat();
        let group = [&[0x12, 0x06][..], &scope, &unknown].concat();
        let body = [&[0x0a, 0x0a][..], &group, &unknown].concat();
        let part = [&[0x78, 0x07, 0x0a, 0x08, 0x78, 0x07, 0x12, 0x04, 0x78, 0x07, 0x12, 0x00][..]].concat();
        let parts = parts(Signal::Traces, &Bytes::from(body), Limits { items: 1, bytes: 100 });
        assert_eq!(parts, vec![RequestPart { bytes: Bytes::from(part), items: 1 }; 2]);
    }
}
