//! Reads a JSON record: its fields in the order of the text, nested objects flattened to dotted keys
//! (`{"http":{"status":200}}` → `http.status`), as in ClickStack's own JSON parsing, and arrays as OTLP arrays.
//!
//! It takes at most the [`RecordBudget`]; `large` reads a record that would take more. Fields before a syntax error are
//! read, and so is an object followed by text.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use prost::encoding::encoded_len_varint;

use super::budget::{FIELD_OVERHEAD, MAX_PATH_LEN, RecordBudget};
use super::roles::{EMF_DIRECTIVES, EMF_METADATA};
use super::scanner::{Scalar, Scanner};

/// The maximum nesting; deeper values stay JSON text.
const MAX_DEPTH: usize = 127;
/// Encoding overhead of an array element, and of an array or object, in bytes.
const ELEMENT_OVERHEAD: usize = 4;
const CONTAINER_OVERHEAD: usize = 6;
/// The capacity reserved for the first elements of an array or object, counted as values.
const INITIAL_VALUES: usize = 2;
/// The initial capacity of a record's fields, enough for most records.
const INITIAL_FIELDS: usize = 8;

/// The fields of a record, nested ones with dotted keys.
#[derive(Debug, Default)]
pub(super) struct Object<'t> {
    pub(super) fields: Vec<Field<'t>>,
    /// The message, if it is an object.
    pub(super) message: Option<AnyValue>,
    /// The record is in CloudWatch's embedded metric format (EMF). Other tools read such lines from the body,
    /// so it stays whole.
    pub(super) is_emf: bool,
    /// The text after the object, or after its last complete field.
    pub(super) rest: &'t str,
    /// The text stops being JSON after these fields.
    pub(super) is_broken: bool,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) value: FieldValue<'t>,
    /// It is a field of another field.
    pub(super) is_nested: bool,
}

/// The value of a [`Field`]. A text is borrowed until its place is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue<'t> {
    Null,
    Text(Cow<'t, str>),
    Other(Value),
}

impl FieldValue<'_> {
    /// The value, if it is a text with characters.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn into_any_value(self) -> Option<AnyValue> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(AnyValue { value: Some(Value::StringValue(text.into_owned())) }),
            Self::Other(value) => Some(AnyValue { value: Some(value) }),
        }
    }
}

impl Field<'_> {
    pub(super) fn into_attribute(self) -> KeyValue {
        KeyValue { key: self.key.into_owned(), value: self.value.into_any_value(), ..KeyValue::default() }
    }
}

/// The reason to stop reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The values would take more than the [`RecordBudget`], or a path is too long.
    OverBudget,
    NotJson,
}

/// The record would take more than the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverBudget;

/// Reads the object at the start of a text. Returns `None` if there is none.
pub(super) fn object<'t>(text: &'t str, budget: &mut RecordBudget) -> Result<Option<Object<'t>>, OverBudget> {
    if !text.starts_with('{') {
        return Ok(None);
    }
    let mut reader = Reader { scanner: Scanner::new(text), budget: *budget, unread: text };
    let mut object = Object { fields: Vec::with_capacity(INITIAL_FIELDS), ..Object::default() };
    let read = reader.record(&mut object);
    let object = match read {
        Err(Stop::OverBudget) => return Err(OverBudget),
        Err(Stop::NotJson) => Object { is_broken: true, rest: reader.unread, ..object },
        Ok(()) => Object { rest: reader.scanner.rest(), ..object },
    };
    *budget = reader.budget;
    let is_record = !object.is_broken || !object.fields.is_empty() || object.is_emf;
    Ok(is_record.then_some(object))
}

/// Reads a JSON text of any kind as the value of a field. Returns `None` if it would take more than the budget, or is
/// not JSON.
pub(super) fn field_value<'t>(text: &'t str, budget: &mut RecordBudget) -> Option<FieldValue<'t>> {
    let mut reader = Reader { scanner: Scanner::new(text), budget: *budget, unread: text };
    let value = reader.value(1).ok()?;
    *budget = reader.budget;
    reader.scanner.peek().is_none().then_some(value)
}

/// Returns true for a field whose object becomes the body.
pub(super) fn is_message(key: &str) -> bool {
    matches!(key, "message" | "msg")
}

