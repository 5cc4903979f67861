//! From a Telemetry API record to an OpenTelemetry log record.
//!
//! Body, time, severity and request id are taken out of a JSON record where it has them; **every other field is kept as an
//! attribute**, nested objects flattened with dots (`{"http":{"status":200}}` → `http.status`), as ClickStack's own JSON
//! parsing does, and arrays as OTLP arrays. What is not an object is the body, whole.

mod json;
mod severity;
mod timeline;

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::value::RawValue;

pub use self::severity::Severity;
pub use self::timeline::Timeline;
use crate::core::resource::string;
use crate::core::telemetry::epoch_nanos;

/// Who wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The function.
    Function,
    /// An extension, ours included.
    Extension,
    /// The platform, by an event of this type that we do not know.
    Unknown(&'a str),
}

/// A record, ready to be encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// As OTLP has it, but for the request id where the record does not tell one.
    pub record: LogRecord,
    /// Whether the record told its request id itself.
    pub told_request_id: bool,
}

const REQUEST_ID: &str = "faas.invocation_id";
const SOURCE: &str = "aws.lambda.telemetry.type";
/// HyperDX takes a record with this attribute for a browser session's and shows it nowhere else.
const BROWSER_SESSION: &str = "rr-web.event";

/// Turns a record into a log record.
///
/// `time` and `observed` are nanoseconds since the epoch: when the platform made the record, and when it reached us.
pub fn to_log(source: Source<'_>, raw: &RawValue, time: Option<u64>, observed: u64) -> Log {
    let mut log = Log {
        record: LogRecord {
            time_unix_nano: time.unwrap_or(observed),
            observed_time_unix_nano: observed,
            ..LogRecord::default()
        },
        told_request_id: false,
    };
    let kind = match source {
        Source::Function => "function",
        Source::Extension => "extension",
        Source::Unknown(name) => name,
    };
    log.record.attributes.push(string(SOURCE, kind));
    match json::parse(raw.get()) {
        Some(Value::KvlistValue(fields)) => take_fields(&mut log, fields.values, raw),
        // Platform: a line comes with its line break.
        Some(Value::StringValue(line)) => {
            log.record.body = Some(text(line.strip_suffix('\n').unwrap_or(&line)));
        }
        Some(value) => log.record.body = Some(AnyValue { value: Some(value) }),
        // Deeper than we read, or a number out of range: the text is still the record. Null is shown as text, because
        // an empty body looks like a loss.
        None => log.record.body = Some(text(raw.get())),
    }
    log
}

/// Names the invocation that a record belongs to.
pub fn set_request_id(log: &mut Log, request_id: &str) {
    log.record.attributes.push(string(REQUEST_ID, request_id));
}

/// The records of one resource, as OTLP's logs request holds them.
pub fn under(resource: Resource, records: Vec<LogRecord>) -> ResourceLogs {
    ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![ScopeLogs { scope: Some(scope()), log_records: records, schema_url: String::new() }],
        schema_url: String::new(),
    }
}

/// The scope of what is made here.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

fn take_fields(log: &mut Log, fields: Vec<KeyValue>, raw: &RawValue) {
    let mut attributes = Attributes::of(std::mem::take(&mut log.record.attributes));
    let mut body = None;
    let mut timed = false;
    for field in flattened(fields) {
        let text = match &field.value {
            Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.as_str()),
            _ => None,
        };
        match field.key.as_str() {
            "message" | "msg" | "fields.message" if body.is_none() && field.value.is_some() => {
                body = field.value;
            }
            "level" if log.record.severity_number == 0 => match text.and_then(Severity::from_word) {
                Some(severity) => {
                    log.record.severity_number = severity.number();
                    severity.as_str().clone_into(&mut log.record.severity_text);
                }
                None => attributes.add(field),
            },
            "timestamp" | "time" if !timed => match text.and_then(epoch_nanos) {
                Some(nanos) => {
                    log.record.time_unix_nano = nanos;
                    timed = true;
                }
                None => attributes.add(field),
            },
            "requestId" | "AWSRequestId" if !log.told_request_id => match text {
                Some(id) if !id.is_empty() => {
                    attributes.add(string(REQUEST_ID, id));
                    log.told_request_id = true;
                }
                _ => attributes.add(field),
            },
            _ => attributes.add(field),
        }
    }
    log.record.attributes = attributes.list;
    log.record.body = Some(body.unwrap_or_else(|| text(raw.get())));
}

