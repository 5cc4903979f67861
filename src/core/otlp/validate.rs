//! Validates a received OTLP export request and counts its items.
//!
//! A batch is requests laid end to end, so one that cannot be decoded would spoil its neighbours. It accepts
//! what prost decodes as the request's type, with one exception: trace and span ids must have the length that
//! OTLP defines, or be empty. Prost accepts any bytes as an id. The OpenTelemetry Collector does not, and
//! refuses the whole request for one bad id.
//!
//! One pass in steps, without allocation unless there is an error.

use crate::otlp::schema::{FieldKind, FieldSchema, MessageRole, MessageSchema};
use crate::otlp::wire::{DEPTH_LIMIT, WireError, WireReader, WireType};
use crate::signal::Signal;

/// The reason that bytes are not a valid OTLP request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause} at byte {offset}")]
pub struct MalformedRequest {
    /// The path of field names in the message: `resource_spans.scope_spans.spans.name`; `request` at the very
    /// top.
    pub path: String,
    /// The offset in the bytes.
    pub offset: usize,
    pub cause: WireError,
}

/// Checks that the bytes are an export request of this signal, to full depth. Returns the number of items: log
/// records, metric data points, spans.
pub fn validate(signal: Signal, body: &[u8]) -> Result<usize, MalformedRequest> {
    inspect(signal, body).map(|contents| contents.items)
}

/// Checks like [`validate`] and returns more about the request.
pub fn inspect(signal: Signal, body: &[u8]) -> Result<Contents, MalformedRequest> {
    let mut inspection = Inspection::new(signal, body);
    loop {
        if let Some(contents) = inspection.step() {
            return contents;
        }
    }
}

/// The contents of a valid request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The number of log records, metric data points or spans.
    pub items: usize,
    /// The number of resource groups with items.
    pub groups: usize,
    /// Some resource groups, scope groups or metrics have no items.
    pub has_empty: bool,
}

/// The number of groups, metrics and items in one step: a few milliseconds of work.
const STEP: usize = 16 * 1024;

/// A validation in steps; between steps other tasks can use the thread.
pub struct Inspection<'a> {
    body: &'a [u8],
    /// The message being read, and its unread rest.
    schema: &'static MessageSchema,
    reader: WireReader<'a>,
    depth: usize,
    suspended: [Option<SuspendedMessage<'a>>; DEPTH_LIMIT as usize],
    count: ItemCounts,
}

impl<'a> Inspection<'a> {
    /// Starts to validate these bytes as an export request of this signal.
    pub fn new(signal: Signal, body: &'a [u8]) -> Self {
        Self {
            body,
            schema: MessageSchema::of(signal),
            reader: WireReader::new(body),
            depth: 0,
            suspended: [None; DEPTH_LIMIT as usize],
            count: ItemCounts::default(),
        }
    }

    /// Works for a few milliseconds. Returns `None` if there is more to do. Must not be called after it has
    /// returned a result.
    pub fn step(&mut self) -> Option<Result<Contents, MalformedRequest>> {
        match walk(self, STEP) {
            Ok(false) => None,
            Ok(true) => Some(Ok(self.count.contents())),
            Err(LocatedError { cause, at, depth, field }) => {
                let suspended = self.suspended.iter().take(depth).flatten().map(|outer| outer.field);
                let path: Vec<_> = suspended.chain(field).map(|field| field.name).collect();
                let path = if path.is_empty() { "request".to_owned() } else { path.join(".") };
                Some(Err(MalformedRequest { path, offset: at.addr() - self.body.as_ptr().addr(), cause }))
            }
        }
    }
}

/// Marks that no message of the kind is open.
const NOT_OPEN: usize = usize::MAX;

/// The counts so far, and the item count at the start of each open group and metric: if it is the same at the
/// end, the group or metric is empty.
#[derive(Clone, Copy)]
struct ItemCounts {
    items: usize,
    groups: usize,
    has_empty: bool,
    at_group: usize,
    at_scope: usize,
    at_metric: usize,
    /// The key of the metric's data. As in decoders, one member of a oneof replaces another but merges with
    /// itself.
    member: u64,
}

