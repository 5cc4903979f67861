//! The fields of a JSON record, with nested objects flattened to dotted keys.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList, any_value::Value};

use super::json;
use super::roles::{EMF_DIRECTIVES, EMF_METADATA};

/// The fields of a record, nested ones with dotted keys.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) flat: Vec<KeyValue>,
    /// The message, if it is an object.
    pub(super) message: Option<AnyValue>,
    /// The record is in CloudWatch's embedded metric format (EMF). Other tools read such lines from the body,
    /// so it stays whole.
    pub(super) is_emf: bool,
}

impl Fields {
    /// Flattens the fields of a record.
    pub(super) fn of(fields: Vec<KeyValue>) -> Self {
        if is_emf(&fields) {
            return Self { is_emf: true, ..Self::default() };
        }
        let message = nested_message(&fields);
        Self { flat: flattened(fields), message, is_emf: false }
    }
}

pub(super) fn value(field: &KeyValue) -> Option<&Value> {
    field.value.as_ref()?.value.as_ref()
}

fn is_emf(fields: &[KeyValue]) -> bool {
    let envelope = fields.iter().find(|field| field.key == EMF_METADATA).and_then(value);
    let Some(Value::KvlistValue(KeyValueList { values })) = envelope else { return false };
    values.iter().any(|field| field.key == EMF_DIRECTIVES)
}

/// Returns a message that is an object. It is the body as it is, in addition to the attributes of its fields.
fn nested_message(fields: &[KeyValue]) -> Option<AnyValue> {
    let message = fields.iter().find(|field| json::is_message(&field.key))?;
    matches!(value(message), Some(Value::KvlistValue(_))).then(|| message.value.clone()).flatten()
}

/// Flattens nested objects to dotted keys. An empty object stays, as an empty list of fields.
fn flattened(fields: Vec<KeyValue>) -> Vec<KeyValue> {
    let nested = |field: &KeyValue| matches!(value(field), Some(Value::KvlistValue(_)));
    if !fields.iter().any(nested) {
        return fields;
    }
    let mut flat = Vec::with_capacity(fields.len());
    let mut open = vec![fields.into_iter()];
    let mut path: Vec<String> = Vec::new();
    while let Some(level) = open.last_mut() {
        let Some(mut field) = level.next() else {
            open.pop();
            path.pop();
            continue;
        };
        if let Some(outer) = path.last() {
            field.key = format!("{outer}.{}", field.key);
        }
        match field.value {
            Some(AnyValue { value: Some(Value::KvlistValue(inner)) }) if !inner.values.is_empty() => {
                open.push(inner.values.into_iter());
                path.push(field.key);
            }
            _ => flat.push(field),
        }
    }
    flat
}
