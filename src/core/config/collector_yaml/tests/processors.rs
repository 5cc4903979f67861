//! Processors that act on data, from the file to the processors of each signal.

use bytes::Bytes;

use super::*;
use crate::otlp::RequestPart;
use crate::processors::Processed;

/// A file with these processors, of which each pipeline names some.
fn file(processors: &str, traces: &str, metrics: &str, logs: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors:\n{processors}\nexporters: {{otlphttp: {{endpoint: 'https://backend.example.com'}}}}\n\
         service:\n  pipelines:\n    traces: {{receivers: [otlp], processors: [{traces}], exporters: [otlphttp]}}\n    \
         metrics: {{receivers: [otlp], processors: [{metrics}], exporters: [otlphttp]}}\n    \
         logs: {{receivers: [otlp], processors: [{logs}], exporters: [otlphttp]}}\n"
    )
}

/// The signals with processors.
fn processed(yaml: &CollectorYaml) -> Vec<Signal> {
    Signal::ALL.into_iter().filter(|signal| !yaml.processors.is_empty(*signal)).collect()
}

#[test]
fn common_resource_attributes_become_a_variable() {
    let resource = "  resource: {attributes: [{key: team, value: shop, action: upsert}, {key: stage, value: '${env:STAGE}', action: upsert}]}";
    let (yaml, _) = outcome(&file(resource, "resource", "resource", "resource"), &[("STAGE", "prod")]);
    assert_eq!((yaml.errors.clone(), processed(&yaml)), (vec![], vec![]), "nothing is decoded");
    assert_eq!(yaml.variables["ROTEL_OTEL_RESOURCE_ATTRIBUTES"], "\u{1f}team=shop\u{1f}stage=prod");
    // In some pipelines only, or together with others, they are set by the processor.
    let (yaml, _) = outcome(&file(resource, "resource", "", "resource"), &[]);
    assert_eq!(processed(&yaml), [Signal::Logs, Signal::Traces]);
    let typed = resource.replace("value: shop", "value: 5");
    let (yaml, _) = outcome(&file(&typed, "resource", "resource", "resource"), &[]);
    assert_eq!(processed(&yaml).len(), 3, "the variable sets texts only");
}

#[test]
fn each_signal_has_its_part() {
    let processors = "  filter:\n    logs: {log_record: ['severity_number < SEVERITY_NUMBER_INFO']}\n  transform:\n    \
                      trace_statements: [{context: span, statements: ['set(name, \"x\")']}]";
    let all = "filter, transform";
    let (yaml, _) = outcome(&file(processors, all, all, all), &[]);
    assert_eq!((yaml.errors.clone(), processed(&yaml)), (vec![], vec![Signal::Logs, Signal::Traces]));
    assert_eq!(
        yaml.processors.process(Signal::Logs, RequestPart { bytes: Bytes::new(), items: 0 }),
        Processed::Filtered
    );
}

