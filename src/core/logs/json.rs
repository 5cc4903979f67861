//! Parses JSON to OTLP values, in one pass, in the order of the text and including repeated keys. It stops
//! where these would take more than the [`RecordBudget`].

use std::borrow::Cow;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use prost::encoding::encoded_len_varint;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::budget::{FIELD_OVERHEAD, MAX_PATH_LEN, RecordBudget};

/// Parses a JSON text. Returns `None` for null, and for input that this parser does not accept: nesting deeper
/// than 127 levels, and numbers beyond a double.
pub(super) fn parse(text: &str) -> Result<Option<Value>, OverBudget> {
    parse_within(text, &mut RecordBudget::of(text.len()), Position::Top)
}

/// Parses within the caller's budget. Spends nothing if the budget is not enough.
pub(super) fn parse_within(
    text: &str,
    budget: &mut RecordBudget,
    position: Position,
) -> Result<Option<Value>, OverBudget> {
    let mut used = BudgetUse { budget: *budget, is_exceeded: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = ValueVisitor { used: &mut used, position }.deserialize(&mut deserializer);
    if used.is_exceeded {
        return Err(OverBudget);
    }
    let value = parsed.ok().filter(|_| deserializer.end().is_ok()).flatten();
    *budget = used.budget;
    Ok(value)
}

/// The values would take more than the [`RecordBudget`], or a path is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverBudget;

/// Decodes a JSON string as a line of text. Returns `None` for any other JSON.
///
/// Platform: a line comes with its line break, which is removed.
///
/// Most lines have few escapes and no rare ones, so they are decoded here with at most one allocation, instead
/// of in serde_json's growing buffer and a copy of it.
pub(super) fn decode_line(json: &str) -> Option<Cow<'_, str>> {
    let escaped = json.strip_prefix('"')?.strip_suffix('"')?;
    let Some((mut before, mut rest)) = split_at_escape(escaped) else { return Some(Cow::Borrowed(escaped)) };
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
        let Some((next, after)) = split_at_escape(rest) else {
            text.push_str(rest);
            break;
        };
        (before, rest) = (next, after);
    }
    text.truncate(text.strip_suffix('\n').unwrap_or(&text).len());
    Some(Cow::Owned(text))
}

/// Splits at the first backslash. In a line that holds JSON the next one is near. There, looking at each byte
/// is faster than `memchr`, which is built for distant matches.
fn split_at_escape(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == b'\\')?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The position of a value in its record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Position {
    /// The record itself.
    Top,
    /// Under a dotted path of this many bytes.
    Under(usize),
    /// Within an array, where objects are not flattened.
    InArray,
}

/// Encoding overhead of an array element, and of an array or object, in bytes.
const ELEMENT_OVERHEAD: usize = 4;
const CONTAINER_OVERHEAD: usize = 6;
/// The capacity reserved for the first elements of an array or object, counted as values; the larger one is for
/// objects that are flattened.
const INITIAL_VALUES: usize = 2;
const INITIAL_FLATTENED_VALUES: usize = 6;
/// The initial capacity of an object: enough for most records and nested objects.
const INITIAL_FIELDS: usize = 8;

struct BudgetUse {
    budget: RecordBudget,
    is_exceeded: bool,
}

impl BudgetUse {
    fn spend<E: Error>(&mut self, bytes: usize, values: usize) -> Result<(), E> {
        if self.budget.try_spend(bytes, values) { Ok(()) } else { Err(self.over_budget()) }
    }

    fn over_budget<E: Error>(&mut self) -> E {
        self.is_exceeded = true;
        E::custom("over budget")
    }
}

struct ValueVisitor<'s> {
    used: &'s mut BudgetUse,
    position: Position,
}

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.used.spend(2, 0)?;
        Ok(Some(Value::BoolValue(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.used.spend(1 + encoded_len_varint(value.cast_unsigned()), 0)?;
        Ok(Some(Value::IntValue(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        // OTLP has no unsigned integers. A double would lose digits, and such numbers are mostly ids.
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_string(value.to_string()),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        self.used.spend(9, 0)?;
        Ok(Some(Value::DoubleValue(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.used.spend(value.len(), 0)?;
        Ok(Some(Value::StringValue(value.to_owned())))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Self::Value, E> {
        self.used.spend(value.len(), 0)?;
        Ok(Some(Value::StringValue(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let Self { used, .. } = self;
        used.spend(CONTAINER_OVERHEAD, INITIAL_VALUES)?;
        let mut values = Vec::new();
        while let Some(value) =
            elements.next_element_seed(ValueVisitor { used, position: Position::InArray })?
        {
            used.spend(ELEMENT_OVERHEAD, 1)?;
            values.push(AnyValue { value });
        }
        Ok(Some(Value::ArrayValue(ArrayValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let Self { used, position } = self;
        let is_in_array = matches!(position, Position::InArray);
        used.spend(CONTAINER_OVERHEAD, if is_in_array { INITIAL_VALUES } else { INITIAL_FLATTENED_VALUES })?;
        let mut values = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if values.is_empty() && !is_in_array {
                values.reserve_exact(INITIAL_FIELDS);
            }
            let (path, position) = match position {
                Position::Top => (key.len(), Position::Under(key.len())),
                Position::Under(outer) => {
                    let path = outer + 1 + key.len();
                    if path > MAX_PATH_LEN {
                        return Err(used.over_budget());
                    }
                    (path, Position::Under(path))
                }
                Position::InArray => (key.len(), Position::InArray),
            };
            used.spend(FIELD_OVERHEAD + path, 1)?;
            let before = used.budget;
            let value = entries.next_value_seed(ValueVisitor { used, position })?;
            // A message that is an object is also the body, so it counts twice.
            if is_message(&key)
                && matches!(value, Some(Value::KvlistValue(_)))
                && !used.budget.try_spend_again(before)
            {
                return Err(used.over_budget());
            }
            let value = value.map(|value| AnyValue { value: Some(value) });
            values.push(KeyValue { key, value, ..KeyValue::default() });
        }
        Ok(Some(Value::KvlistValue(KeyValueList { values })))
    }
}

/// Returns true for a field whose object becomes the body.
pub(super) fn is_message(key: &str) -> bool {
    matches!(key, "message" | "msg")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_agrees_with_serde_json(text in "([a-z\"\\\\/\n\t\r\u{8}\u{c}é😀{}]|\\\\u)*") {
            let json = serde_json::to_string(&text).expect("JSON");
            let unbroken = text.strip_suffix('\n').unwrap_or(&text);
            let parsed = decode_line(&json);
            prop_assert_eq!(parsed.as_deref(), Some(unbroken));
        }
    }

    #[test]
    fn only_a_string_is_a_line() {
        assert_eq!(decode_line(r#""a\\n""#).as_deref(), Some("a\\n"));
        assert_eq!(decode_line(r#""\u0041\/\n\n""#).as_deref(), Some("A/\n"));
        // A lone surrogate is not a character.
        for none in ["null", "[\"a\"]", r#""\ud800""#, "\""] {
            assert_eq!(decode_line(none), None, "{none}");
        }
    }
}