struct Reader<'t> {
    scanner: Scanner<'t>,
    budget: RecordBudget,
    /// The text after the last complete field of the record.
    unread: &'t str,
}

impl<'t> Reader<'t> {
    fn spend(&mut self, bytes: usize, values: usize) -> Result<(), Stop> {
        if self.budget.try_spend(bytes, values) { Ok(()) } else { Err(Stop::OverBudget) }
    }

    /// Reads the object that is the record.
    fn record(&mut self, object: &mut Object<'t>) -> Result<(), Stop> {
        self.spend(CONTAINER_OVERHEAD, INITIAL_VALUES)?;
        self.entries(|reader, key| {
            reader.spend(FIELD_OVERHEAD + key.len(), 1)?;
            if reader.scanner.peek() != Some(b'{') {
                let value = reader.value(1)?;
                object.fields.push(Field { key, value, is_nested: false });
                reader.unread = reader.scanner.rest();
                return Ok(());
            }
            if key == EMF_METADATA {
                object.is_emf |= has_directives(&reader.scanner);
            }
            // A message that is an object is also the body.
            if is_message(&key) && object.message.is_none() {
                let mut body = Reader { scanner: reader.scanner.clone(), budget: reader.budget, unread: "" };
                object.message = body.value(1)?.into_any_value();
                reader.budget = body.budget;
            }
            let mut path = key.into_owned();
            reader.flatten(&mut path, &mut object.fields, 1)?;
            reader.unread = reader.scanner.rest();
            Ok(())
        })
    }

    /// Reads an object, and adds its fields with the path before their keys. An empty object is added itself.
    fn flatten(&mut self, path: &mut String, fields: &mut Vec<Field<'t>>, depth: usize) -> Result<(), Stop> {
        self.spend(CONTAINER_OVERHEAD, INITIAL_VALUES)?;
        let outer = path.len();
        let mut is_empty = true;
        let read = self.entries(|reader, key| {
            is_empty = false;
            path.push('.');
            path.push_str(&key);
            if path.len() > MAX_PATH_LEN {
                return Err(Stop::OverBudget);
            }
            reader.spend(FIELD_OVERHEAD + path.len(), 1)?;
            if reader.scanner.peek() == Some(b'{') && depth < MAX_DEPTH {
                reader.flatten(path, fields, depth + 1)?;
            } else {
                let value = reader.value(depth + 1)?;
                fields.push(Field { key: Cow::Owned(path.clone()), value, is_nested: true });
            }
            path.truncate(outer);
            Ok(())
        });
        if is_empty && read.is_ok() {
            let value = FieldValue::Other(Value::KvlistValue(KeyValueList::default()));
            fields.push(Field { key: Cow::Owned(path.clone()), value, is_nested: depth > 1 });
        }
        read
    }

    /// Reads an object, and calls `take` at each value.
    fn entries(
        &mut self,
        mut take: impl FnMut(&mut Self, Cow<'t, str>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if !self.scanner.eat(b'{') {
            return Err(Stop::NotJson);
        }
        if self.scanner.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.scanner.string().ok_or(Stop::NotJson)?;
            if !self.scanner.eat(b':') {
                return Err(Stop::NotJson);
            }
            take(self, key)?;
            if self.scanner.eat(b'}') {
                return Ok(());
            }
            if !self.scanner.eat(b',') {
                return Err(Stop::NotJson);
            }
        }
    }

