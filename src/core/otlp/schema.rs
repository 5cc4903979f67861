//! The messages of OTLP v1.x as a table: one row a field, with its tag, its name and its kind.
//!
//! Validation walks bytes along it, and the reading of OTLP/JSON walks text along it, so both know the same messages.
//! Source: the `.proto` files of the OTLP specification, without the profiles signal.

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::otlp::wire::WireType;
use crate::signal::Signal;

/// One more than the highest tag in the table.
const TAGS: usize = 17;

/// A message type.
#[derive(Debug)]
pub(super) struct Message {
    /// Indexed by tag.
    fields: [Field; TAGS],
    pub(super) role: Role,
}

/// What a message is to validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Other,
    /// Items of one resource: `ResourceSpans`.
    Group,
    /// Items of one scope: `ScopeSpans`.
    ScopeGroup,
    /// One of these counts as an item: a log record, a data point, a span.
    Item,
    /// Of its fields that hold items only the last one set counts.
    Metric,
    /// What is in those fields.
    MetricData,
    /// An attribute.
    KeyValue,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// As in the `.proto` file: `resource_spans`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    /// The key that is before each value, where not several numbers lie in one.
    key: u64,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// No such field.
    Unknown,
    Bool,
    Int32,
    Uint32,
    Sint32,
    Uint64,
    /// The `int_value` of an attribute.
    Int64,
    /// By name, for JSON. On the wire any 32-bit number will do.
    Enum(fn(&str) -> Option<i32>),
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    String,
    Bytes,
    /// Bytes that are a trace or span id: none, or this many.
    Id(usize),
    Message(&'static Message),
}

impl Message {
    pub(super) fn of(signal: Signal) -> &'static Self {
        match signal {
            Signal::Logs => &LOGS_REQUEST,
            Signal::Metrics => &METRICS_REQUEST,
            Signal::Traces => &TRACE_REQUEST,
        }
    }

    /// The field of that tag, if the message has one.
    pub(super) fn field(&self, tag: u32) -> Option<&Field> {
        let field = self.fields.get(usize::try_from(tag).ok()?)?;
        (!matches!(field.kind, Kind::Unknown)).then_some(field)
    }

    /// The field that has that key before its values.
    #[inline]
    pub(super) fn field_of_key(&self, key: u64) -> Option<&Field> {
        self.fields.get(usize::try_from(key >> 3).ok()?).filter(|field| field.key == key)
    }

    /// The field that OTLP/JSON calls by that name, with its tag.
    pub(super) fn field_in_json(&self, key: &str) -> Option<(u32, &Field)> {
        (0..).zip(&self.fields).find(|(_, field)| field.is_in_json(key))
    }

    const fn new<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::Other, rows)
    }

    const fn group<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::Group, rows)
    }

    const fn scope_group<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::ScopeGroup, rows)
    }

    const fn item<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::Item, rows)
    }

    const fn metric<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::Metric, rows)
    }

    const fn metric_data<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::MetricData, rows)
    }

    const fn key_value<const N: usize>(rows: [(usize, Field); N]) -> Self {
        Self::in_role(Role::KeyValue, rows)
    }

    const fn in_role<const N: usize>(role: Role, rows: [(usize, Field); N]) -> Self {
        let mut fields = [NO_FIELD; TAGS];
        let mut row = 0;
        while row < N {
            #[expect(
                clippy::indexing_slicing,
                reason = "run by the compiler, which refuses an index out of range"
            )]
            {
                fields[rows[row].0] = rows[row].1;
            }
            row += 1;
        }
        Self { fields, role }
    }
}

impl Field {
    const fn new(tag: usize, name: &'static str, kind: Kind, repeated: bool) -> Self {
        Self { name, kind, repeated, key: (tag as u64) << 3 | kind.wire_type() as u64 }
    }

