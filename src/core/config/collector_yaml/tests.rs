//! Translation of files, and the messages about unsupported settings.

use super::super::tests::variables;
use super::super::{Compression, ExporterName, Exports, ParsedConfig, Protocol, read_with_locations};
use super::*;
use crate::secret::Secret;

mod confmap;
mod corpus;
mod processors;

/// The file in the published guide, unchanged.
const PUBLISHED: &str = "\
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 'localhost:4317'
      http:
        endpoint: 'localhost:4318'
processors:
  batch:
  decouple:
exporters:
  otlphttp:
    endpoint: \"http://clickstack.example.com:4318\"
    headers:
      authorization: 0123-key
    compression: gzip
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch, decouple]
      exporters: [otlphttp]
    metrics:
      receivers: [otlp]
      processors: [batch, decouple]
      exporters: [otlphttp]
    logs:
      receivers: [otlp]
      processors: [batch, decouple]
      exporters: [otlphttp]
";

/// The result for a file and the variables set outside it.
fn outcome(text: &str, given: &[(&str, &str)]) -> (CollectorYaml, ParsedConfig) {
    let mut variables = variables(given);
    let mut yaml = read(text, "collector.yaml", &variables);
    yaml.apply_as_defaults(&mut variables);
    let outcome = read_with_locations(&variables, &yaml.locations.clone().into(), None);
    (yaml, outcome)
}

/// All messages about a file, and the URL of each signal.
fn report_with(text: &str, given: &[(&str, &str)]) -> String {
    let (yaml, outcome) = outcome(text, given);
    let all = [
        ("error", yaml.errors),
        ("error", outcome.errors),
        ("warning", yaml.warnings),
        ("warning", outcome.warnings),
    ];
    let report = all
        .into_iter()
        .flat_map(|(kind, report)| report.into_iter().map(move |report| format!("{kind}: {report}")));
    let mut lines: Vec<_> = report.collect();
    for signal in Signal::ALL {
        let urls = outcome.config.destinations.iter().filter_map(|destination| match &destination.exports {
            Exports::Pending => Some("pending".to_owned()),
            Exports::Known(exports) => exports.of(signal).as_ref().map(|export| export.url.to_string()),
        });
        let urls: Vec<_> = urls.collect();
        lines.push(format!("{signal}: {}", if urls.is_empty() { "-".to_owned() } else { urls.join(" ") }));
    }
    lines.join("\n")
}

fn report(text: &str) -> String {
    report_with(text, &[])
}

/// The published file with one part replaced.
fn published(old: &str, new: &str) -> String {
    assert!(PUBLISHED.contains(old), "{old:?}");
    PUBLISHED.replace(old, new)
}

/// The report on the published file with other exporter settings.
fn exporter(settings: &str) -> String {
    report(&published("    compression: gzip\n", settings))
}

/// The report on the published file with another processor.
fn processor(id: &str, settings: &str) -> String {
    let text = published("  decouple:\n", &format!("  {id}:\n{settings}"));
    report(&text.replace("decouple]", &format!("{id}]")))
}

#[test]
fn published_file_works_unchanged() {
    let (yaml, outcome) = outcome(PUBLISHED, &[]);
    let report = [&yaml.errors, &outcome.errors, &yaml.warnings, &outcome.warnings];
    assert_eq!(report, [&vec![]; 4]);
    let [destination] = &outcome.config.destinations[..] else { panic!("{outcome:?}") };
    assert_eq!(destination.exporter, ExporterName::default());
    let Exports::Known(exports) = &destination.exports else { panic!("{outcome:?}") };
    for signal in Signal::ALL {
        let export = exports.of(signal).as_ref().expect("an export");
        assert_eq!(export.url.as_str(), format!("http://clickstack.example.com:4318/v1/{signal}"));
        assert_eq!((export.protocol, export.compression), (Protocol::Http, Compression::Gzip));
        assert_eq!(export.headers[0].0, "authorization");
        assert_eq!(export.headers[0].1, "0123-key");
    }
    assert_eq!(outcome.config.receiver.http.port, 4318);
}

