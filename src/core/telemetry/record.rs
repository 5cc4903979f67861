//! What the platform's own events say, each field by itself.
//!
//! Their schema has changed more than once, and emulators fill it in their own ways: every field may be missing, numbers
//! come as texts, too, and a field that is not what it should be counts as missing and costs no other. Only records of the
//! platform are read here, some a second at most, so that plainness goes before speed.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text;
use crate::core::time;

/// The record of an event of the platform. What an event type does not have is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Of the invocation.
    pub request_id: Option<String>,
    /// `success`, `failure`, `error` or `timeout`.
    pub status: Option<String>,
    /// Why it did not end well, such as `Runtime.ExitError`.
    pub error_type: Option<String>,
    /// X-Ray's trace header.
    pub tracing: Option<String>,
    /// `init`, `invoke` or `snap-start`.
    pub phase: Option<String>,
    /// `on-demand`, `provisioned-concurrency`, …
    pub initialization_type: Option<String>,
    /// The function's version.
    pub version: Option<String>,
    /// The runtime's version, such as `nodejs:22.v5`.
    pub runtime_version: Option<String>,
    /// Names the execution environment.
    pub instance_id: Option<String>,
    /// Of an extension.
    pub name: Option<String>,
    /// Of an extension: `Ready`, `Subscribed`, …
    pub state: Option<String>,
    /// Why logs were dropped, or what is wrong.
    pub reason: Option<String>,
    /// Logs that were dropped.
    pub dropped_records: Option<f64>,
    /// Their bytes.
    pub dropped_bytes: Option<f64>,
    /// What was measured.
    pub metrics: Metrics,
    /// What it consists of in time.
    pub spans: Vec<Span>,
}

/// `metrics` of a record. A number below zero, or none that is finite, counts as missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Milliseconds.
    pub duration: Option<f64>,
    /// Milliseconds.
    pub billed_duration: Option<f64>,
    /// Milliseconds.
    pub init_duration: Option<f64>,
    /// Milliseconds.
    pub restore_duration: Option<f64>,
    /// Megabytes of 1,048,576 bytes.
    pub max_memory_used: Option<f64>,
    /// Megabytes of 1,048,576 bytes.
    pub memory_size: Option<f64>,
    /// Bytes.
    pub produced_bytes: Option<f64>,
}

