//! The records of platform events, read field by field.
//!
//! Their schema has changed more than once, and emulators vary. So every field is optional, numbers may be strings, and an
//! invalid field counts as missing without affecting the others. These records are rare, a few per second at most, so the code
//! is simple rather than fast.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::time::{self, LoggedTime};

/// The record of a platform event. Fields that its type does not have are missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PlatformRecord {
    /// The request id of the invocation.
    #[serde(deserialize_with = "short_text")]
    pub request_id: Option<String>,
    /// `success`, `failure`, `error` or `timeout`.
    #[serde(deserialize_with = "text")]
    pub status: Option<String>,
    /// The error type of a failure, such as `Runtime.ExitError`.
    #[serde(deserialize_with = "non_empty_text")]
    pub error_type: Option<String>,
    /// The X-Ray trace header.
    #[serde(deserialize_with = "header")]
    pub tracing: Option<String>,
    /// `init`, `invoke` or `snap-start`.
    #[serde(deserialize_with = "text")]
    pub phase: Option<String>,
    /// `on-demand`, `provisioned-concurrency`, …
    #[serde(deserialize_with = "text")]
    pub initialization_type: Option<String>,
    /// The function's version.
    #[serde(deserialize_with = "text")]
    pub version: Option<String>,
    /// The runtime's version, such as `nodejs:22.v5`.
    #[serde(deserialize_with = "text")]
    pub runtime_version: Option<String>,
    /// The id of the execution environment.
    #[serde(deserialize_with = "short_text")]
    pub instance_id: Option<String>,
    /// The name of an extension.
    #[serde(deserialize_with = "short_text")]
    pub name: Option<String>,
    /// The state of an extension: `Ready`, `Subscribed`, …
    #[serde(deserialize_with = "text")]
    pub state: Option<String>,
    /// The reason for dropped logs, or the text of a fault.
    #[serde(deserialize_with = "text")]
    pub reason: Option<String>,
    /// The number of dropped log records.
    #[serde(deserialize_with = "number")]
    pub dropped_records: Option<f64>,
    /// The bytes of dropped log records.
    #[serde(deserialize_with = "number")]
    pub dropped_bytes: Option<f64>,
    #[serde(deserialize_with = "sparse_fields")]
    pub metrics: Sparse<Metrics>,
    /// The phases of the init or the invocation.
    #[serde(deserialize_with = "sparse_fields")]
    pub spans: Sparse<PhaseSpans>,
}

/// A value that is the default in most records. The default takes no heap memory, because many records may arrive at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse<T>(Option<Box<T>>);

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default + PartialEq> From<T> for Sparse<T> {
    fn from(value: T) -> Self {
        Self((value != T::default()).then(|| Box::new(value)))
    }
}

impl Deref for Sparse<Metrics> {
    type Target = Metrics;

    fn deref(&self) -> &Metrics {
        const NONE: &Metrics = &Metrics {
            duration: None,
            billed_duration: None,
            init_duration: None,
            restore_duration: None,
            max_memory_used: None,
            memory_size: None,
            produced_bytes: None,
        };
        self.0.as_deref().unwrap_or(NONE)
    }
}

impl Deref for Sparse<PhaseSpans> {
    type Target = PhaseSpans;

    fn deref(&self) -> &PhaseSpans {
        const NONE: &PhaseSpans = &PhaseSpans { first: Vec::new(), left_out: 0 };
        self.0.as_deref().unwrap_or(NONE)
    }
}

/// The maximum number of spans read per record. Platform: a record has at most three.
const SPANS_LIMIT: usize = 64;
/// The maximum length, in bytes, of texts that are remembered, such as request ids and names. A longer one counts as
/// missing.
const TEXT_LIMIT: usize = 1024;

/// The spans of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseSpans {
    /// The first 64 valid spans.
    pub first: Vec<PhaseSpan>,
    /// The number of further valid spans.
    pub left_out: usize,
}

