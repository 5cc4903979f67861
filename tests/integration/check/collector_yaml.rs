//! The diagnosis of a `collector.yaml` by `--check`.

use std::fs;

use lambda_sandbox::collector::Protocol;

use super::harness::{Check, KEY, locked};

/// A check of a file, with a collector's endpoint and key filled in.
fn check(text: &str, folder: &tempfile::TempDir) -> Check {
    let path = folder.path().join("collector.yaml");
    fs::write(&path, text).expect("a file");
    Check::new().with("OPENTELEMETRY_COLLECTOR_CONFIG_FILE", path.to_str().expect("a path"))
}

const PIPELINES: &str = "
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [otlphttp, otlp/second]}
    metrics: {receivers: [otlp], exporters: [otlphttp]}
    logs: {receivers: [otlp], exporters: [otlphttp]}
receivers: {otlp: }
";

#[tokio::test(flavor = "multi_thread")]
async fn understood_settings_are_shown_and_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let collector = locked().await;
    let host = collector.url(Protocol::Http);
    let exporters = format!(
        "exporters:\n  otlphttp:\n    endpoint: {host}\n    headers: {{authorization: {KEY}}}\n  otlp/second:\n    endpoint: {}\n    tls: {{insecure: true}}\n    sending_queue:\n",
        collector.url(Protocol::Grpc)
    );
    let whole = check(&format!("{exporters}{PIPELINES}"), &folder).whole().await;
    let whole = whole.replace(&host, "[http]").replace(&collector.url(Protocol::Grpc), "[grpc]");
    let whole = whole.replace(&collector.address(Protocol::Grpc).to_string(), "[grpc]");
    let of_file: Vec<_> = whole.lines().filter(|line| line.contains("  collector  ")).collect();
    let (_, account) = whole.split_once("\n\n").expect("an account");
    insta::assert_snapshot!(format!("{}\n\n{account}", of_file.join("\n")), @"
      ROTEL_EXPORTERS                         collector    otlphttp:otlp,otlp_second:otlp
      ROTEL_EXPORTERS_LOGS                    collector    otlphttp
      ROTEL_EXPORTERS_METRICS                 collector    otlphttp
      ROTEL_EXPORTERS_TRACES                  collector    otlphttp,otlp_second
      ROTEL_EXPORTER_OTLPHTTP_ENDPOINT        collector    [http]
      ROTEL_EXPORTER_OTLPHTTP_PROTOCOL        collector    http
      ROTEL_EXPORTER_OTLPHTTP_CUSTOM_HEADERS  collector    authorization=[redacted]
      ROTEL_EXPORTER_OTLP_SECOND_ENDPOINT     collector    [grpc]
      ROTEL_EXPORTER_OTLP_SECOND_PROTOCOL     collector    grpc

    Test records for exporter otlphttp, service.name = rotel-extension-check
      logs     ok      http  [http]/v1/logs
      metrics  ok      http  [http]/v1/metrics
      traces   ok      http  [http]/v1/traces

    Test records for exporter otlp_second, service.name = rotel-extension-check
      logs     –       not sent by this exporter
      metrics  –       not sent by this exporter
      traces   FAILED  grpc  [grpc]

    Warnings
      collector.yaml:8: exporters.otlp/second.sending_queue: has no effect, because ROTEL_BUFFER_MAX_BYTES limits the buffer; remove it

    Diagnosis
      traces: [grpc]: UNAUTHENTICATED: a key is required, but no authorization header is set; set ROTEL_EXPORTER_OTLP_SECOND_CUSTOM_HEADERS=Authorization=<ingestion API key>

    FAILED: 1 signal not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_and_endpoints_are_shown_offline() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "\
receivers: {otlp: {protocols: {http: }}}
processors:
  resource: {attributes: [{key: team, value: a, action: upsert}]}
  transform: {log_statements: [{context: log, statements: ['set(body, \"a\")']}]}
exporters: {otlphttp: {endpoint: 'https://clickstack.example.com:4318'}}
service:
  pipelines:
    logs: {receivers: [otlp], processors: [transform, resource], exporters: [otlphttp]}
    metrics: {receivers: [otlp], exporters: [otlphttp]}
    traces: {receivers: [otlp], processors: [resource], exporters: [otlphttp]}
";
    insta::assert_snapshot!(check(text, &folder).offline().account().await, @"
    Processors
      logs     transform, resource
      traces   resource

    Endpoints (nothing is sent)
      logs     –       http  https://clickstack.example.com:4318/v1/logs
      metrics  –       http  https://clickstack.example.com:4318/v1/metrics
      traces   –       http  https://clickstack.example.com:4318/v1/traces

    OK: no errors found offline
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_line_and_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        format!("exporters:\n  otlphttp:\n    endpoint: clickstack:4318\n    timeout: soon\n{PIPELINES}");
    insta::assert_snapshot!(check(&text, &folder).offline().account().await, @r#"
    Endpoints (nothing is sent)
      logs     FAILED  not sent because of the errors below
      metrics  FAILED  not sent because of the errors below
      traces   FAILED  not sent because of the errors below

    Errors
      collector.yaml:8: service.pipelines.traces.exporters: otlp/second is not defined under exporters; define it, or remove it here
      collector.yaml:3: exporters.otlphttp.endpoint: "clickstack:4318" has no scheme; set http://clickstack:4318 or https://clickstack:4318
      collector.yaml:4: exporters.otlphttp.timeout: "soon" is not a duration; use a number with a unit, such as 250ms, 5s or 1m

    FAILED: 3 errors
    exit code 1
    "#);
}
