//! The fuzz targets: each takes a text or bytes and asserts what must hold for any of them.
//! `tests/integration/fuzz_corpora.rs` runs them on the committed corpora.

mod lifecycle;
mod otlp;

use std::collections::HashSet;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use rotel_core::config::secret_ref::{self, BATCH_LIMIT, fill, find};
use rotel_core::config::{self, Exports, Variables, collector_yaml, env_file};
use rotel_core::lambda::telemetry_api::{self, Deliveries, Delivery, EventKind};
use rotel_core::logs::{self, RecordSource};
use serde_json::value::RawValue;

pub use self::lifecycle::lifecycle;
pub use self::otlp::{otlp_http_body, wire_splicing};

/// A `collector.yaml`.
pub fn collector_yaml(text: &str) {
    let mut variables = variables("NAME", "a \"value\": [with, {everything}] ${NAME} $$ \u{1f} # in it");
    let mut read = collector_yaml::read(text, "collector.yaml", &variables);
    assert!(read.variables.keys().eq(read.locations.keys()), "a variable without a location");
    // YAML has more line breaks than one, and input that ends too early is reported after the last line.
    let lines = text.split(['\n', '\r']).count() + 1;
    for problem in read.errors.iter().chain(&read.warnings) {
        let line = problem.variable.split(':').nth(1).and_then(|line| line.parse().ok());
        assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{problem} of {lines} lines");
    }
    read.apply_as_defaults(&mut variables);
    let outcome = config::read_with_locations(&variables, &read.locations.clone().into(), None);
    assert!(!outcome.config.destinations.is_empty());
}

/// A file that `ROTEL_ENV_FILE` names.
pub fn env_file(text: &str) {
    let environment = variables("NAME", "a 'value' with \"everything\" \\ $NAME ${NAME} # in it");
    let file = env_file::parse(text, "rotel.env", &environment);
    assert!(file.variables.values().all(|value| !value.contains('\0')), "a mark was left");
    let written: usize = file.variables.values().map(String::len).sum();
    assert!(written <= text.len() + 256 * 1024, "{written} bytes of {}", text.len());
    config::read(&file.variables);
    let lines = text.split('\n').count();
    for problem in file.errors.iter().chain(&file.warnings) {
        let line = problem.variable.split(':').nth(1).and_then(|line| line.parse().ok());
        assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{problem} of {lines} lines");
    }
}

/// A value of `ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS`.
pub fn header_list(text: &str) {
    if let Ok(headers) = config::headers(text) {
        assert!(headers.iter().all(|(_, value)| value.is_sensitive()), "a value that prints");
    }
    let mut variables = variables("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", text);
    variables.insert("ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned(), "https://host:4317".to_owned());
    let outcome = config::read(&variables);
    let destinations = outcome.config.destinations.iter();
    let dropped = destinations
        .map(|destination| &destination.exports)
        .all(|exports| matches!(exports, Exports::Known(exports) if exports.logs.is_none()));
    assert_eq!(
        dropped,
        !outcome.errors.is_empty(),
        "telemetry is dropped where an error is reported, and only there"
    );
}

/// A value of `ROTEL_OTEL_RESOURCE_ATTRIBUTES`.
pub fn resource_attributes(text: &str) {
    if let Ok(attributes) = config::resource_attributes(text) {
        assert!(attributes.iter().all(|(key, _)| !key.is_empty()), "an attribute without a key");
    }
    config::read(&variables("ROTEL_OTEL_RESOURCE_ATTRIBUTES", text));
}

/// A value with references to secrets, and a secret that a key is taken from.
pub fn secret_references(text: &str) {
    assert_eq!(fill(text, |_| None), text, "nothing is known, and something was filled in");
    if let Ok(references) = find(text) {
        assert_eq!(find(&fill(text, |_| Some("|"))), Ok(Vec::new()), "a reference was left");
        for batch in secret_ref::batches(&references) {
            assert!((1..=BATCH_LIMIT).contains(&batch.arns.len()));
            assert!(batch.arns.iter().all(|arn| text.contains(&arn.text)));
        }
    }
    if let Err(error) = secret_ref::extract(text, Some("key")) {
        assert!(text.len() < 8 || !error.to_string().contains(text), "an error shows the secret");
    }
}

/// A log record: as a line, as a record that may not be JSON, and as a value, which must be read as by serde_json where that can.
pub fn log_record(text: &str) {
    same_value(text);
    for platform in [0, 1_795_263_410_000_000_000] {
        let known = |_: &str| true;
        let record = logs::text_to_log(RecordSource::Function, text, Some(platform), platform, &known).record;
        assert!(record.body.is_some(), "a record without a body");
        assert_bounded(&record, text);
    }
    let line = RawValue::from_string(serde_json::Value::from(text).to_string());
    let record = RawValue::from_string(text.to_owned());
    for raw in [line, record].into_iter().flatten() {
        for platform in [0, 1_795_263_410_000_000_000, u64::MAX] {
            let record =
                logs::to_log(RecordSource::Function, &raw, Some(platform), platform, &|_| false).record;
            assert!(record.body.is_some(), "a record without a body");
            let keys: HashSet<_> = record.attributes.iter().map(|attribute| &attribute.key).collect();
            assert_eq!(keys.len(), record.attributes.len(), "a key stands twice");
            assert!(!keys.iter().any(|key| *key == "rr-web.event"), "a browser session");
            assert!(matches!(record.trace_id.len(), 0 | 16) && matches!(record.span_id.len(), 0 | 8));
            assert_bounded(&record, raw.get());
        }
    }
}

/// In an array, so that nothing but values are read. What would take more than the budget stays text.
fn same_value(text: &str) {
    let array = format!("[{text}]");
    let Ok(wanted) = serde_json::from_str::<serde_json::Value>(&array) else { return };
    let record = logs::text_to_log(RecordSource::Function, &array, None, 0, &|_| false).record;
    let body = record.body.expect("a body");
    if let Some(Value::ArrayValue(_)) = &body.value {
        assert!(is_same(&body, &wanted), "{body:?} is not {wanted}");
    }
}

fn is_same(value: &AnyValue, wanted: &serde_json::Value) -> bool {
    match (&value.value, wanted) {
        (None, serde_json::Value::Null) => true,
        (Some(Value::BoolValue(value)), serde_json::Value::Bool(wanted)) => value == wanted,
        (Some(Value::StringValue(value)), serde_json::Value::String(wanted)) => value == wanted,
        // serde_json is not exact to the last bit, and a number beyond an integer stays text.
        (Some(Value::IntValue(value)), wanted) => wanted.as_i64() == Some(*value),
        (Some(Value::DoubleValue(value)), serde_json::Value::Number(wanted)) => {
            wanted.as_f64().is_some_and(|wanted| (value - wanted).abs() <= value.abs() * 1e-15)
        }
        (Some(Value::StringValue(value)), serde_json::Value::Number(wanted)) => {
            value.parse::<f64>().ok() == wanted.as_f64()
        }
        (Some(Value::ArrayValue(values)), serde_json::Value::Array(wanted)) => {
            values.values.len() == wanted.len()
                && values.values.iter().zip(wanted).all(|(value, wanted)| is_same(value, wanted))
        }
        // Of repeated keys serde_json keeps the last.
        (Some(Value::KvlistValue(fields)), serde_json::Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| {
                let last = fields.values.iter().rev().find(|field| field.key == *key);
                let null = AnyValue::default();
                last.is_some_and(|field| is_same(field.value.as_ref().unwrap_or(&null), wanted))
            })
        }
        // What is nested very deeply stays JSON.
        (Some(Value::StringValue(text)), wanted) => {
            serde_json::from_str::<serde_json::Value>(text).ok().as_ref() == Some(wanted)
        }
        _ => false,
    }
}

