//! JSON records whose attributes would take several times the size of their text.
//!
//! Such a record is flattened as far as its [`RecordBudget`] allows, fields that are not nested first. **Nothing is
//! lost**: the fields beyond the budget stay together, as the JSON text of an object under their path. So do
//! fields whose path would be too long, and arrays with too many elements. The text is read at most a few
//! times, whatever it contains.

use std::borrow::Cow;

use super::budget::{FIELD_OVERHEAD, MAX_PATH_LEN, RecordBudget};
use super::json::{self, Field, FieldValue, Object};
use super::roles::{EMF_DIRECTIVES, EMF_METADATA, has_role};
use super::scanner::Scanner;
use crate::otlp::attribute::text;

/// The key of what is left of a record: the top-level fields beyond the budget, or text after the record.
pub(super) const REST_KEY: &str = "log.record.rest";
/// The maximum nesting that is flattened: each level parses the text of its fields again.
const MAX_DEPTH: usize = 8;
/// The number of fields with a role, such as level or time, that are read even without budget.
const MAX_ROLE_FIELDS: usize = 64;

/// Reads the object at the start of a text. Returns `None` if there is none.
pub(super) fn object<'t>(object: &'t str, budget: &mut RecordBudget) -> Option<Object<'t>> {
    let mut flattener = Flattener { budget: *budget, roles: MAX_ROLE_FIELDS, fields: Vec::new() };
    let (mut rest, mut message, mut has_message, mut is_emf) = (Rest::default(), None, false, false);
    let after = json::for_each_entry(object, |key, written, value| {
        if json::is_message(&key) && !std::mem::replace(&mut has_message, true) && is_object(value) {
            message = Some(text(value));
        }
        is_emf |= key == EMF_METADATA && has_key(value, EMF_DIRECTIVES);
        if !is_nested(value) && !flattener.add(None, &key, value) {
            rest.add(written, value);
        }
    });
    let end = Object {
        is_emf,
        message,
        rest: after.unwrap_or_default(),
        is_broken: after.is_none(),
        ..Object::default()
    };
    if is_emf {
        return Some(end);
    }
    json::for_each_entry(object, |key, written, value| {
        if is_nested(value) && !flattener.flatten(None, &key, value, 1) {
            rest.add(written, value);
        }
    });
    let mut fields = flattener.fields;
    let rest = rest.finish().map(|rest| Field {
        key: Cow::Borrowed(REST_KEY),
        value: FieldValue::Text(Cow::Owned(rest)),
        is_nested: false,
    });
    fields.extend(rest);
    *budget = flattener.budget;
    (!end.is_broken || !fields.is_empty()).then_some(Object { fields, ..end })
}

struct Flattener<'t> {
    budget: RecordBudget,
    roles: usize,
    fields: Vec<Field<'t>>,
}

impl<'t> Flattener<'t> {
    /// Adds a field without flattening it. Returns false if there is no budget for it.
    fn add(&mut self, path: Option<&str>, key: &str, value: &'t str) -> bool {
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
            json::field_value(value, &mut self.budget)
        };
        let value = match typed {
            Some(read) => read,
            None if self.budget.try_spend(value.len(), 0) || may_exceed => as_text(value),
            None => {
                self.budget = before;
                return false;
            }
        };
        self.roles -= usize::from(may_exceed);
        self.fields.push(Field { key: Cow::Owned(key), value, is_nested: path.is_some() });
        true
    }

    /// Adds the fields of an object. Returns false if there is no budget for its path.
    fn flatten(&mut self, outer: Option<&str>, key: &str, object: &'t str, depth: usize) -> bool {
        let path = join(outer, key);
        if !self.budget.try_spend(FIELD_OVERHEAD + path.len(), 1) {
            return false;
        }
        let mut rest = Rest::default();
        let before = self.fields.len();
        let end = json::for_each_entry(object, |key, written, value| {
            let fits = path.len() + 1 + key.len() <= MAX_PATH_LEN;
            let added = if is_nested(value) && depth < MAX_DEPTH {
                fits && self.flatten(Some(&path), &key, value, depth + 1)
            } else {
                fits && self.add(Some(&path), &key, value)
            };
            if !added {
                rest.add(written, value);
            }
        });
        let rest = if end.is_some() {
            rest.finish().map(Cow::Owned)
        } else {
            // It is not JSON.
            self.fields.truncate(before);
            Some(Cow::Borrowed(object))
        };
        let rest = rest.map(|rest| Field {
            key: Cow::Owned(path),
            value: FieldValue::Text(rest),
            is_nested: outer.is_some(),
        });
        self.fields.extend(rest);
        true
    }
}

/// The JSON text of those fields of one object that are not flattened.
#[derive(Default)]
struct Rest(String);

impl Rest {
    /// Adds a field; key and value are JSON.
    fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(key);
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
fn as_text(json: &str) -> FieldValue<'_> {
    FieldValue::Text(Scanner::new(json).string().unwrap_or(Cow::Borrowed(json)))
}

fn has_key(object: &str, wanted: &str) -> bool {
    let mut found = false;
    json::for_each_entry(object, |key, _, _| found |= key == wanted).is_some() && found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str) -> Vec<Field<'_>> {
        object(record, &mut RecordBudget::of(record.len())).expect("an object").fields
    }

    /// Renders keys and values; texts longer than a line are cut and shown with their length.
    fn rendered(record: &str) -> String {
        let fields = read(record);
        let short = |text: &str| match text.len() {
            0..=80 => text.to_owned(),
            long => format!("{}… of {long} bytes", text.get(..16).unwrap_or_default()),
        };
        let line = |field: &Field<'_>| match &field.value {
            FieldValue::Text(text) => format!("{} = {}", short(&field.key), short(text)),
            other => format!("{} = {other:?}", short(&field.key)),
        };
        fields.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn overlong_paths_stay_json() {
        let (long, longer) = ("k".repeat(255), "l".repeat(256));
        let record = format!(
            r#"{{"a":{{"x":1,"{long}":{{"y":[2, "ü"]}},"b":{{"z":null}},"q\"":true,"{long}":3}},"{longer}":{{"c":4}},"n":{{ }}}}"#
        );
        insta::assert_snapshot!(rendered(&record), @r#"
        n = Other(KvlistValue(KeyValueList { values: [] }))
        a.x = Other(IntValue(1))
        a.b.z = Null
        a.q" = Other(BoolValue(true))
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
        let fields = read(&record);
        for (key, value) in [("level", "error"), ("message", "m")] {
            assert!(
                fields.iter().any(|field| field.key == key && field.value.as_text() == Some(value)),
                "{key}"
            );
        }
        let rest = fields.iter().find(|field| field.key == REST_KEY).map(|field| &field.value);
        assert!(format!("{rest:?}").contains(r#""f\":"#), "nested fields come last");
    }

    #[test]
    fn only_objects_are_read() {
        for text in ["[]", "1", "{", "{]"] {
            assert!(object(text, &mut RecordBudget::of(text.len())).is_none(), "{text}");
        }
    }
}
