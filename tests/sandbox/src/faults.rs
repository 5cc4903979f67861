//! Faults on demand: platform errors, and legitimate behaviour at its worst.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::delivery::Post;

/// A fault of the platform.
#[derive(Clone)]
pub enum Fault {
    /// A subscription with this `schemaVersion` is answered 400.
    RefuseSchema(String),
    /// A subscription is answered 202 `Telemetry.NotSupported`, as local emulators do, and nothing is delivered.
    TelemetryNotSupported,
    /// Registration is answered with this status.
    RefuseRegister(u16),
    /// `/next` is answered with this status.
    RefuseNext(u16),
    /// Every POST of telemetry is delayed by this time.
    DelayPosts(Duration),
    /// Every POST is sent twice.
    DuplicatePosts,
    /// The records of a POST are in reverse order.
    ReverseRecords,
    /// Function records are posted after the POST with their invocation's `platform.runtimeDone`.
    FunctionAfterRuntimeDone,
    /// Records of this type are never sent: `platform.runtimeDone`, `function`.
    Drop(String),
    /// Records of this type occur twice within their POST.
    Duplicate(String),
    /// Every POST begins with events of unknown types, fields and statuses.
    UnknownEvents,
    /// Every POST begins with records that are arrays, numbers and null, and with elements that are no records at all.
    OddRecords,
    /// Every POST has an additional function record of this many bytes. It is cut if that exceeds the subscription's
    /// `maxBytes`.
    HugeRecord(usize),
    /// Replaces bytes in every POST, which may then be invalid JSON.
    Replace {
        /// The bytes to replace.
        written: Vec<u8>,
        /// The bytes sent instead.
        sent: Vec<u8>,
    },
    /// Any other change: a closure that gets the records of a POST and returns the POSTs to send instead.
    Edit(Edit),
}

/// The closure of [`Fault::Edit`].
pub type Edit = Arc<dyn Fn(Vec<Value>) -> Vec<Vec<Value>> + Send + Sync>;

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RefuseSchema(version) => write!(f, "RefuseSchema({version})"),
            Self::TelemetryNotSupported => f.write_str("TelemetryNotSupported"),
            Self::RefuseRegister(status) => write!(f, "RefuseRegister({status})"),
            Self::RefuseNext(status) => write!(f, "RefuseNext({status})"),
            Self::DelayPosts(delay) => write!(f, "DelayPosts({delay:?})"),
            Self::DuplicatePosts => f.write_str("DuplicatePosts"),
            Self::ReverseRecords => f.write_str("ReverseRecords"),
            Self::FunctionAfterRuntimeDone => f.write_str("FunctionAfterRuntimeDone"),
            Self::Drop(kind) => write!(f, "Drop({kind})"),
            Self::Duplicate(kind) => write!(f, "Duplicate({kind})"),
            Self::UnknownEvents => f.write_str("UnknownEvents"),
            Self::OddRecords => f.write_str("OddRecords"),
            Self::HugeRecord(bytes) => write!(f, "HugeRecord({bytes})"),
            Self::Replace { written, sent } => {
                write!(f, "Replace({} by {})", written.escape_ascii(), sent.escape_ascii())
            }
            Self::Edit(_) => f.write_str("Edit"),
        }
    }
}

/// The active faults. All clones share one set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    pub(crate) fn set(&self, faults: Vec<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    pub(crate) fn all(&self) -> Vec<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first value that `pick` returns for a fault.
    pub(crate) fn find<R>(&self, pick: impl FnMut(Fault) -> Option<R>) -> Option<R> {
        self.all().into_iter().find_map(pick)
    }
}

/// Applies the faults to the records of a POST. `held` are the records held back from earlier POSTs.
pub(crate) fn disturb(faults: &[Fault], held: &mut Vec<Value>, records: Vec<Value>) -> Vec<Vec<Value>> {
    let mut posts = vec![records];
    for fault in faults {
        posts = posts.into_iter().flat_map(|records| apply(fault, held, records)).collect();
    }
    posts.retain(|records| !records.is_empty());
    posts
}

/// Applies the faults to the bytes of a POST.
pub(crate) fn replace(faults: &[Fault], mut post: Post) -> Post {
    for fault in faults {
        let Fault::Replace { written, sent } = fault else { continue };
        let mut replaced = Vec::with_capacity(post.body.len());
        let mut rest = post.body.as_slice();
        while let Some((first, behind)) = rest.split_first() {
            if let Some(behind) = rest.strip_prefix(written.as_slice()).filter(|_| !written.is_empty()) {
                replaced.extend_from_slice(sent);
                rest = behind;
            } else {
                replaced.push(*first);
                rest = behind;
            }
        }
        post.body = replaced;
    }
    post
}