/// The `metrics` of a record. Negative and non-finite numbers count as missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Milliseconds.
    #[serde(rename = "durationMs", deserialize_with = "number")]
    pub duration: Option<f64>,
    /// Milliseconds.
    #[serde(rename = "billedDurationMs", deserialize_with = "number")]
    pub billed_duration: Option<f64>,
    /// Milliseconds.
    #[serde(rename = "initDurationMs", deserialize_with = "number")]
    pub init_duration: Option<f64>,
    /// Milliseconds.
    #[serde(rename = "restoreDurationMs", deserialize_with = "number")]
    pub restore_duration: Option<f64>,
    /// Megabytes of 1,048,576 bytes.
    #[serde(rename = "maxMemoryUsedMB", deserialize_with = "number")]
    pub max_memory_used: Option<f64>,
    /// Megabytes of 1,048,576 bytes.
    #[serde(rename = "memorySizeMB", deserialize_with = "number")]
    pub memory_size: Option<f64>,
    /// Bytes.
    #[serde(rename = "producedBytes", deserialize_with = "number")]
    pub produced_bytes: Option<f64>,
}

/// A phase of an init or an invocation, such as `responseLatency`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PhaseSpan {
    pub name: String,
    /// The start, in nanoseconds since the epoch.
    #[serde(deserialize_with = "timestamp")]
    pub start: u64,
    /// Milliseconds.
    #[serde(rename = "durationMs", deserialize_with = "required_number")]
    pub duration: f64,
}

impl PlatformRecord {
    /// Reads a record of any shape.
    pub(super) fn read(record: Option<&RawValue>) -> Self {
        let mut read: Self = record.map(read_or_default).unwrap_or_default();
        if read.reason.is_none() {
            // The record of `platform.fault` is a string.
            read.reason = super::text(record).map(Cow::into_owned);
        }
        read
    }
}

/// Reads a value; the default if it has another type.
fn read_or_default<'a, T: Default + Deserialize<'a>>(value: &'a RawValue) -> T {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// Reads a field; the default if it has another type.
fn read_field<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(field: D) -> Result<T, D::Error> {
    <&RawValue>::deserialize(field).map(read_or_default)
}

fn sparse_fields<'de, D, T>(field: D) -> Result<Sparse<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + PartialEq + Deserialize<'de>,
{
    read_field::<D, T>(field).map(Sparse::from)
}

fn text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    let value = <&RawValue>::deserialize(field)?;
    Ok(super::text(Some(value)).map(Cow::into_owned))
}

fn short_text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    Ok(text(field)?.filter(|text| text.len() <= TEXT_LIMIT))
}

fn non_empty_text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    Ok(short_text(field)?.filter(|text| !text.is_empty()))
}

/// Reads a number, or a string that holds one.
fn number<'de, D: Deserializer<'de>>(field: D) -> Result<Option<f64>, D::Error> {
    let value = <&RawValue>::deserialize(field)?;
    let number = match super::text(Some(value)) {
        Some(text) => text.trim().parse::<f64>().ok(),
        None => read_or_default(value),
    };
    Ok(number.filter(|number| number.is_finite() && *number >= 0.0))
}

fn required_number<'de, D: Deserializer<'de>>(field: D) -> Result<f64, D::Error> {
    number(field)?.ok_or_else(|| D::Error::custom("not a number"))
}

fn timestamp<'de, D: Deserializer<'de>>(field: D) -> Result<u64, D::Error> {
    let time = text(field)?.as_deref().and_then(time::parse);
    time.map(LoggedTime::nanos).ok_or_else(|| D::Error::custom("not a time"))
}

/// Reads the X-Ray header from its object.
fn header<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Tracing {
        #[serde(deserialize_with = "text")]
        value: Option<String>,
    }
    read_field(field).map(|Tracing { value }| value)
}

impl<'de> Deserialize<'de> for PhaseSpans {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PhaseSpansVisitor)
    }
}

struct PhaseSpansVisitor;

