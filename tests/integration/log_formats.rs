//! The conversion of the lines and records of runtimes and loggers. `tests/logs` holds them with the expected results,
//! written from each format's documentation or code, which each file names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use rotel_core::lambda::telemetry_api;
use rotel_core::logs::{self, RecordSource};
use serde::Deserialize;
use serde_json::{Value, json};

/// 2026-11-21T12:16:50Z: the time at which the platform received every line.
const PLATFORM: u64 = 1_795_263_410_000_000_000;
/// The request id of the invocation that wrote every line.
const REQUEST_ID: &str = "8286a188-ba32-4475-8077-530cd35c09a9";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    framework: String,
    #[serde(rename = "source")]
    _source: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    /// True if the format is published, in which case every field must be right.
    #[serde(default = "yes")]
    published: bool,
    /// A record that is a string.
    line: Option<Value>,
    /// A record that is an object.
    record: Option<Value>,
    /// The JSON text of a record that an object here cannot hold: repeated keys, `NaN`, half a surrogate pair.
    raw: Option<String>,
    expect: Expect,
}

fn yes() -> bool {
    true
}

/// The expected fields. Those left out must have their defaults: the platform's time, no severity, no request id and so on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    severity: Option<String>,
    time: Option<String>,
    request_id: Option<String>,
    message: Value,
    #[serde(default)]
    trace_id: String,
    #[serde(default)]
    span_id: String,
    #[serde(default)]
    flags: u32,
    /// Some of the attributes.
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    /// Attributes that must not be there, because another field holds their content.
    #[serde(default)]
    absent: Vec<String>,
}

fn files() -> Vec<File> {
    let mut paths: Vec<_> =
        fs::read_dir("tests/logs").expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: &_| fs::read_to_string(path).expect("a file");
    let parse = |text: String| serde_json::from_str(&text).expect("cases");
    paths.iter().map(read).map(parse).collect()
}

impl Case {
    /// The JSON text of the record.
    fn input(&self) -> String {
        let value = self.line.as_ref().or(self.record.as_ref()).map(Value::to_string);
        value.or_else(|| self.raw.clone()).expect("a line, a record or a raw record")
    }

    fn log(&self) -> LogRecord {
        let known = |id: &str| id == REQUEST_ID;
        logs::text_to_log(RecordSource::Function, &self.input(), Some(PLATFORM), PLATFORM, &known).record
    }
}

/// The differences from the expected record, by field name.
fn differences(case: &Case, log: &LogRecord) -> Vec<(&'static str, String)> {
    let expect = &case.expect;
    let nanos = |time: &String| {
        let body = format!("[{{\"time\":\"{time}\",\"type\":\"function\",\"record\":\"\"}}]");
        telemetry_api::read(body.as_bytes()).events.first().and_then(|event| event.time).expect("a time")
    };
    let attribute = |key: &str| {
        let found = log.attributes.iter().find(|attribute| attribute.key == key);
        found.map(|attribute| attribute.value.as_ref().map_or(Value::Null, plain))
    };
    let mut found = Vec::new();
    let mut compare = |what, is: Value, wanted: Value| {
        if is != wanted {
            found.push((what, format!("is {is}, not {wanted}")));
        }
    };
    compare("severity", json!(log.severity_text), json!(expect.severity.clone().unwrap_or_default()));
    compare("severity", json!(log.severity_number == 0), json!(expect.severity.is_none()));
    compare("time", json!(log.time_unix_nano), json!(expect.time.as_ref().map_or(PLATFORM, nanos)));
    compare("request id", attribute("faas.invocation_id").unwrap_or_default(), json!(expect.request_id));
    compare("message", log.body.as_ref().map_or(Value::Null, plain), expect.message.clone());
    compare(
        "trace",
        json!([hex(&log.trace_id), hex(&log.span_id), log.flags]),
        json!([expect.trace_id, expect.span_id, expect.flags]),
    );
    for (key, wanted) in &expect.attributes {
        let is = match attribute(key) {
            Some(Value::String(text)) => json!(text),
            Some(other) => json!(other.to_string()),
            None => Value::Null,
        };
        if is != json!(wanted) {
            found.push(("attributes", format!("{key} is {is}, not {wanted}")));
        }
    }
    for key in expect.absent.iter().filter(|key| attribute(key).is_some()) {
        found.push(("attributes", format!("{key} is still there")));
    }
    found
}

