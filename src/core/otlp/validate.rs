//! The check at the door: are these bytes an OTLP export request, and how many items does it hold.
//!
//! A batch is requests laid end to end, so one that cannot be decoded would spoil its neighbours. Accepted is what prost
//! decodes as the request's type, but for one thing: trace and span ids have the length that OTLP gives them, or none.
//! Prost takes any bytes for an id. The OpenTelemetry Collector does not, and refuses the whole request for one bad id.
//!
//! One pass in steps, no allocation unless something is wrong.

use crate::otlp::schema::{Field, Kind, Message, Role};
use crate::otlp::wire::{DEPTH_LIMIT, Fault, Reader, WireType};
use crate::signal::Signal;

/// Why bytes are not the OTLP request they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}, at byte {offset}")]
pub struct Malformed {
    /// Where in the message, as field names: `resource_spans.scope_spans.spans.name`. `request` if at the very top.
    pub path: String,
    /// Where in the bytes.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// Checks that the bytes are an export request of that signal, whole and to full depth, and counts its items: log
/// records, metric data points, spans.
pub fn validate(signal: Signal, body: &[u8]) -> Result<usize, Malformed> {
    inspect(signal, body).map(|contents| contents.items)
}

/// Checks like [`validate`], and says more of what the request holds.
pub fn inspect(signal: Signal, body: &[u8]) -> Result<Contents, Malformed> {
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
    /// Log records, metric data points, spans.
    pub items: usize,
    /// Resource groups that hold items.
    pub groups: usize,
    /// There are resource groups, scope groups or metrics without items as well.
    pub has_empty: bool,
}

/// Groups, metrics and items that one step passes over: a few milliseconds of work.
const STEP: usize = 16 * 1024;

/// The check of a request in steps, between which others can have the thread.
pub struct Inspection<'a> {
    body: &'a [u8],
    /// The message that is being read, and what is left of it.
    schema: &'static Message,
    reader: Reader<'a>,
    depth: usize,
    around: [Option<Outer<'a>>; DEPTH_LIMIT as usize],
    count: Count,
}

impl<'a> Inspection<'a> {
    /// The check of these bytes as an export request of that signal.
    pub fn new(signal: Signal, body: &'a [u8]) -> Self {
        Self {
            body,
            schema: Message::of(signal),
            reader: Reader::new(body),
            depth: 0,
            around: [None; DEPTH_LIMIT as usize],
            count: Count::default(),
        }
    }

    /// Works for some milliseconds. Returns `None` where more is left; must not be called again after an answer.
    pub fn step(&mut self) -> Option<Result<Contents, Malformed>> {
        match walk(self, STEP) {
            Ok(false) => None,
            Ok(true) => Some(Ok(self.count.contents())),
            Err(Stop { fault, at, depth, field }) => {
                let around = self.around.iter().take(depth).flatten().map(|outer| outer.field);
                let path: Vec<_> = around.chain(field).map(|field| field.name).collect();
                let path = if path.is_empty() { "request".to_owned() } else { path.join(".") };
                Some(Err(Malformed { path, offset: at.addr() - self.body.as_ptr().addr(), fault }))
            }
        }
    }
}

/// No message of the kind is open.
const NONE: usize = usize::MAX;

/// The counts so far, and those at the beginning of each open group and metric: unchanged at its end, it is empty.
#[derive(Clone, Copy)]
struct Count {
    items: usize,
    groups: usize,
    has_empty: bool,
    at_group: usize,
    at_scope: usize,
    at_metric: usize,
    /// The key of the metric's data. As decoders read a oneof, a member takes the place of another one, but merges with
    /// itself.
    member: u64,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            items: 0,
            groups: 0,
            has_empty: false,
            at_group: NONE,
            at_scope: NONE,
            at_metric: NONE,
            member: 0,
        }
    }
}

impl Count {
    fn begin_group(&mut self) {
        self.end_group();
        (self.at_group, self.at_scope, self.at_metric) = (self.items, NONE, NONE);
    }

    fn begin_scope(&mut self) {
        self.has_empty |= self.items == self.at_scope || self.items == self.at_metric;
        (self.at_scope, self.at_metric) = (self.items, NONE);
    }

    fn begin_metric(&mut self) {
        self.has_empty |= self.items == self.at_metric;
        (self.at_metric, self.member) = (self.items, 0);
    }

    fn end_group(&mut self) {
        self.has_empty |= [self.at_group, self.at_scope, self.at_metric].contains(&self.items);
        self.groups += usize::from(self.at_group != NONE && self.at_group != self.items);
    }

    fn contents(mut self) -> Contents {
        self.end_group();
        Contents { items: self.items, groups: self.groups, has_empty: self.has_empty }
    }
}

/// A message that is left for one that lies in it.
#[derive(Clone, Copy)]
struct Outer<'a> {
    schema: &'static Message,
    /// The one that holds it.
    field: &'static Field,
    /// What comes after it.
    rest: Reader<'a>,
}

/// A fault, and where it was found.
struct Stop {
    fault: Fault,
    at: *const u8,
    /// How many messages are around.
    depth: usize,
    field: Option<&'static Field>,
}