impl<'de> Visitor<'de> for PhaseSpansVisitor {
    type Value = PhaseSpans;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<PhaseSpans, A::Error> {
        let mut spans = PhaseSpans::default();
        while let Some(span) = elements.next_element::<&RawValue>()? {
            let Ok(span) = serde_json::from_str::<PhaseSpan>(span.get()) else { continue };
            if spans.first.len() < SPANS_LIMIT && span.name.len() <= TEXT_LIMIT {
                spans.first.push(span);
            } else {
                spans.left_out += 1;
            }
        }
        Ok(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str) -> PlatformRecord {
        let raw: Box<RawValue> = serde_json::from_str(record).expect("JSON");
        PlatformRecord::read(Some(&raw))
    }

    #[test]
    fn report_is_read_with_all_fields() {
        let record = read(
            r#"{"requestId":"a","status":"success","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"},
                "metrics":{"billedDurationMs":694.5,"durationMs":693,"initDurationMs":"397.68","maxMemoryUsedMB":84,"memorySizeMB":128},
                "spans":[{"name":"extensionOverhead","start":"2022-08-02T12:01:23.521Z","durationMs":2.1}]}"#,
        );
        assert_eq!(
            record,
            PlatformRecord {
                request_id: Some("a".to_owned()),
                status: Some("success".to_owned()),
                tracing: Some("Root=1".to_owned()),
                metrics: Sparse::from(Metrics {
                    duration: Some(693.0),
                    billed_duration: Some(694.5),
                    init_duration: Some(397.68),
                    max_memory_used: Some(84.0),
                    memory_size: Some(128.0),
                    ..Metrics::default()
                }),
                spans: Sparse::from(PhaseSpans {
                    first: vec![PhaseSpan {
                        name: "extensionOverhead".to_owned(),
                        start: 1_659_441_683_521_000_000,
                        duration: 2.1,
                    }],
                    left_out: 0,
                }),
                ..PlatformRecord::default()
            }
        );
    }

    #[test]
    fn invalid_field_costs_only_itself() {
        let record = read(
            r#"{"requestId":7,"status":["new"],"errorType":"","tracing":"none","version":"3","droppedRecords":-1,
                "droppedBytes":1e400,"metrics":{"durationMs":"soon","producedBytes":{},"memorySizeMB":" 128 "},
                "spans":[1,{"name":"a"},{"name":"b","start":"2022-08-02T12:01:23Z","durationMs":1},{"name":"c","start":"now","durationMs":1}]}"#,
        );
        assert_eq!(record.version.as_deref(), Some("3"));
        assert_eq!(*record.metrics, Metrics { memory_size: Some(128.0), ..Metrics::default() });
        assert_eq!(record.spans.first.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["b"]);
        let rest =
            PlatformRecord { version: None, metrics: Sparse::default(), spans: Sparse::default(), ..record };
        assert_eq!(rest, PlatformRecord::default());
    }

    #[test]
    fn spans_beyond_the_limit_are_left_out() {
        let span = r#"{"name":"a","start":"2022-08-02T12:01:23Z","durationMs":1}"#;
        let record = read(&format!(
            r#"{{"status":"success","spans":[{}],"version":"3"}}"#,
            vec![span; 60_000].join(",")
        ));
        assert_eq!((record.spans.first.len(), record.spans.left_out), (SPANS_LIMIT, 60_000 - SPANS_LIMIT));
        assert_eq!(record.version.as_deref(), Some("3"));
    }

    #[test]
    fn too_long_request_id_counts_as_missing() {
        let of = |length| read(&format!(r#"{{"requestId":"{}"}}"#, "a".repeat(length))).request_id;
        assert_eq!((of(TEXT_LIMIT).is_some(), of(TEXT_LIMIT + 1)), (true, None));
    }

    #[test]
    fn value_of_another_type_is_an_empty_record() {
        for odd in ["null", "[]", "7", r#"{"metrics":[],"spans":{},"tracing":null}"#] {
            assert_eq!(read(odd), PlatformRecord::default(), "{odd}");
        }
        assert_eq!(PlatformRecord::read(None), PlatformRecord::default());
        assert_eq!(
            read(r#""a text""#),
            PlatformRecord { reason: Some("a text".to_owned()), ..PlatformRecord::default() }
        );
    }
}
