use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::lambda::telemetry_api;
use crate::otlp::attribute::string;
use crate::otlp::request::{RequestEnvelope, scope};
use crate::signal::Signal;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_665_532_800;
/// The time of the first event in all tests.
const ZERO: u64 = SECOND * 1_000 * MS;
const A: &str = "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa";
const B: &str = "79b4f56e-95b1-4643-9700-2807f4e68189";
const ALL: PlatformOutputs = PlatformOutputs { metrics: true, spans: true, logs: true };
const DEFAULT: PlatformOutputs = PlatformOutputs { metrics: true, spans: true, logs: false };

fn platform(outputs: PlatformOutputs) -> Platform {
    let function_name = "orders".to_owned();
    Platform::new(PlatformSettings {
        outputs,
        function_name,
        init_type: InitType::OnDemand,
        ..PlatformSettings::default()
    })
}

/// Formats a time this many milliseconds after the first event.
fn at(milliseconds: u64) -> String {
    format!("2022-10-12T00:00:{:02}.{:03}Z", milliseconds / 1_000, milliseconds % 1_000)
}

fn event(milliseconds: u64, kind: &str, record: Value) -> Value {
    let mut event = json!({"time": at(milliseconds), "type": format!("platform.{kind}")});
    event["record"] = record;
    event
}

fn phase(name: &str, start: u64, duration: f64) -> Value {
    json!({"name": name, "start": at(start), "durationMs": duration})
}

/// The events of an init from 0 to 125 ms.
fn init() -> Vec<Value> {
    vec![
        event(
            0,
            "initStart",
            json!({"initializationType": "on-demand", "phase": "init", "runtimeVersion": "nodejs:22.v5", "instanceId": "82561ce0-53dd-47d1-90e0-c8f5e063e62e"}),
        ),
        event(
            100,
            "initRuntimeDone",
            json!({"initializationType": "on-demand", "phase": "init", "status": "success", "spans": []}),
        ),
        event(
            126,
            "initReport",
            json!({"initializationType": "on-demand", "phase": "init", "status": "success", "metrics": {"durationMs": 125.0}}),
        ),
    ]
}

fn start(milliseconds: u64, id: &str) -> Value {
    let tracing = json!({"spanId": "54565fb41ac79632", "type": "X-Amzn-Trace-Id", "value": "Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=1"});
    event(milliseconds, "start", json!({"requestId": id, "version": "$LATEST", "tracing": tracing}))
}

/// The end of an invocation that took 140 ms.
fn done(milliseconds: u64, id: &str) -> Value {
    let start = milliseconds - 140;
    let spans = [
        phase("responseLatency", start, 120.0),
        phase("responseDuration", start + 120, 0.5),
        phase("runtimeOverhead", start + 121, 19.0),
    ];
    event(
        milliseconds,
        "runtimeDone",
        json!({"requestId": id, "status": "success", "metrics": {"durationMs": 140.0, "producedBytes": 16}, "spans": spans}),
    )
}

fn failed(milliseconds: u64, id: &str, status: &str, error_type: &str) -> Value {
    event(
        milliseconds,
        "runtimeDone",
        json!({"requestId": id, "status": status, "errorType": error_type, "metrics": {"durationMs": 140.0}}),
    )
}

fn report(milliseconds: u64, id: &str) -> Value {
    let metrics = json!({"billedDurationMs": 161, "durationMs": 160.25, "initDurationMs": 125.0, "maxMemoryUsedMB": 84, "memorySizeMB": 128});
    let spans = [phase("extensionOverhead", milliseconds - 20, 20.0)];
    event(
        milliseconds,
        "report",
        json!({"requestId": id, "status": "success", "metrics": metrics, "spans": spans}),
    )
}

fn deliver(platform: &mut Platform, events: &[Value]) -> PlatformTelemetry {
    let body = serde_json::to_vec(events).unwrap();
    let delivery = telemetry_api::read(&body);
    assert_eq!(delivery.lost, 0);
    let now = ZERO + 60_000 * MS;
    platform.on_events(&PlatformEvent::in_order(&delivery.events, now), now);
    platform.take_telemetry()
}

