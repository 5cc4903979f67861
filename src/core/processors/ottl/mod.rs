//! Statements and conditions of the OpenTelemetry Transformation Language, as the processors `transform` and `filter` have them.
//!
//! Supports what people write for spans, span events, log records, metrics and data points. Promises that a statement either
//! means what the collector does with it or is refused when the file is read.

mod lexer;
mod parser;
mod subject;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use regex_lite::Regex;
use sha2::{Digest as _, Sha256};

pub(crate) use self::parser::pattern;
pub(super) use self::parser::{condition, statement};
pub(super) use self::subject::{Context, Item, MetricHead, Point, Subject};
use self::subject::{Field, Owner};
use super::value::{self, Value, cut};
use crate::trace_context::hex;

/// An editor with its condition.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    editor: Editor,
    condition: Option<Condition>,
}

/// A function that changes telemetry.
#[derive(Clone, Debug)]
enum Editor {
    Set(Field, Expression),
    DeleteKey(Owner, String),
    DeleteMatchingKeys(Owner, Regex),
    KeepKeys(Owner, Vec<String>),
    KeepMatchingKeys(Owner, Regex),
    MergeMaps { owner: Owner, source: Expression, insert: bool, update: bool },
    ReplacePattern { field: Field, pattern: Regex, replacement: String },
    ReplaceAllPatterns { owner: Owner, in_keys: bool, pattern: Regex, replacement: String },
    TruncateAll(Owner, usize),
}

/// An expression that is true or false.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Compare(Expression, Comparison, Expression),
    Holds(Expression),
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An expression with a value.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Literal(Value),
    Field(Field),
    IsMatch(Box<Expression>, Regex),
    /// A function of values only.
    Call(Function, Vec<Expression>),
    Arithmetic(Box<Expression>, char, Box<Expression>),
    /// The values of `Concat`, with what stands between them.
    Concat(Vec<Expression>, String),
}

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Double,
    HasPrefix,
    HasSuffix,
    Int,
    IsBool,
    IsDouble,
    IsInt,
    IsList,
    IsMap,
    IsString,
    Len,
    ParseJson,
    Sha256,
    String,
    Substring,
    ToLowerCase,
    ToUpperCase,
    Trim,
}

impl Statement {
    /// Changes the subject, if the condition holds.
    pub(super) fn apply(&self, subject: &mut Subject<'_>) {
        if self.condition.as_ref().is_none_or(|condition| condition.holds(subject)) {
            self.editor.apply(subject);
        }
    }
}

impl Editor {
    fn apply(&self, subject: &mut Subject<'_>) {
        match self {
            Self::Set(field, source) => {
                let value = source.value(subject);
                subject.set(field, value);
            }
            Self::ReplacePattern { field, pattern, replacement } => {
                if let Value::Text(text) = subject.get(field)
                    && pattern.is_match(&text)
                {
                    let replaced = cut(pattern.replace_all(&text, replacement.as_str()).into_owned());
                    subject.set(field, Value::Text(replaced));
                }
            }
            Self::MergeMaps { owner, source, insert, update } => {
                let Value::Map(others) = source.value(subject) else { return };
                let Some(attributes) = subject.attributes_mut(*owner) else { return };
                for other in others {
                    let is_there = attributes.iter().any(|attribute| attribute.key == other.key);
                    if if is_there { *update } else { *insert } {
                        value::set(attributes, &other.key, Value::of(other.value.as_ref()));
                    }
                }
            }
            Self::DeleteKey(owner, _)
            | Self::DeleteMatchingKeys(owner, _)
            | Self::KeepKeys(owner, _)
            | Self::KeepMatchingKeys(owner, _)
            | Self::TruncateAll(owner, _)
            | Self::ReplaceAllPatterns { owner, .. } => {
                if let Some(attributes) = subject.attributes_mut(*owner) {
                    self.edit_attributes(attributes);
                }
            }
        }
    }

