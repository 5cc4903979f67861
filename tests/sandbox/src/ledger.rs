//! The items emitted by functions, to be compared with those that arrived.
//!
//! Each counted item carries a mark, a unique text (`item-3f2a19c4-17`), in a log line, a field or an attribute. An item has
//! arrived if its mark occurs anywhere in an item of its signal. The extension chooses the key; the ledger checks that the mark
//! is there exactly once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::common::v1::KeyValue;

use crate::collector::Received;
use crate::id;
use crate::otlp::{self, Signal, Text};

/// All items emitted so far. All clones share one ledger.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug)]
struct Entries {
    prefix: String,
    entries: Vec<Entry>,
}

/// An emitted item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The unique text that it carries.
    pub mark: String,
    pub signal: Signal,
    /// The invocation that emitted it.
    pub request_id: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, invocation {})", self.mark, self.signal.name(), self.request_id)
    }
}

/// The comparison of emitted and arrived items.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Items that were emitted and did not arrive.
    pub missing: Vec<Entry>,
    /// Items that arrived more than once, with their count.
    pub repeated: Vec<(Entry, usize)>,
    /// The number of items that arrived exactly once.
    pub once: usize,
}

impl Comparison {
    /// Returns true if every item arrived exactly once.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.repeated.is_empty()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        let prefix = format!("item-{:08x}-", id::random() >> 32);
        Self(Arc::new(Mutex::new(Entries { prefix, entries: Vec::new() })))
    }
}

impl Ledger {
    /// Creates a mark, and records it as emitted.
    pub fn mark(&self, signal: Signal, request_id: &str) -> String {
        let mut ledger = self.lock();
        let mark = format!("{}{}", ledger.prefix, ledger.entries.len());
        ledger.entries.push(Entry { mark: mark.clone(), signal, request_id: request_id.to_owned() });
        mark
    }

    /// All emitted items.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// The items emitted by one invocation.
    pub fn of(&self, request_id: &str) -> Vec<Entry> {
        self.lock().entries.iter().filter(|entry| entry.request_id == request_id).cloned().collect()
    }

    /// Compares all emitted items with those that arrived.
    pub fn compare(&self, received: &Received) -> Comparison {
        compare(self.entries(), received)
    }

    /// Compares the items emitted by one invocation with those that arrived.
    pub fn compare_invocation(&self, request_id: &str, received: &Received) -> Comparison {
        compare(self.of(request_id), received)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compare(entries: Vec<Entry>, received: &Received) -> Comparison {
    let arrived = arrived(received);
    let mut comparison = Comparison::default();
    for entry in entries {
        match arrived.get(&(entry.signal, entry.mark.clone())) {
            None => comparison.missing.push(entry),
            Some(1) => comparison.once += 1,
            Some(times) => comparison.repeated.push((entry, *times)),
        }
    }
    comparison
}

/// Counts the items that carry each mark.
fn arrived(received: &Received) -> HashMap<(Signal, String), usize> {
    let mut times = HashMap::new();
    let mut count = |signal: Signal, texts: &mut dyn Iterator<Item = String>| {
        // One item may carry its mark twice, in its body and in a field.
        let mut marks: Vec<String> = texts.flat_map(|text| marks(&text)).collect();
        marks.sort_unstable();
        marks.dedup();
        for mark in marks {
            *times.entry((signal, mark)).or_insert(0) += 1;
        }
    };
    for log in received.logs() {
        count(Signal::Logs, &mut std::iter::once(log.body()).chain(values(&log.item.attributes)));
    }
    for span in received.spans() {
        count(Signal::Traces, &mut values(&span.item.attributes));
    }
    for metric in received.metrics() {
        for attributes in otlp::point_attributes(metric.item) {
            count(Signal::Metrics, &mut values(attributes));
        }
    }
    times
}

fn values(attributes: &[KeyValue]) -> impl Iterator<Item = String> {
    attributes.iter().filter_map(|attribute| Some(Text(attribute.value.as_ref()?).to_string()))
}

/// The marks in a text.
fn marks(text: &str) -> Vec<String> {
    let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '-';
    text.split(ends).filter(|word| word.starts_with("item-")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_wherever_they_stand() {
        assert_eq!(marks("[INFO] done item-00ff00ff-3, next"), ["item-00ff00ff-3"]);
        assert_eq!(marks(r#"{"item":"item-00ff00ff-12","n":1}"#), ["item-00ff00ff-12"]);
        assert_eq!(marks("no items here"), Vec::<String>::new());
    }

    #[test]
    fn what_has_not_arrived_is_missing() {
        let ledger = Ledger::default();
        let mark = ledger.mark(Signal::Logs, "some-request");
        let comparison = ledger.compare(&Received::default());
        assert!(!comparison.is_exact());
        assert_eq!(comparison.missing.first().map(|entry| entry.mark.as_str()), Some(mark.as_str()));
    }
}
