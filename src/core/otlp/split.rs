//! The cutting of a request that is too large for one export.
//!
//! Every part is a whole request: it repeats what the items it holds lie in, which is the resource, the scope and, of a
//! metric, all but its data points. Data points are items, so a metric is cut within, too.
//!
//! Parts are made when they are asked for, so that only the part at hand takes memory. All together they have at most four times the
//! bytes of the request and [`GROWTH_SLACK`]: the headers that may be repeated are counted, and where they are used up, what
//! is left is not cut.

use std::borrow::Cow;

use bytes::Bytes;

use crate::otlp::schema::METRIC_DATA;
use crate::otlp::wire::{delimited_len, fields, put_delimited_head};
use crate::signal::Signal;

/// Bytes that an output may have beyond four times its input, for inputs that are small.
pub const GROWTH_SLACK: usize = 64 << 10;

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
/// thousands of times what the request does. For the same reason a part exceeds either limit where the parts before it have
/// repeated three times the size of the request.
pub fn split(signal: Signal, whole: Part, limits: Limits) -> impl Iterator<Item = Part> {
    let fits = whole.items <= limits.items && whole.bytes.len() <= limits.bytes;
    let (mut uncut, mut splitter) = match whole.items {
        0 => (None, None),
        _ if fits => (Some(whole), None),
        _ => (None, Some(Splitter::new(signal, whole.bytes, limits))),
    };
    std::iter::from_fn(move || uncut.take().or_else(|| splitter.as_mut()?.next_part()))
}

/// The most bytes that parts of at most so many items can repeat of a validated request; more than three times its size and
/// [`GROWTH_SLACK`] are never repeated.
pub fn most_repeated(signal: Signal, body: &[u8], items: usize, limit: usize) -> usize {
    let cuts = items.saturating_sub(1) / limit.max(1);
    if cuts == 0 { 0 } else { longest_headers(body, levels(signal)).saturating_mul(cuts) }
}

/// The headers around an item that has the longest.
fn longest_headers(message: &[u8], levels: &[Level]) -> usize {
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

/// Where in a message that holds items the next level of them lies.
#[derive(Clone, Copy, Debug)]
enum Level {
    /// In the repeated field of this tag.
    Field(u32),
    /// In the data of a metric, whichever is set.
    MetricData,
}

impl Level {
    fn holds(self, tag: u32) -> bool {
        match self {
            Self::Field(child) => tag == child,
            Self::MetricData => METRIC_DATA.contains(&tag),
        }
    }
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

/// Takes items in their order and closes a part whenever the next does not fit.
struct Splitter {
    limits: Limits,
    /// Of each message that can be open, where its children are.
    levels: &'static [Level],
    /// The messages that the next item lies in, outermost first.
    open: Vec<Open>,
    /// In the part at hand.
    items: usize,
    /// Bytes of headers that further parts may repeat.
    repeatable: usize,
}

/// A message that is being written.
struct Open {
    tag: u32,
    /// All but the next level, which every part repeats.
    header: Vec<u8>,
    /// The next level, as far as it is in the part at hand.
    children: Vec<u8>,
    /// The message as it came, and how far it was read.
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

    /// Opens a message at its start.
    fn enter(&mut self, tag: u32, message: Bytes) {
        let Some(level) = self.levels.get(self.open.len()) else { return };
        let mut header = Vec::new();
        for field in fields(&message).filter(|field| !level.holds(field.tag)) {
            header.extend_from_slice(field.raw);
        }
        self.open.push(Open { tag, header, children: Vec::new(), message, read: 0 });
    }

    /// The next part, if items are left.
    fn next_part(&mut self) -> Option<Part> {
        loop {
            let level = *self.levels.get(self.open.len().checked_sub(1)?)?;
            if self.open.len() == self.levels.len() {
                if let Some(part) = self.fill(level) {
                    return Some(part);
                }
                self.close();
            } else if let Some((tag, message)) = self.open.last_mut().and_then(|open| open.next(level)) {
                self.enter(tag, message);
            } else if self.open.len() > 1 {
                self.close();
            } else {
                let last = self.cut();
                self.open.clear();
                return last;
            }
        }
    }

    /// Takes the items of the innermost message, until a part is full.
    fn fill(&mut self, level: Level) -> Option<Part> {
        let innermost = self.open.last()?;
        let (message, mut read) = (innermost.message.clone(), innermost.read);
        for field in fields(message.get(read..)?) {
            let is_item = level.holds(field.tag);
            if is_item && self.must_cut(field.raw.len()) {
                // To be read again, for the next part.
                self.open.last_mut()?.read = read;
                return self.cut();
            }
            read += field.raw.len();
            if is_item && let Some(innermost) = self.open.last_mut() {
                innermost.children.extend_from_slice(field.raw);
                self.items += 1;
            }
        }
        None
    }

    /// Says whether the part at hand must end before an item of so many bytes.
    fn must_cut(&self, len: usize) -> bool {
        self.items > 0
            && (self.items >= self.limits.items || self.len_with(len) > self.byte_limit())
            && self.headers() <= self.repeatable
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
        // Where headers fill the limit, items get a quarter of the part at least.
        self.limits.bytes.max(self.headers() / 3 * 4)
    }

    /// Bytes that the next part repeats, if this one ends here.
    fn headers(&self) -> usize {
        self.open.iter().map(|open| open.header.len()).sum()
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
    fn cut(&mut self) -> Option<Part> {
        self.repeatable = self.repeatable.saturating_sub(self.headers());
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
        let items = std::mem::take(&mut self.items);
        part.map(|(_, bytes)| Part { bytes: Bytes::from(bytes), items })
    }
}

impl Open {
    /// The next message within that holds items.
    fn next(&mut self, level: Level) -> Option<(u32, Bytes)> {
        let message = &self.message;
        match level {
            Level::MetricData if self.read > 0 => None,
            Level::MetricData => {
                self.read = message.len();
                metric_data(message)
            }
            Level::Field(_) => {
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
        split(signal, Part { bytes: bytes.clone(), items }, limits).collect()
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
                // Beyond, there is as much repeated as may be.
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
        assert!(total <= 4 * body.len() + GROWTH_SLACK, "{total} bytes made of {}", body.len());
    }

    #[test]
    fn parts_repeat_three_times_the_request() {
        // A resource of 1 MB, and so many empty spans that each part is full of them at once.
        let (whole, limits) = (spans(1, 1 << 20), Limits { items: 10, bytes: 4 << 20 });
        let mut body = whole.to_vec();
        let mut group = Vec::new();
        put_child(&mut group, 2, &[&[0x12, 0x00].repeat(100_000)]);
        put_child(&mut body, 1, &[fields(&whole).next().unwrap().content, &group]);
        let body = Bytes::from(body);
        let parts = parts(Signal::Traces, &body, limits);
        let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
        assert!(total <= 4 * body.len() + GROWTH_SLACK, "{total} bytes made of {}", body.len());
        assert_eq!(parts.iter().map(|part| part.items).sum::<usize>(), 100_002);
        let repeated = most_repeated(Signal::Traces, &body, 100_002, 10);
        assert!(repeated > 10_000 << 20, "{repeated}");
        assert!(most_repeated(Signal::Traces, &spans(20_000, 10), 20_000, 8192) < 200);
        assert_eq!(most_repeated(Signal::Traces, &spans(20, 10), 20, 20), 0);
    }

    #[test]
    fn a_metric_in_pieces_is_cut_in_linear_time() {
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
