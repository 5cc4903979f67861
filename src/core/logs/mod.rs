//! From a Telemetry API record to an OpenTelemetry log record.
//!
//! Time, severity, request id, trace context and exception are taken out of a record where it has them: out of the fields
//! of a JSON record, whether it comes as an object or as a line, and out of what the runtimes and loggers put before the
//! message of a line. **Everything else is kept**: other fields as attributes, what is not understood as the body, whole.
//!
//! A record comes from strangers, so what it becomes is bounded: encoded, at most four times its text and a constant.

mod attributes;
mod budget;
mod exception;
mod fields;
pub mod filter;
mod flat;
mod json;
mod large;
mod roles;
mod severity;
mod text;
mod timeline;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::value::RawValue;

use self::attributes::Attributes;
use self::exception::Exception;
use self::fields::take_fields;
pub use self::filter::Filter;
use self::flat::Fields;
pub use self::severity::Severity;
use self::text::{Line, Reading};
pub(crate) use self::timeline::INVOKE_LATENESS;
pub use self::timeline::{REMEMBERED, Timeline};
use crate::otlp::attribute::{self, string};

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

impl<'a> Source<'a> {
    /// The source of events of this type.
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

/// A record, ready to be encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// As OTLP has it, but for the request id where the record does not tell one.
    pub record: LogRecord,
    /// Whether the record told its request id itself.
    pub told_request_id: bool,
}

pub(crate) const REQUEST_ID: &str = "faas.invocation_id";
pub(crate) const SOURCE: &str = "aws.lambda.telemetry.type";
const PHASE: &str = "aws.lambda.phase";