fn plain(value: &AnyValue) -> Value {
    match value.value.as_ref() {
        None => Value::Null,
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(value)) => json!(value),
        Some(any_value::Value::IntValue(value)) => json!(value),
        Some(any_value::Value::DoubleValue(value)) => json!(value),
        Some(any_value::Value::ArrayValue(array)) => array.values.iter().map(plain).collect(),
        Some(any_value::Value::KvlistValue(list)) => list
            .values
            .iter()
            .map(|field| (field.key.clone(), field.value.as_ref().map_or(Value::Null, plain)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Some(other) => json!(format!("{other:?}")),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[test]
fn every_log_format_is_parsed() {
    let mut wrong = String::new();
    let mut table = String::from("share of cases that are right\n");
    let (mut cases, mut all) = (0, [0; 4]);
    for File { framework, cases: own, .. } in files() {
        let mut right = [0; 4];
        for case in &own {
            let found = differences(case, &case.log());
            for (index, what) in ["severity", "time", "request id", "message"].into_iter().enumerate() {
                right[index] += usize::from(!found.iter().any(|(named, _)| *named == what));
            }
            for (what, problem) in found {
                let format = if case.published { "published" } else { "not published" };
                let _ = writeln!(
                    wrong,
                    "{framework}, {} ({format}): {what} {problem}\n  {}",
                    case.about,
                    case.input()
                );
            }
        }
        let _ = writeln!(table, "{}", line(&framework, right, own.len()));
        cases += own.len();
        all.iter_mut().zip(right).for_each(|(all, right)| *all += right);
    }
    println!("{table}{}", line("all", all, cases));
    assert!(cases >= 120, "{cases} cases");
    assert!(wrong.is_empty(), "{wrong}");
}

fn line(framework: &str, [severity, time, request_id, message]: [usize; 4], of: usize) -> String {
    let share = |right: usize| format!("{:>3} %", right * 100 / of);
    format!(
        "{framework:<42} {of:>3} cases: severity {}, time {}, request id {}, message {}",
        share(severity),
        share(time),
        share(request_id),
        share(message)
    )
}

#[test]
fn no_field_of_a_json_record_is_lost() {
    let mut lost = String::new();
    for File { framework, cases, .. } in files() {
        for case in cases {
            let text = match (&case.line, &case.record) {
                (Some(Value::String(line)), _) => line.clone(),
                (_, Some(record)) => record.to_string(),
                _ => continue,
            };
            let Ok(fields @ Value::Object(_)) = serde_json::from_str::<Value>(&text) else { continue };
            let shown = shown(&case.log());
            for word in words(&fields).iter().filter(|word| !shown.contains(*word)) {
                let _ = writeln!(lost, "{framework}, {}: {word:?}\n  {text}", case.about);
            }
        }
    }
    assert!(lost.is_empty(), "{lost}");
}

/// The words within a value, which conversion never changes unless they are a level, a time or an id. What a message says
/// may be taken apart, and the cases name what must come of it.
fn words(value: &Value) -> Vec<String> {
    const PARSED: &[&str] = &[
        "@l",
        "@level",
        "@sp",
        "@t",
        "@timestamp",
        "@tr",
        "Body",
        "Level",
        "LogLevel",
        "MESSAGE",
        "Message",
        "SeverityText",
        "SpanId",
        "Timestamp",
        "TraceFlags",
        "TraceId",
        "_logLevel",
        "asctime",
        "at",
        "created",
        "date",
        "datetime",
        "error_severity",
        "event",
        "formattedMessage",
        "id",
        "level",
        "level_name",
        "levelname",
        "log.level",
        "logLevel",
        "logLevelName",
        "log_level",
        "logging.googleapis.com/spanId",
        "logging.googleapis.com/trace",
        "loglevel",
        "lvl",
        "message",
        "msg",
        "name",
        "otelSpanID",
        "otelTraceID",
        "otelTraceSampled",
        "repr",
        "sLevel",
        "sampled",
        "severity",
        "severityText",
        "short_message",
        "span.id",
        "spanId",
        "span_id",
        "t",
        "text",
        "time",
        "timestamp",
        "trace.id",
        "traceId",
        "trace_flags",
        "trace_id",
        "ts",
    ];
    match value {
        // The type and the message of an exception may be taken apart, and its colours are not kept.
        Value::String(text) if !text.contains('\u{1b}') => {
            let words = text.split_whitespace().map(|word| word.trim_end_matches(':').to_owned());
            words.filter(|word| !word.contains(['"', '\\'])).collect()
        }
        Value::Array(values) => values.iter().flat_map(words).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !PARSED.contains(&key.as_str()))
            .flat_map(|(_, value)| words(value))
            .collect(),
        _ => Vec::new(),
    }
}

fn shown(log: &LogRecord) -> String {
    let values = log.attributes.iter().filter_map(|attribute| attribute.value.as_ref());
    let mut texts = String::new();
    for value in log.body.iter().chain(values) {
        let value = plain(value);
        let _ = match &value {
            Value::String(text) => writeln!(texts, "{text}"),
            other => writeln!(texts, "{other}"),
        };
    }
    texts
}