    /// Returns true if `key` is the field's name in lower camel case, or as the `.proto` file spells it. The OTLP specification
    /// allows only the first; protobuf's JSON mapping has parsers take both, and some senders write the second.
    fn is_in_json(&self, key: &str) -> bool {
        if matches!(self.kind, Kind::Unknown) {
            return false;
        }
        if key == self.name {
            return true;
        }
        let mut key = key.bytes();
        let mut after_underscore = false;
        for byte in self.name.bytes() {
            if byte == b'_' {
                after_underscore = true;
                continue;
            }
            let expected = if after_underscore { byte.to_ascii_uppercase() } else { byte };
            after_underscore = false;
            if key.next() != Some(expected) {
                return false;
            }
        }
        key.next().is_none()
    }
}

impl Kind {
    pub(super) const fn wire_type(self) -> WireType {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Uint32
            | Self::Sint32
            | Self::Uint64
            | Self::Int64
            | Self::Enum(_)
            | Self::Unknown => WireType::Varint,
            Self::Fixed32 => WireType::Fixed32,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => WireType::Fixed64,
            Self::String | Self::Bytes | Self::Id(_) | Self::Message(_) => WireType::Delimited,
        }
    }
}

/// No key is that large.
const NO_FIELD: Field = Field { name: "", kind: Kind::Unknown, repeated: false, key: u64::MAX };

const fn one(tag: usize, name: &'static str, kind: Kind) -> (usize, Field) {
    (tag, Field::new(tag, name, kind, false))
}

const fn many(tag: usize, name: &'static str, kind: Kind) -> (usize, Field) {
    (tag, Field::new(tag, name, kind, true))
}

const TRACE_ID: Kind = Kind::Id(16);
const SPAN_ID: Kind = Kind::Id(8);
const SEVERITY: Kind = Kind::Enum(|name| SeverityNumber::from_str_name(name).map(i32::from));
const SPAN_KIND: Kind = Kind::Enum(|name| SpanKind::from_str_name(name).map(i32::from));
const STATUS_CODE: Kind = Kind::Enum(|name| StatusCode::from_str_name(name).map(i32::from));
const TEMPORALITY: Kind = Kind::Enum(|name| AggregationTemporality::from_str_name(name).map(i32::from));

static LOGS_REQUEST: Message = Message::new([many(1, "resource_logs", Kind::Message(&RESOURCE_LOGS))]);
static METRICS_REQUEST: Message =
    Message::new([many(1, "resource_metrics", Kind::Message(&RESOURCE_METRICS))]);
static TRACE_REQUEST: Message = Message::new([many(1, "resource_spans", Kind::Message(&RESOURCE_SPANS))]);

static RESOURCE_LOGS: Message = Message::group([
    one(1, "resource", Kind::Message(&RESOURCE)),
    many(2, "scope_logs", Kind::Message(&SCOPE_LOGS)),
    one(3, "schema_url", Kind::String),
]);

static SCOPE_LOGS: Message = Message::scope_group([
    one(1, "scope", Kind::Message(&SCOPE)),
    many(2, "log_records", Kind::Message(&LOG_RECORD)),
    one(3, "schema_url", Kind::String),
]);

static LOG_RECORD: Message = Message::item([
    one(1, "time_unix_nano", Kind::Fixed64),
    one(2, "severity_number", SEVERITY),
    one(3, "severity_text", Kind::String),
    one(5, "body", Kind::Message(&ANY_VALUE)),
    many(6, "attributes", Kind::Message(&KEY_VALUE)),
    one(7, "dropped_attributes_count", Kind::Uint32),
    one(8, "flags", Kind::Fixed32),
    one(9, "trace_id", TRACE_ID),
    one(10, "span_id", SPAN_ID),
    one(11, "observed_time_unix_nano", Kind::Fixed64),
    one(12, "event_name", Kind::String),
]);

static RESOURCE_SPANS: Message = Message::group([
    one(1, "resource", Kind::Message(&RESOURCE)),
    many(2, "scope_spans", Kind::Message(&SCOPE_SPANS)),
    one(3, "schema_url", Kind::String),
]);

static SCOPE_SPANS: Message = Message::scope_group([
    one(1, "scope", Kind::Message(&SCOPE)),
    many(2, "spans", Kind::Message(&SPAN)),
    one(3, "schema_url", Kind::String),
]);

