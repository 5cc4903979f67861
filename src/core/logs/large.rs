//! JSON records whose attributes would take several times the size of their text.
//!
//! Such a record is flattened as far as its [`RecordBudget`] allows, fields that are not nested first. **Nothing is
//! lost**: the fields beyond the budget stay together, as the JSON text of an object under their path. So do
//! fields whose path would be too long, and arrays with too many elements. The text is read at most a few
//! times, whatever it contains.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::budget::{FIELD_OVERHEAD, MAX_PATH_LEN, RecordBudget};
use super::flat::Fields;
use super::json::{self, Position};
use super::roles::{EMF_DIRECTIVES, EMF_METADATA, has_role};
use crate::otlp::attribute::{string, text};

/// The key of the top-level fields beyond the budget.
const REST_KEY: &str = "log.record.rest";
/// The maximum nesting that is flattened: each level parses the text of its fields again.
const MAX_DEPTH: usize = 8;
/// The number of fields with a role, such as level or time, that are read even without budget.
const MAX_ROLE_FIELDS: usize = 64;

/// Parses the fields of a JSON object. Returns `None` for any other text.
pub(super) fn read(object: &str) -> Option<Fields> {
    let mut flattener =
        Flattener { budget: RecordBudget::of(object.len()), roles: MAX_ROLE_FIELDS, flat: Vec::new() };
    let (mut rest, mut message, mut has_message, mut is_emf) = (Rest::default(), None, false, false);
    for_each_entry(object, |key, value| {
        if json::is_message(key) && !std::mem::replace(&mut has_message, true) && is_object(value) {
            message = Some(text(value));
        }
        is_emf |= key == EMF_METADATA && has_key(value, EMF_DIRECTIVES);
        if !is_nested(value) && !flattener.add(None, key, value) {
            rest.add(key, value);
        }
    })?;
    if is_emf {
        return Some(Fields { is_emf, ..Fields::default() });
    }
    for_each_entry(object, |key, value| {
        if is_nested(value) && !flattener.flatten(None, key, value, 1) {
            rest.add(key, value);
        }
    })?;
    flattener.flat.extend(rest.finish().map(|rest| string(REST_KEY, &rest)));
    Some(Fields { flat: flattener.flat, message, is_emf })
}

struct Flattener {
    budget: RecordBudget,
    roles: usize,
    flat: Vec<KeyValue>,
}

impl Flattener {
    /// Adds a field without flattening it. Returns false if there is no budget for it.
    fn add(&mut self, path: Option<&str>, key: &str, value: &str) -> bool {
        let before = self.budget;
        let key = join(path, key);
        let is_within = self.budget.try_spend(FIELD_OVERHEAD + key.len(), 1);
        let may_exceed = path.is_none() && self.roles > 0 && has_role(&key);
        if !is_within && !may_exceed {
            return false;
        }
        let typed = if is_object(value) && is_nested(value) {
            None
        } else {
            json::parse_within(value, &mut self.budget, Position::InArray).ok()
        };
        let value = match typed {
            // Null has no value; a number out of range becomes its text.
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

    /// Adds the fields of an object. Returns false if there is no budget for its path.
    fn flatten(&mut self, outer: Option<&str>, key: &str, object: &str, depth: usize) -> bool {
        let path = join(outer, key);
        if !self.budget.try_spend(FIELD_OVERHEAD + path.len(), 1) {
            return false;
        }
        let mut rest = Rest::default();
        let before = self.flat.len();
        let parsed = for_each_entry(object, |key, value| {
            let fits = path.len() + 1 + key.len() <= MAX_PATH_LEN;
            let added = if is_nested(value) && depth < MAX_DEPTH {
                fits && self.flatten(Some(&path), key, value, depth + 1)
            } else {
                fits && self.add(Some(&path), key, value)
            };
            if !added {
                rest.add(key, value);
            }
        });
        let rest = if parsed.is_some() {
            rest.finish()
        } else {
            // A key is not valid Unicode, such as half a surrogate pair.
            self.flat.truncate(before);
            Some(object.to_owned())
        };
        self.flat.extend(rest.map(|rest| string(&path, &rest)));
        true
    }
}

/// The JSON text of those fields of one object that are not flattened.
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

/// Returns true for an object with fields.
fn is_nested(json: &str) -> bool {
    let inner = json.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.trim_ascii().is_empty())
}

/// A JSON value kept as text: the content of a string, or the JSON of any other value.
fn as_text(json: &str) -> Value {
    let string = json.starts_with('"').then(|| serde_json::from_str(json).ok()).flatten();
    Value::StringValue(string.unwrap_or_else(|| json.to_owned()))
}

fn has_key(object: &str, wanted: &str) -> bool {
    let mut found = false;
    for_each_entry(object, |key, _| found |= key == wanted).is_some() && found
}

/// Calls `take` with each key of an object and the JSON of its value. Returns `None` if the text is not an
/// object.
fn for_each_entry(object: &str, take: impl FnMut(&str, &str)) -> Option<()> {
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

    /// Renders keys and values; texts longer than a line are cut and shown with their length.
    fn rendered(record: &str) -> String {
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
    fn overlong_paths_stay_json() {
        let (long, longer) = ("k".repeat(255), "l".repeat(256));
        let record = format!(
            r#"{{"a":{{"x":1,"{long}":{{"y":[2, "ü"]}},"b":{{"z":null}},"q\"":true,"{long}":3}},"{longer}":{{"c":4}},"n":{{ }}}}"#
        );
        insta::assert_snapshot!(rendered(&record), @r#"
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
        insta::assert_snapshot!(rendered(&record), @r#"a.a.a.a.a.a.a.a.a = {"a":1}"#);
    }

    #[test]
    fn late_level_is_read() {
        let record = format!(
            r#"{{"f":{{{}}},{},"level":"error","message":"m"}}"#,
            r#""b":{"c":1},"#.repeat(900) + r#""d":2"#,
            vec![r#""":-1"#; 3_000].join(",")
        );
        let fields = read(&record).expect("an object").flat;
        for (key, value) in [("level", "error"), ("message", "m")] {
            assert!(fields.contains(&string(key, value)), "{key}");
        }
        let rest = fields.iter().find(|field| field.key == REST_KEY).and_then(|field| field.value.clone());
        assert!(format!("{rest:?}").contains(r#""f\":"#), "nested fields come last");
    }

    #[test]
    fn object_with_half_a_surrogate_stays_json() {
        insta::assert_snapshot!(rendered(r#"{"f":{"a":1,"\ud800":2},"b":1}"#), @r#"
        b = Some(IntValue(1))
        f = {"a":1,"\ud800":2}
        "#);
    }

    #[test]
    fn only_objects_are_read() {
        for text in ["[]", "1", "{", r#"{"a":1}{"#, r#"{"a":}"#] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
