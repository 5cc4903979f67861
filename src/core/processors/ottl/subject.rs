//! The telemetry that a statement reads and changes, and the paths to its fields.

use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as PointValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;

use super::super::value::{self, Value};
use crate::trace_context::hex;

/// What a statement is evaluated for. From the outermost to the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Context {
    Resource,
    Scope,
    Span,
    Metric,
    Log,
    SpanEvent,
    DataPoint,
}

impl Context {
    /// The context of this name.
    pub(in super::super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "resource" => Self::Resource,
            "scope" | "instrumentation_scope" => Self::Scope,
            "span" => Self::Span,
            "metric" => Self::Metric,
            "log" => Self::Log,
            "spanevent" => Self::SpanEvent,
            "datapoint" => Self::DataPoint,
            _ => return None,
        })
    }
}

/// The item of a context.
pub(in super::super) enum Item<'a> {
    Nothing,
    Span(&'a mut Span),
    SpanEvent(&'a mut Event),
    Log(&'a mut LogRecord),
    Metric(&'a mut Metric),
    Point(Point<'a>),
}

/// A data point of any kind.
pub(in super::super) struct Point<'a> {
    pub(in super::super) attributes: &'a mut Vec<KeyValue>,
    /// Of sums and gauges.
    pub(in super::super) value: Option<PointValue>,
    pub(in super::super) metric: &'a MetricHead,
}

/// The fields of a metric that its data points can read.
#[derive(Default)]
pub(in super::super) struct MetricHead {
    pub(in super::super) name: String,
    pub(in super::super) unit: String,
    pub(in super::super) description: String,
    pub(in super::super) kind: i64,
}

impl MetricHead {
    pub(in super::super) fn of(metric: &Metric) -> Self {
        Self {
            name: metric.name.clone(),
            unit: metric.unit.clone(),
            description: metric.description.clone(),
            kind: kind_of(metric),
        }
    }
}

/// The number of a metric's type in statements.
fn kind_of(metric: &Metric) -> i64 {
    match metric.data {
        None => 0,
        Some(metric::Data::Gauge(_)) => 1,
        Some(metric::Data::Sum(_)) => 2,
        Some(metric::Data::Histogram(_)) => 3,
        Some(metric::Data::ExponentialHistogram(_)) => 4,
        Some(metric::Data::Summary(_)) => 5,
    }
}

/// A resource, a scope of it, and an item of that.
pub(in super::super) struct Subject<'a> {
    pub(in super::super) resource: &'a mut Resource,
    pub(in super::super) scope: &'a mut InstrumentationScope,
    pub(in super::super) item: Item<'a>,
}

/// The owner of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Owner {
    Resource,
    Scope,
    Item,
}

/// A field that a path names.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Field {
    /// All attributes.
    Attributes(Owner),
    Attribute(Owner, String),
    /// Of a span, a span event or a metric.
    Name,
    Kind,
    StatusCode,
    StatusMessage,
    TraceId,
    SpanId,
    ParentSpanId,
    StartTime,
    EndTime,
    Body,
    /// A value in a body that is a mapping.
    BodyKey(String),
    SeverityNumber,
    SeverityText,
    EventName,
    MetricDescription,
    MetricUnit,
    MetricType,
    /// Of a metric, read for a data point.
    MetricNameOfPoint,
    PointInt,
    PointDouble,
    ScopeName,
    ScopeVersion,
}

