//! Attributes with distinct keys.
//!
//! OTLP requires distinct keys, and two fields of a record can get the same one (`{"a.b":1,"a":{"b":2}}`). The
//! later one gets a number appended to its key, because dropping it would lose data.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// HyperDX takes a record with this attribute for part of a browser session and shows it nowhere else.
const BROWSER_SESSION: &str = "rr-web.event";
/// Up to this many attributes, a linear search is cheaper than a map.
const FEW: usize = 32;

/// A growing list of attributes.
pub(super) struct Attributes {
    list: Vec<KeyValue>,
    /// Each key with the last number tried after it, once there are many attributes. It keeps a record cheap
    /// that repeats one key a thousand times.
    keys: HashMap<String, usize>,
}

impl Attributes {
    /// Starts with these attributes, whose keys are distinct.
    pub(super) fn of(list: Vec<KeyValue>) -> Self {
        Self { list, keys: HashMap::new() }
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.list.reserve(more);
    }

    pub(super) fn add(&mut self, mut attribute: KeyValue) {
        if attribute.key == BROWSER_SESSION {
            attribute.key = format!("log.{BROWSER_SESSION}");
        }
        if self.keys.is_empty() && self.list.len() >= FEW {
            self.keys = self.list.iter().map(|attribute| (attribute.key.clone(), 1)).collect();
        }
        if let Some(mut number) = self.last_number(&attribute.key) {
            let numbered = loop {
                number += 1;
                let numbered = format!("{}#{number}", attribute.key);
                if self.last_number(&numbered).is_none() {
                    break numbered;
                }
            };
            let key = std::mem::replace(&mut attribute.key, numbered);
            if !self.keys.is_empty() {
                self.keys.insert(key, number);
            }
        }
        if !self.keys.is_empty() {
            self.keys.insert(attribute.key.clone(), 1);
        }
        self.list.push(attribute);
    }

    /// Adds an attribute whose key is its own. Another attribute with that key gets a number.
    pub(super) fn add_known(&mut self, key: &'static str, value: String) {
        let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
        let attribute = KeyValue { key: key.to_owned(), value, ..KeyValue::default() };
        match self.list.iter_mut().find(|other| other.key == key) {
            Some(other) => {
                let other = std::mem::replace(other, attribute);
                self.add(other);
            }
            None => self.add(attribute),
        }
    }

    pub(super) fn into_list(self) -> Vec<KeyValue> {
        self.list
    }

    /// The last number tried after this key; `None` if the key itself is free.
    fn last_number(&self, key: &str) -> Option<usize> {
        if self.keys.is_empty() {
            return self.list.iter().any(|attribute| attribute.key == key).then_some(1);
        }
        self.keys.get(key).copied()
    }
}
