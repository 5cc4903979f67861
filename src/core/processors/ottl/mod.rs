//! Statements and conditions of the OpenTelemetry Transformation Language, as the processors `transform` and `filter` have them.
//!
//! Supports what people write for spans, span events, log records, metrics and data points. Promises that a statement either
//! means what the collector does with it or is refused when the file is read.

mod lexer;
mod parser;
mod subject;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use regex_lite::{Captures, Regex};
use sha2::{Digest as _, Sha256};

pub(crate) use self::parser::pattern;
pub(super) use self::parser::{condition, statement};
pub(super) use self::subject::{ContextItem, DataPoint, MetricHead, OttlContext, OttlSubject};
use self::subject::{OttlPath, Owner};
use super::growth::GrowthBudget;
use super::value::{self, OttlValue};
use crate::trace_context::hex;

/// Longer texts are not parsed as JSON, whose values take many times their bytes of memory.
const JSON_LIMIT: usize = 256 * 1024;

/// An editor with its condition.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    editor: Editor,
    condition: Option<OttlCondition>,
}

/// A function that changes telemetry.
#[derive(Clone, Debug)]
enum Editor {
    Set(OttlPath, OttlExpression),
    DeleteKey(Owner, String),
    DeleteMatchingKeys(Owner, Regex),
    KeepKeys(Owner, Vec<String>),
    KeepMatchingKeys(Owner, Regex),
    MergeMaps { owner: Owner, source: OttlExpression, insert: bool, update: bool },
    ReplacePattern { path: OttlPath, pattern: Regex, replacement: String },
    ReplaceAllPatterns { owner: Owner, in_keys: bool, pattern: Regex, replacement: String },
    TruncateAll(Owner, usize),
}

/// An expression that is true or false.
#[derive(Clone, Debug)]
pub(super) enum OttlCondition {
    Compare(OttlExpression, Comparator, OttlExpression),
    Holds(OttlExpression),
    Not(Box<OttlCondition>),
    And(Vec<OttlCondition>),
    Or(Vec<OttlCondition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An expression with a value.
#[derive(Clone, Debug)]
pub(super) enum OttlExpression {
    Literal(OttlValue),
    Path(OttlPath),
    IsMatch(Box<OttlExpression>, Regex),
    /// A function of values only.
    Call(Converter, Vec<OttlExpression>),
    Arithmetic(Box<OttlExpression>, char, Box<OttlExpression>),
    /// The values of `Concat`, with what stands between them.
    Concat(Vec<OttlExpression>, String),
}

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Converter {
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
    pub(super) fn apply(&self, subject: &mut OttlSubject<'_>) {
        if self.condition.as_ref().is_none_or(|condition| condition.holds(subject)) {
            self.editor.apply(subject);
        }
    }
}

impl Editor {
    fn apply(&self, subject: &mut OttlSubject<'_>) {
        match self {
            Self::Set(path, source) => {
                let value = source.value(subject);
                subject.set(path, value);
            }
            Self::ReplacePattern { path, pattern, replacement } => {
                if let OttlValue::Text(text) = subject.get(path)
                    && pattern.is_match(&text)
                {
                    let replaced = replace_all(pattern, &text, replacement, subject.budget);
                    subject.set(path, OttlValue::Text(replaced));
                }
            }
            Self::MergeMaps { owner, source, insert, update } => {
                let budget = subject.budget;
                let OttlValue::Map(others) = source.value(subject) else { return };
                let Some(attributes) = subject.attributes_mut(*owner) else { return };
                for other in others {
                    let is_there = attributes.iter().any(|attribute| attribute.key == other.key);
                    if if is_there { *update } else { *insert } {
                        value::set(attributes, &other.key, OttlValue::of(other.value.as_ref()), budget);
                    }
                }
            }
            Self::DeleteKey(owner, _)
            | Self::DeleteMatchingKeys(owner, _)
            | Self::KeepKeys(owner, _)
            | Self::KeepMatchingKeys(owner, _)
            | Self::TruncateAll(owner, _)
            | Self::ReplaceAllPatterns { owner, .. } => {
                let budget = subject.budget;
                if let Some(attributes) = subject.attributes_mut(*owner) {
                    self.edit_attributes(attributes, budget);
                }
            }
        }
    }

    fn edit_attributes(&self, attributes: &mut Vec<KeyValue>, budget: &GrowthBudget) {
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
                    if let OttlValue::Text(mut text) = OttlValue::of(attribute.value.as_ref())
                        && text.len() > *limit
                    {
                        let end = (0..=*limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                        text.truncate(end);
                        attribute.value = OttlValue::Text(text).into_any();
                    }
                }
            }
            Self::ReplaceAllPatterns { in_keys, pattern, replacement, .. } => {
                let replaced = |text: &str| {
                    let replaced = replace_all(pattern, text, replacement, budget);
                    // Beyond the budget nothing is left of the text, which may be what is to be masked.
                    if budget.try_spend(text.len(), replaced.len()) { replaced } else { String::new() }
                };
                for attribute in attributes {
                    if *in_keys {
                        attribute.key = replaced(&attribute.key);
                    } else if let OttlValue::Text(text) = OttlValue::of(attribute.value.as_ref()) {
                        attribute.value = OttlValue::Text(replaced(&text)).into_any();
                    }
                }
            }
            Self::Set(..) | Self::MergeMaps { .. } | Self::ReplacePattern { .. } => {}
        }
    }
}