impl Subject<'_> {
    fn attributes(&self, owner: Owner) -> &[KeyValue] {
        match (owner, &self.item) {
            (Owner::Resource, _) => &self.resource.attributes,
            (Owner::Scope, _) => &self.scope.attributes,
            (Owner::Item, Item::Span(span)) => &span.attributes,
            (Owner::Item, Item::SpanEvent(event)) => &event.attributes,
            (Owner::Item, Item::Log(log)) => &log.attributes,
            (Owner::Item, Item::Point(point)) => point.attributes,
            (Owner::Item, Item::Metric(_) | Item::Nothing) => &[],
        }
    }

    pub(super) fn attributes_mut(&mut self, owner: Owner) -> Option<&mut Vec<KeyValue>> {
        Some(match (owner, &mut self.item) {
            (Owner::Resource, _) => &mut self.resource.attributes,
            (Owner::Scope, _) => &mut self.scope.attributes,
            (Owner::Item, Item::Span(span)) => &mut span.attributes,
            (Owner::Item, Item::SpanEvent(event)) => &mut event.attributes,
            (Owner::Item, Item::Log(log)) => &mut log.attributes,
            (Owner::Item, Item::Point(point)) => point.attributes,
            (Owner::Item, Item::Metric(_) | Item::Nothing) => return None,
        })
    }

    pub(super) fn get(&self, field: &Field) -> Value {
        let text = |text: &str| Value::Text(text.to_owned());
        let nanos = |nanos: u64| Value::Int(i64::try_from(nanos).unwrap_or(i64::MAX));
        match (field, &self.item) {
            (Field::Attributes(owner), _) => Value::Map(self.attributes(*owner).to_vec()),
            (Field::Attribute(owner, key), _) => value::get(self.attributes(*owner), key),
            (Field::ScopeName, _) => text(&self.scope.name),
            (Field::ScopeVersion, _) => text(&self.scope.version),
            (Field::Name, Item::Span(span)) => text(&span.name),
            (Field::Name, Item::SpanEvent(event)) => text(&event.name),
            (Field::Name, Item::Metric(metric)) => text(&metric.name),
            (Field::Kind, Item::Span(span)) => Value::Int(span.kind.into()),
            (Field::StatusCode, Item::Span(span)) => {
                Value::Int(span.status.as_ref().map_or(0, |status| status.code.into()))
            }
            (Field::StatusMessage, Item::Span(span)) => {
                text(span.status.as_ref().map_or("", |status| &status.message))
            }
            (Field::TraceId, Item::Span(span)) => Value::Text(hex(&span.trace_id)),
            (Field::TraceId, Item::Log(log)) => Value::Text(hex(&log.trace_id)),
            (Field::SpanId, Item::Span(span)) => Value::Text(hex(&span.span_id)),
            (Field::SpanId, Item::Log(log)) => Value::Text(hex(&log.span_id)),
            (Field::ParentSpanId, Item::Span(span)) => Value::Text(hex(&span.parent_span_id)),
            (Field::StartTime, Item::Span(span)) => nanos(span.start_time_unix_nano),
            (Field::EndTime, Item::Span(span)) => nanos(span.end_time_unix_nano),
            (Field::Body, Item::Log(log)) => Value::of(log.body.as_ref()),
            (Field::BodyKey(key), Item::Log(log)) => match &log.body {
                Some(AnyValue { value: Some(ProtoValue::KvlistValue(map)) }) => value::get(&map.values, key),
                _ => Value::Nil,
            },
            (Field::SeverityNumber, Item::Log(log)) => Value::Int(log.severity_number.into()),
            (Field::SeverityText, Item::Log(log)) => text(&log.severity_text),
            (Field::EventName, Item::Log(log)) => text(&log.event_name),
            (Field::MetricDescription, Item::Metric(metric)) => text(&metric.description),
            (Field::MetricUnit, Item::Metric(metric)) => text(&metric.unit),
            (Field::MetricType, Item::Metric(metric)) => Value::Int(kind_of(metric)),
            (Field::MetricNameOfPoint, Item::Point(point)) => text(&point.metric.name),
            (Field::MetricDescription, Item::Point(point)) => text(&point.metric.description),
            (Field::MetricUnit, Item::Point(point)) => text(&point.metric.unit),
            (Field::MetricType, Item::Point(point)) => Value::Int(point.metric.kind),
            (Field::PointInt, Item::Point(Point { value: Some(PointValue::AsInt(value)), .. })) => {
                Value::Int(*value)
            }
            (Field::PointDouble, Item::Point(Point { value: Some(PointValue::AsDouble(value)), .. })) => {
                Value::Double(*value)
            }
            _ => Value::Nil,
        }
    }

    /// Sets a field. A value of another type changes nothing, as nil does.
    pub(super) fn set(&mut self, field: &Field, value: Value) {
        match (field, &mut self.item, value) {
            (_, _, Value::Nil) => {}
            (Field::Attribute(owner, key), _, value) => {
                if let Some(attributes) = self.attributes_mut(*owner) {
                    value::set(attributes, key, value);
                }
            }
            (Field::Attributes(owner), _, Value::Map(map)) => {
                if let Some(attributes) = self.attributes_mut(*owner) {
                    *attributes = map;
                }
            }
            (Field::ScopeName, _, Value::Text(text)) => self.scope.name = text,
            (Field::ScopeVersion, _, Value::Text(text)) => self.scope.version = text,
            (Field::Name, Item::Span(span), Value::Text(text)) => span.name = text,
            (Field::Name, Item::SpanEvent(event), Value::Text(text)) => event.name = text,
            (Field::Name, Item::Metric(metric), Value::Text(text)) => metric.name = text,
            (Field::MetricDescription, Item::Metric(metric), Value::Text(text)) => metric.description = text,
            (Field::MetricUnit, Item::Metric(metric), Value::Text(text)) => metric.unit = text,
            (Field::Kind, Item::Span(span), Value::Int(number)) => set_enum(&mut span.kind, number),
            (Field::StatusCode, Item::Span(span), Value::Int(number)) => {
                set_enum(&mut span.status.get_or_insert_default().code, number);
            }
            (Field::StatusMessage, Item::Span(span), Value::Text(text)) => {
                span.status.get_or_insert_default().message = text;
            }
            (Field::Body, Item::Log(log), value) => log.body = value.into_any(),
            (Field::BodyKey(key), Item::Log(log), value) => {
                if let Some(AnyValue { value: Some(ProtoValue::KvlistValue(map)) }) = &mut log.body {
                    value::set(&mut map.values, key, value);
                }
            }
            (Field::SeverityNumber, Item::Log(log), Value::Int(number)) => {
                set_enum(&mut log.severity_number, number);
            }
            (Field::SeverityText, Item::Log(log), Value::Text(text)) => log.severity_text = text,
            (Field::EventName, Item::Log(log), Value::Text(text)) => log.event_name = text,
            _ => {}
        }
    }
}

