//! JSON → OTLP values, in one pass, in the order of the text and with keys that stand twice.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads a JSON text. `None` for JSON's null, and for what this reader does not take: nesting deeper than 127 levels,
/// numbers beyond a double.
pub(super) fn parse(text: &str) -> Option<Value> {
    serde_json::from_str::<Json>(text).ok()?.0
}

struct Json(Option<Value>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Value::BoolValue(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(Value::IntValue(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        // OTLP has no unsigned integers; as a double the value would lose digits, and such numbers are mostly ids.
        Ok(Some(i64::try_from(value).map_or_else(|_| Value::StringValue(value.to_string()), Value::IntValue)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(Value::DoubleValue(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(Value::StringValue(value.to_owned())))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Self::Value, E> {
        Ok(Some(Value::StringValue(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = elements.next_element()? {
            values.push(AnyValue { value });
        }
        Ok(Some(Value::ArrayValue(ArrayValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some((key, Json(value))) = entries.next_entry()? {
            let value = value.map(|value| AnyValue { value: Some(value) });
            values.push(KeyValue { key, value, ..KeyValue::default() });
        }
        Ok(Some(Value::KvlistValue(KeyValueList { values })))
    }
}