/// Checks a message's bytes and counts the items in it, until so many groups, metrics and items were passed; says whether
/// that is all. Goes down and up by itself, since a call for each message would be half of what it takes.
///
/// Within a caller that is optimized for size, so would it be.
#[inline(never)]
fn walk<'a>(inspection: &mut Inspection<'a>, mut fuel: usize) -> Result<bool, Stop> {
    let around: &mut [Option<Outer<'a>>] = &mut inspection.around;
    let (mut schema, mut reader, mut depth) = (inspection.schema, inspection.reader, inspection.depth);
    let mut count = inspection.count;
    loop {
        if reader.is_empty() {
            let Some(Some(outer)) = around.get(depth.wrapping_sub(1)) else {
                inspection.count = count;
                return Ok(true);
            };
            depth -= 1;
            (schema, reader) = (outer.schema, outer.rest);
            continue;
        }
        let start = reader;
        let stop = |fault| Stop { fault, at: start.place(), depth, field: None };
        let key = reader.varint().map_err(stop)?;
        let Some(field) = schema.field_of_key(key) else {
            reader = unusual(schema, start, depth)?;
            continue;
        };
        let start = reader;
        let stop = |fault| Stop { fault, at: start.place(), depth, field: Some(field) };
        let Kind::Message(inner) = field.kind else {
            value(field.kind, &mut reader).map_err(stop)?;
            continue;
        };
        let content = reader.delimited().map_err(stop)?;
        if inner.role == Role::KeyValue && depth + 2 <= around.len() && is_plain_attribute(content) {
            continue;
        }
        let Some(outer) = around.get_mut(depth) else { return Err(stop(Fault::TooDeep)) };
        *outer = Some(Outer { schema, field, rest: reader });
        (schema, reader) = (inner, Reader::new(content));
        depth += 1;
        match inner.role {
            Role::KeyValue | Role::Other => continue,
            Role::Item => count.items += 1,
            Role::Group => count.begin_group(),
            Role::ScopeGroup => count.begin_scope(),
            Role::Metric => count.begin_metric(),
            Role::MetricData if key != count.member => (count.items, count.member) = (count.at_metric, key),
            Role::MetricData => {}
        }
        fuel -= 1;
        if fuel == 0 {
            (inspection.schema, inspection.reader, inspection.depth) = (schema, reader, depth);
            inspection.count = count;
            return Ok(false);
        }
    }
}

/// Checks the value of a field that is no message.
#[inline]
fn value(kind: Kind, reader: &mut Reader<'_>) -> Result<(), Fault> {
    match kind {
        Kind::String => {
            if !is_text(reader.delimited()?) {
                return Err(Fault::NotUtf8);
            }
        }
        Kind::Id(expected) => {
            let actual = reader.delimited()?.len();
            if actual != expected && actual != 0 {
                return Err(Fault::IdLength { actual, expected });
            }
        }
        Kind::Bytes => drop(reader.delimited()?),
        _ => number(kind, reader)?,
    }
    Ok(())
}

#[inline]
fn number(kind: Kind, reader: &mut Reader<'_>) -> Result<(), Fault> {
    match kind {
        Kind::Fixed32 => reader.take(4).map(drop),
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => reader.take(8).map(drop),
        _ => reader.varint().map(drop),
    }
}

/// Whether it is an attribute as most are: a key and a text, in this order, both short and ASCII. To see that takes a third of
/// what it takes to read the messages that it is made of.
#[inline]
fn is_plain_attribute(content: &[u8]) -> bool {
    // The tags and wire types of `key`, of `value`, and of `string_value` in it, each before a length.
    let [0x0a, key_len @ ..0x80, rest @ ..] = content else { return false };
    let Some(value) = rest.get(usize::from(*key_len)..) else { return false };
    let [0x12, value_len @ ..0x80, 0x0a, text_len @ ..0x80, text @ ..] = value else { return false };
    usize::from(*text_len) == text.len() && *value_len == *text_len + 2 && is_ascii(content)
}

/// Whether the bytes are UTF-8. Nearly every text is ASCII and short, and to see that takes less.
#[inline]
fn is_text(bytes: &[u8]) -> bool {
    is_ascii(bytes) || std::str::from_utf8(bytes).is_ok()
}

/// A call for each text would be a twentieth of the whole check.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (eights, rest) = bytes.as_chunks();
    let of_eights = eights.iter().fold(0, |bits, eight| bits | u64::from_ne_bytes(*eight));
    // The last ones once more, rather than one by one.
    let of_rest = match bytes.last_chunk() {
        Some(last) => u64::from_ne_bytes(*last),
        None => rest.iter().fold(0, |bits, byte| bits | u64::from(*byte)),
    };
    (of_eights | of_rest) & HIGH_BITS == 0
}

