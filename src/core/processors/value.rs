//! Values of statements and attributes.

use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use prost::Message as _;

use super::growth::GrowthBudget;
use crate::trace_context::hex;

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

    /// The value as text; `None` for nil, lists and mappings.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Nil | Self::List(_) | Self::Map(_) => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Double(value) => Some(value.to_string()),
            Self::Text(value) => Some(value.clone()),
            Self::Bytes(value) => Some(hex(value)),
        }
    }
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
