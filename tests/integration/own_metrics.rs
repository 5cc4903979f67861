//! The extension's metrics about itself: everything that passed on request, and losses always.

use std::collections::BTreeMap;

use lambda_sandbox::collector::{Behaviour, Collector, Protocol, Received, Refusal};
use lambda_sandbox::{Extension, Function, Sandbox, Signal, Transport};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use serde_json::Value;

use support::{end, extension, impatient, working};

/// A test over both protocols, side by side.
macro_rules! over_both {
    ($over:expr) => {{
        let over = $over;
        tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
    }};
}

fn with_metrics(collector: &Collector, protocol: Protocol) -> Extension {
    let extension = impatient(extension(collector, protocol)).env("ROTEL_FLUSH_TIMEOUT", "60s");
    extension.env("ROTEL_ENABLE_INTERNAL_TELEMETRY", "true")
}

async fn start(extension: Extension, function: Function) -> Sandbox {
    // What is made of the platform's events would count as well, in numbers that depend on when they are delivered.
    let extension = extension.env("ROTEL_LAMBDA_PLATFORM_EVENTS", "none");
    Sandbox::builder().extension(extension).function(function).start().await.expect("a sandbox")
}

/// The sum of the points of each of our own metrics, by name, signal and reason; of a histogram, how many it counted.
fn reported(received: &Received) -> BTreeMap<String, i64> {
    let mut reported = BTreeMap::new();
    for metric in received.metrics() {
        let name = &metric.item.name;
        let Some(short) = name.strip_prefix("rotel.extension.") else { continue };
        let points = match metric.item.data.as_ref().expect("data") {
            Data::Sum(sum) => &sum.data_points,
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Histogram(histogram) => {
                let count: u64 = histogram.data_points.iter().map(|point| point.count).sum();
                *reported.entry(short.to_owned()).or_default() += i64::try_from(count).expect("few");
                continue;
            }
            other => panic!("{name} is {other:?}"),
        };
        for point in points {
            let of: Vec<String> = point
                .attributes
                .iter()
                .filter_map(|attribute| attribute.value.as_ref()?.value.as_ref())
                .map(|value| format!("{value:?}").split('"').nth(1).expect("text").to_owned())
                .collect();
            let Some(Number::AsInt(items)) = point.value else { panic!("{name} is no count") };
            *reported.entry(format!("{short} {}", of.join(" "))).or_default() += items;
        }
    }
    reported
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_received_sent_and_dropped() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.send_logs(Transport::Grpc, 4).await.expect("the receiver takes logs");
            context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
            Ok(Value::Null)
        });
        let sandbox = start(with_metrics(&collector, protocol), function).await;
        collector.behave_for(Signal::Traces, Behaviour::Refuse(Refusal::status(404)));
        for _ in 0..3 {
            sandbox.invoke(Value::Null).await.expect("an invocation");
        }
        end(&sandbox).await;
        let reported = reported(&collector.received());
        let of = |name: &str| reported.get(name).copied();
        // A line of ours about the refusal comes back as a record.
        let lines = i64::try_from(sandbox.extension_output().len()).expect("few");
        assert_eq!(of("received traces"), Some(15), "{reported:#?}");
        assert_eq!(of("received logs"), Some(12 + lines), "{reported:#?}");
        assert_eq!(of("sent logs"), Some(12 + lines), "{reported:#?}");
        assert_eq!(of("dropped traces refused"), Some(15), "{reported:#?}");
        assert_eq!(of("sent traces"), None, "{reported:#?}");
        for signal in Signal::ALL {
            assert_eq!(of(&format!("kept {}", name(signal))), Some(0), "{reported:#?}");
            assert_eq!(of(&format!("breaker.open {}", name(signal))), Some(0), "{reported:#?}");
        }
        assert_eq!(of("flush.duration"), Some(3), "{reported:#?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_kept_data_and_open_breaker() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = start(with_metrics(&collector, protocol), working()).await;
        sandbox.invoke(Value::Null).await.expect("an invocation");
        collector.refuse_connections().await;
        for _ in 0..3 {
            sandbox.invoke(Value::Null).await.expect("an invocation");
        }
        collector.come_back().await.expect("its ports are free");
        end(&sandbox).await;
        let reported = reported(&collector.received());
        assert_eq!(reported.get("kept traces"), Some(&15), "{reported:#?}");
        assert!(reported.get("kept logs").is_some_and(|kept| *kept >= 15), "{reported:#?}");
        assert_eq!(reported.get("breaker.open traces"), Some(&1), "{reported:#?}");
        assert_eq!(reported.get("breaker.open metrics"), Some(&0), "{reported:#?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_rejected_and_too_large() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.log("x".repeat(64 * 1024));
            context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
            Ok(Value::Null)
        });
        let sandbox = start(with_metrics(&collector, protocol), function).await;
        collector.behave_for(Signal::Traces, Behaviour::PartialSuccess { rejected: 2 });
        collector.behave_for(Signal::Logs, Behaviour::Limit { bytes: 32 * 1024 });
        for _ in 0..3 {
            sandbox.invoke(Value::Null).await.expect("an invocation");
        }
        end(&sandbox).await;
        let received = collector.received();
        let of_traces = |request: &&lambda_sandbox::collector::Request| request.signal == Signal::Traces;
        let with_spans = |request: &lambda_sandbox::collector::Request| {
            request.payload.as_ref().is_some_and(|payload| payload.items() > 0)
        };
        let requests = received.requests().filter(of_traces).filter(|request| with_spans(request)).count();
        let rejected = i64::try_from(2 * requests).expect("few");
        let reported = reported(&received);
        assert_eq!(reported.get("dropped traces rejected"), Some(&rejected), "{reported:#?}");
        assert_eq!(reported.get("sent traces"), Some(&(15 - rejected)), "{reported:#?}");
        assert_eq!(reported.get("dropped logs too_large"), Some(&3), "{reported:#?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn buffer_drops_are_always_reported() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let extension = impatient(extension(&collector, protocol)).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = start(extension.env("ROTEL_BUFFER_MAX_BYTES", "10000"), working()).await;
        sandbox.invoke(Value::Null).await.expect("an invocation");
        collector.refuse_connections().await;
        for _ in 0..20 {
            sandbox.invoke(Value::Null).await.expect("an invocation");
        }
        collector.come_back().await.expect("its ports are free");
        for _ in 0..20 {
            sandbox.invoke(serde_json::json!(50)).await.expect("an invocation");
        }
        end(&sandbox).await;
        let received = collector.received();
        let lost = sandbox.ledger().compare(&received).missing;
        let lost_of = |signal| lost.iter().filter(|entry| entry.signal == signal).count();
        assert!(lost_of(Signal::Logs) > 0 && lost_of(Signal::Traces) > 0, "{lost:?}");
        let reported = reported(&received);
        let dropped = |signal| reported.get(&format!("dropped {} buffer_full", name(signal))).copied();
        assert_eq!(dropped(Signal::Traces), i64::try_from(lost_of(Signal::Traces)).ok(), "{reported:#?}");
        assert!(dropped(Signal::Logs) >= i64::try_from(lost_of(Signal::Logs)).ok(), "{reported:#?}");
        assert_eq!(reported.len(), 2, "nobody asked for more: {reported:#?}");
        let records: Vec<_> = received
            .logs()
            .filter(|log| log.body().contains("telemetry items; see the attributes"))
            .collect();
        assert!(!records.is_empty());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_extension_sends_no_metrics_by_default() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = start(extension(&collector, Protocol::Grpc), working()).await;
    for _ in 0..3 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
    }
    end(&sandbox).await;
    assert_eq!(reported(&collector.received()), BTreeMap::new());
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "logs",
        Signal::Metrics => "metrics",
        Signal::Traces => "traces",
    }
}