    /// Reads a value without flattening it.
    fn value(&mut self, depth: usize) -> Result<FieldValue<'t>, Stop> {
        match self.scanner.peek().ok_or(Stop::NotJson)? {
            b'"' => {
                let text = self.scanner.string().ok_or(Stop::NotJson)?;
                self.spend(text.len(), 0)?;
                Ok(FieldValue::Text(text))
            }
            b'{' | b'[' if depth >= MAX_DEPTH => {
                let text = self.scanner.skip().ok_or(Stop::NotJson)?;
                self.spend(text.len(), 0)?;
                Ok(FieldValue::Text(Cow::Borrowed(text)))
            }
            b'{' => {
                self.spend(CONTAINER_OVERHEAD, INITIAL_VALUES)?;
                let mut values = Vec::new();
                self.entries(|reader, key| {
                    reader.spend(FIELD_OVERHEAD + key.len(), 1)?;
                    let value = reader.value(depth + 1)?;
                    values.push(Field { key, value, is_nested: true }.into_attribute());
                    Ok(())
                })?;
                Ok(FieldValue::Other(Value::KvlistValue(KeyValueList { values })))
            }
            b'[' => self.array(depth),
            _ => {
                let scalar = self.scanner.scalar().ok_or(Stop::NotJson)?;
                self.spend(encoded_len(scalar), 0)?;
                Ok(match scalar {
                    Scalar::Null => FieldValue::Null,
                    Scalar::Bool(value) => FieldValue::Other(Value::BoolValue(value)),
                    Scalar::Int(value) => FieldValue::Other(Value::IntValue(value)),
                    Scalar::Double(value) => FieldValue::Other(Value::DoubleValue(value)),
                    Scalar::Text(text) => FieldValue::Text(Cow::Borrowed(text)),
                })
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<FieldValue<'t>, Stop> {
        self.spend(CONTAINER_OVERHEAD, INITIAL_VALUES)?;
        self.scanner.eat(b'[');
        let mut values = Vec::new();
        if !self.scanner.eat(b']') {
            loop {
                self.spend(ELEMENT_OVERHEAD, 1)?;
                let value = self.value(depth + 1)?;
                values.push(value.into_any_value().unwrap_or_default());
                if self.scanner.eat(b']') {
                    break;
                }
                if !self.scanner.eat(b',') {
                    return Err(Stop::NotJson);
                }
            }
        }
        Ok(FieldValue::Other(Value::ArrayValue(ArrayValue { values })))
    }
}

fn encoded_len(scalar: Scalar<'_>) -> usize {
    match scalar {
        Scalar::Null => 0,
        Scalar::Bool(_) => 2,
        Scalar::Int(value) => 1 + encoded_len_varint(value.cast_unsigned()),
        Scalar::Double(_) => 9,
        Scalar::Text(text) => text.len(),
    }
}

/// Returns true if the object that a scanner is at has EMF's directives.
fn has_directives(at: &Scanner<'_>) -> bool {
    let mut found = false;
    for_each_entry(at.rest(), |key, _, _| found |= key == EMF_DIRECTIVES);
    found
}

/// Calls `take` with each key of the object at the start of a text, the JSON of the key, and that of its value. Returns the
/// text after the object, or `None` if it does not end.
pub(super) fn for_each_entry<'t>(
    object: &'t str,
    mut take: impl FnMut(Cow<'t, str>, &'t str, &'t str),
) -> Option<&'t str> {
    let mut scanner = Scanner::new(object);
    if !scanner.eat(b'{') {
        return None;
    }
    if scanner.eat(b'}') {
        return Some(scanner.rest());
    }
    loop {
        let written = scanner.clone().skip()?;
        let key = scanner.string()?;
        if !scanner.eat(b':') {
            return None;
        }
        take(key, written, scanner.skip()?);
        if scanner.eat(b'}') {
            return Some(scanner.rest());
        }
        if !scanner.eat(b',') {
            return None;
        }
    }
}

