//! References to variables and secrets, several texts, and files with an open quote, as people write them.

use super::*;

const PIPELINES: &str = "\
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [otlphttp]}
    metrics: {receivers: [otlp], exporters: [otlphttp]}
    logs: {receivers: [otlp], exporters: [otlphttp]}
";

/// A file that sends with this key.
fn with_key(key: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\nexporters:\n  otlphttp:\n    endpoint: https://backend.example.com\n    \
         headers:\n      authorization: {key}\n{PIPELINES}"
    )
}

fn headers(text: &str, given: &[(&str, &str)]) -> String {
    let (yaml, parsed) = outcome(text, given);
    let problems = [yaml.errors, yaml.warnings, parsed.errors.clone(), parsed.warnings.clone()].concat();
    assert_eq!(problems, []);
    let Exports::Known(exports) = &parsed.config.destinations[0].exports else { panic!("{parsed:?}") };
    exports.logs.as_ref().expect("an export").headers[0].1.to_str().expect("a text").to_owned()
}

#[test]
fn references_are_expanded_inside_out() {
    assert_eq!(headers(&with_key("${env:KEY:-${env:FALLBACK}}"), &[("FALLBACK", "0123")]), "0123");
    assert_eq!(
        headers(&with_key("${env:KEY:-${env:FALLBACK}}"), &[("KEY", "4567"), ("FALLBACK", "0123")]),
        "4567"
    );
    assert_eq!(headers(&with_key("${yaml:plain}"), &[]), "plain");
    assert_eq!(headers(&with_key("a$$b"), &[]), "a$b");
}