    fn edit_attributes(&self, attributes: &mut Vec<KeyValue>) {
        match self {
            Self::DeleteKey(_, key) => attributes.retain(|attribute| attribute.key != *key),
            Self::DeleteMatchingKeys(_, pattern) => {
                attributes.retain(|attribute| !pattern.is_match(&attribute.key));
            }
            Self::KeepKeys(_, keys) => attributes.retain(|attribute| keys.contains(&attribute.key)),
            Self::KeepMatchingKeys(_, pattern) => {
                attributes.retain(|attribute| pattern.is_match(&attribute.key));
            }
            Self::TruncateAll(_, limit) => {
                for attribute in attributes {
                    if let Value::Text(mut text) = Value::of(attribute.value.as_ref())
                        && text.len() > *limit
                    {
                        let end = (0..=*limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                        text.truncate(end);
                        attribute.value = Value::Text(text).into_any();
                    }
                }
            }
            Self::ReplaceAllPatterns { in_keys, pattern, replacement, .. } => {
                let replaced = |text: &str| cut(pattern.replace_all(text, replacement.as_str()).into_owned());
                for attribute in attributes {
                    if *in_keys {
                        attribute.key = replaced(&attribute.key);
                    } else if let Value::Text(text) = Value::of(attribute.value.as_ref()) {
                        attribute.value = Value::Text(replaced(&text)).into_any();
                    }
                }
            }
            Self::Set(..) | Self::MergeMaps { .. } | Self::ReplacePattern { .. } => {}
        }
    }
}

impl Condition {
    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Compare(left, comparison, right) => {
                compare(&left.value(subject), *comparison, &right.value(subject))
            }
            Self::Holds(expression) => expression.value(subject) == Value::Bool(true),
            Self::Not(condition) => !condition.holds(subject),
            Self::And(conditions) => conditions.iter().all(|condition| condition.holds(subject)),
            Self::Or(conditions) => conditions.iter().any(|condition| condition.holds(subject)),
        }
    }
}

/// Compares two values. Values of different types are not equal, and neither is less.
fn compare(left: &Value, comparison: Comparison, right: &Value) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "as the collector compares")]
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.partial_cmp(right),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Double(right)) => (*left as f64).partial_cmp(right),
        (Value::Double(left), Value::Int(right)) => left.partial_cmp(&(*right as f64)),
        (Value::Text(left), Value::Text(right)) => left.partial_cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.partial_cmp(right),
        (left, right) if left == right => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match comparison {
        Comparison::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Comparison::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
        Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

impl Expression {
    fn value(&self, subject: &Subject<'_>) -> Value {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Field(field) => subject.get(field),
            Self::IsMatch(target, pattern) => {
                Value::Bool(target.value(subject).to_text().is_some_and(|text| pattern.is_match(&text)))
            }
            Self::Call(function, arguments) => {
                let mut values = arguments.iter().map(|argument| argument.value(subject));
                function.call(values.next().unwrap_or(Value::Nil), values)
            }
            Self::Arithmetic(left, operator, right) => {
                arithmetic(&left.value(subject), *operator, &right.value(subject))
            }
            Self::Concat(parts, separator) => {
                let texts: Vec<_> = parts
                    .iter()
                    .map(|part| part.value(subject).to_text().unwrap_or_else(|| "<nil>".to_owned()))
                    .collect();
                Value::Text(cut(texts.join(separator)))
            }
        }
    }
}

fn arithmetic(left: &Value, operator: char, right: &Value) -> Value {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            let result = match operator {
                '+' => left.checked_add(*right),
                '-' => left.checked_sub(*right),
                '*' => left.checked_mul(*right),
                _ => left.checked_div(*right),
            };
            result.map_or(Value::Nil, Value::Int)
        }
        (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => {
            let (left, right) = (double(left), double(right));
            Value::Double(match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ => left / right,
            })
        }
        _ => Value::Nil,
    }
}

fn double(value: &Value) -> f64 {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "as the collector computes")]
        Value::Int(value) => *value as f64,
        Value::Double(value) => *value,
        _ => 0.0,
    }
}

