//! Tests of functions, and of comparing emitted items with those that arrive.

use std::sync::{Arc, Mutex};

use lambda_sandbox::collector::{Counts, Protocol};
use lambda_sandbox::{
    Collector, Extension, Function, NextCall, Payload, Sandbox, ShutdownReason, Signal, Status, Transport,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::json;

use crate::player::{Listener, NAME, PATIENCE, Player};

/// An extension whose receiver is the collector itself: items that functions send have arrived once acknowledged.
fn short_circuit(collector: &Collector) -> Extension {
    Extension::binary(env!("CARGO_BIN_EXE_stub-extension"))
        .env("ROTEL_OTLP_GRPC_ENDPOINT", collector.address(Protocol::Grpc).to_string())
        .env("ROTEL_OTLP_HTTP_ENDPOINT", collector.address(Protocol::Http).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_items_are_in_ledger_and_collector() {
    let collector = Collector::start().await.unwrap();
    let transports = [Transport::Grpc, Transport::GrpcGzip, Transport::HttpProtobuf, Transport::HttpJson];
    let function = Function::builtin(move |context| async move {
        for transport in transports {
            context.send_spans(transport, 3).await.unwrap();
            context.send_points(transport, 2).await.unwrap();
            context.send_logs(transport, 1).await.unwrap();
        }
        Ok(json!(null))
    });
    let sandbox = Sandbox::builder()
        .extension(short_circuit(&collector))
        .function(function)
        .collector(&collector)
        .start()
        .await
        .unwrap();
    for turn in 1..=2 {
        let invocation = sandbox.invoke(json!({})).await.unwrap();
        assert_eq!(invocation.status, Status::Success);
        assert_eq!(sandbox.ledger().of(&invocation.request_id).len(), 24);
        let comparison = sandbox.ledger().compare(&collector.received());
        assert!(comparison.is_exact(), "{comparison:?}");
        assert_eq!(comparison.once, turn * 24);
    }
    assert_eq!(collector.counts(), Counts { logs: 8, metric_points: 16, spans: 24 });
    sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_repeated_items_are_named() {
    let collector = Collector::start().await.unwrap();
    let function = Function::builtin(|context| async move {
        context.mark(Signal::Logs);
        context.exporter().send(Transport::Grpc, &twice(&context.mark(Signal::Traces))).await.unwrap();
        Ok(json!(null))
    });
    let sandbox =
        Sandbox::builder().extension(short_circuit(&collector)).function(function).start().await.unwrap();
    sandbox.invoke(json!({})).await.unwrap();
    let comparison = sandbox.ledger().compare(&collector.received());
    assert_eq!(comparison.once, 0);
    assert_eq!(comparison.missing.iter().map(|entry| entry.signal).collect::<Vec<_>>(), [Signal::Logs]);
    assert_eq!(comparison.repeated.iter().map(|(_, times)| *times).collect::<Vec<_>>(), [2]);
}

/// Two spans with the same mark.
fn twice(mark: &str) -> Payload {
    let json = json!({"resourceSpans": [{"scopeSpans": [{"spans": vec![json!({
        "traceId": "0123456789abcdef0123456789abcdef", "spanId": "0123456789abcdef", "name": "twice",
        "kind": 1, "startTimeUnixNano": "1", "endTimeUnixNano": "2",
        "attributes": [{"key": "mark", "value": {"stringValue": mark}}],
    }); 2]}]}]});
    let request: ExportTraceServiceRequest = serde_json::from_value(json).unwrap();
    Payload::Traces(request)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_emits_a_little_of_everything() {
    let collector = Collector::start().await.unwrap();
    let sandbox = Sandbox::builder()
        .extension(short_circuit(&collector))
        .function(Function::sample(Transport::Grpc))
        .start()
        .await
        .unwrap();
    assert_eq!(sandbox.invoke(json!({})).await.unwrap().status, Status::Success);
    let failed = sandbox.invoke(json!({"fail": true})).await.unwrap();
    assert_eq!(failed.error_type.as_deref(), Some("DeliveryError"));
    assert_eq!(collector.counts(), Counts { logs: 0, metric_points: 2, spans: 6 });
    assert_eq!(sandbox.function_records(), 9);
    let received = collector.received();
    let invocation = received.spans().find(|span| span.attribute("faas.invocation_id").is_some()).unwrap();
    assert_eq!(invocation.attribute("faas.coldstart").as_deref(), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn added_time_and_next_calls_are_measured() {
    let seen: Arc<Mutex<Vec<NextCall>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let collector = Collector::start().await.unwrap();
    let sandbox = Sandbox::builder()
        .extension(Extension::external(NAME))
        .collector(&collector)
        .on_next(move |call| kept.lock().unwrap().push(call.clone()))
        .open()
        .await
        .unwrap();
    let sandbox = Arc::new(sandbox);
    let listener = Listener::start(sandbox.ip()).await;
    let shared = Arc::clone(&sandbox);
    let init = tokio::spawn(async move { shared.init().await.unwrap() });
    sandbox.wait_for_init(PATIENCE).await.unwrap();
    let mut player = Player::new(&sandbox);
    player.register(&["INVOKE", "SHUTDOWN"]).await;
    player.subscribe(&["platform"]).await;
    // An extension that sends telemetry after the platform has reported the end.
    let exporter = lambda_sandbox::Exporter::new(collector.address(Protocol::Grpc).to_string(), "");
    let playing = tokio::spawn(async move {
        let (_, event) = player.next().await;
        listener
            .until(|records| {
                records.iter().any(|record| {
                    record["type"] == "platform.runtimeDone"
                        && record["record"]["requestId"] == event["requestId"]
                })
            })
            .await;
        exporter.send(Transport::Grpc, &twice("any")).await.unwrap();
        player.live().await;
    });
    init.await.unwrap();
    let invocation = sandbox.invoke(json!({})).await.unwrap();
    let after_delivery = invocation.added_after_delivery.unwrap();
    assert!(after_delivery <= invocation.added, "{invocation:?}");
    assert!(invocation.function + invocation.added <= invocation.total);
    assert_eq!(invocation.collector_at_next.unwrap().counts().spans, 2);
    sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    playing.await.unwrap();
    let spans: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|call| call.collector.as_ref().map(|received| received.counts().spans))
        .collect();
    assert_eq!(spans, [Some(0), Some(2)]);
}