/// Formats telemetry for snapshots, with times in milliseconds since the first event.
fn shown(telemetry: &PlatformTelemetry) -> String {
    let time =
        |nanos: u64| format!("{}", nanos.cast_signed().saturating_sub(ZERO.cast_signed()) / MS.cast_signed());
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let of =
        |invocation: &Option<Arc<str>>| invocation.as_ref().map_or("-".to_owned(), |id| id[..4].to_owned());
    let mut lines = Vec::new();
    for (invocation, record) in &telemetry.logs {
        let body = record.body.as_ref().and_then(|body| body.value.clone());
        let Some(Any::StringValue(body)) = body else { panic!("{record:?}") };
        lines.push(format!(
            "log of {} at {}: {} {body}",
            of(invocation),
            time(record.time_unix_nano),
            record.severity_text
        ));
        lines.push(format!("    {}", attributes(&record.attributes)));
    }
    for (invocation, spans) in &telemetry.spans {
        for span in spans {
            let trace = &hex(&span.trace_id)[..4];
            let (id, parent) = (hex(&span.span_id), hex(&span.parent_span_id));
            let parent = if parent.is_empty() { "-" } else { &parent[..4] };
            let interval = format!("{}..{}", time(span.start_time_unix_nano), time(span.end_time_unix_nano));
            let status = span
                .status
                .as_ref()
                .map_or(String::new(), |status| format!(" {:?} {:?}", status.code(), status.message));
            lines.push(format!(
                "span of {} {trace}/{parent}/{} {:?} {interval} {}{status}",
                of(invocation),
                &id[..4],
                span.kind(),
                span.name
            ));
            if !span.attributes.is_empty() {
                lines.push(format!("    {}", attributes(&span.attributes)));
            }
        }
    }
    for metric in &telemetry.metrics {
        let (from, to, value) = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => (
                sum.data_points[0].start_time_unix_nano,
                sum.data_points[0].time_unix_nano,
                format!("{:?}", sum.data_points[0].value.unwrap()),
            ),
            Data::Gauge(gauge) => (
                gauge.data_points[0].start_time_unix_nano,
                gauge.data_points[0].time_unix_nano,
                format!("{:?}", gauge.data_points[0].value.unwrap()),
            ),
            Data::Histogram(histogram) => {
                let point = &histogram.data_points[0];
                let full = point.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0);
                let full: Vec<_> = full.map(|(bucket, count)| format!("{bucket}:{count}")).collect();
                (
                    point.start_time_unix_nano,
                    point.time_unix_nano,
                    format!("{} in buckets {}", point.sum.unwrap(), full.join(" ")),
                )
            }
            other => panic!("{other:?}"),
        };
        lines.push(format!("{} {}..{} {value} {}", metric.name, time(from), time(to), metric.unit));
    }
    lines.extend(telemetry.cut_off().map(|request_id| format!("cut off {}", &request_id[..4])));
    lines.join("\n")
}

fn attributes(attributes: &[KeyValue]) -> String {
    let shown = |attribute: &KeyValue| {
        let value = match attribute.value.clone().unwrap().value.unwrap() {
            Any::StringValue(text) => text,
            Any::DoubleValue(number) => number.to_string(),
            Any::BoolValue(holds) => holds.to_string(),
            other => panic!("{other:?}"),
        };
        format!("{}={value}", attribute.key)
    };
    attributes.iter().map(shown).collect::<Vec<_>>().join(" ")
}

fn invoke(request_id: &str) -> Invoke<'_> {
    Invoke { request_id, arn: None, xray: None, deadline_ms: Some(ZERO / MS + 3_000) }
}