/// Replaces each match of a pattern, as long as the result stays within the budget.
fn replace_all(pattern: &Regex, text: &str, replacement: &str, budget: &GrowthBudget) -> String {
    // Each "$" of the replacement stands for the whole match at most.
    let references = replacement.matches('$').count();
    let bounded = |captures: &Captures<'_>, size: usize| {
        let added = replacement.len() + references * captures.get(0).map_or(0, |found| found.len());
        budget.allows(text.len(), size + added)
    };
    let mut replaced = String::new();
    let mut end = 0;
    for captures in pattern.captures_iter(text) {
        let Some(found) = captures.get(0) else { continue };
        replaced.push_str(text.get(end..found.start()).unwrap_or_default());
        end = found.end();
        if bounded(&captures, replaced.len()) {
            captures.expand(replacement, &mut replaced);
        }
    }
    replaced.push_str(text.get(end..).unwrap_or_default());
    replaced
}

impl OttlCondition {
    pub(super) fn holds(&self, subject: &OttlSubject<'_>) -> bool {
        match self {
            Self::Compare(left, comparison, right) => {
                compare(&left.value(subject), *comparison, &right.value(subject))
            }
            Self::Holds(expression) => expression.value(subject) == OttlValue::Bool(true),
            Self::Not(condition) => !condition.holds(subject),
            Self::And(conditions) => conditions.iter().all(|condition| condition.holds(subject)),
            Self::Or(conditions) => conditions.iter().any(|condition| condition.holds(subject)),
        }
    }
}

/// Compares two values. Values of different types are not equal, and neither is less.
fn compare(left: &OttlValue, comparison: Comparator, right: &OttlValue) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "as the collector compares")]
    let order = match (left, right) {
        (OttlValue::Int(left), OttlValue::Int(right)) => left.partial_cmp(right),
        (OttlValue::Double(left), OttlValue::Double(right)) => left.partial_cmp(right),
        (OttlValue::Int(left), OttlValue::Double(right)) => (*left as f64).partial_cmp(right),
        (OttlValue::Double(left), OttlValue::Int(right)) => left.partial_cmp(&(*right as f64)),
        (OttlValue::Text(left), OttlValue::Text(right)) => left.partial_cmp(right),
        (OttlValue::Bool(left), OttlValue::Bool(right)) => left.partial_cmp(right),
        (left, right) if left == right => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match comparison {
        Comparator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Comparator::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
        Comparator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

impl OttlExpression {
    fn value(&self, subject: &OttlSubject<'_>) -> OttlValue {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Path(path) => subject.get(path),
            Self::IsMatch(target, pattern) => {
                OttlValue::Bool(target.value(subject).to_text().is_some_and(|text| pattern.is_match(&text)))
            }
            Self::Call(function, arguments) => {
                let mut values = arguments.iter().map(|argument| argument.value(subject));
                function.call(values.next().unwrap_or(OttlValue::Nil), values)
            }
            Self::Arithmetic(left, operator, right) => {
                arithmetic(&left.value(subject), *operator, &right.value(subject))
            }
            Self::Concat(parts, separator) => {
                let texts: Vec<_> = parts
                    .iter()
                    .map(|part| part.value(subject).to_text().unwrap_or_else(|| "<nil>".to_owned()))
                    .collect();
                let size = texts.iter().map(|text| text.len() + separator.len()).sum();
                if subject.budget.allows(0, size) {
                    OttlValue::Text(texts.join(separator))
                } else {
                    OttlValue::Nil
                }
            }
        }
    }
}

fn arithmetic(left: &OttlValue, operator: char, right: &OttlValue) -> OttlValue {
    match (left, right) {
        (OttlValue::Int(left), OttlValue::Int(right)) => {
            let result = match operator {
                '+' => left.checked_add(*right),
                '-' => left.checked_sub(*right),
                '*' => left.checked_mul(*right),
                _ => left.checked_div(*right),
            };
            result.map_or(OttlValue::Nil, OttlValue::Int)
        }
        (OttlValue::Int(_) | OttlValue::Double(_), OttlValue::Int(_) | OttlValue::Double(_)) => {
            let (left, right) = (double(left), double(right));
            OttlValue::Double(match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ => left / right,
            })
        }
        _ => OttlValue::Nil,
    }
}

