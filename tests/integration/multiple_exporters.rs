//! Several exporters at once: each gets everything that is for it, whatever becomes of the others.

use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Collector, Protocol, Refusal};
use lambda_sandbox::{Extension, Sandbox};
use serde_json::Value;

use support::outage::Outage;
use support::{assert_exact, end, invoke, unconfigured, working};

/// Sends to the first by gRPC and to the second by HTTP.
fn to_both(first: &Collector, second: &Collector) -> Extension {
    unconfigured()
        .env("ROTEL_EXPORTERS", "first:otlp,second:otlp")
        .env("ROTEL_EXPORTER_FIRST_ENDPOINT", first.url(Protocol::Grpc))
        .env("ROTEL_EXPORTER_SECOND_ENDPOINT", second.url(Protocol::Http))
        .env("ROTEL_EXPORTER_SECOND_PROTOCOL", "http")
        .env("ROTEL_EXPORTER_SECOND_CUSTOM_HEADERS", "Authorization=second-key")
}

async fn collectors() -> (Collector, Collector) {
    let second = Collector::builder().authorization("second-key").start();
    (Collector::start().await.expect("a collector"), second.await.expect("a collector"))
}

async fn started(extension: Extension) -> Sandbox {
    Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_to_every_exporter() {
    let (first, second) = collectors().await;
    let extension = to_both(&first, &second).env("ROTEL_FLUSH_TIMEOUT", "60s");
    let sandbox = started(extension).await;
    for _ in 0..3 {
        invoke(&sandbox, Value::Null).await;
    }
    end(&sandbox).await;
    assert_eq!(assert_exact(&sandbox, &first.received()), 30);
    assert_eq!(assert_exact(&sandbox, &second.received()), 30);
    assert_eq!(sandbox.extension_output(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_go_to_their_chosen_exporters() {
    let (first, second) = collectors().await;
    let extension = to_both(&first, &second)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_EXPORTERS_TRACES", "first")
        .env("ROTEL_EXPORTERS_LOGS", "first,second")
        .env("ROTEL_EXPORTERS_METRICS", "second");
    let sandbox = started(extension).await;
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    let (first, second) = (first.received(), second.received());
    // The platform's metrics go the way of all.
    let points = [&first, &second].map(|received| received.platform_counts().metric_points > 0);
    let counts = [&first, &second].map(|received| (received.counts().logs, received.counts().spans));
    assert_eq!((counts, points), ([(5, 5), (5, 0)], [false, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_exporter_does_not_hold_others() {
    for outage in [
        Outage::Refuses,
        Outage::Answers(Behaviour::Hang),
        Outage::Answers(Behaviour::Refuse(Refusal::status(503))),
        Outage::Answers(Behaviour::Refuse(Refusal::status(404))),
    ] {
        let (first, second) = collectors().await;
        outage.begin(&second).await;
        let extension = to_both(&first, &second).env("ROTEL_FLUSH_TIMEOUT", "3s");
        let sandbox = Sandbox::builder()
            .extension(extension)
            .function(working())
            .timeout(Duration::from_mins(5))
            .start()
            .await
            .expect("a sandbox");
        for _ in 0..4 {
            invoke(&sandbox, Value::Null).await;
            // The flush of the invocation is not over before the one that is well has all of it.
            assert_exact(&sandbox, &first.received());
        }
        let logged = sandbox.extension_output();
        assert!(!logged.is_empty(), "it was not logged");
        for line in logged {
            assert!(line.contains("exporter second: export"), "{line}");
        }
        end(&sandbox).await;
        assert_eq!(assert_exact(&sandbox, &first.received()), 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovered_exporter_alone_gets_missed_data() {
    let (first, second) = collectors().await;
    second.refuse_connections().await;
    let extension = to_both(&first, &second)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF", "10ms")
        .env("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "10ms")
        .env("ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME", "100ms");
    let sandbox = started(extension).await;
    for _ in 0..2 {
        invoke(&sandbox, Value::Null).await;
    }
    Outage::end(&second).await;
    end(&sandbox).await;
    assert_eq!(assert_exact(&sandbox, &first.received()), 20);
    assert_eq!(assert_exact(&sandbox, &second.received()), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_log_counts_one_line_per_flush() {
    let (first, second) = collectors().await;
    let extension =
        to_both(&first, &second).env("ROTEL_FLUSH_TIMEOUT", "60s").env("ROTEL_DEBUG_LOG", "traces,logs");
    let sandbox = started(extension).await;
    for _ in 0..5 {
        invoke(&sandbox, Value::Null).await;
    }
    let lines = sandbox.extension_output();
    assert!((1..=5).contains(&lines.len()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("received since the last flush: ")), "{lines:#?}");
    end(&sandbox).await;
}