/// A record takes at most four times its text and a constant.
fn assert_bounded(record: &LogRecord, text: &str) {
    let (encoded, most) = (record.encoded_len(), 4 * text.len() + 8192);
    assert!(encoded <= most, "{encoded} bytes of {}, and {most} are the most", text.len());
}

/// A POST of the Telemetry API. A newline at the end of an array ends it, so that several can follow each other.
pub fn telemetry_body(bytes: &[u8]) {
    alone(bytes);
    let mut deliveries = Deliveries::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|bytes| bytes == b"]\n").map_or(rest.len(), |at| at + 2);
        let (body, behind) = rest.split_at(end);
        taken(&deliveries.read(body), bytes.len());
        rest = behind;
    }
    taken(&deliveries.give_up(), bytes.len());
}

fn alone(body: &[u8]) {
    let delivery = telemetry_api::read(body);
    taken(&delivery, body.len());
    let readable = String::from_utf8_lossy(body).replace(|character| character < ' ', " ");
    if let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(body) {
        assert_eq!(delivery.events.len() + delivery.lost, elements.len(), "an element was lost");
    } else if delivery.kept_as_text + delivery.lost == 0 {
        let elements = serde_json::from_str::<Vec<&RawValue>>(&readable).map(|elements| elements.len());
        assert_eq!(elements.ok(), Some(delivery.events.len()), "something was lost and not counted");
    }
}

fn taken(delivery: &Delivery<'_>, bytes: usize) {
    assert!(delivery.events.len() + delivery.lost <= bytes + 2, "more events than bytes");
    let mut kept = 0;
    for event in &delivery.events {
        let (source, name, raw) = match &event.kind {
            EventKind::Function(raw) => (RecordSource::Function, "", raw),
            EventKind::Extension(raw) => (RecordSource::Extension, "", raw),
            EventKind::Unknown { name, record } => (RecordSource::Unknown(name), name.as_str(), record),
            EventKind::Text { text, .. } => {
                assert!(!text.is_empty(), "an empty text");
                kept += text.len();
                continue;
            }
            EventKind::Invocation { .. } | EventKind::Environment { .. } => continue,
        };
        let record = logs::to_log(source, raw, event.time, 1_795_263_410_000_000_000, &|_| false).record;
        assert!(record.body.is_some(), "a record without a body");
        assert_bounded(&record, &[name, raw.get()].concat());
    }
    // U+FFFD has three bytes.
    assert!(kept <= 3 * bytes, "more text than there was");
}

fn variables(name: &str, value: &str) -> Variables {
    Variables::from([(name.to_owned(), value.to_owned())])
}