impl Function {
    /// Calls the function. A value of another type gives nil.
    fn call(self, value: Value, mut others: impl Iterator<Item = Value>) -> Value {
        let length = |length: usize| Value::Int(i64::try_from(length).unwrap_or(i64::MAX));
        match (self, value) {
            (Self::IsBool, value) => Value::Bool(matches!(value, Value::Bool(_))),
            (Self::IsDouble, value) => Value::Bool(matches!(value, Value::Double(_))),
            (Self::IsInt, value) => Value::Bool(matches!(value, Value::Int(_))),
            (Self::IsList, value) => Value::Bool(matches!(value, Value::List(_))),
            (Self::IsMap, value) => Value::Bool(matches!(value, Value::Map(_))),
            (Self::IsString, value) => Value::Bool(matches!(value, Value::Text(_))),
            (Self::Len, Value::Text(text)) => length(text.len()),
            (Self::Len, Value::List(values)) => length(values.len()),
            (Self::Len, Value::Map(values)) => length(values.len()),
            (Self::String, value) => value.to_text().map_or(Value::Nil, Value::Text),
            (Self::Int, Value::Text(text)) => text.parse().map_or(Value::Nil, Value::Int),
            (Self::Int, Value::Bool(value)) => Value::Int(value.into()),
            (Self::Int, value @ Value::Int(_)) => value,
            #[expect(clippy::cast_possible_truncation, reason = "as the collector converts")]
            (Self::Int, Value::Double(value)) => Value::Int(value as i64),
            (Self::Double, Value::Text(text)) => text.parse().map_or(Value::Nil, Value::Double),
            (Self::Double, value @ (Value::Int(_) | Value::Double(_))) => Value::Double(double(&value)),
            (Self::ToLowerCase, Value::Text(text)) => Value::Text(text.to_lowercase()),
            (Self::ToUpperCase, Value::Text(text)) => Value::Text(text.to_uppercase()),
            (Self::Trim, Value::Text(text)) => Value::Text(text.trim_matches(' ').to_owned()),
            (Self::Sha256, Value::Text(text)) => Value::Text(hex(&Sha256::digest(text))),
            (Self::HasPrefix, Value::Text(text)) => {
                Value::Bool(matches!(others.next(), Some(Value::Text(other)) if text.starts_with(&other)))
            }
            (Self::HasSuffix, Value::Text(text)) => {
                Value::Bool(matches!(others.next(), Some(Value::Text(other)) if text.ends_with(&other)))
            }
            (Self::Substring, Value::Text(text)) => substring(&text, others.next(), others.next()),
            (Self::ParseJson, Value::Text(text)) => {
                serde_json::from_str(&text).map_or(Value::Nil, |json| of_json(&json))
            }
            (Self::HasPrefix | Self::HasSuffix, _) => Value::Bool(false),
            _ => Value::Nil,
        }
    }
}

fn substring(text: &str, start: Option<Value>, length: Option<Value>) -> Value {
    let number = |value| match value {
        Some(Value::Int(value)) => usize::try_from(value).ok(),
        _ => None,
    };
    let (Some(start), Some(length)) = (number(start), number(length)) else { return Value::Nil };
    let end = start.saturating_add(length);
    text.get(start..end).map_or(Value::Nil, |part| Value::Text(part.to_owned()))
}

/// A value of JSON, whose depth is limited by its parser.
fn of_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        // Numbers of JSON are doubles in the collector, too.
        serde_json::Value::Number(number) => number.as_f64().map_or(Value::Nil, Value::Double),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(values) => {
            Value::List(values.iter().map(|value| of_json(value).into_any().unwrap_or_default()).collect())
        }
        serde_json::Value::Object(fields) => {
            let attribute = |(key, value): (&String, &serde_json::Value)| KeyValue {
                key: key.clone(),
                value: of_json(value).into_any(),
                ..KeyValue::default()
            };
            Value::Map(fields.iter().map(attribute).collect())
        }
    }
}
