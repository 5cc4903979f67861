//! ClickHouse itself, with ClickStack's tables: the searches of ClickStack's guide find what arrived.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lambda_sandbox::collector::{Collector, Protocol, Received};
use lambda_sandbox::{Sandbox, Signal};
use serde_json::{Value, json};
use support::{end, extension};
use tempfile::TempDir;

use crate::ROOT;
use crate::samples::{PATIENCE, Sdk, python};

/// The rows that each of the queries finds in what arrived.
fn query(received: &Received, queries: &[String]) -> Vec<Value> {
    let folder = TempDir::new().expect("a folder");
    for signal in Signal::ALL {
        let payloads = received.kept().filter(|request| request.signal == signal);
        let lines = payloads.filter_map(|request| request.payload.as_ref()).flat_map(|payload| {
            let mut line = payload.encode_json().expect("JSON");
            line.push(b'\n');
            line
        });
        let file = folder.path().join(format!("{}.json", signal.name()));
        fs::write(file, lines.collect::<Vec<_>>()).expect("a file");
    }
    query_files(folder.path(), queries)
}

/// The rows that each of the queries finds in the files of a folder: OTLP/JSON by signal, one request a line.
pub(crate) fn query_files(folder: &Path, queries: &[String]) -> Vec<Value> {
    let mut process = Command::new(Path::new(ROOT).join("target/e2e/bin/python"))
        .arg(Path::new(ROOT).join("tests/e2e/clickhouse/query.py"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make e2e` installs it");
    let mut input = process.stdin.take().expect("a pipe");
    for query in queries {
        writeln!(input, "{query}").expect("it reads");
    }
    drop(input);
    let output = process.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<_> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), queries.len(), "{text}");
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_of_readme_find_logs_and_traces() {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=my-lambda-api,service.version=1.0.0");
    let sandbox = Sandbox::builder().extension(extension).collector(&collector);
    let sandbox = sandbox.function(python(Sdk::Protobuf)).function_name("my-function");
    let sandbox = sandbox.timeout(PATIENCE).init_timeout(PATIENCE).start().await.expect("a sandbox");
    let mut request_ids = Vec::new();
    for _ in 0..2 {
        request_ids.push(sandbox.invoke(json!({})).await.expect("an invocation").request_id);
    }
    end(&sandbox).await;
    let request_id = &request_ids[1];

    // What a person finds who searches for it: the lines of the function, in their order.
    let found = |condition: String| {
        format!(
            "SELECT Body FROM otel_logs WHERE {condition} AND LogAttributes['faas.invocation_id'] = '{request_id}' \
             ORDER BY Timestamp"
        )
    };
    let resource = |key: &str, value: &str| found(format!("ResourceAttributes['{key}'] = '{value}'"));
    let queries = [
        resource("service.name", "my-lambda-api"),
        resource("faas.name", "my-function"),
        resource("cloud.provider", "aws"),
        resource("cloud.platform", "aws_lambda"),
        resource("service.version", "1.0.0"),
        found("ServiceName = 'my-lambda-api'".to_owned()),
        // A line names a span that is there, and it is the one of the line's invocation.
        "SELECT DISTINCT LogAttributes['faas.invocation_id'], SpanKind, SpanAttributes['faas.invocation_id'] \
         FROM otel_logs INNER JOIN otel_traces USING (TraceId, SpanId) ORDER BY otel_logs.Timestamp"
            .to_owned(),
        "SELECT count() FROM otel_logs LEFT ANTI JOIN otel_traces USING (TraceId, SpanId) WHERE TraceId != ''"
            .to_owned(),
        // The trace that is opened from a line has the function's own spans.
        format!(
            "SELECT SpanName FROM otel_traces WHERE TraceId IN (SELECT TraceId FROM otel_logs \
             WHERE LogAttributes['faas.invocation_id'] = '{request_id}') ORDER BY Timestamp"
        ),
        "SELECT MetricName, ServiceName, sum(Count) FROM otel_metrics_histogram \
         WHERE ResourceAttributes['faas.name'] = 'my-function' AND MetricName = 'faas.invoke_duration' \
         GROUP BY ALL"
            .to_owned(),
        "SELECT sum(Value) FROM otel_metrics_sum WHERE MetricName = 'faas.invocations'".to_owned(),
    ];
    let rows = query(&collector.received(), &queries);
    let [by_service, others @ .., joined, astray, spans, durations, invocations] = &rows[..] else {
        panic!("{rows:#?}")
    };
    let lines: Vec<_> =
        by_service.as_array().expect("rows").iter().filter_map(|row| row[0].as_str()).collect();
    for line in ["a plain line", "a line within a span of its own", "line two of two"] {
        assert!(lines.iter().any(|found| found.contains(line)), "{line} is not among {lines:#?}");
    }
    for other in others {
        assert_eq!(other, by_service);
    }
    let own = |request_id: &String| json!([request_id, "Server", request_id]);
    assert_eq!(*joined, json!(request_ids.iter().map(own).collect::<Vec<_>>()));
    assert_eq!(*astray, json!([[0]]));
    assert_eq!(*spans, json!([["my-function"], ["price the order"]]));
    assert_eq!(*durations, json!([["faas.invoke_duration", "my-lambda-api", 2]]));
    assert_eq!(*invocations, json!([[2]]));
}