/// Decodes a JSON string as a line of text. Returns `None` for any other JSON.
///
/// Platform: a line comes with its line break, which is removed.
pub(super) fn decode_line(json: &str) -> Option<Cow<'_, str>> {
    Some(match Scanner::new(json).whole_string()? {
        Cow::Borrowed(line) => Cow::Borrowed(line.strip_suffix('\n').unwrap_or(line)),
        Cow::Owned(mut line) => {
            line.truncate(line.strip_suffix('\n').unwrap_or(&line).len());
            Cow::Owned(line)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Object<'_>> {
        object(text, &mut RecordBudget::of(text.len() + 100_000)).expect("within the budget")
    }

    fn rendered(text: &str) -> String {
        let Some(object) = read(text) else { return "none".to_owned() };
        let field = |field: &Field<'_>| match &field.value {
            FieldValue::Text(text) => format!("{}={text:?}", field.key),
            other => format!("{}={other:?}", field.key),
        };
        let fields: Vec<_> = object.fields.iter().map(field).collect();
        format!(
            "{} | rest {:?}{}",
            fields.join(" "),
            object.rest,
            if object.is_broken { " broken" } else { "" }
        )
    }

    #[test]
    fn one_bad_value_does_not_cost_the_record() {
        let records = [
            r#"{"a":NaN,"b":-Infinity,"c":1e999,"d":18446744073709551616,"e":"\ud83d","f":1}"#,
            r#"{"a":1,"a":2,"b":{"a":[1,{"c":null}],"d":{}}}"#,
            "{\"a\":\"tab\tand\nbreak\"} {\"b\":1}",
            r#"{"a":1,"b":{"c":2,"d":tru"#,
            r#"{"a":1,"b":'x'}"#,
            "{'a':1}",
            "{}",
            "{",
        ];
        insta::assert_snapshot!(records.map(rendered).join("\n"), @r#"
        a="NaN" b="-Infinity" c="1e999" d="18446744073709551616" e="�" f=Other(IntValue(1)) | rest ""
        a=Other(IntValue(1)) a=Other(IntValue(2)) b.a=Other(ArrayValue(ArrayValue { values: [AnyValue { value: Some(IntValue(1)) }, AnyValue { value: Some(KvlistValue(KeyValueList { values: [KeyValue { key: "c", value: None, key_strindex: 0 }] })) }] })) b.d=Other(KvlistValue(KeyValueList { values: [] })) | rest ""
        a="tab\tand\nbreak" | rest " {\"b\":1}"
        a=Other(IntValue(1)) b.c=Other(IntValue(2)) | rest ",\"b\":{\"c\":2,\"d\":tru" broken
        a=Other(IntValue(1)) | rest ",\"b\":'x'}" broken
        none
         | rest ""
        none
        "#);
    }

    #[test]
    fn deep_values_stay_json() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        let object = read(&deep).expect("an object");
        assert!(!object.is_broken);
        let deep = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
        assert!(read(&deep).is_some_and(|object| !object.is_broken));
    }

    /// The value as serde_json reads it, with numbers beyond an `i64` as text.
    fn of_serde(value: &serde_json::Value) -> Option<Value> {
        Some(match value {
            serde_json::Value::Null => return None,
            serde_json::Value::Bool(value) => Value::BoolValue(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => Value::IntValue(number),
                None if number.is_u64() => Value::StringValue(number.to_string()),
                None => Value::DoubleValue(number.as_f64()?),
            },
            serde_json::Value::String(text) => Value::StringValue(text.clone()),
            serde_json::Value::Array(values) => {
                let values = values.iter().map(|value| AnyValue { value: of_serde(value) }).collect();
                Value::ArrayValue(ArrayValue { values })
            }
            serde_json::Value::Object(fields) => {
                let field = |(key, value): (&String, &serde_json::Value)| {
                    let value = of_serde(value).map(|value| AnyValue { value: Some(value) });
                    KeyValue { key: key.clone(), value, ..KeyValue::default() }
                };
                Value::KvlistValue(KeyValueList { values: fields.iter().map(field).collect() })
            }
        })
    }

    /// Values with distinct keys in order, as serde_json has them.
    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let scalar = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e300..1e300_f64).prop_map(Into::into),
            "([a-z\"\\\\/\n\t\r\u{8}\u{c}é😀{}]|\\\\u)*".prop_map(Into::into),
        ];
        scalar.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[a-z\"é]{0,6}", inner, 0..6)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_reads_as_in_serde_json(value in any_value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON");
            let read = field_value(&text, &mut RecordBudget::of(100_000 + 100 * text.len())).expect("a value");
            prop_assert_eq!(read.into_any_value().and_then(|value| value.value), of_serde(&value));
        }

        #[test]
        fn any_text_is_read_without_panic(text in r#"[{}\[\]",:\\u0-9a-fnNtrue. -]{0,60}"#) {
            read(&text);
            decode_line(&text);
            field_value(&text, &mut RecordBudget::of(text.len()));
        }

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
        assert_eq!(decode_line(r#""\ud800""#).as_deref(), Some("\u{fffd}"));
        for none in ["null", "[\"a\"]", "\""] {
            assert_eq!(decode_line(none), None, "{none}");
        }
    }
}
