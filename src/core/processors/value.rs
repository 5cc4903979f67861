//! Values of statements and attributes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use prost::Message as _;
use serde_json::Value as Json;

use super::growth::GrowthBudget;
use crate::trace_context::hex;

/// From here on, Go writes doubles with an exponent.
const WHOLE_NUMBER_LIMIT: f64 = 1e18;

/// A value in a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OttlValue {
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<AnyValue>),
    Map(Vec<KeyValue>),
}

impl OttlValue {
    /// The value of an attribute or a body.
    pub(super) fn of(value: Option<&AnyValue>) -> Self {
        match value.and_then(|value| value.value.as_ref()) {
            Some(ProtoValue::BoolValue(value)) => Self::Bool(*value),
            Some(ProtoValue::IntValue(value)) => Self::Int(*value),
            Some(ProtoValue::DoubleValue(value)) => Self::Double(*value),
            Some(ProtoValue::StringValue(value)) => Self::Text(value.clone()),
            Some(ProtoValue::BytesValue(value)) => Self::Bytes(value.clone()),
            Some(ProtoValue::ArrayValue(value)) => Self::List(value.values.clone()),
            Some(ProtoValue::KvlistValue(value)) => Self::Map(value.values.clone()),
            Some(ProtoValue::StringValueStrindex(_)) | None => Self::Nil,
        }
    }

    /// The protobuf form; `None` for nil.
    pub(super) fn into_any(self) -> Option<AnyValue> {
        let value = match self {
            Self::Nil => return None,
            Self::Bool(value) => ProtoValue::BoolValue(value),
            Self::Int(value) => ProtoValue::IntValue(value),
            Self::Double(value) => ProtoValue::DoubleValue(value),
            Self::Text(value) => ProtoValue::StringValue(value),
            Self::Bytes(value) => ProtoValue::BytesValue(value),
            Self::List(values) => ProtoValue::ArrayValue(ArrayValue { values }),
            Self::Map(values) => ProtoValue::KvlistValue(KeyValueList { values }),
        };
        Some(AnyValue { value: Some(value) })
    }

    /// The value as `body.string` has it: like [`Self::to_text`], but JSON without escapes for HTML, and bytes as Base64.
    pub(super) fn to_body_text(&self) -> String {
        match self {
            Self::List(values) => list_as_json(values).to_string(),
            Self::Map(values) => map_as_json(values).to_string(),
            Self::Bytes(value) => BASE64_STANDARD.encode(value),
            value => value.to_text().unwrap_or_default(),
        }
    }

    /// The value as text, lists and mappings as JSON; `None` for nil.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Nil => None,
            Self::List(values) => Some(escaped(&list_as_json(values).to_string())),
            Self::Map(values) => Some(escaped(&map_as_json(values).to_string())),
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Double(value) => Some(value.to_string()),
            Self::Text(value) => Some(value.clone()),
            Self::Bytes(value) => Some(hex(value)),
        }
    }
}

fn list_as_json(values: &[AnyValue]) -> Json {
    values.iter().map(as_json).collect()
}

/// Keys in alphabetic order, as Go writes them.
fn map_as_json(values: &[KeyValue]) -> Json {
    let values = values
        .iter()
        .map(|KeyValue { key, value, .. }| (key.clone(), value.as_ref().map_or(Json::Null, as_json)));
    Json::Object(values.collect())
}

fn as_json(value: &AnyValue) -> Json {
    match OttlValue::of(Some(value)) {
        OttlValue::Nil => Json::Null,
        OttlValue::Bool(value) => value.into(),
        OttlValue::Int(value) => value.into(),
        OttlValue::Double(value) => double_as_json(value),
        OttlValue::Text(value) => value.into(),
        OttlValue::Bytes(value) => BASE64_STANDARD.encode(value).into(),
        OttlValue::List(values) => list_as_json(&values),
        OttlValue::Map(values) => map_as_json(&values),
    }
}

/// Go writes whole numbers without a fraction.
fn double_as_json(value: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below the limit")]
    if value.fract() == 0.0 && value.abs() < WHOLE_NUMBER_LIMIT {
        (value as i64).into()
    } else {
        value.into()
    }
}

/// JSON in which what HTML would read is escaped, as functions of the collector write it.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// The value of an attribute; nil if it is missing.
pub(super) fn get(attributes: &[KeyValue], key: &str) -> OttlValue {
    OttlValue::of(
        attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref()),
    )
}

/// The size of attributes, in bytes.
pub(super) fn size(attributes: &[KeyValue]) -> usize {
    attributes.iter().map(KeyValue::encoded_len).sum()
}

/// Sets an attribute. Nil changes nothing. Beyond the budget the attribute is removed.
pub(super) fn set(attributes: &mut Vec<KeyValue>, key: &str, value: OttlValue, budget: &GrowthBudget) {
    let Some(value) = value.into_any() else { return };
    let known = attributes.iter_mut().find(|attribute| attribute.key == key);
    let old = known.as_ref().map_or(0, |known| known.encoded_len());
    if !budget.try_spend(old, key.len() + value.encoded_len()) {
        return attributes.retain(|attribute| attribute.key != key);
    }
    match known {
        Some(known) => known.value = Some(value),
        None => attributes.push(KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }),
    }
}
