//! Converts Telemetry API records to OpenTelemetry log records.
//!
//! Time, severity, request id, trace context and exception are extracted from a record that has them: from the
//! fields of a JSON record, whether it comes as an object or as a line of text, and from the prefix that
//! runtimes and loggers put before the message of a line. **Everything else is kept**: other fields as
//! attributes, and text in an unknown format as the body, whole.
//!
//! Records are untrusted input, so the output is bounded: encoded, it takes at most four times the record's
//! text plus a constant.

mod attributes;
mod budget;
mod candidates;
mod draft;
mod exception;
pub mod filter;
mod json;
mod large;
mod record;
mod roles;
mod scanner;
mod severity;
mod text;
mod timeline;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::value::RawValue;

use self::attributes::Attributes;
use self::draft::Draft;
pub use self::filter::Filter;
pub use self::severity::Severity;
pub(crate) use self::timeline::MAX_INVOKE_DELAY;
pub use self::timeline::{REMEMBERED_INVOCATIONS, Timeline};
use crate::otlp::attribute::string;

/// The writer of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordSource<'a> {
    /// The function.
    Function,
    /// An extension, including this one.
    Extension,
    /// The platform: an event of this unknown type.
    Unknown(&'a str),
}

impl<'a> RecordSource<'a> {
    /// The source of events of the type `name`.
    pub fn of(name: &'a str) -> Self {
        match name {
            "function" => Self::Function,
            "extension" => Self::Extension,
            name => Self::Unknown(name),
        }
    }

    fn name(self) -> &'a str {
        match self {
            Self::Function => "function",
            Self::Extension => "extension",
            Self::Unknown(name) => name,
        }
    }
}

/// A log record, ready to be encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertedLog {
    /// The OTLP record. It lacks the request id if the original does not contain it.
    pub record: LogRecord,
    /// The request id was found in the record itself.
    pub has_own_request_id: bool,
}

pub(crate) const REQUEST_ID: &str = "faas.invocation_id";
pub(crate) const SOURCE: &str = "aws.lambda.telemetry.type";
const PHASE: &str = "aws.lambda.phase";

impl ConvertedLog {
    /// The request id in the record's attributes.
    pub fn request_id(&self) -> Option<&str> {
        let named = self.record.attributes.iter().find(|attribute| attribute.key == REQUEST_ID)?;
        match named.value.as_ref()?.value.as_ref()? {
            Value::StringValue(request_id) => Some(request_id),
            _ => None,
        }
    }

    fn set_severity(&mut self, severity: Severity) {
        self.record.severity_number = severity.number();
        severity.as_str().clone_into(&mut self.record.severity_text);
    }
}

/// Converts a record to a log record.
///
/// `time` and `observed` are in nanoseconds since the epoch: the platform's timestamp, and the time of receipt.
/// `is_invocation` returns true for the request id of an invocation that the environment has had.
pub fn to_log(
    source: RecordSource<'_>,
    raw: &RawValue,
    time: Option<u64>,
    observed: u64,
    is_invocation: &dyn Fn(&str) -> bool,
) -> ConvertedLog {
    text_to_log(source, raw.get(), time, observed, is_invocation)
}

/// Converts a record that may not be JSON.
pub fn text_to_log(
    source: RecordSource<'_>,
    text: &str,
    time: Option<u64>,
    observed: u64,
    is_invocation: &dyn Fn(&str) -> bool,
) -> ConvertedLog {
    let line = json::decode_line(text);
    let length = line.as_ref().map_or(text.len(), |line| line.len());
    let mut draft = Draft::new(without_body(source, time, observed), length, is_invocation);
    if let Some(line) = line {
        record::read_text(&mut draft, &line, 0);
    } else if let Some(object) = draft.read_object(text) {
        record::read_object(&mut draft, object, text, 0);
    } else {
        record::read_value(&mut draft, text);
    }
    draft.finish()
}

/// Creates a log record without a body.
fn without_body(source: RecordSource<'_>, time: Option<u64>, observed: u64) -> ConvertedLog {
    let mut record = LogRecord {
        time_unix_nano: time.unwrap_or(observed),
        observed_time_unix_nano: observed,
        ..LogRecord::default()
    };
    record.attributes.push(string(SOURCE, source.name()));
    ConvertedLog { record, has_own_request_id: false }
}

/// Adds the request id of the invocation that a record belongs to.
pub fn set_request_id(log: &mut ConvertedLog, request_id: &str) {
    let mut attributes = Attributes::of(std::mem::take(&mut log.record.attributes));
    attributes.add_known(REQUEST_ID, request_id.to_owned());
    log.record.attributes = attributes.into_list();
}