#[test]
fn published_debug_file_counts_items() {
    let debug = published(
        "service:\n",
        "  logging:\n    verbosity: detailed\nservice:\n  telemetry:\n    logs:\n      level: \"debug\"\n",
    )
    .replace("exporters: [otlphttp]", "exporters: [otlphttp, logging]");
    insta::assert_snapshot!(report(&debug), @"
    warning: collector.yaml:18: exporters.logging.verbosity: has no effect; the extension logs a line with item counts for each flush; remove it
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    let (_, outcome) = outcome(&debug, &[]);
    assert_eq!(outcome.config.log.level, "debug");
    assert_eq!(outcome.config.debug_log, PerSignal::from_fn(|_| true));
}

#[test]
fn all_supported_settings_are_translated() {
    let text = "\
receivers:
  otlp/here:
    protocols:
      grpc: {endpoint: 'localhost:5317', max_recv_msg_size_mib: 8}
      http: {endpoint: 'localhost:5318', traces_url_path: /traces}
  telemetryapi:
    types: [platform, function]
    port: 9990
extensions:
  basicauth/one:
    client_auth: {username: me, password: '${env:PASSWORD}'}
processors:
  batch/small: {send_batch_max_size: 100}
  memory_limiter: {check_interval: 1s, limit_mib: 2}
  resource:
    attributes:
      - {key: deployment.environment, value: prod, action: upsert}
      - {key: share, value: '50%, at most', action: upsert}
exporters:
  otlp:
    endpoint: ${env:HOST:-other.example.com}:4317
    tls: {insecure: true, ca_file: /var/task/ca.pem}
    auth: {authenticator: basicauth/one}
    timeout: 1m30s
  otlphttp/second:
    traces_endpoint: https://b.example.com/t
    logs_endpoint: https://b.example.com/l
    headers: {x-list: 'a,b', x-sum: 'a=b', x-dollar: $$5}
    compression: zstd
    retry_on_failure: {enabled: true, initial_interval: 100ms, max_interval: 1s, max_elapsed_time: 2s}
service:
  extensions: [basicauth/one]
  telemetry: {logs: {level: WARN, encoding: json}}
  pipelines:
    traces: {receivers: [otlp/here], processors: [memory_limiter, resource, batch/small], exporters: [otlp, otlphttp/second]}
    metrics: {receivers: [otlp/here], processors: [resource], exporters: [otlp]}
    logs: {receivers: [otlp/here, telemetryapi], processors: [memory_limiter, resource], exporters: [otlphttp/second]}
";
    let (yaml, outcome) = outcome(text, &[("PASSWORD", "hunter2")]);
    let errors = [&yaml.errors, &outcome.errors, &yaml.warnings, &outcome.warnings];
    assert_eq!(errors, [&vec![]; 4]);
    insta::assert_snapshot!(report_with(text, &[("PASSWORD", "hunter2")]), @"
    logs: https://b.example.com/l
    metrics: http://other.example.com:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://other.example.com:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export https://b.example.com/t
    ");
    let config = &outcome.config;
    assert_eq!(
        (config.receiver.grpc.port, config.receiver.http.port, config.telemetry_endpoint.port),
        (5317, 5318, 9990)
    );
    assert_eq!((config.receiver.grpc_max_bytes, &*config.receiver.http_paths.traces), (8 << 20, "/traces"));
    assert!(config.telemetry_types.function && !config.telemetry_types.extension);
    assert_eq!((config.batch_max_items.traces, config.batch_max_items.logs), (100, 8192));
    assert_eq!(config.buffer_max_bytes, 2 << 20);
    let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        config.resource_attributes,
        [own("deployment.environment", "prod"), own("share", "50%, at most")]
    );
    assert_eq!((&*config.log.level, config.log.json), ("warn", true));
    let [first, second] = &config.destinations[..] else { panic!("{outcome:?}") };
    assert_eq!([first, second].map(|one| one.exporter.to_string()), ["otlp", "otlphttp_second"]);
    let (Exports::Known(first), Exports::Known(second)) = (&first.exports, &second.exports) else { panic!() };
    let first = first.traces.as_ref().expect("an export");
    assert_eq!(
        (first.request_timeout.as_secs(), &first.headers[0].1),
        (90, &"Basic bWU6aHVudGVyMg==".parse().unwrap())
    );
    assert!(first.tls.ca.is_some());
    let second = second.logs.as_ref().expect("an export");
    let values: Vec<_> = second.headers.iter().map(|(_, value)| value.to_str().expect("text")).collect();
    assert_eq!(values, ["a,b", "a=b", "$5"]);
    assert_eq!((second.compression, second.retry.max_elapsed_time.as_secs()), (Compression::Zstd, 2));
}

#[test]
fn variables_override_the_file() {
    let endpoint = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://other:4318");
    insta::assert_snapshot!(report_with(PUBLISHED, &[endpoint]), @"
    warning: collector.yaml:18: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: http://other:4318/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    let two = published("[otlphttp]\n    logs", "[otlphttp, otlp/x]\n    logs")
        .replace("service:", "  otlp/x: {endpoint: 'x:4317'}\nservice:");
    insta::assert_snapshot!(report(&two), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics https://x:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report_with(&two, &[endpoint]), @"
    warning: collector.yaml:19: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: http://other:4318/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    insta::assert_snapshot!(report_with(&two, &[("ROTEL_EXPORTER_OTLP_X_ENDPOINT", "https://y:4317")]), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics https://y:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report_with(&two, &[("ROTEL_EXPORTER", "blackhole")]), @"
    warning: collector.yaml:19: service.pipelines: ROTEL_EXPORTER is set, so the exporters in this file are ignored
    logs: -
    metrics: -
    traces: -
    ");
    assert_eq!(outcome(PUBLISHED, &[("ROTEL_LOG_LEVEL", "\"\"")]).1.config.log.level, "info");
}

#[test]
fn exporter_id_may_end_like_a_signal() {
    let two = published("[otlphttp]\n    metrics", "[otlphttp, otlphttp/traces]\n    metrics")
        .replace("service:", "  otlphttp/traces: {endpoint: 'http://x:4318'}\nservice:");
    insta::assert_snapshot!(report(&two), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces http://x:4318/v1/traces
    ");
}

#[test]
fn secret_references_work_in_the_file() {
    const ARN: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/key";
    let text = published("0123-key", &format!("${{{ARN}}}"));
    let (yaml, first) = outcome(&text, &[]);
    assert_eq!(first.config.destinations[0].exports, Exports::Pending);
    let mut all = Variables::new();
    let mut yaml = yaml;
    yaml.apply_as_defaults(&mut all);
    let secrets = first.references.iter().map(|found| (found.arn.clone(), Secret::new("a,b=c"))).collect();
    let resolved = read_with_locations(&all, &yaml.locations.clone().into(), Some(&secrets));
    let Exports::Known(exports) = &resolved.config.destinations[0].exports else { panic!("{resolved:?}") };
    assert_eq!(exports.logs.as_ref().expect("an export").headers[0].1, "a,b=c");
    insta::assert_snapshot!(report(&published("0123-key", "${arn:aws:ssm:us-east-1:parameter/key}")), @"
    error: collector.yaml:14: exporters.otlphttp.headers: a secret reference is not a complete ARN; use arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
    logs: -
    metrics: -
    traces: -
    ");
}

#[test]
fn invalid_yaml_is_reported_by_line() {
    insta::assert_snapshot!(report("exporters:\n  otlphttp:\n    endpoint: \"http://x:4318\n"), @"
    error: collector.yaml:1: has no service, so the file has no effect; add service.pipelines
    warning: collector.yaml:3: the quote is not closed, so the value ends with its line; close the quote
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report("exporters:\n  otlphttp:\n\tendpoint: x\n"), @"
    error: collector.yaml:3: invalid YAML: tabs disallowed within this context (block indentation); check indentation, quotes and brackets
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report("exporters: [otlphttp\nservice:\n"), @"
    error: collector.yaml:2: invalid YAML: illegal placement of ':' indicator; check indentation, quotes and brackets
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("  decouple:\n", "  batch:\n")), @"
    error: collector.yaml:10: duplicate key batch; remove one of them
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&format!("{PUBLISHED}---\n{PUBLISHED}")), @"
    error: collector.yaml:31: a second document begins here; keep only one
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report("? [a]\n: b\n"), @"
    error: collector.yaml:1: a key must be plain text; check indentation and brackets
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report("just a text\n"), @r#"
    error: collector.yaml:1: expected a mapping; write one "name: value" per line
    error: collector.yaml:1: has no service, so the file has no effect; add service.pipelines
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(report(""), @"
    error: collector.yaml:1: has no service, so the file has no effect; add service.pipelines
    logs: -
    metrics: -
    traces: -
    ");
}

#[test]
fn missing_and_misnamed_parts_are_reported() {
    insta::assert_snapshot!(report(&published("service:\n", "servise:\n")), @"
    error: collector.yaml:1: has no service, so the file has no effect; add service.pipelines
    warning: collector.yaml:17: servise: unknown setting, so it has no effect; correct its name, or remove it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("  pipelines:\n", "  pipeline:\n")), @"
    error: collector.yaml:17: service: has no pipelines, so nothing is sent; add some
    warning: collector.yaml:18: service.pipeline: unknown setting, so it has no effect; correct its name, or remove it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("    endpoint: \"http://clickstack.example.com:4318\"\n", "")), @"
    error: collector.yaml:12: exporters.otlphttp: has no endpoint, so it sends nothing; set one, such as https://host:4318
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("endpoint: \"http", "endpont: \"http")), @"
    error: collector.yaml:12: exporters.otlphttp: has no endpoint, so it sends nothing; set one, such as https://host:4318
    warning: collector.yaml:13: exporters.otlphttp.endpont: unknown setting, so it has no effect; correct its name, or remove it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("exporters: [otlphttp]\n    metrics", "exporters: [otlp]\n    metrics")), @"
    error: collector.yaml:22: service.pipelines.traces.exporters: otlp is not defined under exporters; define it, or remove it here
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: -
    ");
    insta::assert_snapshot!(report(&published("    logs:\n      receivers", "    log:\n      receivers")), @"
    error: collector.yaml:27: service.pipelines.log: unknown kind of pipeline; use traces, metrics or logs
    logs: -
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report(&published("receivers: [otlp]\n", "receivers: [otlp/other]\n")), @"
    error: collector.yaml:20: service.pipelines.traces.receivers: otlp/other is not defined under receivers; define it, or remove it here
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report(&published("[batch, decouple]", "[batch, decuple]")), @"
    error: collector.yaml:21: service.pipelines.traces.processors: decuple is not defined under processors; define it, or remove it here
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("    headers:\n      authorization: 0123-key\n", "    headers: authorization=hunter2\n")), @r#"
    error: collector.yaml:14: exporters.otlphttp.headers: expected a mapping; write one "name: value" per line
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(report(&published("authorization: 0123-key", "authorization:")), @"
    error: collector.yaml:15: exporters.otlphttp.headers.authorization: the header has no value; set it, or remove the header
    logs: -
    metrics: -
    traces: -
    ");
}

#[test]
fn invalid_values_are_reported_by_location() {
    insta::assert_snapshot!(report(&published("http://clickstack.example.com:4318", "clickstack.example.com:4318")), @r#"
    error: collector.yaml:13: exporters.otlphttp.endpoint: "clickstack.example.com:4318" has no scheme; set http://clickstack.example.com:4318 or https://clickstack.example.com:4318
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(report(&published("http://clickstack.example.com:4318", "http://localhost:4318")), @"
    error: collector.yaml:13: exporters.otlphttp.endpoint: the endpoint is this extension's own listener, localhost:4318, so telemetry would loop; set the address of your ClickStack
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(exporter("    compression: brotli\n"), @r#"
    error: collector.yaml:16: exporters.otlphttp.compression: "brotli" is not a compression method; use gzip, zstd or none
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(exporter("    timeout: 5\n"), @r#"
    error: collector.yaml:16: exporters.otlphttp.timeout: "5" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(exporter("    timeout: 1h\n"), @r#"
    error: collector.yaml:16: exporters.otlphttp.timeout: "3600000ms" is longer than a Lambda function can run; set 15m or less
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(exporter("    headers_: {}\n    encoding: json\n    compression: snappy\n"), @"
    warning: collector.yaml:16: exporters.otlphttp.headers_: unknown setting, so it has no effect; correct its name, or remove it
    warning: collector.yaml:17: exporters.otlphttp.encoding: has no effect; requests are sent as protobuf, which every OTLP endpoint accepts; set proto, or remove it
    warning: collector.yaml:18: exporters.otlphttp.compression: snappy is not supported, so gzip is used; set gzip, zstd or none
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report(&published("authorization: 0123-key", "'content-type': hunter2")), @"
    error: collector.yaml:14: exporters.otlphttp.headers: content-type is set by the extension; remove it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("'localhost:4317'", "4317")), @r#"
    error: collector.yaml:5: receivers.otlp.protocols.grpc.endpoint: "4317" is not a listen address; use host:port, such as localhost:4317
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    "#);
    insta::assert_snapshot!(report(&published("service:\n", "service:\n  telemetry: {logs: {level: loud}, metrics: {level: none}}\n")), @r#"
    error: collector.yaml:18: service.telemetry.logs.level: "loud" is not a log level; use error, warn, info, debug, trace or off
    warning: collector.yaml:18: service.telemetry.metrics: has no effect; see ROTEL_ENABLE_INTERNAL_TELEMETRY, or remove it
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    "#);
    insta::assert_snapshot!(report(&published("0123-key", "${env:API_KEY}")), @"
    error: collector.yaml:15: exporters.otlphttp.headers.authorization: the variable API_KEY is not set, so it expands to nothing; set it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("0123-key", "${secretsmanager:hunter2}")), @"
    logs: pending
    metrics: pending
    traces: pending
    ");
    insta::assert_snapshot!(report(&published("0123-key", "${env:API_KEY")), @"
    error: collector.yaml:15: exporters.otlphttp.headers.authorization: a ${ has no closing }; write ${env:NAME}, or $$ for a literal $
    logs: -
    metrics: -
    traces: -
    ");
}

#[test]
fn unsupported_settings_are_reported() {
    insta::assert_snapshot!(exporter("    sending_queue: {enabled: true}\n    retry_on_failure: {enabled: false, multiplier: 2}\n"), @"
    warning: collector.yaml:16: exporters.otlphttp.sending_queue: has no effect, because ROTEL_BUFFER_MAX_BYTES limits the buffer; remove it
    warning: collector.yaml:17: exporters.otlphttp.retry_on_failure.enabled: has no effect; telemetry that could not be sent is always kept and retried; remove it
    warning: collector.yaml:17: exporters.otlphttp.retry_on_failure.multiplier: has no effect; delays double, with a random reduction of up to half; remove it
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(exporter("    tls: {insecure: maybe, min_version: '1.3', server_name_override: x}\n"), @"
    error: collector.yaml:16: exporters.otlphttp.tls.insecure: not a boolean; set true or false
    error: collector.yaml:16: exporters.otlphttp.tls.server_name_override: not supported, because the certificate is verified for the endpoint's host name; use the certificate's name in the endpoint
    warning: collector.yaml:16: exporters.otlphttp.tls.min_version: has no effect; TLS 1.2 and 1.3 are used with the defaults of rustls; remove it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(exporter("    tls: {cert_file: /var/task/cert.pem}\n"), @"
    error: collector.yaml:16: exporters.otlphttp.tls.cert_file: a client certificate needs both certificate and key; set collector.yaml:16: exporters.otlphttp.tls.key_file as well
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(exporter("    auth: {authenticator: bearertokenauth}\n"), @"
    error: collector.yaml:16: exporters.otlphttp.auth.authenticator: bearertokenauth is not defined under extensions; define it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(exporter("    auth: {authenticator: basicauth}\n"), @"
    error: collector.yaml:16: exporters.otlphttp.auth.authenticator: basicauth is not defined under extensions; define it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(exporter("    proxy_url: http://me:hunter2@proxy:3128\n"), @"
    error: collector.yaml:16: exporters.otlphttp.proxy_url: not supported; set HTTPS_PROXY or HTTP_PROXY instead, and remove this
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&PUBLISHED.replace("otlphttp", "awsxray")), @"
    error: collector.yaml:12: exporters.awsxray: awsxray is not supported, so nothing is sent there; use otlp or otlphttp
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report(&published("      http:\n", "      http:\n        tls: {cert_file: x}\n        cors: {}\n")), @"
    error: collector.yaml:7: receivers.otlp.protocols.http.tls: not supported, because this connection stays within the function's environment; send to http://, and remove it
    warning: collector.yaml:8: receivers.otlp.protocols.http.cors: has no effect; remove it
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report(&published("  otlp:\n    protocols:", "  zipkin:\n  otlp:\n    protocols:").replace("[otlp]", "[otlp, zipkin]")), @"
    error: collector.yaml:2: receivers.zipkin: zipkin is not supported, so telemetry sent to it is lost; send OTLP instead, and remove it
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report(&published("service:\n", "connectors: {spanmetrics: {}}\nservice:\n  extensions: [health_check]\n")), @"
    warning: collector.yaml:19: service.extensions: not supported and not needed: health_check; remove them
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
}

#[test]
fn unsupported_processors_block_their_signals() {
    insta::assert_snapshot!(processor("batch/x", "    timeout: 200ms\n    send_batch_size: 50\n"), @"
    warning: collector.yaml:11: processors.batch/x.timeout: has no effect; by default, telemetry is sent at the end of invocations; see ROTEL_FLUSH_STRATEGY
    warning: collector.yaml:12: processors.batch/x.send_batch_size: has no effect; by default, telemetry is sent at the end of invocations; see ROTEL_FLUSH_STRATEGY
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(processor("redaction", "    allow_all_keys: true\n"), @"
    error: collector.yaml:10: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(processor("probabilistic_sampler", "    sampling_percentage: 15\n"), @"
    warning: collector.yaml:10: processors.probabilistic_sampler: not supported, so telemetry is sent without it; remove it, or use it in the receiving collector
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(processor("memory_limiter", "    limit_mib: lots\n    limit_percentage: 80\n"), @r#"
    error: collector.yaml:11: processors.memory_limiter.limit_mib: "lots" is not a valid number; use a whole number of at least 1
    warning: collector.yaml:12: processors.memory_limiter.limit_percentage: has no effect; the buffer gets 1/16 of the memory; set limit_mib or ROTEL_BUFFER_MAX_BYTES
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    "#);
    insta::assert_snapshot!(processor("resource", "    attributes:\n    - {key: host.name, action: delete}\n"), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(processor("resource", "    attributes:\n    - {key: team, value: a, action: insert}\n    - {key: x, from_attribute: y, action: upsert}\n"), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(processor("attributes", "    actions: [{key: team, value: a, action: upsert}]\n"), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    let one = published(
        "[batch, decouple]\n      exporters: [otlphttp]\n    logs",
        "[batch, redaction]\n      exporters: [otlphttp]\n    logs",
    );
    insta::assert_snapshot!(report(&one.replace("  decouple:\n", "  decouple:\n  redaction:\n")), @"
    error: collector.yaml:11: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: -
    traces: http://clickstack.example.com:4318/v1/traces
    ");
}

#[test]
fn blocked_signals_ignore_outside_endpoints() {
    let endpoint = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://other:4318");
    let headers = ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "a=b");
    let all = published("  decouple:\n", "  redaction:\n").replace("decouple]", "redaction]");
    insta::assert_snapshot!(report_with(&all, &[endpoint]), @"
    error: collector.yaml:10: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    warning: collector.yaml:18: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: -
    metrics: -
    traces: -
    ");
    let one = published(
        "[batch, decouple]\n      exporters: [otlphttp]\n    logs",
        "[batch, redaction]\n      exporters: [otlphttp]\n    logs",
    )
    .replace("  decouple:\n", "  decouple:\n  redaction:\n");
    insta::assert_snapshot!(report_with(&one, &[endpoint, headers]), @"
    error: collector.yaml:11: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    warning: collector.yaml:19: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: -
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    let (_, known) = outcome(&one, &[endpoint, headers]);
    let Exports::Known(exports) = &known.config.destinations[0].exports else { panic!("{known:?}") };
    assert_eq!(exports.logs.as_ref().expect("an export").headers[0].1, "b");
    insta::assert_snapshot!(report_with(&one, &[("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "http://other:4318")]), @"
    error: collector.yaml:11: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    warning: ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT: has no effect if ROTEL_EXPORTERS is set; use ROTEL_EXPORTER_{NAME}_METRICS_ENDPOINT
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: -
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report_with(&one, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "other:4318")]), @r#"
    error: collector.yaml:11: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    error: ROTEL_OTLP_EXPORTER_ENDPOINT: "other:4318" has no scheme; set http://other:4318 or https://other:4318
    warning: collector.yaml:19: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: -
    metrics: -
    traces: -
    "#);
    insta::assert_snapshot!(report_with(&one, &[("ROTEL_EXPORTERS_METRICS", "otlphttp")]), @"
    error: collector.yaml:11: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    warning: collector.yaml:19: service.pipelines: ROTEL_EXPORTERS_METRICS is ignored, because this file does not send metrics
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: -
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    insta::assert_snapshot!(report_with(&one, &[endpoint, ("ROTEL_EXPORTER", "otlp")]), @"
    error: collector.yaml:11: processors.redaction: not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the receiving collector
    warning: collector.yaml:19: service.pipelines: ROTEL_EXPORTER is set, so the exporters in this file are ignored, and signals that this file blocks are sent there
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: http://other:4318/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    let unread = published(
        "processors: [batch, decouple]\n      exporters: [otlphttp]\n    logs",
        "processors: {redaction: }\n      exporters: [otlphttp]\n    logs",
    );
    insta::assert_snapshot!(report_with(&unread, &[endpoint]), @"
    error: collector.yaml:25: service.pipelines.metrics.processors: expected a list, such as [otlp]
    warning: collector.yaml:18: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: -
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    let absent = published(
        "    metrics:\n      receivers: [otlp]\n      processors: [batch, decouple]\n      exporters: [otlphttp]\n",
        "",
    );
    insta::assert_snapshot!(report_with(&absent, &[endpoint]), @"
    warning: collector.yaml:18: service.pipelines: metrics have no pipeline, so they are received and dropped
    warning: collector.yaml:18: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: -
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    insta::assert_snapshot!(report_with(&absent, &[endpoint, ("ROTEL_EXPORTER", "otlp")]), @"
    warning: collector.yaml:18: service.pipelines: ROTEL_EXPORTER is set, so the exporters in this file are ignored
    logs: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: http://other:4318/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
}

#[test]
fn key_containing_its_value_is_not_printed() {
    let all = [
        exporter("    headers2: {authorization:0123-secret}\n    authorization:0123-secret:\n"),
        report(&published("      authorization: 0123-key\n", "      {authorization:0123-secret}\n")),
        report(&published(
            "authorization: 0123-key",
            "{authorization=0123-secret: , authorization=0123-secret: }",
        )),
        exporter(
            "    auth: {authenticator: basicauth}\nextensions:\n  basicauth: {client_auth: {password:0123-secret}}\n",
        ),
    ];
    assert!(all.iter().all(|report| !report.contains("0123-secret")), "{all:#?}");
    insta::assert_snapshot!(all[1], @"
    error: collector.yaml:15: exporters.otlphttp.headers.authorization…: the header has no value; set it, or remove the header
    logs: -
    metrics: -
    traces: -
    ");
}

#[test]
fn expanded_values_are_bounded_in_total() {
    let long = "x".repeat(1000);
    let text = published("0123-key", &"${LONG}".repeat(2000));
    let report = report_with(&text, &[("LONG", &long)]);
    assert!(report.contains("too large after variables are expanded"), "{report}");
    assert!(report.len() < 2000, "{}", report.len());
}

#[test]
fn zero_backoff_is_allowed() {
    let text = published(
        "    compression: gzip\n",
        "    retry_on_failure: {initial_interval: 0s, max_interval: 0s}\n",
    );
    let (yaml, outcome) = outcome(&text, &[]);
    assert_eq!(yaml.warnings, []);
    let Exports::Known(exports) = &outcome.config.destinations[0].exports else { panic!("{outcome:?}") };
    let retry = &exports.logs.as_ref().expect("an export").retry;
    assert_eq!((retry.initial_backoff.as_millis(), retry.max_backoff.as_millis()), (1, 1));
}

#[test]
fn settings_for_one_host_do_not_reach_another() {
    let metrics = ("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "https://other:4317");
    insta::assert_snapshot!(report_with(PUBLISHED, &[metrics]), @"
    warning: collector.yaml:18: service.pipelines: ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT is set, so headers, TLS and other settings in this file are ignored for signals whose endpoint is set by a variable; set those as variables too
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: https://other:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    let (_, outcome) = outcome(PUBLISHED, &[metrics]);
    let Exports::Known(exports) = &outcome.config.destinations[0].exports else { panic!("{outcome:?}") };
    for signal in Signal::ALL {
        let export = exports.of(signal).as_ref().expect("an export");
        let (protocol, headers) =
            if signal == Signal::Metrics { (Protocol::Grpc, 0) } else { (Protocol::Http, 1) };
        assert_eq!((export.protocol, export.headers.len()), (protocol, headers), "{signal}");
    }
}

#[test]
fn file_is_optional_if_an_endpoint_is_set() {
    for (name, text, is) in [
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://x:1", true),
        ("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "http://x:1", true),
        ("ROTEL_EXPORTERS", "a:otlp", true),
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", "\"\"", false),
        ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http", false),
    ] {
        assert_eq!(is_optional(&variables(&[(name, text)])), is, "{name}");
    }
}

#[test]
fn variables_override_related_settings() {
    let text = published("    compression: gzip\n", "    traces_endpoint: http://t/x\n    tls: {ca_file: /ca.pem}\n    auth: {authenticator: basicauth}\n    retry_on_failure: {max_interval: 3s}\n")
        .replace("  batch:\n", "  batch: {send_batch_max_size: 7}\n")
        .replace("[otlphttp]\n    logs", "[otlphttp, otlphttp/b]\n    logs")
        .replace("service:\n", "  otlphttp/b: {endpoint: 'http://b:1'}\nextensions:\n  basicauth: {client_auth: {username: me, password: x}}\nservice:\n  telemetry: {logs: {level: debug}}\n");
    let left = |given: &[(&str, &str)]| {
        let (all, _) = outcome(&text, &[]);
        let (yaml, _) = outcome(&text, given);
        let names = all.variables.into_keys().filter(|name| !yaml.variables.contains_key(name));
        names.collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!(left(&[("ROTEL_EXPORTER_OTLPHTTP_ENDPOINT", "http://y:1")]), @"ROTEL_EXPORTER_OTLPHTTP_ENDPOINT ROTEL_EXPORTER_OTLPHTTP_TRACES_ENDPOINT");
    insta::assert_snapshot!(left(&[("ROTEL_EXPORTER_OTLPHTTP_TLS_CA_PEM", "x")]), @"ROTEL_EXPORTER_OTLPHTTP_TLS_CA_FILE");
    insta::assert_snapshot!(left(&[("ROTEL_EXPORTER_OTLPHTTP_CUSTOM_HEADERS", "a=b")]), @"ROTEL_EXPORTER_OTLPHTTP_AUTHENTICATOR ROTEL_EXPORTER_OTLPHTTP_BASIC_AUTH_PASSWORD ROTEL_EXPORTER_OTLPHTTP_BASIC_AUTH_USERNAME ROTEL_EXPORTER_OTLPHTTP_CUSTOM_HEADERS");
    insta::assert_snapshot!(left(&[("ROTEL_BATCH_MAX_SIZE", "9"), ("RUST_LOG", "warn")]), @"ROTEL_LOGS_BATCH_MAX_SIZE ROTEL_LOG_LEVEL ROTEL_METRICS_BATCH_MAX_SIZE ROTEL_TRACES_BATCH_MAX_SIZE");
    insta::assert_snapshot!(left(&[("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "9s")]), @"ROTEL_EXPORTER_OTLPHTTP_RETRY_MAX_BACKOFF");
}

#[test]
fn settings_applied_too_widely_are_reported() {
    let text =
        published("  decouple:\n", "  resource/x: {attributes: [{key: team, value: a, action: upsert}]}\n")
            .replace(
                "[batch, decouple]\n      exporters: [otlphttp]\n    logs",
                "[batch, resource/x]\n      exporters: [otlphttp]\n    logs",
            )
            .replace("decouple]", "batch]");
    insta::assert_snapshot!(report(&text), @"
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
    let receivers = published("receivers:\n", "receivers:\n  otlp/b: {protocols: {grpc: {endpoint: 'localhost:5317'}, http: {endpoint: 'localhost:4318'}}}\n")
        .replace("receivers: [otlp]\n      processors: [batch, decouple]\n      exporters: [otlphttp]\n    logs", "receivers: [otlp/b]\n      processors: [batch, decouple]\n      exporters: [otlphttp]\n    logs");
    insta::assert_snapshot!(report(&receivers), @"
    warning: collector.yaml:2: receivers.otlp/b.protocols.grpc.endpoint: overrides collector.yaml:6: receivers.otlp.protocols.grpc.endpoint, because the extension supports a single value; set the same value in both
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
}
