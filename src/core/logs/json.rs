//! JSON → OTLP values, in one pass, in the order of the text and with keys that stand twice. Stops where these would take
//! more than the [`Budget`].

use std::borrow::Cow;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use prost::encoding::encoded_len_varint;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::budget::{Budget, FIELD, LONGEST_PATH};

/// Reads a JSON text. `None` for JSON's null, and for what this reader does not take: nesting deeper than 127 levels,
/// numbers beyond a double.
pub(super) fn parse(text: &str) -> Result<Option<Value>, OverBudget> {
    parse_within(text, &mut Budget::of(text.len()), Place::Top)
}

/// The same within a budget of the caller's, of which it spends nothing if it is not enough.
pub(super) fn parse_within(
    text: &str,
    budget: &mut Budget,
    place: Place,
) -> Result<Option<Value>, OverBudget> {
    let mut spending = Spending { budget: *budget, over: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Json { spending: &mut spending, place }.deserialize(&mut deserializer);
    if spending.over {
        return Err(OverBudget);
    }
    let value = read.ok().filter(|_| deserializer.end().is_ok()).flatten();
    *budget = spending.budget;
    Ok(value)
}

/// The values would take more than the [`Budget`], or a path is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverBudget;

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

/// The place of a value in its record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The record itself.
    Top,
    /// Under a dotted path of so many bytes.
    Under(usize),
    /// Within an array, where objects stay objects.
    InArray,
}

/// Bytes around an element of an array, and around the values of an array or object.
const ELEMENT: usize = 4;
const CONTAINER: usize = 6;
/// Values that the room for the first elements of an array or object counts as, and for more of them.
const ROOM: usize = 2;
const LARGE_ROOM: usize = 6;
/// As many fields as most records have, and most objects in them.
const FIELDS: usize = 8;

struct Spending {
    budget: Budget,
    over: bool,
}

impl Spending {
    fn spend<E: Error>(&mut self, bytes: usize, values: usize) -> Result<(), E> {
        if self.budget.try_spend(bytes, values) { Ok(()) } else { Err(self.refuse()) }
    }

    fn refuse<E: Error>(&mut self) -> E {
        self.over = true;
        E::custom("over budget")
    }
}

struct Json<'s> {
    spending: &'s mut Spending,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.spending.spend(2, 0)?;
        Ok(Some(Value::BoolValue(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.spending.spend(1 + encoded_len_varint(value.cast_unsigned()), 0)?;
        Ok(Some(Value::IntValue(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        // OTLP has no unsigned integers; as a double the value would lose digits, and such numbers are mostly ids.
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_string(value.to_string()),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        self.spending.spend(9, 0)?;
        Ok(Some(Value::DoubleValue(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.spending.spend(value.len(), 0)?;
        Ok(Some(Value::StringValue(value.to_owned())))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Self::Value, E> {
        self.spending.spend(value.len(), 0)?;
        Ok(Some(Value::StringValue(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let Self { spending, .. } = self;
        spending.spend(CONTAINER, ROOM)?;
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(Json { spending, place: Place::InArray })? {
            spending.spend(ELEMENT, 1)?;
            values.push(AnyValue { value });
        }
        Ok(Some(Value::ArrayValue(ArrayValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let Self { spending, place } = self;
        let is_in_array = matches!(place, Place::InArray);
        spending.spend(CONTAINER, if is_in_array { ROOM } else { LARGE_ROOM })?;
        let mut values = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if values.is_empty() && !is_in_array {
                values.reserve_exact(FIELDS);
            }
            let (path, place) = match place {
                Place::Top => (key.len(), Place::Under(key.len())),
                Place::Under(outer) => {
                    let path = outer + 1 + key.len();
                    if path > LONGEST_PATH {
                        return Err(spending.refuse());
                    }
                    (path, Place::Under(path))
                }
                Place::InArray => (key.len(), Place::InArray),
            };
            spending.spend(FIELD + path, 1)?;
            let before = spending.budget;
            let value = entries.next_value_seed(Json { spending, place })?;
            // Such a message is the body, too.
            if is_message(&key)
                && matches!(value, Some(Value::KvlistValue(_)))
                && !spending.budget.try_spend_again(before)
            {
                return Err(spending.refuse());
            }
            let value = value.map(|value| AnyValue { value: Some(value) });
            values.push(KeyValue { key, value, ..KeyValue::default() });
        }
        Ok(Some(Value::KvlistValue(KeyValueList { values })))
    }
}

/// A field that may hold an object for a body.
pub(super) fn is_message(key: &str) -> bool {
    matches!(key, "message" | "msg")
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