#[test]
fn unsupported_parts_keep_their_pipelines_back() {
    let all = [
        "  attributes: {include: {match_type: strict}, actions: [{key: a, value: b, action: upsert}]}",
        "  attributes: {actions: [{key: a, action: extract, pattern: '(?P<x>.)'}]}",
        "  attributes: {actions: [{key: a, value: 1, from_attribute: b, action: upsert}]}",
        "  attributes: {actions: [{value: 1, action: upsert}]}",
        "  attributes: {actions: [{key: a, action: upsert}]}",
        "  attributes: {actions: [{key: a, value: '${arn:aws:ssm:us-east-1:123456789012:parameter/key}', action: insert}]}",
        "  attributes: {actions: [{key: a, pattern: b, action: delete}]}",
        "  attributes: {actions: [{pattern: b, value: c, action: upsert}]}",
        "  transform: {trace_statement: ['set(span.name, \"x\")']}",
        "  filter: {spans: {include: {match_type: strict}}}",
        "  filter: {traces: {span: ['attributes[\"a\"] = 1']}}",
        "  filter: {trace_conditions: ['name == \"x\"']}",
        "  transform: {error_mode: loud, trace_statements: []}",
        "  transform: {trace_statements: [{context: log, statements: ['set(body, 1)']}]}",
        "  transform:\n    trace_statements:\n    - context: span\n      statements:\n      - set(name, \"x\")\n      - set(name, UUID())",
    ];
    let reports = all.map(|processor| {
        let id = processor.trim().split(':').next().expect("an id");
        let report = report(&file(processor, id, "", ""));
        assert!(report.contains("traces: -") && report.contains("logs: https"), "{report}");
        let line = report.lines().next().expect("an error").to_owned();
        assert_eq!(report.matches("error:").count(), 1, "{report}");
        line
    });
    insta::assert_snapshot!(reports.join("\n"), @"
    error: collector.yaml:3: processors.attributes.include: not supported, so its pipelines send nothing; remove it
    error: collector.yaml:3: processors.attributes.actions: this action is not supported, so its pipelines send nothing; use insert, update, upsert, delete or hash
    error: collector.yaml:3: processors.attributes.actions: has both value and from_attribute; keep one
    error: collector.yaml:3: processors.attributes.actions: has no key; set it
    error: collector.yaml:3: processors.attributes.actions: has no value; set value or from_attribute
    error: collector.yaml:3: processors.attributes.actions: a secret is not supported in this value, so its pipelines send nothing; set ROTEL_OTEL_RESOURCE_ATTRIBUTES
    error: collector.yaml:3: processors.attributes.actions: has both key and pattern; keep one
    error: collector.yaml:3: processors.attributes.actions: has no key; set it
    error: collector.yaml:3: processors.transform.trace_statement: not supported, so its pipelines send nothing; remove it, or use it in the receiving collector
    error: collector.yaml:3: processors.filter.spans: not supported, so its pipelines send nothing; remove it, or use it in the receiving collector
    error: collector.yaml:3: processors.filter.traces.span: column 17: unexpected =, so its pipelines send nothing; remove it, or use it in the receiving collector
    error: collector.yaml:3: processors.filter.trace_conditions: no path names its context; write span.attributes, log.body or the like, so its pipelines send nothing; remove it, or use it in the receiving collector
    error: collector.yaml:3: processors.transform.error_mode: not an error mode; set ignore, silent or propagate
    error: collector.yaml:3: processors.transform.trace_statements.statements: traces have no such context, so its pipelines send nothing; remove it, or use it in the receiving collector
    error: collector.yaml:8: processors.transform.trace_statements.statements: column 11: UUID is not supported, so its pipelines send nothing; remove it, or use it in the receiving collector
    ");
}

#[test]
fn pipelines_of_a_signal_have_the_same_processors() {
    let text = file("  filter: {logs: {log_record: ['body == nil']}}", "", "", "filter");
    let other = format!("{text}    logs/other: {{receivers: [otlp], exporters: [otlphttp]}}\n");
    insta::assert_snapshot!(report(&other), @"
    error: collector.yaml:10: service.pipelines.logs/other: pipelines of logs with different processors are not supported, so they send nothing; use the same ones in the same order
    logs: -
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
    let debug = format!("{text}    logs/other: {{receivers: [otlp], exporters: [debug]}}\n")
        .replace("exporters: {", "exporters: {debug: , ");
    insta::assert_snapshot!(report(&debug), @"
    logs: https://backend.example.com/v1/logs
    metrics: https://backend.example.com/v1/metrics
    traces: https://backend.example.com/v1/traces
    ");
}

#[test]
fn processors_of_a_pipeline_that_only_counts_act_too() {
    // The endpoint is a variable, and the file was left with its debug exporter.
    let text = file("  filter: {logs: {log_record: ['body == nil']}}", "", "", "filter")
        .replace("exporters: {", "exporters: {debug: , ")
        .replace("exporters: [otlphttp]", "exporters: [debug]");
    let (yaml, _) = outcome(&text, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://other.example.com:4317")]);
    assert_eq!(processed(&yaml), [Signal::Logs]);
}