impl Default for ItemCounts {
    fn default() -> Self {
        Self {
            items: 0,
            groups: 0,
            has_empty: false,
            at_group: NOT_OPEN,
            at_scope: NOT_OPEN,
            at_metric: NOT_OPEN,
            member: 0,
        }
    }
}

impl ItemCounts {
    fn begin_group(&mut self) {
        self.end_group();
        (self.at_group, self.at_scope, self.at_metric) = (self.items, NOT_OPEN, NOT_OPEN);
    }

    fn begin_scope(&mut self) {
        self.has_empty |= self.items == self.at_scope || self.items == self.at_metric;
        (self.at_scope, self.at_metric) = (self.items, NOT_OPEN);
    }

    fn begin_metric(&mut self) {
        self.has_empty |= self.items == self.at_metric;
        (self.at_metric, self.member) = (self.items, 0);
    }

    fn end_group(&mut self) {
        self.has_empty |= [self.at_group, self.at_scope, self.at_metric].contains(&self.items);
        self.groups += usize::from(self.at_group != NOT_OPEN && self.at_group != self.items);
    }

    fn contents(mut self) -> Contents {
        self.end_group();
        Contents { items: self.items, groups: self.groups, has_empty: self.has_empty }
    }
}

/// A message that is suspended while a nested one is read.
#[derive(Clone, Copy)]
struct SuspendedMessage<'a> {
    schema: &'static MessageSchema,
    /// The field of the nested message.
    field: &'static FieldSchema,
    /// The bytes after that field.
    rest: WireReader<'a>,
}

/// An error and its position.
struct LocatedError {
    cause: WireError,
    at: *const u8,
    /// The number of messages around it.
    depth: usize,
    field: Option<&'static FieldSchema>,
}

