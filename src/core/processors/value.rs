//! Values of statements and attributes.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
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

    /// A list or a mapping as JSON. `for_html` escapes `<`, `>` and `&`, as the collector's functions do.
    fn to_json(&self, for_html: bool) -> String {
        let mut json = String::new();
        match self {
            Self::List(values) => write_list(&mut json, values, for_html),
            Self::Map(values) => write_map(&mut json, values, for_html),
            _ => {}
        }
        json
    }

    /// The value as `body.string` has it: like [`Self::to_text`], but JSON without escapes for HTML, and bytes as Base64.
    pub(super) fn to_body_text(&self) -> String {
        match self {
            Self::List(_) | Self::Map(_) => self.to_json(false),
            Self::Bytes(value) => BASE64_STANDARD.encode(value),
            value => value.to_text().unwrap_or_default(),
        }
    }

    /// The value as text, lists and mappings as JSON; `None` for nil.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Nil => None,
            Self::List(_) | Self::Map(_) => Some(self.to_json(true)),
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Double(value) => Some(value.to_string()),
            Self::Text(value) => Some(value.clone()),
            Self::Bytes(value) => Some(hex(value)),
        }
    }
}

/// Writes a value as Go's JSON encoder does: keys in alphabetic order, whole numbers without a fraction.
fn write_json(json: &mut String, value: Option<&AnyValue>, for_html: bool) {
    match value.and_then(|value| value.value.as_ref()) {
        Some(ProtoValue::ArrayValue(list)) => write_list(json, &list.values, for_html),
        Some(ProtoValue::KvlistValue(map)) => write_map(json, &map.values, for_html),
        Some(ProtoValue::StringValue(text)) => write_text(json, text, for_html),
        Some(ProtoValue::BytesValue(bytes)) => write_text(json, &BASE64_STANDARD.encode(bytes), for_html),
        _ => json.push_str(OttlValue::of(value).to_text().as_deref().unwrap_or("null")),
    }
}

fn write_list(json: &mut String, values: &[AnyValue], for_html: bool) {
    json.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write_json(json, Some(value), for_html);
    }
    json.push(']');
}

fn write_map(json: &mut String, values: &[KeyValue], for_html: bool) {
    let mut sorted: Vec<_> = values.iter().collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    json.push('{');
    for (index, KeyValue { key, value, .. }) in sorted.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write_text(json, key, for_html);
        json.push(':');
        write_json(json, value.as_ref(), for_html);
    }
    json.push('}');
}

fn write_text(json: &mut String, text: &str, for_html: bool) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\0'..' ' | '\u{2028}' | '\u{2029}' => push_escaped(json, character),
            '<' | '>' | '&' if for_html => push_escaped(json, character),
            character => json.push(character),
        }
    }
    json.push('"');
}

fn push_escaped(json: &mut String, character: char) {
    // Writing to memory does not fail.
    let _ = write!(json, "\\u{:04x}", u32::from(character));
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