/// Lays nested objects out with dotted keys. An empty object stays, as an empty list of fields.
fn flattened(fields: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut flat = Vec::with_capacity(fields.len());
    let mut open = vec![fields.into_iter()];
    let mut path: Vec<String> = Vec::new();
    while let Some(level) = open.last_mut() {
        let Some(mut field) = level.next() else {
            open.pop();
            path.pop();
            continue;
        };
        if let Some(outer) = path.last() {
            field.key = format!("{outer}.{}", field.key);
        }
        match field.value {
            Some(AnyValue { value: Some(Value::KvlistValue(inner)) }) if !inner.values.is_empty() => {
                open.push(inner.values.into_iter());
                path.push(field.key);
            }
            _ => flat.push(field),
        }
    }
    flat
}

/// Attributes with distinct keys: OTLP asks for them, and two fields of a record can come to the same key (`{"a.b":1,
/// "a":{"b":2}}`). The later one gets a number behind its key, because dropping it would lose it.
struct Attributes {
    list: Vec<KeyValue>,
    /// Each key with the last number tried behind it, so that a record with one key a thousand times stays cheap.
    keys: HashMap<String, usize>,
}

impl Attributes {
    fn of(list: Vec<KeyValue>) -> Self {
        // Ours are reserved, or a field of the same name would stand twice.
        let keys = list.iter().map(|attribute| (attribute.key.clone(), 1)).collect();
        Self { list, keys }
    }