fn double(value: &OttlValue) -> f64 {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "as the collector computes")]
        OttlValue::Int(value) => *value as f64,
        OttlValue::Double(value) => *value,
        _ => 0.0,
    }
}

impl Converter {
    /// Calls the function. A value of another type gives nil.
    fn call(self, value: OttlValue, mut others: impl Iterator<Item = OttlValue>) -> OttlValue {
        let length = |length: usize| OttlValue::Int(i64::try_from(length).unwrap_or(i64::MAX));
        match (self, value) {
            (Self::IsBool, value) => OttlValue::Bool(matches!(value, OttlValue::Bool(_))),
            (Self::IsDouble, value) => OttlValue::Bool(matches!(value, OttlValue::Double(_))),
            (Self::IsInt, value) => OttlValue::Bool(matches!(value, OttlValue::Int(_))),
            (Self::IsList, value) => OttlValue::Bool(matches!(value, OttlValue::List(_))),
            (Self::IsMap, value) => OttlValue::Bool(matches!(value, OttlValue::Map(_))),
            (Self::IsString, value) => OttlValue::Bool(matches!(value, OttlValue::Text(_))),
            (Self::Len, OttlValue::Text(text)) => length(text.len()),
            (Self::Len, OttlValue::List(values)) => length(values.len()),
            (Self::Len, OttlValue::Map(values)) => length(values.len()),
            (Self::String, value) => value.to_text().map_or(OttlValue::Nil, OttlValue::Text),
            (Self::Int, OttlValue::Text(text)) => text.parse().map_or(OttlValue::Nil, OttlValue::Int),
            (Self::Int, OttlValue::Bool(value)) => OttlValue::Int(value.into()),
            (Self::Int, value @ OttlValue::Int(_)) => value,
            #[expect(clippy::cast_possible_truncation, reason = "as the collector converts")]
            (Self::Int, OttlValue::Double(value)) => OttlValue::Int(value as i64),
            (Self::Double, OttlValue::Text(text)) => text.parse().map_or(OttlValue::Nil, OttlValue::Double),
            (Self::Double, value @ (OttlValue::Int(_) | OttlValue::Double(_))) => {
                OttlValue::Double(double(&value))
            }
            (Self::ToLowerCase, OttlValue::Text(text)) => OttlValue::Text(text.to_lowercase()),
            (Self::ToUpperCase, OttlValue::Text(text)) => OttlValue::Text(text.to_uppercase()),
            (Self::Trim, OttlValue::Text(text)) => OttlValue::Text(text.trim_matches(' ').to_owned()),
            (Self::Sha256, OttlValue::Text(text)) => OttlValue::Text(hex(&Sha256::digest(text))),
            (Self::HasPrefix, OttlValue::Text(text)) => OttlValue::Bool(
                matches!(others.next(), Some(OttlValue::Text(other)) if text.starts_with(&other)),
            ),
            (Self::HasSuffix, OttlValue::Text(text)) => OttlValue::Bool(
                matches!(others.next(), Some(OttlValue::Text(other)) if text.ends_with(&other)),
            ),
            (Self::Substring, OttlValue::Text(text)) => substring(&text, others.next(), others.next()),
            (Self::ParseJson, OttlValue::Text(text)) if text.len() <= JSON_LIMIT => {
                serde_json::from_str(&text).map_or(OttlValue::Nil, |json| of_json(&json))
            }
            (Self::HasPrefix | Self::HasSuffix, _) => OttlValue::Bool(false),
            _ => OttlValue::Nil,
        }
    }
}

fn substring(text: &str, start: Option<OttlValue>, length: Option<OttlValue>) -> OttlValue {
    let number = |value| match value {
        Some(OttlValue::Int(value)) => usize::try_from(value).ok(),
        _ => None,
    };
    let (Some(start), Some(length)) = (number(start), number(length)) else { return OttlValue::Nil };
    let end = start.saturating_add(length);
    text.get(start..end).map_or(OttlValue::Nil, |part| OttlValue::Text(part.to_owned()))
}

/// A value of JSON, whose depth is limited by its parser.
fn of_json(json: &serde_json::Value) -> OttlValue {
    match json {
        serde_json::Value::Null => OttlValue::Nil,
        serde_json::Value::Bool(value) => OttlValue::Bool(*value),
        // Numbers of JSON are doubles in the collector, too.
        serde_json::Value::Number(number) => number.as_f64().map_or(OttlValue::Nil, OttlValue::Double),
        serde_json::Value::String(text) => OttlValue::Text(text.clone()),
        serde_json::Value::Array(values) => OttlValue::List(
            values.iter().map(|value| of_json(value).into_any().unwrap_or_default()).collect(),
        ),
        serde_json::Value::Object(fields) => {
            let attribute = |(key, value): (&String, &serde_json::Value)| KeyValue {
                key: key.clone(),
                value: of_json(value).into_any(),
                ..KeyValue::default()
            };
            OttlValue::Map(fields.iter().map(attribute).collect())
        }
    }
}