fn set_enum(target: &mut i32, number: i64) {
    if let Ok(number) = i32::try_from(number) {
        *target = number;
    }
}

/// The field that a path names in a context; `None` if it is unknown or not supported. `segments` are its names and keys.
pub(super) fn field(context: Context, segments: &[Segment]) -> Option<Field> {
    let prefix = match segments {
        [Segment::Name(name), _, ..] => Context::named(name),
        _ => None,
    };
    match (prefix, segments) {
        (Some(Context::Resource), [_, rest @ ..]) => attributes(Owner::Resource, rest),
        (Some(Context::Scope), [_, rest @ ..]) if context != Context::Resource => scope_field(rest),
        (Some(Context::Metric), [_, rest @ ..]) if context == Context::DataPoint => match rest {
            [Segment::Name(name)] if name == "name" => Some(Field::MetricNameOfPoint),
            rest => own_field(Context::Metric, rest).filter(|field| *field != Field::Name),
        },
        (Some(prefix), [_, rest @ ..]) if prefix == context => own_field(context, rest),
        (Some(_), _) => None,
        (None, segments) => own_field(context, segments),
    }
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Name(String),
    Key(String),
}

fn attributes(owner: Owner, segments: &[Segment]) -> Option<Field> {
    match segments {
        [Segment::Name(name)] if name == "attributes" => Some(Field::Attributes(owner)),
        [Segment::Name(name), Segment::Key(key)] if name == "attributes" => {
            Some(Field::Attribute(owner, key.clone()))
        }
        _ => None,
    }
}