fn apply(fault: &Fault, held: &mut Vec<Value>, mut records: Vec<Value>) -> Vec<Vec<Value>> {
    match fault {
        Fault::RefuseSchema(_)
        | Fault::TelemetryNotSupported
        | Fault::RefuseRegister(_)
        | Fault::RefuseNext(_)
        | Fault::DelayPosts(_)
        | Fault::Replace { .. } => {}
        Fault::DuplicatePosts => return vec![records.clone(), records],
        Fault::ReverseRecords => records.reverse(),
        Fault::FunctionAfterRuntimeDone => {
            held.extend(records.extract_if(.., |record| is(record, "function")));
            if records.iter().any(|record| is(record, "platform.runtimeDone")) {
                return vec![records, std::mem::take(held)];
            }
        }
        Fault::Drop(kind) => records.retain(|record| !is(record, kind)),
        Fault::Duplicate(kind) => {
            records = records
                .into_iter()
                .flat_map(|record| {
                    let copy = is(&record, kind).then(|| record.clone());
                    [Some(record), copy].into_iter().flatten()
                })
                .collect();
        }
        Fault::UnknownEvents => {
            let time = first_time(&records);
            records.splice(..0, unknown_events(&time));
        }
        Fault::OddRecords => {
            let time = first_time(&records);
            records.splice(..0, odd_records(&time));
        }
        Fault::HugeRecord(bytes) => {
            let time = first_time(&records);
            records.push(json!({"time": time, "type": "function", "record": "x".repeat(*bytes)}));
        }
        Fault::Edit(edit) => return edit(records),
    }
    vec![records]
}

fn is(record: &Value, kind: &str) -> bool {
    record.get("type").is_some_and(|found| found == kind)
}

fn first_time(records: &[Value]) -> Value {
    records
        .iter()
        .find_map(|record| record.get("time"))
        .cloned()
        .unwrap_or_else(|| "2022-10-12T00:00:00.000Z".into())
}

fn unknown_events(time: &Value) -> Vec<Value> {
    vec![
        json!({"time": time, "type": "platform.novelty", "record": {"requestId": "unknown", "weight": 1.5}}),
        json!({"time": time, "type": "platform.end", "record": {"requestId": "unknown"}}),
        json!({"time": time, "type": "platform.runtimeDone", "record": {"requestId": "unknown", "status": "odd",
            "metrics": {"durationMs": "many"}, "novelty": []}}),
        json!({"time": time, "type": "platform.report", "record": {"status": "odd",
            "metrics": {"billedDurationMs": 1.5, "memorySizeMB": "128"}}}),
        json!({"time": time, "type": "novelty", "record": "a stream of the future"}),
    ]
}

fn odd_records(time: &Value) -> Vec<Value> {
    vec![
        json!({"time": time, "type": "function", "record": ["an", "array", 1]}),
        json!({"time": time, "type": "function", "record": 42}),
        json!({"time": time, "type": "function", "record": null}),
        json!({"time": "yesterday", "type": "function", "record": "a record without a time"}),
        json!({"time": time, "type": "function"}),
        json!({"time": time, "record": "a record without a type"}),
        json!("no object"),
        json!(null),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &str) -> Value {
        json!({"time": "2022-10-12T00:00:00.000Z", "type": kind, "record": {}})
    }

    #[test]
    fn function_records_held_back_follow_runtime_done() {
        let mut held = Vec::new();
        let faults = [Fault::FunctionAfterRuntimeDone];
        assert!(disturb(&faults, &mut held, vec![record("function")]).is_empty());
        let posts = disturb(&faults, &mut held, vec![record("function"), record("platform.runtimeDone")]);
        assert_eq!(
            posts,
            [vec![record("platform.runtimeDone")], vec![record("function"), record("function")]]
        );
        assert!(held.is_empty());
    }

    #[test]
    fn faults_are_applied_one_after_the_other() {
        let mut held = Vec::new();
        let faults = [Fault::Duplicate("function".to_owned()), Fault::DuplicatePosts];
        let posts = disturb(&faults, &mut held, vec![record("function")]);
        assert_eq!(posts, vec![vec![record("function"); 2]; 2]);
    }
}