/// Marks a record of the init phase, which belongs to no invocation.
pub fn set_init_phase(log: &mut ConvertedLog) {
    log.record.attributes.push(string(PHASE, "init"));
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::otlp::attribute;

    const TIME: u64 = 1_665_532_800_000_000_000;
    /// The request id of the invocation.
    const REQUEST: &str = "79b4f56e-95b1-4643-9700-2807f4e68189";
    const OBSERVED: u64 = TIME + 25_000_000;

    fn log(record: &str) -> ConvertedLog {
        let raw: Box<RawValue> = serde_json::from_str(record).expect("JSON");
        to_log(RecordSource::Function, &raw, Some(TIME), OBSERVED, &|id| id == REQUEST)
    }

    /// Renders the converted record for a snapshot.
    fn rendered(record: &str) -> String {
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
    fn plain_line_is_the_body() {
        insta::assert_snapshot!(rendered(r#""Hello\tworld\n""#), @r#"
        time +0 ms
        severity 0 ""
        body StringValue("Hello\tworld")
        aws.lambda.telemetry.type = StringValue("function")
        "#);
    }

    #[test]
    fn runtime_line_is_parsed() {
        insta::assert_snapshot!(rendered(r#""2022-10-12T00:00:01.500Z\t79b4f56e-95b1-4643-9700-2807f4e68189\tERROR\tTypeError: no stock\rat all\r    at handler (index.mjs:6:47)\n""#), @r#"
        time +1500 ms
        severity 17 "error"
        body StringValue("TypeError: no stock\nat all\n    at handler (index.mjs:6:47)")
        aws.lambda.telemetry.type = StringValue("function")
        faas.invocation_id = StringValue("79b4f56e-95b1-4643-9700-2807f4e68189")
        exception.type = StringValue("TypeError")
        exception.message = StringValue("no stock\nat all")
        exception.stacktrace = StringValue("TypeError: no stock\nat all\n    at handler (index.mjs:6:47)")
        "#);
    }

    #[test]
    fn line_prefix_becomes_attributes() {
        insta::assert_snapshot!(rendered(r#""W, [2022-10-12T00:00:01.500000 #8]  WARN 79b4f56e-95b1-4643-9700-2807f4e68189 -- orders: stock is low\n""#), @r#"
        time +1500 ms
        severity 13 "warn"
        body StringValue("stock is low")
        aws.lambda.telemetry.type = StringValue("function")
        process.pid = StringValue("8")
        log.logger = StringValue("orders")
        faas.invocation_id = StringValue("79b4f56e-95b1-4643-9700-2807f4e68189")
        "#);
    }

    #[test]
    fn json_line_is_parsed_like_a_record() {
        let record = r#"{"time":"2022-10-12T00:00:01.5Z","level":30,"msg":"hi","n":1,"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","trace_flags":"01"}"#;
        let line = serde_json::to_string(&format!("{record}\n")).expect("JSON");
        assert_eq!(log(&line), log(record));
        insta::assert_snapshot!(rendered(&line), @r#"
        time +1500 ms
        severity 9 "info"
        body StringValue("hi")
        aws.lambda.telemetry.type = StringValue("function")
        n = IntValue(1)
        "#);
    }

    #[test]
    fn lambda_json_record_loses_nothing() {
        insta::assert_snapshot!(
            rendered(r#"{"timestamp":"2022-10-12T00:00:01.500Z","level":"WARN","requestId":"79b4f56e-95b1-4643-9700-2807f4e68189","message":"Hello","user":{"id":7,"tags":["a",{"b":null}],"none":{}},"ratio":0.5,"ok":true,"gone":null}"#),
            @r#"
        time +1500 ms
        severity 13 "warn"
        body StringValue("Hello")
        aws.lambda.telemetry.type = StringValue("function")
        user.id = IntValue(7)
        user.tags = ArrayValue(ArrayValue { values: [AnyValue { value: Some(StringValue("a")) }, AnyValue { value: Some(KvlistValue(KeyValueList { values: [KeyValue { key: "b", value: None, key_strindex: 0 }] })) }] })
        user.none = KvlistValue(KeyValueList { values: [] })
        ratio = DoubleValue(0.5)
        ok = BoolValue(true)
        gone = –
        faas.invocation_id = StringValue("79b4f56e-95b1-4643-9700-2807f4e68189")
        "#
        );
    }

    #[test]
    fn nested_message_of_rust_tracing_is_the_body() {
        insta::assert_snapshot!(rendered(r#"{"level":"INFO","fields":{"message":"hi","n":18446744073709551615},"target":"app"}"#), @r#"
        time +0 ms
        severity 9 "info"
        body StringValue("hi")
        aws.lambda.telemetry.type = StringValue("function")
        fields.n = StringValue("18446744073709551615")
        target = StringValue("app")
        "#);
    }

    #[test]
    fn invalid_field_stays_an_attribute() {
        insta::assert_snapshot!(rendered(r#"{"level":"loud","time":"yesterday","requestId":5,"message":"m","msg":"second"}"#), @r#"
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
    fn record_without_message_is_its_own_body() {
        insta::assert_snapshot!(rendered(r#"{"status": 200}"#), @r#"
        time +0 ms
        severity 0 ""
        body StringValue("{\"status\": 200}")
        aws.lambda.telemetry.type = StringValue("function")
        status = IntValue(200)
        "#);
    }

    #[test]
    fn any_json_value_can_be_the_body() {
        let bodies: Vec<_> =
            [r#"[1,"a",{"k":2}]"#, "42", "1.5", "true", "null", "18446744073709551615", "1e999"]
                .iter()
                .map(|record| rendered(record).lines().nth(2).unwrap_or_default().to_owned())
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
    fn fields_with_the_same_key_are_all_kept() {
        let keys: Vec<_> = log(r#"{"a.b":1,"a":{"b":2},"a.b":3,"aws.lambda.telemetry.type":"mine","faas.invocation_id":"mine","requestId":"79b4f56e-95b1-4643-9700-2807f4e68189"}"#)
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
                "requestId",
                "faas.invocation_id"
            ]
        );
    }

    #[test]
    fn repeated_key_is_numbered() {
        let record = format!(r#"{{{},"pad":"{}"}}"#, vec![r#""a":1"#; 30_000].join(","), "x".repeat(240_000));
        let attributes = log(&record).record.attributes;
        assert_eq!(attributes.len(), 30_002);
        assert_eq!(attributes[30_000].key, "a#30000");
    }

    #[test]
    fn record_of_tiny_fields_loses_nothing() {
        let record = format!(r#"{{{},"level":"warn"}}"#, vec![r#""a":1"#; 30_000].join(","));
        let LogRecord { attributes, severity_text, .. } = log(&record).record;
        assert_eq!(severity_text, "warn");
        let rest = attributes.last().and_then(|rest| rest.value.as_ref()?.value.as_ref());
        let Some(Value::StringValue(rest)) = rest else { panic!("no rest") };
        assert_eq!(attributes.len() - 2 + rest.matches(r#""a":1"#).count(), 30_000);
    }

    /// The largest encoding of a record whose text has so many bytes.
    fn bound(text: usize) -> usize {
        4 * text + 8192
    }

    #[test]
    fn records_designed_to_grow_are_bounded() {
        let fields = |count: usize, field: &str| vec![field; count].join(",");
        let numbered =
            |count: usize| (0..count).map(|n| format!(r#""a{n}":1"#)).collect::<Vec<_>>().join(",");
        let deep = format!(r#""{}":1,"n":{{"#, "k".repeat(400));
        let lines = "level=a msg= ".to_owned() + &"a= ".repeat(50_000);
        let records = [
            format!(r#"{{"{}":{{{}}}}}"#, "k".repeat(32_000), numbered(3_600)),
            format!(r#"{{"{}":{{{}}}}}"#, "k".repeat(255), fields(20_000, r#""":-1"#)),
            format!(
                "{{{}{}{}}}",
                format!(r#""{}":{{"#, "k".repeat(800)).repeat(120),
                numbered(3_600),
                "}".repeat(120)
            ),
            format!("{{{}{}{}}}", deep.repeat(120), numbered(3_600), "}".repeat(120)),
            format!("{{{}}}", fields(50_000, r#""":-1"#)),
            format!("{{{}}}", fields(50_000, r#""level":"x""#)),
            format!(r#"{{"message":{{{}}}}}"#, fields(50_000, r#""":-1"#)),
            format!("[{}]", fields(50_000, "-1")),
            format!(r#"{{"a":[{}]}}"#, fields(50_000, "-1")),
            format!(r#"{{"a":[{}]}}"#, fields(50_000, "{}")),
            format!(r#"{{"message":{{"m":[{}]}}}}"#, fields(20_000, r#"{"":1e0}"#)),
            format!(r#"{{"stack":"E: {}\n    at x","m":1}}"#, "e".repeat(50_000)),
            format!(
                "{{{}}}",
                fields(2_000, &format!(r#""a":{{"b":{{"":{{"":1}},"{}":{{"c":2}}}}}}"#, "k".repeat(240)))
            ),
            serde_json::to_string(&lines).expect("JSON"),
        ];
        for record in records {
            let head = record.get(..60).unwrap_or_default();
            let length = log(&record).record.encoded_len();
            assert!(length <= bound(record.len()), "{length} of {}: {head}", record.len());
            let attributes = log(&record).record.attributes.len();
            assert!(attributes <= 400 + record.len() / 12, "{attributes} of {}: {head}", record.len());
        }
    }

    #[test]
    fn browser_session_attribute_is_renamed() {
        let keys = log(r#"{"rr-web.event":"{}"}"#).record.attributes;
        assert_eq!(keys[1].key, "log.rr-web.event");
    }

    #[test]
    fn too_deeply_nested_record_is_kept_as_text() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(log(&deep).record.body, Some(attribute::text(&deep)));
    }

    /// Fragments of lines, so that random lines come close to every format.
    const FRAGMENTS: &[&str] = &[
        "2026-11-21",
        "T",
        " ",
        "12:16:49",
        ".355",
        "Z",
        "\t",
        "\n",
        "\r",
        "[",
        "]",
        "INFO",
        "WARN ",
        "info",
        "undefined",
        "8286a188-ba32-4475-8077-530cd35c09a9",
        " - ",
        ": ",
        "I, ",
        " #8",
        " -- ",
        "time=",
        "level=info",
        "msg=",
        "\"",
        "\\",
        "{",
        "}",
        "requestId=\"",
        "Lambda runtime invoke{",
        "Task timed out after ",
        "3.00 seconds",
        "RequestId: ",
        "Error: ",
        "\x1b[33m",
        "Traceback (most recent call last):",
        "    at ",
        "ValueError",
        "Invoke Error",
        "ü",
        "| ",
    ];

    /// JSON of nested objects and arrays, many with repeated keys.
    fn nested() -> impl Strategy<Value = String> {
        let scalar =
            prop::sample::select(vec!["1", "-1", "1e0", "null", "true", "\"\"", "{}", "[]", "\"text\""]);
        let keys = ["", "a", "message", "stack", "level"].map(str::to_owned);
        let keys = keys.into_iter().chain([100, 254, 255, 256, 3_000].map(|length| "k".repeat(length)));
        let key = prop::sample::select(keys.collect::<Vec<_>>());
        scalar.prop_map(str::to_owned).prop_recursive(12, 64, 4, move |inner| {
            let field = (key.clone(), inner.clone(), 1..400_usize);
            let fields = prop::collection::vec(field, 0..4).prop_map(|fields| {
                let repeated = |(key, value, times): &(String, String, usize)| {
                    let times = if value.len() < 64 { *times } else { 1 };
                    vec![format!("\"{key}\":{value}"); times].join(",")
                };
                format!("{{{}}}", fields.iter().map(repeated).collect::<Vec<_>>().join(","))
            });
            let elements = (inner, 0..400_usize).prop_map(|(element, times)| {
                let times = if element.len() < 64 { times } else { 1 };
                format!("[{}]", vec![element; times].join(","))
            });
            prop_oneof![3 => fields, 1 => elements]
        })
    }

    proptest! {
        #[test]
        fn nested_record_is_bounded(record in nested()) {
            let length = log(&record).record.encoded_len();
            prop_assert!(length <= bound(record.len()), "{length} of {}", record.len());
            let line = serde_json::to_string(&record).expect("JSON");
            if record.starts_with('{') {
                prop_assert_eq!(log(&line).record, log(&record).record);
            }
        }

        #[test]
        fn body_is_the_end_of_its_line(fragments in prop::collection::vec(prop::sample::select(FRAGMENTS), 0..16)) {
            let line = fragments.concat();
            let json = serde_json::to_string(&line).expect("JSON");
            let record = log(&json).record;
            prop_assert!(record.encoded_len() <= bound(json.len()));
            let Some(AnyValue { value: Some(Value::StringValue(body)) }) = record.body else {
                panic!("the body is not text: {line:?}");
            };
            let unified = |text: &str| text.replace('\r', "\n").trim_end_matches('\n').to_owned();
            let pairs = line.starts_with("time=") || line.starts_with("level=");
            prop_assert!(pairs || line.contains('\x1b') || unified(&line).ends_with(&unified(&body)), "{body:?}");
        }
    }
}
