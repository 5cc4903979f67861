//! The actions of the processors `attributes` and `resource`.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use regex_lite::Regex;
use sha2::{Digest as _, Sha256};

use super::growth::GrowthBudget;
use super::value::{self, OttlValue};
use crate::trace_context::hex;

/// One action on a list of attributes.
#[derive(Clone, Debug)]
pub(crate) struct AttributeAction {
    pub(crate) target: ActionTarget,
    pub(crate) operation: ActionOperation,
}

/// The attributes that an action changes.
#[derive(Clone, Debug)]
pub(crate) enum ActionTarget {
    Key(String),
    Pattern(Regex),
}

/// The change of an attribute.
#[derive(Clone, Debug)]
pub(crate) enum ActionOperation {
    Set {
        when: SetWhen,
        source: ActionSource,
    },
    Delete,
    /// Replaces the value by its SHA-256.
    Hash,
}

/// The condition for setting an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetWhen {
    /// `insert`.
    Missing,
    /// `update`.
    Present,
    /// `upsert`.
    Always,
}

/// The origin of a value.
#[derive(Clone, Debug)]
pub(crate) enum ActionSource {
    Value(OttlValue),
    Attribute(String),
}

/// Applies actions in their order.
pub(super) fn apply(actions: &[AttributeAction], attributes: &mut Vec<KeyValue>, budget: &GrowthBudget) {
    for action in actions {
        action.apply(attributes, budget);
    }
}

impl AttributeAction {
    fn apply(&self, attributes: &mut Vec<KeyValue>, budget: &GrowthBudget) {
        match &self.operation {
            ActionOperation::Delete => attributes.retain(|attribute| !self.target.matches(&attribute.key)),
            ActionOperation::Hash => {
                // A hash is as short as an id, so that no budget is needed.
                for attribute in attributes.iter_mut().filter(|attribute| self.target.matches(&attribute.key))
                {
                    let hashed = OttlValue::Text(hash(&OttlValue::of(attribute.value.as_ref())));
                    attribute.value = hashed.into_any();
                }
            }
            ActionOperation::Set { when, source } => {
                // Reading the file refuses a pattern here, which says nothing of a new key.
                let ActionTarget::Key(key) = &self.target else { return };
                let is_there = attributes.iter().any(|attribute| attribute.key == *key);
                let sets = match when {
                    SetWhen::Missing => !is_there,
                    SetWhen::Present => is_there,
                    SetWhen::Always => true,
                };
                if sets {
                    let value = match source {
                        ActionSource::Value(value) => value.clone(),
                        ActionSource::Attribute(other) => value::get(attributes, other),
                    };
                    value::set(attributes, key, value, budget);
                }
            }
        }
    }
}

impl ActionTarget {
    fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(own) => own == key,
            Self::Pattern(pattern) => pattern.is_match(key),
        }
    }
}

/// The hash that the collector computes.
fn hash(value: &OttlValue) -> String {
    let bytes = match value {
        OttlValue::Bool(value) => vec![u8::from(*value)],
        OttlValue::Int(value) => value.to_le_bytes().to_vec(),
        OttlValue::Double(value) => value.to_bits().to_le_bytes().to_vec(),
        OttlValue::Text(value) => value.clone().into_bytes(),
        OttlValue::Bytes(value) => value.clone(),
        OttlValue::Nil | OttlValue::List(_) | OttlValue::Map(_) => Vec::new(),
    };
    hex(&Sha256::digest(bytes))
}