    fn add(&mut self, mut attribute: KeyValue) {
        if attribute.key == BROWSER_SESSION {
            attribute.key = format!("log.{BROWSER_SESSION}");
        }
        if let Some(mut number) = self.keys.get(&attribute.key).copied() {
            let numbered = loop {
                number += 1;
                let numbered = format!("{}#{number}", attribute.key);
                if !self.keys.contains_key(&numbered) {
                    break numbered;
                }
            };
            self.keys.insert(std::mem::replace(&mut attribute.key, numbered), number);
        }
        self.keys.insert(attribute.key.clone(), 1);
        self.list.push(attribute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 1_665_532_800_000_000_000;
    const OBSERVED: u64 = TIME + 25_000_000;

    fn log(record: &str) -> Log {
        let raw: Box<RawValue> = serde_json::from_str(record).expect("JSON");
        to_log(Source::Function, &raw, Some(TIME), OBSERVED)
    }

    /// A record as a person reads it.
    fn shown(record: &str) -> String {
        let LogRecord { time_unix_nano, severity_number, severity_text, body, attributes, .. } =
            log(record).record;
        let value = |value: &Option<AnyValue>| match value.clone().and_then(|value| value.value) {
            None => "–".to_owned(),
            Some(value) => format!("{value:?}"),
        };
        let mut lines = vec![
            format!("time +{} ms", (time_unix_nano.cast_signed() - TIME.cast_signed()) / 1_000_000),
            format!("severity {severity_number} {severity_text:?}"),
            format!("body {}", value(&body)),
        ];
        lines.extend(
            attributes.iter().map(|attribute| format!("{} = {}", attribute.key, value(&attribute.value))),
        );
        lines.join("\n")
    }

    #[test]
    fn a_line_of_text_is_the_body() {
        insta::assert_snapshot!(shown(r#""Hello\tworld\n""#), @r#"
        time +0 ms
        severity 0 ""
        body StringValue("Hello\tworld")
        aws.lambda.telemetry.type = StringValue("function")
        "#);
    }

    #[test]
    fn a_json_record_of_lambdas_format_loses_nothing() {
        insta::assert_snapshot!(
            shown(r#"{"timestamp":"2022-10-12T00:00:01.500Z","level":"WARN","requestId":"79b4f56e","message":"Hello","user":{"id":7,"tags":["a",{"b":null}],"none":{}},"ratio":0.5,"ok":true,"gone":null}"#),
            @r#"
        time +1500 ms
        severity 13 "warn"
        body StringValue("Hello")
        aws.lambda.telemetry.type = StringValue("function")
        faas.invocation_id = StringValue("79b4f56e")
        user.id = IntValue(7)
        user.tags = ArrayValue(ArrayValue { values: [AnyValue { value: Some(StringValue("a")) }, AnyValue { value: Some(KvlistValue(KeyValueList { values: [KeyValue { key: "b", value: None, key_strindex: 0 }] })) }] })
        user.none = KvlistValue(KeyValueList { values: [] })
        ratio = DoubleValue(0.5)
        ok = BoolValue(true)
        gone = –
        "#
        );
    }

    #[test]
    fn a_nested_message_of_rust_tracing_is_the_body() {
        insta::assert_snapshot!(shown(r#"{"level":"INFO","fields":{"message":"hi","n":18446744073709551615},"target":"app"}"#), @r#"
        time +0 ms
        severity 9 "info"
        body StringValue("hi")
        aws.lambda.telemetry.type = StringValue("function")
        fields.n = StringValue("18446744073709551615")
        target = StringValue("app")
        "#);
    }

    #[test]
    fn what_cannot_be_understood_stays_an_attribute() {
        insta::assert_snapshot!(shown(r#"{"level":"loud","time":"yesterday","requestId":5,"message":"m","msg":"second"}"#), @r#"
        time +0 ms
        severity 0 ""
        body StringValue("m")
        aws.lambda.telemetry.type = StringValue("function")
        level = StringValue("loud")
        time = StringValue("yesterday")
        requestId = IntValue(5)
        msg = StringValue("second")
        "#);
    }

    #[test]
    fn a_record_without_message_is_its_own_body_beside_its_attributes() {
        insta::assert_snapshot!(shown(r#"{"status": 200}"#), @r#"
        time +0 ms
        severity 0 ""
        body StringValue("{\"status\": 200}")
        aws.lambda.telemetry.type = StringValue("function")
        status = IntValue(200)
        "#);
    }

    #[test]
    fn arrays_numbers_booleans_and_null_are_bodies_too() {
        let bodies: Vec<_> =
            [r#"[1,"a",{"k":2}]"#, "42", "1.5", "true", "null", "18446744073709551615", "1e999"]
                .iter()
                .map(|record| shown(record).lines().nth(2).unwrap_or_default().to_owned())
                .collect();
        insta::assert_snapshot!(bodies.join("\n"), @r#"
        body ArrayValue(ArrayValue { values: [AnyValue { value: Some(IntValue(1)) }, AnyValue { value: Some(StringValue("a")) }, AnyValue { value: Some(KvlistValue(KeyValueList { values: [KeyValue { key: "k", value: Some(AnyValue { value: Some(IntValue(2)) }), key_strindex: 0 }] })) }] })
        body IntValue(42)
        body DoubleValue(1.5)
        body BoolValue(true)
        body StringValue("null")
        body StringValue("18446744073709551615")
        body StringValue("1e999")
        "#);
    }

    #[test]
    fn fields_that_come_to_the_same_key_are_all_kept() {
        let keys: Vec<_> = log(r#"{"a.b":1,"a":{"b":2},"a.b":3,"aws.lambda.telemetry.type":"mine","faas.invocation_id":"mine","requestId":"r"}"#)
            .record
            .attributes
            .into_iter()
            .map(|attribute| attribute.key)
            .collect();
        assert_eq!(
            keys,
            [
                "aws.lambda.telemetry.type",
                "a.b",
                "a.b#2",
                "a.b#3",
                "aws.lambda.telemetry.type#2",
                "faas.invocation_id",
                "faas.invocation_id#2"
            ]
        );
    }

    #[test]
    fn a_key_that_stands_thirty_thousand_times_is_no_work_without_end() {
        let record = format!("{{{}}}", vec![r#""a":1"#; 30_000].join(","));
        let attributes = log(&record).record.attributes;
        assert_eq!(attributes.len(), 30_001);
        assert_eq!(attributes[30_000].key, "a#30000");
    }

    #[test]
    fn a_browser_session_attribute_is_renamed() {
        let keys = log(r#"{"rr-web.event":"{}"}"#).record.attributes;
        assert_eq!(keys[1].key, "log.rr-web.event");
    }

    #[test]
    fn a_record_nested_deeper_than_we_read_is_kept_as_text() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(log(&deep).record.body, Some(text(&deep)));
    }
}
