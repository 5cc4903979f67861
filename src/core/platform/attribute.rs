//! Values as OTLP has them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// A text.
pub(super) fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

/// An attribute that is a number.
pub(super) fn double(key: &str, number: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(number))
}

/// An attribute that holds or does not.
pub(super) fn boolean(key: &str, holds: bool) -> KeyValue {
    attribute(key, Value::BoolValue(holds))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