/// Checks a field that is not of the schema, or not encoded as it has it, and answers where the next one starts.
#[cold]
fn unusual<'a>(schema: &'static Message, mut reader: Reader<'a>, depth: usize) -> Result<Reader<'a>, Stop> {
    let start = reader;
    let stop = |fault| Stop { fault, at: start.place(), depth, field: None };
    let (tag, wire_type) = reader.key().map_err(stop)?;
    let Some(field) = schema.field(tag) else {
        let may_open = DEPTH_LIMIT.saturating_sub(u32::try_from(depth).unwrap_or(DEPTH_LIMIT));
        reader.skip(tag, wire_type, may_open).map_err(stop)?;
        return Ok(reader);
    };
    let start = reader;
    let stop = |fault| Stop { fault, at: start.place(), depth, field: Some(field) };
    if !field.repeated || wire_type != WireType::Delimited {
        return Err(stop(Fault::WrongWireType));
    }
    // Numbers of one field, one after the other.
    let mut numbers = Reader::new(reader.delimited().map_err(stop)?);
    while !numbers.is_empty() {
        number(field.kind, &mut numbers).map_err(stop)?;
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

    /// A way to spoil bytes.
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

    /// What prost says of the bytes, told as we tell it.
    fn reference(signal: Signal, bytes: &[u8]) -> Option<usize> {
        Request::decode(signal, bytes).ok().map(|request| request.flatten().len())
    }

    fn agrees(signal: Signal, bytes: &[u8]) -> Result<(), TestCaseError> {
        match validate(signal, bytes) {
            // Prost has no opinion on ids.
            Err(Malformed { fault: Fault::IdLength { .. }, .. }) => {}
            answer => prop_assert_eq!(answer.ok(), reference(signal, bytes)),
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_encoded_request_is_accepted_and_counted(request in request()) {
            prop_assert_eq!(validate(request.signal(), &request.encode()), Ok(request.flatten().len()));
        }

        #[test]
        fn requests_end_to_end_are_one_request(first in request(), second in request()) {
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
        fn of_spoilt_bytes_what_prost_decodes_is_accepted(request in request(), mutations in vec(mutation(), 1..3)) {
            let mut bytes = request.encode().to_vec();
            for mutation in mutations {
                mutation.apply(&mut bytes);
            }
            agrees(request.signal(), &bytes)?;
        }

        #[test]
        fn of_random_bytes_what_prost_decodes_is_accepted(
            signal in select(&Signal::ALL),
            // Most random bytes are no message at all. Keys of low tags make them look like some.
            bytes in vec(prop_oneof![0..32_u8, select(&[0x0a_u8, 0x12, 0x22, 0x2a, 0x32][..]), any::<u8>()], 0..64),
        ) {
            agrees(signal, &bytes)?;
        }
    }

    #[test]
    fn steps_find_what_one_pass_finds() {
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

    /// `levels` fields of tag 1 within each other, around `core`.
    fn nested(levels: usize, core: &[u8]) -> Vec<u8> {
        (0..levels).fold(core.to_vec(), |inner, _| {
            let mut outer = Vec::new();
            crate::otlp::wire::put_delimited_head(&mut outer, 1, inner.len());
            [outer, inner].concat()
        })
    }

    #[test]
    fn nesting_ends_where_prost_ends_it() {
        // A resource, its attribute, that one's value, and arrays within arrays.
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
    fn a_fault_is_told_with_its_place() {
        let span = Span { name: "checkout".to_owned(), ..Span::default() };
        let scope_spans = ScopeSpans { spans: vec![Span::default(), span], ..ScopeSpans::default() };
        let resource_spans =
            vec![ResourceSpans { scope_spans: vec![scope_spans], ..ResourceSpans::default() }];
        let mut bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let at = bytes.windows(8).position(|window| window == b"checkout").unwrap();
        bytes[at] = 0xff;
        let malformed = validate(Signal::Traces, &bytes).unwrap_err();
        assert_eq!(malformed.offset, at - 1, "the length before the text is where the value starts");
        assert_eq!(
            malformed.to_string(),
            "resource_spans.scope_spans.spans.name: the text is not UTF-8, at byte 9"
        );
        assert_eq!(
            validate(Signal::Logs, &[0x08]).unwrap_err().to_string(),
            "resource_logs: it is not encoded as this field is, at byte 1"
        );
        assert_eq!(
            validate(Signal::Logs, &[0xff]).unwrap_err().to_string(),
            "request: it ends too early, at byte 0"
        );
    }

    #[test]
    fn an_id_of_a_length_that_collectors_refuse_is_refused() {
        let request = |trace_id: Vec<u8>| {
            let spans = vec![Span { trace_id, ..Span::default() }];
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
            ExportTraceServiceRequest { resource_spans }.encode_to_vec()
        };
        assert_eq!(validate(Signal::Traces, &request(vec![1; 16])), Ok(1));
        assert_eq!(validate(Signal::Traces, &request(Vec::new())), Ok(1));
        assert_eq!(
            validate(Signal::Traces, &request(vec![1; 15])).unwrap_err().fault,
            Fault::IdLength { actual: 15, expected: 16 }
        );
    }

    #[test]
    fn of_a_metric_with_two_kinds_of_data_the_last_counts() {
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
