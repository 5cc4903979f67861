//! Statements and conditions on telemetry. `tests/e2e/collector_yaml` compares processors with those of a real collector.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

#[expect(clippy::unnecessary_wraps, reason = "bodies are optional")]
fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) })
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn attributes() -> Vec<KeyValue> {
    vec![
        attribute("user", any_value::Value::StringValue("jane@example.com".to_owned())),
        attribute("count", any_value::Value::IntValue(3)),
        attribute("ratio", any_value::Value::DoubleValue(0.5)),
        attribute("flag", any_value::Value::BoolValue(true)),
    ]
}

#[expect(clippy::unnecessary_wraps, reason = "resources are optional")]
fn resource() -> Option<Resource> {
    let name = any_value::Value::StringValue("orders".to_owned());
    Some(Resource { attributes: vec![attribute("service.name", name)], ..Resource::default() })
}

fn logs() -> ExportLogsServiceRequest {
    let log = LogRecord {
        body: text("order 4711 failed"),
        severity_number: 17,
        severity_text: "ERROR".to_owned(),
        attributes: attributes(),
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![log], ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }],
    }
}

fn spans() -> ExportTraceServiceRequest {
    let span = Span {
        name: "GET /orders".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 7_000_000_000,
        attributes: attributes(),
        events: vec![Event { name: "retry".to_owned(), ..Event::default() }],
        status: Some(Status { code: 2, message: "no".to_owned() }),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }],
    }
}

/// The bytes as a request.
fn part(signal: Signal, bytes: Vec<u8>) -> RequestPart {
    let items = crate::otlp::validate(signal, &bytes).expect("a request");
    RequestPart { bytes: bytes.into(), items }
}

fn processors(signal: Signal, processor: Processor) -> Processors {
    let mut processors = Processors::default();
    processors.of_mut(signal).push(processor);
    processors
}

fn holds(signal: Signal, context: &str, condition: &str) -> bool {
    let removal = Removal::parse(condition, Some(context), signal)
        .unwrap_or_else(|error| panic!("{condition}: {error}"));
    let processors = processors(signal, Processor::Filter(vec![removal]));
    let request = if signal == Signal::Logs { logs().encode_to_vec() } else { spans().encode_to_vec() };
    processors.process(signal, part(signal, request)) == Processed::Filtered
}

/// The log record after a statement.
fn changed(statement: &str) -> LogRecord {
    let change = Change::parse(statement, Some("log"), &mut GroupConditions::default(), Signal::Logs)
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    let processors = processors(Signal::Logs, Processor::Transform(vec![change]));
    let Processed::Kept { bytes, items: 1, .. } =
        processors.process(Signal::Logs, part(Signal::Logs, logs().encode_to_vec()))
    else {
        panic!("{statement}")
    };
    let mut request = ExportLogsServiceRequest::decode(bytes).expect("a request");
    request.resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0)
}