/// Checks bytes and counts items until `fuel` groups, metrics and items have passed. Returns true at the end.
/// It keeps its own stack: recursive calls would make up half of the run time.
///
/// It is not inlined, because within a caller that is optimized for size it would be optimized for size, too.
#[inline(never)]
fn walk<'a>(inspection: &mut Inspection<'a>, mut fuel: usize) -> Result<bool, LocatedError> {
    let suspended: &mut [Option<SuspendedMessage<'a>>] = &mut inspection.suspended;
    let (mut schema, mut reader, mut depth) = (inspection.schema, inspection.reader, inspection.depth);
    let mut count = inspection.count;
    loop {
        if reader.is_empty() {
            let Some(Some(outer)) = suspended.get(depth.wrapping_sub(1)) else {
                inspection.count = count;
                return Ok(true);
            };
            depth -= 1;
            (schema, reader) = (outer.schema, outer.rest);
            continue;
        }
        let start = reader;
        let located = |cause| LocatedError { cause, at: start.position(), depth, field: None };
        let key = reader.varint().map_err(located)?;
        let Some(field) = schema.field_of_key(key) else {
            reader = check_unusual_field(schema, start, depth)?;
            continue;
        };
        let start = reader;
        let located = |cause| LocatedError { cause, at: start.position(), depth, field: Some(field) };
        let FieldKind::Message(inner) = field.kind else {
            check_value(field.kind, &mut reader).map_err(located)?;
            continue;
        };
        let content = reader.delimited().map_err(located)?;
        if inner.role == MessageRole::KeyValue && depth + 2 <= suspended.len() && is_plain_attribute(content)
        {
            continue;
        }
        let Some(outer) = suspended.get_mut(depth) else { return Err(located(WireError::TooDeep)) };
        *outer = Some(SuspendedMessage { schema, field, rest: reader });
        (schema, reader) = (inner, WireReader::new(content));
        depth += 1;
        match inner.role {
            MessageRole::KeyValue | MessageRole::Other => continue,
            MessageRole::Item => count.items += 1,
            MessageRole::Group => count.begin_group(),
            MessageRole::ScopeGroup => count.begin_scope(),
            MessageRole::Metric => count.begin_metric(),
            MessageRole::MetricData if key != count.member => {
                (count.items, count.member) = (count.at_metric, key);
            }
            MessageRole::MetricData => {}
        }
        fuel -= 1;
        if fuel == 0 {
            (inspection.schema, inspection.reader, inspection.depth) = (schema, reader, depth);
            inspection.count = count;
            return Ok(false);
        }
    }
}

/// Checks the value of a field that is not a message.
#[inline]
fn check_value(kind: FieldKind, reader: &mut WireReader<'_>) -> Result<(), WireError> {
    match kind {
        FieldKind::String => {
            if !is_text(reader.delimited()?) {
                return Err(WireError::NotUtf8);
            }
        }
        FieldKind::Id(expected) => {
            let actual = reader.delimited()?.len();
            if actual != expected && actual != 0 {
                return Err(WireError::IdLength { actual, expected });
            }
        }
        FieldKind::Bytes => drop(reader.delimited()?),
        _ => check_number(kind, reader)?,
    }
    Ok(())
}

#[inline]
fn check_number(kind: FieldKind, reader: &mut WireReader<'_>) -> Result<(), WireError> {
    match kind {
        FieldKind::Fixed32 => reader.take(4).map(drop),
        FieldKind::Fixed64 | FieldKind::Sfixed64 | FieldKind::Double => reader.take(8).map(drop),
        _ => reader.varint().map(drop),
    }
}

/// Returns true for the most common kind of attribute: a key and a string, in this order, both short and ASCII.
/// This check takes a third of the time of reading its messages.
#[inline]
fn is_plain_attribute(content: &[u8]) -> bool {
    // The keys of `key`, of `value`, and of `string_value` in it, each before a length.
    let [0x0a, key_len @ ..0x80, rest @ ..] = content else { return false };
    let Some(value) = rest.get(usize::from(*key_len)..) else { return false };
    let [0x12, value_len @ ..0x80, 0x0a, text_len @ ..0x80, text @ ..] = value else { return false };
    usize::from(*text_len) == text.len() && *value_len == *text_len + 2 && is_ascii(content)
}

/// Returns true for UTF-8. Nearly every text is short ASCII, which is faster to check.
#[inline]
fn is_text(bytes: &[u8]) -> bool {
    is_ascii(bytes) || std::str::from_utf8(bytes).is_ok()
}

/// Inlined, because a call for each text would take a twentieth of the whole validation.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (eights, rest) = bytes.as_chunks();
    let of_eights = eights.iter().fold(0, |bits, eight| bits | u64::from_ne_bytes(*eight));
    // The last eight bytes overlap, instead of the rest one by one.
    let of_rest = match bytes.last_chunk() {
        Some(last) => u64::from_ne_bytes(*last),
        None => rest.iter().fold(0, |bits, byte| bits | u64::from(*byte)),
    };
    (of_eights | of_rest) & HIGH_BITS == 0
}

