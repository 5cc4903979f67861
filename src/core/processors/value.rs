//! Values of statements and attributes.

use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};

use crate::trace_context::hex;

/// Texts that processors make are cut here, so that no statement can make one grow without limit.
pub(super) const TEXT_LIMIT: usize = 64 * 1024;

/// A value in a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<AnyValue>),
    Map(Vec<KeyValue>),
}

impl Value {
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

/// Cuts a text at the limit.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > TEXT_LIMIT {
        let end = (0..=TEXT_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The value of an attribute; nil if it is missing.
pub(super) fn get(attributes: &[KeyValue], key: &str) -> Value {
    Value::of(attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref()))
}

/// Sets an attribute. Nil changes nothing.
pub(super) fn set(attributes: &mut Vec<KeyValue>, key: &str, value: Value) {
    let Some(value) = value.into_any() else { return };
    match attributes.iter_mut().find(|attribute| attribute.key == key) {
        Some(known) => known.value = Some(value),
        None => attributes.push(KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }),
    }
}