#[test]
fn names_without_braces_are_expanded() {
    let file = with_key("$INGEST_KEY").replace("https://backend.example.com", "$OTLP_ENDPOINT");
    let given = [("INGEST_KEY", "0123"), ("OTLP_ENDPOINT", "https://other.example.com")];
    insta::assert_snapshot!(report_with(&file, &given), @"
    warning: collector.yaml:4: exporters.otlphttp.endpoint: $OTLP_ENDPOINT is expanded, but newer collectors refuse it; write ${env:OTLP_ENDPOINT}
    warning: collector.yaml:6: exporters.otlphttp.headers.authorization: $INGEST_KEY is expanded, but newer collectors refuse it; write ${env:INGEST_KEY}
    logs: https://other.example.com/v1/logs
    metrics: https://other.example.com/v1/metrics
    traces: https://other.example.com/v1/traces
    ");
}

#[test]
fn secrets_are_references() {
    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:obs-AbCdEf";
    for (key, given) in [
        (format!("${{secretsmanager:{ARN}}}"), [("SECRET_ARN", "")]),
        (format!("${{secretsmanager:{ARN}#ingest_key}}"), [("SECRET_ARN", "")]),
        ("Bearer ${secretsmanager:${env:SECRET_ARN}}".to_owned(), [("SECRET_ARN", ARN)]),
    ] {
        let (yaml, parsed) = outcome(&with_key(&key), &given);
        assert_eq!((yaml.errors, parsed.errors), Default::default(), "{key}");
        assert_eq!(parsed.references[0].arn.text, ARN);
        assert_eq!(parsed.references[0].key.as_deref(), key.contains('#').then_some("ingest_key"));
    }
    for scheme in ["s3://bucket/key", "https://host/key", "file:/key", "vault:x"] {
        let (yaml, parsed) = outcome(&with_key(&format!("${{{scheme}}}")), &[]);
        let [error] = &yaml.errors[..] else { panic!("{scheme}: {:?}", yaml.errors) };
        let name = scheme.split(':').next().expect("a scheme");
        assert!(error.message.starts_with(&format!("${{{name}:…}} ")), "{error}");
        assert_eq!((parsed.errors, parsed.warnings), Default::default(), "nothing follows from it");
    }
}

#[test]
fn one_cause_is_one_message() {
    insta::assert_snapshot!(report_with(&with_key("${env:KEY}"), &[]), @"
    error: collector.yaml:6: exporters.otlphttp.headers.authorization: the variable KEY is not set, so it expands to nothing; set it
    logs: -
    metrics: -
    traces: -
    ");
    let file = with_key("0123").replace("https://backend.example.com", "${env:ENDPOINT}");
    insta::assert_snapshot!(report_with(&file, &[]), @"
    error: collector.yaml:4: exporters.otlphttp.endpoint: the variable ENDPOINT is not set, so it expands to nothing; set it
    logs: -
    metrics: -
    traces: -
    ");
    insta::assert_snapshot!(report_with(&file.replace("${env:ENDPOINT}", "${s3://b/c}"), &[]), @"
    error: collector.yaml:4: exporters.otlphttp.endpoint: ${s3:…} is not supported, because values are not fetched; set the value, or use ${env:NAME}
    logs: -
    metrics: -
    traces: -
    ");
    let endpoint = [("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://other.example.com:4317")];
    insta::assert_snapshot!(report_with(&file, &endpoint), @"
    warning: collector.yaml:4: exporters.otlphttp.endpoint: the variable ENDPOINT is not set, so it expands to nothing; set it
    warning: collector.yaml:8: service.pipelines: ROTEL_OTLP_EXPORTER_ENDPOINT is set, so the exporters in this file are ignored, with their headers, TLS and other settings; set those as variables too
    logs: https://other.example.com:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export
    metrics: https://other.example.com:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export
    traces: https://other.example.com:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
}

#[test]
fn variables_hold_lists_and_mappings() {
    let file = "\
receivers: {otlp: {protocols: {http: }}}
exporters: ${env:DEFINITIONS}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: \"${env:EXPORTERS}\"}
    logs: {receivers: [otlp], exporters: [\"${env:EXPORTER:-debug}\"]}
    metrics: {receivers: [otlp], exporters: otlphttp}
";
    let given = [
        (
            "DEFINITIONS",
            "{otlphttp: {endpoint: 'https://backend.example.com', headers: {authorization: '${env:KEY}'}}, debug: }",
        ),
        ("EXPORTERS", "[otlphttp, debug]"),
        ("KEY", "[0123]"),
    ];
    insta::assert_snapshot!(report_with(file, &given), @"
    logs: -
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
    assert_eq!(
        headers(&with_key("${env:KEY}"), &[("KEY", "[0123]")]),
        "[0123]",
        "a text where one is wanted"
    );
    assert_eq!(headers(&with_key("${env:KEY}"), &[("KEY", "{a: b}")]), "{a: b}");
}

#[test]
fn connectors_are_left_out() {
    let file = "\
receivers: {otlp: {protocols: {http: }}}
connectors:
  spanmetrics: {histogram: {explicit: {buckets: [10ms]}}}
  forward:
  routing: {table: []}
exporters: {otlphttp: {endpoint: 'https://backend.example.com'}, prometheusremotewrite: {endpoint: 'https://x'}}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [spanmetrics, otlphttp]}
    metrics/spanmetrics: {receivers: [spanmetrics], exporters: [prometheusremotewrite]}
    metrics: {receivers: [otlp, spanmetrics], exporters: [otlphttp]}
    logs: {receivers: [otlp], exporters: [forward]}
    logs/out: {receivers: [forward], exporters: [otlphttp]}
";
    insta::assert_snapshot!(report(file), @"
    warning: collector.yaml:3: connectors.spanmetrics: not supported, so the metrics it generates from spans are lost; use it in the receiving collector, and remove it here
    logs: https://backend.example.com/v1/logs
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
    let routed = file.replace("exporters: [forward]", "exporters: [routing]");
    insta::assert_snapshot!(report(&routed), @"
    error: collector.yaml:5: connectors.routing: not supported, so its pipelines send nothing; name exporters in the pipelines instead
    warning: collector.yaml:3: connectors.spanmetrics: not supported, so the metrics it generates from spans are lost; use it in the receiving collector, and remove it here
    logs: -
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
}

#[test]
fn texts_are_merged() {
    let read = |texts: &[(&str, &str)]| {
        let texts: Vec<_> = texts
            .iter()
            .map(|(name, text)| ConfigText { name: (*name).to_owned(), text: (*text).to_owned() })
            .collect();
        let mut given = Variables::new();
        let mut yaml = read_all(&texts, &given);
        yaml.apply_as_defaults(&mut given);
        yaml
    };
    let file = with_key("0123");
    let yaml = read(&[
        ("a.yaml", &file),
        ("CONFIG", "exporters: {otlphttp: {timeout: 2s, headers: {x-team: shop}}}"),
        ("URI", "exporters::otlphttp::endpoint: https://other.example.com"),
        ("URI", "service::pipelines::logs::absent: 1"),
    ]);
    let variable = |name: &str| (yaml.variables[name].as_str(), yaml.locations[name].as_str());
    assert_eq!(
        variable("ROTEL_OTLP_EXPORTER_ENDPOINT"),
        ("https://other.example.com", "URI:1: exporters.otlphttp.endpoint")
    );
    assert_eq!(
        variable("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT"),
        ("2000ms", "CONFIG:1: exporters.otlphttp.timeout")
    );
    let headers = &yaml.variables["ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"];
    assert!(headers.contains("authorization=0123") && headers.contains("x-team=shop"), "{headers:?}");
    assert_eq!(yaml.warnings[0].variable, "URI:1: service.pipelines.logs.absent");
}

#[test]
fn open_quotes_are_closed_at_the_end_of_their_line() {
    let file = with_key("0123").replace("https://backend.example.com", "\"https://backend.example.com");
    insta::assert_snapshot!(report(&file), @"
    warning: collector.yaml:4: the quote is not closed, so the value ends with its line; close the quote
    logs: https://backend.example.com/v1/logs
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
    let file = with_key("'0123");
    insta::assert_snapshot!(report(&file), @"
    warning: collector.yaml:6: the quote is not closed, so the value ends with its line; close the quote
    logs: https://backend.example.com/v1/logs
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
    let hopeless = with_key("\"0123").replace("exporters:", "exporters: [");
    insta::assert_snapshot!(report(&hopeless), @"
    error: collector.yaml:4: invalid YAML: while parsing a flow mapping, did not find expected ',' or '}'; check indentation, quotes and brackets
    logs: -
    metrics: -
    traces: -
    ");
}

#[test]
fn undefined_batch_and_decouple_are_warnings() {
    let file = PUBLISHED.replace("processors:\n  batch:\n  decouple:\n", "");
    insta::assert_snapshot!(report(&file), @"
    warning: collector.yaml:18: service.pipelines.traces.processors: batch is not defined under processors, so a collector refuses it; define it
    warning: collector.yaml:18: service.pipelines.traces.processors: decouple is not defined under processors, so a collector refuses it; define it
    logs: http://clickstack.example.com:4318/v1/logs
    metrics: http://clickstack.example.com:4318/v1/metrics
    traces: http://clickstack.example.com:4318/v1/traces
    ");
}

#[test]
fn memory_limits_are_shown_as_they_hold() {
    let file = PUBLISHED.replace("  batch:\n", "  batch:\n  memory_limiter: {limit_mib: 400}\n");
    let file = file.replace("[batch, decouple]", "[memory_limiter, batch]");
    let (yaml, parsed) = outcome(&file, &[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]);
    assert_eq!(yaml.variables["ROTEL_BUFFER_MAX_BYTES"], "8388608");
    assert_eq!(parsed.config.buffer_max_bytes, 8 * 1024 * 1024);
}

#[test]
fn bearer_tokens_are_headers() {
    let file = with_key("unused").replace(
        "    headers:\n      authorization: unused\n",
        "    auth: {authenticator: bearertokenauth/key}\n",
    );
    let token = |extension: &str| {
        headers(&format!("extensions:\n  bearertokenauth/key: {extension}\n{file}"), &[("TOKEN", "0123")])
    };
    assert_eq!(token("{token: '${env:TOKEN}'}"), "Bearer 0123");
    assert_eq!(token("{token: '${env:TOKEN}', scheme: ''}"), "0123");
}

#[test]
fn many_references_cost_no_more_than_a_large_file() {
    // Parsing each of them would read 40 MB of YAML.
    let file = format!("absent: [{}]\n{}", "\"${env:LIST}\", ".repeat(9_000), with_key("0123"));
    let (yaml, _) = outcome(&file, &[("LIST", &format!("[{}]", "a, ".repeat(1_400)))]);
    assert_eq!(yaml.errors, []);
}
