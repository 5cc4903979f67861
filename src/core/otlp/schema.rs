//! The messages of OTLP v1.x as a table: one row per field, with its tag, name and kind.
//!
//! Validation and the OTLP/JSON parser both follow this table, so both know the same messages. Source: the
//! `.proto` files of the OTLP specification, without the profiles signal.

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::otlp::wire::WireType;
use crate::signal::Signal;

/// The highest tag in the table plus one.
pub(super) const TAG_COUNT: usize = 17;

/// A message type.
#[derive(Debug)]
pub(super) struct MessageSchema {
    /// Indexed by tag.
    fields: [FieldSchema; TAG_COUNT],
    pub(super) role: MessageRole,
}

/// The role of a message in validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageRole {
    Other,
    /// The items of one resource: `ResourceSpans`.
    Group,
    /// The items of one scope: `ScopeSpans`.
    ScopeGroup,
    /// An item: a log record, a data point, a span.
    Item,
    /// A metric. Of its fields that hold data points, only the last one set counts.
    Metric,
    /// The message in those fields.
    MetricData,
    /// An attribute.
    KeyValue,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSchema {
    /// The name in the `.proto` file: `resource_spans`.
    pub(super) name: &'static str,
    pub(super) kind: FieldKind,
    pub(super) repeated: bool,
    /// The key before each value, unless the values are packed.
    key: u64,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldKind {
    /// No such field.
    Unknown,
    Bool,
    Int32,
    Uint32,
    Sint32,
    Uint64,
    /// The `int_value` of an attribute.
    Int64,
    /// An enum; the function finds a value by name, for JSON. On the wire, any 32-bit number is valid.
    Enum(fn(&str) -> Option<i32>),
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    String,
    Bytes,
    /// A trace or span id: empty, or this many bytes.
    Id(usize),
    Message(&'static MessageSchema),
}

impl MessageSchema {
    pub(super) fn of(signal: Signal) -> &'static Self {
        match signal {
            Signal::Logs => &LOGS_REQUEST,
            Signal::Metrics => &METRICS_REQUEST,
            Signal::Traces => &TRACE_REQUEST,
        }
    }

    /// The field with this tag.
    pub(super) fn field(&self, tag: u32) -> Option<&FieldSchema> {
        let field = self.fields.get(usize::try_from(tag).ok()?)?;
        (!matches!(field.kind, FieldKind::Unknown)).then_some(field)
    }

    /// The field whose values have this key.
    #[inline]
    pub(super) fn field_of_key(&self, key: u64) -> Option<&FieldSchema> {
        self.fields.get(usize::try_from(key >> 3).ok()?).filter(|field| field.key == key)
    }

    /// The field with this name in OTLP/JSON, and its tag.
    pub(super) fn field_in_json(&self, key: &str) -> Option<(u32, &FieldSchema)> {
        (0..).zip(&self.fields).find(|(_, field)| field.is_in_json(key))
    }

    const fn new<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::Other, rows)
    }

    const fn group<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::Group, rows)
    }

    const fn scope_group<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::ScopeGroup, rows)
    }

    const fn item<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::Item, rows)
    }

    const fn metric<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::Metric, rows)
    }

    const fn metric_data<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::MetricData, rows)
    }

    const fn key_value<const N: usize>(rows: [(usize, FieldSchema); N]) -> Self {
        Self::in_role(MessageRole::KeyValue, rows)
    }

    const fn in_role<const N: usize>(role: MessageRole, rows: [(usize, FieldSchema); N]) -> Self {
        let mut fields = [NO_FIELD; TAG_COUNT];
        let mut row = 0;
        while row < N {
            #[expect(
                clippy::indexing_slicing,
                reason = "evaluated at compile time, where an index out of range is an error"
            )]
            {
                fields[rows[row].0] = rows[row].1;
            }
            row += 1;
        }
        Self { fields, role }
    }
}

impl FieldSchema {
    const fn new(tag: usize, name: &'static str, kind: FieldKind, repeated: bool) -> Self {
        Self { name, kind, repeated, key: (tag as u64) << 3 | kind.wire_type() as u64 }
    }