impl Log {
    /// The request id that it names, if it names one.
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

/// Turns a record into a log record.
///
/// `time` and `observed` are nanoseconds since the epoch: when the platform made the record, and when it reached us.
pub fn to_log(source: Source<'_>, raw: &RawValue, time: Option<u64>, observed: u64) -> Log {
    let mut log = bare(source, time, observed);
    if let Some(line) = json::line(raw.get()) {
        take_line(&mut log, &line);
        return log;
    }
    if !raw.get().starts_with('{') {
        let value = json::parse(raw.get()).ok().flatten();
        log.record.body = value.map(|value| AnyValue { value: Some(value) });
    } else if let Some(fields) = fields::read(raw.get()) {
        take_fields(&mut log, fields, raw.get(), false);
    }
    // Deeper or more than we read, or a number out of range: the text is still the record. Null is shown as text, because
    // an empty body looks like a loss.
    log.record.body.get_or_insert_with(|| attribute::text(raw.get()));
    log
}

/// Makes a log record of a record that cannot be read: its text is the body, as it is.
pub fn text_to_log(source: Source<'_>, text: &str, time: Option<u64>, observed: u64) -> Log {
    let mut log = bare(source, time, observed);
    log.record.body = Some(attribute::text(text));
    log
}

/// A log record without a body.
fn bare(source: Source<'_>, time: Option<u64>, observed: u64) -> Log {
    let mut record = LogRecord {
        time_unix_nano: time.unwrap_or(observed),
        observed_time_unix_nano: observed,
        ..LogRecord::default()
    };
    record.attributes.push(string(SOURCE, source.name()));
    Log { record, told_request_id: false }
}

/// Names the invocation that a record belongs to.
pub fn set_request_id(log: &mut Log, request_id: &str) {
    log.record.attributes.push(string(REQUEST_ID, request_id));
}

/// Marks a record of the init phase, which belongs to no invocation.
pub fn set_init_phase(log: &mut Log) {
    log.record.attributes.push(string(PHASE, "init"));
}

fn take_line(log: &mut Log, line: &str) {
    if line.starts_with('{')
        && let Some(fields) = fields::read(line)
    {
        return take_fields(log, fields, line, false);
    }
    let platform = log.record.time_unix_nano;
    if let Some(plain) = text::without_colours(line)
        && let Reading::Line(read) = text::read_stripped(&plain, platform)
    {
        return take_apart(log, &read);
    }
    match text::read(line, platform) {
        Reading::Line(read) => take_apart(log, &read),
        Reading::Fields(fields) => take_fields(log, Fields::of(fields), line, false),
        Reading::Message => log.record.body = Some(attribute::text(line)),
    }
}

fn take_apart(log: &mut Log, line: &Line<'_>) {
    if let Some(severity) = line.severity {
        log.set_severity(severity);
    }
    if let Some(told) = line.time {
        log.record.time_unix_nano = told.moment(log.record.time_unix_nano);
    }
    let mut attributes = Attributes::of(std::mem::take(&mut log.record.attributes));
    if let Some(id) = line.request_id {
        attributes.add(string(REQUEST_ID, id));
        log.told_request_id = true;
    }
    for (key, value) in &line.attributes {
        attributes.add(string(key, value));
    }
    let message = line.message();
    // What a logger printed through the console is a record of its own, whose level is truer than the console's.
    if message.starts_with('{')
        && let Some(fields) = fields::read(&message)
    {
        log.record.attributes = attributes.into_list();
        return take_fields(log, fields, &message, line.time.is_some());
    }
    if let Some(exception) = printed_error(&message).or_else(|| Exception::in_text(&message)) {
        exception.add_to(&mut attributes);
    }
    log.record.attributes = attributes.into_list();
    log.record.body = Some(AnyValue { value: Some(Value::StringValue(message.into_owned())) });
}

/// The error that Node.js' runtime prints as JSON behind one of these words.
fn printed_error(message: &str) -> Option<Exception> {
    let words = ["Invoke Error", "Uncaught Exception", "Unhandled Promise Rejection"];
    let error = words.iter().find_map(|words| message.strip_prefix(words))?.trim_start();
    fields::read(error).map(|fields| fields::exception_in(&fields))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

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
    fn a_line_of_a_runtime_is_taken_apart() {
        insta::assert_snapshot!(shown(r#""2022-10-12T00:00:01.500Z\t79b4f56e-95b1-4643-9700-2807f4e68189\tERROR\tTypeError: no stock\rat all\r    at handler (index.mjs:6:47)\n""#), @r#"
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
    fn what_stood_before_the_message_becomes_attributes() {
        insta::assert_snapshot!(shown(r#""W, [2022-10-12T00:00:01.500000 #8]  WARN 79b4f56e-95b1-4643-9700-2807f4e68189 -- orders: stock is low\n""#), @r#"
        time +1500 ms
        severity 13 "warn"
        body StringValue("stock is low")
        aws.lambda.telemetry.type = StringValue("function")
        faas.invocation_id = StringValue("79b4f56e-95b1-4643-9700-2807f4e68189")
        process.pid = StringValue("8")
        log.logger = StringValue("orders")
        "#);
    }

    #[test]
    fn a_json_line_is_read_like_a_record() {
        let record = r#"{"time":"2022-10-12T00:00:01.5Z","level":30,"msg":"hi","n":1,"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","trace_flags":"01"}"#;
        let line = serde_json::to_string(&format!("{record}\n")).expect("JSON");
        assert_eq!(log(&line), log(record));
        insta::assert_snapshot!(shown(&line), @r#"
        time +1500 ms
        severity 9 "info"
        body StringValue("hi")
        aws.lambda.telemetry.type = StringValue("function")
        n = IntValue(1)
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
                "faas.invocation_id",
                "a.b",
                "a.b#2",
                "a.b#3",
                "aws.lambda.telemetry.type#2",
                "faas.invocation_id#2"
            ]
        );
    }

    #[test]
    fn key_that_stands_often_is_numbered() {
        let record = format!(r#"{{{},"pad":"{}"}}"#, vec![r#""a":1"#; 30_000].join(","), "x".repeat(240_000));
        let attributes = log(&record).record.attributes;
        assert_eq!(attributes.len(), 30_002);
        assert_eq!(attributes[30_000].key, "a#30000");
    }

    #[test]
    fn record_of_tiny_fields_keeps_its_rest() {
        let record = format!(r#"{{{},"level":"warn"}}"#, vec![r#""a":1"#; 30_000].join(","));
        let LogRecord { attributes, severity_text, .. } = log(&record).record;
        assert_eq!(severity_text, "warn");
        let rest = attributes.last().and_then(|rest| rest.value.as_ref()?.value.as_ref());
        let Some(Value::StringValue(rest)) = rest else { panic!("no rest") };
        assert_eq!(attributes.len() - 2 + rest.matches(r#""a":1"#).count(), 30_000);
    }

    /// The most that a record of so many bytes may take.
    fn bound(text: usize) -> usize {
        4 * text + 8192
    }

    #[test]
    fn records_made_to_grow_are_bounded() {
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
    fn a_browser_session_attribute_is_renamed() {
        let keys = log(r#"{"rr-web.event":"{}"}"#).record.attributes;
        assert_eq!(keys[1].key, "log.rr-web.event");
    }

    #[test]
    fn a_record_nested_deeper_than_we_read_is_kept_as_text() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(log(&deep).record.body, Some(attribute::text(&deep)));
    }

    /// What lines are made of, so that random ones come near to every format.
    const PIECES: &[&str] = &[
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

    /// JSON of nested objects and arrays, most of it with keys of a kind.
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
        fn whatever_a_line_is_its_body_is_its_end(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..16)) {
            let line = pieces.concat();
            let json = serde_json::to_string(&line).expect("JSON");
            let record = log(&json).record;
            prop_assert!(record.encoded_len() <= bound(json.len()));
            let Some(AnyValue { value: Some(Value::StringValue(body)) }) = record.body else {
                panic!("no text for a body: {line:?}");
            };
            let unified = |text: &str| text.replace('\r', "\n").trim_end_matches('\n').to_owned();
            let pairs = line.starts_with("time=") || line.starts_with("level=");
            prop_assert!(pairs || line.contains('\x1b') || unified(&line).ends_with(&unified(&body)), "{body:?}");
        }
    }
}
