//! The telemetry made of the platform's events: traces of functions without an SDK, metrics, and records of failures
//! that the function cannot report itself.

use std::collections::BTreeMap;
use std::time::Duration;

use lambda_sandbox::collector::{Collector, Item, Protocol, Received};
use lambda_sandbox::{
    Builder, Failure, Fault, Function, Initialization, Invocation, Sandbox, ShutdownReason, Status, Transport,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, Status as SpanStatus, status::StatusCode};
use serde_json::Value;

use support::{PROTOCOLS, end, extension, sandbox};

fn printing() -> Function {
    Function::builtin(|context| async move {
        context.log("a plain line");
        Ok(Value::Null)
    })
}

/// A function that fails as its payload asks.
fn failing() -> Function {
    Function::builtin(|context| async move {
        match context.payload.as_str() {
            Some("error") => Err(Failure::new("Function.Broken", "no stock")),
            Some("exit") => Err(Failure::exit()),
            Some("memory") => Err(Failure::out_of_memory()),
            Some("timeout") => std::future::pending().await,
            _ => Ok(Value::Null),
        }
    })
}

/// A sandbox in which `forms` of telemetry are enabled.
fn asked_for(forms: &str, collector: &Collector) -> Builder {
    let extension = extension(collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_LAMBDA_PLATFORM_EVENTS", forms);
    Sandbox::builder().extension(extension).collector(collector).timeout(Duration::from_mins(5))
}

fn server_spans(received: &Received) -> Vec<Item<'_, Span>> {
    received.spans().filter(|span| span.is_of_platform() && span.item.kind() == SpanKind::Server).collect()
}

fn named<'a>(received: &'a Received, name: &str) -> Vec<&'a Span> {
    received.spans().map(|span| span.item).filter(|span| span.name == name).collect()
}

/// The records that say how an invocation ended.
fn ends(received: &Received) -> Vec<Item<'_, LogRecord>> {
    received
        .logs()
        .filter(|log| log.is_of_platform() && log.attribute("aws.lambda.outcome").is_some())
        .collect()
}