fn scope_field(segments: &[Segment]) -> Option<Field> {
    match segments {
        [Segment::Name(name)] if name == "name" => Some(Field::ScopeName),
        [Segment::Name(name)] if name == "version" => Some(Field::ScopeVersion),
        segments => attributes(Owner::Scope, segments),
    }
}

fn own_field(context: Context, segments: &[Segment]) -> Option<Field> {
    let names: Vec<_> = segments
        .iter()
        .map(|segment| match segment {
            Segment::Name(name) => name.as_str(),
            Segment::Key(_) => "[]",
        })
        .collect();
    let of_attributes = |owner| attributes(owner, segments);
    match (context, &names[..]) {
        (Context::Resource, _) => of_attributes(Owner::Resource),
        (Context::Scope, _) => scope_field(segments),
        (Context::Span | Context::SpanEvent | Context::Metric, ["name"]) => Some(Field::Name),
        (Context::Span, ["kind"]) => Some(Field::Kind),
        (Context::Span, ["status", "code"]) => Some(Field::StatusCode),
        (Context::Span, ["status", "message"]) => Some(Field::StatusMessage),
        (Context::Span | Context::Log, ["trace_id", "string"]) => Some(Field::TraceId),
        (Context::Span | Context::Log, ["span_id", "string"]) => Some(Field::SpanId),
        (Context::Span, ["parent_span_id", "string"]) => Some(Field::ParentSpanId),
        (Context::Span, ["start_time_unix_nano"]) => Some(Field::StartTime),
        (Context::Span, ["end_time_unix_nano"]) => Some(Field::EndTime),
        (Context::Log, ["body"] | ["body", "string"]) => Some(Field::Body),
        (Context::Log, ["body", "[]"]) => match segments {
            [_, Segment::Key(key)] => Some(Field::BodyKey(key.clone())),
            _ => None,
        },
        (Context::Log, ["severity_number"]) => Some(Field::SeverityNumber),
        (Context::Log, ["severity_text"]) => Some(Field::SeverityText),
        (Context::Log, ["event_name"]) => Some(Field::EventName),
        (Context::Metric, ["description"]) => Some(Field::MetricDescription),
        (Context::Metric, ["unit"]) => Some(Field::MetricUnit),
        (Context::Metric, ["type"]) => Some(Field::MetricType),
        (Context::DataPoint, ["value_int"]) => Some(Field::PointInt),
        (Context::DataPoint, ["value_double"]) => Some(Field::PointDouble),
        (Context::Span | Context::SpanEvent | Context::Log | Context::DataPoint, _) => {
            of_attributes(Owner::Item)
        }
        (Context::Metric, _) => None,
    }
}

/// The number of an enum's name.
pub(super) fn enum_number(name: &str) -> Option<i64> {
    const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
    const CODES: [&str; 3] = ["UNSET", "OK", "ERROR"];
    const TYPES: [&str; 6] = ["NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY"];
    const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let number = |names: &[&str], name: &str| {
        names.iter().position(|known| *known == name).and_then(|at| i64::try_from(at).ok())
    };
    if let Some(name) = name.strip_prefix("SPAN_KIND_") {
        return number(&KINDS, name);
    }
    if let Some(name) = name.strip_prefix("STATUS_CODE_") {
        return number(&CODES, name);
    }
    if let Some(name) = name.strip_prefix("METRIC_DATA_TYPE_") {
        return number(&TYPES, name);
    }
    let level = name.strip_prefix("SEVERITY_NUMBER_")?;
    if level == "UNSPECIFIED" {
        return Some(0);
    }
    let (word, step) = match level.strip_suffix(['2', '3', '4']) {
        Some(word) => (word, level.get(word.len()..)?.parse::<i64>().ok()? - 1),
        None => (level, 0),
    };
    Some(number(&LEVELS, word)? * 4 + 1 + step)
}