/// Checks a field that is not in the schema, or not encoded as expected. Returns a reader at the next field.
#[cold]
fn check_unusual_field<'a>(
    schema: &'static MessageSchema,
    mut reader: WireReader<'a>,
    depth: usize,
) -> Result<WireReader<'a>, LocatedError> {
    let start = reader;
    let located = |cause| LocatedError { cause, at: start.position(), depth, field: None };
    let (tag, wire_type) = reader.key().map_err(located)?;
    let Some(field) = schema.field(tag) else {
        let may_open = DEPTH_LIMIT.saturating_sub(u32::try_from(depth).unwrap_or(DEPTH_LIMIT));
        reader.skip(tag, wire_type, may_open).map_err(located)?;
        return Ok(reader);
    };
    let start = reader;
    let located = |cause| LocatedError { cause, at: start.position(), depth, field: Some(field) };
    if !field.repeated || wire_type != WireType::Delimited {
        return Err(located(WireError::WrongWireType));
    }
    // Packed numbers.
    let mut numbers = WireReader::new(reader.delimited().map_err(located)?);
    while !numbers.is_empty() {
        check_number(field.kind, &mut numbers).map_err(located)?;
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use prost::Message as _;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};

    /// A random change to bytes.
    #[derive(Clone, Debug)]
    enum Mutation {
        FlipBit(Index, u32),
        Truncate(Index),
        Insert(Index, u8),
        Remove(Index),
        Duplicate(Index, Index),
    }

    impl Mutation {
        fn apply(&self, bytes: &mut Vec<u8>) {
            let len = bytes.len();
            if len == 0 {
                return;
            }
            match self {
                Self::FlipBit(at, bit) => bytes[at.index(len)] ^= 1 << bit,
                Self::Truncate(at) => bytes.truncate(at.index(len)),
                Self::Insert(at, byte) => bytes.insert(at.index(len), *byte),
                Self::Remove(at) => drop(bytes.remove(at.index(len))),
                Self::Duplicate(from, to) => {
                    let piece = bytes[from.index(len)..].to_vec();
                    bytes.splice(to.index(len)..to.index(len), piece);
                }
            }
        }
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        prop_oneof![
            (any::<Index>(), 0..8_u32).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
            any::<Index>().prop_map(Mutation::Truncate),
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
            any::<Index>().prop_map(Mutation::Remove),
            (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Duplicate(from, to)),
        ]
    }

    /// The item count of the bytes as decoded by prost.
    fn reference(signal: Signal, bytes: &[u8]) -> Option<usize> {
        Request::decode(signal, bytes).ok().map(|request| request.flatten().len())
    }

    fn agrees(signal: Signal, bytes: &[u8]) -> Result<(), TestCaseError> {
        match validate(signal, bytes) {
            // Prost does not check ids.
            Err(MalformedRequest { cause: WireError::IdLength { .. }, .. }) => {}
            answer => prop_assert_eq!(answer.ok(), reference(signal, bytes)),
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn encoded_requests_are_accepted_and_counted(request in request()) {
            prop_assert_eq!(validate(request.signal(), &request.encode()), Ok(request.flatten().len()));
        }

        #[test]
        fn concatenated_requests_are_one_request(first in request(), second in request()) {
            prop_assume!(first.signal() == second.signal());
            let both = [first.encode(), second.encode()].concat();
            let items = [first.flatten(), second.flatten()].concat();
            prop_assert_eq!(validate(first.signal(), &both), Ok(items.len()));
            prop_assert_eq!(Request::decode(first.signal(), &both).unwrap().flatten(), items);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn agrees_with_prost_on_mutated_requests(request in request(), mutations in vec(mutation(), 1..3)) {
            let mut bytes = request.encode().to_vec();
            for mutation in mutations {
                mutation.apply(&mut bytes);
            }
            agrees(request.signal(), &bytes)?;
        }

        #[test]
        fn agrees_with_prost_on_random_bytes(
            signal in select(&Signal::ALL),
            // Most random bytes are not a message. Keys of low tags make them more like one.
            bytes in vec(prop_oneof![0..32_u8, select(&[0x0a_u8, 0x12, 0x22, 0x2a, 0x32][..]), any::<u8>()], 0..64),
        ) {
            agrees(signal, &bytes)?;
        }
    }

    #[test]
    fn steps_agree_with_one_pass() {
        let spans = vec![Span { name: "checkout".to_owned(), ..Span::default() }; STEP];
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }; 2];
        let group = ResourceSpans { scope_spans, ..ResourceSpans::default() };
        let resource_spans = vec![group.clone(), ResourceSpans::default(), group];
        let mut bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut inspection = Inspection::new(Signal::Traces, &bytes);
        let steps = std::iter::from_fn(|| inspection.step().is_none().then_some(())).count();
        assert_eq!(steps, 4);
        let contents = Contents { items: 4 * STEP, groups: 2, has_empty: true };
        assert_eq!(inspect(Signal::Traces, &bytes), Ok(contents));
        *bytes.last_mut().unwrap() = 0xff;
        let malformed = validate(Signal::Traces, &bytes).unwrap_err();
        assert_eq!(malformed.path, "resource_spans.scope_spans.spans.name");
    }

    /// `core` within `levels` nested fields of tag 1.
    fn nested(levels: usize, core: &[u8]) -> Vec<u8> {
        (0..levels).fold(core.to_vec(), |inner, _| {
            let mut outer = Vec::new();
            crate::otlp::wire::put_delimited_head(&mut outer, 1, inner.len());
            [outer, inner].concat()
        })
    }

    #[test]
    fn nesting_limit_is_that_of_prost() {
        // A resource, its attribute, the value of that, and nested arrays.
        let attribute = |levels: usize, innermost: &[u8]| {
            let mut value = innermost.to_vec();
            for level in 0..levels {
                let tag = if level % 2 == 0 { 1 } else { 5 };
                let mut outer = Vec::new();
                crate::otlp::wire::put_delimited_head(&mut outer, tag, value.len());
                value = [outer, value].concat();
            }
            let mut key_value = Vec::new();
            crate::otlp::wire::put_delimited_head(&mut key_value, 2, value.len());
            nested(3, &[key_value, value].concat())
        };
        let group = |levels: usize| [vec![0x0b; levels], vec![0x0c; levels]].concat();
        for levels in 80..110 {
            let plain = attribute(levels, b"\x32\x0a\x0a\x08\x0a\x01k\x12\x03\x0a\x01v");
            for bytes in [attribute(levels, &[]), plain, group(levels), nested(3, &group(levels))] {
                let answer = validate(Signal::Traces, &bytes);
                assert_eq!(
                    answer.is_ok(),
                    reference(Signal::Traces, &bytes).is_some(),
                    "{levels} levels: {answer:?}"
                );
            }
        }
    }

    #[test]
    fn error_names_its_position() {
        let span = Span { name: "checkout".to_owned(), ..Span::default() };
        let scope_spans = ScopeSpans { spans: vec![Span::default(), span], ..ScopeSpans::default() };
        let resource_spans =
            vec![ResourceSpans { scope_spans: vec![scope_spans], ..ResourceSpans::default() }];
        let mut bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let at = bytes.windows(8).position(|window| window == b"checkout").unwrap();
        bytes[at] = 0xff;
        let malformed = validate(Signal::Traces, &bytes).unwrap_err();
        assert_eq!(malformed.offset, at - 1, "the value starts at the length before the text");
        assert_eq!(
            malformed.to_string(),
            "resource_spans.scope_spans.spans.name: text is not UTF-8 at byte 9"
        );
        assert_eq!(
            validate(Signal::Logs, &[0x08]).unwrap_err().to_string(),
            "resource_logs: wrong wire type for this field at byte 1"
        );
        assert_eq!(
            validate(Signal::Logs, &[0xff]).unwrap_err().to_string(),
            "request: message ends too early at byte 0"
        );
    }

    #[test]
    fn id_of_wrong_length_is_refused() {
        let request = |trace_id: Vec<u8>| {
            let spans = vec![Span { trace_id, ..Span::default() }];
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
            ExportTraceServiceRequest { resource_spans }.encode_to_vec()
        };
        assert_eq!(validate(Signal::Traces, &request(vec![1; 16])), Ok(1));
        assert_eq!(validate(Signal::Traces, &request(Vec::new())), Ok(1));
        assert_eq!(
            validate(Signal::Traces, &request(vec![1; 15])).unwrap_err().cause,
            WireError::IdLength { actual: 15, expected: 16 }
        );
    }

    #[test]
    fn last_kind_of_data_of_a_metric_counts() {
        // A metric with one gauge point, two sum points, then another gauge point.
        let (gauge, sums) = ([0x2a, 0x02, 0x0a, 0x00], [0x3a, 0x04, 0x0a, 0x00, 0x0a, 0x00]);
        let request = |pieces: &[&[u8]]| {
            let metric = pieces.concat();
            let scope = [&[0x12, u8::try_from(metric.len()).unwrap()], metric.as_slice()].concat();
            let resource = [&[0x12, u8::try_from(scope.len()).unwrap()], scope.as_slice()].concat();
            [&[0x0a, u8::try_from(resource.len()).unwrap()], resource.as_slice()].concat()
        };
        for (pieces, items) in [
            (vec![&gauge[..], &gauge], 2),
            (vec![&gauge[..], &sums], 2),
            (vec![&gauge[..], &sums, &gauge], 1),
            (vec![&sums[..], &sums], 4),
        ] {
            let bytes = request(&pieces);
            assert_eq!(reference(Signal::Metrics, &bytes), Some(items));
            assert_eq!(validate(Signal::Metrics, &bytes), Ok(items));
        }
    }
}