/// The sum of the points of each metric made of the platform's events; for distributions, the number of values.
fn totals(received: &Received) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for metric in received.metrics().filter(Item::is_of_platform) {
        let total: u64 = match &metric.item.data {
            Some(Data::Sum(sum)) => {
                let whole = |value| match value {
                    Some(Number::AsInt(number)) => number.unsigned_abs(),
                    _ => 1,
                };
                sum.data_points.iter().map(|point| whole(point.value)).sum()
            }
            Some(Data::Histogram(histogram)) => histogram.data_points.iter().map(|point| point.count).sum(),
            Some(Data::Gauge(gauge)) => gauge.data_points.len() as u64,
            other => panic!("{other:?}"),
        };
        *totals.entry(metric.item.name.clone()).or_insert(0) += total;
    }
    totals
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sdk_each_invocation_has_a_trace() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, protocol)
            .function_name("orders-function")
            .function(printing())
            .start()
            .await
            .expect("a sandbox");
        let mut invocations: Vec<Invocation> = Vec::new();
        for _ in 0..3 {
            invocations.push(sandbox.invoke(Value::Null).await.expect("an invocation"));
            // Its span is there when the next event is asked for.
            let at_next =
                invocations.last().and_then(|last| last.collector_at_next.clone()).expect("a collector");
            assert_eq!(server_spans(&at_next).len(), invocations.len());
        }
        end(&sandbox).await;
        let received = collector.received();
        let spans = server_spans(&received);
        assert_eq!(spans.len(), 3);
        for (number, (span, invocation)) in spans.iter().zip(&invocations).enumerate() {
            assert_eq!(span.item.name, "orders-function");
            assert_eq!(span.attribute("faas.invocation_id").as_deref(), Some(invocation.request_id.as_str()));
            assert_eq!(
                span.attribute("faas.coldstart").as_deref(),
                Some(if number == 0 { "true" } else { "false" })
            );
            assert!(
                span.attribute("aws.lambda.invoked_arn").is_some_and(|arn| arn.contains("orders-function"))
            );
            assert_eq!(span.resource_attribute("service.name").as_deref(), Some("orders-function"));
            assert!(span.item.status.is_none() && span.item.parent_span_id.is_empty());
            for phase in ["responseLatency", "responseDuration", "runtimeOverhead", "extensionOverhead"] {
                let phases = named(&received, phase);
                let of_this = phases.iter().filter(|phase| phase.parent_span_id == span.item.span_id);
                assert_eq!(of_this.count(), 1, "{phase} of invocation {number}");
            }
        }
        let lines: Vec<_> = received.logs().filter(|log| log.body() == "a plain line").collect();
        let of = |(line, span): (&Item<'_, LogRecord>, &Item<'_, Span>)| {
            (&line.item.trace_id, &line.item.span_id) == (&span.item.trace_id, &span.item.span_id)
        };
        assert!(lines.len() == 3 && lines.iter().zip(&spans).all(of), "{lines:?}");
        let inits = named(&received, "init");
        let [init] = inits.as_slice() else { panic!("{inits:?}") };
        let first = spans.first().expect("a span").item;
        assert_eq!((&init.trace_id, &init.parent_span_id), (&first.trace_id, &first.span_id));
        assert!(init.end_time_unix_nano <= first.start_time_unix_nano);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sdk_only_metrics_are_added() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::sample(Transport::Grpc);
    let sandbox = sandbox(&collector, Protocol::Grpc).function(function).start().await.expect("a sandbox");
    for _ in 0..3 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
    }
    end(&sandbox).await;
    let received = collector.received();
    assert_eq!(received.counts().spans, 9);
    assert!(server_spans(&received).is_empty());
    // But for what no SDK can see, in the first trace.
    let inits = named(&received, "init");
    let [init] = inits.as_slice() else { panic!("{inits:?}") };
    let parent =
        received.spans().find(|span| span.item.span_id == init.parent_span_id).expect("the span above init");
    assert!(!parent.is_of_platform() && parent.item.trace_id == init.trace_id, "{parent:?}");
    assert_eq!(received.platform_counts().spans, 1 + named(&received, "init runtime").len());
    assert_eq!(totals(&received).get("faas.invocations"), Some(&3));
    assert_eq!(totals(&received).get("faas.init_duration"), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_deliveries_are_counted_once() {
    for faults in [vec![], vec![Fault::DuplicatePosts], vec![Fault::ReverseRecords]] {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, Protocol::Grpc)
            .function(failing())
            .faults(faults.clone())
            .start()
            .await
            .expect("a sandbox");
        for payload in ["well", "error", "well"] {
            sandbox.invoke(payload.into()).await.expect("an invocation");
        }
        end(&sandbox).await;
        let totals = totals(&collector.received());
        let expected = [
            ("aws.lambda.billed_duration", 3),
            ("aws.lambda.memory_size", 3),
            ("aws.lambda.post_runtime_extensions_duration", 3),
            ("faas.coldstarts", 1),
            ("faas.errors", 1),
            ("faas.init_duration", 1),
            ("faas.invocations", 2),
            ("faas.invoke_duration", 3),
            ("faas.mem_usage", 3),
        ];
        for (name, total) in expected {
            assert_eq!(totals.get(name), Some(&total), "{name} under {faults:?}: {totals:?}");
        }
        assert!(!totals.contains_key("faas.timeouts"), "{totals:?}");
    }
}

