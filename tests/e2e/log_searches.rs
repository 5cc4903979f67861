//! The records of `tests/logs`, through an OpenTelemetry Collector with ClickStack's settings into ClickHouse with
//! ClickStack's tables: a search for errors finds the errors of each logger, and no other record that has a level.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use rotel_core::logs::{self, RecordSource};
use serde_json::{Value, json};

use crate::ROOT;
use crate::clickhouse::query_files;
use crate::otelcol::Otelcol;

const KEY: &str = "ingestion-key";
/// 2026-11-21T12:16:50Z: the time at which the platform received every record.
const PLATFORM: u64 = 1_795_263_410_000_000_000;
const REQUEST_ID: &str = "8286a188-ba32-4475-8077-530cd35c09a9";
/// The attribute with the number of a case.
const CASE: &str = "test.case";

/// A record of a logger.
struct Case {
    logger: String,
    about: String,
    record: LogRecord,
    severity: Option<String>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(ROOT).join("tests/logs");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let file: Value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
        let text =
            |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        for case in file.get("cases").and_then(Value::as_array).expect("cases") {
            let input = case.get("line").or(case.get("record")).map(Value::to_string);
            let input = input.or_else(|| text(case, "/raw")).expect("a record");
            let is_invocation = |id: &str| id == REQUEST_ID;
            let log =
                logs::text_to_log(RecordSource::Function, &input, Some(PLATFORM), PLATFORM, &is_invocation);
            cases.push(Case {
                logger: text(&file, "/framework").expect("a name"),
                about: text(case, "/about").expect("a text"),
                record: log.record,
                severity: text(case, "/expect/severity"),
            });
        }
    }
    cases
}

fn attribute(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(AttributeValue::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// One request with all records. Each has the name of its logger as its service.
fn request(cases: &[Case]) -> ExportLogsServiceRequest {
    let resource_logs = cases.iter().enumerate().map(|(number, case)| {
        let resource = Resource {
            attributes: vec![attribute("service.name", case.logger.clone())],
            ..Resource::default()
        };
        let mut record = case.record.clone();
        record.attributes.push(attribute(CASE, number.to_string()));
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
        ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn search_for_errors_finds_the_errors_of_each_logger() {
    let cases = cases();
    let mut collector = Otelcol::start(KEY).await;
    // A request of the collector has 20 MiB at most.
    for part in request(&cases).resource_logs.chunks(500) {
        let body = ExportLogsServiceRequest { resource_logs: part.to_vec() }.encode_to_vec();
        collector.post_logs(body).await;
    }
    let errors =
        format!("SELECT toUInt32(LogAttributes['{CASE}']) FROM otel_logs WHERE SeverityText = 'error'");
    let loggers = "SELECT count(), uniq(ServiceName) FROM otel_logs".to_owned();
    // A word that is written in colour is found by the index of texts.
    let coloured = "SELECT count() > 0 FROM otel_logs WHERE hasAllTokens(lower(Body), ['shipped']) \
                    AND ServiceName LIKE 'pino%'"
        .to_owned();
    let rows = query_files(collector.stored(), &[errors, loggers, coloured]);
    let [found, counts, coloured] = &rows[..] else { panic!("{rows:#?}") };
    let names: BTreeSet<_> = cases.iter().map(|case| &case.logger).collect();
    assert_eq!(*counts, json!([[cases.len(), names.len()]]));
    assert_eq!(*coloured, json!([[1]]));
    let found: BTreeSet<_> =
        found.as_array().expect("rows").iter().filter_map(|row| row.get(0)?.as_u64()).collect();
    let mut wrong = String::new();
    for (number, case) in (0..).zip(&cases) {
        // ClickStack guesses a severity that a record does not have.
        let Some(severity) = &case.severity else { continue };
        if found.contains(&number) != (severity == "error") {
            let _ = writeln!(wrong, "{}, {}: {severity}", case.logger, case.about);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
