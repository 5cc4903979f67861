//! Values and attributes of telemetry that is made here, as OTLP has them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// A text.
pub fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

/// An attribute that is a text.
pub fn string(key: &str, text: &str) -> KeyValue {
    attribute(key, Value::StringValue(text.to_owned()))
}

/// An attribute that is a whole number.
pub fn int(key: &str, number: i64) -> KeyValue {
    attribute(key, Value::IntValue(number))
}

/// An attribute that is a number.
pub fn double(key: &str, number: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(number))
}

/// An attribute that holds or does not.
pub fn boolean(key: &str, holds: bool) -> KeyValue {
    attribute(key, Value::BoolValue(holds))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
