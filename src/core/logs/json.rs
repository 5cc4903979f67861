//! JSON → OTLP values, in one pass, in the order of the text and with keys that stand twice.

use std::borrow::Cow;
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

/// The line that a JSON string is; `None` where the JSON is something else. Platform: a line comes with its line break,
/// which is left out.
///
/// Most lines have few escapes and none of the rare ones, so they are read here, with one allocation or none, in place of
/// serde_json's growing buffer and a copy of it.
pub(super) fn line(json: &str) -> Option<Cow<'_, str>> {
    let escaped = json.strip_prefix('"')?.strip_suffix('"')?;
    let Some((mut before, mut rest)) = at_escape(escaped) else { return Some(Cow::Borrowed(escaped)) };
    if rest == "n" {
        return Some(Cow::Borrowed(before));
    }
    let mut text = String::with_capacity(escaped.len());
    loop {
        text.push_str(before);
        let escape = rest.chars().next()?;
        text.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '"' | '\\' | '/' => escape,
            _ => {
                text = serde_json::from_str(json).ok()?;
                break;
            }
        });
        rest = rest.get(1..)?;
        let Some((next, after)) = at_escape(rest) else {
            text.push_str(rest);
            break;
        };
        (before, rest) = (next, after);
    }
    text.truncate(text.strip_suffix('\n').unwrap_or(&text).len());
    Some(Cow::Owned(text))
}

/// What stands before the first backslash, and what behind it. In a line that is JSON the next one is near, where
/// looking at each byte is faster than the search that is made for far ones.
fn at_escape(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == b'\\')?;
    Some((text.get(..at)?, text.get(at + 1..)?))
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
        // As many as most records have.
        let mut values = Vec::with_capacity(8);
        while let Some((key, Json(value))) = entries.next_entry()? {
            let value = value.map(|value| AnyValue { value: Some(value) });
            values.push(KeyValue { key, value, ..KeyValue::default() });
        }
        Ok(Some(Value::KvlistValue(KeyValueList { values })))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_reads_as_serde_json_reads_it(text in "([a-z\"\\\\/\n\t\r\u{8}\u{c}é😀{}]|\\\\u)*") {
            let json = serde_json::to_string(&text).expect("JSON");
            let unbroken = text.strip_suffix('\n').unwrap_or(&text);
            let read = line(&json);
            prop_assert_eq!(read.as_deref(), Some(unbroken));
        }
    }

    #[test]
    fn only_a_string_is_a_line() {
        assert_eq!(line(r#""a\\n""#).as_deref(), Some("a\\n"));
        assert_eq!(line(r#""\u0041\/\n\n""#).as_deref(), Some("A/\n"));
        // A surrogate alone is no character.
        for none in ["null", "[\"a\"]", r#""\ud800""#, "\""] {
            assert_eq!(line(none), None, "{none}");
        }
    }
}