static SPAN: Message = Message::item([
    one(1, "trace_id", TRACE_ID),
    one(2, "span_id", SPAN_ID),
    one(3, "trace_state", Kind::String),
    one(4, "parent_span_id", SPAN_ID),
    one(5, "name", Kind::String),
    one(6, "kind", SPAN_KIND),
    one(7, "start_time_unix_nano", Kind::Fixed64),
    one(8, "end_time_unix_nano", Kind::Fixed64),
    many(9, "attributes", Kind::Message(&KEY_VALUE)),
    one(10, "dropped_attributes_count", Kind::Uint32),
    many(11, "events", Kind::Message(&EVENT)),
    one(12, "dropped_events_count", Kind::Uint32),
    many(13, "links", Kind::Message(&LINK)),
    one(14, "dropped_links_count", Kind::Uint32),
    one(15, "status", Kind::Message(&STATUS)),
    one(16, "flags", Kind::Fixed32),
]);

static EVENT: Message = Message::new([
    one(1, "time_unix_nano", Kind::Fixed64),
    one(2, "name", Kind::String),
    many(3, "attributes", Kind::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", Kind::Uint32),
]);

static LINK: Message = Message::new([
    one(1, "trace_id", TRACE_ID),
    one(2, "span_id", SPAN_ID),
    one(3, "trace_state", Kind::String),
    many(4, "attributes", Kind::Message(&KEY_VALUE)),
    one(5, "dropped_attributes_count", Kind::Uint32),
    one(6, "flags", Kind::Fixed32),
]);

static STATUS: Message = Message::new([one(2, "message", Kind::String), one(3, "code", STATUS_CODE)]);

static RESOURCE_METRICS: Message = Message::group([
    one(1, "resource", Kind::Message(&RESOURCE)),
    many(2, "scope_metrics", Kind::Message(&SCOPE_METRICS)),
    one(3, "schema_url", Kind::String),
]);

static SCOPE_METRICS: Message = Message::scope_group([
    one(1, "scope", Kind::Message(&SCOPE)),
    many(2, "metrics", Kind::Message(&METRIC)),
    one(3, "schema_url", Kind::String),
]);

/// The tags of the `data` of a metric, whatever its type.
pub(super) const METRIC_DATA: &[u32] = &[5, 7, 9, 10, 11];

static METRIC: Message = Message::metric([
    one(1, "name", Kind::String),
    one(2, "description", Kind::String),
    one(3, "unit", Kind::String),
    one(5, "gauge", Kind::Message(&GAUGE)),
    one(7, "sum", Kind::Message(&SUM)),
    one(9, "histogram", Kind::Message(&HISTOGRAM)),
    one(10, "exponential_histogram", Kind::Message(&EXPONENTIAL_HISTOGRAM)),
    one(11, "summary", Kind::Message(&SUMMARY)),
    many(12, "metadata", Kind::Message(&KEY_VALUE)),
]);

static GAUGE: Message = Message::metric_data([many(1, "data_points", Kind::Message(&NUMBER_DATA_POINT))]);

static SUM: Message = Message::metric_data([
    many(1, "data_points", Kind::Message(&NUMBER_DATA_POINT)),
    one(2, "aggregation_temporality", TEMPORALITY),
    one(3, "is_monotonic", Kind::Bool),
]);

static HISTOGRAM: Message = Message::metric_data([
    many(1, "data_points", Kind::Message(&HISTOGRAM_DATA_POINT)),
    one(2, "aggregation_temporality", TEMPORALITY),
]);

static EXPONENTIAL_HISTOGRAM: Message = Message::metric_data([
    many(1, "data_points", Kind::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
    one(2, "aggregation_temporality", TEMPORALITY),
]);

static SUMMARY: Message = Message::metric_data([many(1, "data_points", Kind::Message(&SUMMARY_DATA_POINT))]);

static NUMBER_DATA_POINT: Message = Message::item([
    one(2, "start_time_unix_nano", Kind::Fixed64),
    one(3, "time_unix_nano", Kind::Fixed64),
    one(4, "as_double", Kind::Double),
    many(5, "exemplars", Kind::Message(&EXEMPLAR)),
    one(6, "as_int", Kind::Sfixed64),
    many(7, "attributes", Kind::Message(&KEY_VALUE)),
    one(8, "flags", Kind::Uint32),
]);

static HISTOGRAM_DATA_POINT: Message = Message::item([
    one(2, "start_time_unix_nano", Kind::Fixed64),
    one(3, "time_unix_nano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    many(6, "bucket_counts", Kind::Fixed64),
    many(7, "explicit_bounds", Kind::Double),
    many(8, "exemplars", Kind::Message(&EXEMPLAR)),
    many(9, "attributes", Kind::Message(&KEY_VALUE)),
    one(10, "flags", Kind::Uint32),
    one(11, "min", Kind::Double),
    one(12, "max", Kind::Double),
]);

static EXPONENTIAL_HISTOGRAM_DATA_POINT: Message = Message::item([
    many(1, "attributes", Kind::Message(&KEY_VALUE)),
    one(2, "start_time_unix_nano", Kind::Fixed64),
    one(3, "time_unix_nano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    one(6, "scale", Kind::Sint32),
    one(7, "zero_count", Kind::Fixed64),
    one(8, "positive", Kind::Message(&BUCKETS)),
    one(9, "negative", Kind::Message(&BUCKETS)),
    one(10, "flags", Kind::Uint32),
    many(11, "exemplars", Kind::Message(&EXEMPLAR)),
    one(12, "min", Kind::Double),
    one(13, "max", Kind::Double),
    one(14, "zero_threshold", Kind::Double),
]);

static BUCKETS: Message =
    Message::new([one(1, "offset", Kind::Sint32), many(2, "bucket_counts", Kind::Uint64)]);

static SUMMARY_DATA_POINT: Message = Message::item([
    one(2, "start_time_unix_nano", Kind::Fixed64),
    one(3, "time_unix_nano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    many(6, "quantile_values", Kind::Message(&VALUE_AT_QUANTILE)),
    many(7, "attributes", Kind::Message(&KEY_VALUE)),
    one(8, "flags", Kind::Uint32),
]);

static VALUE_AT_QUANTILE: Message =
    Message::new([one(1, "quantile", Kind::Double), one(2, "value", Kind::Double)]);

static EXEMPLAR: Message = Message::new([
    one(2, "time_unix_nano", Kind::Fixed64),
    one(3, "as_double", Kind::Double),
    one(4, "span_id", SPAN_ID),
    one(5, "trace_id", TRACE_ID),
    one(6, "as_int", Kind::Sfixed64),
    many(7, "filtered_attributes", Kind::Message(&KEY_VALUE)),
]);

static RESOURCE: Message = Message::new([
    many(1, "attributes", Kind::Message(&KEY_VALUE)),
    one(2, "dropped_attributes_count", Kind::Uint32),
    many(3, "entity_refs", Kind::Message(&ENTITY_REF)),
]);

static ENTITY_REF: Message = Message::new([
    one(1, "schema_url", Kind::String),
    one(2, "type", Kind::String),
    many(3, "id_keys", Kind::String),
    many(4, "description_keys", Kind::String),
]);

static SCOPE: Message = Message::new([
    one(1, "name", Kind::String),
    one(2, "version", Kind::String),
    many(3, "attributes", Kind::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", Kind::Uint32),
]);

static KEY_VALUE: Message = Message::key_value([
    one(1, "key", Kind::String),
    one(2, "value", Kind::Message(&ANY_VALUE)),
    one(3, "key_strindex", Kind::Int32),
]);

static ANY_VALUE: Message = Message::new([
    one(1, "string_value", Kind::String),
    one(2, "bool_value", Kind::Bool),
    one(3, "int_value", Kind::Int64),
    one(4, "double_value", Kind::Double),
    one(5, "array_value", Kind::Message(&ARRAY_VALUE)),
    one(6, "kvlist_value", Kind::Message(&KEY_VALUE_LIST)),
    one(7, "bytes_value", Kind::Bytes),
    one(8, "string_value_strindex", Kind::Int32),
]);

static ARRAY_VALUE: Message = Message::new([many(1, "values", Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = Message::new([many(1, "values", Kind::Message(&KEY_VALUE))]);