#[test]
fn report_data_is_sent_with_the_next_invocation() {
    let mut platform = platform(DEFAULT);
    assert_eq!(shown(&deliver(&mut platform, &init())), "");
    let arn = Some("arn:aws:lambda:eu-west-1:1:function:orders");
    platform.invoked(&Invoke { arn, ..invoke(A) }, ZERO + 132 * MS);
    insta::assert_snapshot!(shown(&deliver(&mut platform, &[start(130, A), done(270, A)])), @"
    span of 6d68 62e9/-/f4bf Server 130..270 orders
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=true aws.lambda.invoked_arn=arn:aws:lambda:eu-west-1:1:function:orders
    span of 6d68 62e9/f4bf/0b11 Internal 0..125 init
    span of 6d68 62e9/0b11/2e29 Internal 0..100 init runtime
    span of 6d68 62e9/f4bf/375b Internal 130..250 responseLatency
    span of 6d68 62e9/f4bf/e96b Internal 250..250 responseDuration
    span of 6d68 62e9/f4bf/c16f Internal 251..270 runtimeOverhead
    faas.invocations 130..270 AsInt(1) {invocation}
    faas.coldstarts 130..270 AsInt(1) {coldstart}
    faas.invoke_duration 130..270 0.14 in buckets 6:1 s
    faas.init_duration 1..126 0.125 in buckets 6:1 s
    aws.lambda.produced_bytes 130..270 AsInt(16) By
    ");
    platform.invoked(&invoke(B), ZERO + 1_001 * MS);
    insta::assert_snapshot!(shown(&deliver(&mut platform, &[report(291, A)])), @"span of 6d68 62e9/f4bf/909d Internal 271..291 extensionOverhead");
    insta::assert_snapshot!(shown(&deliver(&mut platform, &[start(1_000, B), done(1_140, B)])), @"
    span of 79b4 62e9/-/eddc Server 1000..1140 orders
        faas.invocation_id=79b4f56e-95b1-4643-9700-2807f4e68189 faas.coldstart=false
    span of 79b4 62e9/eddc/040b Internal 1000..1120 responseLatency
    span of 79b4 62e9/eddc/24a9 Internal 1120..1120 responseDuration
    span of 79b4 62e9/eddc/546c Internal 1121..1140 runtimeOverhead
    faas.invocations 1000..1140 AsInt(1) {invocation}
    faas.invoke_duration 1000..1140 0.14 in buckets 6:1 s
    faas.mem_usage 130..291 88080384 in buckets 2:1 By
    aws.lambda.billed_duration 130..291 AsDouble(0.161) s
    aws.lambda.post_runtime_extensions_duration 130..291 0.02 in buckets 2:1 s
    aws.lambda.produced_bytes 1000..1140 AsInt(16) By
    aws.lambda.memory_size 130..291 AsInt(134217728) By
    ");
}

#[test]
fn duplicate_events_count_once() {
    let mut platform = platform(ALL);
    let mut events = init();
    events.extend([start(130, A), done(270, A), report(291, A)]);
    let once = shown(&deliver(&mut platform, &events));
    assert!(once.contains("faas.invocations") && once.contains("REPORT"), "{once}");
    assert_eq!(shown(&deliver(&mut platform, &events)), "");
    platform.invoked(&invoke(A), ZERO + 131 * MS);
    platform.shut_down(ShutdownReason::Spindown, ZERO + 2_000 * MS);
    assert_eq!(shown(&deliver(&mut platform, &events)), "");
}

#[test]
fn order_within_a_delivery_is_ignored() {
    let mut events = init();
    events.extend([start(130, A), done(270, A), report(291, A)]);
    let straight = shown(&deliver(&mut platform(ALL), &events));
    events.reverse();
    assert_eq!(shown(&deliver(&mut platform(ALL), &events)), straight);
}

#[test]
fn report_before_runtime_done_ends_the_invocation() {
    let mut platform = platform(DEFAULT);
    let first = shown(&deliver(&mut platform, &[start(130, A), report(291, A)]));
    assert!(first.contains("faas.invocations") && first.contains("Server 130..290"), "{first}");
    insta::assert_snapshot!(shown(&deliver(&mut platform, &[done(270, A)])), @"
    span of 6d68 62e9/89b8/375b Internal 130..250 responseLatency
    span of 6d68 62e9/89b8/e96b Internal 250..250 responseDuration
    span of 6d68 62e9/89b8/c16f Internal 251..270 runtimeOverhead
    ");
    platform.shut_down(ShutdownReason::Failure, ZERO + 2_000 * MS);
    insta::assert_snapshot!(shown(&platform.take_telemetry()), @"aws.lambda.produced_bytes 130..270 AsInt(16) By");
}

#[test]
fn end_alone_gives_the_whole_interval() {
    let telemetry = deliver(&mut platform(DEFAULT), &[done(270, A)]);
    assert!(shown(&telemetry).contains("Server 130..270 orders"), "{}", shown(&telemetry));
}

#[test]
fn repeated_asynchronous_invocation_counts_again() {
    let mut platform = platform(DEFAULT);
    platform.invoked(&invoke(A), ZERO + 130 * MS);
    let first = shown(&deliver(&mut platform, &[start(130, A), failed(270, A, "error", "Function.Unknown")]));
    assert!(first.contains("faas.errors"), "{first}");
    platform.invoked(&invoke(A), ZERO + 1_000 * MS);
    // The first attempt again, and its report twice.
    let old = [start(130, A), failed(270, A, "error", "Function.Unknown"), report(291, A)];
    assert_eq!(shown(&deliver(&mut platform, &old)).lines().count(), 1, "the report's phase");
    assert_eq!(shown(&deliver(&mut platform, &old)), "");
    let second = shown(&deliver(&mut platform, &[start(1_000, A), done(1_140, A), report(1_160, A)]));
    for counted in
        ["faas.invocations 1000..1140 AsInt(1)", "aws.lambda.billed_duration 130..1160 AsDouble(0.322)"]
    {
        assert!(second.contains(counted), "{second}");
    }
    assert_eq!(shown(&deliver(&mut platform, &[old[0].clone(), start(1_000, A), report(1_160, A)])), "");
    platform.shut_down(ShutdownReason::Spindown, ZERO + 2_000 * MS);
    assert_eq!(shown(&platform.take_telemetry()), "");
}

#[test]
fn late_end_belongs_to_the_earlier_attempt() {
    let mut platform = platform(DEFAULT);
    platform.invoked(&invoke(A), ZERO + 130 * MS);
    platform.invoked(&invoke(A), ZERO + 1_000 * MS);
    let first = shown(&deliver(&mut platform, &[start(130, A), failed(270, A, "error", "Function.Unknown")]));
    assert!(first.contains("faas.errors 130..270 AsInt(1)"), "{first}");
    let second = shown(&deliver(&mut platform, &[start(1_000, A), done(1_140, A)]));
    assert!(second.contains("faas.invocations 1000..1140 AsInt(1)"), "{second}");
}

#[test]
fn timeout_is_reported_at_once() {
    let mut platform = platform(DEFAULT);
    platform.invoked(&invoke(A), ZERO + 130 * MS);
    insta::assert_snapshot!(shown(&deliver(&mut platform, &[start(130, A), failed(270, A, "timeout", "Sandbox.Timedout")])), @r#"
    log of 6d68 at 270: error invocation 6d68ca91-49c9-448d-89b8-7ca3e6dc66aa timed out after 0.140 s (Sandbox.Timedout)
        aws.lambda.telemetry.type=platform aws.lambda.duration_ms=140 faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa aws.lambda.outcome=timeout error.type=Sandbox.Timedout
    span of 6d68 62e9/-/f4bf Server 130..270 orders Error "timed out"
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=true error.type=Sandbox.Timedout
    faas.coldstarts 130..270 AsInt(1) {coldstart}
    faas.timeouts 130..270 AsInt(1) {timeout}
    faas.invoke_duration 130..270 0.14 in buckets 6:1 s
    cut off 6d68
    "#);
    platform.shut_down(ShutdownReason::Timeout, ZERO + 280 * MS);
    assert_eq!(shown(&platform.take_telemetry()), "");
}

#[test]
fn crash_is_reported_once_the_memory_is_known() {
    let crash = [start(130, A), failed(270, A, "error", "Runtime.ExitError")];
    let memory = |used: u32| {
        event(
            280,
            "report",
            json!({"requestId": A, "status": "error", "errorType": "Runtime.ExitError", "metrics": {"durationMs": 150.0, "maxMemoryUsedMB": used, "memorySizeMB": 128}}),
        )
    };

    let mut spared = platform(DEFAULT);
    let telemetry = shown(&deliver(&mut spared, &crash));
    assert!(
        telemetry.contains("cut off 6d68")
            && !telemetry.contains("Server")
            && !telemetry.contains("faas.errors"),
        "{telemetry}"
    );
    spared.shut_down(ShutdownReason::Failure, ZERO + 290 * MS);
    insta::assert_snapshot!(shown(&spared.take_telemetry()), @r#"
    log of 6d68 at 270: error invocation 6d68ca91-49c9-448d-89b8-7ca3e6dc66aa crashed after 0.140 s (Runtime.ExitError)
        aws.lambda.telemetry.type=platform aws.lambda.duration_ms=140 faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa aws.lambda.outcome=crash error.type=Runtime.ExitError
    span of 6d68 62e9/-/89b8 Server 130..270 orders Error "crashed"
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=true error.type=Runtime.ExitError
    faas.coldstarts 130..270 AsInt(1) {coldstart}
    faas.errors 130..270 AsInt(1) {error}
    faas.invoke_duration 130..270 0.14 in buckets 6:1 s
    "#);
    assert!(!shown(&deliver(&mut spared, &[memory(128)])).contains("log of"));

    let mut exhausted = platform(DEFAULT);
    deliver(&mut exhausted, &crash);
    insta::assert_snapshot!(shown(&deliver(&mut exhausted, &[memory(128)])), @r#"
    log of 6d68 at 270: error invocation 6d68ca91-49c9-448d-89b8-7ca3e6dc66aa ran out of memory after 0.140 s, memory used: 128 of 128 MB (Runtime.ExitError)
        aws.lambda.telemetry.type=platform aws.lambda.duration_ms=140 aws.lambda.max_memory_used_mb=128 aws.lambda.memory_size_mb=128 faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa aws.lambda.outcome=out_of_memory error.type=Runtime.ExitError
    span of 6d68 62e9/-/89b8 Server 130..270 orders Error "ran out of memory"
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=true error.type=Runtime.ExitError
    faas.coldstarts 130..270 AsInt(1) {coldstart}
    faas.errors 130..270 AsInt(1) {error}
    faas.invoke_duration 130..270 0.14 in buckets 6:1 s
    faas.mem_usage 130..280 134217728 in buckets 2:1 By
    aws.lambda.post_runtime_extensions_duration 130..280 0.01 in buckets 1:1 s
    aws.lambda.memory_size 130..280 AsInt(134217728) By
    "#);
    exhausted.shut_down(ShutdownReason::Failure, ZERO + 290 * MS);
    assert!(!shown(&exhausted.take_telemetry()).contains("log of"));

    let mut next = platform(DEFAULT);
    deliver(&mut next, &crash);
    next.invoked(&invoke(B), ZERO + 1_000 * MS);
    let reported = shown(&next.take_telemetry());
    assert!(
        reported.contains("log of") && reported.contains("Server") && reported.contains("faas.errors"),
        "{reported}"
    );
}

#[test]
fn shutdown_with_a_reason_ends_the_running_invocation() {
    let mut platform = platform(DEFAULT);
    // The end of this one was lost.
    platform.invoked(&invoke(A), ZERO + 130 * MS);
    platform.invoked(&invoke(B), ZERO + 1_000 * MS);
    deliver(&mut platform, &[start(999, B)]);
    platform.shut_down(ShutdownReason::Timeout, ZERO + 3_999 * MS);
    insta::assert_snapshot!(shown(&platform.take_telemetry()), @r#"
    log of 79b4 at 3999: error invocation 79b4f56e-95b1-4643-9700-2807f4e68189 timed out after 3.000 s
        aws.lambda.telemetry.type=platform aws.lambda.duration_ms=3000 faas.invocation_id=79b4f56e-95b1-4643-9700-2807f4e68189 aws.lambda.outcome=timeout error.type=timeout
    span of 79b4 62e9/-/eddc Server 999..3999 orders Error "timed out"
        faas.invocation_id=79b4f56e-95b1-4643-9700-2807f4e68189 faas.coldstart=false error.type=timeout
    faas.timeouts 999..3999 AsInt(1) {timeout}
    faas.invoke_duration 999..3999 3 in buckets 11:1 s
    cut off 79b4
    "#);
    let late = shown(&deliver(&mut platform, &[failed(3_990, B, "timeout", "Sandbox.Timedout")]));
    assert_eq!(late, "");
}

#[test]
fn spindown_ends_no_invocation() {
    let mut platform = platform(ALL);
    platform.invoked(&invoke(A), ZERO + 130 * MS);
    platform.shut_down(ShutdownReason::Spindown, ZERO + 3_999 * MS);
    assert_eq!(shown(&platform.take_telemetry()), "");
}

#[test]
fn failed_init_is_logged_and_traced() {
    let mut platform = platform(DEFAULT);
    let failure = json!({"initializationType": "on-demand", "phase": "init", "status": "error", "errorType": "Runtime.ExitError"});
    let first = deliver(&mut platform, &[init()[0].clone(), event(100, "initRuntimeDone", failure.clone())]);
    insta::assert_snapshot!(shown(&first), @"
    log of - at 100: error init of the execution environment failed (Runtime.ExitError)
        aws.lambda.telemetry.type=platform aws.lambda.outcome=init_failure error.type=Runtime.ExitError
    ");
    assert_eq!(shown(&deliver(&mut platform, &[event(101, "initReport", failure)])), "");
    platform.shut_down(ShutdownReason::Failure, ZERO + 110 * MS);
    insta::assert_snapshot!(shown(&platform.take_telemetry()), @r#"
    span of - 7632/-/9898 Internal 0..101 init Error "crashed"
        error.type=Runtime.ExitError
    span of - 7632/9898/ed52 Internal 0..100 init runtime
    "#);
}

#[test]
fn init_ahead_of_time_has_its_own_trace() {
    let settings = PlatformSettings {
        outputs: DEFAULT,
        function_name: "orders".to_owned(),
        ..PlatformSettings::default()
    };
    let mut platform = Platform::new(settings);
    insta::assert_snapshot!(shown(&deliver(&mut platform, &init())), @"
    span of - 7632/-/9898 Internal 0..125 init
    span of - 7632/9898/ed52 Internal 0..100 init runtime
    ");
    let first = shown(&deliver(&mut platform, &[start(1_000, A), done(1_140, A)]));
    assert!(
        !first.contains("coldstart=true") && !first.contains("coldstarts") && !first.contains(" init"),
        "{first}"
    );
}

fn envelope(resource: &Resource) -> RequestEnvelope {
    RequestEnvelope::new(resource, &scope(SCOPE))
}

#[test]
fn stage_spans_move_below_the_sdk_span() {
    let span_of_sdk = TraceContext { trace_id: [7; 16], span_id: [8; 8], sampled: true };
    let adopted = |events: &[Value], span| {
        let mut platform = platform(DEFAULT);
        deliver(&mut platform, &init());
        let chunks = deliver(&mut platform, events).into_chunks(&envelope(&Resource::default()));
        let traces = chunks.iter().find(|chunk| chunk.signal == Signal::Traces).expect("spans");
        let adopted = super::reparent_stage_spans(&traces.bytes, span)?;
        assert_eq!(adopted.spans, 2);
        let request = ExportTraceServiceRequest::decode(adopted.bytes).expect("spans");
        let scopes = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).collect();
        Some(shown(&PlatformTelemetry { spans: vec![(None, spans)], ..PlatformTelemetry::default() }))
    };
    let cold = [start(130, A), done(270, A)];
    insta::assert_snapshot!(adopted(&cold, Some(span_of_sdk)).expect("spans"), @"
    span of - 0707/0808/0b11 Internal 0..125 init
    span of - 0707/0b11/2e29 Internal 0..100 init runtime
    ");
    insta::assert_snapshot!(adopted(&cold, None).expect("spans"), @"
    span of - 62e9/-/0b11 Internal 0..125 init
    span of - 62e9/0b11/2e29 Internal 0..100 init runtime
    ");
    let mut warm = platform(DEFAULT);
    deliver(&mut warm, &cold);
    let chunks =
        deliver(&mut warm, &[start(1_000, B), done(1_140, B)]).into_chunks(&envelope(&Resource::default()));
    let traces = chunks.iter().find(|chunk| chunk.signal == Signal::Traces).expect("spans");
    assert_eq!(super::reparent_stage_spans(&traces.bytes, Some(span_of_sdk)), None);
}

#[test]
fn restore_belongs_to_the_invocation_that_waited() {
    let settings = PlatformSettings {
        outputs: DEFAULT,
        function_name: "orders".to_owned(),
        init_type: InitType::Restored,
        ..PlatformSettings::default()
    };
    let mut platform = Platform::new(settings);
    let restore = [
        event(0, "restoreStart", json!({"functionName": "orders"})),
        event(10, "restoreRuntimeDone", json!({"status": "success"})),
        event(16, "restoreReport", json!({"status": "success", "metrics": {"durationMs": 15.5}})),
    ];
    assert_eq!(shown(&deliver(&mut platform, &restore)), "");
    insta::assert_snapshot!(shown(&deliver(&mut platform, &[start(20, A), done(160, A)])), @"
    span of 6d68 62e9/-/89b8 Server 20..160 orders
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=true
    span of 6d68 62e9/89b8/7508 Internal 0..15 restore
    span of 6d68 62e9/7508/0675 Internal 0..10 restore runtime
    span of 6d68 62e9/89b8/cbcd Internal 20..140 responseLatency
    span of 6d68 62e9/89b8/7844 Internal 140..140 responseDuration
    span of 6d68 62e9/89b8/6f4a Internal 141..160 runtimeOverhead
    faas.invocations 20..160 AsInt(1) {invocation}
    faas.coldstarts 20..160 AsInt(1) {coldstart}
    faas.invoke_duration 20..160 0.14 in buckets 6:1 s
    aws.lambda.restore_duration 0..16 0.0155 in buckets 2:1 s
    aws.lambda.produced_bytes 20..160 AsInt(16) By
    ");
}

#[test]
fn report_ends_invocations_on_managed_instances() {
    let settings = PlatformSettings {
        outputs: DEFAULT,
        function_name: "orders".to_owned(),
        concurrent: true,
        ..PlatformSettings::default()
    };
    let mut platform = Platform::new(settings);
    let report = |milliseconds, id: &str, status: &str, took: f64| {
        event(
            milliseconds,
            "report",
            json!({"requestId": id, "status": status, "metrics": {"durationMs": took}, "spans": [phase("responseLatency", 10, 1.0)]}),
        )
    };
    let events = [start(10, A), start(12, B), report(40, B, "success", 20.0), report(50, A, "error", 30.0)];
    insta::assert_snapshot!(shown(&deliver(&mut platform, &events)), @r#"
    span of 79b4 62e9/-/9700 Server 12..32 orders
        faas.invocation_id=79b4f56e-95b1-4643-9700-2807f4e68189 faas.coldstart=false
    span of 79b4 62e9/9700/3420 Internal 10..11 responseLatency
    span of 6d68 62e9/-/89b8 Server 10..40 orders Error ""
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=false error.type=error
    span of 6d68 62e9/89b8/8afa Internal 10..11 responseLatency
    faas.invocations 12..32 AsInt(1) {invocation}
    faas.errors 10..40 AsInt(1) {error}
    faas.invoke_duration 10..40 0.05 in buckets 2:1 3:1 s
    "#);
}

#[test]
fn xray_span_is_the_parent_if_enabled() {
    let settings = PlatformSettings {
        outputs: DEFAULT,
        function_name: "orders".to_owned(),
        xray_parents: true,
        ..PlatformSettings::default()
    };
    let telemetry = deliver(&mut Platform::new(settings), &[start(130, A), done(270, A)]);
    insta::assert_snapshot!(shown(&PlatformTelemetry { metrics: Vec::new(), ..telemetry }), @"
    span of 6d68 62e9/0efb/89b8 Server 130..270 orders
        faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.coldstart=false
    span of 6d68 62e9/89b8/375b Internal 130..250 responseLatency
    span of 6d68 62e9/89b8/e96b Internal 250..250 responseDuration
    span of 6d68 62e9/89b8/c16f Internal 251..270 runtimeOverhead
    ");
}

#[test]
fn events_are_log_records_if_enabled() {
    let mut events = init();
    events.extend([
        start(130, A),
        failed(270, A, "error", "Function.Unknown"),
        report(291, A),
        event(1, "extension", json!({"name": "rotel-extension", "state": "Ready", "events": ["INVOKE"]})),
        event(
            2,
            "telemetrySubscription",
            json!({"name": "rotel-extension", "state": "Subscribed", "types": ["platform"]}),
        ),
        event(
            300,
            "logsDropped",
            json!({"droppedBytes": 12345, "droppedRecords": 123, "reason": "too slow"}),
        ),
        event(301, "fault", json!("RequestId: gone")),
    ]);
    let outputs = PlatformOutputs { logs: true, ..PlatformOutputs::default() };
    insta::assert_snapshot!(shown(&deliver(&mut platform(outputs), &events)), @"
    log of - at 0: info INIT_START Runtime Version: nodejs:22.v5
        aws.lambda.telemetry.type=platform.initStart aws.lambda.runtime_version=nodejs:22.v5 aws.lambda.initialization_type=on-demand aws.lambda.phase=init
    log of - at 126: info INIT_REPORT Init Duration: 125 ms Phase: init
        aws.lambda.telemetry.type=platform.initReport aws.lambda.init_duration_ms=125 aws.lambda.phase=init aws.lambda.status=success
    log of - at 1: info EXTENSION Name: rotel-extension State: Ready
        aws.lambda.telemetry.type=platform.extension aws.lambda.extension.name=rotel-extension aws.lambda.extension.state=Ready
    log of - at 2: info TELEMETRY Name: rotel-extension State: Subscribed
        aws.lambda.telemetry.type=platform.telemetrySubscription aws.lambda.extension.name=rotel-extension aws.lambda.extension.state=Subscribed
    log of - at 300: warn LOGS_DROPPED Records: 123 Bytes: 12345 Reason: too slow
        aws.lambda.telemetry.type=platform.logsDropped aws.lambda.dropped_records=123 aws.lambda.dropped_bytes=12345 aws.lambda.reason=too slow
    log of - at 301: error FAULT Reason: RequestId: gone
        aws.lambda.telemetry.type=platform.fault aws.lambda.reason=RequestId: gone
    log of 6d68 at 130: info START RequestId: 6d68ca91-49c9-448d-89b8-7ca3e6dc66aa Version: $LATEST
        aws.lambda.telemetry.type=platform.start faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa faas.version=$LATEST
    log of 6d68 at 270: info END RequestId: 6d68ca91-49c9-448d-89b8-7ca3e6dc66aa Status: error Error Type: Function.Unknown
        aws.lambda.telemetry.type=platform.runtimeDone faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa aws.lambda.duration_ms=140 aws.lambda.status=error error.type=Function.Unknown
    log of 6d68 at 291: info REPORT RequestId: 6d68ca91-49c9-448d-89b8-7ca3e6dc66aa Duration: 160.25 ms Billed Duration: 161 ms Memory Size: 128 MB Max Memory Used: 84 MB Init Duration: 125 ms
        aws.lambda.telemetry.type=platform.report faas.invocation_id=6d68ca91-49c9-448d-89b8-7ca3e6dc66aa aws.lambda.duration_ms=160.25 aws.lambda.billed_duration_ms=161 aws.lambda.memory_size_mb=128 aws.lambda.max_memory_used_mb=84 aws.lambda.init_duration_ms=125 aws.lambda.status=success
    ");
}

#[test]
fn timeouts_are_logged_even_if_all_outputs_are_off() {
    let mut platform = platform(PlatformOutputs::default());
    let mut events = init();
    events.extend([start(130, A), done(270, A), report(291, A)]);
    assert_eq!(shown(&deliver(&mut platform, &events)), "");
    let timeout =
        shown(&deliver(&mut platform, &[start(400, B), failed(900, B, "timeout", "Sandbox.Timedout")]));
    assert_eq!(timeout.lines().count(), 2, "{timeout}");
}

#[test]
fn memory_of_invocations_is_bounded() {
    let mut platform = platform(ALL);
    for number in 0..10_000 {
        deliver(
            &mut platform,
            &[
                start(130, &format!("request-{number}")),
                event(130, "extension", json!({"name": number.to_string()})),
            ],
        );
    }
    assert!(platform.invocations.iter_mut().count() <= 64 && platform.recent.len() <= 32);
}

#[test]
fn data_points_of_a_metric_do_not_overlap() {
    let mut meter = Meter::default();
    meter.count(Instrument::Invocations, 10, 40);
    meter.count(Instrument::Invocations, 12, 50);
    meter.count(Instrument::Invocations, 45, 60);
    meter.take();
    meter.count(Instrument::Invocations, 20, 30);
    meter.count(Instrument::Invocations, 55, 70);
    let metrics = meter.take();
    let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
    assert_eq!((sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano), (60, 70));
}

/// The bytes that the default outputs add per invocation, with a resource as in Lambda. `cargo test -- --nocapture` prints
/// them.
#[test]
fn telemetry_of_an_invocation_is_small() {
    let facts = [
        ("cloud.provider", "aws"),
        ("cloud.platform", "aws_lambda"),
        ("faas.name", "orders"),
        ("faas.version", "$LATEST"),
        ("service.name", "orders"),
        ("cloud.region", "eu-west-1"),
        ("cloud.account.id", "123456789012"),
        ("cloud.resource_id", "arn:aws:lambda:eu-west-1:123456789012:function:orders"),
        ("faas.max_memory", "134217728"),
        ("faas.instance", "82561ce0-53dd-47d1-90e0-c8f5e063e62e"),
    ];
    let attributes = facts.iter().map(|(key, value)| string(key, value)).collect();
    let resource = Resource { attributes, ..Resource::default() };
    let mut platform = platform(DEFAULT);
    deliver(&mut platform, &[start(130, A), done(270, A)]);
    let telemetry = deliver(&mut platform, &[report(291, A), start(1_000, B), done(1_140, B)]);
    let chunks = telemetry.into_chunks(&envelope(&resource));
    let (mut plain, mut compressed) = (0, 0);
    for signal in Signal::ALL {
        let bytes: Vec<u8> = chunks
            .iter()
            .filter(|chunk| chunk.signal == signal)
            .flat_map(|chunk| chunk.bytes.to_vec())
            .collect();
        if bytes.is_empty() {
            continue;
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, &bytes).unwrap();
        let zipped = gzip.finish().unwrap().len();
        println!("{signal}: {} bytes, gzip {zipped}", bytes.len());
        plain += bytes.len();
        compressed += zipped;
    }
    println!("an invocation: {plain} bytes, gzip {compressed}");
    assert!(plain < 4_000 && compressed < 2_000, "{plain} {compressed}");
    let metrics = chunks.iter().find(|chunk| chunk.signal == Signal::Metrics).unwrap();
    let request = ExportMetricsServiceRequest::decode(metrics.bytes.as_ref()).unwrap();
    assert_eq!(request.resource_metrics[0].scope_metrics[0].metrics.len(), metrics.items);
}
