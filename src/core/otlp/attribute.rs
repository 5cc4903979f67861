//! Constructors for OTLP values and attributes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// A string value.
pub fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

/// A string attribute.
pub fn string(key: &str, text: &str) -> KeyValue {
    attribute(key, Value::StringValue(text.to_owned()))
}

/// An integer attribute.
pub fn int(key: &str, number: i64) -> KeyValue {
    attribute(key, Value::IntValue(number))
}

/// A floating-point attribute.
pub fn double(key: &str, number: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(number))
}

/// A boolean attribute.
pub fn boolean(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