    /// Returns true if `key` is the field's name in lower camel case, or as spelled in the `.proto` file. The
    /// OTLP specification allows only the first. Protobuf's JSON mapping has parsers accept both, and some
    /// senders write the second.
    fn is_in_json(&self, key: &str) -> bool {
        if matches!(self.kind, FieldKind::Unknown) {
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

impl FieldKind {
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

/// A placeholder for unused tags; no valid key is this large.
const NO_FIELD: FieldSchema =
    FieldSchema { name: "", kind: FieldKind::Unknown, repeated: false, key: u64::MAX };

const fn one(tag: usize, name: &'static str, kind: FieldKind) -> (usize, FieldSchema) {
    (tag, FieldSchema::new(tag, name, kind, false))
}

const fn many(tag: usize, name: &'static str, kind: FieldKind) -> (usize, FieldSchema) {
    (tag, FieldSchema::new(tag, name, kind, true))
}

const TRACE_ID: FieldKind = FieldKind::Id(16);
const SPAN_ID: FieldKind = FieldKind::Id(8);
const SEVERITY: FieldKind = FieldKind::Enum(|name| SeverityNumber::from_str_name(name).map(i32::from));
const SPAN_KIND: FieldKind = FieldKind::Enum(|name| SpanKind::from_str_name(name).map(i32::from));
const STATUS_CODE: FieldKind = FieldKind::Enum(|name| StatusCode::from_str_name(name).map(i32::from));
const TEMPORALITY: FieldKind =
    FieldKind::Enum(|name| AggregationTemporality::from_str_name(name).map(i32::from));

static LOGS_REQUEST: MessageSchema =
    MessageSchema::new([many(1, "resource_logs", FieldKind::Message(&RESOURCE_LOGS))]);
static METRICS_REQUEST: MessageSchema =
    MessageSchema::new([many(1, "resource_metrics", FieldKind::Message(&RESOURCE_METRICS))]);
static TRACE_REQUEST: MessageSchema =
    MessageSchema::new([many(1, "resource_spans", FieldKind::Message(&RESOURCE_SPANS))]);

static RESOURCE_LOGS: MessageSchema = MessageSchema::group([
    one(1, "resource", FieldKind::Message(&RESOURCE)),
    many(2, "scope_logs", FieldKind::Message(&SCOPE_LOGS)),
    one(3, "schema_url", FieldKind::String),
]);

static SCOPE_LOGS: MessageSchema = MessageSchema::scope_group([
    one(1, "scope", FieldKind::Message(&SCOPE)),
    many(2, "log_records", FieldKind::Message(&LOG_RECORD)),
    one(3, "schema_url", FieldKind::String),
]);

static LOG_RECORD: MessageSchema = MessageSchema::item([
    one(1, "time_unix_nano", FieldKind::Fixed64),
    one(2, "severity_number", SEVERITY),
    one(3, "severity_text", FieldKind::String),
    one(5, "body", FieldKind::Message(&ANY_VALUE)),
    many(6, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(7, "dropped_attributes_count", FieldKind::Uint32),
    one(8, "flags", FieldKind::Fixed32),
    one(9, "trace_id", TRACE_ID),
    one(10, "span_id", SPAN_ID),
    one(11, "observed_time_unix_nano", FieldKind::Fixed64),
    one(12, "event_name", FieldKind::String),
]);

static RESOURCE_SPANS: MessageSchema = MessageSchema::group([
    one(1, "resource", FieldKind::Message(&RESOURCE)),
    many(2, "scope_spans", FieldKind::Message(&SCOPE_SPANS)),
    one(3, "schema_url", FieldKind::String),
]);

static SCOPE_SPANS: MessageSchema = MessageSchema::scope_group([
    one(1, "scope", FieldKind::Message(&SCOPE)),
    many(2, "spans", FieldKind::Message(&SPAN)),
    one(3, "schema_url", FieldKind::String),
]);

static SPAN: MessageSchema = MessageSchema::item([
    one(1, "trace_id", TRACE_ID),
    one(2, "span_id", SPAN_ID),
    one(3, "trace_state", FieldKind::String),
    one(4, "parent_span_id", SPAN_ID),
    one(5, "name", FieldKind::String),
    one(6, "kind", SPAN_KIND),
    one(7, "start_time_unix_nano", FieldKind::Fixed64),
    one(8, "end_time_unix_nano", FieldKind::Fixed64),
    many(9, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(10, "dropped_attributes_count", FieldKind::Uint32),
    many(11, "events", FieldKind::Message(&EVENT)),
    one(12, "dropped_events_count", FieldKind::Uint32),
    many(13, "links", FieldKind::Message(&LINK)),
    one(14, "dropped_links_count", FieldKind::Uint32),
    one(15, "status", FieldKind::Message(&STATUS)),
    one(16, "flags", FieldKind::Fixed32),
]);

static EVENT: MessageSchema = MessageSchema::new([
    one(1, "time_unix_nano", FieldKind::Fixed64),
    one(2, "name", FieldKind::String),
    many(3, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", FieldKind::Uint32),
]);

static LINK: MessageSchema = MessageSchema::new([
    one(1, "trace_id", TRACE_ID),
    one(2, "span_id", SPAN_ID),
    one(3, "trace_state", FieldKind::String),
    many(4, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(5, "dropped_attributes_count", FieldKind::Uint32),
    one(6, "flags", FieldKind::Fixed32),
]);

static STATUS: MessageSchema =
    MessageSchema::new([one(2, "message", FieldKind::String), one(3, "code", STATUS_CODE)]);

static RESOURCE_METRICS: MessageSchema = MessageSchema::group([
    one(1, "resource", FieldKind::Message(&RESOURCE)),
    many(2, "scope_metrics", FieldKind::Message(&SCOPE_METRICS)),
    one(3, "schema_url", FieldKind::String),
]);

static SCOPE_METRICS: MessageSchema = MessageSchema::scope_group([
    one(1, "scope", FieldKind::Message(&SCOPE)),
    many(2, "metrics", FieldKind::Message(&METRIC)),
    one(3, "schema_url", FieldKind::String),
]);

/// The tags of a metric's `data`, for all its types.
pub(super) const METRIC_DATA: &[u32] = &[5, 7, 9, 10, 11];

static METRIC: MessageSchema = MessageSchema::metric([
    one(1, "name", FieldKind::String),
    one(2, "description", FieldKind::String),
    one(3, "unit", FieldKind::String),
    one(5, "gauge", FieldKind::Message(&GAUGE)),
    one(7, "sum", FieldKind::Message(&SUM)),
    one(9, "histogram", FieldKind::Message(&HISTOGRAM)),
    one(10, "exponential_histogram", FieldKind::Message(&EXPONENTIAL_HISTOGRAM)),
    one(11, "summary", FieldKind::Message(&SUMMARY)),
    many(12, "metadata", FieldKind::Message(&KEY_VALUE)),
]);

static GAUGE: MessageSchema =
    MessageSchema::metric_data([many(1, "data_points", FieldKind::Message(&NUMBER_DATA_POINT))]);

static SUM: MessageSchema = MessageSchema::metric_data([
    many(1, "data_points", FieldKind::Message(&NUMBER_DATA_POINT)),
    one(2, "aggregation_temporality", TEMPORALITY),
    one(3, "is_monotonic", FieldKind::Bool),
]);

static HISTOGRAM: MessageSchema = MessageSchema::metric_data([
    many(1, "data_points", FieldKind::Message(&HISTOGRAM_DATA_POINT)),
    one(2, "aggregation_temporality", TEMPORALITY),
]);

static EXPONENTIAL_HISTOGRAM: MessageSchema = MessageSchema::metric_data([
    many(1, "data_points", FieldKind::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
    one(2, "aggregation_temporality", TEMPORALITY),
]);

static SUMMARY: MessageSchema =
    MessageSchema::metric_data([many(1, "data_points", FieldKind::Message(&SUMMARY_DATA_POINT))]);

static NUMBER_DATA_POINT: MessageSchema = MessageSchema::item([
    one(2, "start_time_unix_nano", FieldKind::Fixed64),
    one(3, "time_unix_nano", FieldKind::Fixed64),
    one(4, "as_double", FieldKind::Double),
    many(5, "exemplars", FieldKind::Message(&EXEMPLAR)),
    one(6, "as_int", FieldKind::Sfixed64),
    many(7, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(8, "flags", FieldKind::Uint32),
]);

static HISTOGRAM_DATA_POINT: MessageSchema = MessageSchema::item([
    one(2, "start_time_unix_nano", FieldKind::Fixed64),
    one(3, "time_unix_nano", FieldKind::Fixed64),
    one(4, "count", FieldKind::Fixed64),
    one(5, "sum", FieldKind::Double),
    many(6, "bucket_counts", FieldKind::Fixed64),
    many(7, "explicit_bounds", FieldKind::Double),
    many(8, "exemplars", FieldKind::Message(&EXEMPLAR)),
    many(9, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(10, "flags", FieldKind::Uint32),
    one(11, "min", FieldKind::Double),
    one(12, "max", FieldKind::Double),
]);

static EXPONENTIAL_HISTOGRAM_DATA_POINT: MessageSchema = MessageSchema::item([
    many(1, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(2, "start_time_unix_nano", FieldKind::Fixed64),
    one(3, "time_unix_nano", FieldKind::Fixed64),
    one(4, "count", FieldKind::Fixed64),
    one(5, "sum", FieldKind::Double),
    one(6, "scale", FieldKind::Sint32),
    one(7, "zero_count", FieldKind::Fixed64),
    one(8, "positive", FieldKind::Message(&BUCKETS)),
    one(9, "negative", FieldKind::Message(&BUCKETS)),
    one(10, "flags", FieldKind::Uint32),
    many(11, "exemplars", FieldKind::Message(&EXEMPLAR)),
    one(12, "min", FieldKind::Double),
    one(13, "max", FieldKind::Double),
    one(14, "zero_threshold", FieldKind::Double),
]);

static BUCKETS: MessageSchema =
    MessageSchema::new([one(1, "offset", FieldKind::Sint32), many(2, "bucket_counts", FieldKind::Uint64)]);

static SUMMARY_DATA_POINT: MessageSchema = MessageSchema::item([
    one(2, "start_time_unix_nano", FieldKind::Fixed64),
    one(3, "time_unix_nano", FieldKind::Fixed64),
    one(4, "count", FieldKind::Fixed64),
    one(5, "sum", FieldKind::Double),
    many(6, "quantile_values", FieldKind::Message(&VALUE_AT_QUANTILE)),
    many(7, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(8, "flags", FieldKind::Uint32),
]);

static VALUE_AT_QUANTILE: MessageSchema =
    MessageSchema::new([one(1, "quantile", FieldKind::Double), one(2, "value", FieldKind::Double)]);

static EXEMPLAR: MessageSchema = MessageSchema::new([
    one(2, "time_unix_nano", FieldKind::Fixed64),
    one(3, "as_double", FieldKind::Double),
    one(4, "span_id", SPAN_ID),
    one(5, "trace_id", TRACE_ID),
    one(6, "as_int", FieldKind::Sfixed64),
    many(7, "filtered_attributes", FieldKind::Message(&KEY_VALUE)),
]);

static RESOURCE: MessageSchema = MessageSchema::new([
    many(1, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(2, "dropped_attributes_count", FieldKind::Uint32),
    many(3, "entity_refs", FieldKind::Message(&ENTITY_REF)),
]);

static ENTITY_REF: MessageSchema = MessageSchema::new([
    one(1, "schema_url", FieldKind::String),
    one(2, "type", FieldKind::String),
    many(3, "id_keys", FieldKind::String),
    many(4, "description_keys", FieldKind::String),
]);

static SCOPE: MessageSchema = MessageSchema::new([
    one(1, "name", FieldKind::String),
    one(2, "version", FieldKind::String),
    many(3, "attributes", FieldKind::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", FieldKind::Uint32),
]);

static KEY_VALUE: MessageSchema = MessageSchema::key_value([
    one(1, "key", FieldKind::String),
    one(2, "value", FieldKind::Message(&ANY_VALUE)),
    one(3, "key_strindex", FieldKind::Int32),
]);

static ANY_VALUE: MessageSchema = MessageSchema::new([
    one(1, "string_value", FieldKind::String),
    one(2, "bool_value", FieldKind::Bool),
    one(3, "int_value", FieldKind::Int64),
    one(4, "double_value", FieldKind::Double),
    one(5, "array_value", FieldKind::Message(&ARRAY_VALUE)),
    one(6, "kvlist_value", FieldKind::Message(&KEY_VALUE_LIST)),
    one(7, "bytes_value", FieldKind::Bytes),
    one(8, "string_value_strindex", FieldKind::Int32),
]);

static ARRAY_VALUE: MessageSchema = MessageSchema::new([many(1, "values", FieldKind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: MessageSchema =
    MessageSchema::new([many(1, "values", FieldKind::Message(&KEY_VALUE))]);
