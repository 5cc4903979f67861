//! JSON records that would become several times as long as they are.
//!
//! Such a record is taken apart as far as its [`Budget`] goes, first the fields that are not nested. **Nothing is lost**:
//! the fields that are beyond it stay together, as the JSON text of an object under the path so far. So do fields whose
//! path would be too long, and an array that has too many elements. Reads the text at most a few times, whatever it is.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::budget::{Budget, FIELD, LONGEST_PATH};
use super::flat::Fields;
use super::json::{self, Place};
use super::roles::{METRICS, METRICS_ENVELOPE, has_role};
use crate::otlp::attribute::{string, text};

/// The key of the fields beyond the budget that are not nested.
const REST: &str = "log.record.rest";
/// The deepest nesting that is flattened: each level reads the text of its fields again.
const DEEPEST: usize = 8;
/// The number of fields for level, time and the like that are read even without budget.
const ROLES: usize = 64;

/// The fields of a JSON object; `None` where the text is something else.
pub(super) fn read(object: &str) -> Option<Fields> {
    let mut large = Large { budget: Budget::of(object.len()), roles: ROLES, flat: Vec::new() };
    let (mut rest, mut message, mut has_message, mut are_metrics) = (Rest::default(), None, false, false);
    each(object, |key, value| {
        if json::is_message(key) && !std::mem::replace(&mut has_message, true) && is_object(value) {
            message = Some(text(value));
        }
        are_metrics |= key == METRICS_ENVELOPE && holds(value, METRICS);
        if !is_nested(value) && !large.add(None, key, value) {
            rest.add(key, value);
        }
    })?;
    if are_metrics {
        return Some(Fields { are_metrics, ..Fields::default() });
    }
    each(object, |key, value| {
        if is_nested(value) && !large.flatten(None, key, value, 1) {
            rest.add(key, value);
        }
    })?;
    large.flat.extend(rest.finish().map(|rest| string(REST, &rest)));
    Some(Fields { flat: large.flat, message, are_metrics })
}

struct Large {
    budget: Budget,
    roles: usize,
    flat: Vec<KeyValue>,
}

impl Large {
    /// Adds a field that is no object, or one that is not flattened; says whether there was budget for it.
    fn add(&mut self, path: Option<&str>, key: &str, value: &str) -> bool {
        let before = self.budget;
        let key = join(path, key);
        let within = self.budget.try_spend(FIELD + key.len(), 1);
        let may_exceed = path.is_none() && self.roles > 0 && has_role(&key);
        if !within && !may_exceed {
            return false;
        }
        let typed = if is_object(value) && is_nested(value) {
            None
        } else {
            json::parse_within(value, &mut self.budget, Place::InArray).ok()
        };
        let value = match typed {
            // Null has no value, and a number out of range its text.
            Some(read) if read.is_some() || value == "null" => read,
            _ if self.budget.try_spend(value.len(), 0) || may_exceed => Some(as_text(value)),
            _ => {
                self.budget = before;
                return false;
            }
        };
        self.roles -= usize::from(may_exceed);
        let value = value.map(|value| AnyValue { value: Some(value) });
        self.flat.push(KeyValue { key, value, ..KeyValue::default() });
        true
    }

    /// Adds the fields of an object; says whether there was budget for its path.
    fn flatten(&mut self, outer: Option<&str>, key: &str, object: &str, depth: usize) -> bool {
        let path = join(outer, key);
        if !self.budget.try_spend(FIELD + path.len(), 1) {
            return false;
        }
        let mut rest = Rest::default();
        let before = self.flat.len();
        let read = each(object, |key, value| {
            let fits = path.len() + 1 + key.len() <= LONGEST_PATH;
            let added = if is_nested(value) && depth < DEEPEST {
                fits && self.flatten(Some(&path), key, value, depth + 1)
            } else {
                fits && self.add(Some(&path), key, value)
            };
            if !added {
                rest.add(key, value);
            }
        });
        let rest = if read.is_some() {
            rest.finish()
        } else {
            // A key that is no text, such as half a surrogate pair.
            self.flat.truncate(before);
            Some(object.to_owned())
        };
        self.flat.extend(rest.map(|rest| string(&path, &rest)));
        true
    }
}

