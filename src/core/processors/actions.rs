//! The actions of the processors `attributes` and `resource`.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use regex_lite::Regex;
use sha2::{Digest as _, Sha256};

use super::value::{self, Value};
use crate::trace_context::hex;

/// One action on a list of attributes.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) target: Target,
    pub(crate) operation: Operation,
}

/// The attributes that an action changes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Key(String),
    Pattern(Regex),
}

/// The change of an attribute.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Sets it if it is missing.
    Insert(Source),
    /// Sets it if it is there.
    Update(Source),
    /// Sets it.
    Upsert(Source),
    Delete,
    /// Replaces the value by its SHA-256.
    Hash,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Value(Value),
    Attribute(String),
}

impl Action {
    pub(super) fn apply(&self, attributes: &mut Vec<KeyValue>) {
        match (&self.target, &self.operation) {
            (Target::Key(key), Operation::Delete) => attributes.retain(|attribute| attribute.key != *key),
            (Target::Pattern(pattern), Operation::Delete) => {
                attributes.retain(|attribute| !pattern.is_match(&attribute.key));
            }
            (target, Operation::Hash) => {
                let is_target = |attribute: &KeyValue| match target {
                    Target::Key(key) => attribute.key == *key,
                    Target::Pattern(pattern) => pattern.is_match(&attribute.key),
                };
                for attribute in attributes.iter_mut().filter(|attribute| is_target(attribute)) {
                    let hashed = Value::Text(hash(&Value::of(attribute.value.as_ref())));
                    attribute.value = hashed.into_any();
                }
            }
            (Target::Key(key), Operation::Insert(source)) => {
                set(attributes, key, source, |is_there| !is_there);
            }
            (Target::Key(key), Operation::Update(source)) => {
                set(attributes, key, source, |is_there| is_there);
            }
            (Target::Key(key), Operation::Upsert(source)) => set(attributes, key, source, |_| true),
            // A pattern says nothing of a new key.
            (Target::Pattern(_), _) => {}
        }
    }
}

fn set(attributes: &mut Vec<KeyValue>, key: &str, source: &Source, when: impl FnOnce(bool) -> bool) {
    if when(attributes.iter().any(|attribute| attribute.key == key)) {
        let value = match source {
            Source::Value(value) => value.clone(),
            Source::Attribute(other) => value::get(attributes, other),
        };
        value::set(attributes, key, value);
    }
}

/// The hash that the collector computes.
fn hash(value: &Value) -> String {
    let bytes = match value {
        Value::Bool(value) => vec![u8::from(*value)],
        Value::Int(value) => value.to_le_bytes().to_vec(),
        Value::Double(value) => value.to_bits().to_le_bytes().to_vec(),
        Value::Text(value) => value.clone().into_bytes(),
        Value::Bytes(value) => value.clone(),
        Value::Nil | Value::List(_) | Value::Map(_) => Vec::new(),
    };
    hex(&Sha256::digest(bytes))
}
