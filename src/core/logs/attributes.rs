//! Attributes with distinct keys.
//!
//! OTLP asks for distinct keys, and two fields of a record can come to the same one (`{"a.b":1,"a":{"b":2}}`). The later
//! one gets a number behind its key, because dropping it would lose it.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;

/// HyperDX takes a record with this attribute for a browser session's and shows it nowhere else.
const BROWSER_SESSION: &str = "rr-web.event";
/// Up to so many, looking at each is cheaper than a map.
const FEW: usize = 32;

/// A list of attributes that grows.
pub(super) struct Attributes {
    list: Vec<KeyValue>,
    /// Once they are many, each key with the last number tried behind it, so that a record with one key a thousand times
    /// stays cheap.
    keys: HashMap<String, usize>,
}

impl Attributes {
    /// Goes on with these, which are distinct.
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

    pub(super) fn into_list(self) -> Vec<KeyValue> {
        self.list
    }

    /// The number from which on one may be free behind this key; `None` where the key itself is free.
    fn last_number(&self, key: &str) -> Option<usize> {
        if self.keys.is_empty() {
            return self.list.iter().any(|attribute| attribute.key == key).then_some(1);
        }
        self.keys.get(key).copied()
    }
}