/// A part of an init or an invocation, such as `responseLatency`.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which.
    pub name: String,
    /// When it began, in nanoseconds since the epoch.
    pub start: u64,
    /// Milliseconds.
    pub duration: f64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    error_type: Option<&'a RawValue>,
    #[serde(borrow)]
    tracing: Option<&'a RawValue>,
    #[serde(borrow)]
    phase: Option<&'a RawValue>,
    #[serde(borrow)]
    initialization_type: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    runtime_version: Option<&'a RawValue>,
    #[serde(borrow)]
    instance_id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    dropped_records: Option<&'a RawValue>,
    #[serde(borrow)]
    dropped_bytes: Option<&'a RawValue>,
    #[serde(borrow)]
    metrics: Option<&'a RawValue>,
    #[serde(borrow)]
    spans: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMetrics<'a> {
    #[serde(borrow, rename = "durationMs")]
    duration: Option<&'a RawValue>,
    #[serde(borrow, rename = "billedDurationMs")]
    billed_duration: Option<&'a RawValue>,
    #[serde(borrow, rename = "initDurationMs")]
    init_duration: Option<&'a RawValue>,
    #[serde(borrow, rename = "restoreDurationMs")]
    restore_duration: Option<&'a RawValue>,
    #[serde(borrow, rename = "maxMemoryUsedMB")]
    max_memory_used: Option<&'a RawValue>,
    #[serde(borrow, rename = "memorySizeMB")]
    memory_size: Option<&'a RawValue>,
    #[serde(borrow, rename = "producedBytes")]
    produced_bytes: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSpan<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    start: Option<&'a RawValue>,
    #[serde(borrow, rename = "durationMs")]
    duration: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTracing<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl Record {
    /// Reads a record, whatever it is.
    pub(super) fn read(record: Option<&RawValue>) -> Self {
        let raw: Raw<'_> = fields(record);
        let owned = |value| text(value).map(std::borrow::Cow::into_owned);
        let spans: Vec<&RawValue> = fields(raw.spans);
        Self {
            request_id: owned(raw.request_id),
            status: owned(raw.status),
            error_type: owned(raw.error_type).filter(|name| !name.is_empty()),
            tracing: owned(fields::<RawTracing<'_>>(raw.tracing).value),
            phase: owned(raw.phase),
            initialization_type: owned(raw.initialization_type),
            version: owned(raw.version),
            runtime_version: owned(raw.runtime_version),
            instance_id: owned(raw.instance_id),
            name: owned(raw.name),
            state: owned(raw.state),
            // `platform.fault` is but a text.
            reason: owned(raw.reason).or_else(|| owned(record)),
            dropped_records: number(raw.dropped_records),
            dropped_bytes: number(raw.dropped_bytes),
            metrics: Metrics::read(raw.metrics),
            spans: spans.into_iter().filter_map(Span::read).collect(),
        }
    }
}

impl Metrics {
    fn read(metrics: Option<&RawValue>) -> Self {
        let raw: RawMetrics<'_> = fields(metrics);
        Self {
            duration: number(raw.duration),
            billed_duration: number(raw.billed_duration),
            init_duration: number(raw.init_duration),
            restore_duration: number(raw.restore_duration),
            max_memory_used: number(raw.max_memory_used),
            memory_size: number(raw.memory_size),
            produced_bytes: number(raw.produced_bytes),
        }
    }
}

impl Span {
    fn read(span: &RawValue) -> Option<Self> {
        let raw: RawSpan<'_> = fields(Some(span));
        Some(Self {
            name: text(raw.name)?.into_owned(),
            start: time::read(&text(raw.start)?)?.moment(0),
            duration: number(raw.duration)?,
        })
    }
}

/// What a value holds; nothing where it is missing or of another type.
fn fields<'a, T: Default + Deserialize<'a>>(value: Option<&'a RawValue>) -> T {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}

/// A number, or a text that is one.
fn number(value: Option<&RawValue>) -> Option<f64> {
    let number = match text(value) {
        Some(text) => text.trim().parse::<f64>().ok()?,
        None => serde_json::from_str(value?.get()).ok()?,
    };
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &str) -> Record {
        let raw: Box<RawValue> = serde_json::from_str(record).expect("JSON");
        Record::read(Some(&raw))
    }

    #[test]
    fn a_report_gives_all_that_it_says() {
        let record = read(
            r#"{"requestId":"a","status":"success","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"},
                "metrics":{"billedDurationMs":694.5,"durationMs":693,"initDurationMs":"397.68","maxMemoryUsedMB":84,"memorySizeMB":128},
                "spans":[{"name":"extensionOverhead","start":"2022-08-02T12:01:23.521Z","durationMs":2.1}]}"#,
        );
        assert_eq!(
            record,
            Record {
                request_id: Some("a".to_owned()),
                status: Some("success".to_owned()),
                tracing: Some("Root=1".to_owned()),
                metrics: Metrics {
                    duration: Some(693.0),
                    billed_duration: Some(694.5),
                    init_duration: Some(397.68),
                    max_memory_used: Some(84.0),
                    memory_size: Some(128.0),
                    ..Metrics::default()
                },
                spans: vec![Span {
                    name: "extensionOverhead".to_owned(),
                    start: 1_659_441_683_521_000_000,
                    duration: 2.1,
                }],
                ..Record::default()
            }
        );
    }

    #[test]
    fn an_odd_field_costs_only_itself() {
        let record = read(
            r#"{"requestId":7,"status":["new"],"errorType":"","tracing":"none","version":"3","droppedRecords":-1,
                "droppedBytes":1e400,"metrics":{"durationMs":"soon","producedBytes":{},"memorySizeMB":" 128 "},
                "spans":[1,{"name":"a"},{"name":"b","start":"2022-08-02T12:01:23Z","durationMs":1},{"name":"c","start":"now","durationMs":1}]}"#,
        );
        assert_eq!(record.version.as_deref(), Some("3"));
        assert_eq!(record.metrics, Metrics { memory_size: Some(128.0), ..Metrics::default() });
        assert_eq!(record.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["b"]);
        let rest = Record { version: None, metrics: Metrics::default(), spans: Vec::new(), ..record };
        assert_eq!(rest, Record::default());
    }

    #[test]
    fn what_is_no_record_says_nothing() {
        for odd in ["null", "[]", "7", r#"{"metrics":[],"spans":{},"tracing":null}"#] {
            assert_eq!(read(odd), Record::default(), "{odd}");
        }
        assert_eq!(Record::read(None), Record::default());
        assert_eq!(read(r#""a text""#), Record { reason: Some("a text".to_owned()), ..Record::default() });
    }
}
