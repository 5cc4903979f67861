//! The telemetry that a statement reads and changes, and the paths to its fields.

use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as PointValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use prost::Message as _;

use super::super::growth::GrowthBudget;
use super::super::value::{self, OttlValue};
use crate::trace_context::hex;

/// The kind of telemetry that a statement is evaluated for, from the outermost to the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum OttlContext {
    Resource,
    Scope,
    Span,
    Metric,
    Log,
    SpanEvent,
    DataPoint,
}

impl OttlContext {
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
pub(in super::super) enum ContextItem<'a> {
    Nothing,
    Span(&'a mut Span),
    SpanEvent(&'a mut Event),
    Log(&'a mut LogRecord),
    Metric(&'a mut Metric),
    DataPoint(DataPoint<'a>),
}

/// A data point of any kind.
pub(in super::super) struct DataPoint<'a> {
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
pub(in super::super) struct OttlSubject<'a> {
    pub(in super::super) resource: &'a mut Resource,
    pub(in super::super) scope: &'a mut InstrumentationScope,
    pub(in super::super) item: ContextItem<'a>,
    pub(in super::super) budget: &'a GrowthBudget,
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
pub(in super::super) enum OttlPath {
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
    /// `body.string`
    BodyText,
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

impl OttlSubject<'_> {
    fn attributes(&self, owner: Owner) -> &[KeyValue] {
        match (owner, &self.item) {
            (Owner::Resource, _) => &self.resource.attributes,
            (Owner::Scope, _) => &self.scope.attributes,
            (Owner::Item, ContextItem::Span(span)) => &span.attributes,
            (Owner::Item, ContextItem::SpanEvent(event)) => &event.attributes,
            (Owner::Item, ContextItem::Log(log)) => &log.attributes,
            (Owner::Item, ContextItem::DataPoint(point)) => point.attributes,
            (Owner::Item, ContextItem::Metric(_) | ContextItem::Nothing) => &[],
        }
    }

    pub(super) fn attributes_mut(&mut self, owner: Owner) -> Option<&mut Vec<KeyValue>> {
        Some(match (owner, &mut self.item) {
            (Owner::Resource, _) => &mut self.resource.attributes,
            (Owner::Scope, _) => &mut self.scope.attributes,
            (Owner::Item, ContextItem::Span(span)) => &mut span.attributes,
            (Owner::Item, ContextItem::SpanEvent(event)) => &mut event.attributes,
            (Owner::Item, ContextItem::Log(log)) => &mut log.attributes,
            (Owner::Item, ContextItem::DataPoint(point)) => point.attributes,
            (Owner::Item, ContextItem::Metric(_) | ContextItem::Nothing) => return None,
        })
    }

    pub(super) fn get(&self, field: &OttlPath) -> OttlValue {
        let text = |text: &str| OttlValue::Text(text.to_owned());
        let nanos = |nanos: u64| OttlValue::Int(i64::try_from(nanos).unwrap_or(i64::MAX));
        match (field, &self.item) {
            (OttlPath::Attributes(owner), _) => OttlValue::Map(self.attributes(*owner).to_vec()),
            (OttlPath::Attribute(owner, key), _) => value::get(self.attributes(*owner), key),
            (OttlPath::ScopeName, _) => text(&self.scope.name),
            (OttlPath::ScopeVersion, _) => text(&self.scope.version),
            (OttlPath::Name, ContextItem::Span(span)) => text(&span.name),
            (OttlPath::Name, ContextItem::SpanEvent(event)) => text(&event.name),
            (OttlPath::Name, ContextItem::Metric(metric)) => text(&metric.name),
            (OttlPath::Kind, ContextItem::Span(span)) => OttlValue::Int(span.kind.into()),
            (OttlPath::StatusCode, ContextItem::Span(span)) => {
                OttlValue::Int(span.status.as_ref().map_or(0, |status| status.code.into()))
            }
            (OttlPath::StatusMessage, ContextItem::Span(span)) => {
                text(span.status.as_ref().map_or("", |status| &status.message))
            }
            (OttlPath::TraceId, ContextItem::Span(span)) => OttlValue::Text(hex(&span.trace_id)),
            (OttlPath::TraceId, ContextItem::Log(log)) => OttlValue::Text(hex(&log.trace_id)),
            (OttlPath::SpanId, ContextItem::Span(span)) => OttlValue::Text(hex(&span.span_id)),
            (OttlPath::SpanId, ContextItem::Log(log)) => OttlValue::Text(hex(&log.span_id)),
            (OttlPath::ParentSpanId, ContextItem::Span(span)) => OttlValue::Text(hex(&span.parent_span_id)),
            (OttlPath::StartTime, ContextItem::Span(span)) => nanos(span.start_time_unix_nano),
            (OttlPath::EndTime, ContextItem::Span(span)) => nanos(span.end_time_unix_nano),
            (OttlPath::Body, ContextItem::Log(log)) => OttlValue::of(log.body.as_ref()),
            (OttlPath::BodyText, ContextItem::Log(log)) => {
                OttlValue::Text(OttlValue::of(log.body.as_ref()).to_body_text())
            }
            (OttlPath::BodyKey(key), ContextItem::Log(log)) => match &log.body {
                Some(AnyValue { value: Some(ProtoValue::KvlistValue(map)) }) => value::get(&map.values, key),
                _ => OttlValue::Nil,
            },
            (OttlPath::SeverityNumber, ContextItem::Log(log)) => OttlValue::Int(log.severity_number.into()),
            (OttlPath::SeverityText, ContextItem::Log(log)) => text(&log.severity_text),
            (OttlPath::EventName, ContextItem::Log(log)) => text(&log.event_name),
            (OttlPath::MetricDescription, ContextItem::Metric(metric)) => text(&metric.description),
            (OttlPath::MetricUnit, ContextItem::Metric(metric)) => text(&metric.unit),
            (OttlPath::MetricType, ContextItem::Metric(metric)) => OttlValue::Int(kind_of(metric)),
            (OttlPath::MetricNameOfPoint, ContextItem::DataPoint(point)) => text(&point.metric.name),
            (OttlPath::MetricDescription, ContextItem::DataPoint(point)) => text(&point.metric.description),
            (OttlPath::MetricUnit, ContextItem::DataPoint(point)) => text(&point.metric.unit),
            (OttlPath::MetricType, ContextItem::DataPoint(point)) => OttlValue::Int(point.metric.kind),
            (
                OttlPath::PointInt,
                ContextItem::DataPoint(DataPoint { value: Some(PointValue::AsInt(value)), .. }),
            ) => OttlValue::Int(*value),
            (
                OttlPath::PointDouble,
                ContextItem::DataPoint(DataPoint { value: Some(PointValue::AsDouble(value)), .. }),
            ) => OttlValue::Double(*value),
            _ => OttlValue::Nil,
        }
    }

    /// Sets a field. A value of another type changes nothing, as nil does.
    pub(super) fn set(&mut self, path: &OttlPath, value: OttlValue) {
        let budget = self.budget;
        match (path, value) {
            (_, OttlValue::Nil) => {}
            (OttlPath::Attribute(owner, key), value) => {
                if let Some(attributes) = self.attributes_mut(*owner) {
                    value::set(attributes, key, value, budget);
                }
            }
            (OttlPath::Attributes(owner), OttlValue::Map(map)) => {
                if let Some(attributes) = self.attributes_mut(*owner)
                    && budget.try_spend(value::size(attributes), value::size(&map))
                {
                    *attributes = map;
                }
            }
            (OttlPath::Body | OttlPath::BodyText, value) => {
                if let ContextItem::Log(log) = &mut self.item {
                    let (old, new) = (log.body.as_ref().map_or(0, AnyValue::encoded_len), value.into_any());
                    if budget.try_spend(old, new.as_ref().map_or(0, AnyValue::encoded_len)) {
                        log.body = new;
                    }
                }
            }
            (OttlPath::BodyKey(key), value) => {
                if let ContextItem::Log(log) = &mut self.item
                    && let Some(AnyValue { value: Some(ProtoValue::KvlistValue(map)) }) = &mut log.body
                {
                    value::set(&mut map.values, key, value, budget);
                }
            }
            (path, OttlValue::Text(text)) => {
                if let Some(target) = self.text_mut(path)
                    && budget.try_spend(target.len(), text.len())
                {
                    *target = text;
                }
            }
            (path, OttlValue::Int(number)) => {
                if let Some(target) = self.enum_mut(path)
                    && let Ok(number) = i32::try_from(number)
                {
                    *target = number;
                }
            }
            _ => {}
        }
    }

    fn text_mut(&mut self, path: &OttlPath) -> Option<&mut String> {
        Some(match (path, &mut self.item) {
            (OttlPath::ScopeName, _) => &mut self.scope.name,
            (OttlPath::ScopeVersion, _) => &mut self.scope.version,
            (OttlPath::Name, ContextItem::Span(span)) => &mut span.name,
            (OttlPath::Name, ContextItem::SpanEvent(event)) => &mut event.name,
            (OttlPath::Name, ContextItem::Metric(metric)) => &mut metric.name,
            (OttlPath::MetricDescription, ContextItem::Metric(metric)) => &mut metric.description,
            (OttlPath::MetricUnit, ContextItem::Metric(metric)) => &mut metric.unit,
            (OttlPath::StatusMessage, ContextItem::Span(span)) => {
                &mut span.status.get_or_insert_default().message
            }
            (OttlPath::SeverityText, ContextItem::Log(log)) => &mut log.severity_text,
            (OttlPath::EventName, ContextItem::Log(log)) => &mut log.event_name,
            _ => return None,
        })
    }

    fn enum_mut(&mut self, path: &OttlPath) -> Option<&mut i32> {
        Some(match (path, &mut self.item) {
            (OttlPath::Kind, ContextItem::Span(span)) => &mut span.kind,
            (OttlPath::StatusCode, ContextItem::Span(span)) => &mut span.status.get_or_insert_default().code,
            (OttlPath::SeverityNumber, ContextItem::Log(log)) => &mut log.severity_number,
            _ => return None,
        })
    }
}

/// The path that the segments name in a context; `None` if it is unknown or not supported. `segments` are its names and keys.
pub(super) fn path(context: OttlContext, segments: &[Segment]) -> Option<OttlPath> {
    let prefix = match segments {
        [Segment::Name(name), _, ..] => OttlContext::named(name),
        _ => None,
    };
    match (prefix, segments) {
        (Some(OttlContext::Resource), [_, rest @ ..]) => attributes(Owner::Resource, rest),
        (Some(OttlContext::Scope), [_, rest @ ..]) if context != OttlContext::Resource => scope_path(rest),
        (Some(OttlContext::Metric), [_, rest @ ..]) if context == OttlContext::DataPoint => match rest {
            [Segment::Name(name)] if name == "name" => Some(OttlPath::MetricNameOfPoint),
            rest => own_path(OttlContext::Metric, rest).filter(|field| *field != OttlPath::Name),
        },
        (Some(prefix), [_, rest @ ..]) if prefix == context => own_path(context, rest),
        (Some(_), _) => None,
        (None, segments) => own_path(context, segments),
    }
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Name(String),
    Key(String),
}

fn attributes(owner: Owner, segments: &[Segment]) -> Option<OttlPath> {
    match segments {
        [Segment::Name(name)] if name == "attributes" => Some(OttlPath::Attributes(owner)),
        [Segment::Name(name), Segment::Key(key)] if name == "attributes" => {
            Some(OttlPath::Attribute(owner, key.clone()))
        }
        _ => None,
    }
}

fn scope_path(segments: &[Segment]) -> Option<OttlPath> {
    match segments {
        [Segment::Name(name)] if name == "name" => Some(OttlPath::ScopeName),
        [Segment::Name(name)] if name == "version" => Some(OttlPath::ScopeVersion),
        segments => attributes(Owner::Scope, segments),
    }
}

fn own_path(context: OttlContext, segments: &[Segment]) -> Option<OttlPath> {
    let names: Vec<_> = segments
        .iter()
        .map(|segment| match segment {
            Segment::Name(name) => name.as_str(),
            Segment::Key(_) => "[]",
        })
        .collect();
    let of_attributes = |owner| attributes(owner, segments);
    match (context, &names[..]) {
        (OttlContext::Resource, _) => of_attributes(Owner::Resource),
        (OttlContext::Scope, _) => scope_path(segments),
        (OttlContext::Span | OttlContext::SpanEvent | OttlContext::Metric, ["name"]) => Some(OttlPath::Name),
        (OttlContext::Span, ["kind"]) => Some(OttlPath::Kind),
        (OttlContext::Span, ["status", "code"]) => Some(OttlPath::StatusCode),
        (OttlContext::Span, ["status", "message"]) => Some(OttlPath::StatusMessage),
        (OttlContext::Span | OttlContext::Log, ["trace_id", "string"]) => Some(OttlPath::TraceId),
        (OttlContext::Span | OttlContext::Log, ["span_id", "string"]) => Some(OttlPath::SpanId),
        (OttlContext::Span, ["parent_span_id", "string"]) => Some(OttlPath::ParentSpanId),
        (OttlContext::Span, ["start_time_unix_nano"]) => Some(OttlPath::StartTime),
        (OttlContext::Span, ["end_time_unix_nano"]) => Some(OttlPath::EndTime),
        (OttlContext::Log, ["body"]) => Some(OttlPath::Body),
        (OttlContext::Log, ["body", "string"]) => Some(OttlPath::BodyText),
        (OttlContext::Log, ["body", "[]"]) => match segments {
            [_, Segment::Key(key)] => Some(OttlPath::BodyKey(key.clone())),
            _ => None,
        },
        (OttlContext::Log, ["severity_number"]) => Some(OttlPath::SeverityNumber),
        (OttlContext::Log, ["severity_text"]) => Some(OttlPath::SeverityText),
        (OttlContext::Log, ["event_name"]) => Some(OttlPath::EventName),
        (OttlContext::Metric, ["description"]) => Some(OttlPath::MetricDescription),
        (OttlContext::Metric, ["unit"]) => Some(OttlPath::MetricUnit),
        (OttlContext::Metric, ["type"]) => Some(OttlPath::MetricType),
        (OttlContext::DataPoint, ["value_int"]) => Some(OttlPath::PointInt),
        (OttlContext::DataPoint, ["value_double"]) => Some(OttlPath::PointDouble),
        (OttlContext::Span | OttlContext::SpanEvent | OttlContext::Log | OttlContext::DataPoint, _) => {
            of_attributes(Owner::Item)
        }
        (OttlContext::Metric, _) => None,
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