#[test]
fn conditions_hold_as_in_the_collector() {
    for condition in [
        r#"attributes["user"] == "jane@example.com""#,
        r#"attributes["absent"] == nil"#,
        r#"attributes["user"] != nil and body != nil"#,
        "severity_number >= SEVERITY_NUMBER_ERROR",
        "log.severity_number == SEVERITY_NUMBER_ERROR or false",
        r#"severity_text == "ERROR""#,
        r#"IsMatch(body, "^order [0-9]+ failed$")"#,
        r#"IsMatch(attributes["count"], "^3$")"#,
        r#"not IsMatch(body, "login")"#,
        r#"not (attributes["count"] < 3 or attributes["count"] > 3.0)"#,
        r#"attributes["count"] * 2 + 1 == 7"#,
        r#"(attributes["count"] + 1) * 2 == 8"#,
        r#"attributes["ratio"] < 1"#,
        r#"attributes["flag"] == true and attributes["flag"] != false"#,
        r#"resource.attributes["service.name"] == "orders""#,
        r#"Len(attributes["user"]) == 16 and IsString(body) and not IsMap(body)"#,
        r#"ToLowerCase(severity_text) == "error" and ConvertCase(severity_text, "lower") == "error""#,
        r#"HasPrefix(body, "order") and HasSuffix(body, "failed")"#,
        r#"Substring(body, 6, 4) == "4711" and Int("4711") == 4711 and String(3) == "3""#,
        r#"Concat([severity_text, attributes["count"]], "-") == "ERROR-3""#,
        r#"SHA256("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb""#,
        r#"attributes["user"] != 3"#,
        r#"trace_id.string == """#,
    ] {
        assert!(holds(Signal::Logs, "log", condition), "{condition}");
        assert!(!holds(Signal::Logs, "log", &format!("not ({condition})")), "{condition}");
    }
    for condition in [
        r#"name == "GET /orders" and kind == SPAN_KIND_SERVER"#,
        "(end_time_unix_nano - start_time_unix_nano) > 5000000000",
        r#"status.code == STATUS_CODE_ERROR and span.status.message == "no""#,
        r#"attributes["count"] > -1"#,
    ] {
        assert!(holds(Signal::Traces, "span", condition), "{condition}");
    }
    assert!(!holds(Signal::Logs, "log", r#"attributes["user"] < 3"#), "values of different types");
    assert!(!holds(Signal::Logs, "log", r#"attributes["count"] / 0 == 1"#));
}

#[test]
fn statements_change_what_they_name() {
    let keys = |statement| {
        changed(statement).attributes.into_iter().map(|attribute| attribute.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(r#"delete_key(attributes, "user")"#), ["count", "ratio", "flag"]);
    assert_eq!(keys(r#"keep_keys(attributes, ["user", "flag", "absent"])"#), ["user", "flag"]);
    assert_eq!(keys(r#"delete_matching_keys(attributes, "^[cr]")"#), ["user", "flag"]);
    assert_eq!(keys(r#"keep_matching_keys(attributes, "(?i)^U")"#), ["user"]);
    assert_eq!(
        keys(r#"replace_all_patterns(attributes, "key", "^u", "x.u")"#),
        ["x.user", "count", "ratio", "flag"]
    );
    assert_eq!(
        keys(
            r#"merge_maps(attributes, ParseJSON("{\"a\": [1, {\"b\": null}], \"user\": \"x\"}"), "insert")"#
        ),
        ["user", "count", "ratio", "flag", "a"]
    );
    assert_eq!(changed(r#"set(body, attributes["user"])"#).body, text("jane@example.com"));
    assert_eq!(
        changed(r#"set(body, attributes["absent"])"#).body,
        text("order 4711 failed"),
        "nil changes nothing"
    );
    assert_eq!(changed(r#"set(severity_text, "x") where severity_number < 9"#).severity_text, "ERROR");
    assert_eq!(changed("set(severity_number, SEVERITY_NUMBER_WARN2)").severity_number, 14);
    assert_eq!(
        changed(r#"replace_pattern(body, "([0-9])[0-9]+", "${1}***")"#).body,
        text("order 4*** failed")
    );
    assert_eq!(
        value::get(&changed("truncate_all(attributes, 4)").attributes, "user"),
        OttlValue::Text("jane".to_owned())
    );
    let masked = changed(r#"replace_all_patterns(attributes, "value", "[a-z]+@[a-z.]+", "***")"#);
    assert_eq!(value::get(&masked.attributes, "user"), OttlValue::Text("***".to_owned()));
}

#[test]
fn unsupported_statements_are_refused() {
    let refused = |statement: &str| {
        Change::parse(statement, Some("log"), &mut GroupConditions::default(), Signal::Logs)
            .expect_err(statement)
    };
    let all = [
        r#"set(attributes["x"], "y""#,
        r#"set(attributes["x"] "y")"#,
        r#"set(attributes["x"], UUID())"#,
        r#"set(attributes["x"]["y"], 1)"#,
        "limit(attributes, 10, [])",
        r#"set(cache["x"], 1)"#,
        r#"set(trace_id.string, "x")"#,
        r#"set(attributes["x"], ParseJSON(body)["y"])"#,
        r#"set(body, "x) where true"#,
        r#"replace_pattern(body, "(", "x")"#,
        r#"set(span.name, "x")"#,
        r#"set(body, "x") when true"#,
        "set(body, 'x')",
        "",
    ];
    insta::assert_snapshot!(all.map(|statement| format!("{statement}\n  {}", refused(statement))).join("\n"), @r#"
    set(attributes["x"], "y"
      column 22: expected )
    set(attributes["x"] "y")
      column 21: expected ,
    set(attributes["x"], UUID())
      column 22: UUID is not supported
    set(attributes["x"]["y"], 1)
      column 5: this path is not supported here
    limit(attributes, 10, [])
      column 7: limit is not supported
    set(cache["x"], 1)
      column 5: this path is not supported here
    set(trace_id.string, "x")
      column 5: changing this field is not supported
    set(attributes["x"], ParseJSON(body)["y"])
      column 37: keys of results are not supported
    set(body, "x) where true
      column 11: the quote is not closed; close it
    replace_pattern(body, "(", "x")
      column 26: not a supported regular expression: found open group without closing ')'
    set(span.name, "x")
      column 5: this path is not supported here
    set(body, "x") when true
      column 16: unexpected word
    set(body, 'x')
      column 11: unexpected character; remove it

      column 1: expected a name
    "#);
    assert!(
        Change::parse("set(log.body, 1)", None, &mut GroupConditions::default(), Signal::Traces).is_err(),
        "another signal's context"
    );
    assert!(
        Change::parse("set(body, 1)", None, &mut GroupConditions::default(), Signal::Logs).is_err(),
        "no path names its context"
    );
    assert!(
        Change::parse("set(span.name, \"x\")", None, &mut GroupConditions::default(), Signal::Traces).is_ok()
    );
    let deep = format!("{}true{}", "(".repeat(50_000), ")".repeat(50_000));
    assert!(Removal::parse(&deep, Some("log"), Signal::Logs).is_err());
    let deep = format!("{}true{}", "not (".repeat(14), ")".repeat(14));
    assert!(Removal::parse(&deep, Some("log"), Signal::Logs).is_ok());
}

#[test]
fn results_are_bounded() {
    let double = r#"set(attributes["x"], Concat([attributes["x"], attributes["x"], body], ""))"#;
    let change = Change::parse(double, Some("log"), &mut GroupConditions::default(), Signal::Logs)
        .expect("a statement");
    let many = processors(Signal::Logs, Processor::Transform(vec![change.clone(); 100]));
    assert_eq!(many.process(Signal::Logs, part(Signal::Logs, logs().encode_to_vec())), Processed::Failed);
    let few = processors(Signal::Logs, Processor::Transform(vec![change; 3]));
    assert!(matches!(
        few.process(Signal::Logs, part(Signal::Logs, logs().encode_to_vec())),
        Processed::Kept { .. }
    ));
    assert_eq!(
        few.process(Signal::Logs, RequestPart { bytes: Bytes::from_static(b"\xff"), items: 1 }),
        Processed::Failed,
        "never sent as it came"
    );
}

#[test]
fn growth_is_stopped_while_it_happens() {
    // Each of these would take gigabytes before a look at the result.
    for statement in [
        r#"set(attributes["x"], attributes)"#.to_owned(),
        r#"merge_maps(attributes, attributes, "upsert")"#.to_owned(),
        format!(r#"replace_pattern(body, "[a-z]", "{}")"#, "x".repeat(100_000)),
        format!(r#"replace_all_patterns(attributes, "value", "[a-z@.]+", "{}")"#, "$0".repeat(10_000)),
        format!(r#"set(body, Concat([body, "{}"], ""))"#, "x".repeat(50_000)),
    ] {
        let change = Change::parse(&statement, Some("log"), &mut GroupConditions::default(), Signal::Logs)
            .expect("a statement");
        let many = processors(Signal::Logs, Processor::Transform(vec![change; 1000]));
        let processed = many.process(Signal::Logs, part(Signal::Logs, logs().encode_to_vec()));
        let merges_nothing_new = statement.starts_with("merge_maps");
        assert_eq!(processed == Processed::Failed, !merges_nothing_new, "{statement:.60}");
    }
    let copy = |key: &str, from: &str| AttributeAction {
        target: ActionTarget::Key(key.to_owned()),
        operation: ActionOperation::Set {
            when: SetWhen::Always,
            source: ActionSource::Attribute(from.to_owned()),
        },
    };
    let copies = (0..1000).map(|nth| copy(&format!("copy-{nth}-{}", "x".repeat(100)), "user")).collect();
    let copies = processors(Signal::Logs, Processor::Attributes(copies));
    assert_eq!(copies.process(Signal::Logs, part(Signal::Logs, logs().encode_to_vec())), Processed::Failed);
}

#[test]
fn long_texts_are_replaced_whole() {
    let long = format!("{} jane@example.com", "x".repeat(200_000));
    let mut request = logs();
    request.resource_logs[0].scope_logs[0].log_records[0].body = text(&long);
    let change = Change::parse(
        r#"replace_pattern(body, "[a-z]+@", "***@")"#,
        Some("log"),
        &mut GroupConditions::default(),
        Signal::Logs,
    );
    let masking = processors(Signal::Logs, Processor::Transform(vec![change.expect("a statement")]));
    let Processed::Kept { bytes, .. } =
        masking.process(Signal::Logs, part(Signal::Logs, request.encode_to_vec()))
    else {
        panic!("it is kept")
    };
    let masked = ExportLogsServiceRequest::decode(bytes).expect("a request");
    let body = &masked.resource_logs[0].scope_logs[0].log_records[0].body;
    assert_eq!(*body, text(&long.replace("jane@", "***@")));
}

#[test]
fn events_are_filtered_alone() {
    let removal =
        Removal::parse(r#"name == "retry""#, Some("spanevent"), Signal::Traces).expect("a condition");
    let processors = processors(Signal::Traces, Processor::Filter(vec![removal]));
    let Processed::Kept { bytes, items: 1, .. } =
        processors.process(Signal::Traces, part(Signal::Traces, spans().encode_to_vec()))
    else {
        panic!("the span stays")
    };
    let request = ExportTraceServiceRequest::decode(bytes).expect("a request");
    assert!(request.resource_spans[0].scope_spans[0].spans[0].events.is_empty());
}

#[test]
fn resources_alone_are_edited_without_their_items() {
    let action =
        |key: &str, operation| AttributeAction { target: ActionTarget::Key(key.to_owned()), operation };
    let set = |when, source| ActionOperation::Set { when, source };
    let actions = vec![
        action("team", set(SetWhen::Missing, ActionSource::Value(OttlValue::Int(5)))),
        action("copy", set(SetWhen::Always, ActionSource::Attribute("service.name".to_owned()))),
        action("service.name", ActionOperation::Delete),
    ];
    let processors = processors(Signal::Logs, Processor::Resource(actions));
    let mut edited = logs();
    let resource = edited.resource_logs[0].resource.as_mut().expect("a resource");
    processors.resource_edit(Signal::Logs).expect("resources alone")(resource);
    let Processed::Kept { bytes, .. } =
        processors.process(Signal::Logs, part(Signal::Logs, logs().encode_to_vec()))
    else {
        panic!("it is kept")
    };
    let processed = ExportLogsServiceRequest::decode(bytes).expect("a request");
    assert_eq!(processed.resource_logs[0].resource, edited.resource_logs[0].resource);
    let keys: Vec<_> = resource_keys(&edited);
    assert_eq!(keys, ["team", "copy"]);
    let removal = Removal::parse("true", Some("log"), Signal::Logs).expect("a condition");
    assert!(
        self::processors(Signal::Logs, Processor::Filter(vec![removal]))
            .resource_edit(Signal::Logs)
            .is_none()
    );
}

fn resource_keys(request: &ExportLogsServiceRequest) -> Vec<&str> {
    let resource = request.resource_logs[0].resource.as_ref().expect("a resource");
    resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect()
}

/// Texts of the fragments that statements have.
fn statement() -> impl Strategy<Value = String> {
    let fragment = prop::sample::select(vec![
        "set(",
        "delete_key(",
        "replace_pattern(",
        "keep_keys(",
        "attributes",
        "[\"user\"]",
        "resource.",
        "log.",
        "body",
        "severity_number",
        "IsMatch(",
        "Concat([",
        "Substring(",
        "ParseJSON(",
        ")",
        "(",
        "[",
        "]",
        ",",
        ".",
        "==",
        "!=",
        "<",
        ">=",
        " and ",
        " or ",
        " not ",
        " where ",
        "nil",
        "true",
        "3",
        "-1",
        "0.5",
        "+",
        "*",
        "/",
        "\"a\"",
        "\"[a-z]+\"",
        "\"(\"",
        "\"$1\"",
        "SEVERITY_NUMBER_ERROR",
        "\"",
        "\\",
        "é",
        "9999999999999999999999",
    ]);
    prop::collection::vec(fragment, 0..24).prop_map(|fragments| fragments.concat())
}

/// Empty spans, which take a hundred times their bytes in memory.
#[test]
fn many_empty_items_are_processed_in_parts() {
    let spans = 500_000;
    let scope_spans = vec![ScopeSpans { spans: vec![Span::default(); spans], ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { scope_spans, resource: resource(), ..ResourceSpans::default() }];
    let request = part(Signal::Traces, ExportTraceServiceRequest { resource_spans }.encode_to_vec());
    assert!(decoded_size(Signal::Traces, &request.bytes) > DECODED_LIMIT);
    let kept = change("span", "set(name, \"a\")", Signal::Traces).process(Signal::Traces, request.clone());
    let Processed::Kept { bytes, items, too_large: 0 } = kept else { panic!("{kept:?}") };
    assert_eq!(items, spans);
    assert_eq!(crate::otlp::validate(Signal::Traces, &bytes), Ok(spans));
    let removal = Removal::parse("name == \"\"", Some("span"), Signal::Traces).expect("a condition");
    let filter = processors(Signal::Traces, Processor::Filter(vec![removal]));
    assert_eq!(filter.process(Signal::Traces, request), Processed::Filtered);
}

#[test]
fn an_item_that_would_take_the_memory_is_dropped_alone() {
    let large = LogRecord { attributes: vec![KeyValue::default(); 1_000_000], ..LogRecord::default() };
    let mut log_records = vec![LogRecord::default(); 10_000];
    log_records.push(large);
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    let request = part(Signal::Logs, ExportLogsServiceRequest { resource_logs }.encode_to_vec());
    let processed = change("log", "set(body, \"a\")", Signal::Logs).process(Signal::Logs, request);
    assert!(matches!(processed, Processed::Kept { items: 10_000, too_large: 1, .. }), "{processed:?}");
}

/// A group that would take a gigabyte if each of its statements had its own conditions.
#[test]
fn statements_of_a_group_share_its_conditions() {
    let texts = (0..1_000).map(|number| format!("IsMatch(body, \"a{number}\")")).collect();
    let mut conditions = GroupConditions::new(texts);
    let change = |conditions: &mut GroupConditions| {
        Change::parse("set(body, \"b\")", Some("log"), conditions, Signal::Logs).expect("a statement")
    };
    let (first, second) = (change(&mut conditions), change(&mut conditions));
    assert_eq!(first.conditions.len(), 1_000);
    assert!(Arc::ptr_eq(&first.conditions, &second.conditions));
}

fn change(context: &str, statement: &str, signal: Signal) -> Processors {
    let change = Change::parse(statement, Some(context), &mut GroupConditions::default(), signal)
        .expect("a statement");
    processors(signal, Processor::Transform(vec![change]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_statement_causes_a_panic(text in statement(), flat in any::<bool>()) {
        let context = if flat { None } else { Some("log") };
        let request = logs().encode_to_vec();
        if let Ok(change) = Change::parse(&text, context, &mut GroupConditions::default(), Signal::Logs) {
            let _ = processors(Signal::Logs, Processor::Transform(vec![change])).process(Signal::Logs, part(Signal::Logs, request.clone()));
        }
        if let Ok(removal) = Removal::parse(&text, context, Signal::Logs) {
            let _ = processors(Signal::Logs, Processor::Filter(vec![removal])).process(Signal::Logs, part(Signal::Logs, request.clone()));
        }
    }
}