/// The fields of one object that stay JSON.
#[derive(Default)]
struct Rest(String);

impl Rest {
    fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&serde_json::Value::from(key).to_string());
        self.0.push(':');
        self.0.push_str(value);
    }

    fn finish(mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.push('}');
        Some(self.0)
    }
}

fn join(path: Option<&str>, key: &str) -> String {
    path.map_or_else(|| key.to_owned(), |path| format!("{path}.{key}"))
}

fn is_object(json: &str) -> bool {
    json.starts_with('{')
}

/// An object that has fields.
fn is_nested(json: &str) -> bool {
    let inner = json.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.trim_ascii().is_empty())
}

/// A JSON value that stays text: what a string holds, and of anything else the JSON.
fn as_text(json: &str) -> Value {
    let string = json.starts_with('"').then(|| serde_json::from_str(json).ok()).flatten();
    Value::StringValue(string.unwrap_or_else(|| json.to_owned()))
}

fn holds(object: &str, wanted: &str) -> bool {
    let mut found = false;
    each(object, |key, _| found |= key == wanted).is_some() && found
}

/// Calls `take` with each key of an object and the JSON of its value. `None` where this is no object.
fn each(object: &str, take: impl FnMut(&str, &str)) -> Option<()> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    deserializer.deserialize_map(Entries(take)).ok()?;
    deserializer.end().ok()
}

struct Entries<F>(F);

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some((key, value)) = entries.next_entry::<String, &'de RawValue>()? {
            (self.0)(&key, value.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and values of the fields that are no longer than a line, the lengths of the others.
    fn shown(record: &str) -> String {
        let fields = read(record).expect("an object");
        let short = |text: &str| match text.len() {
            0..=80 => text.to_owned(),
            long => format!("{}… of {long} bytes", text.get(..16).unwrap_or_default()),
        };
        let line = |field: &KeyValue| match field.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => format!("{} = {}", short(&field.key), short(text)),
            other => format!("{} = {other:?}", short(&field.key)),
        };
        fields.flat.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn too_long_paths_stay_json() {
        let (long, longer) = ("k".repeat(255), "l".repeat(256));
        let record = format!(
            r#"{{"a":{{"x":1,"{long}":{{"y":[2, "ü"]}},"b":{{"z":null}},"q\"":true,"{long}":3}},"{longer}":{{"c":4}},"n":{{ }}}}"#
        );
        insta::assert_snapshot!(shown(&record), @r#"
        n = Some(KvlistValue(KeyValueList { values: [] }))
        a.x = Some(IntValue(1))
        a.b.z = None
        a.q" = Some(BoolValue(true))
        a = {"kkkkkkkkkkkkkk… of 535 bytes
        llllllllllllllll… of 256 bytes = {"c":4}
        "#);
    }

    #[test]
    fn deep_objects_stay_json() {
        let record = format!("{}1{}", r#"{"a":"#.repeat(10), "}".repeat(10));
        insta::assert_snapshot!(shown(&record), @r#"a.a.a.a.a.a.a.a.a = {"a":1}"#);
    }

    #[test]
    fn level_is_read_behind_much_else() {
        let record = format!(
            r#"{{"f":{{{}}},{},"level":"error","message":"m"}}"#,
            r#""b":{"c":1},"#.repeat(900) + r#""d":2"#,
            vec![r#""":-1"#; 3_000].join(",")
        );
        let fields = read(&record).expect("an object").flat;
        for (key, value) in [("level", "error"), ("message", "m")] {
            assert!(fields.contains(&string(key, value)), "{key}");
        }
        let rest = fields.iter().find(|field| field.key == REST).and_then(|field| field.value.clone());
        assert!(format!("{rest:?}").contains(r#""f\":"#), "nested fields yield to the others");
    }

    #[test]
    fn object_with_half_a_surrogate_stays_json() {
        insta::assert_snapshot!(shown(r#"{"f":{"a":1,"\ud800":2},"b":1}"#), @r#"
        b = Some(IntValue(1))
        f = {"a":1,"\ud800":2}
        "#);
    }

    #[test]
    fn what_is_no_object_is_not_read() {
        for text in ["[]", "1", "{", r#"{"a":1}{"#, r#"{"a":}"#] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