/// Invokes a failing function this way; returns the telemetry that had arrived once its environment was reset.
async fn reset_by(payload: &str, timeout: Duration) -> (Received, Invocation) {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Grpc);
    let sandbox = Sandbox::builder()
        .extension(extension)
        .collector(&collector)
        .function(failing())
        .timeout(timeout)
        .memory_mb(256)
        .start()
        .await
        .expect("a sandbox");
    let invocation = sandbox.invoke(payload.into()).await.expect("an invocation");
    let reset = invocation.reset.as_ref().expect("a reset");
    assert!(reset.is_clean(), "{reset:?}\n{:#?}", sandbox.extension_output());
    (collector.received(), invocation)
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_invocation_is_reported_once() {
    let cases = [
        ("timeout", Duration::from_secs(3), "timeout", "timed out after 3."),
        ("exit", Duration::from_mins(5), "crash", "crashed after "),
        ("memory", Duration::from_mins(5), "out_of_memory", "memory used: 256 of 256 MB"),
    ];
    for (payload, timeout, outcome, words) in cases {
        let (received, invocation) = reset_by(payload, timeout).await;
        let ends = ends(&received);
        let [record] = ends.as_slice() else { panic!("{payload}: {ends:?}") };
        assert_eq!(record.attribute("aws.lambda.outcome").as_deref(), Some(outcome));
        assert_eq!(record.attribute("faas.invocation_id").as_deref(), Some(invocation.request_id.as_str()));
        assert_eq!(record.attribute("error.type"), invocation.error_type);
        assert_eq!((record.item.severity_number, record.item.severity_text.as_str()), (17, "error"));
        let body = record.body();
        assert!(body.contains(&invocation.request_id) && body.contains(words), "{body}");

        let spans = server_spans(&received);
        let [span] = spans.as_slice() else { panic!("{payload}: {spans:?}") };
        assert_eq!(span.item.status.as_ref().map(SpanStatus::code), Some(StatusCode::Error));
        assert_eq!(span.attribute("error.type"), invocation.error_type);
        assert_eq!((&record.item.trace_id, &record.item.span_id), (&span.item.trace_id, &span.item.span_id));
        let counter = if outcome == "timeout" { "faas.timeouts" } else { "faas.errors" };
        assert_eq!(totals(&received).get(counter), Some(&1), "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timeout_known_from_shutdown_is_reported() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = Sandbox::builder()
        .extension(extension(&collector, Protocol::Grpc))
        .collector(&collector)
        .function(failing())
        .timeout(Duration::from_secs(3))
        .faults([Fault::Drop("platform.runtimeDone".to_owned()), Fault::Drop("platform.report".to_owned())])
        .start()
        .await
        .expect("a sandbox");
    let invocation = sandbox.invoke("timeout".into()).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Timeout);
    let received = collector.received();
    let ends = ends(&received);
    let [record] = ends.as_slice() else { panic!("{ends:?}") };
    assert_eq!(record.attribute("faas.invocation_id").as_deref(), Some(invocation.request_id.as_str()));
    assert_eq!(record.attribute("aws.lambda.outcome").as_deref(), Some("timeout"));
    assert_eq!(totals(&received).get("faas.timeouts"), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_error_and_spindown_are_not_reported() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc).function(failing()).start().await.expect("a sandbox");
    sandbox.invoke("error".into()).await.expect("an invocation");
    end(&sandbox).await;
    let received = collector.received();
    assert!(ends(&received).is_empty());
    let spans = server_spans(&received);
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span.attribute("error.type").as_deref(), Some("Function.Broken"));
    assert_eq!(span.item.status.as_ref().map(SpanStatus::code), Some(StatusCode::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_events_none_reports_failures_only() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = asked_for("none", &collector)
        .timeout(Duration::from_secs(3))
        .function(failing())
        .start()
        .await
        .expect("a sandbox");
    sandbox.invoke("well".into()).await.expect("an invocation");
    sandbox.invoke("timeout".into()).await.expect("an invocation");
    let received = collector.received();
    let counts = received.platform_counts();
    assert_eq!((counts.spans, counts.metric_points, counts.logs), (0, 0, 1), "{counts:?}");
    assert_eq!(ends(&received).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_events_can_be_log_records() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = asked_for("logs", &collector).function(printing()).start().await.expect("a sandbox");
    let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
    end(&sandbox).await;
    let received = collector.received();
    let counts = received.platform_counts();
    assert_eq!((counts.spans, counts.metric_points), (0, 0), "{counts:?}");
    for (word, kind) in [("START", "start"), ("END", "runtimeDone"), ("REPORT", "report")] {
        let kind = format!("platform.{kind}");
        let of_kind =
            |log: &Item<'_, LogRecord>| log.attribute("aws.lambda.telemetry.type").as_ref() == Some(&kind);
        let logs: Vec<_> = received.logs().filter(of_kind).collect();
        let [log] = logs.as_slice() else { panic!("{kind}: {logs:?}") };
        assert!(
            log.body().starts_with(&format!("{word} RequestId: {}", invocation.request_id)),
            "{}",
            log.body()
        );
        assert_eq!(log.item.severity_text, "info");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_have_spans_and_counts() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc)
        .initialization(Initialization::ManagedInstances)
        .concurrency(4)
        .function(printing())
        .start()
        .await
        .expect("a sandbox");
    let invoke = async || sandbox.invoke(Value::Null).await.expect("an invocation");
    let _ = tokio::join!(invoke(), invoke(), invoke(), invoke());
    end(&sandbox).await;
    let received = collector.received();
    assert_eq!(server_spans(&received).len(), 4);
    assert_eq!(totals(&received).get("faas.invocations"), Some(&4));
    assert!(!totals(&received).contains_key("faas.coldstarts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_environment_reports_its_init() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc).function(printing()).start().await.expect("a sandbox");
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown");
    assert!(shutdown.is_clean(), "{shutdown:?}");
    let received = collector.received();
    let inits = named(&received, "init");
    let [init] = inits.as_slice() else { panic!("{inits:?}") };
    assert!(init.parent_span_id.is_empty());
    assert_eq!(totals(&received).get("faas.init_duration"), Some(&1));
}
